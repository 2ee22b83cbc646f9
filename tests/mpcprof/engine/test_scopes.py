"""A function taken apart by `jax.named_scope`: what the parts compute and send."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from mpcprof.dims import Dims
from mpcprof.engine.measure import Case, MeasureConfig, measure
from mpcprof.engine.scopes import NO_SCOPE, split_by_scope, time_parts
from mpcprof.errors import EngineError
from mpcprof.network import LOOPBACK
from mpcprof.workloads.user import make_user_workload

X = np.linspace(-1, 1, 32, dtype=np.float32).reshape(4, 8)
W = np.linspace(-1, 1, 64, dtype=np.float32).reshape(8, 8)


def scope(name):
    return jax.named_scope(name)


def mlp(x, w1, w2):
    for i, w in enumerate((w1, w2)):
        with scope(f"layer{i}"):
            with scope("linear"):
                x = x @ w
            with scope("relu"):
                x = jax.nn.relu(x)  # one jitted function, in two scopes
    with scope("head"):
        return jax.nn.softmax(x, axis=-1)


def repeated(x):
    for _ in range(3):
        with scope("square"):
            x = x * x
        x = x + np.arange(8, dtype=np.float32)
    return x


@jax.jit
def block(x):
    with scope("inner"):
        return jnp.tanh(x)


def called(x):
    with scope("first"):
        y = block(x)
    with scope("second"):
        return block(y), jax.checkpoint(block)(x), jax.vmap(jax.nn.gelu)(x)


def scanned(x, w):
    def turn(carried, row):
        with scope("turn"):
            carried = jnp.tanh(carried @ w) + row
        return carried, carried.sum()

    with scope("loop"):
        return lax.scan(turn, x, x, reverse=True)


def whole_loop(x):
    with scope("loop"):
        y = lax.fori_loop(0, 3, lambda _, y: y * y, x)
    return y > 0, x


def learning(x, w):
    def loss(w):
        with scope("dense"):
            return jnp.sum((x @ w) ** 2)

    return jax.grad(loss)(w)


def einsum(x, w):
    return jnp.einsum("ij,jk->ik", x, w) + 1


FUNCTIONS = {
    mlp: ((X, W, W), "layer0/linear, layer0/relu, layer1/linear, layer1/relu, head"),
    repeated: ((X,), ", ".join(["square", NO_SCOPE] * 3)),
    called: ((X,), "first/inner, second/inner, second"),
    scanned: ((X[:, 0], W[:4, :4]), ", ".join(["loop", *["loop/turn", "loop"] * 4])),
    whole_loop: ((X,), f"loop, {NO_SCOPE}"),
    learning: ((X, W), "dense, dense (backward)"),
    einsum: ((X, W), NO_SCOPE),
}


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)
def test_the_parts_one_after_another_are_the_function(function):
    inputs, scopes = FUNCTIONS[function]
    names = [f"in{i}" for i in range(len(inputs))]
    values = dict(zip(names, inputs, strict=True))

    parts = split_by_scope(function, inputs, names)
    for part in parts:
        results = part.function(*(values[name] for name in part.input_names))
        results = results if isinstance(results, tuple) else (results,)
        values |= dict(zip(part.output_names, results, strict=True))

    assert [part.scope for part in parts] == scopes.split(", ")
    found = [np.asarray(value) for value in values.values()]
    for wanted in jax.tree_util.tree_leaves(function(*inputs)):
        assert any(
            x.shape == wanted.shape and np.allclose(x, wanted, atol=1e-5) for x in found
        )


def test_a_value_that_is_no_number_does_not_pass_between_scopes():
    def random(x):
        with scope("key"):
            key = jax.random.key(x[0].astype(int))
        with scope("draw"):
            return jax.random.uniform(key, (4,))

    with pytest.raises(EngineError, match=r"type key<fry> enters scope draw"):
        split_by_scope(random, (X[0],), ("x",))


def test_a_function_that_cannot_be_traced_once_more_is_one_line():
    answers = iter(())

    with pytest.raises(EngineError, match=r"cannot be traced anew: StopIteration"):
        split_by_scope(lambda x: next(answers), (X,), ("x",))


def divided_twice(x):
    with scope("first"):
        x = x / (2 + x)
    with scope("second"):
        return x / (3 + x * x)


@pytest.mark.spu
@pytest.mark.parametrize(
    ("function", "inputs", "more"),
    [(mlp, (X, W, W), (0, 0)), (divided_twice, (X,), (640, 2))],
)
def test_parts_and_rest_are_the_whole_byte_for_byte(semi2k, function, inputs, more):
    workload = make_user_workload(function, [x.shape for x in inputs], name="own")
    config = MeasureConfig(networks=(LOOPBACK,), repeats=1, warmups=0)

    (whole,), _ = measure(semi2k, [Case(workload=workload, dims=Dims())], config)
    parts = time_parts(semi2k, whole, config)

    own = [part.on(LOOPBACK)[0].runs[0] for part in parts]
    all_in_one = whole.on(LOOPBACK)[0].runs[0]
    left = (
        all_in_one.bytes_sent - sum(run.bytes_sent for run in own),
        all_in_one.send_actions - sum(run.send_actions for run in own),
    )
    assert left == more
