"""Conformance of every function of `mpcprof.nn`, each block and networks of all parts.

In the clear: JAX = float64 reference, torch = JAX. By parties: within the stated error
of the reference, and bytes and hops as priced. A new entry of `nn` is a case by itself.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import click
import jax
import numpy as np
import pytest
import torch

from mpcprof.dims import Dims
from mpcprof.network import NETWORKS
from mpcprof.nn.architecture import Architecture, uniform_architecture
from mpcprof.nn.catalogue import BLOCKS, trace_block, trace_model
from mpcprof.nn.steps import Step
from mpcprof.nn.transformer import vit, weight_shapes
from mpcprof.workloads.models import model_workload
from mpcprof.workloads.registry import Workload, get_workload
from mpcvit.models.algebra import TorchAlgebra
from tests.architectures import CHEAP, OWN_SIZES, make_architecture
from tests.checked_call import run_checked
from tests.committed import committed_model

# in no preset; LayerNorm and GeLU keep their accuracy from such widths on
SIZES = {"n_heads": 3, "n_tokens": 9, "head_dim": 6, "width": 36, "hidden": 70}
ROUNDING = 1e-4  # of float32
STOPS_SHORT = "sparsemax"  # six Newton steps, where the reference sorts


@dataclass(frozen=True, slots=True, kw_only=True)
class Conformed:
    """A function of `nn` at one size.

    Attributes:
        twin: The function over an algebra, of the same inputs.
        steps: Steps that it is priced by.
    """

    workload: Workload
    dims: Dims
    twin: Callable[..., Any]  # Any: the algebra's own array
    steps: tuple[Step, ...]

    def inputs(self) -> list[np.ndarray]:
        return [*self.workload.make_inputs(self.dims, np.random.default_rng(0))]


def of_block(name: str) -> Conformed:
    dims = Dims(**{dim: SIZES[dim] for dim in BLOCKS[name].dim_names})
    return Conformed(
        workload=get_workload(name),
        dims=dims,
        twin=BLOCKS[name].function,
        steps=trace_block(name, dims),
    )


def of_model(architecture: Architecture, n_batch: int = 2) -> Conformed:
    names = weight_shapes(architecture)

    def twin(ops: Any, inputs: Any, *weights: Any) -> Any:
        return vit(ops, architecture, inputs, dict(zip(names, weights, strict=True)))

    return Conformed(
        workload=model_workload(architecture),
        dims=Dims(n_batch=n_batch),
        twin=twin,
        steps=trace_model(architecture, n_batch),
    )


MODELS: dict[str, Architecture] = {
    "mixed, serial": make_architecture(),
    "mixed, batched": make_architecture(heads="batched"),
    **CHEAP,
    **{
        name: uniform_architecture(
            replace(model, n_layers=1), attention="scale", activation="quad"
        )
        for name, model in OWN_SIZES.items()
    },
}
CASES = {
    **{name: of_block(name) for name in BLOCKS},
    **{f"model, {name}": of_model(own) for name, own in MODELS.items()},
}
BY_THREE = (*BLOCKS, "model, mixed, batched", "model, BERT, one-hot")
each_case = pytest.mark.parametrize("name", CASES)


@each_case
def test_numpy_jax_and_torch_agree(name):
    case = CASES[name]
    inputs = case.inputs()
    reference = case.workload.reference(*inputs)

    by_jax = np.asarray(jax.jit(case.workload.function)(*inputs))
    by_torch = case.twin(TorchAlgebra(), *map(torch.tensor, inputs)).numpy()

    assert reference.dtype == np.float64
    assert reference.shape == by_jax.shape == by_torch.shape
    np.testing.assert_allclose(by_torch, by_jax, rtol=ROUNDING, atol=ROUNDING)
    atol = case.workload.tolerance.atol if STOPS_SHORT in name else ROUNDING
    np.testing.assert_allclose(by_jax, reference, rtol=ROUNDING, atol=atol)


@pytest.mark.spu
@each_case
def test_two_parties_are_within_the_error_for_the_bytes_and_hops_priced(name, semi2k):
    predicted = committed_model().predict(CASES[name].steps, NETWORKS["wan"])

    rank_0 = run_checked(semi2k, CASES[name].workload, CASES[name].inputs()).runs[0]

    counted = rank_0.bytes_sent, rank_0.send_actions
    assert counted == (predicted.bytes_sent, predicted.hops)


@pytest.mark.spu
@pytest.mark.parametrize("name", BY_THREE)
def test_three_parties_are_within_the_error_for_the_bytes_priced(name, aby3):
    predicted = committed_model("aby3").predict(CASES[name].steps, NETWORKS["wan"])

    counted = run_checked(aby3, CASES[name].workload, CASES[name].inputs())

    assert sum(run.bytes_sent for run in counted.runs) == predicted.total_bytes_sent


def test_the_number_of_functions_is_printed(capsys):
    with capsys.disabled():
        click.echo(f"\nconformance: {len(BLOCKS)} blocks and {len(MODELS)} networks")

    assert len(CASES) == len(BLOCKS) + len(MODELS)
