"""What a user's function is called with: secret arrays, wherever they stand in it.

`x=4x65`, `mask=4x4:bool`, `params.w=64x64` and `params=weights.npz` are read as people
type them; a tuple or a dict of example arguments is taken apart as JAX takes it apart.
Arrays are secret; numbers, texts and functions between them stay what they are: public.
"""

import inspect
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

import jax
import numpy as np
from numpy.typing import NDArray

from mpcprof.errors import MpcprofError, UsageError, did_you_mean
from mpcprof.nn.algebra import Interval, Shape
from mpcprof.units import parse_shape
from mpcprof.workloads.registry import INTEGERS, DType

Domain = tuple[Interval, ...] | Mapping[str, Interval]
Tree = Any  # Any: what the user's function takes, arrays within lists, dicts, objects

_NAMED = re.compile(r"([A-Za-z_]\w*(?:\.\w+)*)=(.*)", re.DOTALL)
_FILES = (".npz", ".npy", ".safetensors")
_FLOATS = (
    "float16",
    "bfloat16",
    "float32",
    "float64",
    "float",
)  # one fixed point in SPU
_DTYPES: dict[str, DType] = {
    **dict.fromkeys(_FLOATS, "float32"),
    **{name: name for name in INTEGERS},
    **{"int64": "int32", "uint64": "uint32", "int": "int32", "bool": "bool"},
}
_STATIC = (bool, int, float, complex, str, bytes, type(None))


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """One secret array.

    Attributes:
        name: What a person calls it, such as `x` or `params.w`; empty if nothing.
        dtype: What the function sees; every float is float32, every int64 an int32.
        values: What it holds; None to have values drawn.
    """

    name: str
    shape: Shape
    dtype: DType = "float32"
    values: NDArray[Any] | None = None  # Any: of `dtype`

    def __str__(self) -> str:
        text = "x".join(map(str, self.shape)) or "scalar"
        text = f"{self.name}={text}" if self.name else text
        return text if self.dtype == "float32" else f"{text}:{self.dtype}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Arguments:
    """Positional and keyword arguments; `_Slot` stands where an array goes.

    Attributes:
        inputs: The arrays, in the order in which the user named them.
    """

    inputs: tuple[Input, ...]
    positional: tuple[Tree, ...]
    keywords: Mapping[str, Tree]

    def fill(self, arrays: Sequence[Any]) -> tuple[tuple[Tree, ...], dict[str, Tree]]:
        """Return positional and keyword arguments with `arrays` in their places."""
        positional, keywords = jax.tree_util.tree_map(
            lambda leaf: arrays[leaf.index] if isinstance(leaf, _Slot) else leaf,
            (self.positional, dict(self.keywords)),
        )
        return positional, keywords

    def __str__(self) -> str:
        shown = [str(one) for one in self.inputs[:_SHOWN]]
        n_more = len(self.inputs) - len(shown)
        return ", ".join([*shown, f"{n_more} more"] if n_more else shown)


_SHOWN = 4  # inputs, in a name or a message


@dataclass(frozen=True, slots=True)
class _Slot:
    """The place of an array, with what a dataclass may check of one."""

    index: int
    shape: Shape
    dtype: np.dtype[Any]  # Any: of whatever kind

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of entries."""
        return math.prod(self.shape)


def read_arguments(
    texts: Sequence[Shape | str | Tree], function: Callable[..., Any]
) -> Arguments:
    """Return the arguments that a person types; shapes and examples are positional.

    Parts such as `params.w` make a dict, or what the function's annotation says.

    Raises:
        UsageError: If a text cannot be read, or two of them name one array.
    """
    inputs: list[Input] = []
    positional: list[Tree] = []
    keywords: dict[str, Tree] = {}
    for text in texts:
        found = _NAMED.fullmatch(text) if isinstance(text, str) else None
        name, what = (found[1], found[2]) if found else ("", text)
        tree = _take(_read(what, name), name, inputs)
        if name:
            _put(keywords, name, tree)
        else:
            positional.append(tree)
    names = parameter_names(function)[: len(positional)]
    named = {name: _with_lists(tree) for name, tree in keywords.items()}
    kinds = _annotations(function)
    return Arguments(
        inputs=tuple(inputs),
        positional=(
            *(_build(kinds.get(n), x) for n, x in zip(names, positional, strict=False)),
            *positional[len(names) :],
        ),
        keywords={name: _build(kinds.get(name), tree) for name, tree in named.items()},
    )


def take_arguments(example: Tree, function: Callable[..., Any]) -> Arguments:
    """Return arguments by example: a tuple in order, a dict by name, or one alone.

    A tuple of a tuple and a dict gives both. Arrays hold the values of the secret
    inputs; a `jax.ShapeDtypeStruct` has them drawn.

    Raises:
        UsageError: If there is something that is neither array nor number nor text.
    """
    positional: tuple[Tree, ...] = (example,)
    keywords: dict[str, Tree] = {}
    if type(example) is dict:
        positional, keywords = (), example
    elif type(example) is tuple:
        kinds = [*map(type, example)]
        positional, keywords = example if kinds == [tuple, dict] else (example, {})
    names = [*parameter_names(function), *([""] * len(positional))]
    inputs: list[Input] = []
    trees = [_take(x, name, inputs) for x, name in zip(positional, names, strict=False)]
    named = {name: _take(tree, name, inputs) for name, tree in keywords.items()}
    return Arguments(inputs=tuple(inputs), positional=tuple(trees), keywords=named)


def parameter_names(function: Callable[..., Any]) -> list[str]:
    """Return the names of a function's parameters; none if it does not say."""
    try:
        return [*inspect.signature(function).parameters]
    except (TypeError, ValueError):
        return []


