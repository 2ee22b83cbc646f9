"""CIFAR in each of its forms gives the same images; damaged files are named."""

import io
import pickle
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from PIL import Image

from mpcprof.errors import UsageError
from mpcprof.nn.architecture import get_model
from mpcvit.data.cifar import CIFAR10_CLASSES, CIFAR100_CLASSES, parse_python_batch
from mpcvit.data.dataset import count_classes, load_dataset

N_EACH = 4  # images of a file


@dataclass(frozen=True)
class Content:
    """Of the five files to train on and the one to test on."""

    pixels: NDArray[np.uint8]  # (6, N_EACH, 3, 32, 32)
    labels: NDArray[np.int64]  # (6, N_EACH)


def make_content(n_classes: int = 10) -> Content:
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (6, N_EACH, 3, 32, 32)).astype(np.uint8)
    return Content(pixels, generator.integers(0, n_classes, (6, N_EACH)))


def python_batch(
    pixels: NDArray[np.uint8], labels: NDArray[np.int64], key: bytes = b"labels"
) -> bytes:
    rows = pixels.reshape(-1, 3072)
    return pickle.dumps({b"data": rows, key: labels.ravel().tolist()}, protocol=2)


def binary_batch(
    pixels: NDArray[np.uint8], labels: NDArray[np.int64], *coarse: int
) -> bytes:
    records = [
        bytes([*coarse, int(label)]) + image.tobytes()
        for image, label in zip(pixels.reshape(-1, 3072), labels.ravel(), strict=True)
    ]
    return b"".join(records)


def write_files(folder: Path, files: dict[str, bytes]) -> None:
    folder.mkdir(parents=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)


def write_tar(path: Path, inner: str, files: dict[str, bytes]) -> None:
    with tarfile.open(path, "w:gz") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(f"{inner}/{name}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))


def cifar10_files(
    content: Content, encode: Callable[..., bytes], suffix: str
) -> dict[str, bytes]:
    names = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]
    return {
        f"{name}{suffix}": encode(pixels, labels)
        for name, pixels, labels in zip(
            names, content.pixels, content.labels, strict=True
        )
    }


def write_python(folder: Path, content: Content) -> None:
    files = cifar10_files(content, python_batch, "")
    write_files(folder / "cifar-10-batches-py", files)


def write_python_tar(folder: Path, content: Content) -> None:
    files = cifar10_files(content, python_batch, "")
    write_tar(folder / "cifar-10-python.tar.gz", "cifar-10-batches-py", files)


def write_binary(folder: Path, content: Content) -> None:
    files = cifar10_files(content, binary_batch, ".bin")
    write_files(folder / "cifar-10-batches-bin", files)


def write_binary_tar(folder: Path, content: Content) -> None:
    files = cifar10_files(content, binary_batch, ".bin")
    write_tar(folder / "cifar-10-binary.tar.gz", "cifar-10-batches-bin", files)


def png(pixels: NDArray[np.uint8]) -> bytes:
    """(3, 32, 32)"""
    file = io.BytesIO()
    Image.fromarray(pixels.transpose(1, 2, 0)).save(file, "PNG")
    return file.getvalue()


def write_table(
    path: Path, pixels: NDArray[np.uint8], labels: NDArray[np.int64]
) -> None:
    """(n, 3, 32, 32) and (n,) as the public parquet version has them."""
    images = [{"bytes": png(image), "path": None} for image in pixels]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table({"img": pa.array(images, kind), "label": labels})
    pq.write_table(table, path, row_group_size=3)


def write_parquet(folder: Path, content: Content) -> None:
    train, test = content.pixels[:5].reshape(-1, 3, 32, 32), content.pixels[5]
    write_table(folder / "train.parquet", train, content.labels[:5].ravel())
    write_table(folder / "test.parquet", test, content.labels[5])


def write_parquet_parts(folder: Path, content: Content) -> None:
    (folder / "data").mkdir()
    for part in range(5):
        name = f"train-0000{part}-of-00005.parquet"
        write_table(folder / "data" / name, content.pixels[part], content.labels[part])
    name = "test-00000-of-00001.parquet"
    write_table(folder / "data" / name, content.pixels[5], content.labels[5])


