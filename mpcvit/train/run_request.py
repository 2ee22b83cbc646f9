"""What searching and training are both asked: which images, how, and where to."""

from dataclasses import dataclass, field
from pathlib import Path

from mpcprof.nn.architecture import ModelPreset
from mpcvit.data.dataset import Dataset, load_dataset
from mpcvit.train.hardware import Hardware
from mpcvit.train.recipe import Precision, Recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRequest:
    """One run of the loop.

    Attributes:
        dataset: A name, or a folder of images.
        output: Folder of the run.
        data_folder: Where a named data set lies; its own default without.
        limit: Images of each split; all without.
        is_fresh: Do not go on with what is in the folder.
    """

    dataset: str
    recipe: Recipe
    output: Path
    data_folder: Path | None = None
    limit: int | None = None
    hardware: Hardware = field(default_factory=Hardware)
    is_fresh: bool = False

    def load_dataset(self, model: ModelPreset) -> Dataset:
        """The images, in the model's size.

        Raises:
            UsageError: If there are none, or they are damaged.
        """
        return load_dataset(
            self.dataset, model=model, folder=self.data_folder, limit=self.limit
        )


def make_run_request(
    recipe: Recipe,
    *,
    dataset: str,
    data_folder: Path | None,
    limit: int | None,
    epochs: int | None,
    batch_size: int | None,
    learning_rate: float | None,
    precision: Precision | None,
    accelerator: str,
    seed: int | None,
    output: Path,
    is_fresh: bool,
) -> RunRequest:
    """From what was typed; what was not is the recipe's.

    Raises:
        UsageError: If a number is out of range.
    """
    return RunRequest(
        dataset=dataset,
        recipe=recipe.with_changes(
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            precision=precision,
            seed=seed,
        ),
        output=output,
        data_folder=data_folder,
        limit=limit,
        hardware=Hardware(accelerator=accelerator),
        is_fresh=is_fresh,
    )
