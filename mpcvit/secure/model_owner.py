"""The model owner's own process: from a checkpoint to the weights that a plan deploys.

The command line never sees a weight: it starts this module, which folds them and writes
them to a private folder that only the model owner's party reads.
"""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from mpcprof.errors import FileError, UsageError
from mpcprof.nn.folding import fold_weights
from mpcprof.nn.plan import Plan
from mpcvit.checkpoint_header import header_of, open_checkpoint
from mpcvit.secure.owner import answer_request, ask_owner
from mpcvit.tensor_file import pack_tensors


def fold_apart(checkpoint: Path, plan: Plan, folder: Path) -> Path:
    """Run `fold_checkpoint` in a process of its own.

    Raises:
        UsageError: If the plan is for another checkpoint, or that cannot be read.
        EngineError: If the weights cannot be written, or the process fails.
    """
    request = {
        "checkpoint": str(checkpoint.resolve()),
        "plan": plan.to_json(),
        "folder": str(folder),
    }
    return Path(ask_owner(__name__, "model owner", request))


def fold_checkpoint(checkpoint: Path, plan: Plan, folder: Path) -> Path:
    """Write the weights as the plan deploys them, and return the file.

    Raises:
        UsageError: If the plan is for another checkpoint, or that cannot be read.
        FileError: If the weights cannot be written.
    """
    check_made_for(plan, checkpoint)
    with open_checkpoint(checkpoint, "numpy") as file:
        architecture = header_of(file).transformer
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    plan.check_fits(architecture)
    folded = fold_weights(architecture, plan, weights)
    narrow = {name: weight.astype(np.float32) for name, weight in folded.items()}
    path = folder / "folded.safetensors"
    try:
        path.write_bytes(pack_tensors(narrow))
    except OSError as error:
        raise FileError(
            f"cannot write {str(folder)!r}: {error.strerror}; make room, or set TMPDIR "
            "to another folder"
        ) from None
    return path


def check_made_for(plan: Plan, checkpoint: Path) -> None:
    """Refuse a plan that was made for another checkpoint.

    Raises:
        UsageError: If it was, or the checkpoint cannot be read.
    """
    if plan.checkpoint not in ("", checkpoint_digest(checkpoint)):
        raise UsageError(
            f"the plan is for another checkpoint than {str(checkpoint)!r}: its weights "
            "differ; make a plan for this one with mpcvit tune"
        )


def checkpoint_digest(checkpoint: Path) -> str:
    """Return the SHA-256 of the file, hexadecimal, as `Plan.checkpoint` has it.

    Raises:
        UsageError: If it cannot be read.
    """
    try:
        return hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    except OSError as error:
        raise UsageError(
            f"cannot read checkpoint {str(checkpoint)!r}: {error.strerror}; expected a "
            "file that mpcvit train wrote"
        ) from None


def _answer(request: dict[str, Any]) -> Path:  # Any: JSON
    return fold_checkpoint(
        Path(request["checkpoint"]),
        Plan.from_json(request["plan"]),
        Path(request["folder"]),
    )


if __name__ == "__main__":
    answer_request(_answer)
