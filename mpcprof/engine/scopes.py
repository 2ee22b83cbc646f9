"""A program in parts, by the `jax.named_scope` that its operations stand in.

SPU's profile names kinds of operations, and its compiler drops the scopes. So the
function is traced, and the operations of one scope that follow one another become a
program of their own. The parts run one after another on the values that the part before
left with the parties. What compiling the whole as one saves or costs is the difference
of its counts to those of the parts together.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import jax
import numpy as np
from jax import Array, lax
from jax._src import source_info_util
from jax.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, Var
from jax.interpreters.partial_eval import dce_jaxpr
from numpy.typing import NDArray

from mpcprof.engine.calls import Call
from mpcprof.engine.lowering import patched_jax
from mpcprof.engine.measure import Case, MeasureConfig, Timing
from mpcprof.engine.session import Session
from mpcprof.errors import EngineError
from mpcprof.network import LOOPBACK, Network

NO_SCOPE: Final = "(no scope)"
_WHOLE: Final = "whole"
_OF_EINSUM = "->"  # jnp.einsum opens a scope of this kind by itself
_CALLS = {  # primitives that stand for the program in one of their parameters
    "pjit": "jaxpr",
    "checkpoint": "jaxpr",
    "closed_call": "call_jaxpr",
    "core_call": "call_jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
    "custom_vjp_call_jaxpr": "fun_jaxpr",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ScopeProgram:
    """Operations of one scope that follow one another, as a program.

    Attributes:
        scope: Its names from the outermost one, such as "layer1/attention".
        inputs: Zeros of the kind of each input.
        input_names: Names under which the parties have these values.
        output_names: Names under which they will have the results.
    """

    scope: str
    function: Callable[..., Any]  # Any: one array or several
    inputs: tuple[NDArray[Any], ...]
    input_names: tuple[str, ...]
    output_names: tuple[str, ...]


def split_by_scope(
    function: Callable[..., Any],
    inputs: Sequence[NDArray[Any]],
    input_names: Sequence[str],
) -> tuple[ScopeProgram, ...]:
    """Return the parts of a function of secret inputs, in the order of its operations.

    What no secret enters is public and free, and is in every part that needs it. A
    `scan` with scopes in it is unrolled; other loops, and branches, stay whole.

    Raises:
        EngineError: If a value from one scope to the next is no array of numbers, or
            the function cannot be traced once more.
    """
    try:
        flat = _trace_flat(function, inputs)
    except Exception as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise EngineError(f"the function cannot be traced anew: {lines[0]}") from error
    jaxpr, _ = dce_jaxpr(flat.jaxpr, [True] * len(flat.out_avals), instantiate=True)
    return _Splitter(ClosedJaxpr(jaxpr, flat.consts), input_names).parts()


def _trace_flat(
    function: Callable[..., Any], inputs: Sequence[NDArray[Any]]
) -> ClosedJaxpr:
    with patched_jax():
        traced = jax.make_jaxpr(function)(*inputs)
        flat: ClosedJaxpr = jax.make_jaxpr(lambda *arrays: _evaluate(traced, arrays))(
            *inputs
        )
    return flat


def _evaluate(closed: ClosedJaxpr, arguments: Sequence[Any]) -> list[Any]:
    """Do what a program does, in the scopes of its operations, without inner calls."""
    variables = [*closed.jaxpr.constvars, *closed.jaxpr.invars]
    values = dict(zip(variables, [*closed.consts, *arguments], strict=True))

    def read(atom: Any) -> Any:  # Any: a variable or a literal
        return atom.val if isinstance(atom, Literal) else values[atom]

    for equation in closed.jaxpr.eqns:
        stack = source_info_util.current_name_stack() + equation.source_info.name_stack
        with (
            source_info_util.user_context(None, name_stack=stack),
            equation.ctx.manager,
        ):
            results = _bind(equation, [*map(read, equation.invars)])
        values |= dict(zip(equation.outvars, results, strict=True))
    return [*map(read, closed.jaxpr.outvars)]


def _bind(equation: JaxprEqn, arguments: list[Any]) -> list[Any]:
    primitive: Any = equation.primitive  # Any: JAX types no method of it
    params = equation.params
    if primitive.name in _CALLS:
        return _evaluate(_closed(params[_CALLS[primitive.name]]), arguments)
    if primitive.name == "scan" and _has_scopes(params["jaxpr"]):
        return _unroll(params, arguments)
    functions, others = primitive.get_bind_params(params)
    results = primitive.bind(*functions, *arguments, **others)
    return results if primitive.multiple_results else [results]


def _closed(jaxpr: ClosedJaxpr | Jaxpr) -> ClosedJaxpr:
    return jaxpr if isinstance(jaxpr, ClosedJaxpr) else ClosedJaxpr(jaxpr, ())


def _has_scopes(closed: ClosedJaxpr) -> bool:
    return any(
        _scope_of(equation) != NO_SCOPE
        or any(
            _has_scopes(_closed(inner))
            for inner in jax.tree_util.tree_leaves([*equation.params.values()])
            if isinstance(inner, ClosedJaxpr | Jaxpr)
        )
        for equation in closed.jaxpr.eqns
    )


def _unroll(params: dict[str, Any], arguments: list[Any]) -> list[Any]:
    """Do each turn of a `scan` by itself."""
    n_constants, n_carried = params["num_consts"], params["num_carry"]
    constants, rest = arguments[:n_constants], arguments[n_constants:]
    carried, stacked = rest[:n_carried], rest[n_carried:]
    turns = [*range(params["length"])]
    given = [[lax.index_in_dim(x, i, keepdims=False) for x in stacked] for i in turns]
    made: dict[int, list[Array]] = {}
    for turn in reversed(turns) if params["reverse"] else turns:
        out = _evaluate(params["jaxpr"], [*constants, *carried, *given[turn]])
        carried, made[turn] = out[:n_carried], out[n_carried:]
    columns = zip(*(made[turn] for turn in turns), strict=True)
    return [*carried, *(lax.concatenate([y[None] for y in ys], 0) for ys in columns)]


def _scope_of(equation: JaxprEqn) -> str:
    stack = equation.source_info.name_stack.stack
    scopes = [one.name for one in stack if isinstance(one, source_info_util.Scope)]
    path = "/".join(name for name in scopes if _OF_EINSUM not in name)
    is_backward = any(one.name == "transpose" for one in stack)
    return f"{path} (backward)" if path and is_backward else path or NO_SCOPE


class _Splitter:
    """Makes programs of the operations of a flat one; names the values in between."""

    def __init__(self, closed: ClosedJaxpr, input_names: Sequence[str]) -> None:
        self._jaxpr = closed.jaxpr
        self._constants = dict(zip(closed.jaxpr.constvars, closed.consts, strict=True))
        self._names = dict(zip(closed.jaxpr.invars, input_names, strict=True))
        self._prefix = input_names[0]
        self._public: dict[Var, JaxprEqn] = {}
        self._secret: list[JaxprEqn] = []
        for equation in closed.jaxpr.eqns:
            self._sort_in(equation)

    def _sort_in(self, equation: JaxprEqn) -> None:
        if any(x in self._names for x in _variables(equation.invars)):
            self._secret.append(equation)
            for x in equation.outvars:
                self._names[x] = f"{self._prefix}-{len(self._names)}"
        else:
            self._public |= dict.fromkeys(equation.outvars, equation)

    def parts(self) -> tuple[ScopeProgram, ...]:
        """Return a part for each run of operations of one scope."""
        runs = [(s, [*own]) for s, own in itertools.groupby(self._secret, _scope_of)]
        needed = {*_variables(self._jaxpr.outvars)}
        parts: list[ScopeProgram] = []
        for scope, equations in reversed(runs):
            part, read = self._part(scope, equations, needed)
            needed |= read
            parts.insert(0, part)
        return tuple(parts)

    def _part(
        self, scope: str, equations: list[JaxprEqn], needed: set[Var]
    ) -> tuple[ScopeProgram, set[Var]]:
        """Return a part that leaves what is needed later, and what it reads itself."""
        made = [x for equation in equations for x in equation.outvars]
        read = [x for equation in equations for x in _variables(equation.invars)]
        left = [x for x in made if x in needed]
        taken = [x for x in dict.fromkeys(read) if x in self._names and x not in made]
        public = self._public_for(read)
        constants = [x for x in self._constants if x in {*read, *_read_by(public)}]
        jaxpr = Jaxpr(constants, taken, left, [*public, *equations])
        closed = ClosedJaxpr(jaxpr, [self._constants[x] for x in constants])
        part = ScopeProgram(
            scope=scope,
            function=_function(closed),
            inputs=tuple(_zeros(x, scope) for x in taken),
            input_names=tuple(self._names[x] for x in taken),
            output_names=tuple(self._names[x] for x in left),
        )
        return part, {*taken}

    def _public_for(self, read: Sequence[Var]) -> list[JaxprEqn]:
        """Return the operations, in order, that make the public values among these."""
        waiting, wanted = [*read], {}
        while waiting:
            equation = self._public.get(waiting.pop())
            if equation and id(equation) not in wanted:
                wanted[id(equation)] = equation
                waiting += _variables(equation.invars)
        return [e for e in self._jaxpr.eqns if id(e) in wanted]


def _variables(atoms: Sequence[Any]) -> list[Var]:  # Any: variables and literals
    return [x for x in atoms if not isinstance(x, Literal)]


def _read_by(equations: Sequence[JaxprEqn]) -> list[Var]:
    return [x for equation in equations for x in _variables(equation.invars)]


def _function(closed: ClosedJaxpr) -> Callable[..., Any]:
    def function(*arrays: Array) -> Any:  # Any: as ScopeProgram.function
        results = jax.core.jaxpr_as_fun(closed)(*arrays)
        return results[0] if len(results) == 1 else tuple(results)

    return function


def _zeros(variable: Var, scope: str) -> NDArray[Any]:  # Any: of its own type
    aval: Any = variable.aval  # Any: the stubs know shaped arrays as less
    if not isinstance(aval.dtype, np.dtype):
        raise EngineError(f"a value of type {aval.dtype} enters scope {scope}")
    return np.broadcast_to(np.zeros((), aval.dtype), aval.shape)


def time_parts(
    session: Session, timing: Timing, config: MeasureConfig
) -> tuple[Timing, ...]:
    """Time each part of a case that was timed whole; none where it has no scope.

    On loopback each is called as often as the whole at least, after one call that is
    not timed; on an emulated network once. A timing's workload has the scope as name.

    Raises:
        EngineError: If a part does not compile or run.
    """
    case = timing.case
    rng = np.random.default_rng(config.seed)
    inputs = case.workload.make_inputs(case.dims, rng)
    parts = split_by_scope(case.workload.function, inputs, timing.lowered.input_names)
    if {part.scope for part in parts} <= {NO_SCOPE}:
        return ()
    session.set_network(LOOPBACK)
    session.load(_WHOLE, timing.lowered, inputs)
    loaded = [_Loaded(session, f"part{i}", part) for i, part in enumerate(parts)]
    for network in dict.fromkeys((LOOPBACK, *config.networks, *config.counted_on)):
        session.set_network(network)
        n_calls = 1 + config.repeats if network.is_loopback else 1
        for one in loaded * n_calls:
            one.call()
    for name in (_WHOLE, *(one.name for one in loaded)):
        session.unload(name)
    return tuple(one.finish(case) for one in loaded)


class _Loaded:
    """A part on the parties, and its calls so far by network."""

    def __init__(self, session: Session, name: str, part: ScopeProgram) -> None:
        self.name = name
        self._session = session
        self._scope = part.scope
        names = (part.input_names, part.output_names)
        self._lowered = session.lower(name, part.function, part.inputs, *names)
        self._calls: dict[Network, list[Call]] = {}
        session.load(name, self._lowered)

    def call(self) -> None:
        """Run the part once on the network that the session emulates."""
        calls = self._calls.setdefault(self._session.network, [])
        calls.append(self._session.run(self.name))

    def finish(self, case: Case) -> Timing:
        """Return its calls as those of a workload that has the scope's name."""
        workload = replace(case.workload, name=self._scope)
        first, *loopbacks = self._calls.pop(LOOPBACK)
        timed = {LOOPBACK: loopbacks, **self._calls}
        return Timing(
            case=Case(workload=workload, dims=case.dims),
            lowered=self._lowered,
            first_call=first,
            warmups=(),
            calls=tuple((network, tuple(timed[network])) for network in timed),
            max_abs_error=0.0,
        )
