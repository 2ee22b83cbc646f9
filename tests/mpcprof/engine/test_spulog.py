"""SPU logs: real ones of three builds, and generated ones among foreign lines."""

import gzip
import io
import time
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpcprof.engine.spulog import SpuLogReader, SpuRun, parse_spu_log, read_spu_log
from mpcprof.errors import LogError
from mpcprof.profile.record import Operation
from tests import DATA

SAMPLES = DATA / "spulog"
BUILDS = ("0.3.1b0", "0.5.0b0", "0.9.5")
LABELS = {"pphlo": "HLO", "hal": "HAL", "mpc": "MPC"}
STAMPS = {
    "0.3.1b0": "[2026-11-20 10:54:36.112] [info] [executor.cc:162] ",
    "0.5.0b0": "2026-11-20 10:54:05.855 [info] [api.cc:printProfilingData:193] ",
    "0.9.5": "2026-11-20 10:52:34.003 [info] [api.cc:printProfilingData:223] ",
}
FOREIGN = (
    "",
    "I1120 10:54:24.650333  6507 src/brpc/server.cpp:1070] Server[x] is serving",
    "E0000 00:00:1700000000.1 12 chttp2_server.cc:1045] Bind failed, port=1 in use",
    "Traceback (most recent call last):",
    '  File "party.py", line 7, in <module>',
    "AttributeError: 'NoneType' object has no attribute 'run'",
    "\x1b[33mwarning\x1b[0m: - nothing, really",
    "\r 10%|#         | 1/10 [00:00<00:09,  1.0it/s]",
    "- pphlo.add, executed",
    "the run was executed, executed 3 times over",
    "profiling: total time is money",
    "Link details: see below",
    "2026-11-20 10:52:34.003 [warning] [channel.h:~Channel:163] Channel destructor",
    "(raylet) a worker died",
    "\0\x01\ufffd",
)

_counts = st.integers(min_value=0, max_value=10**15)
_seconds = st.integers(min_value=1, max_value=10**13).map(lambda ns: ns / 1e9)
_names = st.from_regex(r"[a-z_][a-z0-9_.]{0,12}", fullmatch=True)
_run_names = st.one_of(
    st.sampled_from(["<lambda>", "relu matmul", "a completed, input thing", "[x] - y"]),
    st.text("abc XYZ_-[](),%{}", min_size=1, max_size=20),
)


@st.composite
def runs(draw, build):
    def counters(*, has_all, has_some):
        return {
            "bytes_sent": draw(_counts) if has_some else None,
            "bytes_received": draw(_counts) if has_all else None,
            "send_actions": draw(_counts) if has_all else None,
            "recv_actions": 0 if has_all else None,
        }

    is_new, is_old = build == "0.9.5", build == "0.3.1b0"
    levels = draw(
        st.sampled_from([("pphlo", "hal", "mpc"), ("pphlo",), ("hal", "mpc")])
    )
    operations = tuple(
        Operation(
            level=level,
            name=name,
            count=draw(_counts),
            duration_s=draw(_seconds),
            **counters(has_all=is_new, has_some=not is_old),
        )
        for level in levels
        for name in draw(st.lists(_names, min_size=1, max_size=3, unique=True))
    )
    totals = counters(has_all=is_new, has_some=not is_old)
    if build == "0.5.0b0":
        totals["send_actions"] = draw(_counts)
    return SpuRun(
        name=draw(_run_names),
        total_s=draw(_seconds),
        input_s=draw(_seconds),
        execution_s=draw(_seconds),
        output_s=draw(_seconds),
        operations=operations,
        **totals,
    )


