"""The colour, marker and line of each workload, the same in every figure."""

import zlib
from dataclasses import dataclass
from types import MappingProxyType

# Okabe and Ito's colours, told apart by colour-blind readers; their yellow is left out,
# for it is too pale for a line on white.
COLORS = MappingProxyType(
    {
        "black": "#000000",
        "orange": "#E69F00",
        "sky": "#56B4E9",
        "green": "#009E73",
        "blue": "#0072B2",
        "vermilion": "#D55E00",
        "purple": "#CC79A7",
    }
)
# A softmax as a whole, beside its own exp, max and reciprocal: Tol's wine, which is
# darker than all of the above but black.
_WINE = "#882255"
# one colour per family; members differ in marker and line
_STYLES = {
    "exp": ("vermilion", "o", "-"),
    "sigmoid": ("vermilion", "s", "--"),
    "max": ("blue", "o", "-"),
    "less": ("blue", "s", "--"),
    "select": ("blue", "^", ":"),
    "reciprocal": ("green", "o", "-"),
    "rsqrt": ("green", "s", "--"),
    "relu": ("orange", "o", "-"),
    "tanh": ("orange", "s", "--"),
    "gelu_exact": ("purple", "o", "-"),
    "gelu_tanh": ("purple", "s", "--"),
    "square": ("sky", "o", "-"),
    "mul": ("sky", "s", "--"),
    "matmul": ("black", "o", "-"),
    "truncation": ("black", "s", "--"),
    "sum": ("black", "^", ":"),
}
# groups of operations, drawn as the workload that they are mostly made of
_GROUPS = {
    "ReLU": "relu",
    "GeLU": "gelu_tanh",
    "MatMul": "matmul",
    "LayerNorm": "square",
}
_GRAYS = {"other": "0.75", "rest of softmax": "0.55", "MPCViT": "0.35"}
_OTHER_MARKERS = ("D", "v", "P")  # of names that are not in the table


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """How a workload is drawn, in every figure."""

    color: str
    marker: str
    linestyle: str


def workload_style(name: str) -> Style:
    """Return the style of a workload; unknown names get one from a checksum."""
    if name in _STYLES:
        color, marker, linestyle = _STYLES[name]
        return Style(color=COLORS[color], marker=marker, linestyle=linestyle)
    number = zlib.crc32(name.encode())
    return Style(
        color=[*COLORS.values()][number % len(COLORS)],
        marker=_OTHER_MARKERS[number // len(COLORS) % len(_OTHER_MARKERS)],
        linestyle="-.",
    )


def group_style(name: str) -> Style:
    """Return the style of a group of operations, or of a model named after one."""
    if name in _GRAYS:
        return Style(color=_GRAYS[name], marker="D", linestyle="-.")
    if name == "softmax":
        return Style(color=_WINE, marker="o", linestyle="-")
    if name == "ReLU softmax":
        return Style(color=workload_style("relu").color, marker="s", linestyle="--")
    return workload_style(_GROUPS.get(name, name))
