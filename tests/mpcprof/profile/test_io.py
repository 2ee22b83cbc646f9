import contextlib
import itertools
import json
import math
import multiprocessing
import os
import random
import time
from multiprocessing.connection import Connection
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpcprof.deployment import Deployment, make_deployment
from mpcprof.dims import DIM_NAMES, Dims
from mpcprof.errors import ProfileBusyError, ProfileError
from mpcprof.network import LOOPBACK
from mpcprof.profile.export import EXPORT_COLUMNS, export_profile, profile_to_rows
from mpcprof.profile.io import (
    ProfileWriter,
    default_profile,
    find_profile,
    packaged_names,
    profile_to_table,
    read_profile,
    table_to_profile,
    write_profile,
)
from tests import ROOT
from tests.factories import make_operation, make_profile, make_record

SEMI2K = Deployment(protocol="semi2k")
QUANTITIES = st.floats(min_value=0.0, max_value=1e300)
SECONDS = st.floats(min_value=1e-9, max_value=1e6)
COUNTS = st.integers(min_value=0, max_value=2**63 - 1)
RECORDS = tuple(make_record(dims=Dims(n_tokens=n)) for n in range(1, 6))


@st.composite
def records(draw):
    return make_record(
        dims=Dims(**{name: draw(st.integers(0, 5000)) for name in DIM_NAMES}),
        network=draw(st.sampled_from([LOOPBACK, make_record().network])),
        latencies_s=tuple(draw(st.lists(SECONDS, min_size=1))),
        warmups_s=tuple(draw(st.lists(SECONDS))),
        loopbacks_s=tuple(draw(st.lists(SECONDS))),
        compute_s=draw(QUANTITIES),
        max_abs_error=draw(QUANTITIES),
        bytes_sent_by_rank=(draw(COUNTS), draw(COUNTS)),
        hops=draw(QUANTITIES),
        operations=tuple(
            make_operation(bytes_sent=n) for n in draw(st.lists(st.none() | COUNTS))
        ),
        host=draw(st.text(st.characters(codec="utf-8"))),
    )


@given(st.lists(records(), unique_by=lambda record: record.key, max_size=4))
def test_a_profile_round_trips_exactly(some_records):
    profile = make_profile(*some_records, extra='{"fit": {"exp": [1.5, null]}}')

    assert table_to_profile(profile_to_table(profile)) == profile


def test_a_file_gives_back_what_was_written(tmp_path):
    deployment = make_deployment("aby3", options=["fxp_exp_iters=5"])
    profile = make_profile(
        *(make_record(n_parties=3, seed=n, workload=f"w{n}") for n in range(3)),
        deployment=deployment,
    )

    write_profile(tmp_path / "a.parquet", profile)

    assert read_profile(tmp_path / "a.parquet") == profile
    assert [path.name for path in tmp_path.iterdir()] == ["a.parquet"]


def test_a_file_says_what_it_is_to_any_parquet_reader(tmp_path):
    write_profile(tmp_path / "a.parquet", make_profile(*RECORDS))

    schema = pq.read_schema(tmp_path / "a.parquet")

    about = json.loads(schema.metadata[b"mpcprof"])
    assert about["schema_version"] == 1
    assert about["deployment"]["protocol"] == "semi2k"
    assert schema.field("bytes_sent_by_rank").type == pa.list_(pa.int64())


def test_a_file_cut_anywhere_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "a.parquet"
    write_profile(path, make_profile(*RECORDS))
    whole = path.read_bytes()

    for length in range(0, len(whole), 97):
        path.write_bytes(whole[:length])
        with pytest.raises(ProfileError, match=r"a\.parquet' cannot be read as a pro"):
            read_profile(path)
        assert path.read_bytes() == whole[:length]


def test_a_flipped_byte_in_the_data_is_found(tmp_path):
    path = tmp_path / "a.parquet"
    write_profile(path, make_profile(*RECORDS))
    damaged = bytearray(path.read_bytes())
    damaged[60] ^= 0xFF

    path.write_bytes(damaged)

    with pytest.raises(ProfileError, match="truncated or damaged"):
        read_profile(path)


