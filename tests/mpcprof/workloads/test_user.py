"""Functions of the user's own: found, refused, and given a reference."""

import re
import sys

import jax
import numpy as np
import pytest

from mpcprof.dims import Dims
from mpcprof.errors import UsageError
from mpcprof.workloads.user import load_user_function

SOURCE = """
import sys
import jax
import jax.numpy as jnp
import numpy as np
from neighbour import SCALE

def scores(q, k):
    return q @ k.T * SCALE

def softmax(x):
    return {"probabilities": jax.nn.softmax(x, axis=-1)}

def single_precision(x):
    return jax.lax.mul(x, jnp.full(x.shape, 2, jnp.float32))

def pair(x):
    return x, x

def nothing(x):
    return x[:0]

def silent(x):
    return None

def complex(x):
    return x + 1j

def in_words(x):
    return {"x": x, "name": "x"}

def branches(x):
    return x if x.sum() > 0 else -x

def none_of_it(x):
    return x[:0]

not_a_function = 3
"""


@pytest.fixture
def model_file(tmp_path, monkeypatch):
    """A file of the user's, in the current directory, that imports its neighbour."""
    (tmp_path / "neighbour.py").write_text("SCALE = 0.5\n")
    (tmp_path / "user_model.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield tmp_path / "user_model.py"
    for name in ("neighbour", "user_model", "_user_user_model"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("where", ["user_model", "user_model.py", "./user_model.py"])
def test_a_module_and_a_file_give_the_same_workload(model_file, where):
    workload = load_user_function(f"{where}:scores", ((4, 8), (5, 8)))

    assert workload.kind == "function"
    assert workload.name == "user_model:scores(4x8, 5x8)"
    assert workload.input_shapes(Dims()) == ((4, 8), (5, 8))
    assert workload.domain == ((-1.0, 1.0),) * 2


def test_a_file_elsewhere_finds_its_neighbours(model_file, monkeypatch):
    monkeypatch.chdir("/")

    workload = load_user_function(f"{model_file}:scores", ((2, 3), (2, 3)))

    assert workload.name.startswith("user_model:scores")


def test_function_and_float64_reference_agree(model_file):
    workload = load_user_function("user_model.py:softmax", ((3, 4),))
    inputs = workload.make_inputs(Dims(), np.random.default_rng(0))

    reference = workload.reference(*inputs)

    assert "in float64" in workload.source
    np.testing.assert_allclose(reference.sum(-1), 1, rtol=1e-14)  # not so in float32
    np.testing.assert_allclose(workload.function(*inputs), reference, rtol=1e-5)
    assert not jax.config.jax_enable_x64


def test_a_function_bound_to_float32_has_a_float32_reference_and_says_so(model_file):
    workload = load_user_function("user_model:single_precision", ((3,),))

    reference = workload.reference(np.float32([1, 2, 3]))

    assert "in float32" in workload.source
    assert reference.dtype == np.float64
    assert reference.tolist() == [2, 4, 6]


def test_one_domain_serves_every_input_and_each_may_have_its_own(model_file):
    shapes = ((2, 3), (2, 3))

    shared = load_user_function("user_model:scores", shapes, domain=((0, 2),))
    apart = load_user_function("user_model:scores", shapes, domain=((0, 2), (3, 4)))

    assert shared.domain == ((0, 2), (0, 2))
    assert apart.domain == ((0, 2), (3, 4))


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("scores", "'scores': expected MODULE:FUNCTION or FILE.py:FUNCTION"),
        ("user_model:", "'user_model:': expected MODULE:FUNCTION"),
        ("missing.py:scores", "no file 'missing.py' in"),
        ("./neighbour.txt:scores", "no file './neighbour.txt' in"),
        ("user_modle:scores", "no module 'user_modle' in"),
        ("user_model.deeper:scores", "no module 'user_model.deeper'"),
        ("user_model:score", "no function 'score' there; did you mean scores?"),
        ("user_model:not_a_function", "is 3; expected a function"),
        ("user_model:silent", "returns no numbers at 4x8: no array"),
        ("user_model:complex", "returns complex64; expected real numbers"),
        ("user_model:in_words", "fails to trace at 4x8: TypeError"),
        (
            "user_model:nothing",
            "returns no numbers at 4x8: its result has shape (0, 8)",
        ),
        (
            "user_model:scores",
            "1 input shape(s) given, missing a required argument: 'k'",
        ),
        ("user_model:none_of_it", "returns no numbers at 4x8: its result has shape"),
        ("user_model:branches", "fails to trace at 4x8: TracerBoolConversionError"),
    ],
)
def test_what_cannot_be_used_is_named(model_file, target, message):
    with pytest.raises(UsageError, match=re.escape(message)):
        load_user_function(target, ((4, 8),))


def test_shapes_that_do_not_fit_are_named_with_what_jax_says(model_file):
    with pytest.raises(UsageError) as caught:
        load_user_function("user_model:scores", ((4, 8), (5, 7)))

    assert "fails to trace at 4x8, 5x7: TypeError: dot_general" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("where", ["broken", "broken.py"])
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def f(x) return x", "SyntaxError: expected ':'"),
        ("import no_such_package", "No module named 'no_such_package'"),
        ("raise SystemExit('bye')", "SystemExit: bye"),
    ],
)
def test_a_file_that_does_not_import_says_why(model_file, where, text, message):
    model_file.with_name("broken.py").write_text(text)

    with pytest.raises(UsageError, match=f"cannot import '{where}'.*{message}"):
        load_user_function(f"{where}:f", ((4,),))


def test_no_shapes_and_too_many_domains_are_refused(model_file):
    with pytest.raises(UsageError, match="no input shapes; give one per input"):
        load_user_function("user_model:scores", ())
    with pytest.raises(UsageError, match="2 domains for 1 inputs"):
        load_user_function("user_model:softmax", ((4,),), domain=((0, 1), (0, 1)))
