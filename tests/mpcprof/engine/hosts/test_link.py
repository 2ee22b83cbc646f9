import json

import pytest

from mpcprof.engine.hosts.link import (
    MeasuredLink,
    check_real_link,
    measure_link,
    write_link,
)
from mpcprof.errors import LinkError, UsageError
from mpcprof.network import parse_network

ASYMMETRIC = MeasuredLink(
    rtt_s=0.0312345,
    alone_bytes_per_s={(0, 1): 12.5e6, (1, 0): 2.5e6},
    at_once_bytes_per_s={(0, 1): 10e6, (1, 0): 2.44444e6},
)


def test_an_asymmetric_link_is_priced_at_its_slower_way(tmp_path):
    write_link(tmp_path / "link.json", ASYMMETRIC)

    network = parse_network(str(tmp_path / "link.json"))

    assert str(network) == "2.44MBps,31.2ms"
    assert ASYMMETRIC.pace_under_load == pytest.approx(0.8)


def test_the_document_keeps_each_way():
    found = json.loads(ASYMMETRIC.to_json())

    assert found["measured_rtt_s"] == ASYMMETRIC.rtt_s
    assert [way["alone_bytes_per_s"] for way in found["ways"]] == [12.5e6, 2.5e6]
    assert len(ASYMMETRIC.lines()) == 5


@pytest.mark.parametrize("text", ["{", "[]", '{"rtt_s": 0.04}', '{"rtt_s": null}'])
def test_a_file_without_a_network_is_refused_by_name(tmp_path, text):
    path = tmp_path / "link.json"
    path.write_text(text)

    with pytest.raises(UsageError, match=r"link\.json' is no measured network"):
        parse_network(str(path))


class Seen:
    """A session whose parties see one network, whatever is asked for."""

    n_parties = 2

    def __init__(self, bandwidth_bytes_per_s, rtt_s):
        self._seen = bandwidth_bytes_per_s, rtt_s

    def set_network(self, network):
        self.network = network

    def exchange_s(self, n_exchanges):
        return self._seen[1] / 2

    def goodput_bytes_per_s(self, **_):
        return {(0, 1): self._seen[0], (1, 0): self._seen[0]}


class Asymmetric(Seen):
    """It keeps with how long messages each way was measured alone."""

    def __init__(self):
        super().__init__(2.5e6, 0.04)
        self.lengths = {}

    def goodput_bytes_per_s(self, *, message_bytes, n_messages, pairs=()):
        self.lengths |= dict.fromkeys(pairs, message_bytes)
        return {(0, 1): 12.5e6, (1, 0): 2.5e6}


def test_each_way_is_measured_with_messages_that_fit_it():
    session = Asymmetric()

    seen = measure_link(session)

    assert session.lengths == {(0, 1): 1_875_000, (1, 0): 375_000}
    assert seen.network.bandwidth_bytes_per_s == 2.5e6


def test_a_link_that_is_another_is_refused_with_what_to_do():
    asked = parse_network("44MBps,40ms")

    assert check_real_link(Seen(44e6, 0.0405), asked).is_good
    with pytest.raises(LinkError, match=r"the parties see 50 ms .*mpcprof link"):
        check_real_link(Seen(44e6, 0.050), asked)
