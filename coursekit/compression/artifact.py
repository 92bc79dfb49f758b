"""One small file that is a network: `save(model, path)`, `load(path)`. No pickle; nothing in it is ever executed.

All numbers little-endian:

    magic "CKNN" | version, u16 | crc32 of all that follows, u32 | bytes of the header, u32 |
    header: JSON, deflated | the blobs of all tensors, one behind the other

The header holds the structure (`structure.py`) and, for each tensor, its name, shape, dtype, kind (`encodings.py`),
facts and the length of each blob.
"""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from coursekit.compression.encodings import DTYPES, Encoded, decode_tensor, encode_tensor
from coursekit.compression.structure import build_structure, describe_structure

__all__ = ["ArtifactError", "Part", "contents", "load", "published", "save"]

_PUBLISHED = Path(__file__).parents[1] / "assets" / "artifacts"

MAGIC, VERSION = b"CKNN", 1
HEAD = struct.Struct("<4sHII")
MOST_HEADER = 1 << 22


class ArtifactError(ValueError):
    """The file is damaged, cut off, of another kind, or of a version this program does not know."""


@dataclass(frozen=True)
class Part:
    """A part of a file.

    Attributes: tensor: its name, or "" for what belongs to the whole file. kind: the tensor's form.
                part: "values", "codebook", "indices", "positions", "scales", "codes", "value" or "header".
                size_bytes: the sizes of all parts add up to the file's.
    """

    tensor: str
    kind: str
    part: str
    size_bytes: int


def save(model: nn.Module, path: str | PathLike[str], *, huffman: bool = True) -> int:
    """Writes a network into one file, each tensor in the smallest form that gives it back exactly (-0.0 as 0.0).

    Pruned weights, shared weights, weights on a grid of integers and 16-bit values become small by themselves: what a
    technique did to the values is found in them. The file is written beside its place and moved there whole.

    Args:    model: one of coursekit.models, with parts replaced or cut, or an nn.Sequential of plain layers.
             huffman: False for codes of a fixed number of bits: to see what Huffman coding brings.
    Returns: the bytes of the file.
    Raises:  TypeError naming the part of the model, or the tensor, that has no form in a file or would not load again;
             nothing is written then.
    Source:  Taught in lesson 15.
    """
    header: dict[str, Any] = {"structure": describe_structure(model), "tensors": []}
    blobs: list[bytes] = []
    places = _places(build_structure(header["structure"]))
    for name, tensor in model.state_dict().items():
        if not _fits(tensor.shape, tensor.dtype, places.get(name)):
            raise TypeError(
                f"the tensor {name}, {tensor.dtype} {tuple(tensor.shape)}, has no place in the network that would "
                "be loaded: masks and other additions must be made permanent first, and sizes must be true"
            )
        encoded = encode_tensor(tensor, huffman=huffman)
        lengths = {part: len(blob) for part, blob in encoded.blobs.items()}
        dtype = str(tensor.dtype).removeprefix("torch.")
        header["tensors"].append([name, list(tensor.shape), dtype, encoded.kind, encoded.facts, lengths])
        blobs += encoded.blobs.values()
    text = zlib.compress(json.dumps(header, separators=(",", ":")).encode(), 9)
    body = b"".join([struct.pack("<I", len(text)), text, *blobs])
    data = MAGIC + struct.pack("<HI", VERSION, zlib.crc32(body)) + body
    target = Path(path)
    beside = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        beside.write_bytes(data)
        os.replace(beside, target)
    finally:
        beside.unlink(missing_ok=True)
    return len(data)


def published(name: str) -> Path:
    """The file that ships with the course and holds this network, as Deep Compression made it in a long run.

    Args:   name: "lenet300" or "lenet5".
    Raises: ValueError for another name.
    Source: Han et al. 2016, arXiv:1510.00149; benchmarks/deep_compression.py. Taught in lesson 15.
    """
    paths = {path.stem: path for path in sorted(_PUBLISHED.glob("*.cknn"))}
    if name not in paths:
        raise ValueError(f"name must be one of {', '.join(paths)}, got {name!r}")
    return paths[name]