def _annotations(function: Callable[..., Any]) -> dict[str, Any]:
    try:
        return get_type_hints(inspect.unwrap(function))
    except Exception:  # a partial, an instance, a name that is not there at run time
        return {}


def domains_of(
    inputs: Sequence[Input], domain: Domain, target: str
) -> tuple[Interval, ...]:
    """Return the lowest and the highest value of each input.

    Args:
        domain: One interval for all, one for each, or those of named inputs, where the
            empty name stands for all others. By default -1 to 1, integers 0 to 9.

    Raises:
        UsageError: If there is another number of them, or no input of a name.
    """
    if isinstance(domain, Mapping):
        return _named_domains(inputs, domain, target)
    if len(domain) not in (0, 1, len(inputs)):
        raise UsageError(
            f"{target!r}: {len(domain)} domains for {len(inputs)} inputs; "
            "expected one for all, or one for each"
        )
    each = domain if len(domain) == len(inputs) else (domain or (None,)) * len(inputs)
    return tuple(_domain(one, wanted) for one, wanted in zip(inputs, each, strict=True))


def _named_domains(
    inputs: Sequence[Input], domain: Mapping[str, Interval], target: str
) -> tuple[Interval, ...]:
    chosen: dict[int, Interval] = {}
    for name, interval in domain.items():
        own = [i for i, x in enumerate(inputs) if f"{x.name}.".startswith(f"{name}.")]
        if name and not own:
            known = [one.name for one in inputs if one.name]
            hint = did_you_mean(name, known) if known else "no --input has a name"
            raise UsageError(f"{target!r}: a domain of {name!r}; {hint}")
        chosen |= dict.fromkeys(own, interval)
    rest = domain.get("")
    return tuple(_domain(x, chosen.get(i, rest)) for i, x in enumerate(inputs))


def _domain(one: Input, wanted: Interval | None) -> Interval:
    if one.values is not None:
        low, high = float(np.min(one.values)), float(np.max(one.values))
        return low, high if low < high else low + 1
    if one.dtype == "bool":
        return 0.0, 1.0
    if one.dtype == "float32":
        return wanted or (-1.0, 1.0)
    low, high = wanted or (0.0, 9.0)
    limits = np.iinfo(one.dtype)
    if not limits.min <= math.ceil(low) <= math.floor(high) <= limits.max:
        raise UsageError(
            f"input {one}: domain {low:g},{high:g} is not one of {one.dtype}; expected "
            f"whole numbers from {limits.min} to {limits.max}"
        )
    return low, high


def _read(what: Shape | str | Tree, name: str) -> Tree:
    """Return an `Input` to be drawn, what is in a file, or an example as it is."""
    if isinstance(what, tuple | list) and {*map(type, what)} <= {int}:
        if min(what, default=1) < 1:
            raise UsageError(f"shape {what}: expected whole numbers of at least 1")
        return Input(name=name, shape=tuple(what))
    if not isinstance(what, str):
        return what
    if what.endswith(_FILES):
        return _read_file(Path(what).expanduser())
    sizes, _, dtype = what.partition(":")
    if not (sizes == "scalar" or sizes[:1].isdigit()):
        raise UsageError(
            f"input {what!r}: expected a shape such as 4x65x65, 8:int32 or scalar, or "
            f"a file that ends in {', '.join(_FILES)}"
        )
    if dtype and dtype not in _DTYPES:
        raise UsageError(
            f"{what!r}: no type {dtype!r}; {did_you_mean(dtype, [*_DTYPES])}"
        )
    shape = () if sizes == "scalar" else parse_shape(sizes)
    return Input(name=name, shape=shape, dtype=_DTYPES[dtype or "float32"])


