"""Batches: each image once an epoch, in an order of the seed and the epoch."""

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from mpcprof.errors import UsageError
from mpcvit.data.image_set import ImageSet, batches, count_batches


def make_set(n_images: int) -> ImageSet:
    """Images whose every pixel is their label."""
    labels = torch.arange(n_images)
    images = labels.to(torch.uint8).view(-1, 1, 1, 1).repeat(1, 1, 2, 2)
    return ImageSet(images=images, labels=labels)


def read_labels(images: ImageSet, **options: int) -> list[list[int]]:
    return [labels.tolist() for _, labels in batches(images, **options)]


@given(
    n_images=st.integers(1, 60),
    batch_size=st.integers(1, 20),
    world_size=st.integers(1, 4),
    epoch=st.integers(0, 3),
)
def test_all_ranks_together_see_each_image_once_in_the_same_number_of_steps(
    n_images: int, batch_size: int, world_size: int, epoch: int
) -> None:
    assume(world_size <= min(n_images, batch_size))
    images = make_set(n_images)

    ranks = [
        read_labels(
            images, batch_size=batch_size, epoch=epoch, rank=rank, world_size=world_size
        )
        for rank in range(world_size)
    ]

    n_batches = count_batches(n_images, batch_size=batch_size, world_size=world_size)
    assert [len(steps) for steps in ranks] == [n_batches] * world_size
    assert all(step for steps in ranks for step in steps)
    seen = [label for steps in ranks for step in steps for label in step]
    assert sorted(seen) == [*range(n_images)]


def test_two_ranks_share_the_batches_that_one_would_take() -> None:
    images = make_set(20)

    alone = read_labels(images, batch_size=6, seed=3)
    first = read_labels(images, batch_size=6, seed=3, rank=0, world_size=2)
    second = read_labels(images, batch_size=6, seed=3, rank=1, world_size=2)

    together = [sorted(a + b) for a, b in zip(first, second, strict=True)]
    assert together == [sorted(batch) for batch in alone]


def test_the_order_depends_on_seed_and_epoch_and_on_nothing_else() -> None:
    images = make_set(50)
    torch.manual_seed(1)
    orders = {
        (seed, epoch): read_labels(images, batch_size=8, seed=seed, epoch=epoch)
        for seed in (0, 1)
        for epoch in (0, 1)
    }

    torch.manual_seed(2)
    again = read_labels(images, batch_size=8, seed=1, epoch=0)

    assert again == orders[1, 0]
    assert len({str(order) for order in orders.values()}) == 4


def test_unshuffled_batches_keep_the_order_and_pixels_are_parts_of_white() -> None:
    images = make_set(5)

    steps = list(batches(images, batch_size=3, is_shuffled=False))

    assert torch.cat([labels for _, labels in steps]).tolist() == [0, 1, 2, 3, 4]
    pixels = torch.cat([images for images, _ in steps])
    torch.testing.assert_close(pixels, images.images.float() / 255)


@pytest.mark.parametrize(
    "options", [{"batch_size": 0}, {"batch_size": 1, "world_size": 2}]
)
def test_a_process_without_an_image_is_refused(options: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="at least one image for each process"):
        batches(make_set(5), **options)