def render(run, build):
    """The lines that a build prints for a run, written independently of the parser."""
    yield (
        f"[Profiling] SPU execution {run.name} completed, input processing took "
        f"{run.input_s}s, execution took {run.execution_s}s, output processing took "
        f"{run.output_s}s, total time {run.total_s}s."
    )
    for level in dict.fromkeys(o.level for o in run.operations):
        operations = [o for o in run.operations if o.level == level]
        is_first_of_two = build == "0.3.1b0" and level == "pphlo"
        total_s = sum(o.duration_s for o in operations)
        colon = ":" if is_first_of_two else ""
        yield f"{LABELS[level]} profiling: total time{colon} {total_s}"
        for o in operations:
            line = f"- {o.name}, executed {o.count} times, duration {o.duration_s}s"
            if build != "0.3.1b0":
                line += f", send bytes {o.bytes_sent}"
            if build == "0.9.5":
                line += (
                    f" recv bytes {o.bytes_received}, send actions {o.send_actions}, "
                    f"recv actions {o.recv_actions}"
                )
            yield line
        if is_first_of_two:
            yield "HLO profiling: total time 0"
    if build == "0.5.0b0":
        yield (
            f"Link details: total send bytes {run.bytes_sent}, "
            f"send actions {run.send_actions}"
        )
    if build == "0.9.5":
        yield (
            f"Link details: total send bytes {run.bytes_sent}, recv bytes "
            f"{run.bytes_received}, send actions {run.send_actions}, recv actions "
            f"{run.recv_actions}"
        )


def render_all(logged, build):
    return [STAMPS[build] + line for run in logged for line in render(run, build)]


def sample(build):
    return (SAMPLES / f"{build}.log").read_text(encoding="utf-8")


def sum_by_level(run, field):
    return {
        level: sum(getattr(o, field) for o in run.operations if o.level == level)
        for level in ("pphlo", "hal", "mpc")
    }


def test_the_first_published_format_has_seconds_and_counts_only():
    first, second, third = parse_spu_log(sample("0.3.1b0"))

    assert (first.name, second.name, third.name) == ("square", "square", "tanh matmul")
    assert first.total_s == 0.003679541
    assert (first.input_s, first.execution_s) == (8.11e-07, 0.003677728)
    assert first.operations[1] == Operation(
        level="pphlo",
        name="pphlo.multiply",
        count=1,
        duration_s=0.00347064,
        bytes_sent=None,
        bytes_received=None,
        send_actions=None,
        recv_actions=None,
    )
    assert [len(r.operations) for r in (first, second, third)] == [7, 7, 28]
    assert {r.problem for r in (first, second, third)} == {None}
    assert third.bytes_sent is third.send_actions is third.recv_actions is None


def test_0_5_0b0_adds_bytes_sent_and_totals_of_the_link():
    first, second, third = parse_spu_log(sample("0.5.0b0"))

    assert [r.bytes_sent for r in (first, second, third)] == [20992, 20992, 3200]
    assert [r.send_actions for r in (first, second, third)] == [48, 48, 11]
    assert first.bytes_received is first.recv_actions is None
    assert {r.problem for r in (first, second, third)} == {None}
    assert sum_by_level(first, "bytes_sent")["mpc"] == first.bytes_sent


def test_0_9_5_prints_every_counter():
    softmax, relu, add = parse_spu_log(sample("0.9.5"))

    assert [r.name for r in (softmax, relu, add)] == [
        "softmax_row",
        "relu matmul",
        "add",
    ]
    assert (softmax.bytes_sent, softmax.bytes_received) == (22304, 22304)
    assert (softmax.send_actions, softmax.recv_actions) == (87, 87)
    assert sum_by_level(softmax, "send_actions") == {"pphlo": 87, "hal": 87, "mpc": 87}
    assert add.operations[0] == Operation(
        level="pphlo",
        name="pphlo.multiply",
        count=1,
        duration_s=0.007769682,
        bytes_sent=128,
        bytes_received=128,
        send_actions=1,
        recv_actions=1,
    )
    assert {r.problem for r in (softmax, relu, add)} == {None}


@pytest.mark.parametrize("build", BUILDS)
@given(data=st.data())
@settings(max_examples=8, deadline=None)
def test_what_is_rendered_is_read_back(build, data):
    logged = data.draw(st.lists(runs(build), min_size=1, max_size=3))
    line_end = data.draw(st.sampled_from(["\n", "\r\n"]))

    text = "".join(line + line_end for line in render_all(logged, build))

    assert parse_spu_log(text) == tuple(logged)


