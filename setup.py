"""Build script for tools that ask for one; pyproject.toml states everything."""

from setuptools import setup

setup()
