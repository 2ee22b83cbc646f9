"""The network that is tuned: its images, ranges and prices."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mpcprof.costmodel.model import CostModel, fit_cost_model
from mpcprof.costmodel.prediction import Prediction
from mpcprof.deployment import Deployment
from mpcprof.errors import UsageError
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
from mpcvit.secure.model_owner import checkpoint_digest
from mpcvit.tune.config import TuneConfig
from mpcvit.tune.judge import Judge
from mpcvit.tune.ladder import Alternative
from mpcvit.tune.places import with_value
from mpcvit.tune.ranges import Place, Ranges, measure_ranges
from mpcvit.tune.result import TuneOutcome
from mpcvit.tune.truncation import price_locally


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """The network that is tuned, priced and judged.

    Attributes:
        reported: Test images of the report, which decide nothing.
        judge: Judge by the test images that decide.
        reporter: Judge by the reported images.
        untuned: Plan that changes nothing.
        rewritten: Plan of every exact rewrite.
        calibrated: Ranges of training images, in the rewritten network.
        met: Ranges of the reported images in it.
    """

    config: TuneConfig
    checkpoint: Checkpoint
    model: CostModel
    dataset: Dataset
    reported: ImageSet
    judge: Judge
    reporter: Judge
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
        deployment = plan.deployment or profiled
        if not truncates_locally(deployment) or truncates_locally(profiled):
            return prediction
        return price_locally(
            prediction,
            steps,
            config.network,
            fraction_bits=deployment.fraction_bits,
            profiled_bits=profiled.fraction_bits,
        )

    def under(self, deployment: Deployment) -> "Subject":
        """Return the network under another deployment than the profile's."""
        return replace(
            self,
            judge=self.judge.under(deployment),
            reporter=self.reporter.under(deployment),
            rewritten=replace(
                self.rewritten,
                deployment=deployment,
                failure_rate=self.config.accept_failures,
            ),
        )

    def outcome(self, plan: Plan) -> TuneOutcome:
        """Price a plan, and emulate it on all reported images."""
        return self.judged(plan, self.reporter.emulated(plan))

    def judged(self, plan: Plan, logits: NDArray[np.float64]) -> TuneOutcome:
        """Price a plan of which all logits are known."""
        labels = self.reported.labels.numpy()
        return TuneOutcome(
            prediction=self.predict(plan),
            logits=compare(self.reporter.plain, logits, labels),
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
    most = max(2 * config.n_images, config.n_calibration)
    dataset = load_test_data(checkpoint, config.dataset, folder=config.data, limit=most)
    if len(dataset.class_names) < 2:
        raise UsageError(
            f"{config.checkpoint} tells {dataset.class_names[0]!r} from no other "
            "class: expected two or more, whose labels a plan may change"
        )
    deciding, reported = _halves(_evenly(dataset.test, 2 * config.n_images))
    judge, reporter = (
        Judge(checkpoint, one.images, model.deployment, seed=config.seed)
        for one in (deciding, reported)
    )
    rewritten = replace(
        rewrites_only(
            architecture,
            config.n_batch,
            deployment=model.deployment,
            network=config.network,
        ),
        checkpoint=checkpoint_digest(config.checkpoint),
    )
    progress.describe("taking ranges from training images")
    weights = {name: one.float() for name, one in judge.fold(rewritten).items()}
    training = _evenly(dataset.train, config.n_calibration)

    def measure(images: ImageSet) -> Ranges:
        pixels = checkpoint.normalize(images.images)
        patches = to_patches(pixels, architecture.model.input_patch)
        return measure_ranges(architecture, weights, patches, rewritten, progress)

    return Subject(
        config=config,
        checkpoint=checkpoint,
        model=model,
        dataset=dataset,
        reported=reported,
        judge=judge,
        reporter=reporter,
        untuned=unplanned(architecture),
        rewritten=rewritten,
        calibrated=measure(training),
        met=measure(reported),
    )


def _evenly(images: ImageSet, limit: int) -> ImageSet:
    kept = choose_evenly(images.labels.numpy(), limit)
    return ImageSet(images=images.images[kept], labels=images.labels[kept])


def _halves(images: ImageSet) -> tuple[ImageSet, ImageSet]:
    """Return two halves of images without one in common, each of all classes."""
    n_images = len(images)
    if n_images < 2:
        raise UsageError("1 test image: expected 2 or more, of which half decide")
    kept = choose_evenly(images.labels.numpy(), (n_images + 1) // 2)
    rest = np.setdiff1d(np.arange(n_images), kept)
    first, second = (
        ImageSet(images=images.images[one], labels=images.labels[one])
        for one in (kept, rest)
    )
    return first, second
