import gzip
import struct

import numpy as np
import pytest
import torch

from coprune.data import fashion_mnist
from coprune.data.fashion_mnist import (
    find_fashion_mnist,
    load_sample,
    load_test,
    load_train,
    normalize,
    read_idx,
)


def idx(values: np.ndarray) -> bytes:
    """The bytes of an IDX file."""
    return struct.pack(f">4B{values.ndim}I", 0, 0, 8, values.ndim, *values.shape) + values.tobytes()


@pytest.fixture
def made(tmp_path):
    """A folder of the four files, two of them packed, and their content."""
    random = np.random.default_rng(1)
    content = {}
    for part, count in (("train", 12), ("t10k", 5)):
        images = random.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = random.integers(0, 10, count, dtype=np.uint8)
        (tmp_path / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(images)))
        (tmp_path / f"{part}-labels-idx1-ubyte").write_bytes(idx(labels))
        content[part] = images, labels
    return tmp_path, content


@pytest.fixture(scope="module")
def published():
    try:
        folder = find_fashion_mnist()
    except FileNotFoundError as error:
        pytest.skip(str(error))
    return load_train(folder), load_test(folder)


def test_files_are_read_packed_or_not(made):
    folder, content = made
    for load, part in ((load_train, "train"), (load_test, "t10k")):
        images, labels = content[part]
        loaded = load(folder)
        assert np.array_equal(loaded.images, images[:, None])
        assert np.array_equal(loaded.labels, labels)
        assert loaded.images.dtype == loaded.labels.dtype == np.uint8


def test_missing_file_is_named(made):
    folder, _ = made
    (folder / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(FileNotFoundError, match=f"no Fashion-MNIST in {folder}: give the folder"):
        find_fashion_mnist(folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "must be an IDX file"),
        (b"\x00\x00\x08", "must be an IDX file"),
        (b"\x00\x00\x09\x01\x00\x00\x00\x01a", "must be an IDX file of unsigned bytes"),
        (b"\x00\x00\x08\x02\x00\x00\x00\x01", "must be an IDX file"),
        (idx(np.zeros((3, 2), np.uint8))[:-1], r"6 values, as its sizes \[3, 2\] say, not 5"),
        (idx(np.zeros(3, np.uint8)) + b"a", r"3 values, as its sizes \[3\] say, not 4"),
    ],
)
def test_damaged_file_is_refused(tmp_path, content, message):
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_idx(tmp_path / "file")


def test_damaged_packing_is_refused(tmp_path):
    (tmp_path / "file.gz").write_bytes(gzip.compress(idx(np.zeros(100, np.uint8)))[:-12])
    with pytest.raises(ValueError, match=r"file.gz is damaged"):
        read_idx(tmp_path / "file.gz")


def test_images_of_another_size_are_refused(made):
    folder, _ = made
    other = gzip.compress(idx(np.zeros((5, 27, 28), np.uint8)))
    (folder / "t10k-images-idx3-ubyte.gz").write_bytes(other)
    with pytest.raises(ValueError, match=r"must hold images of 28 x 28, not \[5, 27, 28\]"):
        load_test(folder)


def test_labels_out_of_range_are_refused(made):
    folder, _ = made
    (folder / "t10k-labels-idx1-ubyte").write_bytes(idx(np.full(5, 10, np.uint8)))
    with pytest.raises(ValueError, match="must hold labels from 0 to 9"):
        load_test(folder)


def test_sample_is_part_of_the_data_set(published):
    train, test = published
    sample = load_sample()
    assert (len(train), len(test)) == (60_000, 10_000)
    assert np.array_equal(sample.test.images, test.images[:400])
    assert np.array_equal(sample.test.labels, test.labels[:400])
    chosen = np.arange(256) * 60_000 // 256
    assert np.array_equal(sample.calibration.images, train.images[chosen])
    assert np.array_equal(sample.calibration.labels, train.labels[chosen])


def test_normalized_training_images_have_mean_0_and_deviation_1(published):
    pixels = normalize(published[0].images)
    assert abs(float(pixels.mean())) < 1e-3
    assert abs(float(pixels.std()) - 1) < 1e-3


def test_sample_has_all_classes_and_the_documented_shape():
    sample = load_sample()
    for part, count in [(sample.calibration, 256), (sample.test, 400)]:
        assert part.images.shape == (count, *fashion_mnist.IMAGE_SHAPE)
        assert part.images.dtype == part.labels.dtype == np.uint8
        assert np.array_equal(np.unique(part.labels), np.arange(len(fashion_mnist.CLASSES)))
    assert normalize(sample.test.images).dtype == torch.float32
