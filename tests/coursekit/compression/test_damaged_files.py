"""Damaged files: every one is refused, none crashes, hangs or fills the memory."""

from __future__ import annotations

import itertools
import random
import struct
from collections import Counter
from collections.abc import Iterator

import pytest
import torch

from coursekit import zoo
from coursekit.compression import (
    ArtifactError,
    load,
    save,
)
from tests.coursekit.compression.madefiles import File, read_all

torch.set_num_threads(1)


def test_the_files_hold_every_form_of_a_tensor(made):
    kinds = {each[3] for file in made.values() for each in file.header["tensors"]}
    forms = {"raw", "float16", "bfloat16", "constant", "shared", "shared-huffman", "grid", "sparse"}
    assert forms <= kinds
    assert any("gaps" in each[4] for each in made["fixed_bits"].header["tensors"])


# Damage that the writer did not make: every such file is refused.


def flipped(file: File, span: tuple[int, int], chance: random.Random) -> bytes:
    at = chance.randrange(*span)
    return file.whole[:at] + bytes([file.whole[at] ^ 1 << chance.randrange(8)]) + file.whole[at + 1 :]


def cut_at_a_border(file: File, span: tuple[int, int], chance: random.Random) -> bytes:
    return file.whole[: span[0]]


def cut_inside(file: File, span: tuple[int, int], chance: random.Random) -> bytes:
    return file.whole[: chance.randrange(*span)]


def piece_lost(file: File, span: tuple[int, int], chance: random.Random) -> bytes:
    at = chance.randrange(*span)
    return file.whole[:at] + file.whole[at + chance.randrange(1, 50) :]


def piece_doubled(file: File, span: tuple[int, int], chance: random.Random) -> bytes:
    at = chance.randrange(*span)
    return file.whole[: at + chance.randrange(1, 50)] + file.whole[at:]


def piece_blank(file: File, span: tuple[int, int], chance: random.Random) -> bytes:
    at, n = chance.randrange(*span), chance.randrange(1, 50)
    return (file.whole[:at] + bytes(n) + file.whole[at + n :])[: len(file.whole)]


def regions_swapped(file: File, span: tuple[int, int], chance: random.Random) -> bytes:
    other = chance.choice(chance.choice(list(file.regions.values())))
    (a, b), (c, d) = sorted((span, other))
    return file.whole[:a] + file.whole[c:d] + file.whole[b:c] + file.whole[a:b] + file.whole[d:]


def more_behind(file: File, span: tuple[int, int], chance: random.Random) -> bytes:
    return file.whole + chance.choice([bytes(chance.randrange(1, 9)), file.whole, chance.randbytes(1000)])


def length_untrue(file: File, span: tuple[int, int], chance: random.Random) -> bytes:
    (true,) = struct.unpack_from("<I", file.whole, 10)
    length = chance.choice([
        0,
        true - 1,
        true + 1,
        2 * true,
        len(file.whole),
        2**31,
        2**32 - 1,
        chance.getrandbits(32),
    ])
    return file.whole[:10] + struct.pack("<I", length) + file.whole[14:]


DAMAGE = (
    flipped, cut_at_a_border, cut_inside, piece_lost, piece_doubled, piece_blank, regions_swapped, more_behind,
    length_untrue,
)  # fmt: skip


def damaged(made: dict[str, File], n: int) -> Iterator[tuple[str, bytes]]:
    """n files that differ from each other and from the whole ones: each kind of damage in turn, to each region."""
    chance, seen = random.Random(0), {file.whole for file in made.values()}
    places = itertools.cycle([(file, spans) for file in made.values() for spans in file.regions.values()])
    while len(seen) < n + len(made):
        file, spans = next(places)
        for damage in DAMAGE:
            raw = damage(file, chance.choice(spans), chance)
            if raw not in seen and len(seen) < n + len(made):
                seen.add(raw)
                yield damage.__name__, raw


def test_a_thousand_damaged_files_are_all_refused(made, whole, tmp_path):
    """Nine kinds of damage to every region of seven networks' files: head, header, and each part of each form."""
    counts: Counter[str] = Counter()
    for i, (kind, raw) in enumerate(damaged(made, 1000)):
        counts[kind] += 1
        (tmp_path / f"{i:03}-{kind}").write_bytes(raw)
    assert len(counts) == len(DAMAGE) and min(counts.values()) >= 40 and sum(counts.values()) == 1000
    verdicts, growth_mb = read_all(tmp_path, whole)
    assert len(verdicts) == 1000
    assert {name: verdict for name, verdict in verdicts.items() if verdict != "refused"} == {}
    assert growth_mb < 100  # the files are smaller than a MB each


def test_another_version_and_another_kind_of_file_are_said_so(tmp_path):
    path = tmp_path / "net"
    save(zoo.load("lenet300"), path)
    raw = bytearray(path.read_bytes())
    raw[4] = 9
    path.write_bytes(raw)
    with pytest.raises(ArtifactError, match="version 9"):
        load(path)
    path.write_bytes(b"PK\x03\x04 a zip file")
    with pytest.raises(ArtifactError, match="no network file"):
        load(path)
