"""coursekit.data: what is read, from where, and what the batches hold."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import coursekit
from coursekit import data
from coursekit.data import Dataset, batches, digits, fashion_mnist, find_fashion_mnist, flip_and_shift

ASSETS = Path(coursekit.__file__).parent / "assets"


def needs_all_of_fashion_mnist() -> None:
    if find_fashion_mnist() is None:
        pytest.skip("only the shipped subset of Fashion-MNIST is on this machine")


def idx_file(path: Path, array: np.ndarray, *, cut: int = 0, magic: bytes | None = None) -> Path:
    """Writes a gzipped IDX file by the format's own description, without its last `cut` bytes."""
    header = magic if magic is not None else bytes([0, 0, 8, array.ndim])
    raw = header + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()
    path.write_bytes(gzip.compress(raw[: len(raw) - cut]))
    return path


def small(n: int = 10, side: int = 6) -> Dataset:
    images = torch.arange(n * side * side, dtype=torch.float32).reshape(n, 1, side, side)
    return Dataset(images, torch.arange(n), tuple("0123456789"), "a test")


@pytest.mark.parametrize(("split", "a_class"), [("train", 1000), ("test", 200)])
def test_subset_has_equally_many_images_of_each_class(split, a_class):
    subset = fashion_mnist(split, subset=True)
    assert torch.bincount(subset.labels).tolist() == [a_class] * 10
    assert subset.images.shape == (10 * a_class, 1, 28, 28)
    assert subset.images.dtype == torch.float32
    assert "shipped" in subset.source


@pytest.mark.parametrize("split", ["train", "test"])
def test_subset_is_the_first_images_of_each_class_of_the_full_set(split):
    needs_all_of_fashion_mnist()
    full, subset = fashion_mnist(split), fashion_mnist(split, subset=True)
    for label in range(10):
        chosen = subset.images[subset.labels == label]
        assert torch.equal(chosen, full.images[full.labels == label][: len(chosen)])


def test_full_set_is_normalised_to_zero_mean_and_unit_deviation():
    needs_all_of_fashion_mnist()
    train = fashion_mnist("train")
    assert len(train) == 60_000
    # The constants have four digits: an error of 5e-5 in either moves the result by at most 2e-4.
    assert train.images.mean().item() == pytest.approx(0, abs=2e-4)
    assert train.images.std().item() == pytest.approx(1, abs=2e-4)


def test_licence_of_the_shipped_images_is_beside_them():
    text = (ASSETS / "LICENSE.fashion-mnist.txt").read_text(encoding="utf-8")
    assert "Copyright (c) 2017 Zalando SE" in text
    assert "Permission is hereby granted, free of charge" in text


def test_another_split_is_refused_with_the_two_that_exist():
    with pytest.raises(ValueError, match="'train' or 'test', got 'validation'"):
        fashion_mnist("validation")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="'train' or 'test', got 'validation'"):
        digits("validation")  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", [(5,), (2, 3, 4)], ids=["labels", "images"])
def test_idx_file_comes_back_as_written(tmp_path, shape):
    array = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    assert np.array_equal(data._read_idx(idx_file(tmp_path / "a.gz", array)), array)


@pytest.mark.parametrize(
    ("cut", "magic", "message"),
    [
        (1, None, "holds 23 values for shape"),
        (0, b"\x00\x00\x0d\x03", "not an IDX file of unsigned bytes"),
        (0, b"\x00\x00\x08\x02", "not an IDX file of unsigned bytes"),
    ],
    ids=["a_byte_missing", "floats", "two_dimensions"],
)
def test_broken_idx_file_is_refused_by_name(tmp_path, cut, magic, message):
    path = idx_file(tmp_path / "a.gz", np.zeros((2, 3, 4), np.uint8), cut=cut, magic=magic)
    with pytest.raises(ValueError, match=message) as caught:
        data._read_idx(path)
    assert str(path) in str(caught.value)
    assert "fetch it again" in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"no gzip", None], ids=["empty", "text", "half_a_file"])
def test_file_that_is_not_whole_gzip_is_refused_by_name(tmp_path, content):
    path = idx_file(tmp_path / "a.gz", np.arange(240, dtype=np.uint8).reshape(4, 6, 10))
    path.write_bytes(path.read_bytes()[:60] if content is None else content)
    with pytest.raises(ValueError, match="fetch it again"):
        data._read_idx(path)


