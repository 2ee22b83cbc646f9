"""Experiments: many architectures, trained alike and compared by accuracy and seconds.

Each experiment is a module with one function of a `Setting`; the scripts in benchmarks/
call them.
"""
