"""`python -m mpcprof` is the command line."""

from mpcprof.cli import main

main(prog_name="mpcprof")
