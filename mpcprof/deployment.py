"""Deployments: which SPU build runs which protocol, in which ring, how configured.

A deployment is the identity of a profile.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from statistics import fmean, median
from types import MappingProxyType

from mpcprof.builds import (
    DEFAULT_BUILD,
    NOT_OPTIONS,
    Build,
    Option,
    OptionTable,
    get_build,
)
from mpcprof.errors import UnknownNameError, UsageError, did_you_mean
from mpcprof.files import convert_json, decode_json

Options = tuple[tuple[str, Option], ...]

PROTOCOLS = MappingProxyType(
    {"semi2k": 2, "cheetah": 2, "aby3": 3, "securenn": 3, "crypten": 2}
)
FRACTION_BITS = MappingProxyType({32: 8, 64: 18, 128: 26})  # SPU's own, by ring width


def _wrong_ring(field_bits: int | str) -> str:
    return f"field_bits={field_bits}: expected 32, 64 or 128"


def _check_name(what: str, name: str, known: Iterable[str]) -> None:
    names = [*known]
    if name not in names:
        raise UnknownNameError(f"no {what} {name!r}; {did_you_mean(name, names)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """Build, protocol and options of the parties: the identity of a profile.

    Options that have SPU's default value are left out, so that two deployments are
    equal exactly when SPU is configured the same.

    Attributes:
        field_bits: Ring width in bits.
        fraction_bits: Fraction bits of a fixed-point number; 0 stands for SPU's choice.
        beaver: Source of semi2k's triples; `none` for the other protocols.

    Raises:
        UnknownNameError: If a runtime, protocol, beaver type or option is not known.
        UsageError: If a value is not acceptable.
    """

    runtime: str = DEFAULT_BUILD.name
    protocol: str
    field_bits: int = 64
    fraction_bits: int = 0
    beaver: str = ""
    compiler_options: Options = ()
    runtime_options: Options = ()

    def __post_init__(self) -> None:
        build = self.build
        _check_name("protocol", self.protocol, PROTOCOLS)
        _check_name(f"{build.name} protocol", self.protocol, build.protocols)
        if self.field_bits not in FRACTION_BITS:
            raise UsageError(_wrong_ring(self.field_bits))
        self._fill_in_defaults()
        is_whole = isinstance(self.fraction_bits, int)
        if not (is_whole and 1 <= self.fraction_bits < self.field_bits // 2):
            raise UsageError(
                f"fraction_bits={self.fraction_bits}: expected 1 to "
                f"{self.field_bits // 2 - 1}, for a product has twice as many and must "
                f"fit into {self.field_bits} bits"
            )
        _check_name(f"{self.protocol} beaver", self.beaver, self._beavers)

    @property
    def build(self) -> Build:
        """The SPU release with its traits."""
        return get_build(self.runtime)

    @property
    def _beavers(self) -> tuple[str, ...]:
        return self.build.beavers if self.is_exchanged else ("none",)

    def _fill_in_defaults(self) -> None:
        build = self.build
        filled = {
            "runtime": build.name,  # which may be typed in short
            "fraction_bits": self.fraction_bits
            or build.fraction_bits
            or FRACTION_BITS[self.field_bits],
            "beaver": self.beaver or self._beavers[0],
            "compiler_options": _checked_options(
                self.compiler_options, build.compiler_options, build
            ),
            "runtime_options": _checked_options(
                self.runtime_options, build.runtime_options, build
            ),
        }
        for name, value in filled.items():
            object.__setattr__(self, name, value)

    def __str__(self) -> str:
        text = f"{self.build.title} {self.protocol} {self.field_bits}-bit ring"
        text += f", {self.fraction_bits} fraction bits, beaver {self.beaver}"
        for name, value in self.compiler_options + self.runtime_options:
            text += f", {name}={json.dumps(value).strip(chr(34))}"
        return text

    @property
    def without_drivers(self) -> "Deployment":
        """The deployment in which the same SPU runs by itself: its profiles hold."""
        spu = self.build.spu
        return replace(self, runtime=f"spu-{spu}") if spu else self

    @property
    def n_parties(self) -> int:
        """2, or 3 for aby3 and securenn."""
        return PROTOCOLS[self.protocol]

    @property
    def is_exchanged(self) -> bool:
        """Whether every message is one of a simultaneous exchange of two parties.

        The hops of a call are then the messages that a party sends.
        """
        return self.protocol in ("semi2k", "crypten")

    @property
    def is_counted_by_spu(self) -> bool:
        """Whether a party's own profile tells hops and bytes, on any network.

        If not, the wire shows them, in calls on a network with a delay.
        """
        return self.is_exchanged and self.build.counts_bytes

    @property
    def is_counted_by_messages(self) -> bool:
        """Whether messages themselves tell the hops of a call, on any network.

        Not in Cheetah: one clock a party takes transfers that run side by side for
        transfers that wait for each other.
        """
        return self.build.counts_paths and not self.keeps_stock

    @property
    def keeps_stock(self) -> bool:
        """Whether some calls make a stock that later calls use up: in Cheetah."""
        return self.protocol == "cheetah"

    def typical_call(self, values: Sequence[float]) -> float:
        """Return a typical call: the median, or the mean where some refill a stock."""
        return fmean(values) if self.keeps_stock else median(values)

    @property
    def options(self) -> str:
        """Both option sets as JSON text, one line."""
        both = {
            "compiler": dict(self.compiler_options),
            "runtime": dict(self.runtime_options),
        }
        return json.dumps(both, sort_keys=True)

    def to_json(self) -> str:
        """Return canonical JSON text, one line: equal text means equal deployments."""
        as_dict = asdict(self)
        for name in ("compiler_options", "runtime_options"):
            as_dict[name] = dict(as_dict[name])
        return json.dumps(as_dict, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "Deployment":
        """Read the deployment that `to_json` wrote.

        Raises:
            UsageError: If the text is not one.
        """
        what = f"{text[:80]!r} is not a deployment"
        values = decode_json(text, dict, what=what)
        for name in ("compiler_options", "runtime_options"):
            options = values.get(name)
            if not isinstance(options, dict):
                raise UsageError(f"{what}: {name}={options!r:.80}: expected an object")
            values[name] = [*options.items()]
        return convert_json(values, cls, what=what)

    @property
    def sweep_command(self) -> str:
        """Command that measures this deployment, but for options other than SPU's."""
        runtime = "" if self.build.is_default else f" --runtime {self.runtime}"
        return f"mpcprof sweep --protocol {self.protocol}{runtime}"

    def difference(self, other: "Deployment") -> str | None:
        """Return the first field in which `other` differs, in words; None if equal."""
        for field in fields(self):
            ours, theirs = getattr(self, field.name), getattr(other, field.name)
            if ours != theirs:
                ours, theirs = _show(ours), _show(theirs)
                return f"{field.name} is {ours} in one, {theirs} in the other"
        return None


