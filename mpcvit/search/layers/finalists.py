"""The second stage of a search over layers: networks near the front, trained alike.

A relaxed optimum is not a trained network. So each budget gets networks drawn by the
shares of the first stage, and then varieties of the best of those; all are trained for
a few epochs on a part of the training images, and judged by the rest of those. Test
images are left to whoever trains what is found.

Source: varieties of the best, Real et al. 2018 (arXiv 1802.01548).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

import numpy as np

from mpcprof.progress import Progress
from mpcvit.data.dataset import load_dataset
from mpcvit.data.image_set import Dataset, ImageSet, choose_evenly
from mpcvit.search.base import budget_label
from mpcvit.search.layers.result import Finalist
from mpcvit.search.layers.sampling import Sampled, Sampler
from mpcvit.train.config import RunConfig
from mpcvit.train.jobs import run_jobs
from mpcvit.train.loop import DivergedError
from mpcvit.train.run import TrainConfig, TrainResult, train

_HELD_OUT: Final = 0.2  # of the training images
_TOLERANCE: Final = 0.25  # half of them cost at most so much less than their budget
_N_PARENTS: Final = 3  # the best networks of a budget, which are varied


def hold_out(dataset: Dataset) -> Dataset:
    """Return the training images alone, a fifth of each class as images to judge by."""
    labels = dataset.train.labels.cpu().numpy()
    is_held = np.zeros(len(labels), dtype=bool)
    is_held[choose_evenly(labels, max(round(_HELD_OUT * len(labels)), 1))] = True
    train, held = (
        ImageSet(images=dataset.train.images[rows], labels=dataset.train.labels[rows])
        for rows in (np.flatnonzero(~is_held), np.flatnonzero(is_held))
    )
    return replace(dataset, train=train, test=held)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finals:
    """What the second stage is made of.

    Attributes:
        n_each: Networks to train for each budget.
        run: Folder and recipe of their trainings.
        n_jobs: Trainings at once, each in a process of its own.
    """

    sampler: Sampler
    budgets_s: tuple[float, ...]
    n_each: int
    run: RunConfig
    n_jobs: int = 1

    def play(self, progress: Progress) -> tuple[tuple[Finalist, ...], float]:
        """Train networks of each budget, then varieties of the best of those.

        Returns:
            The networks, and the seconds of their trainings.

        Raises:
            UsageError: If a budget has not so many networks, or a folder holds a
                training with other settings.
        """
        n_first = self.n_each - self.n_each // 2
        drawn = self._draw(n_first)
        finalists, duration_s = self._train(drawn, progress)
        varied = self._vary(drawn, finalists)
        others, others_s = self._train(varied, progress)
        return (*finalists, *others), duration_s + others_s

    def _draw(self, n_first: int) -> dict[str, Sampled]:
        """Return networks drawn for each budget, each once, by label."""
        found: dict[str, Sampled] = {}
        seed = self.run.recipe.seed
        for budget_s in self.budgets_s:
            dear = self.sampler.draw(
                budget_s, n_first // 2, seed=seed, tolerance=_TOLERANCE
            )
            drawn = self.sampler.draw(budget_s, n_first - n_first // 2, seed=seed)
            for number, one in enumerate((*dear, *drawn), 1):
                if one not in found.values():
                    found[f"{budget_label(budget_s)}-{number}"] = one
        return found

    def _vary(
        self, drawn: Mapping[str, Sampled], finalists: Sequence[Finalist]
    ) -> dict[str, Sampled]:
        """Return varieties by label, each once, of the best networks of each budget."""
        found: dict[str, Sampled] = {}
        for place, budget_s in enumerate(self.budgets_s):
            within = [one for one in finalists if one.predicted_s <= budget_s]
            best = sorted(within, key=lambda one: -(one.accuracy or 0.0))[:_N_PARENTS]
            for number in range(self.n_each // 2 if best else 0):
                parent = drawn[best[number % len(best)].label]
                seed = (self.run.recipe.seed, place, number)
                child = self.sampler.vary(parent, budget_s, seed=seed)
                known = {one.architecture for one in (*drawn.values(), *found.values())}
                if child is not None and child.architecture not in known:
                    found[f"{budget_label(budget_s)}-varied-{number + 1}"] = child
        return found

    def _train(
        self, drawn: Mapping[str, Sampled], progress: Progress
    ) -> tuple[tuple[Finalist, ...], float]:
        """Train every network in a folder of its own, where it resumes."""
        jobs = [
            TrainConfig(
                run=replace(self.run, output=self.run.output / label),
                architecture=one.architecture,
            )
            for label, one in drawn.items()
        ]
        answers = run_jobs(_train_held_out, jobs, n_jobs=self.n_jobs, progress=progress)
        trained = [None if isinstance(one, DivergedError) else one for one in answers]
        epochs = [epoch for one in trained if one is not None for epoch in one.epochs]
        finalists = tuple(
            Finalist(
                label=label,
                document=json.loads(one.architecture.to_json()),
                predicted_s=one.predicted_s,
                accuracy=None if result is None else result.accuracy,
            )
            for (label, one), result in zip(drawn.items(), trained, strict=True)
        )
        return finalists, sum(epoch.duration_s + epoch.metrics_s for epoch in epochs)


def _train_held_out(config: TrainConfig, progress: Progress) -> TrainResult:
    """Train on a part of images that are loaded once a process."""
    run, model = config.run, config.architecture.model
    dataset = _load(run.dataset, model=model, folder=run.data_folder, limit=run.limit)
    return train(config, progress, dataset=hold_out(dataset))


_load: Final = lru_cache(maxsize=1)(load_dataset)
