"""Files that lie with a right checksum, giants and bombs: no harm, and nothing in a file is ever executed."""

from __future__ import annotations

import copy
import io
import itertools
import pickle
import random
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from coursekit.compression import (
    ArtifactError,
    Encoded,
    decode_tensor,
    huffman_encode,
    huffman_stream,
    load,
)
from tests.coursekit.compression.madefiles import MADE, File, opened, read_all, sealed, written

torch.set_num_threads(1)


# Lies with a checksum that fits: some are still networks (another stride, another weight), none does harm.


def mutated(value: Any, chance: random.Random, lie: Callable[[Any], Any]) -> Any:
    """The JSON value with one leaf or branch of it replaced by a lie about it."""
    if isinstance(value, dict | list) and value and chance.random() < 0.95:
        made = copy.copy(value)
        key = chance.choice(list(value) if isinstance(value, dict) else range(len(value)))
        made[key] = mutated(value[key], chance, lie)
        return made
    return lie(value)


LIES: list[Any] = [0, -1, 3, 2**31, 2**62, 1e300, 1e400, 0.5, "", "raw", "sparse", "shared-huffman", "float64", None,
                   True, [], {}, [[]]]  # fmt: skip


def something_else(file: File, chance: random.Random) -> bytes:
    header = mutated(file.header, chance, lambda value: chance.choice([lie for lie in LIES if lie != value]))
    return written(header, file.blobs)


def number_too_large(file: File, chance: random.Random) -> bytes:
    def more(value: Any) -> Any:
        if type(value) is not int:
            return value
        return chance.choice([value + 1, 2 * value + 1, 1000 * value + 1, 2**31, 2**32 + value, 2**62])

    header = file.header
    while header == file.header:
        header = mutated(file.header, chance, more)
    return written(header, file.blobs)


def changed_blob(
    file: File, chance: random.Random, change: Callable[[bytearray], bytes | bytearray]
) -> bytes:
    """The file with one blob changed, the lengths in the header and the blob's own checksum true again."""
    blobs, header = list(file.blobs), copy.deepcopy(file.header)
    at = chance.choice([i for i, blob in enumerate(blobs) if blob])
    blobs[at] = bytes(change(bytearray(blobs[at])))
    if blobs[at][:3] == b"HUF" and len(blobs[at]) >= 8:
        blobs[at] = blobs[at][:4] + struct.pack("<I", zlib.crc32(blobs[at][8:])) + blobs[at][8:]
    sizes = iter(map(len, blobs))
    for tensor in header["tensors"]:
        tensor[5] = {part: next(sizes) for part in tensor[5]}
    return written(header, blobs)


def blob_flipped(file: File, chance: random.Random) -> bytes:
    def change(blob: bytearray) -> bytes | bytearray:
        for _ in range(chance.choice([1, 1, 20])):
            blob[chance.randrange(len(blob))] ^= 1 << chance.randrange(8)
        return blob

    return changed_blob(file, chance, change)


def blob_begins_otherwise(file: File, chance: random.Random) -> bytes:
    """Where a stream tells its numbers of symbols, of streams, of code lengths."""

    def change(blob: bytearray) -> bytes | bytearray:
        at = chance.randrange(8, 25)
        blob[at : at + 4] = chance.choice([b"\xff" * 4, bytes(4), chance.randbytes(4)])
        return blob

    return changed_blob(file, chance, change)


