"""The program that one party runs, in whatever Python its SPU build lives in.

It is started by directory (`python .../party`), needs only the standard library and
that build's own packages, and keeps to Python 3.8: isolated runtimes run it.
"""