WRITERS = [
    write_python,
    write_python_tar,
    write_binary,
    write_binary_tar,
    write_parquet,
    write_parquet_parts,
]


@pytest.mark.parametrize("write", WRITERS)
def test_every_form_gives_the_same_images(
    write: Callable[[Path, Content], None], tmp_path: Path
) -> None:
    content = make_content()
    write(tmp_path, content)

    loaded = load_dataset("cifar10", folder=tmp_path, model=get_model("cifar"))

    loaded.check_fits(get_model("cifar"))
    train = content.pixels[:5].reshape(-1, 3, 32, 32)
    assert np.array_equal(loaded.train.images, train)
    assert np.array_equal(loaded.train.labels, content.labels[:5].ravel())
    assert np.array_equal(loaded.test.images, content.pixels[5])
    assert np.array_equal(loaded.test.labels, content.labels[5])
    assert loaded.class_names == CIFAR10_CLASSES


@pytest.mark.parametrize("write", [write_python, write_parquet])
def test_a_limit_gives_the_images_that_belong_to_its_labels(
    write: Callable[[Path, Content], None], tmp_path: Path
) -> None:
    content = make_content(n_classes=3)
    write(tmp_path, content)

    few = load_dataset("cifar10", folder=tmp_path, limit=6).train

    assert few.labels.bincount().tolist() == [2, 2, 2]
    label_of = {
        image.tobytes(): label
        for image, label in zip(
            content.pixels.reshape(-1, 3, 32, 32), content.labels.ravel(), strict=True
        )
    }
    found = [label_of[image.numpy().tobytes()] for image in few.images]
    assert found == few.labels.tolist()


@pytest.mark.parametrize("form", ["python", "binary"])
def test_cifar100_has_its_fine_classes(form: str, tmp_path: Path) -> None:
    content = make_content(n_classes=100)
    pixels, labels = content.pixels[0], content.labels[0]
    if form == "python":
        data = python_batch(pixels, labels, key=b"fine_labels")
        files = {"train": data, "test": data}
    else:
        data = binary_batch(pixels, labels, 19)
        files = {"train.bin": data, "test.bin": data}
    inner = {"python": "cifar-100-python", "binary": "cifar-100-binary"}[form]
    write_files(tmp_path / inner, files)

    loaded = load_dataset("cifar100", folder=tmp_path)

    assert loaded.train.labels.tolist() == labels.tolist()
    assert np.array_equal(loaded.train.images, pixels)
    assert loaded.class_names == CIFAR100_CLASSES
    assert len({*loaded.class_names}) == 100
    assert [*loaded.class_names] == sorted(loaded.class_names)


def test_the_archive_itself_or_the_unpacked_folder_will_do(tmp_path: Path) -> None:
    content = make_content()
    write_python_tar(tmp_path, content)
    write_binary(tmp_path, content)

    for place in ("cifar-10-python.tar.gz", "cifar-10-batches-bin"):
        loaded = load_dataset("cifar10", folder=tmp_path / place)

        assert np.array_equal(loaded.test.images, content.pixels[5])


def test_a_folder_of_parquet_files_needs_no_name(tmp_path: Path) -> None:
    content = make_content(n_classes=3)
    write_parquet(tmp_path, content)

    loaded = load_dataset(str(tmp_path))

    assert np.array_equal(loaded.test.images, content.pixels[5])
    assert loaded.class_names == ("0", "1", "2")


def test_a_few_images_of_a_parquet_folder_have_the_classes_of_all(
    tmp_path: Path,
) -> None:
    write_parquet(tmp_path, make_content())

    few = load_dataset(str(tmp_path), limit=3)

    assert few.class_names == load_dataset(str(tmp_path)).class_names
    assert count_classes(tmp_path) == len(few.class_names) == 10


def name_of_numpy_2(data: bytes, protocol: int) -> bytes:
    """Return a pickle as numpy 2 writes it: its modules are below numpy._core."""
    if protocol < 4:
        return data.replace(b"cnumpy.core.", b"cnumpy._core.")
    old, new = (
        pickle.SHORT_BINUNICODE + bytes([len(name)]) + name
        for name in (b"numpy.core.numeric", b"numpy._core.numeric")
    )
    assert old in data
    n_bytes = int.from_bytes(data[3:11], "little") + 1  # of the frame
    renamed = data[11:].replace(old, new)
    return data[:3] + n_bytes.to_bytes(8, "little") + renamed


