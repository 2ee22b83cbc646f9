import math

import pytest

from mpcprof.dims import Dims
from mpcprof.errors import ProfileError
from mpcprof.network import LOOPBACK, NETWORKS
from mpcprof.profile.record import RecordKey
from tests.committed import committed_profile
from tests.factories import make_operation, make_record

DURATIONS = (
    *("compute_s", "hidden_s", "compile_s", "first_call_s"),
    *("setup_s", "wire_bytes", "hops", "max_abs_error"),
)
CONSTANTS = ("loopback_s_per_hop", "loopback_s_per_byte")


def test_latency_is_the_median_of_the_repeats_and_of_nothing_else():
    record = make_record(latencies_s=(3.0, 1.0, 2.0), warmups_s=(99.0,))

    assert record.latency_s == 2.0


def test_a_number_without_rank_is_that_of_rank_0():
    record = make_record(
        bytes_sent_by_rank=(10, 30),
        bytes_received_by_rank=(30, 10),
        send_actions_by_rank=(2, 3),
    )

    assert (record.bytes_sent, record.bytes_received) == (10, 30)
    assert record.send_actions == 2
    assert record.total_bytes_sent == 40


def test_the_key_is_workload_dims_network_and_mode():
    record = make_record()

    assert record.key == RecordKey(
        workload="exp",
        dims=Dims(n_heads=4, n_tokens=65),
        network=NETWORKS["wan"],
        mode="emulated",
    )
    assert str(record.key) == "exp [n_heads=4 n_tokens=65] on 44MBps,40ms, emulated"


@pytest.mark.parametrize("name", DURATIONS)
@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf, True, "1", None])
def test_a_quantity_is_finite_and_not_negative(name, value):
    with pytest.raises(ProfileError, match=f"record of exp: {name}="):
        make_record(**{name: value})


@pytest.mark.parametrize("name", CONSTANTS)
@pytest.mark.parametrize("value", [math.nan, math.inf, True, "1", None])
def test_a_constant_of_the_host_is_finite_but_may_be_negative(name, value):
    make_record(**{name: -1e-4})

    with pytest.raises(ProfileError, match=f"record of exp: {name}="):
        make_record(**{name: value})


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"latencies_s": ()}, r"latencies_s=\(\): expected at least one"),
        ({"latencies_s": (0.0,)}, "each above 0"),
        ({"latencies_s": (1.0, -1.0)}, r"latencies_s\[1\]=-1.0"),
        ({"latencies_s": [1.0]}, "expected a tuple"),
        ({"setup_bytes": -1}, "setup_bytes=-1: expected a whole number"),
        ({"setup_bytes": 1.5}, "setup_bytes=1.5"),
        ({"seed": 2**63}, "seed="),
        ({"bytes_sent_by_rank": (1, -2)}, r"bytes_sent_by_rank\[1\]=-2"),
        ({"bytes_sent_by_rank": (1, 2, 3)}, "expected the same, 2 or more"),
        ({"n_parties": 1}, "expected the same, 2 or more"),
        ({"workload": ""}, "expected the name of a workload"),
        ({"kind": "layer"}, "kind='layer': expected one of primitive, block"),
        ({"mode": "guessed"}, "expected one of emulated, priced"),
        ({"emulation": "magic"}, "expected one of relay, tun, netem, hosts, none"),
        ({"emulation": "none"}, "expected the back-end that emulated it"),
        ({"hops_basis": "known"}, "expected one of counted, measured"),
        ({"versions": "spu"}, "expected JSON text"),
        ({"versions": "[]"}, "expected JSON text"),
        ({"created_at": "today"}, "expected ISO 8601 in UTC"),
        ({"created_at": "2026-01-31T12:00:00"}, "expected ISO 8601 in UTC"),
        ({"created_at": "2026-01-31T12:00:00+01:00"}, "expected ISO 8601 in UTC"),
    ],
)
def test_a_value_outside_its_domain_is_refused_by_name(overrides, message):
    with pytest.raises(ProfileError, match=message):
        make_record(**overrides)


def test_nothing_needs_to_emulate_the_loopback():
    record = make_record(network=LOOPBACK, emulation="none")

    assert record.network.is_loopback


def test_an_operation_of_an_old_build_has_no_bytes():
    operation = make_operation(
        bytes_sent=None, bytes_received=None, send_actions=None, recv_actions=None
    )

    assert operation.bytes_sent is None


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"level": "link"}, "level='link': expected one of pphlo, hal, mpc"),
        ({"count": -1}, "count=-1"),
        ({"duration_s": math.nan}, "duration_s=nan"),
        ({"send_actions": -1}, "send_actions=-1"),
    ],
)
def test_an_operation_is_checked_too(overrides, message):
    with pytest.raises(ProfileError, match=message):
        make_operation(**overrides)


def test_a_profile_is_a_frame_and_a_table_in_a_notebook():
    profile = committed_profile()

    frame, shown = profile.to_frame(), profile._repr_html_()

    assert len(frame) == len(profile)
    assert [*frame.columns[:2], *frame.columns[12:14]] == [
        *("workload", "kind", "latency_s", "latencies_s")
    ]
    exps = frame[frame.workload == "exp"]
    assert exps.latency_s.tolist() == [
        record.latency_s for record in profile if record.workload == "exp"
    ]
    assert str(profile.deployment) in shown
    assert shown.count("<tr>") == 1 + frame.workload.nunique()