def load(path: str | PathLike[str]) -> nn.Module:
    """The network in a file that `save` wrote, in eval mode, ready to run.

    Raises: ArtifactError if the file is damaged, cut off, of another kind or version; FileNotFoundError.
    """
    header, payload, _ = _read(path)
    try:
        model = build_structure(header["structure"])
        found = dict(_tensors(header, payload, _places(model)))
        if len(found) != len(header["tensors"]):
            raise ValueError("a tensor is there twice")
        model.load_state_dict(found, assign=True)
    except (
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        ArithmeticError,
        RuntimeError,
        MemoryError,
    ) as error:
        raise ArtifactError(f"{path}: {error}") from error
    return model.eval()


def contents(path: str | PathLike[str]) -> list[Part]:
    """What takes how many bytes of a file; the sizes add up to the file's.

    Raises: as `load`.
    """
    header, _, overhead = _read(path)
    parts = [Part("", "", "header", overhead)]
    for name, _shape, _dtype, kind, _facts, lengths in header["tensors"]:
        parts += [Part(name, kind, part, size) for part, size in lengths.items()]
    return parts


def _read(path: str | PathLike[str]) -> tuple[dict[str, Any], memoryview, int]:
    """The header, the blobs behind it, and the bytes before them."""
    data = Path(path).read_bytes()
    if len(data) < HEAD.size or data[:4] != MAGIC:
        raise ArtifactError(f"{path} is no network file, or cut off")
    _, version, checksum, n_header = HEAD.unpack_from(data)
    if version != VERSION:
        raise ArtifactError(f"{path} is of version {version}; this program reads version {VERSION}")
    if zlib.crc32(data[10:]) != checksum:
        raise ArtifactError(f"{path} is damaged or cut off: its checksum does not fit")
    start = HEAD.size + n_header
    inflate = zlib.decompressobj()
    try:
        header = json.loads(inflate.decompress(data[HEAD.size : start], MOST_HEADER))
        if not inflate.eof or inflate.unused_data:
            raise ValueError("the header is longer or shorter than it says")
        sizes = [size for _, _, _, _, _, lengths in header["tensors"] for size in lengths.values()]
    except (zlib.error, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ArtifactError(f"{path}: the header cannot be read") from error
    if any(type(size) is not int or size < 0 for size in sizes) or start + sum(sizes) != len(data):
        raise ArtifactError(f"{path}: the header does not fit the file")
    return header, memoryview(data)[start:], start


Place = tuple[tuple[int, ...], torch.dtype]


def _places(model: nn.Module) -> dict[str, Place]:
    """Shape and dtype of each tensor of a network."""
    return {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in model.state_dict().items()}


def _fits(shape: Iterable[int], dtype: torch.dtype | None, place: Place | None) -> bool:
    """Whether a tensor may stand in this place: of its shape, and its dtype or another floating-point one."""
    if place is None or dtype is None or tuple(shape) != place[0]:
        return False
    return dtype == place[1] or (dtype.is_floating_point and place[1].is_floating_point)


def _tensors(
    header: dict[str, Any], payload: memoryview, wanted: dict[str, Place]
) -> Iterator[tuple[str, Tensor]]:
    at = 0
    for name, shape, dtype, kind, facts, lengths in header["tensors"]:
        if not _fits(shape, DTYPES.get(dtype), wanted.get(name)):
            raise ValueError(f"tensor {name!r}, {dtype} {shape}, does not fit the network in the file")
        blobs = {}
        for part, size in lengths.items():
            blobs[part] = bytes(payload[at : at + size])
            at += size
        yield name, decode_tensor(Encoded(kind, blobs, facts), wanted[name][0], DTYPES[dtype])
