"""Valid objects for tests, of which a test names only what it is about."""

import math
from typing import Any

from mpcprof.deployment import Deployment
from mpcprof.dims import Dims
from mpcprof.network import NETWORKS
from mpcprof.nn.steps import LOCAL, PRIMITIVES, primitive_step
from mpcprof.profile.record import Operation, Profile, Record
from mpcvit.paper.softmax_error import KERNELS, VARIANCES, ErrorPoint, ErrorTable


def make_operation(**overrides: Any) -> Operation:
    """A pphlo exp as spu 0.9.5 prints it."""
    values: dict[str, Any] = {
        "level": "pphlo",
        "name": "exponential",
        "count": 1,
        "duration_s": 0.25,
        "bytes_sent": 1_690_000,
        "bytes_received": 1_690_000,
        "send_actions": 17,
        "recv_actions": 17,
    }
    return Operation(**(values | overrides))


def make_record(*, n_parties: int = 2, **overrides: Any) -> Record:
    """An exp of 4 x 65 x 65 on the wan, by `n_parties`."""
    values: dict[str, Any] = {
        "workload": "exp",
        "kind": "primitive",
        "dims": Dims(n_heads=4, n_tokens=65),
        "network": NETWORKS["wan"],
        "mode": "emulated",
        "emulation": "relay",
        "latencies_s": (0.41, 0.40, 0.43),
        "warmups_s": (0.9,),
        "loopbacks_s": (0.03, 0.04),
        "compute_s": 0.025,
        "hidden_s": 0.004,
        "busy_s_by_rank": (0.03,) * n_parties,
        "loopback_s_per_hop": 1e-4,
        "loopback_s_per_byte": 1e-9,
        "compile_s": 0.05,
        "first_call_s": 1.5,
        "setup_s": 0.5,
        "setup_bytes": 1234,
        "bytes_sent_by_rank": (1_690_000,) * n_parties,
        "bytes_received_by_rank": (1_690_000,) * n_parties,
        "send_actions_by_rank": (17,) * n_parties,
        "recv_actions_by_rank": (17,) * n_parties,
        "total_bytes_sent_by_repeat": (1_690_000 * n_parties,) * 3,
        "wire_bytes": 1_690_000.0,
        "carried_bytes": 3_400_000,
        "hops": 17.0,
        "hops_basis": "counted",
        "max_abs_error": 1e-4,
        "operations": (make_operation(),),
        "seed": 0,
        "host": "a 2-core machine",
        "versions": '{"spu": "0.9.5"}',
        "commit": "0123456789abcdef",
        "created_at": "2026-01-31T12:00:00+00:00",
    }
    return Record(**(values | overrides))


def make_profile(*records: Record, **overrides: Any) -> Profile:
    """A semi2k profile of `records`."""
    values: dict[str, Any] = {
        "deployment": Deployment(protocol="semi2k"),
        "records": records,
    }
    return Profile(**(values | overrides))


def make_priced_record(workload: str, dims: Dims, n_parties: int = 2) -> Record:
    """A primitive whose cost is linear in its size, so that a fit of it is exact."""
    step = primitive_step(workload, dims)
    n_entries = math.prod(step.size)
    is_silent = workload in ("sum", LOCAL)
    hops = 0 if is_silent else 10
    bytes_sent = 0 if is_silent else 80 * _n_sent(step.size)
    compute_s = 1e-3 + 1e-8 * n_entries * PRIMITIVES[workload].n_steps
    latency_s = compute_s + hops * 0.020 + bytes_sent / 44e6
    return make_record(
        n_parties=n_parties,
        workload=workload,
        dims=dims,
        latencies_s=(latency_s,),
        compute_s=compute_s,
        hidden_s=0.0,
        hops=float(hops),
        wire_bytes=float(bytes_sent),
        bytes_sent_by_rank=(bytes_sent,) * n_parties,
        total_bytes_sent_by_repeat=(n_parties * bytes_sent,),
        send_actions_by_rank=(hops,) * n_parties,
        operations=(),
    )


def _n_sent(size: tuple[int, ...]) -> int:
    """Entries sent: both factors of a product, all but one of a row, each entry."""
    if len(size) == 4:
        return size[1] * size[2] + size[2] * size[3]
    return size[0] * (size[1] - 1) if len(size) == 2 else size[0]


def make_full_profile() -> Profile:
    """Every primitive at several sizes, linear in them: enough for any model."""
    heads = [Dims(n_heads=h, n_tokens=n) for h in (1, 4) for n in (9, 65)]
    hidden = [Dims(n_tokens=n, hidden=h) for n in (17, 65) for h in (64, 512)]
    products = [
        Dims(n_tokens=n, width=w, hidden=h)
        for n in (17, 65)
        for w in (64, 256)
        for h in (32, 512)
    ]
    special = {
        **dict.fromkeys(("gelu_exact", "gelu_tanh", "sigmoid", "tanh"), hidden),
        "matmul": products,
        "rsqrt": [Dims(n_tokens=n) for n in (17, 65, 257)],
    }
    return make_profile(
        *(
            make_priced_record(name, dims)
            for name in PRIMITIVES
            for dims in special.get(name, heads)
        )
    )


def make_errors(softmax=0.1, relu=0.001, deployment="spu-0.9.5 semi2k"):
    return ErrorTable(
        deployment=deployment,
        points=tuple(
            ErrorPoint(
                kernel=kernel,
                variance=variance,
                relative_error=error * variance if kernel == "softmax" else error,
                norm_error=error,
            )
            for kernel, error in zip(KERNELS, (softmax, relu), strict=True)
            for variance in VARIANCES
        ),
    )
