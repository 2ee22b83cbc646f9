"""SPU's options as choices of a deployment: what each changes, measured, and its risk.

`docs/spu-options.md` shows the table; `benchmarks/spu_options.py` measures it anew.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from mpcprof.deployment import Deployment, make_deployment
from mpcprof.dims import Dims
from mpcprof.errors import UsageError, look_up

_LOCAL_TRUNCATION: Final = ("trunc_allow_msb_error", True)
_BYTES_PER_TRUNCATION: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """What one workload costs in semi2k, and its largest error on its domain."""

    hops: int
    bytes_sent: int
    max_error: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SpuOption:
    """One way to configure SPU, beside its defaults.

    Attributes:
        settings: What `--option` takes, such as "fxp_exp_iters=6".
        field_bits: Ring width in bits that it needs or sets.
        fraction_bits: Fraction bits; 0 for SPU's choice.
        changes: What it does.
        risk: What may go wrong with it; empty if nothing beyond the error.
        label: Its name in tables, where the settings are too many for one.
    """

    settings: tuple[str, ...] = ()
    field_bits: int = 64
    fraction_bits: int = 0
    changes: str
    risk: str = ""
    label: str = ""

    def __str__(self) -> str:
        if self.label:
            return self.label
        ring = "128-bit ring" if self.field_bits == 128 else ""
        bits = f"{self.fraction_bits} fraction bits" if self.fraction_bits else ""
        return ", ".join(filter(None, (ring, bits, *self.settings))) or "defaults"

    @property
    def effects(self) -> Mapping[str, Effect]:
        """Measured effect by workload, at the sizes of `MEASURED_AT`."""
        _, _, rest = _MEASURED.partition(f"\n{self}\n")
        cells = (cell.split() for cell in rest.split(";"))
        return {
            name: Effect(
                hops=int(hops), bytes_sent=int(n_bytes), max_error=float(error)
            )
            for name, (hops, n_bytes, error, *_) in zip(
                MEASURED_AT, cells, strict=False
            )
        }

    def deployment(self, protocol: str = "semi2k") -> Deployment:
        """Return the deployment that has this option and no other."""
        return make_deployment(
            protocol,
            field_bits=self.field_bits,
            fraction_bits=self.fraction_bits,
            options=self.settings,
        )


def failure_probability(deployment: Deployment, magnitude: float) -> float:
    """Return the probability that a truncation to a value of this size goes wrong.

    |x| 2**(2 f - k) for k bits of the ring and f of the fraction: of the shares of
    X = x 2**(2 f), r and X - r, each is shifted by itself, which is off by 2**(k - f)
    where one of the two, but not their sum, passes the end of the ring: for X of the
    2**k choices of r. 0 without `trunc_allow_msb_error`, and in other protocols than
    semi2k, where the option changes nothing.

    >>> deployment = make_deployment("semi2k", options=["trunc_allow_msb_error=true"])
    >>> failure_probability(deployment, 1.0) == 2.0**-28
    True

    Source: counted over 262,144 products each; Theorem 1 of SecureML, eprint 2017/396.

    Raises:
        UsageError: If the size is not 0 or more.
    """
    if not magnitude >= 0:
        raise UsageError(f"magnitude={magnitude}: expected a size, 0 or more")
    if not truncates_locally(deployment):
        return 0.0
    return min(magnitude / failure_size(deployment), 1.0)


def expected_failures(
    deployment: Deployment, mean_magnitude: float, n_truncations: float
) -> float:
    """Return how many truncated entries of one inference come out wrong on average.

    Each is off by `failure_size`, which ruins whatever follows from it.

    Args:
        mean_magnitude: Mean size of an entry after its truncation.
        n_truncations: Entries truncated; see `truncated_entries`.

    Raises:
        UsageError: If a number is not 0 or more.
    """
    if not n_truncations >= 0:
        raise UsageError(f"n_truncations={n_truncations}: expected 0 or more")
    return n_truncations * failure_probability(deployment, mean_magnitude)


def failure_size(deployment: Deployment) -> float:
    """Return by how much an entry is off that comes out wrong: 2**(k - 2 f)."""
    return 2.0 ** (deployment.field_bits - 2 * deployment.fraction_bits)


def truncates_locally(deployment: Deployment) -> bool:
    """Tell whether truncations of this deployment may fail."""
    is_allowed = _LOCAL_TRUNCATION in deployment.runtime_options
    return is_allowed and deployment.protocol == "semi2k"


def truncated_entries(saved_bytes: int) -> int:
    """Return how many entries a program truncates, by what the option saves a rank.

    SPU's usual truncation sends 4 bytes an entry and rank, in either ring; local
    truncation none. In semi2k that is all in which their bytes differ.
    """
    return saved_bytes // _BYTES_PER_TRUNCATION


def get_option(name: str) -> SpuOption:
    """Return the entry that prints as `name`.

    Raises:
        UnknownNameError: If there is none.
    """
    return look_up("SPU option", name, {str(one): one for one in SPU_OPTIONS})


MEASURED_AT: Final[Mapping[str, Dims]] = MappingProxyType(
    {
        "exp": Dims(n_heads=4, n_tokens=65),
        "reciprocal": Dims(n_heads=4, n_tokens=65),
        "rsqrt": Dims(n_tokens=260),
        "gelu_tanh": Dims(n_tokens=65, hidden=256),
        "softmax": Dims(n_heads=4, n_tokens=65),
        "attn.softmax": Dims(n_heads=4, n_tokens=65, head_dim=16),
        "layernorm": Dims(n_tokens=65, width=256),
        "matmul": Dims(n_tokens=65, width=64, hidden=64),
    }
)
_PRIME: Final = (
    "fxp_exp_mode=EXP_PRIME",
    "experimental_enable_exp_prime=true",
    "experimental_exp_prime_offset=13",
)
_FAILS: Final = (
    "an entry x comes out wrong by 2^(k - 2 f) with probability |x| 2^(2 f - k), for k "
    "bits of the ring, f of the fraction; see expected_failures"
)
SPU_OPTIONS: Final = (
    SpuOption(changes="SPU's defaults"),
    SpuOption(
        settings=("enable_optimize_denominator_with_broadcast=true",),
        changes="a row's divisor is inverted once, not once for each entry",
    ),
    *(
        SpuOption(
            settings=(f"fxp_div_goldschmidt_iters={n}",),
            changes=f"iterations of a division: {n} instead of 2",
        )
        for n in (1, 3, 4)
    ),
    *(
        SpuOption(
            settings=(f"fxp_exp_iters={n}",),
            changes=f"exp by (1 + x / 2^{n})^(2^{n}), {n} squarings instead of 8",
            risk=f"below {-(2**n)} it grows again, beyond 1 from {-(2 ** (n + 1))} on; "
            "with 8 from -512 on",
        )
        for n in (4, 5, 6, 7)
    ),
    SpuOption(
        settings=("fxp_exp_mode=EXP_PADE",),
        changes="exp as 2^(whole part) times a Pade quotient of the rest",
    ),
    SpuOption(
        settings=("enable_lower_accuracy_rsqrt=true",),
        changes="rsqrt by a polynomial of lower degree",
    ),
    *(
        SpuOption(
            fraction_bits=bits,
            changes=f"{bits} fraction bits instead of 18",
            risk=f"products beyond 2^{62 - 2 * bits} are wrong; with 18 beyond 2^26",
        )
        for bits in (12, 14, 16, 20, 22)
    ),
    SpuOption(
        field_bits=128, changes="128-bit ring, 26 fraction bits: twice the bytes"
    ),
    SpuOption(
        label="128-bit ring, EXP_PRIME",
        settings=_PRIME,
        field_bits=128,
        changes="exp by each party on its own share; semi2k of two parties only",
    ),
    SpuOption(
        label="128-bit ring, EXP_PRIME without its clamp",
        settings=(*_PRIME, "experimental_exp_prime_disable_lower_bound=true"),
        field_bits=128,
        changes="the same without its clamp",
        risk="garbage without an error where an input is below about -12",
    ),
    *(
        SpuOption(
            settings=("trunc_allow_msb_error=true", *more),
            field_bits=field_bits,
            fraction_bits=bits,
            changes="each party truncates its own share, without a message",
            risk=_FAILS,
        )
        for field_bits, bits, more in (
            (64, 0, ()),
            (64, 14, ()),
            (128, 0, ()),
            (64, 0, ("enable_optimize_denominator_with_broadcast=true",)),
        )
    ),
)
# By entry, workload by workload: hops, bytes of rank 0, largest error on the domain.
# The output of benchmarks/spu_options.py --module
_MEASURED: Final = """
defaults
    17 1690000 0.0013; 36 8534500 4.1e-05; 26 111540 0.00018; 45 6589440 0.0056;
    119 11779300 0.0013; 128 3693300 0.0022; 34 1026805 0.00039; 2 82688 3.8e-06
