"""Other people's numbers: what they printed comes out, and logs of other frameworks."""

import json
import re

import pytest
from click.testing import CliRunner

from mpcprof.cli import main
from mpcprof.engine.spdzlog import read_spdz_log
from tests import DATA, ROOT

# "T = comp_time + 2 * comm_bytes / bandwidth + rounds * latency", says the report
LAN, WAN = "1GBps,0.5ms one way", "400MBps,4ms one way"

# Source: evaluation_report_lan_wan_rounds.md of github.com/ponyyuhan/SUF_new, a4be750:
# compute, GB, rounds, seconds on LAN and WAN (SHAFT, BERT-base and -large, 128 tokens)
SHAFT = [
    ("3.09s", "10.46GB", 1496, 24.76, 61.37),
    ("7.60s", "28.46GB", 2936, 65.99, 161.64),
]
# The same report: "GB" (which are GiB: with 10^9 bytes no row fits), rounds, seconds
SIGMA_AND_SUF = [
    ("0.989GiB", 1128, 3.48, 10.62),  # SIGMA, bert-base-128
    ("0.830GiB", 1116, 2.98, 9.56),  # SUF
    ("2.638GiB", 2256, 8.96, 25.36),  # bert-large-128
    ("2.213GiB", 2232, 7.45, 22.40),
    ("0.824GiB", 1128, 3.04, 9.65),  # gpt2-128
    ("0.724GiB", 1116, 2.63, 8.87),
    ("4.029GiB", 2256, 13.26, 34.14),  # gpt-neo-128
    ("3.648GiB", 2232, 11.77, 31.33),
    ("0.020GiB", 188, 0.17, 0.90),  # bert-tiny-128
    ("0.185GiB", 1080, 1.25, 5.63),  # bert-base-32
    ("0.411GiB", 1104, 1.89, 7.08),  # bert-base-64
]
ROUNDING_S = 0.005 + 0.005 + 3e-9 * 0.0005 * 2**30  # of LAN, of WAN, of bytes


def run(*arguments):
    return CliRunner().invoke(main, ["price", *map(str, arguments)])


def price(*arguments):
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)["runs"]


@pytest.mark.parametrize(("compute", "sent", "rounds", "lan_s", "wan_s"), SHAFT)
def test_printed_inputs_give_the_printed_seconds(compute, sent, rounds, lan_s, wan_s):
    (costs,) = price(
        *("--compute", compute, "--bytes", sent, "--rounds", rounds, "--half-duplex"),
        *("--network", LAN, "--network", WAN),
    )

    seconds = [one["latency_s"] for one in costs["networks"]]
    assert seconds == pytest.approx([lan_s, wan_s], abs=0.0051)


@pytest.mark.parametrize(("sent", "rounds", "lan_s", "wan_s"), SIGMA_AND_SUF)
def test_seconds_on_one_network_give_the_printed_ones_on_another(
    sent, rounds, lan_s, wan_s
):
    (costs,) = price(
        *("--seconds", f"{lan_s}s", "--measured-on", LAN),
        *("--bytes", sent, "--rounds", rounds, "--half-duplex", "--network", WAN),
    )

    assert costs["networks"][0]["latency_s"] == pytest.approx(wan_s, abs=ROUNDING_S)


def test_a_round_that_waits_for_an_answer_is_two_hops():
    (at_once,) = price("--bytes", "1MB", "--rounds", 10, "--compute", "0s")
    (answered,) = price(
        *("--bytes", "1MB", "--rounds", 10, "--hops-per-round", 2, "--compute", "0s")
    )

    hops_s = [one["networks"][0]["hops_s"] for one in (at_once, answered)]
    assert hops_s == pytest.approx([10 * 0.020, 20 * 0.020])


def test_a_log_of_mp_spdz_is_priced_without_the_rounds_that_only_send():
    (costs,) = price(DATA / "spdzlog" / "rep3-v.log", "--network", "1GBps,10ms")

    assert costs["hops"] == 28 + 3
    assert costs["bytes_sent"] == 42910
    blocked_s = 0.00129644 + 0.000177826 + 0.000122232
    assert costs["compute_s"] == pytest.approx(0.00292828 - blocked_s)
    assert costs["networks"][0]["latency_s"] == pytest.approx(
        costs["compute_s"] + 31 * 0.005 + 42910 / 1e9
    )