def as_list_of_scalars(labels: NDArray[np.int64]) -> list[np.int64]:
    return [*labels]


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("as_key", [str, str.encode])
@pytest.mark.parametrize(
    "as_labels",
    [
        lambda labels: labels.tolist(),
        as_list_of_scalars,
        lambda labels: labels,
        lambda labels: labels.astype(np.uint8)[:, None],
    ],
)
@pytest.mark.parametrize(
    "as_data",
    [
        lambda pixels: pixels.reshape(-1, 3072),
        lambda pixels: pixels,
        lambda pixels: pixels.transpose(0, 2, 3, 1),
        lambda pixels: np.asfortranarray(pixels.reshape(-1, 3072)),
    ],
)
def test_a_batch_saved_again_by_python_3_is_read(
    protocol: int,
    as_key: Callable[[str], object],
    as_labels: Callable[[NDArray[np.int64]], object],
    as_data: Callable[[NDArray[np.uint8]], NDArray[np.uint8]],
) -> None:
    content = make_content(n_classes=100)
    pixels, labels = content.pixels[0], content.labels[0]
    batch = {
        as_key("coarse_labels"): [0] * N_EACH,
        as_key("fine_labels"): as_labels(labels),
        as_key("data"): as_data(pixels),
    }

    read_pixels, read_labels = parse_python_batch(
        pickle.dumps(batch, protocol), "train"
    )

    assert np.array_equal(read_pixels, pixels)
    assert read_labels.dtype == np.int64
    assert np.array_equal(read_labels, labels)


@pytest.mark.parametrize("protocol", [2, 3, 5])
def test_a_batch_saved_by_numpy_2_is_read(protocol: int) -> None:
    content = make_content()
    batch = {
        "data": content.pixels[0].reshape(-1, 3072),
        "labels": content.labels[0].tolist(),
    }
    data = name_of_numpy_2(pickle.dumps(batch, protocol), protocol)

    read_pixels, read_labels = parse_python_batch(data, "test_batch")

    assert b"numpy.core" not in data
    assert np.array_equal(read_pixels, content.pixels[0])
    assert np.array_equal(read_labels, content.labels[0])


@pytest.mark.parametrize(
    ("batch", "expected"),
    [
        ([1, 2], "list: expected a dict of data and labels"),
        ({}, "keys none: expected data and fine_labels or labels"),
        ({"data": 1, "coarse_labels": [1]}, "keys data, coarse_labels: expected data"),
        (
            {"data": np.zeros((2, 3072), np.float32), "labels": [1, 2]},
            r"data is float32 of \(2, 3072\): expected uint8 of \(n, 3072\)",
        ),
        ({"data": np.uint8(3), "labels": [1]}, "data is uint8: expected uint8 of"),
        (
            {"data": np.zeros((2, 3072), np.uint8), "labels": [1]},
            "1 labels for 2 images",
        ),
        (
            {"data": np.zeros((1, 3072), np.uint8), "fine_labels": ["cat"]},
            "fine_labels hold str: expected whole numbers",
        ),
        (
            {"data": np.zeros((1, 3072), np.uint8), "labels": np.zeros((1, 10))},
            r"labels are float64 of \(1, 10\): expected n whole numbers",
        ),
        (
            {"data": np.zeros((1, 3072), np.uint8), "labels": np.array(3)},
            r"labels are int64 of \(\): expected n whole numbers",
        ),
    ],
)
def test_a_batch_of_other_content_says_what_is_other(
    batch: object, expected: str
) -> None:
    with pytest.raises(UsageError, match=f"^f: not a CIFAR batch: {expected}"):
        parse_python_batch(pickle.dumps(batch, 5), "f")


