"""What a party does for rank 0, and what not; its station is scripted."""

import hashlib
import math
from types import SimpleNamespace
from typing import ClassVar

import pytest

from mpcprof.deployment import make_deployment
from mpcprof.engine.calls import Owned
from mpcprof.engine.hosts import follower
from mpcprof.engine.hosts.follower import Offer, RefusedError, _Follower, follow
from mpcprof.engine.hosts.party_file import PartyFile
from mpcprof.engine.hosts.session import ELSEWHERE, HostedSession
from mpcprof.engine.lowering import Lowered
from mpcprof.errors import PartyDiedError, UsageError
from mpcprof.progress import SILENT

SEMI2K = make_deployment("semi2k")
ADDRESSES = ("127.0.0.1:1", "127.0.0.1:2")
CODE = b"the program"
DIGEST = hashlib.sha256(CODE).hexdigest()
AGREE = {
    "command": "agree",
    "case": "vit",
    "digest": DIGEST,
    "input_names": ["x"],
    "output_names": ["y"],
    "hint": {},
}


class ScriptedStation:
    """Rank 0's messages in order; it keeps what is answered and what is run."""

    rank = 1

    def __init__(self, *messages, may_run="any"):
        self._messages = [*messages, {"command": "bye"}]
        self.file = PartyFile(rank=1, addresses=ADDRESSES, may_run=may_run)
        self.told, self.asked = [], []

    def hear(self, rank):
        return self._messages.pop(0), [b"text"]

    def tell(self, ranks, header):
        self.told.append(header)

    def ask(self, header, blobs=()):
        self.asked.append(header)
        return {"done": header["command"]}, [b"secret"]


def follower_of(station, owned=None, code=CODE):
    compiler = SimpleNamespace(ask_with_blobs=lambda *_: ({}, [code]))
    lowered = Lowered(code=code, input_names=("x",), compile_s=0.0)
    offer = owned and Offer(deployment=SEMI2K, lower=lambda *_: lowered, owned=owned)
    return _Follower(station, SEMI2K, compiler, offer, SILENT)


def obey(station, **more):
    one = follower_of(station, **more)
    while one.follow_one():
        pass


def test_what_was_agreed_to_is_run_and_no_share_is_answered():
    run = {"command": "run", "case": "vit"}
    station = ScriptedStation(AGREE, run)

    obey(station)

    assert [one["command"] for one in station.asked] == ["load", "run"]
    assert station.told == [{}, {"done": "run"}, {}]


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ([{"command": "run", "case": "vit"}], "no agreement to a program 'vit'"),
        ([{"command": "fetch", "case": "vit"}], "'fetch' is nothing that party 0 may"),
        (
            [AGREE, {"command": "reveal", "case": "vit", "receiver": 1}],
            "results are for party 0 alone",
        ),
        ([{"command": "hold", "owner": 1}], "offers no inputs of its own"),
        ([{"command": "agree"}], "'agree' of party 0 is no message of ours: KeyError"),
        ([AGREE, {"command": "reveal", "case": "vit"}], "'reveal' of party 0 is no"),
        ([{**AGREE, "digest": "0" * 64}], "program vit is 000000000000 at party 0"),
    ],
)
def test_what_was_not_agreed_to_is_refused_and_said(messages, reason):
    station = ScriptedStation(*messages)

    with pytest.raises(RefusedError, match=reason):
        obey(station)

    assert any(reason in one.get("refused", "") for one in station.told)


def test_what_a_party_cannot_do_as_asked_ends_the_session_and_is_said():
    def lower(*_):
        raise UsageError("a batch of 3: expected 1")

    station = ScriptedStation(AGREE)
    one = follower_of(station)
    one._offer = Offer(deployment=SEMI2K, lower=lower)

    with pytest.raises(RefusedError, match="a batch of 3: expected 1"):
        one.follow_one()

    assert station.told[0] == {"refused": "a batch of 3: expected 1"}


def test_a_program_that_the_file_does_not_list_is_refused_with_its_digest():
    station = ScriptedStation(AGREE, may_run=("00000000",))

    with pytest.raises(RefusedError, match=f'add "{DIGEST[:12]}"'):
        obey(station)

    assert station.asked == []


def test_a_party_reads_its_own_file_whatever_rank_0_names(tmp_path):
    own = Owned(rank=1, path=tmp_path / "own", shapes=((2,),), entries=("w",))
    hold = {"command": "hold", "owner": 1, "path": "/etc/passwd", "entries": ["a"]}
    station = ScriptedStation(AGREE, {**hold, "shapes": [[9]], "rank": 0})

    obey(station, owned=own)

    held = station.asked[-1]
    assert (held["path"], held["entries"]) == (str(own.path), ["w"])
    assert (held["shapes"], held["rank"]) == ([[2]], 1)
    assert str(own.path) != str(ELSEWHERE)


class NobodyComes(ScriptedStation):
    """Rank 0 never listens; it keeps how long it is waited for."""

    waited_s: ClassVar[list[float]] = []

    def __init__(self, party_file):
        super().__init__()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def new_compiler(self):
        return SimpleNamespace(close=lambda: None)

    def start(self):
        pass

    def wait_for(self, rank, limit_s):
        self.waited_s.append(limit_s)
        raise KeyboardInterrupt if limit_s == math.inf else PartyDiedError("not there")


def test_only_who_serves_one_session_stops_waiting_for_rank_0(monkeypatch):
    monkeypatch.setattr(follower, "Station", NobodyComes)
    party_file = PartyFile(rank=1, addresses=ADDRESSES, wait_limit="2min")

    with pytest.raises(PartyDiedError, match="not there"):
        follow(party_file, SILENT, is_once=True)
    with pytest.raises(KeyboardInterrupt):
        follow(party_file, SILENT)

    assert NobodyComes.waited_s == [120.0, math.inf]


def test_ranks_do_what_is_theirs():
    with pytest.raises(UsageError, match="of rank 0, which leads"):
        follow(PartyFile(rank=0, addresses=ADDRESSES), SILENT)
    with pytest.raises(UsageError, match="rank 0 leads; start this party with"):
        HostedSession(SEMI2K, PartyFile(rank=1, addresses=ADDRESSES))
    with pytest.raises(UsageError, match=r"aby3 is of 3 parties: .* has 2 addresses"):
        HostedSession(make_deployment("aby3"), PartyFile(rank=0, addresses=ADDRESSES))