@pytest.mark.parametrize("build", BUILDS)
@given(data=st.data())
@settings(max_examples=8, deadline=None)
def test_lines_of_other_programs_change_nothing(build, data):
    logged = data.draw(st.lists(runs(build), min_size=1, max_size=2))
    lines = render_all(logged, build)
    foreign = st.one_of(
        st.sampled_from(FOREIGN), st.text(st.characters(codec="utf-8"), max_size=40)
    )

    mixed = []
    for line in lines:
        mixed += data.draw(st.lists(foreign, max_size=2))
        mixed.append(data.draw(st.sampled_from(["", " 50%|#  | 1/2 "])) + line)
    mixed += data.draw(st.lists(foreign, max_size=2))

    assert parse_spu_log("\n".join(mixed) + "\n") == tuple(logged)


@pytest.mark.parametrize("build", BUILDS)
@given(data=st.data())
@settings(max_examples=8, deadline=None)
def test_interleaved_parties_are_told_apart_by_their_ray_prefix(build, data):
    sources = [
        "SPURuntime pid=123",
        "SPURuntime(device_id=None, party=bob) pid=77, ip=10.0.0.2",
    ]
    logged = [data.draw(st.lists(runs(build), min_size=1, max_size=2)) for _ in sources]
    queues = [
        [f"\x1b[36m({source})\x1b[0m {line}" for line in render_all(mine, build)]
        for source, mine in zip(sources, logged, strict=True)
    ]

    mixed = []
    while any(queues):
        queue = data.draw(st.sampled_from([q for q in queues if q]))
        mixed.append(queue.pop(0))
    read = parse_spu_log("\n".join(mixed) + "\n")

    for source, mine in zip(sources, logged, strict=True):
        theirs = [replace(run, source=None) for run in read if run.source == source]
        assert theirs == mine
    assert all(run.problem is None for run in read)


@given(st.integers(min_value=0, max_value=len(sample("0.9.5")) - 1))
@settings(max_examples=200, deadline=None)
def test_a_cut_log_has_true_runs_or_says_what_is_wrong(n_chars):
    whole = parse_spu_log(sample("0.9.5"))

    try:
        read = parse_spu_log(sample("0.9.5")[:n_chars])
    except LogError:
        read = ()

    assert all(b == a or b.problem for a, b in zip(whole, read, strict=False))
    assert read[:-1] == whole[: len(read) - 1 if read else 0]


def test_a_number_cut_at_the_very_end_is_not_taken_for_whole():
    text = sample("0.9.5")
    end = text.index("recv actions 87\n") + len("recv actions 8")

    (run,) = parse_spu_log(text[:end])

    assert run.problem is not None


@pytest.mark.parametrize("build", BUILDS)
def test_the_last_line_needs_no_newline(build):
    text = sample(build)
    end = text.rindex("Link details" if "Link details" in text else "- ")
    end = text.index("\n", end)

    assert parse_spu_log(text[:end]) == parse_spu_log(text)


def test_a_lost_line_is_reported():
    lines = sample("0.3.1b0").splitlines(keepends=True)
    heaviest = next(i for i, line in enumerate(lines) if "pphlo.multiply" in line)

    runs_read = parse_spu_log("".join(lines[:heaviest] + lines[heaviest + 1 :]))

    assert "HLO lines add up to" in (runs_read[0].problem or "")
    assert runs_read[1].problem is None


def test_parties_mixed_without_a_prefix_are_reported():
    lines = sample("0.9.5").splitlines(keepends=True)
    start = [i for i, line in enumerate(lines) if "[Profiling]" in line]
    one = lines[start[1] : start[2]]

    mixed = [line for line in one for _ in range(2)]

    assert all(run.problem for run in parse_spu_log("".join(mixed)))