def test_a_round_of_mp_spdz_takes_half_the_round_trip_of_its_network():
    """Parties on 80 ms and 2 GiB/s, by data61/MP-SPDZ issue 1272."""
    text = (DATA / "spdzlog" / "threads-v.log").read_text()
    blocked_s = float(re.search(r"Passing around .* taking (\S+) seconds", text)[1])

    (costs,) = price(
        *("--bytes", "2.88026MB", "--rounds", 47576, "--compute", "0s"),
        *("--network", "2GiBps,80ms"),
    )

    assert costs["networks"][0]["latency_s"] == pytest.approx(blocked_s, rel=0.015)


def test_threads_of_mp_spdz_are_said_to_add_up():
    path = DATA / "spdzlog" / "threads-v.log"

    refused = run(path)
    (costs,) = price(path, "--compute", "12.5s")

    assert refused.exit_code == 2
    assert "nothing says its compute" in refused.stderr
    assert "upper bounds" in costs["notes"][0]
    assert costs["hops"] == 57371 - 4920


def test_without_v_every_round_counts_and_a_note_says_so():
    log = [
        "Time = 2.32223 seconds ",
        "Data sent = 0.652096 MB in ~2002 rounds (party 0)",
    ]

    (parsed,) = read_spdz_log(log)

    assert (parsed.rounds, parsed.sending_rounds, parsed.blocked_s) == (
        2002,
        None,
        None,
    )


def test_a_log_of_spu_is_priced_from_the_network_it_ran_on():
    costs = price(DATA / "spulog" / "0.9.5.log", "--measured-on", "loopback")

    assert [one["hops"] for one in costs][-1] == 1
    assert "semi2k only" in costs[0]["notes"][0]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "expected a LOG, or --bytes and --hops"),
        (("--bytes", "1MB"), "either --hops or --rounds"),
        (("--bytes", "1MB", "--hops", 1, "--rounds", 1), "either --hops or --rounds"),
        (("--bytes", "1MB", "--hops", 1), "--compute 1.07s"),
        (("--bytes", "1", "--hops", 1), "'1' has no unit"),
        (
            ("--bytes", "1MB", "--hops", 1, "--hops-per-round", 2, "--compute", "0s"),
            "of --rounds",
        ),
        (("--bytes", "1MB", "--rounds", 1, "--hops-per-round", 0), "range x>=1"),
        (("--bytes", "1MB", "--hops", 1, "--seconds", "1s"), "on which network?"),
        (
            ("--bytes", "1MB", "--hops", 1, "--compute", "1s", "--measured-on", "lan"),
            "leave it out",
        ),
        (
            ("--bytes", "1GB", "--hops", 9, "--seconds", "1s", "--measured-on", "wan"),
            "more than the 1 s of the whole run",
        ),
        (("none.log",), "expected a log of MP-SPDZ or SPU"),
        (("none.log", "--hops", 1), "leave out --bytes"),
        ((ROOT / "LICENSE",), "no run of MP-SPDZ"),
    ],
)
def test_what_is_wrong_is_one_line(arguments, said):
    result = run(*arguments)

    assert result.exit_code in (1, 2)
    assert said in result.stderr
    assert result.stderr.count("\n") == 1


def test_people_see_what_the_seconds_are_made_of():
    result = run(
        *("--bytes", "989MB", "--hops", 1128, "--compute", "1.07s"),
        *("--network", "lan", "--network", "wan"),
    )

    assert result.stdout.splitlines() == [
        "reported: 989 MB sent by a party, 1128 hops, compute 1.07 s",
        "384MBps,300us: 3.815 s = 1.07 s compute + 169 ms hops + 2.58 s bytes",
        "44MBps,40ms: 46.11 s = 1.07 s compute + 22.6 s hops + 22.5 s bytes",
    ]


@pytest.mark.parametrize("option", ["--hops", "--rounds"])
@pytest.mark.parametrize("text", ["nan", "inf"])
def test_a_count_that_is_no_number_is_one_line(option, text):
    result = run("--bytes", "1MB", option, text, "--compute", "0s", "--json")

    assert (result.exit_code, result.stdout) == (2, "")
    assert f"hops={text}: expected a finite number from 0 on" in result.stderr
