"""Lines of SPU logs as Ray, containers and collectors wrap them."""

import json
from dataclasses import replace

import pytest

from mpcprof.engine.spulog import parse_spu_log
from tests import DATA

BUILDS = ("0.3.1b0", "0.5.0b0", "0.9.5")


def read_sample(build):
    return (DATA / "spulog" / f"{build}.log").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "end",
    [
        " [repeated 2x across cluster]",
        "\x1b[32m [repeated 2x across cluster]\x1b[0m",
        " [repeated 2x across cluster] (Ray deduplicates logs by default. Set "
        "RAY_DEDUP_LOGS=0 to disable log deduplication, or see https://docs.ray.io)",
    ],
)
def test_lines_that_ray_merged_are_read_and_counted(end):
    lines = read_sample("0.9.5").splitlines()
    ray = "\x1b[36m(SPURuntime(device_id=None, party=p3) pid=103, ip=10.0.0.2)\x1b[0m "

    read = parse_spu_log("".join(f"{ray}{line}{end}\n" for line in lines))

    own = [replace(run, source=None, n_merged_lines=0) for run in read]
    assert tuple(own) == parse_spu_log(read_sample("0.9.5"))
    for run in read:  # one header, one line of totals per level and of the link
        n_levels = len({o.level for o in run.operations})
        assert run.n_merged_lines == 2 + n_levels + len(run.operations)


def as_json(key, **more):
    return lambda line: json.dumps({key: line + "\n", **more})


def journal_bytes(line):
    """Journald exports a message with escape sequences as a list of its bytes."""
    return json.dumps({"MESSAGE": [*f"\x1b[32m{line}\x1b[0m".encode()], "_PID": "7"})


@pytest.mark.parametrize(
    ("wrap", "source"),
    [
        (lambda line: f"2026-11-28T09:00:00.123456789Z stdout F {line}", None),
        (as_json("log", stream="stdout", time="2026-11-28T09:00:00Z"), None),
        (as_json("log", container_name="/party1", source="stdout"), "/party1"),
        (as_json("MESSAGE", _PID="77", PRIORITY="6"), "77"),
        (journal_bytes, "7"),
        (as_json("line", labels={"job": "spu"}, timestamp="1"), None),
        (lambda line: f"party-1-1  | {line}", "party-1-1"),
        (lambda line: f"[pod/party-1/spu] {line}", "pod/party-1/spu"),
        (lambda line: f"Nov 28 09:00:00 host python3[42]: {line}", "host python3[42]"),
        (lambda line: f"#033[32m{line}#033[0m", None),
        (lambda line: f"^[[32m{line}^[[0m", None),
    ],
)
@pytest.mark.parametrize("build", BUILDS)
def test_logs_of_containers_and_collectors_are_read(wrap, source, build):
    lines = read_sample(build).splitlines()

    read = parse_spu_log("".join(wrap(line) + "\n" for line in lines))

    assert {run.source for run in read} == {source}
    assert tuple(replace(run, source=None) for run in read) == parse_spu_log(
        read_sample(build)
    )


@pytest.mark.parametrize(
    "wrap",
    [
        lambda line, party: f"party{party}-1  | {line}",
        lambda line, party: f"[pod/party{party}/spu] {line}",
        lambda line, party: f"Nov 28 09:00:00 host{party} python3[42]: {line}",
        lambda line, party: json.dumps({"log": line, "container_id": str(party)}),
    ],
)
def test_parties_in_one_collected_log_are_told_apart(wrap):
    lines = read_sample("0.9.5").splitlines()

    read = parse_spu_log("".join(wrap(x, i) + "\n" for x in lines for i in (1, 2)))

    assert len({run.source for run in read}) == 2
    assert [replace(run, source=None) for run in read[::2]] == [
        *parse_spu_log(read_sample("0.9.5"))
    ]
