"""What is said of a link by what SPU prints of it: lines of SPU 0.9.5 itself."""

import json
from types import SimpleNamespace

import pytest

from mpcprof.deployment import make_deployment
from mpcprof.engine.hosts.party_file import PartyFile
from mpcprof.engine.hosts.station import Station, _LinkLog
from mpcprof.errors import EngineError

PLACE = "[external/yacl~/yacl/link/transport/interconnection_link.cc:56] cntl ErrorCode"
RETRY = "send request failed and retry, retry_count=1, max_retry=3, interval_ms=1000"
CLOSED = (
    f"[2026-11-29 00:52:17.078] [info] [channel.cc:362] {RETRY}, message={PLACE} "
    "'1014', error msg '[E1014]Got EOF of Socket{id=0fd=13 addr=10.0.0.2:9100:40188}'\n"
)
CHANGED = (
    f"[2026-11-29 00:52:05.026] [info] [channel.cc:362] {RETRY}, message={PLACE} "
    "'1016', error msg '[E1016]Fail to read from Socket{id=0fd=13 addr=10.0.0.2:9100:"
    "42022} (0x0x5576727f6040): SSL related operation failed'\n"
)
IN_VAIN = (
    f"[2026-11-29 00:45:29.008] [error] [channel.cc:104] SendImpl error {PLACE} '112',"
    " error msg '[E112]Not connected to 10.0.0.2:9100 yet, server_id=0'\n"
)
CRASH = "Fatal Python error: Segmentation fault\n\nThread 0x00007f91f8071b80:\n"
ADDRESSES = ("10.0.0.1:9100", "10.0.0.2:9100")
SEMI2K = make_deployment("semi2k").to_json()


def log_of(printed):
    child = SimpleNamespace(tail=lambda: printed)
    peers = [SimpleNamespace(address=a, name=f"party at {a}") for a in ADDRESSES]
    return _LinkLog(child, peers)


def test_a_message_that_tls_refused_is_said_to_be_changed():
    link = log_of(CLOSED + CHANGED)

    assert not link.is_alive()
    assert str(link.died()).startswith(
        "what comes from party at 10.0.0.2:9100 is changed on the way: TLS refuses it"
    )


@pytest.mark.parametrize("end", ["", CRASH])
def test_a_party_that_sent_in_vain_is_not_said_to_have_crashed(end):
    link = log_of(CLOSED + IN_VAIN + end)

    assert link.is_alive()  # a closed connection may be nobody's fault: SPU tries again
    assert str(link.cut_off()).startswith(
        "what is sent to party at 10.0.0.2:9100 does not arrive, four times in 9 s"
    )


def test_where_no_address_is_printed_every_peer_is_named():
    link = log_of("SendImpl error [external/yacl~] broken pipe\n")

    assert "party at 10.0.0.1:9100 or party at 10.0.0.2:9100" in str(link.cut_off())


def test_of_any_other_end_the_link_log_says_nothing():
    assert log_of(CLOSED + CRASH).cut_off() is None


@pytest.mark.parametrize("message", [b"", b"ab", b"\0\0\0\2[]", b"\0\0\0\2{}"])
def test_a_message_that_is_none_of_ours_is_said(message):
    station = Station(PartyFile(rank=1, addresses=ADDRESSES))
    station.ask = lambda header: ({}, (message,))

    with pytest.raises(EngineError, match="party 0 sent no message of ours"):
        station.hear(0)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{}", "KeyError: 'deployment'"),
        ("party 0", "JSONDecodeError: "),
        (
            json.dumps({"deployment": SEMI2K.replace("spu-0.9.5", "spu-9.9")}),
            "is not a deployment: no runtime 'spu-9.9'",
        ),
    ],
)
def test_what_another_mpcprof_says_of_itself_ends_the_session_alone(text, reason):
    station = Station(PartyFile(rank=1, addresses=ADDRESSES))
    station._gather = lambda own: [text.encode(), own]
    versions = {"mpcprof": "0.1", "spu": "0.9.5", "jax": "0.4"}

    with pytest.raises(
        EngineError, match="have the same mpcprof on all hosts"
    ) as found:
        station._agree(None, versions)

    assert reason in str(found.value)