def _read_file(path: Path) -> Tree:
    """Return the array of a .npy, or nested dicts of a .npz or .safetensors."""
    try:
        if path.suffix == ".safetensors":
            from safetensors.numpy import load_file

            arrays = load_file(path)
        else:
            loaded = np.load(path, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return loaded
            with loaded:
                arrays = {name: loaded[name] for name in loaded.files}
    except Exception as error:  # one of a dozen, and safetensors' own has no base
        reason = getattr(error, "strerror", None) or str(error).partition("\n")[0]
        raise UsageError(f"cannot read {str(path)!r}: {reason}") from error
    tree: dict[str, Tree] = {}
    for name, array in arrays.items():
        _put(tree, name.replace("/", "."), array)
    return _with_lists(tree)


def _put(tree: dict[str, Tree], name: str, leaf: Tree) -> None:
    """Put a leaf into nested dicts, by its dotted name."""
    *path, last = name.split(".")
    for step in path:
        tree = tree.setdefault(step, {})
        if not isinstance(tree, dict):
            raise UsageError(f"input {name}: {step} is given as an array already")
    if last in tree:
        raise UsageError(f"input {name} is given twice")
    tree[last] = leaf


def _with_lists(tree: Tree) -> Tree:
    """Return nested dicts with a list for each dict of the keys 0, 1, 2 ..."""
    if not isinstance(tree, dict):
        return tree
    inner = {name: _with_lists(value) for name, value in tree.items()}
    if inner and {*inner} == {str(i) for i in range(len(inner))}:
        return [inner[str(i)] for i in range(len(inner))]
    return inner


def _build(kind: Any, tree: Tree) -> Tree:  # Any: an annotation of the user's
    """Return a dict as the dataclass or named tuple that a parameter is said to be."""
    is_record = inspect.isclass(kind) and (
        is_dataclass(kind) or hasattr(kind, "_fields")
    )
    if not (is_record and isinstance(tree, dict)):
        return tree
    try:
        hints = get_type_hints(kind)
        made = kind(**{name: _build(hints.get(name), tree[name]) for name in tree})
    except Exception as error:
        raise UsageError(
            f"cannot make a {kind.__name__} of {', '.join(tree)}: {error}"
        ) from error
    return register_dataclasses(made)


def _take(tree: Tree, name: str, inputs: list[Input]) -> Tree:
    """Return a tree with slots for its arrays, which go to `inputs`."""

    def take(path: Any, leaf: Any) -> Any:  # Any: JAX's keys, the user's values
        own = ".".join(filter(None, (name, *map(step_name, path))))
        if isinstance(leaf, _ARRAYS):
            inputs.append(_make_input(leaf, own))
            added = inputs[-1]
            return _Slot(len(inputs) - 1, added.shape, np.dtype(added.dtype))
        if isinstance(leaf, _STATIC) or callable(leaf):
            return leaf
        raise UsageError(
            f"input {own or 'without a name'} is a {type(leaf).__name__}; expected "
            "arrays, and numbers or texts, which are public"
        )

    try:
        return jax.tree_util.tree_map_with_path(take, register_dataclasses(tree))
    except MpcprofError:
        raise
    except Exception as error:  # of a dataclass that checks more than shapes
        raise UsageError(
            f"input {name or 'without a name'} cannot be made of shapes alone: {error}"
        ) from error


def step_name(key: Any) -> str:  # Any: one of four classes of JAX
    """Return a step of a path in a tree, as a person names it."""
    for attribute in ("key", "name", "idx"):
        if hasattr(key, attribute):
            return str(getattr(key, attribute))
    return str(key)


def _make_input(leaf: Any, name: str) -> Input:  # Any: one of _ARRAYS
    if isinstance(leaf, Input):
        return leaf
    said = f"input {name or 'without a name'}"
    dtype = _DTYPES.get(str(leaf.dtype))
    if dtype is None:
        raise UsageError(
            f"{said} holds {leaf.dtype}; expected floats, integers or truth values"
        )
    if not math.prod(leaf.shape):
        raise UsageError(f"{said} has shape {leaf.shape}: it holds no numbers")
    if isinstance(leaf, jax.ShapeDtypeStruct):
        return Input(name=name, shape=leaf.shape, dtype=dtype)
    given = np.asarray(leaf)
    with np.errstate(over="ignore"):  # refused below
        values = given.astype(dtype)
    if dtype == "float32" and not np.all(np.isfinite(values)):
        raise UsageError(
            f"{said} holds nan, infinity or a number beyond 3.4e38, which no fixed "
            "point has"
        )
    if dtype != "float32" and not np.array_equal(values, given):
        raise UsageError(
            f"{said} holds {given.dtype} beyond {dtype}, the widest of JAX"
        )
    return Input(name=name, shape=given.shape, dtype=dtype, values=values)


def register_dataclasses(tree: Tree) -> Tree:
    """Return a tree after telling JAX what is in its plain dataclasses."""
    while unknown := [*filter(_is_unknown, jax.tree_util.tree_leaves(tree))]:
        for kind in {*map(type, unknown)}:
            _register(kind)
    return tree


def _is_unknown(leaf: object) -> bool:
    if callable(leaf) or isinstance(leaf, (*_ARRAYS, _Slot)):
        return False  # a class, a layer of flax
    return is_dataclass(leaf)


def _register(kind: Any) -> None:  # Any: a dataclass of the user's
    names = [field.name for field in fields(kind) if field.init]
    jax.tree_util.register_dataclass(kind, data_fields=names, meta_fields=[])


_ARRAYS = (Input, jax.ShapeDtypeStruct, np.ndarray, np.generic, jax.Array)
