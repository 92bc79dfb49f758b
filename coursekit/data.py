"""Images to train and measure on, found without a download wherever possible."""

from __future__ import annotations

import gzip
import hashlib
import math
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

__all__ = [
    "FASHION_CLASSES",
    "DataNotFoundError",
    "Dataset",
    "batches",
    "digits",
    "fashion_mnist",
    "find_fashion_mnist",
    "flip_and_shift",
]

Split = Literal["train", "test"]

FASHION_CLASSES = (
    "T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot",
)  # fmt: skip

_SUBSET = Path(__file__).parent / "assets" / "fashion_mnist_subset.npz"
_DEBIAN = Path("/usr/share/datasets/fashion-mnist")
_FILES = {
    "train": ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"),
    "test": ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"),
}
# Mean and standard deviation of the 60,000 training images, pixels in 0..1.
_MEAN, _STD = 0.2860, 0.3530


class DataNotFoundError(FileNotFoundError):
    """No copy of a data set where the course looks for it; the message says where and what to do."""


@dataclass(frozen=True)
class Dataset:
    """Images and labels of one split, as tensors in memory.

    Attributes: images: (N, 1, H, W) float32, normalised to zero mean and unit variance.
                labels: (N,) int64.
                classes: the names of the labels.
                source: where the data was found.
    """

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    source: str

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        return f"Dataset({len(self):,} images {tuple(self.images.shape[1:])} from {self.source})"

    def take(self, n: int) -> Dataset:
        """The first n images.

        Raises: ValueError if n is not in 1..len(self).
        """
        if not 1 <= n <= len(self):
            raise ValueError(f"n must be in 1..{len(self)}, got {n}")
        return Dataset(self.images[:n], self.labels[:n], self.classes, self.source)


def _read_idx(path: Path) -> np.ndarray:
    """The array in one gzipped IDX file of unsigned bytes."""
    packed = path.read_bytes()
    try:
        raw = gzip.decompress(packed)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path} is not a whole gzip file ({error}); fetch it again") from error
    if raw[:4] not in (b"\x00\x00\x08\x01", b"\x00\x00\x08\x03"):
        raise ValueError(f"{path} is not an IDX file of unsigned bytes; fetch it again")
    n_dims = raw[3]
    shape = tuple(int.from_bytes(raw[4 + 4 * i : 8 + 4 * i]) for i in range(n_dims))
    values = np.frombuffer(raw[4 + 4 * n_dims :], np.uint8)
    if values.size != math.prod(shape):
        raise ValueError(f"{path} holds {values.size} values for shape {shape}; fetch it again")
    return values.reshape(shape)


def find_fashion_mnist() -> Path | None:
    """The folder with all 70,000 Fashion-MNIST images, or None if there is only the shipped subset.

    Looked for in this order: $COURSEKIT_DATA, Debian's package dataset-fashion-mnist, and the
    cache of torchvision (~/.cache/torchvision/FashionMNIST/raw).

    Raises: DataNotFoundError if $COURSEKIT_DATA is set to a folder without the four files.
    """
    needed = [name for names in _FILES.values() for name in names]
    configured = os.environ.get("COURSEKIT_DATA")
    if configured:
        folder = Path(configured)
        missing = [name for name in needed if not (folder / name).is_file()]
        if missing:
            raise DataNotFoundError(
                f"COURSEKIT_DATA is {configured!r}, but {', '.join(missing)} is not there. "
                "Put the files there, or unset COURSEKIT_DATA to use the subset that ships with coursekit."
            )
        return folder
    cache = Path.home() / ".cache" / "torchvision" / "FashionMNIST" / "raw"
    for folder in (_DEBIAN, cache):
        if all((folder / name).is_file() for name in needed):
            return folder
    return None


def fashion_mnist(split: Split, *, subset: bool = False) -> Dataset:
    """Fashion-MNIST, in full where the machine has it, else the shipped balanced subset.

    Args:    split: "train" (60,000 images, subset 10,000) or "test" (10,000, subset 2,000).
             subset: True for the shipped subset in any case, so that every machine sees the same images.
    Returns: a Dataset of (N, 1, 28, 28) images; its `source` says which copy was used.
    Raises:  ValueError for another split; DataNotFoundError if $COURSEKIT_DATA points nowhere.
    Source:  Xiao, Rasul, Vollgraf 2017, arXiv:1708.07747 (MIT licence).
    """
    if split not in _FILES:
        raise ValueError(f"split must be 'train' or 'test', got {split!r}")
    folder = None if subset else find_fashion_mnist()
    if folder is None:
        with np.load(_SUBSET) as archive:
            pixels, labels = archive[f"{split}_images"], archive[f"{split}_labels"]
        source = f"the subset shipped with coursekit ({split})"
    else:
        pixels, labels = (_read_idx(folder / name) for name in _FILES[split])
        source = f"{folder} ({split})"
    images = torch.from_numpy(pixels.astype(np.float32)).div_(255).sub_(_MEAN).div_(_STD)
    return Dataset(images.unsqueeze(1), torch.from_numpy(labels.astype(np.int64)), FASHION_CLASSES, source)


