import numpy as np
import pytest
import torch

from coprune.data import load_data_set


@pytest.fixture
def arrays():
    random = np.random.default_rng(6)
    return {
        "images": random.integers(0, 256, (40, 2, 4, 5), dtype=np.uint8),
        "labels": random.integers(0, 300, 40),
    }


def load(tmp_path, **arrays):
    np.savez(tmp_path / "own.npz", **arrays)
    return load_data_set(str(tmp_path / "own.npz"))


def test_every_tenth_image_is_held_out(tmp_path, arrays):
    data = load(tmp_path, **arrays)
    assert np.array_equal(data.test.images, arrays["images"][9::10])
    assert np.array_equal(data.test.labels, arrays["labels"][9::10])
    assert np.array_equal(data.train.labels, np.delete(arrays["labels"], slice(9, None, 10)))
    assert len(data.train) == 36


def test_test_images_are_the_files_own(tmp_path, arrays):
    own = {"test_images": arrays["images"][:3], "test_labels": arrays["labels"][:3]}
    data = load(tmp_path, **arrays, **own)
    assert np.array_equal(data.test.images, arrays["images"][:3])
    assert np.array_equal(data.train.labels, arrays["labels"])


def test_pixels_are_normalized_by_the_training_images(tmp_path, arrays):
    data = load(tmp_path, **arrays)
    pixels = data.normalize(torch.as_tensor(data.train.images))
    assert pixels.dtype == torch.float32
    # PyTorch adds a thousand float32 values up in cascades: each is rounded some ten times by up to
    # 6e-8, which makes 6e-7; the statistics that the pixels are normalized by are such sums, too.
    assert torch.allclose(pixels.mean((0, 2, 3)), torch.zeros(2), atol=1e-5)
    assert torch.allclose(pixels.std((0, 2, 3), correction=0), torch.ones(2), atol=1e-5)
    assert torch.equal(torch.cat(data.calibration_batches(batch=7)), pixels)


def test_pixels_are_normalized_as_the_file_says(tmp_path, arrays):
    data = load(tmp_path, **arrays, mean=np.array([0.0, 1.0]), std=np.array([1.0, 0.5]))
    pixels = data.normalize(torch.full((1, 2, 1, 1), 51, dtype=torch.uint8))
    # 51 / 255 is no float32, and three operations round: by 6e-8 each, a fifth of 1e-6 in all.
    assert pixels.flatten().tolist() == pytest.approx([0.2, -1.6], rel=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": None}, r"own\.npz must hold 'labels'; it has images"),
        ({"images": np.zeros((40, 2, 4, 5))}, r"images in .* must be uint8 \[N, C, H, W\], not fl"),
        ({"labels": np.zeros(3, int)}, r"labels in .* must be 40 integers, .*, not int64 \[3\]"),
        ({"labels": np.zeros(40)}, "labels in .* must be 40 integers, .*, not float64"),
        ({"test_images": np.zeros((1, 2, 4, 5), np.uint8)}, "must hold 'test_labels'; it has im"),
    ],
)
def test_wrong_file_is_refused(tmp_path, arrays, change, message):
    arrays = {name: value for name, value in {**arrays, **change}.items() if value is not None}
    with pytest.raises(ValueError, match=message):
        load(tmp_path, **arrays)


def test_file_with_too_few_images_is_refused(tmp_path, arrays):
    with pytest.raises(ValueError, match="must hold at least 10 images, or test_images too"):
        load(tmp_path, images=arrays["images"][:9], labels=arrays["labels"][:9])


def test_damaged_file_is_refused(tmp_path):
    (tmp_path / "own.npz").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"own\.npz is no \.npz file"):
        load_data_set(str(tmp_path / "own.npz"))


def test_unknown_data_set_is_refused():
    message = "dataset must be one of cifar10, fashion-mnist or an .npz file, not 'mnist'"
    with pytest.raises(ValueError, match=message):
        load_data_set("mnist")
