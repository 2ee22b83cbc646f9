"""Inputs that parties hold themselves, and a result that one of them learns."""

import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from mpcprof.deployment import make_deployment
from mpcprof.engine.calls import Owned
from mpcprof.engine.emulation.relay import RelayEmulation
from mpcprof.engine.session import Session
from mpcprof.errors import EngineError

RNG = np.random.default_rng(0)
X = RNG.uniform(-1, 1, (3, 4)).astype(np.float32)
WEIGHT = RNG.uniform(-1, 1, (4, 2)).astype(np.float32)
BIAS = RNG.uniform(-1, 1, (2,)).astype(np.float32)
SHARE_BYTES = 8  # of an entry, in a ring of 64 bits


def affine(x, weight, bias):
    return x @ weight + bias


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "x.npy"
    np.save(path, X)
    return Owned(rank=0, path=path, shapes=(X.shape,))


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "weights.safetensors"
    save_file({"other": X, "bias": BIAS, "weight": WEIGHT}, path, {"kind": "test"})
    return Owned(
        rank=1, path=path, shapes=(WEIGHT.shape, BIAS.shape), entries=("weight", "bias")
    )


@pytest.mark.spu
@pytest.mark.parametrize(("protocol", "receiver"), [("semi2k", 0), ("aby3", 2)])
def test_parties_compute_on_what_each_read_and_one_learns_the_result(
    protocol, receiver, image, weights, request
):
    session = request.getfixturevalue(protocol)
    zeros = [np.zeros_like(x) for x in (X, WEIGHT, BIAS)]  # the controller's

    lowered = session.lower("held", affine, zeros)
    session.load("held", lowered)
    sharing = session.hold(lowered.input_names[1:], weights)
    session.hold(lowered.input_names[:1], image)
    session.run("held")
    revealed, transfer = session.reveal("held", receiver)

    assert np.allclose(revealed, affine(X, WEIGHT, BIAS), atol=1e-3)
    least = SHARE_BYTES * (WEIGHT.size + BIAS.size)
    assert sharing.total_bytes_sent >= least * (2 if protocol == "aby3" else 1)
    assert transfer.total_bytes_sent >= SHARE_BYTES * revealed.size


@pytest.mark.spu
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"entries": ("weight", "missing")}, "no entry missing of F64"),
        ({"shapes": ((4, 2), (3,))}, r"has \[2\]: expected \[3\]"),
    ],
)
def test_a_file_that_is_not_what_was_said_is_an_error_of_one_line(
    change, reason, weights
):
    told = {
        "rank": 1,
        "path": weights.path,
        "shapes": weights.shapes,
        "entries": weights.entries,
    }
    wrong = Owned(**{**told, **change})

    with (
        Session(make_deployment("semi2k"), RelayEmulation()) as session,
        pytest.raises(EngineError, match=rf"^party 1: ValueError: .*{reason}") as seen,
    ):
        session.hold(["a", "b"], wrong)

    assert "\n" not in str(seen.value)


class Recorded(Session):
    """Notes what is asked of each party instead of asking."""

    def __init__(self, deployment):
        super().__init__(deployment, RelayEmulation())
        self.headers = []

    def _ask(self, headers, blobs=None):
        self.headers = list(headers)
        answer = {"begin_s": 0.0, "end_s": 1.0, "bytes_sent": 3}
        return [(answer, [])] * len(self.headers)


def test_only_the_owner_is_told_where_its_file_is(image):
    session = Recorded(make_deployment("aby3"))

    transfer = session.hold(["x"], image)

    named = ["x.npy" in json.dumps(header) for header in session.headers]
    assert named == [True, False, False]
    assert transfer.total_bytes_sent == 9
