"""Files of networks that hold every form of a tensor, taken apart; and a process of its own that reads damaged ones.

A crash ends that process and not the tests, and its memory is its own.
"""

from __future__ import annotations

import copy
import json
import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

import coursekit
from coursekit import zoo
from coursekit.compression import contents, save
from coursekit.pipeline import (
    cut_channels,
    fold_norms,
    integer_weights,
    low_rank,
    prune,
    share,
    short_floats,
    tucker,
)

READER = """
import json, signal, sys
from pathlib import Path
from coursekit.compression import ArtifactError, load

def peak_mb():
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024

load(sys.argv[1])
before = peak_mb()
for path in sorted(Path(sys.argv[2]).iterdir()):
    signal.setitimer(signal.ITIMER_PROF, 20)  # ends this process: a file takes some milliseconds, not 20 seconds
    try:
        load(path)
        verdict = "loaded"
    except ArtifactError:
        verdict = "refused"
    except BaseException as error:
        verdict = repr(error)
    print(json.dumps([path.name, verdict, peak_mb() - before]), flush=True)
"""


def read_all(folder: Path, whole: Path) -> tuple[dict[str, str], float]:
    """What became of each file of a folder, "refused", "loaded" or an error, and by how many MB the memory grew."""
    root = str(Path(coursekit.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", READER, whole, folder],
        env={**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    names = sorted(path.name for path in folder.iterdir())
    stuck = names[len(rows)] if len(rows) < len(names) else ""
    assert not stuck, f"{stuck} ended the process with {done.returncode}: {done.stderr[-2000:]}"
    assert [name for name, _, _ in rows] == names
    return {name: verdict for name, verdict, _ in rows}, max(growth for _, _, growth in rows)


Step = Callable[[nn.Module], nn.Module]
# Networks after two steps, whose files hold every form of a tensor between them.
MADE: dict[str, tuple[str, tuple[Step, ...]]] = {
    "sparse": ("lenet300", (prune(0.95), share(16))),
    "fixed_bits": ("lenet5", (prune(0.95), share(16))),
    "grid": ("resnet8", (fold_norms(), integer_weights(4))),
    "float16": ("resnet8", (tucker(0.8), short_floats())),
    "bfloat16": ("resnet8", (low_rank(0.8), lambda model: copy.deepcopy(model).bfloat16().float())),
    "shared": ("mobilenet", (cut_channels(0.5), share(16))),
    "constant": ("resnet8", (prune(0.99), short_floats())),
}


class File(NamedTuple):
    """A network's file: its bytes, where each of its regions lies, its header, and the blobs behind it."""

    whole: bytes
    regions: dict[str, list[tuple[int, int]]]
    header: dict[str, Any]
    blobs: list[bytes]


def files(folder: Path) -> dict[str, File]:
    """The file of each network of MADE, also written to the folder."""
    return {name: opened(folder / name, *MADE[name]) for name in MADE}


def opened(path: Path, network: str, steps: tuple[Step, ...] = ()) -> File:
    model = zoo.load(network)
    for step in steps:
        model = step(model)
    save(model, path, huffman=path.name != "fixed_bits")
    raw, parts = path.read_bytes(), contents(path)
    at = parts[0].size_bytes
    regions = {
        "magic": [(0, 4)],
        "version": [(4, 6)],
        "checksum": [(6, 10)],
        "length": [(10, 14)],
        "header": [(14, at)],
    }
    blobs = []
    for part in parts[1:]:
        if part.size_bytes:
            regions.setdefault(f"{part.kind} {part.part}", []).append((at, at + part.size_bytes))
        blobs.append(raw[at : at + part.size_bytes])
        at += part.size_bytes
    return File(raw, regions, json.loads(zlib.decompress(raw[14 : parts[0].size_bytes])), blobs)


def written(header: Any, blobs: list[bytes]) -> bytes:
    """A file with this header and a checksum that fits it."""
    return sealed(zlib.compress(json.dumps(header).encode()), b"".join(blobs))


def sealed(text: bytes, blobs: bytes = b"") -> bytes:
    body = struct.pack("<I", len(text)) + text + blobs
    return b"CKNN" + struct.pack("<HI", 1, zlib.crc32(body)) + body