class Malicious:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (Path.touch, ("harmed",))


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_a_pickle_that_would_run_something_runs_nothing(
    protocol: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_python(tmp_path, make_content())
    bad = tmp_path / "cifar-10-batches-py" / "data_batch_3"
    bad.write_bytes(pickle.dumps({b"data": Malicious()}, protocol))

    with pytest.raises(UsageError, match=r"data_batch_3: not a CIFAR batch: .* array"):
        load_dataset("cifar10", folder=tmp_path)
    assert not Path("harmed").exists()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<html>not found</html>",
        pickle.dumps([1, 2], protocol=2),
        pickle.dumps({b"data": np.zeros((2, 3072), np.uint8), b"labels": [1]}),
        pickle.dumps({b"data": np.zeros((1, 9), np.uint8), b"labels": [1]}),
        python_batch(np.zeros((1, 3072), np.uint8), np.zeros(1, np.int64))[:-200],
    ],
)
def test_a_damaged_python_batch_is_named(data: bytes, tmp_path: Path) -> None:
    write_python(tmp_path, make_content())
    (tmp_path / "cifar-10-batches-py" / "test_batch").write_bytes(data)

    with pytest.raises(UsageError, match=r"test_batch: not a CIFAR batch") as caught:
        load_dataset("cifar10", folder=tmp_path)
    assert "\n" not in str(caught.value)


def test_a_cut_binary_batch_is_named(tmp_path: Path) -> None:
    write_binary(tmp_path, make_content())
    path = tmp_path / "cifar-10-batches-bin" / "data_batch_2.bin"
    path.write_bytes(path.read_bytes()[:-1])

    with pytest.raises(UsageError, match=r"data_batch_2.bin: 12291 bytes: .* 3073"):
        load_dataset("cifar10", folder=tmp_path)


def test_a_label_beyond_the_classes_is_refused(tmp_path: Path) -> None:
    content = make_content()
    content.labels[0, 0] = 200
    write_binary(tmp_path, content)

    with pytest.raises(UsageError, match="train labels 0 to 200: expected 0 to 9"):
        load_dataset("cifar10", folder=tmp_path)


def test_a_cut_archive_is_named(tmp_path: Path) -> None:
    write_python_tar(tmp_path, make_content())
    path = tmp_path / "cifar-10-python.tar.gz"
    path.write_bytes(path.read_bytes()[:20_000])

    with pytest.raises(UsageError, match=r"python.tar.gz: not a whole archive"):
        load_dataset("cifar10", folder=tmp_path)


def test_an_archive_without_a_batch_says_which(tmp_path: Path) -> None:
    files = cifar10_files(make_content(), python_batch, "")
    del files["data_batch_4"]
    write_tar(tmp_path / "cifar-10-python.tar.gz", "cifar-10-batches-py", files)

    with pytest.raises(UsageError, match="no data_batch_4 in it"):
        load_dataset("cifar10", folder=tmp_path)


def test_a_cut_parquet_file_is_named(tmp_path: Path) -> None:
    write_parquet(tmp_path, make_content())
    path = tmp_path / "train.parquet"
    path.write_bytes(path.read_bytes()[:1000])

    with pytest.raises(UsageError, match=r"train.parquet: not a whole parquet file"):
        load_dataset("cifar10", folder=tmp_path)


def test_a_parquet_row_that_is_no_image_is_named(tmp_path: Path) -> None:
    write_parquet(tmp_path, make_content())
    table = pa.table(
        {"image": [png(make_content().pixels[0, 0]), b"x"], "label": [0, 1]}
    )
    pq.write_table(table, tmp_path / "test.parquet")

    with pytest.raises(UsageError, match=r"test.parquet row 1: not a whole image"):
        load_dataset("cifar10", folder=tmp_path)


def test_a_parquet_file_of_other_columns_is_named(tmp_path: Path) -> None:
    write_parquet(tmp_path, make_content())
    pq.write_table(pa.table({"a": [1], "label": [1]}), tmp_path / "train.parquet")

    with pytest.raises(UsageError, match="columns a, label: expected img or image"):
        load_dataset("cifar10", folder=tmp_path)


def test_a_folder_without_cifar_says_what_belongs_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no cifar10 in .*cifar-10-python.tar.gz"):
        load_dataset("cifar10", folder=tmp_path)


def test_training_files_alone_are_not_enough(tmp_path: Path) -> None:
    write_parquet(tmp_path, make_content())
    (tmp_path / "test.parquet").unlink()

    with pytest.raises(UsageError, match=r"no test.parquet beside it"):
        load_dataset("cifar10", folder=tmp_path)
