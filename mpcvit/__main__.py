"""`python -m mpcvit` is the command line."""

from mpcprof.isolation import shield

shield()  # `-m` puts the current folder first, also for what click imports
from mpcvit.cli import main  # noqa: E402 - after the line above

main(prog_name="mpcvit")
