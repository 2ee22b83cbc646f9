"""Private inference in SecretFlow, by a network that mpcvit searched and trained.

Two parties, each with a program of its own, on one host or on two:

    python examples/secretflow_inference.py alice --image 17
    python examples/secretflow_inference.py bob --checkpoint runs/demo/model.safetensors

Alice has an image and alone learns its label; bob has the weights. Both run this same
text, as SecretFlow's production mode asks, and both know what a network it is: bob
reveals the head of the checkpoint, which holds sizes and names, and no weight.

It needs secretflow 1.14, as `mpcprof runtime install secretflow` makes it, and mpcprof
on the path, for the function of the network: `PYTHONPATH=.` in this repository.

    export PYTHONPATH=. SPU=~/.local/share/mpcprof/runtimes/secretflow-1.14/bin/python
    $SPU examples/secretflow_inference.py bob --checkpoint model.safetensors &
    $SPU examples/secretflow_inference.py alice --image 17 --profile | mpcprof log -

The ports stand in for two companies' addresses: the drivers talk on the first of a
party's two ports, SPU on the next one. See docs/threat-model.md before real data.
"""

import argparse
import json
import struct
import time
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import secretflow as sf

from mpcprof.nn.architecture import parse_architecture
from mpcprof.nn.transformer import weight_shapes
from mpcprof.workloads.models import model_workload


def read_safetensors(path: str) -> tuple[dict[str, str], dict[str, np.ndarray]]:
    """Return the head of a checkpoint, and its weights by name."""
    content = Path(path).read_bytes()
    (length,) = struct.unpack_from("<Q", content)
    entries = json.loads(content[8 : 8 + length])
    content = content[8 + length :]
    head = entries.pop("__metadata__")
    weights = {
        name: np.frombuffer(content[slice(*entry["data_offsets"])], np.float32).reshape(
            entry["shape"]
        )
        for name, entry in entries.items()
    }
    return head, weights


def read_image(number: int, head: dict[str, str]) -> np.ndarray:
    """Return a digit of scikit-learn as the network takes it: patches (1, N, P)."""
    from sklearn.datasets import load_digits

    model = parse_architecture(head["architecture"]).model
    normalization = json.loads(head["normalization"])
    image = load_digits().images[number] / 16.0
    image = (image - normalization["mean"][0]) / normalization["deviation"][0]
    n_rows = model.image_size // model.input_patch
    cut = image.reshape(n_rows, model.input_patch, n_rows, model.input_patch)
    return cut.transpose(0, 2, 1, 3).reshape(1, n_rows**2, -1).astype(np.float32)


def connect(asked: argparse.Namespace) -> tuple[sf.PYU, sf.PYU, sf.SPU]:
    """Connect the two drivers, and make the SPU device of both parties."""
    names = {"alice": asked.alice, "bob": asked.bob}
    sf.init(
        ray_mode=False,
        cluster_config={
            "parties": {name: {"address": address} for name, address in names.items()},
            "self_party": asked.party,
        },
        logging_level="warning",
    )
    nodes = [
        {"party": name, "address": next_port(address)}
        for name, address in names.items()
    ]
    runtime = {"protocol": "SEMI2K", "field": "FM64", "fxp_fraction_bits": 18}
    runtime |= {
        "enable_pphlo_profile": asked.profile,
        "enable_hal_profile": asked.profile,
    }
    spu = sf.SPU({"nodes": nodes, "runtime_config": runtime})
    return sf.PYU("alice"), sf.PYU("bob"), spu


def next_port(address: str) -> str:
    """Return the address of SPU beside that of a driver."""
    host, _, port = address.rpartition(":")
    return f"{host}:{int(port) + 1}"


def main() -> None:
    """Classify one image of alice's by bob's network."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("party", choices=["alice", "bob"])
    parser.add_argument("--image", type=int, default=17, help="alice's, of 1797 digits")
    parser.add_argument("--checkpoint", default="model.safetensors", help="bob's")
    parser.add_argument("--alice", default="127.0.0.1:9110", metavar="HOST:PORT")
    parser.add_argument("--bob", default="127.0.0.1:9120", metavar="HOST:PORT")
    parser.add_argument(
        "--profile", action="store_true", help="have SPU print its costs"
    )
    asked = parser.parse_args()
    alice, bob, spu = connect(asked)

    # what both may know: sizes, names of classes, how an image is normalised
    head = sf.reveal(bob(lambda path: read_safetensors(path)[0])(asked.checkpoint))
    architecture = parse_architecture(head["architecture"])
    names = [*weight_shapes(architecture)]
    network = model_workload(architecture).function

    def read_weights(path: str) -> list[np.ndarray]:
        weights = read_safetensors(path)[1]
        return [weights[name] for name in names]

    def logits(patches: Any, weights: list[Any]) -> jnp.ndarray:
        return network(patches, *weights)

    def show(values: np.ndarray) -> None:
        label = json.loads(head["class_names"])[int(values.argmax())]
        print(f"label {label}, in {time.monotonic() - begin_s:.3f} s", flush=True)

    weights = bob(read_weights)(asked.checkpoint).to(
        spu
    )  # shares, over the drivers' link
    patches = alice(read_image)(asked.image, head).to(spu)
    sf.wait([weights, patches])
    begin_s = time.monotonic()
    result = spu(logits)(patches, weights)  # no party sees a pixel, a weight or a logit
    sf.wait(alice(show)(result.to(alice)))
    sf.shutdown()


if __name__ == "__main__":
    main()
