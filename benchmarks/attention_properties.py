"""What a stand-in for softmax keeps of it: the columns of MPCViT's Table 2."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from mpcprof.nn.attention import ATTENTIONS
from mpcprof.workloads.reference import ATTENTIONS64

PROPERTIES: Final = ("monotone", "non-negative", "normalised")
PRINTED: Final = {  # as the paper prints them
    **dict.fromkeys(("softmax", "linformer", "relu_softmax"), (True, True, True)),
    **dict.fromkeys(("relu_unscaled", "relu6", "sparsemax"), (True, True, False)),
    **dict.fromkeys(("xnorm", "scale"), (True, False, False)),
    **{"square": (False, True, False), "2quad": (False, True, True)},
}


def weights64(name: str, scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return what a query of width 1 gives each of 8 keys, whose scores these are."""
    pool = np.kron(np.eye(2), np.full((1, 4), 0.25))  # of Linformer: means of four
    own = [pool for _ in ATTENTIONS[name].weight_shapes(8)]
    query, keys = np.ones((1, 1, 1)), scores[None, :, None]
    attended = ATTENTIONS64[name](query, keys, np.eye(8)[None], *own)
    return np.asarray(attended[0, 0])


def properties(name: str) -> tuple[bool, ...]:
    """Return whether weights rise with their score, are none below 0, and sum to 1.

    Of rows with a score above 0.5; epsilons beside a sum are let pass.
    """
    random, found = np.random.default_rng(0), []
    for _ in range(50):
        others = random.normal(0, 3, 7)
        others[0] = abs(others[0]) + 0.5
        swept = (np.append(x, others) for x in np.linspace(-6, 6, 25))
        rows = np.array([weights64(name, scores) for scores in swept])
        is_one = np.abs(rows.sum(axis=1) - 1) < 1e-2
        rises = np.diff(rows[:, 0]) >= -1e-12
        found.append([np.all(each) for each in (rises, rows >= 0, is_one)])
    return tuple(bool(each) for each in np.all(found, axis=0))
