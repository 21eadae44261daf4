import gzip
import hashlib
import lzma
import pickle
import struct

import numpy as np
import pytest
import torch

from coprune.data import (
    LabelledImages,
    find_cifar10,
    load_sample,
    load_test,
    load_train,
    normalize,
)

FILENAMES = "filenames_train50000_test10000.txt.xz"


BATCHES = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]


@pytest.fixture(scope="module")
def published():
    """The training and the test images, and the names of their files."""
    try:
        folder = find_cifar10()
    except FileNotFoundError as error:
        pytest.skip(str(error))
    if not (folder / FILENAMES).exists():
        pytest.skip(f"{folder} does not hold the compact form")
    names = lzma.decompress((folder / FILENAMES).read_bytes()).decode().split()
    return load_train(folder), load_test(folder), names


@pytest.fixture
def pickle_folder(tmp_path):
    random = np.random.default_rng(4)
    for name in BATCHES:
        content = {
            b"data": random.integers(0, 256, (6, 3072), dtype=np.uint8),
            b"labels": random.integers(0, 10, 6).tolist(),
        }
        (tmp_path / name).write_bytes(pickle.dumps(content, protocol=2))
    return tmp_path


def encode_planes(images: np.ndarray) -> np.ndarray:
    red, green, blue = images.astype(int).transpose(1, 0, 2, 3)
    planes = np.stack([green, red - green, blue - green])
    residuals = np.empty(planes.shape, np.uint8)
    for plane, image, y, x in np.ndindex(planes.shape):
        pixels = planes[plane, image]
        left = pixels[y, x - 1] if x else pixels[y - 1, x] if y else 0
        up = pixels[y - 1, x] if y else left
        corner = pixels[y - 1, x - 1] if x and y else left
        predicted = sorted((left, up, left + up - corner))[1]
        residuals[plane, image, y, x] = (pixels[y, x] - predicted) & 255
    return residuals


def published_pickle(
    images: np.ndarray, *, labels: np.ndarray, names: list[str], title: str
) -> bytes:
    """Return the bytes that Python 2 wrote in 2009."""
    count = 0

    def memo() -> bytes:
        nonlocal count
        count += 1
        return b"q" + bytes([count]) if count < 256 else b"r" + struct.pack("<I", count)

    def text(value: str) -> bytes:
        return b"U" + bytes([len(value)]) + value.encode()

    def listing(items: list[bytes]) -> bytes:
        parts = (items[start : start + 1000] for start in range(0, len(items), 1000))
        return b"".join(b"(" + b"".join(part) + b"e" for part in parts)

    pixels = images.tobytes()
    return b"".join(
        [
            b"\x80\x02}" + memo() + b"(",
            text("batch_label") + memo() + text(title) + memo(),
            text("labels") + memo() + b"]" + memo(),
            listing([b"K" + bytes([label]) for label in labels]),
            text("data") + memo() + b"cnumpy.core.multiarray\n_reconstruct\n" + memo(),
            b"cnumpy\nndarray\n" + memo() + b"K\x00\x85U\x01b\x87R" + memo(),
            b"(K\x01M\x10'M\x00\x0c\x86cnumpy\ndtype\n" + memo() + b"U\x02u1K\x00K\x01\x87R",
            memo() + b"(K\x03U\x01|NNN" + b"J\xff\xff\xff\xff" * 2 + b"K\x00tb\x89",
            b"T" + struct.pack("<I", len(pixels)) + pixels + b"tb",
            text("filenames") + memo() + b"]" + memo(),
            listing([text(name) + memo() for name in names]),
            b"u.",
        ]
    )


def test_pickle_folder_is_read_in_the_order_of_its_batches(pickle_folder):
    train, test = load_train(pickle_folder), load_test(pickle_folder)
    assert (len(train), len(test)) == (30, 6)
    for data, name, start in [(train, "data_batch_3", 12), (test, "test_batch", 0)]:
        content = pickle.loads((pickle_folder / name).read_bytes())
        rows = data.images[start : start + 6].reshape(6, 3072)
        assert data.images.dtype == data.labels.dtype == np.uint8
        assert np.array_equal(rows, content[b"data"])
        assert np.array_equal(data.labels[start : start + 6], content[b"labels"])


def test_compact_folder_is_read_as_it_was_written(tmp_path):
    random = np.random.default_rng(6)
    images = random.integers(0, 256, (12, 3, 32, 32), dtype=np.uint8)
    images[::2] = random.choice(np.array([0, 255], np.uint8), (6, 3, 32, 32))
    labels = random.integers(0, 10, 12, dtype=np.uint8)
    np.save(tmp_path / "labels_train50000_test10000_u8.npy", labels)
    for number, name in enumerate(BATCHES):
        planes = encode_planes(images[2 * number : 2 * number + 2])
        (tmp_path / f"{name}.med.gz").write_bytes(gzip.compress(planes.tobytes()))

    train, test = load_train(tmp_path), load_test(tmp_path)
    assert np.array_equal(train.images, images[:10])
    assert np.array_equal(train.labels, labels[:10])
    assert np.array_equal(test.images, images[10:])
    assert np.array_equal(test.labels, labels[10:])


def test_last_training_batch_rebuilds_the_published_file(published):
    train, _, names = published
    content = published_pickle(
        train.images[40_000:],
        labels=train.labels[40_000:],
        names=names[40_000:50_000],
        title="training batch 5 of 5",
    )
    assert hashlib.md5(content).hexdigest() == "482c414d41f54cd18b22e5b47cb7c3cb"


def test_test_batch_rebuilds_the_published_file(published):
    _, test, names = published
    content = published_pickle(
        test.images, labels=test.labels, names=names[50_000:], title="testing batch 1 of 1"
    )
    assert hashlib.md5(content).hexdigest() == "40351d587109b95175f43aff81a1287e"


def test_sample_is_part_of_the_data_set(published):
    sample = load_sample()
    train, test, _ = published
    assert np.array_equal(sample.test.images, test.images[:500])
    assert np.array_equal(sample.test.labels, test.labels[:500])
    chosen = np.arange(256) * 50_000 // 256
    assert np.array_equal(sample.calibration.images, train.images[chosen])
    assert np.array_equal(sample.calibration.labels, train.labels[chosen])


def test_sample_has_all_classes_and_the_documented_shape():
    sample = load_sample()
    for part, count in [(sample.calibration, 256), (sample.test, 500)]:
        assert part.images.shape == (count, 3, 32, 32)
        assert part.images.dtype == part.labels.dtype == np.uint8
        assert np.array_equal(np.unique(part.labels), np.arange(10))


def test_missing_data_set_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=f"no CIFAR-10 in {tmp_path}: give the path"):
        find_cifar10(tmp_path)


def test_unfinished_pickle_folder_is_not_taken(pickle_folder):
    (pickle_folder / "data_batch_4").unlink()
    with pytest.raises(FileNotFoundError):
        find_cifar10(pickle_folder)


def test_images_without_labels_are_refused():
    with pytest.raises(ValueError, match="3 images cannot have 2 labels"):
        LabelledImages(np.zeros((3, 3, 32, 32), np.uint8), np.zeros(2, np.uint8))


def test_normalization_is_that_of_the_checkpoints():
    images = np.array([0, 255], np.uint8).reshape(2, 1, 1, 1).repeat(3, axis=1)
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    expected = np.stack([-mean / std, (1 - mean) / std])
    pixels = normalize(images)
    assert pixels.dtype == torch.float32
    # float32 against float64: a few units of float32 rounding (6e-8).
    np.testing.assert_allclose(pixels[:, :, 0, 0].numpy(), expected, rtol=1e-6)