def _rewritten(path: Path, **about: object) -> None:
    table = profile_to_table(make_profile(*RECORDS))
    old = json.loads(table.schema.metadata[b"mpcprof"])
    metadata = {b"mpcprof": json.dumps(old | about).encode()}
    pq.write_table(table.replace_schema_metadata(metadata), path)


@pytest.mark.parametrize(
    ("column", "values", "version"),
    [("hops_by_repeat", (52.0, 84.0), 2), ("drivers_s", (0.1,), 3)],
)
def test_only_a_profile_that_needs_it_has_a_newer_schema(
    tmp_path, column, values, version
):
    profile = make_profile(make_record(**{column: values}))

    write_profile(tmp_path / "a.parquet", profile)

    about = json.loads(pq.read_schema(tmp_path / "a.parquet").metadata[b"mpcprof"])
    assert about["schema_version"] == version
    assert read_profile(tmp_path / "a.parquet") == profile


def test_a_newer_schema_is_refused(tmp_path):
    _rewritten(tmp_path / "a.parquet", schema_version=4)

    with pytest.raises(ProfileError, match=r"schema_version=4 is newer .*update"):
        read_profile(tmp_path / "a.parquet")


@pytest.mark.parametrize(
    ("about", "message"),
    [
        ({"schema_version": "x"}, "schema_version='x'"),
        ({"deployment": {}}, "is not a deployment"),
    ],
)
def test_damaged_metadata_is_refused(tmp_path, about, message):
    _rewritten(tmp_path / "a.parquet", **about)

    with pytest.raises(ProfileError, match=message):
        read_profile(tmp_path / "a.parquet")


def test_what_is_not_a_profile_is_refused(tmp_path):
    missing, text, foreign = (tmp_path / name for name in ("m", "t", "f"))
    text.write_text("workload,latency_s\n")
    pq.write_table(pa.table({"x": [1]}), foreign)

    for path, message in (
        (missing, "no profile .*mpcprof sweep"),
        (text, "it is not parquet"),
        (foreign, "parquet, but not a profile of mpcprof"),
        (tmp_path, "Is a directory"),
    ):
        with pytest.raises(ProfileError, match=message):
            read_profile(path)
    assert not missing.exists()


def test_a_value_outside_its_domain_is_refused_on_reading(tmp_path):
    table = profile_to_table(make_profile(RECORDS[0]))
    at = table.schema.get_field_index("hops")
    table = table.set_column(at, "hops", pa.array([-1.0]))
    pq.write_table(table, tmp_path / "a.parquet")

    with pytest.raises(ProfileError, match=r"bad value: record of exp: hops=-1\.0"):
        read_profile(tmp_path / "a.parquet")


def test_a_writer_continues_what_is_on_file(tmp_path):
    path = tmp_path / "new" / "a.parquet"
    with ProfileWriter(path, SEMI2K) as writer:
        writer.append(RECORDS[:2])
        writer.append(RECORDS[2:3])

    with ProfileWriter(path, SEMI2K) as writer:
        assert writer.profile.keys == {record.key for record in RECORDS[:3]}
        writer.append(RECORDS[3:])

    assert read_profile(path) == make_profile(*RECORDS)
    assert [p.name for p in path.parent.iterdir()] == ["a.parquet"]


def test_coefficients_survive_an_append(tmp_path):
    extra = '{"fit": {"exp": [1.5]}}'
    write_profile(tmp_path / "a.parquet", make_profile(RECORDS[0], extra=extra))

    with ProfileWriter(tmp_path / "a.parquet", SEMI2K) as writer:
        writer.append(RECORDS[1:2])

    assert read_profile(tmp_path / "a.parquet").extra == extra


