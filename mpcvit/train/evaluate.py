"""Accuracy of a plain model on test images."""

import torch
from torch import nn

from mpcprof.progress import SILENT, Progress
from mpcvit.checkpoint import Checkpoint, check_test_data
from mpcvit.data.image_set import Dataset, ImageSet, batches
from mpcvit.data.normalization import Normalization

_BATCH = 500  # fills a GPU, and fits any


def evaluate_plain(
    checkpoint: Checkpoint, dataset: Dataset, progress: Progress = SILENT
) -> float:
    """Return the share of test images that the checkpoint's model labels right.

        >>> trained = mpcvit.read_checkpoint(folder / "run" / "model.safetensors")
        >>> config = mpcvit.RunConfig(dataset="digits", recipe=recipe, output=folder)
        >>> images = config.load_dataset(trained.architecture.model)
        >>> 0 <= mpcvit.evaluate_plain(trained, images) <= 1
        True

    Raises:
        UsageError: If the images do not fit the model or are of other classes, or the
            weights are not its.
    """
    check_test_data(checkpoint, dataset)
    model, normalization = checkpoint.build_model(), checkpoint.normalization
    return accuracy(model, dataset.test, normalization, progress)


@torch.no_grad()
def accuracy(
    model: nn.Module,
    images: ImageSet,
    normalization: Normalization,
    progress: Progress = SILENT,
) -> float:
    """Return the share of images whose largest logit is their label's.

    The model stays in its mode.
    """
    was_training = model.training
    device = next(model.parameters()).device
    model.eval()
    n_right = torch.zeros((), dtype=torch.int64, device=device)
    parts = batches(images, batch_size=_BATCH, device=device, is_shuffled=False)
    progress.begin(len(images))
    for pixels, labels in parts:
        logits = model(normalization.apply(pixels))  # (B, C)
        n_right += (logits.argmax(-1) == labels).sum()
        progress.advance(len(labels))
    model.train(was_training)
    return float(n_right) / len(images)