def test_a_name_may_span_lines():
    """Builds 0.3.1b0 and 0.5.0b0 name a torch module's run by its repr."""
    ray = "(SPURuntime pid=5) "
    header, *rest = sample("0.5.0b0").splitlines()[1:38]
    lines = [*header.replace("relu_softmax", "Net(\n  (a): B()\n)").split("\n"), *rest]

    (plain,) = parse_spu_log("\n".join(lines))
    (prefixed,) = parse_spu_log("\n".join(ray + line for line in lines))

    assert plain.name == prefixed.name == "Net(\n  (a): B()\n)"
    assert plain.bytes_sent == 20992
    assert prefixed.source == "SPURuntime pid=5"


def test_line_by_line_gives_a_run_as_soon_as_it_is_whole():
    reader = SpuLogReader()

    completed = [
        (line, run)
        for line in sample("0.9.5").splitlines()
        if (run := reader.feed(line)) is not None
    ]

    assert tuple(run for _, run in completed) == parse_spu_log(sample("0.9.5"))
    assert all("Link details" in line for line, _ in completed)
    assert reader.finish() == ()


def test_line_by_line_the_last_run_of_the_old_build_comes_at_finish():
    reader = SpuLogReader()

    fed = [reader.feed(line) for line in sample("0.3.1b0").splitlines()]
    finished = reader.finish()

    assert (*filter(None, fed), *finished) == parse_spu_log(sample("0.3.1b0"))
    assert len(finished) == 1


def test_bytes_that_are_not_text_are_replaced():
    raw = sample("0.9.5").encode().replace(b"\n", b"\n\xff\x00\xfe\n", 1)
    stream = io.BytesIO(b"\xef\xbb\xbf" + raw)

    assert read_spu_log(stream) == parse_spu_log(sample("0.9.5"))
    assert not stream.closed


def test_an_absurd_number_is_not_a_number():
    line = (
        STAMPS["0.9.5"] + "- pphlo.add, executed " + "9" * 5000 + " times, duration 1s"
    )
    header = sample("0.9.5").splitlines()[:2]

    (run,) = parse_spu_log("\n".join([*header, line, ""]))

    assert run.operations == ()


@pytest.mark.parametrize("text", ["", "hello\n", "[Profiling] SPU execution x\n"])
def test_a_text_without_a_run_says_what_was_looked_for(text):
    with pytest.raises(LogError, match=r"SPU execution NAME.*enable_hal_profile"):
        parse_spu_log(text)


def test_binary_is_called_so():
    with pytest.raises(LogError, match="NUL"):
        read_spu_log(io.BytesIO(b"\x7fELF\0\0\0"))


