"""Valid objects for tests, of which a test names only what it is about."""

from typing import Any

from mpcprof.deployment import Deployment
from mpcprof.dims import Dims
from mpcprof.network import NETWORKS
from mpcprof.profiles import Profile
from mpcprof.records import Operation, Record


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
