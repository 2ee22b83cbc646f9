"""Traces: what their viewers accept, and seconds, bytes and hops that add up."""

import itertools
import json

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from mpcprof.cli import main
from mpcprof.engine.calls import Call
from mpcprof.engine.emulation.clock import CarriedMessage, Counters, Path
from mpcprof.engine.traced import call_timeline, check_traceable
from mpcprof.errors import UsageError
from mpcprof.network import LOOPBACK, NETWORKS, Network
from mpcprof.nn.architecture import uniform_architecture
from mpcprof.nn.catalogue import trace_model
from mpcprof.nn.preset import MODELS
from mpcprof.trace.files import (
    TRACE_UNITS,
    check_trace,
    chrome_document,
    speedscope_document,
)
from mpcprof.trace.predicted import predict_timeline
from mpcprof.trace.timeline import STATES
from mpcprof.workloads.registry import get_workload
from tests import PROFILES, ROOT
from tests.committed import committed_model
from tests.mpcprof.engine.test_session_spu import EXP_DIMS, load

WAN = NETWORKS["wan"]
STEPS = trace_model(uniform_architecture(MODELS["digits"], attention="softmax"), 1)
SCHEMA = ROOT / "tests" / "data" / "speedscope" / "file-format-schema.json"
networks = st.builds(
    Network, bandwidth_bytes_per_s=st.floats(1e5, 1e11), rtt_s=st.floats(0, 1)
)


def predicted(network=WAN):
    return predict_timeline(committed_model(), "digits", STEPS, network)


def made(*messages, ends_s=(1.0, 1.0)):
    """The timeline of a call of two parties on 10 MB/s and 200 ms."""
    none = Path()
    counters = Counters(
        lower=none,
        upper=none,
        deepest=none,
        carried_bytes=0,
        lines=(),
        messages=tuple(CarriedMessage(*one) for one in messages),
    )
    call = Call(
        latency_s=1.0,
        busy_s_by_rank=(0.1, 0.2),
        runs=(),
        counters=counters,
        spans_s=tuple((5.0, 5.0 + end_s) for end_s in ends_s),
    )
    return call_timeline(call, "two", Network(bandwidth_bytes_per_s=1e7, rtt_s=0.2))


def told(timeline, rank):
    return [
        (one.state, round(one.begin_s, 3), round(one.end_s, 3))
        for one in timeline.rows[rank]
    ]


def assert_without_gaps(timeline):
    for row in timeline.rows:
        for one, behind in itertools.pairwise(row):
            assert behind.begin_s == pytest.approx(one.end_s, abs=1e-9)


@settings(max_examples=12)
@given(networks)
def test_a_predicted_timeline_is_as_long_as_the_prediction(network):
    whole = committed_model().predict(STEPS, network)

    timeline = predicted(network)

    assert timeline.latency_s == pytest.approx(whole.latency_s)
    assert_without_gaps(timeline)
    for rank in range(2):
        seconds = sum(timeline.seconds(rank, state) for state in STATES)
        assert seconds == pytest.approx(whole.latency_s)


def test_a_predicted_timeline_has_all_bytes_and_hops():
    whole = committed_model().predict(STEPS, WAN)

    rows = predicted().rows

    assert sum(one.hops for one in rows[0]) == pytest.approx(whole.hops)
    assert sum(one.n_bytes for one in rows[0]) == pytest.approx(whole.bytes_sent)
    sent = sum(one.n_bytes for row in rows for one in row)
    assert sent == pytest.approx(whole.total_bytes_sent)


def test_a_party_computes_sends_and_waits_for_the_answer():
    timeline = made(
        (0, 1, 5.1, 5.25, 500_000),  # leaves for 50 ms, arrives 100 ms later
        (1, 0, 5.3, 5.41, 100_000),
    )

    assert told(timeline, 0) == [
        ("computing", 0, 0.1),
        ("sending", 0.1, 0.15),
        ("waiting", 0.15, 0.41),
        ("computing", 0.41, 1),
    ]
    assert told(timeline, 1) == [
        ("waiting", 0, 0.25),
        ("computing", 0.25, 0.3),
        ("sending", 0.3, 0.31),
        ("computing", 0.31, 1),
    ]
    assert timeline.lines() == [
        "traced:",
        "party 0: computing 690 ms, sending 50 ms, waiting 260 ms; its processor was "
        "busy for 100 ms",
        "party 1: computing 740 ms, sending 10 ms, waiting 250 ms; its processor was "
        "busy for 200 ms",
    ]


def test_a_message_that_came_early_is_not_waited_for():
    timeline = made(
        (0, 1, 5.1, 5.2, 10),
        (1, 0, 5.1, 5.2, 10),
        (1, 0, 5.3, 5.4, 10),  # while party 0 computes
        (0, 1, 5.5, 5.6, 10),
    )

    assert timeline.seconds(0, "waiting") == pytest.approx(0.1, abs=1e-4)
    assert timeline.seconds(1, "waiting") == pytest.approx(0.1 + 0.3, abs=1e-4)


def test_a_party_that_ends_early_is_done_then():
    timeline = made((0, 1, 5.1, 5.2, 10), ends_s=(0.5, 1.0))

    assert [row[-1].end_s for row in timeline.rows] == [0.5, 1.0]