def test_a_record_on_file_is_never_replaced(tmp_path):
    path = tmp_path / "a.parquet"
    with ProfileWriter(path, SEMI2K) as writer:
        writer.append(RECORDS[:1])

        with pytest.raises(ProfileError, match="two records of exp"):
            writer.append(RECORDS[:2])

    assert read_profile(path) == make_profile(RECORDS[0])


def test_a_second_writer_is_refused_at_once_and_the_next_is_not(tmp_path):
    path = tmp_path / "a.parquet"
    with ProfileWriter(path, SEMI2K) as writer:
        writer.append(RECORDS[:1])

        with pytest.raises(ProfileBusyError, match="is being written by another"):
            ProfileWriter(path, SEMI2K).__enter__()
        with pytest.raises(ProfileBusyError):
            write_profile(path, make_profile())
        assert len(read_profile(path)) == 1  # a reader is not in the way

    write_profile(path, make_profile())


def test_a_profile_of_another_deployment_is_refused_and_kept(tmp_path):
    path = tmp_path / "a.parquet"
    write_profile(path, make_profile(*RECORDS))

    with pytest.raises(ProfileError, match=r"protocol is .*--fresh, .*--output"):
        ProfileWriter(path, Deployment(protocol="cheetah")).__enter__()

    assert read_profile(path) == make_profile(*RECORDS)
    write_profile(path, make_profile())  # the lock is free again


def test_a_fresh_start_keeps_the_old_file_until_there_is_something_new(tmp_path):
    path = tmp_path / "a.parquet"
    write_profile(path, make_profile(*RECORDS))

    with ProfileWriter(path, SEMI2K, fresh=True) as writer:
        assert len(writer.profile) == 0
        assert read_profile(path) == make_profile(*RECORDS)
        writer.append(RECORDS[:1])
        writer.append(RECORDS[1:2])

    assert read_profile(path) == make_profile(*RECORDS[:2])
    assert read_profile(tmp_path / "a.parquet.bak") == make_profile(*RECORDS)


def test_a_second_fresh_start_keeps_the_file_that_the_first_one_put_aside(tmp_path):
    path = tmp_path / "a.parquet"
    write_profile(path, make_profile(*RECORDS))

    for number in range(3):
        with ProfileWriter(path, SEMI2K, fresh=True) as writer:
            writer.append(RECORDS[number : number + 1])

    backups = [tmp_path / f"a.parquet.bak{suffix}" for suffix in ("", "-2", "-3")]
    assert [read_profile(backup) for backup in backups] == [
        make_profile(*RECORDS),
        make_profile(RECORDS[0]),
        make_profile(RECORDS[1]),
    ]
    assert read_profile(path) == make_profile(RECORDS[2])


def test_a_fresh_start_replaces_what_cannot_be_read(tmp_path):
    path = tmp_path / "a.parquet"
    path.write_bytes(b"half a fi")

    with ProfileWriter(path, SEMI2K, fresh=True) as writer:
        writer.append(RECORDS[:1])

    assert len(read_profile(path)) == 1
    assert (tmp_path / "a.parquet.bak").read_bytes() == b"half a fi"


