"""The timeline of a call that nobody made: step by step, by the formula."""

import itertools
from collections.abc import Sequence

from mpcprof.costmodel.model import CostModel
from mpcprof.network import Network
from mpcprof.nn.steps import Step
from mpcprof.pricing import Costs
from mpcprof.trace.timeline import STATES, PartySlice, Timeline, join_slices


def predict_timeline(
    model: CostModel, title: str, steps: Sequence[Step], network: Network
) -> Timeline:
    """Return the timeline of the steps; its latency is that of their prediction.

    All parties have the same seconds; bytes are those of rank 0, and what is left of
    all bytes in equal shares of the others.

    Raises:
        MissingEntryError: If the profile holds no record of an operation.
    """
    steps = tuple(model.priced(steps))
    whole = model.predict(steps, network)
    begun = PartySlice(
        state="computing", begin_s=0.0, end_s=whole.per_call_s, path=("call",)
    )
    rows: list[list[PartySlice]] = [[begun] for _ in range(model.deployment.n_parties)]
    end_s = whole.per_call_s
    for step in steps:
        costs = model.costs(step.operation, step.size)
        for rank, row in enumerate(rows):
            row += _step_slices(step, costs, network, rank, len(rows), end_s)
        end_s = rows[0][-1].end_s
    return Timeline(
        title=title, rows=tuple(join_slices(row) for row in rows), is_predicted=True
    )


def _step_slices(
    step: Step,
    costs: Costs,
    network: Network,
    rank: int,
    n_parties: int,
    begin_s: float,
) -> list[PartySlice]:
    """Return computing, sending and waiting, which add up to the step's latency."""
    n_units = step.n_products
    total_s = n_units * costs.latency_s(network)
    network_s = costs.hops * network.one_way_s
    sending_s = n_units * costs.wire_bytes / network.bandwidth_bytes_per_s
    hidden_s = max(costs.hidden_s - network_s - sending_s / n_units, 0.0)
    computing_s = min(n_units * max(costs.exposed_s + hidden_s, 0.0), total_s)
    sending_s = min(sending_s, total_s - computing_s)
    others = (costs.total_bytes_sent - costs.bytes_sent) / (n_parties - 1)
    n_bytes = n_units * (others if rank else costs.bytes_sent)
    path = (*step.part.split("/"), step.operation)
    ends = [
        *itertools.accumulate((computing_s, sending_s), initial=begin_s),
        begin_s + total_s,
    ]
    return [
        PartySlice(
            state=state,
            begin_s=begin,
            end_s=end,
            n_bytes=n_bytes if state == "sending" else 0.0,
            hops=n_units * costs.hops if state == "waiting" else 0.0,
            path=path,
        )
        for state, begin, end in zip(STATES, ends, ends[1:], strict=False)
    ]
