"""Architectures trained on CIFAR-10 by one GPU, each for a stated time.

    PYTHONPATH=. python benchmarks/gpu_cifar10.py cnn softmax-vit found.json \
        --data FOLDER --seconds 120 --teacher cnn --mlp-norm --gradual-activation 0.4

FOLDER holds CIFAR-10 in any form that `mpcvit train --data` reads. An architecture is
an architecture.json, or a name of benchmarks/networks.py. Each leaves a folder in
`--output`: model.safetensors, which `mpcvit infer` and `mpcvit tune` read, and
log.jsonl with a line for each epoch. The same command goes on where a killed one
stopped. `--teacher` names one of the list, which is trained first and whose logits the
others learn beside the labels. `--steps 2` trains so few steps of each, writes nothing,
and says how many epochs a minute that makes.

It needs torch and this checkout alone, on Python 3.10 to 3.13; for images in another
form than cifar-10-binary.tar.gz unpacked, numpy and pillow, and for parquet pyarrow.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import torch

from mpcprof.errors import MpcprofError, UsageError, look_up
from mpcprof.nn.architecture import Architecture, read_architecture
from networks import NAMED
from on_device import (
    CLASSES,
    N_CHANNELS,
    SIZE,
    DeviceRecipe,
    Training,
    measure_speed,
    read_data,
    say,
)

NUMBERS: Final = (
    *("batch_size", "learning_rate", "weight_decay", "cutmix", "mlp_norm"),
    *("gradual_norm", "gradual_activation", "frozen_norm", "range_penalty"),
    *("range_bound", "seed"),
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train the list of architectures."""
    options = parse(arguments)
    try:
        run(options)
    except MpcprofError as error:
        sys.exit(f"gpu_cifar10: {error}")


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the options, typed and default."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add, own = parser.add_argument, DeviceRecipe()
    add("architectures", nargs="+", help=f"a file, or {', '.join(NAMED)}")
    add("--data", type=Path, required=True, help="folder with CIFAR-10")
    add_time = parser.add_mutually_exclusive_group(required=True).add_argument
    add_time("--seconds", type=float, help="for each, without compiling")
    add_time("--in-all", type=float, help="seconds for all together, from now on")
    add_time("--epochs", type=int, help="of each, instead of a time")
    add_time("--steps", type=int, help="of each, to learn the speed alone")
    add("--teacher", help="name of one of the list, which is trained first")
    add("--precision", choices=("auto", "bf16", "fp32"), default="auto")
    add("--no-compile", action="store_true", help="as on a CPU, where it never pays")
    add("--limit", type=int, help="most images of each split")
    add("--output", type=Path, default=Path("runs/gpu"), help="(default: %(default)s)")
    add("--fresh", action="store_true", help="begin anew")
    for name in NUMBERS:
        flag, default = f"--{name.replace('_', '-')}", getattr(own, name)
        if default is False:
            add(flag, action="store_true")
        else:
            add(flag, type=type(default), default=default, help=f"[{default}]")
    return parser.parse_args(arguments)


def run(options: argparse.Namespace) -> None:
    """Train one architecture after the other, the teacher first.

    Raises:
        UsageError: If something typed is not possible.
    """
    end_s = time.perf_counter() + (options.in_all or 0.0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    recipe, networks = choose_recipe(options, device), find_architectures(options)
    data = read_data(options.data, device, options.limit)
    teacher = None
    for number, (name, architecture) in enumerate(networks.items()):
        if options.steps:
            say(f"{name}: {measure_speed(architecture, data, recipe, options.steps)}")
            continue
        training = Training(
            architecture=architecture,
            recipe=recipe,
            folder=options.output / name,
            n_epochs=options.epochs,
            duration_s=options.seconds,
            taught_by=options.teacher if teacher else None,
        )
        left_s = (end_s - time.perf_counter()) / (len(networks) - number)
        one = training.run(data, teacher, left_s, is_fresh=options.fresh)
        say(f"{name}: test accuracy {one.accuracy:.2%}, {training.folder}")
        teacher = one if name == options.teacher else teacher


def choose_recipe(options: argparse.Namespace, device: torch.device) -> DeviceRecipe:
    """Return the recipe, with what is quick on that device."""
    is_gpu = device.type == "cuda"
    is_able = is_gpu and torch.cuda.get_device_capability() >= (8, 0)
    if options.precision == "bf16" and not is_able:
        say("bf16 is slower than fp32 on this device: the network trains in fp32")
    return DeviceRecipe(
        **{name: getattr(options, name) for name in NUMBERS},
        is_bf16=is_able and options.precision != "fp32",
        is_compiled=is_gpu and not options.no_compile,
    )


def find_architectures(options: argparse.Namespace) -> dict[str, Architecture]:
    """Return the architectures by the names of their folders, the teacher's first."""
    found: dict[str, Architecture] = {}
    for text in options.architectures:
        path = Path(text)
        name = path.parent.name if path.stem == "architecture" else path.stem
        if name in found:
            raise UsageError(f"two architectures called {name!r}: rename a file")
        one = found[name] = (
            read_architecture(path)
            if path.suffix == ".json"
            else look_up("network", text, NAMED)
        )
        sizes = (one.model.n_channels, one.model.image_size, one.model.n_classes)
        if sizes != (N_CHANNELS, SIZE, len(CLASSES)):
            raise UsageError(
                f"{text}: channels, pixels and classes {sizes}: expected "
                f"{(N_CHANNELS, SIZE, len(CLASSES))}, those of CIFAR-10"
            )
    if options.teacher not in (None, *found):
        known = ", ".join(found)
        raise UsageError(f"teacher {options.teacher!r}: expected one of {known}")
    return dict(sorted(found.items(), key=lambda item: item[0] != options.teacher))


if __name__ == "__main__":
    main()
