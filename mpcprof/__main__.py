"""The command line: `python -m mpcprof`, and what the command `mpcprof` calls."""

from mpcprof.isolation import shield

shield()  # from the user's folders, also where click would import from them
from mpcprof.cli import main  # noqa: E402 - after the line above

if __name__ == "__main__":
    main(prog_name="mpcprof")
