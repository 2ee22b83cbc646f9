"""What local truncation saves, against blocks that were measured with it."""

from dataclasses import replace

import pytest

from mpcprof.deployment import make_deployment
from mpcprof.dims import Dims
from mpcprof.network import NETWORKS
from mpcprof.nn.catalogue import trace_block
from mpcprof.spu_options import MEASURED_AT, get_option
from mpcvit.tune.truncation import (
    local_deployments,
    price_locally,
    without_local_truncation,
)
from tests.committed import committed_model

LOCAL = make_deployment("semi2k", options=["trunc_allow_msb_error=true"])


@pytest.mark.parametrize(
    "block", ["exp", "reciprocal", "rsqrt", "matmul", "layernorm", "attn.softmax"]
)
@pytest.mark.parametrize("bits", [18, 14])
def test_a_price_without_truncations_is_what_was_measured(block, bits):
    ring = "" if bits == 18 else f"{bits} fraction bits, "
    measured = get_option(f"{ring}trunc_allow_msb_error=true").effects[block]
    steps = trace_block(block, MEASURED_AT[block])
    usual = committed_model().predict(steps, NETWORKS["wan"])

    price = price_locally(usual, steps, NETWORKS["wan"], fraction_bits=bits)

    assert price.notes == usual.notes
    assert price.hops == measured.hops
    assert price.bytes_sent == pytest.approx(measured.bytes_sent, rel=1e-3)
    assert price.latency_s < usual.latency_s


@pytest.mark.parametrize(("bits", "n_bytes"), [(18, 11464960), (14, 11398400)])
def test_a_gelu_is_priced_as_parties_sent_it(bits, n_bytes):
    steps = trace_block("gelu_exact", Dims(n_tokens=65, hidden=256))
    usual = committed_model().predict(steps, NETWORKS["wan"])

    price = price_locally(usual, steps, NETWORKS["wan"], fraction_bits=bits)

    assert (price.hops, price.bytes_sent) == (50, pytest.approx(n_bytes))


def test_bits_that_were_not_measured_are_noted():
    usual = committed_model().predict((), NETWORKS["wan"])

    price = price_locally(usual, (), NETWORKS["wan"], fraction_bits=16)

    assert "16 fraction bits are approximate" in price.notes[-1]


def test_local_truncation_is_tried_with_fewer_and_fewer_bits_if_it_may_fail():
    plain = make_deployment("semi2k")

    tried = [*local_deployments(plain, 1e-3)]

    assert [one.fraction_bits for one in tried] == [18, 16, 14, 12]
    assert tried[0] == LOCAL
    assert [*local_deployments(plain, 0.0)] == []
    assert [*local_deployments(LOCAL, 1e-3)] == []
    assert [*local_deployments(make_deployment("aby3"), 1e-3)] == []
    assert without_local_truncation(tried[2]) == replace(plain, fraction_bits=14)
