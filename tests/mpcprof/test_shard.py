"""Parts of a list of work: the same everywhere, disjoint, together the whole."""

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from mpcprof.cli import main
from mpcprof.errors import UsageError
from mpcprof.network import NETWORKS
from mpcprof.profile.io import read_profile
from mpcprof.shard import Shard, parse_shard
from mpcprof.sweep.grid import grid_config
from mpcprof.sweep.run import sweep
from mpcprof.verify.run import make_config
from tests import PROFILES
from tests.committed import small_profile


@given(
    names=st.lists(st.text(), unique=True, max_size=30),
    n_shards=st.integers(1, 8),
    seed=st.randoms(),
)
def test_parts_are_the_whole_whatever_the_order_it_comes_in(names, n_shards, seed):
    shards = [Shard(number=n, n_shards=n_shards) for n in range(1, n_shards + 1)]
    mixed = seed.sample(names, len(names))

    parts = [shard.take(names) for shard in shards]

    assert sorted(name for part in parts for name in part) == sorted(names)
    assert [{*shard.take(mixed)} for shard in shards] == [{*part} for part in parts]
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0/3", "0/3: expected I/N with I from 1 to N"),
        ("4/3", "4/3: expected I/N with I from 1 to N"),
        ("x", "'x': expected I/N, such as 1/3"),
        ("3/9", "--shard 3/9 of 4 cases: expected at most 4 shards"),
    ],
)
@pytest.mark.parametrize("command", ["sweep", "verify"])
def test_what_is_no_part_is_one_line(command, text, message, tmp_path):
    given_ = {
        "sweep": ("--only", "exp", "--heads", "1,2", "--tokens", "3,5"),
        "verify": (str(PROFILES / "semi2k.parquet"), "--cases", "4"),
    }[command]
    output = tmp_path / "x.parquet"

    result = CliRunner().invoke(
        main, [command, *given_, "--shard", text, "--output", str(output)]
    )

    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert not output.exists()


def test_parts_of_a_verification_are_its_cases():
    def names(shard):
        config = make_config(
            small_profile(),
            n_cases=7,
            n_models=0,
            architectures=(),
            seed=0,
            networks=(NETWORKS["wan"],),
            emulation="auto",
            repeats=1,
            warmups=1,
            limit_s=1e9,
            shard=shard,
        )
        return sorted(map(str, config.cases))

    parts = [names(parse_shard(f"{number}/3")) for number in (1, 2, 3)]

    assert sorted(name for part in parts for name in part) == names(None)
    assert [len(part) for part in parts] == [3, 2, 2]


def config_of(shard: str):
    return grid_config(
        protocol="semi2k",
        only="relu,matmul,max",
        mode="priced",
        n_heads=(1,),
        n_tokens=(3, 5),
        hidden=(4,),
        width=(8,),
        shard=parse_shard(shard),
    )


@pytest.mark.spu
@pytest.mark.usefixtures("stay")
def test_merged_parts_have_the_bytes_and_hops_of_the_whole(tmp_path):
    for shard in ("1/1", "1/3", "2/3", "3/3"):
        path = tmp_path / f"{shard.replace('/', '-')}.parquet"
        sweep(config_of(shard), path)
    parts = [str(tmp_path / f"{number}-3.parquet") for number in (3, 1, 2)]
    merged = tmp_path / "merged.parquet"
    CliRunner().invoke(main, ["table", "merge", *parts, "-o", str(merged)])

    def costs(path):
        return {
            one.key: (one.bytes_sent_by_rank, one.hops) for one in read_profile(path)
        }

    assert len(costs(merged)) == 6
    assert costs(merged) == costs(tmp_path / "1-1.parquet")


def test_a_shard_of_too_few_is_refused():
    with pytest.raises(UsageError, match="1/3 of 2 trainings: expected at most 2"):
        parse_shard("1/3").check_size(2, "trainings")
