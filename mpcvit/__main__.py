"""`python -m mpcvit` is the command line."""

from mpcvit.cli import main

main(prog_name="mpcvit")
