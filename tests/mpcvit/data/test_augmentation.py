"""Augmentation: shapes and ranges stay, targets are what the pixels are made of."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mpcprof.errors import UsageError
from mpcvit.data.augmentation import (
    DIGITS_AUGMENTATION,
    NO_AUGMENTATION,
    PAPER_AUGMENTATION,
    Augment,
    Augmentation,
    crop,
    crop_and_resize,
    cutmix,
    draw_box,
    mixup,
)
from mpcvit.data.randaugment import OPERATIONS, Operation, RandAugment, move, saturate

SHAPES = [(4, 1, 8, 8), (6, 3, 32, 32), (1, 3, 16, 16)]


def make_batch(*shape: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(*shape, generator=generator)
    return images, torch.arange(shape[0]) % 3


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    "augmentation", [NO_AUGMENTATION, DIGITS_AUGMENTATION, PAPER_AUGMENTATION]
)
def test_images_keep_their_shape_and_range_and_targets_sum_to_1(
    augmentation: Augmentation, shape: tuple[int, ...]
) -> None:
    images, labels = make_batch(*shape)
    augment = Augment(augmentation, n_classes=3, label_smoothing=0.1)
    torch.manual_seed(0)

    for _ in range(10):
        varied, targets = augment(images, labels)

        assert varied.shape == images.shape
        assert varied.dtype == torch.float32
        assert 0 <= float(varied.min()) <= float(varied.max()) <= 1
        torch.testing.assert_close(targets.sum(1), torch.ones(shape[0]))


@pytest.mark.parametrize("augmentation", [DIGITS_AUGMENTATION, PAPER_AUGMENTATION])
def test_the_seed_decides_and_another_seed_varies_otherwise(
    augmentation: Augmentation,
) -> None:
    images, labels = make_batch(6, 3, 16, 16)
    augment = Augment(augmentation, n_classes=3)

    def run(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return torch.stack([augment(images, labels)[0] for _ in range(3)])

    assert torch.equal(run(1), run(1))
    assert not torch.equal(run(1), run(2))


def test_the_state_of_a_former_batch_does_not_matter() -> None:
    """What a resumed run needs: seeded alike, a new and a used one agree."""
    images, labels = make_batch(6, 3, 16, 16)
    used = Augment(PAPER_AUGMENTATION, n_classes=3)
    used(images, labels)

    torch.manual_seed(5)
    first = used(images, labels)
    torch.manual_seed(5)
    second = Augment(PAPER_AUGMENTATION, n_classes=3)(images, labels)

    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])


def test_the_given_batch_is_left_as_it_is() -> None:
    images, labels = make_batch(6, 3, 16, 16)
    before = images.clone()

    for _ in range(5):
        Augment(PAPER_AUGMENTATION, n_classes=3)(images, labels)

    assert torch.equal(images, before)


def test_nothing_asked_for_leaves_images_and_one_hot_labels() -> None:
    images, labels = make_batch(6, 3, 8, 8)

    varied, targets = Augment(NO_AUGMENTATION, n_classes=3)(images, labels)

    assert torch.equal(varied, images)
    assert torch.equal(targets, torch.eye(3).repeat(2, 1))


def test_smoothing_spreads_its_weight_over_all_classes() -> None:
    images, labels = make_batch(1, 1, 8, 8)
    augment = Augment(NO_AUGMENTATION, n_classes=4, label_smoothing=0.2)

    torch.testing.assert_close(
        augment(images, labels)[1], torch.tensor([[0.85, 0.05, 0.05, 0.05]])
    )


@pytest.mark.parametrize("way", ["mixup", "cutmix"])
def test_targets_are_the_shares_of_the_pixels(way: str) -> None:
    """White is one class and black the other: brightness tells the share."""
    white = torch.tensor([1.0, 0.0]).view(2, 1, 1, 1).expand(2, 1, 16, 16)
    augment = Augment(Augmentation(**{way: 1.0}), n_classes=2)  # type: ignore[arg-type]
    torch.manual_seed(0)
    shares = set()

    for _ in range(20):
        mixed, targets = augment(white, torch.tensor([1, 0]))

        torch.testing.assert_close(mixed.mean((1, 2, 3)), targets[:, 1])
        shares.add(float(targets[0, 1]))
    assert len(shares) > 5


def test_a_batch_is_mixed_as_often_and_in_the_way_that_is_asked_for() -> None:
    halves = torch.tensor([1.0, 0.0]).view(2, 1, 1, 1).expand(2, 1, 8, 8)
    given = Augmentation(mixup=1, cutmix=1, mixing_probability=0.5, cutmix_share=0)
    augment = Augment(given, n_classes=2)
    torch.manual_seed(0)

    mixed = [augment(halves, torch.tensor([1, 0]))[0] for _ in range(200)]

    n_kept = sum(torch.equal(images, halves) for images in mixed)
    assert 70 < n_kept < 130
    assert all(len(images[0].unique()) == 1 for images in mixed)  # never a box


@given(size=st.integers(1, 40), share=st.floats(0, 1), seed=st.integers(0, 99))
def test_a_box_lies_in_the_image_and_is_no_larger_than_its_share(
    size: int, share: float, seed: int
) -> None:
    torch.manual_seed(seed)

    box = draw_box(size, share)

    assert 0 <= box.top <= box.bottom <= size
    assert 0 <= box.left <= box.right <= size
    assert box.area <= (1 - share) * size**2 + 1e-9


def test_mixing_everything_of_the_other_image_is_the_batch_backwards() -> None:
    images, labels = make_batch(3, 1, 4, 4)
    targets = torch.eye(3)[labels]
    box = replace(draw_box(4, 1.0), top=0, bottom=4, left=0, right=4)

    for mixed, shares in (mixup(images, targets, 0), cutmix(images, targets, box)):
        assert torch.equal(mixed, images.flip(0))
        assert torch.equal(shares, targets.flip(0))


def test_a_crop_is_the_image_moved_by_whole_pixels_with_black_around() -> None:
    images = torch.rand(30, 2, 6, 6) + 0.1
    torch.manual_seed(0)

    moved = crop(images, 2)

    padded = torch.nn.functional.pad(images, [2] * 4)
    offsets = [
        next(
            (y, x)
            for y in range(5)
            for x in range(5)
            if torch.equal(padded[i, :, y : y + 6, x : x + 6], moved[i])
        )
        for i in range(30)
    ]
    assert len({*offsets}) > 10


def test_a_resized_crop_keeps_at_least_its_share_of_an_area_nearly_square() -> None:
    """Pixels that tell their own place: first and last say which box was cut out."""
    n_images, size = 200, 32
    columns = torch.arange(size, dtype=torch.float32).expand(size, size)
    images = torch.stack([columns, columns.T]).expand(n_images, 2, size, size)
    torch.manual_seed(0)

    resized = crop_and_resize(images, 0.8)

    widths = resized[:, 0, 0, -1] - resized[:, 0, 0, 0] + 1
    heights = resized[:, 1, -1, 0] - resized[:, 1, 0, 0] + 1
    assert resized.shape == images.shape
    torch.testing.assert_close(widths, widths.round(), atol=1e-3, rtol=0)
    areas, ratios = widths * heights / size**2, widths / heights
    rounding = 2 * 0.5 / (size * 0.8)  # of both sides to whole pixels
    assert 0.8 - rounding < float(areas.min()) < 0.85
    assert float(areas.max()) < 1 + 1e-3
    assert 3 / 4 - rounding < float(ratios.min()) < 0.9
    assert 1.1 < float(ratios.max()) < 4 / 3 + rounding
    assert len({*resized[:, 0, 0, 0].tolist()}) > 3  # boxes lie at different places


def test_the_papers_images_are_cropped_and_never_moved_out_of_their_frame() -> None:
    white = torch.ones(20, 1, 32, 32)
    torch.manual_seed(0)

    only_crop = Augmentation(crop_scale=PAPER_AUGMENTATION.crop_scale)
    varied, _ = Augment(only_crop, n_classes=3)(white, torch.zeros(20).long())

    assert (PAPER_AUGMENTATION.crop_scale, PAPER_AUGMENTATION.crop_padding) == (0.8, 0)
    torch.testing.assert_close(varied, white)


def test_batches_are_mixed_in_the_first_epochs_alone_and_targets_stay_soft() -> None:
    images, labels = make_batch(6, 3, 8, 8)
    given = Augmentation(mixup=0.8, cutmix=1.0, mixing_epochs=2)
    augment = Augment(given, n_classes=3, label_smoothing=0.3)
    torch.manual_seed(0)

    mixed, _ = augment(images, labels, epoch=2)
    kept, targets = augment(images, labels, epoch=3)

    assert not torch.equal(mixed, images)
    assert torch.equal(kept, images)
    torch.testing.assert_close(targets, (torch.eye(3) * 0.7 + 0.1)[labels])


@pytest.mark.parametrize("operation", [*OPERATIONS, saturate])
def test_operations_stay_in_range_and_act_on_each_image_alone(
    operation: Operation,
) -> None:
    images, _ = make_batch(3, 3, 16, 16)
    level = torch.tensor([0.1, 0.5, 1.0])

    torch.manual_seed(0)
    all_at_once = operation(images, level)
    torch.manual_seed(0)
    alone = operation(images[:1], level[:1])

    assert 0 <= float(all_at_once.min()) <= float(all_at_once.max()) <= 1
    torch.testing.assert_close(all_at_once[:1], alone)


@pytest.mark.parametrize(("kind", "axis"), [(3, 2), (4, 1)])
def test_a_shift_moves_pixels_along_its_axis_and_fills_in_grey(
    kind: int, axis: int
) -> None:
    image = torch.rand(1, 1, 20, 20)
    level = torch.tensor([1 / 0.45 * 0.25])  # a quarter of the side, 5 pixels
    torch.manual_seed(0)

    moved = move(image, level, torch.tensor([kind]))[0]

    rolled = [torch.roll(image[0], by, dims=axis) for by in (5, -5)]
    inner = (slice(None), slice(5, 15), slice(5, 15))
    distances = [float((moved - other)[inner].abs().max()) for other in rolled]
    assert min(distances) < 1e-4
    assert int(((moved - 0.5).abs() < 1e-4).sum()) >= 5 * 20


def test_randaugment_leaves_about_a_quarter_of_images_alone_and_varies_the_rest() -> (
    None
):
    images = torch.rand(400, 3, 8, 8)
    torch.manual_seed(0)

    varied = RandAugment(9.0, 0.5)(images)

    n_kept = int((varied == images).flatten(1).all(1).sum())
    assert 60 < n_kept < 140


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"mixup": -0.1}, "mixup=-0.1: expected 0 or more"),
        ({"random_erasing": 1.5}, "random_erasing=1.5: expected 0 to 1"),
        ({"randaugment_magnitude": 11}, "expected 0 to 10"),
        ({"zoom": float("nan")}, "zoom=nan"),
        ({"mixup": float("inf")}, "mixup=inf: expected 0 or more, finite"),
        ({"crop_scale": 1.1}, "crop_scale=1.1: expected 0 to 1"),
        ({"mixing_epochs": -1}, "mixing_epochs=-1: expected 0 or more"),
    ],
)
def test_values_out_of_range_are_refused(
    values: dict[str, float], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        Augmentation(**values)  # type: ignore[arg-type]


def test_smoothing_everything_away_is_refused() -> None:
    with pytest.raises(UsageError, match="label_smoothing=1: expected"):
        Augment(NO_AUGMENTATION, n_classes=3, label_smoothing=1)
