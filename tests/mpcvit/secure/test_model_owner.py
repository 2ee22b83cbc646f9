"""The model owner folds the weights in a process of its own, for its party alone."""

import stat
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from mpcprof.errors import EngineError, UsageError
from mpcprof.nn.architecture import uniform_architecture
from mpcprof.nn.folding import fold_weights
from mpcprof.nn.plan import rewrites_only
from mpcprof.nn.preset import MODELS
from mpcvit.checkpoint import Checkpoint, write_checkpoint
from mpcvit.data.normalization import Normalization
from mpcvit.models.vit import VisionTransformer
from mpcvit.secure.model_owner import check_made_for, checkpoint_digest, fold_apart
from mpcvit.secure.parties import deployed_weights

ARCHITECTURE = uniform_architecture(
    replace(MODELS["digits"], n_layers=1), attention="scale"
)
PLAN = rewrites_only(ARCHITECTURE)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    path = tmp_path / "model.safetensors"
    write_checkpoint(
        path,
        Checkpoint(
            architecture=ARCHITECTURE,
            weights=VisionTransformer(ARCHITECTURE).weights(),
            normalization=Normalization(mean=(0.5,), deviation=(0.25,)),
            dataset="digits",
            class_names=tuple("0123456789"),
        ),
    )
    return path


def test_the_model_owners_own_process_folds_the_weights(checkpoint: Path) -> None:
    plan = replace(PLAN, checkpoint=checkpoint_digest(checkpoint))

    with deployed_weights(checkpoint, ARCHITECTURE, plan, lambda step: None) as owned:
        folder = owned.path.parent
        folded = load_file(owned.path)
        is_private = stat.S_IMODE(folder.stat().st_mode) == 0o700

    assert is_private
    assert not folder.exists()
    assert owned.rank == 1
    expected = fold_weights(ARCHITECTURE, plan, load_file(checkpoint))
    assert owned.entries == tuple(expected)
    assert owned.shapes == tuple(weight.shape for weight in expected.values())
    for name, weight in expected.items():
        np.testing.assert_array_equal(folded[name], weight.astype(np.float32))


def test_without_a_plan_the_party_reads_the_checkpoint(checkpoint: Path) -> None:
    with deployed_weights(checkpoint, ARCHITECTURE, None, lambda step: None) as owned:
        assert owned.path == checkpoint.resolve()


def test_what_goes_wrong_in_the_model_owners_process_is_said_here(
    checkpoint: Path, tmp_path: Path
) -> None:
    other = replace(PLAN, checkpoint="0" * 64)

    with pytest.raises(UsageError, match=r"another checkpoint than .*: its weights"):
        fold_apart(checkpoint, other, tmp_path)
    with pytest.raises(EngineError, match=r"cannot write '/absent': .* set TMPDIR"):
        fold_apart(checkpoint, PLAN, Path("/absent"))
    with pytest.raises(UsageError, match=r"cannot read checkpoint .*nowhere"):
        check_made_for(other, tmp_path / "nowhere")
