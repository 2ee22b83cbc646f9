"""The network that is tuned: its images, ranges and prices."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mpcprof.costmodel.model import CostModel, Prediction, fit_cost_model
from mpcprof.deployment import Deployment
from mpcprof.nn.architecture import Architecture
from mpcprof.nn.catalogue import trace_model
from mpcprof.nn.plan import Plan, rewrites_only, unplanned
from mpcprof.profile.io import read_profile
from mpcprof.progress import Progress
from mpcprof.spu_options import truncates_locally
from mpcvit.checkpoint import Checkpoint, load_test_data, read_checkpoint
from mpcvit.data.image_set import Dataset, ImageSet, choose_evenly
from mpcvit.models.layers import to_patches
from mpcvit.secure.evaluate import compare
from mpcvit.tune.judge import Judge
from mpcvit.tune.ladder import Alternative
from mpcvit.tune.places import with_value
from mpcvit.tune.ranges import Place, Ranges, measure_ranges
from mpcvit.tune.result import TuneConfig, TuneOutcome
from mpcvit.tune.truncation import price_locally


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """The network that is tuned, priced and judged.

    Attributes:
        untuned: Plan that changes nothing.
        rewritten: Plan of every exact rewrite.
        calibrated: Ranges of training images, in the rewritten network.
        met: Ranges of the held-back images in it.
    """

    config: TuneConfig
    checkpoint: Checkpoint
    model: CostModel
    dataset: Dataset
    held_back: ImageSet
    judge: Judge
    untuned: Plan
    rewritten: Plan
    calibrated: Ranges
    met: Ranges

    @property
    def architecture(self) -> Architecture:
        """Architecture of the checkpoint."""
        return self.checkpoint.architecture

    def predict(self, plan: Plan) -> Prediction:
        """Price a plan."""
        config, profiled = self.config, self.model.deployment
        steps = trace_model(self.architecture, config.n_batch, plan)
        prediction = self.model.predict(steps, config.network)
        is_local = truncates_locally(plan.deployment or profiled)
        if not is_local or truncates_locally(profiled):
            return prediction
        return price_locally(prediction, steps, config.network)

    def under(self, deployment: Deployment) -> "Subject":
        """Return the network under another deployment than the profile's."""
        return replace(
            self,
            judge=Judge(
                self.checkpoint,
                self.held_back.images,
                deployment,
                seed=self.config.seed,
            ),
            rewritten=replace(
                self.rewritten,
                deployment=deployment,
                failure_rate=self.config.accept_failures,
            ),
        )

    def outcome(self, plan: Plan) -> TuneOutcome:
        """Price a plan, and emulate it on all held-back images."""
        return self.judged(plan, self.judge.emulated(plan))

    def judged(self, plan: Plan, logits: NDArray[np.float64]) -> TuneOutcome:
        """Price a plan of which all logits are known."""
        labels = self.held_back.labels.numpy()
        return TuneOutcome(
            prediction=self.predict(plan),
            logits=compare(self.judge.plain, logits, labels),
        )

    def apply(self, choice: Mapping[Place, Alternative]) -> Plan:
        """Return the rewritten plan with these choices."""
        plan = self.rewritten
        for place, one in choice.items():
            plan = with_value(plan, place, one.value, self.calibrated)
        return plan


def prepare(config: TuneConfig, progress: Progress) -> Subject:
    """Read what was asked for, and take down the ranges of its images."""
    progress.describe("reading checkpoint, profile and images")
    checkpoint = read_checkpoint(config.checkpoint)
    heads = config.heads or checkpoint.architecture.heads
    architecture = replace(checkpoint.architecture, heads=heads)
    checkpoint = replace(checkpoint, architecture=architecture)
    model = fit_cost_model(read_profile(config.profile))
    most = max(config.n_images, config.n_calibration)
    dataset = load_test_data(checkpoint, config.dataset, folder=config.data, limit=most)
    held_back = _evenly(dataset.test, config.n_images)
    judge = Judge(checkpoint, held_back.images, model.deployment, seed=config.seed)
    rewritten = replace(
        rewrites_only(
            architecture,
            config.n_batch,
            deployment=model.deployment,
            network=config.network,
        ),
        checkpoint=hashlib.sha256(config.checkpoint.read_bytes()).hexdigest(),
    )
    progress.describe("taking ranges from training images")
    weights = {name: one.float() for name, one in judge.fold(rewritten).items()}
    training = _evenly(dataset.train, config.n_calibration)

    def measure(images: ImageSet) -> Ranges:
        pixels = checkpoint.normalize(images.images)
        patches = to_patches(pixels, architecture.model.patch)
        return measure_ranges(architecture, weights, patches, rewritten, progress)

    return Subject(
        config=config,
        checkpoint=checkpoint,
        model=model,
        dataset=dataset,
        held_back=held_back,
        judge=judge,
        untuned=unplanned(architecture),
        rewritten=rewritten,
        calibrated=measure(training),
        met=measure(held_back),
    )


def _evenly(images: ImageSet, limit: int) -> ImageSet:
    kept = choose_evenly(images.labels.numpy(), limit)
    return ImageSet(images=images.images[kept], labels=images.labels[kept])
