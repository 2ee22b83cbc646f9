"""The page's own scripts, run by node, against `mpcprof predict`."""

import functools
import json
import random
import re
import shutil
import subprocess
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mpcprof.costmodel.model import CostModel, fit_cost_model
from mpcprof.dims import Dims
from mpcprof.explore.page import SCRIPTS, page_data, script
from mpcprof.network import NETWORKS, Network
from mpcprof.nn.architecture import read_architecture
from mpcprof.nn.attention import ATTENTIONS
from mpcprof.nn.plan import REWRITES
from mpcprof.nn.steps import LOCAL
from mpcprof.predict import PredictionReport, plan_network, predict_model
from mpcprof.units import (
    format_bandwidth,
    format_bytes,
    format_duration,
    format_hops,
    parse_bandwidth_bytes_per_s,
    parse_duration_s,
)
from tests.committed import committed_model, committed_profile
from tests.factories import make_priced_record

Json = dict[str, Any]  # Any: JSON of the page
NODE = shutil.which("node")
COMMITTED = (
    *("semi2k", "aby3", "cheetah", "cheetah-cifar"),
    *("semi2k-spu0.3.1b0", "cheetah-spu0.3.1b0"),
)
MADE = {"semi2k with local": "semi2k"}
WITH_LOCAL = ("aby3", "cheetah-cifar", *MADE)
PROFILES = (*COMMITTED, *MADE)
N_CASES = 200
DRIVER = """
const { data, cases } = JSON.parse(require("fs").readFileSync(0, "utf8"));
const pricer = new Pricer(data);
console.log(JSON.stringify(cases.map(({ config, network }) => {
  const again = unpackConfig(data, packConfig(config));
  const file = architectureDocument(data, again);
  const link = { bandwidth: network[0] ?? Infinity, rtt_s: network[1] };
  const net = networkOf(data, again);
  const opened = configOfArchitecture(data, JSON.stringify(file), again);
  const isSame = JSON.stringify(networkOf(data, opened)) === JSON.stringify(net);
  if (!isSame) throw new Error("opened another network than was saved: " + file.model);
  try {
    const { priced, ...prediction } = pricer.predict(config.profile, net, link);
    const latency = pricer.curve(config.profile, net)(link);
    return { file, prediction, latency, text: formatNetwork(link) };
  } catch (error) {
    if (!(error instanceof MissingEntry)) throw error;
    return { file, missing: error.message };
  }
})));
"""


@functools.cache
def model_of(name: str) -> CostModel:
    """A committed profile's, or that of one with local steps measured too."""
    if name in COMMITTED:
        return committed_model(name)
    profile = committed_profile(MADE[name])
    local = (
        make_priced_record(
            LOCAL,
            Dims(n_heads=n_heads, n_tokens=n_tokens),
            n_parties=profile.deployment.n_parties,
        )
        for n_heads in (1, 4)
        for n_tokens in (9, 65, 257)
    )
    return fit_cost_model(replace(profile, records=(*profile.records, *local)))


@functools.cache
def data() -> Json:
    return page_data({name: model_of(name) for name in PROFILES})


