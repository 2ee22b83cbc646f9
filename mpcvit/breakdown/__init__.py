"""Where the seconds of a Vision Transformer go: Figures 1, 3 and 8 of the paper.

Numbers are made here, from profiles or by real parties; `mpcprof.figures` draws them,
so that matplotlib and the colours of operations keep one home.
"""

from mpcvit.breakdown.costs import Cost, Source, read_source
from mpcvit.breakdown.output import Made
from mpcvit.breakdown.run import Measuring, Request, make_figure
from mpcvit.breakdown.selection import choose_profiles, errors_path
from mpcvit.breakdown.sentences import Sentence
from mpcvit.breakdown.subjects import Setting

__all__ = [
    "Cost",
    "Made",
    "Measuring",
    "Request",
    "Sentence",
    "Setting",
    "Source",
    "choose_profiles",
    "errors_path",
    "make_figure",
    "read_source",
]
