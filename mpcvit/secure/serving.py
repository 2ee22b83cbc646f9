"""The model owner's program on his own host: weights leave it in shares alone."""

from pathlib import Path

from mpcprof.engine.child import Child
from mpcprof.engine.hosts.follower import Offer, follow
from mpcprof.engine.lowering import Lowered, lower
from mpcprof.errors import EngineError, UsageError
from mpcprof.nn.architecture import Heads
from mpcprof.progress import Progress
from mpcvit.checkpoint_header import check_has_weights, read_header
from mpcvit.secure.inference import deployed_plan, with_heads
from mpcvit.secure.parties import (
    CASE,
    MODEL_OWNER,
    Conditions,
    deployed_weights,
    model_program,
)

_MOST_IMAGES = 10_000


def serve_model(
    checkpoint: Path,
    conditions: Conditions,
    progress: Progress,
    *,
    heads: Heads | None = None,
    plan: str | None = None,
    n_batch: int = 1,
    is_once: bool = False,
) -> None:
    """Take part in inferences of this network that the image owner's host begins.

    Only the program that is compiled here from the checkpoint's architecture is run.

    Args:
        conditions: With the party file of this host.
        heads: How heads run; None as in the checkpoint.
        plan: File of a plan, or `rewrites`; None for the network as it is.
        n_batch: Images of a call that `rewrites` are chosen for.
        is_once: Whether to end with the first session.

    Raises:
        UsageError: If the checkpoint, the plan or the rank does not fit.
        EngineError: If the only session fails.
    """
    parties = conditions.parties
    assert parties is not None, "it is for who has a party file"
    if parties.rank != MODEL_OWNER:
        raise UsageError(
            f"the party file is of rank {parties.rank}: rank {MODEL_OWNER} owns the "
            "weights; start others with `mpcprof party`"
        )
    check_has_weights(checkpoint)
    architecture = with_heads(read_header(checkpoint), heads).architecture
    chosen = deployed_plan(plan, architecture, n_batch, conditions, heads)

    def lower_own(compiler: Child, hint: dict[str, int]) -> Lowered:
        n_asked = hint.get("n_batch", 0)
        if n_asked not in range(1, _MOST_IMAGES + 1):
            raise EngineError(f"a batch of {n_asked!r}: expected 1 to {_MOST_IMAGES}")
        function, inputs = model_program(architecture, n_asked, chosen)
        return lower(
            function,
            inputs,
            case=CASE,
            deployment=conditions.deployment,
            compiler=compiler,
        )

    with deployed_weights(checkpoint, architecture, chosen, progress.describe) as owned:
        offer = Offer(
            deployment=conditions.deployment,
            lower=lower_own,
            owned=owned,
            about="checkpoint, --plan and --heads",
        )
        follow(parties, progress, offer=offer, is_once=is_once)
