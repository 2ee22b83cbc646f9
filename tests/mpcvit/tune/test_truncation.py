"""What local truncation saves, against blocks that were measured with it."""

from dataclasses import replace

import pytest

from mpcprof.deployment import make_deployment
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
def test_a_price_without_truncations_is_what_was_measured(block):
    measured = get_option("trunc_allow_msb_error=true").effects[block]
    steps = trace_block(block, MEASURED_AT[block])
    usual = committed_model().predict(steps, NETWORKS["wan"])

    price = price_locally(usual, steps, NETWORKS["wan"])

    assert price.hops == measured.hops
    assert price.bytes_sent == pytest.approx(measured.bytes_sent, rel=1e-3)
    assert price.latency_s < usual.latency_s


def test_local_truncation_is_tried_with_fewer_and_fewer_bits_if_it_may_fail():
    plain = make_deployment("semi2k")

    tried = [*local_deployments(plain, 1e-3)]

    assert [one.fraction_bits for one in tried] == [18, 16, 14, 12]
    assert tried[0] == LOCAL
    assert [*local_deployments(plain, 0.0)] == []
    assert [*local_deployments(LOCAL, 1e-3)] == []
    assert [*local_deployments(make_deployment("aby3"), 1e-3)] == []
    assert without_local_truncation(tried[2]) == replace(plain, fraction_bits=14)