def test_an_output_that_cannot_be_written_is_found_on_entry(tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(ProfileError, match=r"cannot write .*choose another place"):
        ProfileWriter(tmp_path / "file" / "a.parquet", SEMI2K).__enter__()
    with pytest.raises(ProfileError, match="it is a folder"):
        ProfileWriter(tmp_path, SEMI2K).__enter__()
    with pytest.raises(ProfileError, match="cannot write"):
        ProfileWriter("/proc/a.parquet", SEMI2K).__enter__()


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.parquet"
    write_profile(path, make_profile(*RECORDS))

    def full_disk(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(ProfileError, match="No space left on device"):
        write_profile(path, make_profile())

    assert read_profile(path) == make_profile(*RECORDS)
    assert [p.name for p in tmp_path.iterdir()] == ["a.parquet"]


def append_without_end(path: Path, acknowledged: Connection) -> None:
    with ProfileWriter(path, SEMI2K) as writer:
        for n in itertools.count(len(writer.profile), 3):
            dims = [Dims(width=n + i) for i in (1, 2, 3)]
            writer.append(tuple(make_record(dims=one) for one in dims))
            acknowledged.send(n + 3)


def test_a_killed_writer_leaves_whole_appends_and_no_lock(tmp_path):
    path = tmp_path / "a.parquet"
    moments = random.Random(0)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])  # imports pyarrow once

    for _ in range(6):
        ours, theirs = context.Pipe(duplex=False)
        writer = context.Process(target=append_without_end, args=(path, theirs))
        writer.start()
        theirs.close()
        acknowledged = ours.recv()
        time.sleep(moments.uniform(0, 0.05))
        writer.kill()
        with contextlib.suppress(EOFError):
            while True:
                acknowledged = ours.recv()
        writer.join()

        n_on_file = len(read_profile(path))

        assert n_on_file % 3 == 0
        assert n_on_file in (acknowledged, acknowledged + 3)

    with ProfileWriter(path, SEMI2K) as last:
        last.append(RECORDS[:1])
    assert [p.name for p in tmp_path.iterdir()] == ["a.parquet"]


def test_a_row_has_the_columns_of_the_design_first():
    rows = profile_to_rows(make_profile(*RECORDS))

    assert (*rows[0],)[: len(EXPORT_COLUMNS)] == EXPORT_COLUMNS
    assert rows[0]["latency_s"] == RECORDS[0].latency_s
    assert {row["n_heads"] for row in rows} == {None}
    assert [row["n_tokens"] for row in rows] == [1, 2, 3, 4, 5]
    head = export_profile(make_profile(), "csv")
    assert head == export_profile(make_profile(*RECORDS), "csv").splitlines(True)[0]


def test_every_export_holds_every_record(tmp_path):
    profile = make_profile(*RECORDS, make_record(network=LOOPBACK, emulation="none"))

    csv = export_profile(profile, "csv")
    document = json.loads(export_profile(profile, "json"))
    markdown = export_profile(profile, "md")
    (tmp_path / "x.parquet").write_bytes(export_profile(profile, "parquet"))

    assert len(csv.splitlines()) == 1 + len(profile)
    assert csv.startswith(",".join(EXPORT_COLUMNS))
    assert len(document["records"]) == len(profile)
    assert [r["bandwidth_bytes_per_s"] for r in document["records"]].count(None) == 1
    assert len(markdown.splitlines()) == 2 + len(profile)
    assert read_profile(tmp_path / "x.parquet") == profile
    flat = pq.read_table(tmp_path / "x.parquet")
    assert flat["latency_s"].to_pylist() == [r.latency_s for r in profile]
    assert math.inf in flat["bandwidth_bytes_per_s"].to_pylist()


def test_a_profile_that_comes_with_mpcprof_is_read_by_its_name(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)

    assert {"semi2k", "aby3", "cheetah", "semi2k-spu0.3.1b0"} <= {*packaged_names()}
    assert read_profile("aby3") == read_profile(ROOT / "profiles" / "aby3.parquet")
    assert default_profile("semi2k") == Path("semi2k")
    assert default_profile("securenn") == Path("profiles/securenn.parquet")


def test_a_file_of_ones_own_comes_before_the_packaged_profile(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    own = make_profile(*RECORDS)
    (tmp_path / "profiles").mkdir()
    write_profile("semi2k", own)
    write_profile("profiles/semi2k.parquet", own)

    assert read_profile("semi2k") == own
    assert default_profile("semi2k") == Path("profiles/semi2k.parquet")
    assert find_profile("elsewhere/aby3") == Path("elsewhere/aby3")


def test_a_missing_profile_names_those_that_come_with_mpcprof(tmp_path):
    with pytest.raises(ProfileError, match=r"`mpcprof sweep.* by name: aby3, aby3-"):
        read_profile(tmp_path / "semi2k.parquet")