def _show(value: object) -> str:
    return json.dumps(dict(value)) if isinstance(value, tuple) else repr(value)


def _checked_options(options: Options, table: OptionTable, build: Build) -> Options:
    """Return options sorted, without those that have SPU's default value."""
    if len(dict(options)) != len(options):
        names = ", ".join(name for name, _ in options)
        raise UsageError(f"options {names}: expected each of them once")
    for name, value in options:
        _check_known(name, build, table)
        default = table[name]
        if isinstance(default, tuple):
            _check_name(f"{name} value", str(value), default)
        elif type(value) is not type(default) or (type(value) is int and value < 0):
            wanted = "true or false" if isinstance(default, bool) else "a whole number"
            raise UsageError(f"option {name}={value!r}: expected {wanted}")
    return tuple(sorted((n, v) for n, v in options if v != _default(table[n])))


def _default(entry: Option | tuple[str, ...]) -> Option:
    return entry[0] if isinstance(entry, tuple) else entry


def _check_known(name: str, build: Build, table: OptionTable) -> None:
    if name in NOT_OPTIONS:
        raise UsageError(f"option {name} cannot be set here: {NOT_OPTIONS[name]}")
    if name not in table:
        hint = did_you_mean(name, [*table]) if table else "none of its are known here"
        raise UnknownNameError(f"{build.name} has no option {name!r}; {hint}")


def _parse_option(text: str, build: Build) -> tuple[str, Option]:
    name, equals, value = (part.strip() for part in text.partition("="))
    table = {**build.compiler_options, **build.runtime_options}
    _check_known(name, build, table)
    if not equals or not value:
        raise UsageError(f"option {text!r}: expected NAME=VALUE")
    default = table[name]
    if isinstance(default, bool) and value.lower() in ("true", "false"):
        return name, value.lower() == "true"
    if type(default) is int and value.isascii() and value.isdigit():
        return name, int(value)
    return name, value  # a name of an enum, or refused by Deployment


def make_deployment(
    protocol: str,
    *,
    runtime: str = DEFAULT_BUILD.name,
    field_bits: int | str = 64,
    fraction_bits: int | None = None,
    beaver: str = "",
    options: Iterable[str] = (),
) -> Deployment:
    """Make the deployment that a person typed.

    Args:
        field_bits: Ring width, as a number or as its text.
        fraction_bits: None, as 0, for SPU's own choice.
        beaver: Empty for SPU's own choice.
        options: Such as `fxp_exp_iters=5`.

    Raises:
        UsageError: If `Deployment` refuses it.
    """
    build = get_build(runtime)
    try:
        ring_bits = int(field_bits)
    except ValueError:
        raise UsageError(_wrong_ring(field_bits)) from None
    parsed = [_parse_option(text, build) for text in options]
    is_of_compiler = build.compiler_options.__contains__
    return Deployment(
        runtime=runtime,
        protocol=protocol,
        field_bits=ring_bits,
        fraction_bits=fraction_bits or 0,
        beaver=beaver,
        compiler_options=tuple(o for o in parsed if is_of_compiler(o[0])),
        runtime_options=tuple(o for o in parsed if not is_of_compiler(o[0])),
    )