def blob_of_another_length(file: File, chance: random.Random) -> bytes:
    def change(blob: bytearray) -> bytes | bytearray:
        return chance.choice([blob[: len(blob) // 2], blob[:-1], blob + bytes(1), blob + blob, bytearray()])

    return changed_blob(file, chance, change)


def blob_of_noise(file: File, chance: random.Random) -> bytes:
    return changed_blob(file, chance, lambda blob: bytes(blob[:8]) + chance.randbytes(len(blob[8:])))


FORGERIES = (
    something_else, number_too_large, blob_flipped, blob_begins_otherwise, blob_of_another_length, blob_of_noise
)  # fmt: skip


def test_a_thousand_lies_with_a_right_checksum_neither_crash_nor_hang_nor_fill_the_memory(
    made, whole, tmp_path
):
    chance, sources = random.Random(0), itertools.cycle(made.values())
    for i, (file, forge) in enumerate(
        itertools.islice(zip(sources, itertools.cycle(turns()), strict=False), 1000)
    ):
        (tmp_path / f"{i:03}-{forge.__name__}").write_bytes(forge(file, chance))
    verdicts, growth_mb = read_all(tmp_path, whole)
    assert len(verdicts) == 1000
    assert set(verdicts.values()) == {"refused", "loaded"}
    assert growth_mb < 300  # a network may have 2**26 numbers, which is 256 MB
    kinds = Counter(name[4:] for name in verdicts)
    assert min(kinds[forge.__name__] for forge in FORGERIES) > 100
    refused = Counter(name[4:] for name, verdict in verdicts.items() if verdict == "refused")
    # Another weight is no contradiction; a name, a number or a length that is untrue nearly always is one.
    for forge in (something_else, number_too_large, blob_of_another_length):
        assert refused[forge.__name__] > 0.8 * kinds[forge.__name__]


def turns() -> Iterator[Callable[[File, random.Random], bytes]]:
    """Each forgery as often as there are files, so that every file meets every forgery."""
    return (forge for forge in FORGERIES for _ in MADE)


# Sizes beyond all bounds, and files that do harm where they are executed or unpacked.

GIANTS: dict[str, Any] = {
    "a_layer": [{"kind": "Linear", "in_features": 2**31, "out_features": 2**31, "bias": False}],
    "negative_twice": [{"kind": "Linear", "in_features": -4, "out_features": -4, "bias": False}],
    "a_batch_norm": [{"kind": "BatchNorm2d", "num_features": 2**40, "eps": 1e-5, "momentum": 0.1}],
    "many_layers": [{"kind": "Linear", "in_features": 4096, "out_features": 4096, "bias": False}] * 5000,
}


class Harm:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.write_text, (self.path, "executed")


def bombs(harmed: Path) -> dict[str, bytes]:
    """File name to bytes."""
    giants = {
        f"giant-{name}": written(
            {"structure": {"skeleton": "Sequential", "layers": layers}, "tensors": []}, []
        )
        for name, layers in GIANTS.items()
    }
    # Half a GB of one value: 4 bytes in the file, and no contradiction in it.
    layer = {"kind": "Linear", "in_features": 2**14, "out_features": 2**13, "bias": False}
    tensor = ["0.weight", [2**13, 2**14], "float32", "constant", {}, {"value": 4}]
    constant = {"structure": {"skeleton": "Sequential", "layers": [layer]}, "tensors": [tensor]}
    pickled = pickle.dumps(Harm(harmed))
    as_torch, as_zip = io.BytesIO(), io.BytesIO()
    torch.save(Harm(harmed), as_torch)
    with zipfile.ZipFile(as_zip, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("net/data.pkl", pickled)
        archive.writestr("net/zeros", bytes(1 << 24))
    stuffing = zlib.compressobj(9)
    many = b"".join([*(stuffing.compress(bytes(1 << 24)) for _ in range(32)), stuffing.flush()])
    spaces = zlib.compress(b" " * (1 << 26) + b"{}", 9)
    return giants | {
        "giant-constant": written(constant, [bytes(4)]),
        "deflated-half-gigabyte": sealed(many),
        "deflated-spaces": sealed(spaces),
        "nested-lists": sealed(zlib.compress(b"[" * 200_000)),
        "nested-dicts": sealed(zlib.compress(b'{"structure":' * 100_000)),
        "long-number": sealed(zlib.compress(b'{"structure": ' + b"9" * 1_000_000 + b', "tensors": []}')),
        "pickle": pickled,
        "pickle-behind-our-head": sealed(pickled),
        "pickle-deflated": sealed(zlib.compress(pickled)),
        "torch": as_torch.getvalue(),
        "zip": as_zip.getvalue(),
        "empty": b"",
    }


def test_giants_and_bombs_are_refused_unopened(whole, tmp_path):
    harmed, folder = tmp_path / "harmed", tmp_path / "files"
    folder.mkdir()
    for name, raw in bombs(harmed).items():
        (folder / name).write_bytes(raw)
    pickle.loads((folder / "pickle").read_bytes())
    assert harmed.read_text(encoding="utf-8") == "executed"  # so it would, in the hands of another program
    harmed.unlink()
    verdicts, growth_mb = read_all(folder, whole)
    assert {name: verdict for name, verdict in verdicts.items() if verdict != "refused"} == {}
    assert not harmed.exists()
    assert growth_mb < 200  # a giant's list of layers is in memory before their sizes are added up


def test_a_stream_that_claims_four_billion_symbols_is_refused(tmp_path):
    stream = bytearray(huffman_encode(torch.zeros(9, dtype=torch.int64)))
    fields = list(huffman_stream.BODY.unpack_from(stream, huffman_stream.HEAD.size))
    huffman_stream.BODY.pack_into(stream, huffman_stream.HEAD.size, 2**32 - 1, *fields[1:])
    check = zlib.crc32(bytes(stream[huffman_stream.HEAD.size :]))
    huffman_stream.HEAD.pack_into(stream, 0, bytes(stream[:4]), check)
    codebook = struct.pack("<f", 1.0)
    with pytest.raises(ValueError, match="claims"):
        decode_tensor(
            Encoded("shared-huffman", {"codebook": codebook, "indices": bytes(stream)}), (3, 3), torch.float32
        )


def test_a_header_that_lies_is_refused_though_its_checksum_is_right(tmp_path):
    path = tmp_path / "net"
    whole = opened(path, "lenet300")
    header = whole.header
    lies = [
        {"structure": {"skeleton": "__import__", "options": {}, "parts": {}}},
        {"structure": {"skeleton": "ResNet", "options": {"n_blocks": 10**9}, "parts": {}}},
        {"structure": {"skeleton": "LeNet300100", "options": {}, "parts": {"fc1": {"kind": "eval"}}}},
        {"structure": {"skeleton": "LeNet300100", "options": {}, "parts": {"forward": {"kind": "ReLU"}}}},
        {"structure": {"skeleton": "LeNet300100", "options": {}, "parts": {
            "fc1": {"kind": "Linear", "in_features": 10**6, "out_features": 10**6, "bias": True}}}},
        {"tensors": [[n, s, d, "sparse", {"inner": "sparse"}, x] for n, s, d, _, _, x in header["tensors"]]},
        {"tensors": [[n, s, d, "raw", f, {"else": x["values"]}] for n, s, d, _, f, x in header["tensors"]]},
        {"tensors": header["tensors"][:-1]},
        {"tensors": [*header["tensors"], [*header["tensors"][0][:5], {}]]},
        {"tensors": [each[:5] for each in header["tensors"]]},
        {"tensors": 3},
    ]  # fmt: skip
    for lie in lies:
        path.write_bytes(written(header | lie, whole.blobs))
        with pytest.raises(ArtifactError):
            load(path)