def test_messages_that_the_relay_sees_late_or_at_once_are_sent_all_the_same():
    timeline = made(
        *((0, 1, 5.1, 5.2, 10), (0, 1, 5.1, 5.2, 20), (0, 1, 5.7, 5.8, 400)),
        ends_s=(0.5, 1.0),
    )

    assert_without_gaps(timeline)
    assert sum(one.n_bytes for one in timeline.rows[0]) == 430
    assert timeline.rows[0][-1].end_s == pytest.approx(0.5, abs=1e-5)


@pytest.mark.parametrize("unit", TRACE_UNITS)
def test_speedscope_accepts_its_json_and_weights_add_up(unit):
    fastjsonschema = pytest.importorskip("fastjsonschema")
    check = fastjsonschema.compile(json.loads(SCHEMA.read_text(encoding="utf-8")))
    whole = committed_model().predict(STEPS, WAN)

    document = json.loads(json.dumps(speedscope_document(predicted(), unit)))

    check(document)
    first = document["profiles"][0]
    expected = {"seconds": whole.latency_s, "bytes": whole.bytes_sent}
    assert sum(first["weights"]) == pytest.approx(expected.get(unit, whole.hops))
    n_frames = len(document["shared"]["frames"])
    assert max(frame for stack in first["samples"] for frame in stack) < n_frames
    with pytest.raises(fastjsonschema.JsonSchemaException):
        check(document | {"profiles": [{"type": "sampled"}]})


def test_a_chrome_trace_has_a_row_per_party_and_parts_that_hold_their_slices():
    document = json.loads(json.dumps(chrome_document(predicted())))

    events = document["traceEvents"]
    named = {e["tid"]: e["args"]["name"] for e in events if e["name"] == "thread_name"}
    assert named == {0: "party 0", 1: "party 1"}
    for rank in named:
        own = [e for e in events if e["ph"] == "X" and e["tid"] == rank]
        assert {e["cat"] for e in own} == {"part", *STATES}
        assert_nested(own)
        last_s = max(e["ts"] + e["dur"] for e in own) / 1e6
        assert last_s == pytest.approx(document["otherData"]["latency_s"])


def assert_nested(events):
    """Each slice lies within those that are open where it begins, as viewers demand."""
    open_until = []
    for event in events:
        begin, end = event["ts"], event["ts"] + event["dur"]
        while open_until and open_until[-1] <= begin + 1e-3:
            open_until.pop()
        assert not open_until or end <= open_until[-1] + 1e-3
        open_until.append(end)


@pytest.mark.parametrize(
    ("name", "unit", "message"),
    [
        ("trace.txt", "seconds", r"expected FILE\.json for Perfetto, or"),
        ("trace.json", "hops", "a Chrome trace is in seconds; expected"),
        (None, "bytes", r"--trace-unit bytes is of --trace FILE\.speedscope\.json"),
    ],
)
def test_what_cannot_be_written_is_refused_before_the_work(name, unit, message):
    from pathlib import Path as File

    with pytest.raises(UsageError, match=message):
        check_trace(File(name) if name else None, unit)


@pytest.mark.parametrize(
    ("mode", "emulation", "network", "message"),
    [
        ("priced", "relay", WAN, "--mode priced: .* expected --mode emulated"),
        ("emulated", "netem", WAN, "--emulation netem: .* expected --emulation relay"),
        ("emulated", "relay", LOOPBACK, "expected a --network with a round trip"),
    ],
)
def test_what_passes_no_relay_is_not_traced(mode, emulation, network, message):
    with pytest.raises(UsageError, match=message):
        check_traceable(mode, emulation, network)


def test_predict_writes_a_trace_and_prints_the_seconds_of_each_party(tmp_path):
    path = tmp_path / "digits.json"
    arguments = ["predict", str(PROFILES / "semi2k.parquet"), "--model", "digits"]

    done = CliRunner().invoke(main, [*arguments, "--trace", str(path)])
    document = CliRunner().invoke(main, [*arguments, "--trace", str(path), "--json"])

    assert json.loads(path.read_text(encoding="utf-8"))["otherData"]["is_predicted"]
    assert done.stdout.splitlines()[-3] == "predicted:"
    first = json.loads(document.stdout)["trace"]["parties"][0]
    assert sum(first.values()) == pytest.approx(
        json.loads(document.stdout)["latency_s"]
    )


@pytest.mark.spu
def test_parties_wait_for_the_messages_that_their_hops_are(semi2k):
    load(semi2k, get_workload("exp"), EXP_DIMS)
    semi2k.emulation.keep_messages()
    semi2k.set_network(WAN)
    call = semi2k.run("case")
    semi2k.set_network(LOOPBACK)
    semi2k.unload("case")

    timeline = call_timeline(call, "exp", WAN)

    assert_without_gaps(timeline)
    hops = call.runs[0].send_actions
    for row, run in zip(timeline.rows, call.runs, strict=True):
        assert sum(one.n_bytes for one in row) == run.bytes_sent
        assert sum(one.hops for one in row) <= hops
    # of each exchange one party waits at least, since no message leaves before both
    waited = sum(one.hops for row in timeline.rows for one in row)
    waited_s = sum(timeline.seconds(rank, "waiting") for rank in range(2))
    assert waited >= hops
    assert waited_s > 0.9 * hops * WAN.one_way_s
    assert timeline.latency_s == pytest.approx(call.latency_s, abs=0.01)
