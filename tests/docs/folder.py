"""The folder in which the commands of the docs run: a checkout, and a user's files."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np

from mpcprof.profile.io import write_profile
from tests import DATA, ROOT
from tests.committed import committed_profile
from tests.docs.pages import code
from tests.image_folders import write_image_folder

# why a command is read by its program's parser, and not run
NOT_RUN = {
    "--onnx": "a network of the user's; tests/mpcprof/graph exports one and prices it",
    "mpcvit_cifar10-0.7.pth.tar": "a published file; tests/mpcvit/importing makes one",
    "vit_tiny.safetensors": "a published file, as above",
    "google-vit-base/": "a published folder, as above",
    "efficientvit_m0.bin": "a published file, as above",
    "runs/published": "made of a published file",
    "runs/spaces": "made by benchmarks/pareto_spaces.py in hours",
    "runtime install": "hundreds of MB; tests/mpcprof/engine installs one",
    "--runtime": "needs a build that is not installed everywhere",
    "docs/clusters.md": "several machines; tests/mpcprof/test_cluster.py has workers",
    "party.toml": "other hosts; tests/mpcprof/engine/hosts starts parties apart",
    "--make-certificates": "as above",
    "public.safetensors": "what two hosts share; as above",
    "real.parquet": "measured between hosts",
    "--shard": "a third of forty minutes; tests/mpcprof/test_shard.py merges parts",
    "-of-3.parquet": "as above",
    "--cluster": "as docs/clusters.md",
    "pip install": "tests/test_wheel.py builds a wheel and runs it",
    "make test": "this",
    "make demo": "its commands are those of the page",
}


def fill(folder: Path) -> None:
    """Put a checkout's data and the files that pages name as the user's there."""
    for name in ("docs", "benchmarks", "examples"):
        (folder / name).symlink_to(ROOT / name)
    kept = shutil.ignore_patterns("*verify-*", "*.lock")
    shutil.copytree(ROOT / "profiles", folder / "profiles", ignore=kept)
    whole = committed_profile()
    parts = {
        "monday": whole.records[::2],
        "tuesday": whole.records[1::2],
        **dict.fromkeys(("semi2k", "before", "after", "demo/semi2k"), whole.records),
    }
    (folder / "demo").mkdir()
    for name, records in parts.items():
        write_profile(folder / f"{name}.parquet", replace(whole, records=records))
    link = {"bandwidth_bytes_per_s": 44e6, "rtt_s": 0.04}
    (folder / "link.json").write_text(json.dumps(link))
    (folder / "arch.json").write_text(json.dumps(_first_architecture()))
    write_image_folder(folder / "images", ("cat", "dog"))
    shutil.copy(DATA / "spulog" / "0.9.5.log", folder / "party0.log")
    w1, w2 = np.full((64, 128), 1 / 64), np.full((128, 64), 1 / 64)
    np.savez(folder / "weights.npz", w1=w1, w2=w2)


def _first_architecture() -> object:
    """Return the arch.json that docs/commands.md shows first."""
    for lines in code("docs/commands.md"):
        text = "\n".join(line for _, line in lines)
        if text.startswith("{"):
            return json.loads(text)
    raise AssertionError("docs/commands.md shows no architecture")