enable_optimize_denominator_with_broadcast=true
    17 1690000 0.0013; 36 8534500 4.4e-05; 26 111540 0.00056; 45 6589440 0.0056;
    119 3376100 0.0011; 128 3693300 0.0021; 34 1026805 0.00038; 2 82688 3.8e-06
fxp_div_goldschmidt_iters=1
    17 1690000 0.0013; 32 7993700 0.0068; 26 111540 0.00056; 45 6589440 0.0056;
    115 11238500 0.00095; 124 3684980 0.0022; 34 1026805 0.00041; 2 82688 3.8e-06
fxp_div_goldschmidt_iters=3
    17 1690000 0.0013; 40 9075300 8.8e-06; 26 111540 0.00025; 45 6589440 0.0056;
    123 12320100 0.0012; 132 3701620 0.0022; 34 1026805 0.0004; 2 82688 3.8e-06
fxp_div_goldschmidt_iters=4
    17 1690000 0.0013; 44 9616100 7.6e-06; 26 111540 0.00018; 45 6589440 0.0056;
    127 12860900 0.0011; 136 3709940 0.0022; 34 1026805 0.0004; 2 82688 3.8e-06
fxp_exp_iters=4
    9 878800 0.017; 36 8534500 4.1e-05; 26 111540 9.8e-05; 45 6589440 0.0056;
    111 10968100 0.019; 120 2882100 0.041; 34 1026805 0.00038; 2 82688 3.8e-06
