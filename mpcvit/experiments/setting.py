"""What all trainings of an experiment have in common."""

from dataclasses import dataclass, replace
from pathlib import Path

from mpcprof.errors import UsageError
from mpcprof.network import NETWORKS, Network
from mpcprof.nn.architecture import Architecture, Heads, ModelPreset
from mpcvit.train.config import RunConfig, choose_model
from mpcvit.train.distillation import KdTerm
from mpcvit.train.run import TrainConfig

NO_TEACHER = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One recipe, one data set, one price list for every architecture.

    Attributes:
        run: Images, recipe and machine; its output is the folder of the experiment, its
            recipe's seed gives way to `seeds`.
        seeds: Every architecture is trained once with each.
        profile: Measured seconds of primitives.
        heads: How private inference runs them: seconds are of that.
        teacher: A checkpoint, a variant that is trained first, or `none`.
        model: Preset; that of the data set without.
        recipe: Name of the one that `run` has and searches start from; likewise.
        n_jobs: Trainings at once, each in a process of its own.

    Raises:
        UsageError: If there is no seed, or one twice.
    """

    run: RunConfig
    profile: Path
    network: Network = NETWORKS["wan"]
    heads: Heads = "serial"
    seeds: tuple[int, ...] = (0,)
    teacher: str = "softmax"
    model: str | None = None
    recipe: str | None = None
    n_jobs: int = 1

    def __post_init__(self) -> None:
        if not self.seeds or len({*self.seeds}) != len(self.seeds):
            raise UsageError(f"seeds {self.seeds}: expected at least one, each once")

    @property
    def folder(self) -> Path:
        """Where everything of the experiment lies."""
        return self.run.output

    @property
    def preset(self) -> ModelPreset:
        """Sizes of the models."""
        return choose_model(self.model, self.run.dataset)

    def train_request(
        self,
        architecture: Architecture,
        output: Path,
        *,
        seed: int,
        teacher: Path | None,
        kd: frozenset[KdTerm],
    ) -> TrainConfig:
        """The training of one architecture with one seed."""
        recipe = replace(self.run.recipe, seed=seed)
        return TrainConfig(
            run=replace(self.run, recipe=recipe, output=output),
            architecture=replace(architecture, heads=self.heads),
            teacher=teacher,
            kd=kd,
        )
