"""Every latency and accuracy that the paper's text prints, and where it stands.

Source: MPCViT, arXiv 2211.13955: abstract, Tables 2 to 5, section 5.2. Of what only its
figures show, Figure 7 is here, from the scripts that drew it.
"""

from dataclasses import dataclass
from typing import Final, Literal

from mpcprof.errors import UsageError

Dataset = Literal["CIFAR-10", "CIFAR-100", "CIFAR-10/100", "Tiny-ImageNet"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """One printed number, or two that belong together.

    Attributes:
        what: The model or variant, in the paper's words.
        accuracy_percent: Top-1; None where none is printed, or it failed.
        latency_s: Seconds; None where none are printed, or it failed.
        times_faster: How many times faster `what` is than `than`, of a ratio.
        than: What a ratio compares with.
        accuracy_gain_percent: Points by which `what` is more accurate than `than`.
        attention: Our name of a variant's attention, which every head has.
        mu: Share of an MPCViT's heads with ReLU softmax.
    """

    where: str
    dataset: Dataset
    what: str
    accuracy_percent: float | None = None
    latency_s: float | None = None
    times_faster: float | None = None
    than: str = ""
    accuracy_gain_percent: float | None = None
    attention: str = ""
    mu: float | None = None


def _variant(
    what: str, attention: str, accuracy: float | None, latency_s: float | None
) -> Published:
    return Published(
        where="Table 2",
        dataset="CIFAR-10",
        what=what,
        accuracy_percent=accuracy,
        latency_s=latency_s,
        attention=attention,
    )


TABLE_2: Final = (
    _variant("Softmax Attention", "softmax", 92.69, 6.82),
    _variant("Linformer Attention", "linformer", 90.85, 5.44),
    _variant("ReLU Attention", "", None, None),  # printed as "fail"
    _variant("ReLU6 Attention", "relu6", 90.50, 3.02),
    _variant("Sparsemax Attention", "sparsemax", 91.23, 3.23),
    _variant("XNorm Attention", "xnorm", 91.24, 13.25),
    _variant("Square Attention", "square", 91.27, 0.72),
    _variant("2Quad Attention", "2quad", 91.86, 4.22),
    _variant("ScaleAttn", "scale", 91.52, 0.66),
    _variant("RSAttn", "relu_softmax", 92.31, 5.32),
)

TABLE_3: Final = tuple(
    Published(
        where="Table 3",
        dataset="CIFAR-10",
        what=f"MPCViT, {granularity} search",
        accuracy_percent=accuracy,
        mu=mu,
    )
    for mu, accuracies in ((0.5, (93.01, 93.16, 93.21)), (0.7, (93.32, 93.13, 93.38)))
    for granularity, accuracy in zip(
        ("layer-wise", "row-wise", "head-wise"), accuracies, strict=True
    )
)

# The last two of the five rows print the same ticks; the last one is in bold.
_LOSSES: Final[tuple[tuple[str, float, float], ...]] = (
    ("CE", 93.38, 59.02),
    ("CE + logits", 94.18, 62.39),
    ("CE + feature", 94.12, 62.26),
    ("CE + logits + feature, fourth row", 94.14, 61.80),
    ("CE + logits + feature", 94.27, 63.03),
)
_DATASETS: Final[tuple[Dataset, ...]] = ("CIFAR-10", "Tiny-ImageNet")
TABLE_4: Final = tuple(
    Published(
        where="Table 4",
        dataset=dataset,
        what=f"MPCViT, {losses}",
        accuracy_percent=accuracy,
        mu=0.7,
    )
    for losses, *accuracies in _LOSSES
    for dataset, accuracy in zip(_DATASETS, accuracies, strict=True)
)

TABLE_5: Final = tuple(
    Published(
        where="Table 5",
        dataset="CIFAR-10",
        what=what,
        accuracy_percent=accuracy,
        latency_s=latency_s,
        mu=mu,
    )
    for what, mu, accuracy, latency_s in (
        ("MPCViT+, sigma 0.75", 0.3, 93.92, 43.88),
        ("MPCViT+ without ReLU, sigma 0.75", 0.3, 93.72, 41.37),
        ("MPCViT+, sigma 0.75", 0.7, 94.27, 54.56),
        ("MPCViT+ without ReLU, sigma 0.75", 0.7, 93.81, 52.11),
    )
)


def _ratio(
    where: str, mu: float | None, than: str, times: float, gain: float | None
) -> Published:
    return Published(
        where=where,
        dataset="Tiny-ImageNet",
        what="MPCViT" if mu is None else f"MPCViT, mu = {mu:g}",
        times_faster=times,
        than=than,
        accuracy_gain_percent=gain,
        mu=mu,
    )


RATIOS: Final = (
    _ratio("abstract, section 5.2", 0.1, "baseline ViT", 6.2, 1.9),
    _ratio("abstract, section 5.2", 0.3, "MPCFormer", 2.9, 1.3),
    _ratio("abstract, section 5.2", 0.1, "THE-X", 1.9, 3.6),
    _ratio("section 5.2", 0.1, "Linformer, mu = 0.7", 4.9, 0.57),
    _ratio("section 5.2", None, "softmax mixed with ScaleAttn (at least)", 1.2, None),
    Published(
        where="section 5.2",
        dataset="CIFAR-10/100",
        what="MPCViT",
        times_faster=1.4,
        than="softmax mixed with ScaleAttn (at least)",
    ),
)

PUBLISHED: Final = TABLE_2 + TABLE_3 + TABLE_4 + TABLE_5 + RATIOS
"""All numbers in the order of the paper's tables, the ratios of its text last."""

_MUS: Final = (0.1, 0.3, 0.5, 0.7)
_CIFAR_S: Final = (48.03, 52.88, 58.66, 63.56)
_TINY_S: Final = (220.69, 316.77, 621.75, 823.74)
_Line = tuple[str, tuple[float, ...], tuple[float, ...]]  # what, seconds, percent
_FIGURE_7: Final[dict[Dataset, tuple[_Line, ...]]] = {
    "CIFAR-10": (
        ("MPCViT", _CIFAR_S, (92.86, 93.01, 93.21, 93.38)),
        ("MPCViT with KD", _CIFAR_S, (93.59, 94.08, 94.22, 94.27)),
        ("softmax ViT", (112.23,), (93.97,)),
        ("softmax-ScaleAttn ViT", (91.05,), (93.85,)),
        ("ReLU softmax ViT", (71.82,), (93.52,)),
        ("ScaleAttn ViT", (44.63,), (92.23,)),
        ("MPCFormer", (66.98,), (92.93,)),
        ("MPCFormer with KD", (66.98,), (93.97,)),
        ("THE-X", (52.39,), (89.66,)),
        ("Linformer", (102.78, 109.32, 119.94), (92.32, 91.85, 92.33)),
    ),
    "CIFAR-100": (
        ("MPCViT", _CIFAR_S, (73.17, 74.51, 74.45, 75.38)),
        ("MPCViT with KD", _CIFAR_S, (76.40, 76.93, 76.92, 77.76)),
        ("softmax ViT", (112.23,), (76.34,)),
        ("softmax-ScaleAttn ViT", (91.98,), (75.42,)),
        ("ReLU softmax ViT", (72.55,), (75.27,)),
        ("ScaleAttn ViT", (45.13,), (73.57,)),
        ("MPCFormer", (67.45,), (73.98,)),
        ("MPCFormer with KD", (67.45,), (77.01,)),
        ("THE-X", (53.24,), (68.73,)),
        ("Linformer", (102.78, 109.32, 119.94), (72.64, 73.10, 73.55)),
    ),
    "Tiny-ImageNet": (
        ("MPCViT", _TINY_S, (56.75, 58.05, 58.39, 59.02)),
        ("MPCViT with KD", _TINY_S, (62.65, 63.38, 63.45, 63.03)),
        ("softmax ViT", (1370.61,), (60.71,)),
        ("softmax-ScaleAttn ViT", (997.97,), (59.94,)),
        ("ReLU softmax ViT", (1128.39,), (60.26,)),
        ("ScaleAttn ViT", (121.57,), (55.54,)),
        ("MPCFormer", (903.57,), (57.27,)),
        ("MPCFormer with KD", (903.57,), (62.11,)),
        ("THE-X", (421.98,), (52.17,)),
        ("Linformer", (522.17, 780.31, 1093.23), (56.00, 55.85, 56.18)),
    ),
}
FIGURE_7: Final = tuple(
    Published(
        where="Figure 7",
        dataset=dataset,
        what=what,
        accuracy_percent=percent,
        latency_s=latency_s,
        mu=_MUS[number] if what.startswith("MPCViT") else None,
    )
    for dataset, lines in _FIGURE_7.items()
    for what, latencies_s, percents in lines
    for number, (latency_s, percent) in enumerate(
        zip(latencies_s, percents, strict=True)
    )
)
"""Whole networks. Source: figures/pareto_*.py of github.com/PKU-SEC-Lab/mpcvit."""

_DATASETS_HERE: Final[dict[str, Dataset]] = {
    "cifar10": "CIFAR-10",
    "cifar100": "CIFAR-100",
    "tiny-imagenet": "Tiny-ImageNet",
}


def whole_networks(dataset: str) -> tuple[Published, ...]:
    """Return the paper's networks of a data set with both accuracy and seconds.

    Args:
        dataset: Our name of it, such as cifar10.

    Raises:
        UsageError: If the paper has none of that data set.
    """
    if dataset not in _DATASETS_HERE:
        raise UsageError(
            f"the paper has no network of {dataset!r}: expected "
            f"{', '.join(_DATASETS_HERE)}; leave --published out"
        )
    named = _DATASETS_HERE[dataset]
    return tuple(one for one in (*FIGURE_7, *TABLE_5) if one.dataset == named)