def test_big_logs_are_read_in_linear_time():
    took_s = []

    for n_lines in (10_000, 40_000):
        noise = "".join(line + "\n" for line in FOREIGN) * (n_lines // len(FOREIGN))
        started = time.perf_counter()
        read = parse_spu_log(noise + sample("0.9.5"))
        took_s.append(time.perf_counter() - started)
        assert len(read) == 3

    early, late = took_s
    assert late < 10 * max(early, 0.05)


@pytest.mark.parametrize(
    "piece",
    [
        "[Profiling] SPU execution ",
        " completed, input processing took 1s, execution took ",
        "- a, executed 1 times, duration 1s ",
        "HLO profiling: total time 1 ",
        "Link details: total send bytes 1 ",
        "(pid=1 (",
        "\x1b[1;",
        "- x" + " " * 50,
        " [repeated 2x across cluster] " + " " * 50,
    ],
)
def test_no_single_line_is_pathological(piece):
    header, section = sample("0.9.5").splitlines()[:2]
    took_s = []

    for n in (20_000, 80_000):
        text = "\n".join([header, section, piece * n, piece * n + ", executed "])
        started = time.perf_counter()
        parse_spu_log(text)
        took_s.append(time.perf_counter() - started)

    assert all(late < 10 * max(early, 0.05) for early, late in pairwise(took_s))


def log_of(operation, link):
    """Two operations and the link's totals, `{n}` and `{m}` being sent and received."""
    head = (
        "[info] [api.cc:163] [Profiling] SPU execution block completed, input "
        "processing took 1e-06s, execution took 0.75s, output processing took 2e-06s, "
        "total time 0.750003s."
    )
    lines = [head, "[info] HLO profiling: total time 0.75"]
    for name, seconds, sent, received in (
        ("pphlo.dot", 0.5, 1000, 1100),
        ("pphlo.multiply", 0.25, 24, 24),
    ):
        numbers = operation.format(
            n=sent, m=received, n_mib=sent / 2**20, m_mib=received / 2**20
        )
        lines.append(f"- {name}, executed 4 times, duration {seconds}s{numbers}")
    totals = link.format(n=1024, m=1124, n_mib=1024 / 2**20, m_mib=1124 / 2**20)
    return "\n".join([*lines, f"Link details: total send {totals}\n"])


@pytest.mark.parametrize(
    ("operation", "link", "of_dot", "of_run"),
    [
        pytest.param(
            "",
            "bytes {n}, send actions 9",
            (None, None),
            (1024, None, 9, None),
            id="0.4.0",
        ),
        pytest.param(
            ", send bytes {n}",
            "bytes {n}, send actions 9",
            (1000, None),
            (1024, None, 9, None),
            id="0.5.0 to 0.8.0",
        ),
        pytest.param(
            ", send bytes {n} recv bytes {m}",
            "bytes {n}, recv bytes {m}, send actions 9",
            (1000, 1100),
            (1024, 1124, 9, None),
            id="0.9.0 to 0.9.2",
        ),
        pytest.param(
            ", send {n_mib} MiB, recv {m_mib} MiB",
            "{n_mib} MiB recv {m_mib} MiB, send actions 9",
            (1000, 1100),
            (1024, 1124, 9, None),
            id="OpenBumbleBee",
        ),
    ],
)
def test_each_build_has_the_numbers_that_it_prints(operation, link, of_dot, of_run):
    (run,) = parse_spu_log(log_of(operation, link))

    dot, multiply = run.operations
    assert run.problem is None
    assert (dot.bytes_sent, dot.bytes_received) == of_dot
    assert dot.send_actions is dot.recv_actions is None
    assert (multiply.name, multiply.count) == ("pphlo.multiply", 4)
    assert of_run == (
        run.bytes_sent,
        run.bytes_received,
        run.send_actions,
        run.recv_actions,
    )


def test_a_layout_that_is_not_known_is_shown():
    text = log_of(", sent 7 of 9 kB", "bytes {n}, send actions 9")

    (run,) = parse_spu_log(text)

    assert "layout of 2 lines not known: '- pphlo.dot, executed 4" in run.problem


def test_lines_that_a_terminal_cut_are_reported():
    text = sample("0.9.5").replace(" recv bytes", "\nrecv bytes", 1)

    assert "fewer numbers" in parse_spu_log(text)[0].problem


def test_link_details_without_the_last_number_are_reported():
    text = sample("0.9.5")

    run = parse_spu_log(text[: text.rindex(", recv actions")])[-1]

    assert run.problem == "cut off: the 'Link details' line is not whole"


@pytest.mark.parametrize(
    "pack",
    [
        lambda text: gzip.compress(text.encode()),
        lambda text: text.replace("\n", "\r\n").encode("utf-16"),
        lambda text: b"\xfe\xff" + text.encode("utf-16-be"),
        lambda text: gzip.compress(text.encode("utf-16")),
    ],
)
def test_packed_logs_and_those_of_other_systems_are_read(pack):
    stream = io.BytesIO(pack(sample("0.9.5")))

    assert read_spu_log(stream) == parse_spu_log(sample("0.9.5"))
    assert not stream.closed


def test_a_packed_log_that_is_cut_is_called_so():
    packed = gzip.compress(sample("0.9.5").encode())

    with pytest.raises(LogError, match="damaged gzip file"):
        read_spu_log(io.BytesIO(packed[: len(packed) // 2]))