def run_page(cases: list[Json]) -> list[Json]:
    assert NODE
    run = subprocess.run(
        [NODE, "-e", script(*SCRIPTS) + DRIVER],
        input=json.dumps({"data": data(), "cases": cases}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    answers: list[Json] = json.loads(run.stdout)
    return answers


def draw_network(draw: random.Random) -> list[float | None]:
    if draw.random() < 0.3:
        preset = draw.choice([*NETWORKS.values()])
        return [preset.bandwidth_bytes_per_s, preset.rtt_s]
    bandwidth = None if draw.random() < 0.1 else 10 ** draw.uniform(5, 10)
    return [bandwidth, 10 ** draw.uniform(-5, 0)]


def draw_config(draw: random.Random) -> Json:
    """A configuration as the page keeps it; every second network is a preset's."""
    model = draw.choice(
        ["cifar", "digits", "tiny-imagenet", "cifar-small", "bert-base"]
    )
    preset = data()["models"][model]
    is_image = preset["image_size"] > 0
    families = ["class_token", "mean"] if is_image else ["client", "one_hot"]
    is_usual = draw.random() < 0.5
    n_heads = preset["n_heads"] if is_usual else draw.choice([1, 2, 3, 4, 6])
    width = n_heads * draw.choice([1, 4, 8, 16, 40, 200])
    side = preset["image_size"] // preset["patch"] if preset["patch"] else 0
    n_layers = draw.randint(1, 3)
    config = {
        "profile": draw.choice(PROFILES),
        "model": model,
        "family": preset["family"] if is_usual else draw.choice(families),
        "n_layers": n_layers,
        "n_heads": n_heads,
        "width": preset["width"] if is_usual else width,
        "hidden": round(preset["width"] * preset["mlp_ratio"])
        if is_usual
        else draw.randint(1, 600),
        "side": side if is_usual or not side else draw.randint(1, 12),
        "n_tokens": 0 if is_image else draw.randint(2, 140),
        "n_classes": draw.choice([2, 10, 200]),
        "n_batch": draw.choice([1, 1, 2, 3]),
        "heads": draw.choice(["serial", "batched"]),
        "plan": draw.random() < 0.5,
    }
    family = data()["families"][config["family"]]
    mixers, norms = [*family["mixers"]], [*family["modes"]["plain"]]
    few = draw.sample([*ATTENTIONS], 3)

    def draw_heads() -> list[str]:
        if draw.random() < 0.3:
            return [draw.choice(mixers)]
        if draw.random() < 0.4:
            return [draw.choice(few)] * n_heads
        return draw.choices(few, k=n_heads)

    def draw_each(names: list[str]) -> list[str]:
        if draw.random() < 0.5:
            return [draw.choice(names)] * n_layers
        return draw.choices(names, k=n_layers)

    only = draw.choice(few) if draw.random() < 0.5 else None
    config["attention"] = [
        [only] * n_heads if only else draw_heads() for _ in range(n_layers)
    ]
    config["activation"] = draw_each([*data()["activations"]])
    usual_norm = ["layernorm"] if draw.random() < 0.5 else norms
    config["norm"] = draw_each(usual_norm)
    return config


def shift_config(width: int) -> Json:
    """A layer that moves channels, of which a narrow one has fewer than directions."""
    return {
        **{"profile": "semi2k with local", "model": "cifar", "family": "mean"},
        **{"n_layers": 1, "n_heads": 1, "width": width, "hidden": 8, "side": 3},
        **{"n_tokens": 0, "n_classes": 2, "n_batch": 1, "heads": "serial"},
        **{"plan": False, "attention": [["shift"]], "activation": ["relu"]},
        "norm": ["none"],
    }


def predict(case: Json, file: Json, folder: Path) -> PredictionReport:
    """What `mpcprof predict PROFILE --attention arch.json` computes."""
    path = folder / "arch.json"
    path.write_text(json.dumps(file), encoding="utf-8")
    config, (bandwidth, rtt_s) = case["config"], case["network"]
    link = Network(
        bandwidth_bytes_per_s=float("inf") if bandwidth is None else bandwidth,
        rtt_s=rtt_s,
    )
    model, network = model_of(config["profile"]), read_architecture(path)
    plan = plan_network(
        REWRITES if config["plan"] else None,
        network,
        config["n_batch"],
        deployment=model.deployment,
        link=link,
        heads=config["heads"],
    )
    return predict_model(model, network, [link], config["n_batch"], plan)


def without_digits(notes: tuple[str, ...] | list[str]) -> list[str]:
    """Notes without their last digits, which a float's last bit may turn."""
    return [re.sub(r"(\d\.\d)\d+", r"\1", note) for note in notes]


@pytest.mark.skipif(
    NODE is None, reason="node is not installed: it runs the page's code"
)
def test_the_page_prices_random_networks_as_predict_does(tmp_path: Path) -> None:
    draw = random.Random(20)
    cases: list[Json] = [
        {"config": draw_config(draw), "network": draw_network(draw)}
        for _ in range(N_CASES)
    ]
    cases += [
        {"config": shift_config(width), "network": [44e6, 0.04]}
        for width in (1, 2, 3, 4, 5, 12, 23, 24)
    ]

    answers = run_page(cases)

    n_priced: Counter[str] = Counter()
    for case, answer in zip(cases, answers, strict=True):
        if "missing" in answer:
            operation = re.search(r"no record of (\w+) ", answer["missing"])
            known = model_of(case["config"]["profile"]).operations
            assert operation
            assert operation[1] not in known
            continue
        [expected] = predict(case, answer["file"], tmp_path).predictions
        found = answer["prediction"]
        n_priced[case["config"]["profile"]] += 1
        for name in (
            "latency_s",
            "bytes_sent",
            "total_bytes_sent",
            "hops",
            "compute_s",
        ):
            value = getattr(expected, name)
            assert found[name] == pytest.approx(value, rel=1e-9, abs=1e-9), (name, case)
        assert found["interval_s"] == pytest.approx(expected.interval_s, rel=1e-9)
        assert answer["latency"] == pytest.approx(expected.latency_s, rel=1e-9)
        assert found["basis"] == expected.basis
        assert without_digits(found["notes"]) == without_digits(expected.notes)
        for split in ("parts", "operations"):
            rows = [(one["name"], one["count"]) for one in found[split]]
            own = [(one.name, one.count) for one in getattr(expected, split)]
            assert rows == own, case
        has_local = LOCAL in {one.name for one in expected.operations}
        assert has_local == (case["config"]["profile"] in WITH_LOCAL)
    assert n_priced.total() > 0.8 * N_CASES
    assert all(n_priced[name] > 15 for name in WITH_LOCAL)


@pytest.mark.skipif(
    NODE is None, reason="node is not installed: it runs the page's code"
)
def test_the_page_reads_and_writes_units_as_the_commands_do() -> None:
    assert NODE
    draw = random.Random(3)
    numbers = [0.04, 0.0125, 2.5e-6, 0.0, 1234.5, 0.99996, 44e6]
    numbers += [10 ** draw.uniform(-6, 12) for _ in range(200)]
    durations = ["40ms", "2 s", "0.3ms", "20us", "1.5 seconds", "3msec"]
    bandwidths = ["44MBps", "352Mbps", "44 MB/s", "100Mbit/s", "1Gb", "12.5kBps"]
    hops = [0.0, 20.0, 93.6475, 19.96, 93.25, 93.75, 1_234_567.5]
    hops += [draw.randint(0, 8000) / draw.choice([3, 4, 5, 7]) for _ in range(200)]
    code = """
    const { numbers, durations, bandwidths, hops } =
      JSON.parse(require("fs").readFileSync(0, "utf8"));
    const writers = [formatDuration, formatBytes, formatBandwidth];
    console.log(JSON.stringify([
      ...[undefined, 2, 4].map((digits) =>
        numbers.map((one) => writers.map((write) => write(one, digits)))),
      durations.map(parseDuration), bandwidths.map(parseBandwidth),
      hops.map(formatHops),
    ]));
    """

    run = subprocess.run(
        [NODE, "-e", script("units.js") + code],
        input=json.dumps(
            {"numbers": numbers, "durations": durations, "bandwidths": bandwidths}
            | {"hops": hops}
        ),
        capture_output=True,
        text=True,
        check=True,
    )

    writers = (format_duration, format_bytes, format_bandwidth)
    *written, seconds, rates, counts = json.loads(run.stdout)
    for digits, found in zip((None, 2, 4), written, strict=True):
        assert found == [[w(one, digits=digits) for w in writers] for one in numbers]
    assert seconds == [parse_duration_s(text) for text in durations]
    assert rates == [parse_bandwidth_bytes_per_s(text) for text in bandwidths]
    assert counts == [format_hops(one) for one in hops]
