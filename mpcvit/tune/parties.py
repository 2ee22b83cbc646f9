"""The tuned network on real parties, against its emulation."""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from mpcprof.nn.plan import Plan
from mpcprof.progress import Progress
from mpcvit.checkpoint_header import CheckpointHeader
from mpcvit.secure.image_owner import write_patches
from mpcvit.secure.inference import call_cost, join_logits
from mpcvit.secure.parties import Conditions, open_parties
from mpcvit.tune.config import TuneConfig
from mpcvit.tune.result import PartiesOutcome


def classify_by_parties(
    config: TuneConfig,
    header: CheckpointHeader,
    plan: Plan,
    images: Tensor,
    emulated: NDArray[np.float64],
    progress: Progress,
) -> PartiesOutcome:
    """Classify images by real parties, in calls of the batch that was priced.

    Args:
        emulated: Logits of these images on the emulated ring.

    Raises:
        EngineError: If a party fails.
    """
    assert plan.deployment is not None
    conditions = Conditions(
        deployment=plan.deployment, network=config.network, emulation=config.emulation
    )
    with (
        TemporaryDirectory(prefix="mpcvit-image-owner-") as folder,
        open_parties(
            config.checkpoint,
            header.architecture,
            conditions,
            n_batch=config.n_batch,
            plan=plan,
            on_step=progress.describe,
        ) as model,
    ):
        batches = write_patches(
            images, header, n_batch=config.n_batch, folder=Path(folder)
        )
        progress.begin(len(batches))
        answers = []
        for number, patches in enumerate(batches, 1):
            progress.describe(f"batch {number} of {len(batches)} by parties")
            answers.append(model.classify(patches))
            progress.advance()
    logits = join_logits(answers, len(images))
    calls = [call_cost(answer, plan.deployment) for answer in answers]
    return PartiesOutcome(
        n_images=len(images),
        n_as_emulated=int((logits.argmax(1) == emulated.argmax(1)).sum()),
        max_error=float(np.abs(logits - emulated).max()),
        latencies_s=tuple(call.latency_s for call in calls),
        total_bytes_sent=calls[0].total_bytes_sent,
        hops=calls[0].hops,
    )