def digits(split: Split, *, seed: int = 0) -> Dataset:
    """scikit-learn's 1,797 handwritten digits, 8 x 8, split 80 : 20 at random by seed.

    Returns: a Dataset of (N, 1, 8, 8) images.
    Raises:  ValueError for another split.
    Source:  Alpaydin, Kaynak 1998, UCI Optical Recognition of Handwritten Digits.
    """
    from sklearn.datasets import load_digits

    if split not in ("train", "test"):
        raise ValueError(f"split must be 'train' or 'test', got {split!r}")
    bunch = load_digits()
    order = np.random.default_rng(seed).permutation(len(bunch.target))
    n_train = int(0.8 * len(order))
    chosen = order[:n_train] if split == "train" else order[n_train:]
    pixels = torch.from_numpy(bunch.images[chosen].astype(np.float32)).div_(16)
    images = pixels.sub_(0.3053).div_(0.3761).unsqueeze(1)  # mean and sd over all 1,797 images
    labels = torch.from_numpy(bunch.target[chosen].astype(np.int64))
    return Dataset(images, labels, tuple("0123456789"), f"scikit-learn digits ({split})")


def batches(
    data: Dataset, batch_size: int = 128, *, generator: torch.Generator | None = None
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields (images, labels) batches, shuffled if a generator is given.

    Args:   data: the images. batch_size: images a batch; the last may be smaller.
    Raises: ValueError if batch_size is below 1.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    order = torch.arange(len(data)) if generator is None else torch.randperm(len(data), generator=generator)
    for chosen in order.split(batch_size):
        yield data.images[chosen], data.labels[chosen]


def flip_and_shift(images: Tensor, generator: torch.Generator | None = None, max_shift: int = 2) -> Tensor:
    """Each image mirrored with probability 1/2 and moved by up to max_shift pixels in x and y.

    Args:    images: (N, C, H, W). max_shift: pixels; what moves in is the border value.
    Returns: (N, C, H, W), a new tensor.
    Source:  the augmentation of He et al. 2016, arXiv:1512.03385, section 4.2, scaled to 28 x 28.
    """
    n, _, height, width = images.shape
    flip = torch.rand(n, generator=generator) < 0.5
    dy, dx = torch.randint(0, 2 * max_shift + 1, (2, n), generator=generator)
    padded = torch.nn.functional.pad(images, [max_shift] * 4, mode="replicate")
    rows = dy[:, None] + torch.arange(height)  # (N, H)
    columns = dx[:, None] + torch.arange(width)  # (N, W)
    columns = torch.where(flip[:, None], columns.flip(1), columns)
    index = torch.arange(n)[:, None, None]
    return padded.permute(0, 2, 3, 1)[index, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def write_subset(path: Path = _SUBSET, n_train: int = 10_000, n_test: int = 2_000) -> str:
    """Writes the shipped subset from the full data: the first images of each class, in file order.

    Returns: the SHA-256 of the images and labels written.
    Raises:  DataNotFoundError if the full data is not on this machine.
    """
    folder = find_fashion_mnist()
    if folder is None:
        raise DataNotFoundError("writing the subset needs all of Fashion-MNIST; see find_fashion_mnist")
    arrays = {}
    for split, n in (("train", n_train), ("test", n_test)):
        pixels, labels = (_read_idx(folder / name) for name in _FILES[split])
        per_class = [np.flatnonzero(labels == c)[: n // 10] for c in range(10)]
        chosen = np.sort(np.concatenate(per_class))
        arrays[f"{split}_images"], arrays[f"{split}_labels"] = pixels[chosen], labels[chosen]
    np.savez_compressed(path, **arrays)  # type: ignore[arg-type]
    return hashlib.sha256(b"".join(array.tobytes() for array in arrays.values())).hexdigest()