def test_configured_folder_without_the_files_is_an_error_that_names_them(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSEKIT_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(data.DataNotFoundError, match=r"nowhere.*train-images-idx3-ubyte.gz.*unset") as caught:
        fashion_mnist("test")
    assert isinstance(caught.value, FileNotFoundError)


def test_shipped_subset_is_used_wherever_the_variable_points(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSEKIT_DATA", str(tmp_path / "nowhere"))
    assert len(fashion_mnist("test", subset=True)) == 2_000


def test_configured_folder_is_read(tmp_path, monkeypatch):
    pixels = np.random.default_rng(0).integers(0, 256, (3, 28, 28), dtype=np.uint8)
    for images, labels in data._FILES.values():
        idx_file(tmp_path / images, pixels)
        idx_file(tmp_path / labels, np.array([7, 0, 9], np.uint8))
    monkeypatch.setenv("COURSEKIT_DATA", str(tmp_path))
    found = fashion_mnist("train")
    assert str(tmp_path) in found.source
    assert found.labels.tolist() == [7, 0, 9]
    back = found.images.squeeze(1) * 0.3530 + 0.2860
    # float32: a rounding of at most 2**-24 in each of four steps, on values up to 3.
    assert torch.allclose(back * 255, torch.from_numpy(pixels).float(), atol=255 * 3 * 4 * 2**-24)


def test_without_any_copy_the_subset_stands_in(tmp_path, monkeypatch):
    monkeypatch.delenv("COURSEKIT_DATA", raising=False)
    monkeypatch.setattr(data, "_DEBIAN", tmp_path / "nowhere")
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    assert find_fashion_mnist() is None
    assert len(fashion_mnist("test")) == 2_000
    with pytest.raises(data.DataNotFoundError, match="all of Fashion-MNIST"):
        data.write_subset(tmp_path / "subset.npz")


def test_subset_can_be_written_again_bit_for_bit(tmp_path):
    needs_all_of_fashion_mnist()
    data.write_subset(tmp_path / "subset.npz", n_train=0)
    with np.load(tmp_path / "subset.npz") as again, np.load(data._SUBSET) as shipped:
        assert np.array_equal(again["test_images"], shipped["test_images"])
        assert np.array_equal(again["test_labels"], shipped["test_labels"])


def test_digits_are_split_by_seed_without_overlap_or_loss():
    train, test = digits("train"), digits("test")
    assert (len(train), len(test)) == (1437, 360)
    assert train.images.shape[1:] == (1, 8, 8)
    whole = torch.cat([train.images, test.images])
    other = torch.cat([digits("train", seed=1).images, digits("test", seed=1).images])
    assert not torch.equal(whole, other)
    assert torch.equal(whole.flatten(1).sum(1).sort().values, other.flatten(1).sum(1).sort().values)
    assert torch.equal(digits("train").images, train.images)
    assert whole.mean().item() == pytest.approx(0, abs=2e-4)  # constants of four digits
    assert whole.std().item() == pytest.approx(1, abs=2e-4)


def test_take_gives_the_first_images_and_refuses_a_number_it_does_not_have():
    dataset = small(10)
    assert torch.equal(dataset.take(3).images, dataset.images[:3])
    assert repr(dataset.take(3)) == "Dataset(3 images (1, 6, 6) from a test)"
    for n in (0, 11):
        with pytest.raises(ValueError, match=f"1..10, got {n}"):
            dataset.take(n)


@settings(deadline=None)  # a busy machine is no failure
@given(n=st.integers(1, 40), batch_size=st.integers(1, 50), shuffled=st.booleans())
def test_batches_cover_each_image_once_with_its_own_label(n, batch_size, shuffled):
    images = torch.arange(n, dtype=torch.float32).reshape(n, 1, 1, 1)
    dataset = Dataset(images, torch.arange(n), (), "a test")
    generator = torch.Generator().manual_seed(n) if shuffled else None
    seen = list(batches(dataset, batch_size, generator=generator))
    assert all(torch.equal(x.flatten().long(), y) for x, y in seen)
    labels = torch.cat([y for _, y in seen])
    assert sorted(labels.tolist()) == list(range(n))
    if not shuffled:
        assert labels.tolist() == list(range(n))
    assert [len(y) for _, y in seen[:-1]] == [batch_size] * (len(seen) - 1)


def test_batches_are_shuffled_alike_by_the_same_seed_only():
    def order(seed):
        generator = torch.Generator().manual_seed(seed)
        return torch.cat([y for _, y in batches(small(), 4, generator=generator)]).tolist()

    assert order(1) == order(1) != order(2)
    assert order(1) != list(range(10))


def test_batch_size_below_one_is_refused():
    with pytest.raises(ValueError, match="at least 1, got 0"):
        next(batches(small(), 0))


@settings(deadline=None)
@given(
    seed=st.integers(0, 2**31),
    max_shift=st.integers(0, 3),
    height=st.integers(4, 9),
    width=st.integers(4, 9),
    channels=st.integers(1, 2),
)
def test_each_image_is_flipped_or_not_then_shifted_by_whole_pixels(seed, max_shift, height, width, channels):
    """The oracle tries every allowed flip and shift of an index image with its border repeated."""
    images = torch.rand(3, channels, height, width, generator=torch.Generator().manual_seed(seed))
    before = images.clone()
    moved = flip_and_shift(images, torch.Generator().manual_seed(seed), max_shift)
    assert torch.equal(images, before)
    assert moved.shape == images.shape

    def variants(image):
        for flipped in (image, image.flip(-1)):
            for dy in range(-max_shift, max_shift + 1):
                for dx in range(-max_shift, max_shift + 1):
                    rows = (torch.arange(height) + dy).clamp(0, height - 1)
                    columns = (torch.arange(width) + dx).clamp(0, width - 1)
                    yield flipped[:, rows][:, :, columns]

    for image, result in zip(images, moved, strict=True):
        assert any(torch.equal(result, variant) for variant in variants(image))


def test_without_a_shift_half_of_the_images_are_mirrored_and_the_rest_unchanged():
    images = torch.rand(2000, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    moved = flip_and_shift(images, torch.Generator().manual_seed(1), max_shift=0)
    same = (moved == images).flatten(1).all(1)
    mirrored = (moved == images.flip(-1)).flatten(1).all(1)
    assert (same ^ mirrored).all()
    # Binomial(2000, 1/2) has a deviation of 22.4; five of them.
    assert abs(int(same.sum()) - 1000) < 112
