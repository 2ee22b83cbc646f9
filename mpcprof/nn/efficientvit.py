"""EfficientViT M0 to M5: cascaded heads in windows, between depthwise convolutions.

Every BatchNorm is folded into the convolution in front of it. A head reads what the
head before it gave, so that the heads of a block run one after another, however many
messages could go together. Weights have the names of timm's modules.

Source: Liu et al. 2023 (arXiv 2305.07027), section 3; sizes of the code that its
    authors released (microsoft/Cream, EfficientViT/classification).
"""

import functools
import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Final, Generic, Literal, TypeAlias

from mpcprof.errors import UsageError, did_you_mean, look_up
from mpcprof.files import convert_json, decode_json, read_json
from mpcprof.nn.algebra import Algebra, Shape, T
from mpcprof.nn.attention import ATTENTIONS, SOFTMAXES, Attention, get_attention
from mpcprof.nn.mixing import convolve, depthwise, pad
from mpcprof.nn.mlp import linear
from mpcprof.nn.rewrite import grouped
from mpcprof.nn.steps import Bare, CountingAlgebra, Step

KEY_DIM: Final = 16  # width of queries and keys
WINDOW: Final = 7  # height and width of the windows of attention
N_STEMS: Final = 4  # convolutions of the patch embedding, each of stride 2
SCHEMA_VERSION: Final = 1  # of the file that says a network
_PREFIX: Final = "efficientvit"
_STRIDE: Final = 2**N_STEMS
_LARGEST_IMAGE: Final = 2048
_MOST_TOGETHER: Final = 16  # windows; the bytes of one product grow with their square
_SUM_TO_ONE: Final = (*SOFTMAXES, "softmax_puma", "sparsemax")  # a single weight is 1
_Sizes3: TypeAlias = tuple[int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class EfficientViT:
    """Sizes of an EfficientViT, and the function of its heads.

        >>> m0 = get_efficientvit("efficientvit-m0")
        >>> m0.map_sides, m0.n_heads_in_sequence, m0.n_multiply_adds
        ((14, 7, 4), 24, 79193600)

    Attributes:
        widths: Channels of each of the three stages.
        depths: Number of blocks of each stage.
        n_heads: Number of heads in the blocks of each stage.
        kernels: Height and width of the convolution of queries, by place of the head.
        image_size: Height and width of the image in pixels.
        attention: Variant of every head.

    Raises:
        UsageError: If a size is out of range, or two do not fit each other.
    """

    name: str
    widths: _Sizes3
    depths: _Sizes3 = (1, 2, 3)
    n_heads: _Sizes3
    kernels: tuple[int, ...] = (7, 5, 3, 3)
    image_size: int = 224
    n_channels: int = 3
    n_classes: int = 1000
    attention: str = "softmax"

    def __post_init__(self) -> None:
        for key in ("n_channels", "n_classes"):
            _check_sizes(key, (getattr(self, key),), 1_000_000)
        for key, most in (("widths", 10_000), ("depths", 100), ("n_heads", 100)):
            _check_sizes(key, getattr(self, key), most)
        size = self.image_size
        if size % _STRIDE or not 2 * _STRIDE <= size <= _LARGEST_IMAGE:
            raise UsageError(
                f"image_size={size}: expected a multiple of {_STRIDE} from "
                f"{2 * _STRIDE} to {_LARGEST_IMAGE}, such as 64 or 224"
            )
        for width, n_heads in zip(self.widths, self.n_heads, strict=True):
            if width % n_heads or width % 8:
                raise UsageError(
                    f"widths={self.widths} and n_heads={self.n_heads}: expected "
                    "multiples of 8, each divided by its number of heads"
                )
        n_kernels = max(self.n_heads)
        if len(self.kernels) < n_kernels or any(k % 2 == 0 for k in self.kernels):
            raise UsageError(
                f"kernels={self.kernels}: expected {n_kernels} odd numbers, one for "
                "each head"
            )
        if not look_up("attention", self.attention, ATTENTIONS).takes_bias:
            known = [name for name, own in ATTENTIONS.items() if own.takes_bias]
            raise UsageError(
                f"attention={self.attention!r}: expected a variant with scores, to "
                f"which {self.name} adds its position bias: {', '.join(known)}"
            )

    @property
    def map_sides(self) -> _Sizes3:
        """Height and width of the map of each stage."""
        first = self.image_size // _STRIDE
        second = _halve(first)
        return (first, second, _halve(second))

    def window_side(self, stage: int) -> int:
        """Return the height and width of the windows of a stage, counted from 0."""
        return min(WINDOW, self.map_sides[stage])

    @property
    def n_heads_in_sequence(self) -> int:
        """Number of heads that wait for each other, over all blocks."""
        return sum(d * h for d, h in zip(self.depths, self.n_heads, strict=True))

    @property
    def n_multiply_adds(self) -> int:
        """Multiply-adds of one image: convolutions, linear layers, heads' products."""
        return sum(
            math.prod(step.size)
            for step in trace_efficientvit(self, is_grouped=False)
            if step.operation == "matmul" or _is_depthwise(step)
        )

    @property
    def variant(self) -> Attention:
        """Variant of every head."""
        return get_attention(self.attention)

    def to_json(self) -> str:
        """Return the text of a file that says the network."""
        keys = asdict(self)
        return json.dumps(
            {"schema_version": SCHEMA_VERSION, "model": keys.pop("name"), **keys}
        )

    @property
    def digest(self) -> str:
        """8 hexadecimal digits that tell networks of one name apart."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:8]


def _halve(side: int) -> int:
    return (side - 1) // 2 + 1


def _is_depthwise(step: Step) -> bool:
    return step.operation == "mul" and step.part.endswith("depthwise")


def _check_sizes(key: str, sizes: tuple[int, ...], most: int) -> None:
    for size in sizes:
        if not 1 <= size <= most:
            raise UsageError(f"{key}={size}: expected a whole number from 1 to {most}")


def _preset(
    number: int,
    widths: _Sizes3,
    n_heads: _Sizes3,
    kernels: tuple[int, ...] = (7, 5, 3, 3),
    depths: _Sizes3 = (1, 2, 3),
) -> EfficientViT:
    return EfficientViT(
        name=f"{_PREFIX}-m{number}",
        widths=widths,
        n_heads=n_heads,
        kernels=kernels,
        depths=depths,
    )


EFFICIENTVITS: Final = {  # Table 1 of the paper
    preset.name: preset
    for preset in (
        _preset(0, (64, 128, 192), (4, 4, 4), (5, 5, 5, 5)),
        _preset(1, (128, 144, 192), (2, 3, 3)),
        _preset(2, (128, 192, 224), (4, 3, 2)),
        _preset(3, (128, 240, 320), (4, 3, 4), (5, 5, 5, 5)),
        _preset(4, (128, 256, 384), (4, 4, 4)),
        _preset(5, (192, 288, 384), (3, 3, 4), depths=(1, 3, 4)),
    )
}


def is_efficientvit(model: str) -> bool:
    """Return whether it names an EfficientViT, or a file that says one."""
    if model.endswith(".json") and Path(model).is_file():
        keys = read_json(Path(model), dict, what="architecture")
        model = str(keys.get("model", ""))
    return model.startswith(_PREFIX)


def get_efficientvit(name: str) -> EfficientViT:
    """Return the network of that name, or the one in a file `FILE.json`.

    Raises:
        UnknownNameError: If there is none.
        UsageError: If the file cannot be read, or its sizes do not fit each other.
    """
    if not name.endswith(".json"):
        return look_up("model", name.replace("_", "-"), EFFICIENTVITS)
    found = read_json(Path(name), _EfficientViTFile, what="architecture")
    try:
        return found.network()
    except UsageError as error:
        raise type(error)(f"{name}: {error}") from None


def parse_efficientvit(text: str) -> EfficientViT | None:
    """Return the network that `EfficientViT.to_json` said; None for another kind."""
    keys = decode_json(text, dict, what="architecture")
    if not str(keys.get("model", "")).startswith(_PREFIX):
        return None
    return convert_json(keys, _EfficientViTFile, what="architecture").network()


@dataclass(frozen=True, slots=True, kw_only=True)
class _EfficientViTFile:
    """The keys of a file; without one, the preset's size holds."""

    model: str
    schema_version: Literal[1] = SCHEMA_VERSION
    widths: _Sizes3 | None = None
    depths: _Sizes3 | None = None
    n_heads: _Sizes3 | None = None
    kernels: tuple[int, ...] | None = None
    image_size: int | None = None
    n_channels: int | None = None
    n_classes: int | None = None
    attention: str | None = None

    def network(self) -> EfficientViT:
        """Return the network, checked.

        Raises:
            UsageError: If a size is missing or out of range.
        """
        given = {one.name: getattr(self, one.name) for one in fields(self)}
        del given["model"], given["schema_version"]
        own = {name: value for name, value in given.items() if value is not None}
        if self.model in EFFICIENTVITS:
            return replace(EFFICIENTVITS[self.model], **own)
        missing = [key for key in ("widths", "n_heads") if key not in own]
        if missing:
            raise UsageError(
                f"no model {self.model!r}; "
                f"{did_you_mean(self.model, [*EFFICIENTVITS])}; "
                f"or give its sizes: {', '.join(missing)}"
            )
        return EfficientViT(name=self.model, **own)


# ------------------------------------------------------------------ weights


def efficientvit_shapes(network: EfficientViT) -> dict[str, Shape]:
    """Return the shape of every weight by name, in the order that workloads take.

    A kernel of k x k over c channels is a matrix (k k c, d), its rows as those of
    `mpcprof.nn.mixing.convolve`; one for each channel by itself is (k k, d). Each has a
    bias, which its BatchNorm left. The position bias of heads is a table (h, N, N).
    """
    shapes: dict[str, Shape] = {}
    for name, shape in _matrices(network):
        shapes[name] = shape
        if name.endswith(".weight"):
            shapes[f"{name.removesuffix('weight')}bias"] = shape[-1:]
    return shapes


def _matrices(network: EfficientViT) -> Iterator[tuple[str, Shape]]:
    """Yield the weights that are no bias of channels, in order."""
    width, n_in = network.widths[0], network.n_channels
    for number in range(1, N_STEMS + 1):
        n_out = width >> (N_STEMS - number)
        yield f"patch_embed.conv{number}.weight", (9 * n_in, n_out)
        n_in = n_out
    for stage, width in enumerate(network.widths):
        if stage:
            yield from _downsample_matrices(stage, network.widths[stage - 1], width)
        for block in range(network.depths[stage]):
            yield from _block_matrices(network, stage, f"stages.{stage}.blocks.{block}")
    yield "head.linear.weight", (network.widths[-1], network.n_classes)


def _downsample_matrices(
    stage: int, width: int, n_out: int
) -> Iterator[tuple[str, Shape]]:
    name, hidden = f"stages.{stage}.downsample", 4 * width
    yield from _unit_matrices(f"{name}.res1.0", f"{name}.res1.1", width)
    yield f"{name}.patchmerge.conv1.weight", (width, hidden)
    yield f"{name}.patchmerge.conv2.weight", (9, hidden)
    yield f"{name}.patchmerge.se.fc1.weight", (hidden, width)
    yield f"{name}.patchmerge.se.fc2.weight", (width, hidden)
    yield f"{name}.patchmerge.conv3.weight", (hidden, n_out)
    yield from _unit_matrices(f"{name}.res2.0", f"{name}.res2.1", n_out)


def _block_matrices(
    network: EfficientViT, stage: int, name: str
) -> Iterator[tuple[str, Shape]]:
    width, n_heads = network.widths[stage], network.n_heads[stage]
    chunk, n_places = width // n_heads, network.window_side(stage) ** 2
    attn = f"{name}.mixer.m.attn"
    yield from _unit_matrices(f"{name}.dw0", f"{name}.ffn0", width)
    yield f"{attn}.attention_biases", (n_heads, n_places, n_places)
    for head in range(n_heads):
        yield f"{attn}.qkvs.{head}.weight", (chunk, 2 * KEY_DIM + chunk)
        yield f"{attn}.dws.{head}.weight", (network.kernels[head] ** 2, KEY_DIM)
    yield f"{attn}.proj.1.weight", (width, width)
    yield from _unit_matrices(f"{name}.dw1", f"{name}.ffn1", width)


def _unit_matrices(dw: str, ffn: str, width: int) -> Iterator[tuple[str, Shape]]:
    yield f"{dw}.m.weight", (9, width)
    yield f"{ffn}.m.pw1.weight", (width, 2 * width)
    yield f"{ffn}.m.pw2.weight", (2 * width, width)


# ------------------------------------------------------------------ network


def pixels_shape(network: EfficientViT, n_batch: int) -> Shape:
    """Return (B, S S, c), the shape of the input: pixels, row by row."""
    return (n_batch, network.image_size**2, network.n_channels)


def efficientvit(
    ops: Algebra[T],
    network: EfficientViT,
    pixels: T,
    weights: Mapping[str, T],
    *,
    is_grouped: bool = True,
) -> T:
    """Return logits (B, C) of pixels (B, S S, c).

    Args:
        is_grouped: Whether the products of an image's windows are one, the same up to
            rounding, in fewer hops and for more bytes.
    """
    layer = _Layers(ops, network, weights, is_grouped)
    with ops.part("patch embedding"):
        x = layer.embed(pixels)
    for stage, depth in enumerate(network.depths):
        side = network.map_sides[stage]
        if stage:
            with ops.part(f"stage {stage + 1} downsample"):
                last = network.map_sides[stage - 1]
                x = layer.downsample(x, last, f"stages.{stage}.downsample")
        for block in range(depth):
            name, where = f"stages.{stage}.blocks.{block}", f"{stage + 1}.{block + 1}"
            with ops.part(f"block {where}"):
                x = layer.unit(x, side, f"{name}.dw0", f"{name}.ffn0")
            with ops.part(f"block {where} heads"):
                attended = layer.attend(x, stage, f"{name}.mixer.m.attn")
                x = ops.add(x, attended)
            with ops.part(f"block {where}"):
                x = layer.unit(x, side, f"{name}.dw1", f"{name}.ffn1")
    with ops.part("head"):
        return layer.linear(_sum_places(ops, x), "head.linear")


@dataclass(frozen=True, slots=True)
class _Layers(Generic[T]):
    """The layers of a network, each found by its name in the weights."""

    ops: Algebra[T]
    network: EfficientViT
    weights: Mapping[str, T]
    is_grouped: bool

    def _own(self, name: str) -> tuple[T, T]:
        return self.weights[f"{name}.weight"], self.weights[f"{name}.bias"]

    def linear(self, x: T, name: str) -> T:
        """Apply a linear layer, or a 1x1 convolution, to the last axis."""
        return linear(self.ops, x, *self._own(name))

    def embed(self, pixels: T) -> T:
        """Make the map of the first stage, (B, N, C), of pixels."""
        x, side = pixels, self.network.image_size
        for number in range(1, N_STEMS + 1):
            own = self._own(f"patch_embed.conv{number}")
            x = convolve(self.ops, x, side, *own, stride=2)
            x = self.ops.relu(x) if number < N_STEMS else x
            side = _halve(side)
        return x

    def depthwise(self, x: T, side: int, name: str, stride: int = 1) -> T:
        """Convolve each channel of a square map (B, N, C) by itself."""
        weight, bias = self._own(name)
        taps = _taps(side, math.isqrt(weight.shape[0]), stride)
        with self.ops.part("depthwise"):
            return depthwise(self.ops, x, side, weight, bias, stride=stride, taps=taps)

    def unit(self, x: T, side: int, dw: str, ffn: str) -> T:
        """Add a depthwise convolution to a map, then an MLP of two linear layers."""
        ops = self.ops
        with ops.part(_label(dw)):
            x = ops.add(x, self.depthwise(x, side, f"{dw}.m"))
        with ops.part(_label(ffn)):
            hidden = ops.relu(self.linear(x, f"{ffn}.m.pw1"))
            return ops.add(x, self.linear(hidden, f"{ffn}.m.pw2"))

    def downsample(self, x: T, side: int, name: str) -> T:
        """Halve the sides of a map (B, N, C), to another number of channels."""
        ops, merge = self.ops, f"{name}.patchmerge"
        x = self.unit(x, side, f"{name}.res1.0", f"{name}.res1.1")
        with ops.part("patchmerge"):
            x = ops.relu(self.linear(x, f"{merge}.conv1"))
            x = ops.relu(self.depthwise(x, side, f"{merge}.conv2", stride=2))
            with ops.part("se"):
                x = self.excite(x, f"{merge}.se")
            x = self.linear(x, f"{merge}.conv3")
        return self.unit(x, _halve(side), f"{name}.res2.0", f"{name}.res2.1")

    def excite(self, x: T, name: str) -> T:
        """Multiply each channel by a number from 0 to 1 that all their means give.

        Source: squeeze-and-excitation, Hu et al. 2018 (arXiv 1709.01507).
        """
        hidden = self.ops.relu(self.linear(_sum_places(self.ops, x), f"{name}.fc1"))
        gate = _sigmoid(self.ops, self.linear(hidden, f"{name}.fc2"))  # (B, C)
        n_batch, width = gate.shape
        return self.ops.mul(x, self.ops.reshape(gate, (n_batch, 1, width)))

    def attend(self, x: T, stage: int, name: str) -> T:
        """Return what the heads of a block add to a map (B, N, C).

        Head after head: each reads its own channels plus what the one before gave.
        """
        ops, network = self.ops, self.network
        side, window = network.map_sides[stage], network.window_side(stage)
        windows = _cut_windows(ops, x, side, window)  # (G, w w, C)
        chunk = x.shape[2] // network.n_heads[stage]
        done: list[T] = []
        for head in range(network.n_heads[stage]):
            own = ops.cut(windows, 2, head * chunk, (head + 1) * chunk)
            with ops.part(f"head {head + 1}"):
                fed = ops.add(own, done[-1]) if done else own
                n_windows = windows.shape[0] // x.shape[0]
                done.append(self.attend_head(fed, head, window, n_windows, name))
        with ops.part("projection"):
            heads = ops.relu(ops.join(done, 2))
            projected = self.linear(heads, f"{name}.proj.1")
        return _join_windows(ops, projected, side, window)

    def attend_head(self, x: T, head: int, window: int, n_windows: int, name: str) -> T:
        """Attend within windows (G, w w, c)."""
        ops = self.ops
        qkv = self.linear(x, f"{name}.qkvs.{head}")
        v = ops.cut(qkv, 2, 2 * KEY_DIM, qkv.shape[2])
        if window == 1 and self.network.attention in _SUM_TO_ONE:
            return v
        q, k = (ops.cut(qkv, 2, i * KEY_DIM, (i + 1) * KEY_DIM) for i in range(2))
        q = self.depthwise(q, window, f"{name}.dws.{head}")
        table = self.weights[f"{name}.attention_biases"]
        bias = ops.cut(table, 0, head, head + 1)  # (1, w w, w w)
        together = min(n_windows, _MOST_TOGETHER) if self.is_grouped else 1
        with ops.part(self.network.attention):
            values: T = self.network.variant.function(
                grouped(ops, together), q, k, v, is_folded=True, bias=bias
            )
        return values


def _label(name: str) -> str:
    """Return the last part of a name that is no number."""
    return [part for part in name.split(".") if not part.isdecimal()][-1]


def _taps(side: int, kernel: int, stride: int) -> range | None:
    """Return the rows of a kernel that meet a map of that side; None for all."""
    places = range(0, side, stride)
    met = [
        i for i in range(kernel) if any(0 <= p + i - kernel // 2 < side for p in places)
    ]
    return None if len(met) == kernel else range(met[0], met[-1] + 1)


def _sum_places(ops: Algebra[T], x: T) -> T:
    """Sum a map (B, N, C) to (B, C); the weights behind it hold the 1 / N."""
    return ops.reshape(ops.row_sum(ops.transpose(x)), (x.shape[0], x.shape[2]))


def _sigmoid(ops: Algebra[T], x: T) -> T:
    """1 / (1 + e**-x), as SPU computes it: within 1e-3 for x > -18."""
    negative = ops.subtract(ops.subtract(x, x), x)
    return ops.reciprocal(ops.shift(ops.exp(negative), 1.0))


def _cut_windows(ops: Algebra[T], x: T, side: int, window: int) -> T:
    """Cut a map (B, N, C) into windows (G, w w, C), zeros behind its last rows."""
    if side == window:
        return x
    n_batch, _, width = x.shape
    n_along = math.ceil(side / window)
    grid = ops.reshape(x, (n_batch, side, side, width))
    for axis in (1, 2):
        grid = pad(ops, grid, axis, 0, n_along * window - side)
    rows = ops.reshape(grid, (n_batch * n_along, window, n_along, window * width))
    return ops.reshape(ops.swap(rows), (n_batch * n_along**2, window**2, width))


def _join_windows(ops: Algebra[T], x: T, side: int, window: int) -> T:
    """Undo `_cut_windows`."""
    if side == window:
        return x
    n_along, width = math.ceil(side / window), x.shape[2]
    n_batch = x.shape[0] // n_along**2
    whole = n_along * window
    rows = ops.reshape(x, (n_batch * n_along, n_along, window, window * width))
    grid = ops.reshape(ops.swap(rows), (n_batch, whole, whole, width))
    for axis in (1, 2):
        grid = ops.cut(grid, axis, 0, side)
    return ops.reshape(grid, (n_batch, side**2, width))


@functools.lru_cache(maxsize=64)
def trace_efficientvit(
    network: EfficientViT, n_batch: int = 1, *, is_grouped: bool = True
) -> tuple[Step, ...]:
    """Return the steps of a network for a batch of images."""
    ops = CountingAlgebra()
    shapes = efficientvit_shapes(network)
    weights = {name: Bare(shape) for name, shape in shapes.items()}
    pixels = Bare(pixels_shape(network, n_batch))
    efficientvit(ops, network, pixels, weights, is_grouped=is_grouped)
    return tuple(ops.steps)