fxp_exp_iters=5
    11 1081600 0.0086; 36 8534500 4.1e-05; 26 111540 0.00017; 45 6589440 0.0056;
    113 11170900 0.0091; 122 3084900 0.019; 34 1026805 0.00047; 2 82688 3.8e-06
fxp_exp_iters=6
    13 1284400 0.0043; 36 8534500 5.2e-05; 26 111540 0.00036; 45 6589440 0.0056;
    115 11373700 0.0045; 124 3287700 0.009; 34 1026805 0.00044; 2 82688 3.8e-06
fxp_exp_iters=7
    15 1487200 0.0022; 36 8534500 4.4e-05; 26 111540 0.00013; 45 6589440 0.0056;
    117 11576500 0.0023; 126 3490500 0.0044; 34 1026805 0.00047; 2 82688 3.8e-06
fxp_exp_mode=EXP_PADE
    46 9345700 9e-05; 36 8534500 4.1e-05; 26 111540 0.00019; 45 6589440 0.0056;
    148 19435000 1.3e-05; 157 11349000 4.3e-05; 34 1026805 0.00048; 2 82688 3.8e-06
enable_lower_accuracy_rsqrt=true
    17 1690000 0.0012; 36 8534500 4.4e-05; 24 101140 0.0093; 45 6589440 0.0056;
    119 11779300 0.0011; 128 3693300 0.0022; 32 1024205 0.013; 2 82688 3.8e-06
12 fraction bits
    17 1690000 0.057; 36 8466900 0.00073; 26 109980 0.023; 45 6589440 0.0064;
    119 11711700 0.0086; 128 3692260 0.0096; 34 1026415 0.016; 2 82688 0.00024
14 fraction bits
    17 1690000 0.014; 36 8466900 0.00013; 26 109980 0.0014; 45 6589440 0.0058;
    119 11711700 0.0025; 128 3692260 0.0029; 34 1026415 0.0056; 2 82688 6e-05
16 fraction bits
    17 1690000 0.0035; 36 8466900 5.6e-05; 26 109980 0.00087; 45 6589440 0.0057;
    119 11711700 0.0014; 128 3692260 0.0022; 34 1026415 0.0012; 2 82688 1.5e-05
20 fraction bits
    17 1690000 0.0011; 36 8534500 4.5e-05; 26 111540 0.00023; 45 6589440 0.0056;
    119 11779300 0.0011; 128 3693300 0.0022; 34 1026805 0.00024; 2 82688 8.9e-07
22 fraction bits
    17 1690000 0.0011; 36 8534500 4.6e-05; 26 111540 0.00021; 45 6589440 0.0056;
    119 11779300 0.0011; 128 3693300 0.0022; 34 1026805 0.00018; 2 82688 4.8e-07
128-bit ring
    17 2771600 0.0011; 39 17998500 4.6e-05; 28 238420 0.00019; 47 11781120 0.0056;
    130 23676900 0.0011; 138 6490900 0.0022; 36 1857245 0.00018; 2 148736 4.8e-07
128-bit ring, EXP_PRIME
    11 2839200 1.1e-07; 39 17998500 4.6e-05; 28 238420 0.00019; 47 11781120 0.0056;
    124 23744500 5.5e-06; 132 6558500 1.2e-05; 36 1857245 0.00018; 2 148736 4.8e-07
128-bit ring, EXP_PRIME without its clamp
    2 540800 1.1e-07; 39 17998500 4.6e-05; 28 238420 0.00019; 47 11781120 0.0056;
    115 21446100 5.5e-06; 123 4260100 1.2e-05; 36 1857245 0.00018; 2 148736 4.8e-07
trunc_allow_msb_error=true
    8 1081600 0.0027; 30 8128900 6e-05; 21 105300 0.00014; 28 5457920 0.0056;
    103 10697700 0.0012; 103 2910180 0.0022; 24 825045 0.00043; 1 66048 7.6e-06
14 fraction bits, trunc_allow_msb_error=true
    8 1081600 0.043; 30 8061300 0.00022; 21 103740 0.0033; 28 5457920 0.0058;
    103 10630100 0.0027; 103 2909140 0.0034; 24 824655 0.007; 1 66048 0.00012
128-bit ring, trunc_allow_msb_error=true
    8 2163200 0.0011; 33 17592900 4.6e-05; 23 232180 0.00019; 30 10649600 0.0056;
    114 22595300 0.0011; 113 5707780 0.0022; 26 1655485 0.00018; 1 132096 4.8e-07
trunc_allow_msb_error=true, enable_optimize_denominator_with_broadcast=true
    8 1081600 0.0027; 30 8128900 5.2e-05; 21 105300 0.00018; 28 5457920 0.0056;
    103 2693860 0.0012; 103 2910180 0.0022; 24 825045 0.0004; 1 66048 7.6e-06
"""
