"""Known mistakes in the front, in the choice to a budget, and in opening a container.

Each `wrong` makes one mistake and no other; a check recognises it by equal results on every probe.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from coursekit.exercises.compression_pipeline.properties import box, front_by_definition, tensor_of
from coursekit.exercises.spec import Mistake

__all__ = [
    "ACCURACY_FRONT",
    "CHOOSE_CANDIDATE",
    "UNPACK_CONTAINER",
    "choice_probes",
    "container_probes",
    "front_probes",
]

Args = tuple[Any, ...]
Candidate = tuple[str, int, float]


def _some() -> list[Candidate]:
    return [
        ("a", 1000, 0.94), ("b", 260, 0.93), ("c", 240, 0.93), ("d", 140, 0.90), ("e", 140, 0.85), ("f", 150, 0.80),
        ("g", 50, 0.60), ("h", 50, 0.60), ("i", 170, 0.82), ("j", 600, 0.70), ("k", 130, 0.61),
    ]  # fmt: skip


def front_probes() -> list[Args]:
    """Beaten ones behind one another, ties in either, equals; in two orders."""
    return [(_some(),), (_some()[::-1],), (_some()[2:7],)]


def _beaten(beats: Callable[[Candidate, Candidate], bool]) -> Callable[[list[Candidate]], list[str]]:
    """The names, by rising bytes, of those that no other beats in this sense."""

    def wrong(candidates: list[Candidate]) -> list[str]:
        left = [b for b in candidates if not any(beats(a, b) for a in candidates if a is not b)]
        return [name for name, _, _ in sorted(left, key=lambda each: each[1])]

    return wrong


def _neighbours(candidates: list[Candidate]) -> list[str]:
    ordered = sorted(candidates, key=lambda each: (each[1], -each[2]))
    return [b[0] for a, b in zip([("", 0, -1.0), *ordered], ordered, strict=False) if b[2] > a[2]]


def _running(candidates: list[Candidate], *, tie: bool = False) -> list[str]:
    names, best = [], -1.0
    for name, _, accuracy in sorted(candidates, key=lambda each: (each[1], -each[2])):
        if accuracy > best or (tie and accuracy == best):
            names.append(name)
            best = accuracy
    return names


def _in_order(candidates: list[Candidate]) -> list[str]:
    front = front_by_definition(candidates)
    return [name for name, _, _ in candidates if name in front]


def _last_of_equals(candidates: list[Candidate]) -> list[str]:
    return front_by_definition(candidates[::-1])


ACCURACY_FRONT = (
    Mistake("keeps_ties", "A larger file of the same accuracy is in your list. It costs more and gains nothing.",
            lambda candidates: _running(candidates, tie=True)),
    Mistake("keeps_less_accurate_of_a_size", "Of two files of one size you keep the less accurate too.",
            _beaten(lambda a, b: a[1] < b[1] and a[2] >= b[2])),
    Mistake("only_neighbours", "You compare each candidate with its neighbour only. It must beat all smaller ones.",
            _neighbours),
    Mistake("strictly_in_both", "For you one beats another only if it is better in both. Better in one and equal in "
            "the "
            "other is enough.", _beaten(lambda a, b: a[1] < b[1] and a[2] > b[2])),
    Mistake("better_in_one_is_enough", "For you one is beaten by whatever is better in a single respect; then hardly "
            "any "
            "is left. The other must be no worse in both.", _beaten(lambda a, b: a[1] < b[1] or a[2] > b[2])),
    Mistake("equals_kill_each_other", "Of two that are equal in both, neither is in your list. The first stays.",
            _beaten(lambda a, b: a[1] <= b[1] and a[2] >= b[2])),
    Mistake("last_of_equals", "Of two that are equal in both you keep the last. Keep the first.", _last_of_equals),
    Mistake("larger_is_better", "You prefer larger files. Fewer bytes are better.",
            lambda candidates: _running([(n, -s, a) for n, s, a in candidates])),
    Mistake("less_accurate_is_better", "You prefer lower accuracy. Higher is better.",
            lambda candidates: front_by_definition([(n, s, -a) for n, s, a in candidates])),
    Mistake("largest_first", "The order is the wrong way round: the smallest file comes first.",
            lambda candidates: front_by_definition(candidates)[::-1]),
    Mistake("order_of_the_input", "Your names are in the order they came in. Sort them by bytes.", _in_order),
    Mistake("whole_candidates", "You return whole candidates. Asked for are their names.",
            lambda candidates: [c for n in front_by_definition(candidates) for c in candidates if c[0] == n]),
    Mistake("indices", "You return indices. Asked for are names.",
            lambda candidates: [[c[0] for c in candidates].index(n) for n in front_by_definition(candidates)]),
)  # fmt: skip


def choice_probes() -> list[Args]:
    """Budgets between the candidates, on one exactly, above all and below all."""
    few = [("p", 90, 0.9), ("q", 95, 0.9), ("r", 80, 0.9), ("s", 60, 0.5), ("t", 40, 0.3), ("u", 70, 0.2)]
    budgets = (1200, 260, 170, 140, 60, 49)
    return [*((_some(), budget) for budget in budgets), (few, 100), (few, 70)]


def _choose(
    key: Callable[[Candidate], Any] = lambda c: (c[2], -c[1]), *,
    fits: Callable[[int, int], bool] = lambda size, budget: size <= budget, otherwise: Any = ValueError,
) -> Callable[[list[Candidate], int], Any]:  # fmt: skip
    def wrong(candidates: list[Candidate], budget: int) -> Any:
        left = [each for each in candidates if fits(each[1], budget)]
        if left:
            return max(left, key=key)[0]
        if otherwise is ValueError:
            raise ValueError("nothing fits")
        return min(candidates, key=lambda each: each[1])[0] if otherwise == "smallest" else otherwise

    return wrong


def _index(candidates: list[Candidate], budget: int) -> int:
    return [name for name, *_ in candidates].index(_choose()(candidates, budget))


def _whole(candidates: list[Candidate], budget: int) -> Candidate:
    return candidates[_index(candidates, budget)]


CHOOSE_CANDIDATE = (
    Mistake("strict_budget", "A file of exactly the budget fits, and you leave it out.",
            _choose(fits=lambda size, budget: size < budget)),
    Mistake("ignores_the_budget", "You choose the most accurate of all, whatever it takes. Only those within the "
            "budget "
            "compete.", _choose(fits=lambda size, budget: True)),
    Mistake("smallest", "You choose the smallest file. Any that fits will do: the most accurate of them wins.",
            _choose(lambda c: -c[1])),
    Mistake("largest_that_fits", "You choose the largest that fits. More bytes are not more accuracy: ask the "
            "accuracy.",
            _choose(lambda c: c[1])),
    Mistake("first_of_equals", "Of equally accurate ones you take the first. Take the smallest file.",
            _choose(lambda c: c[2])),
    Mistake("largest_of_equals", "Of equally accurate ones you take the largest file. Take the smallest.",
            _choose(lambda c: (c[2], c[1]))),
    Mistake("accuracy_per_byte", "You divide accuracy by bytes, and tiny files win. The budget is there to be used.",
            _choose(lambda c: c[2] / c[1])),
    Mistake("least_accurate", "You choose the least accurate that fits.", _choose(lambda c: (-c[2], -c[1]))),
    Mistake("none_if_nothing_fits", "If nothing fits you return None, and somebody will save None. Raise ValueError.",
            _choose(otherwise=None)),
    Mistake("smallest_if_nothing_fits", "If nothing fits you return the smallest all the same. It is over the "
            "budget: raise "
            "ValueError.", _choose(otherwise="smallest")),
    Mistake("whole_candidate", "You return the whole candidate. Asked for is its name.", _whole),
    Mistake("index", "You return an index. Asked for is the name.", _index),
)  # fmt: skip


def container_probes() -> list[Args]:
    """Good containers, damaged ones, another magic, and sizes that lie under a right checksum."""
    parts = {"book": b"\x01\x02\x03", "none": b"", "indices": bytes(range(90, 110)), "é": b"\xff\x80"}
    raw = box(parts)
    payload, table = bytearray(raw), bytearray(raw)
    payload[-4] ^= 8
    table[4] ^= 1
    made = [
        raw, box({"x": b"\x09\x08"}), bytes(payload), bytes(table), raw[:-1], raw[:9], box(parts, magic=b"CKNN"),
        box(parts, more=b"abc"), box(parts, sizes={"indices": 5}), box(parts, sizes={"indices": 5000}),
    ]  # fmt: skip
    return [(tensor_of(each),) for each in made]


def _open(
    *, magic: bool = True, checksum: bool = True, most: bool = True, least: bool = True, start: str = "behind",
    advance: bool = True, empty: bool = True, make: Callable[[Tensor], Any] = lambda part: part.clone(),
) -> Callable[[Tensor], Any]:  # fmt: skip
    """Opens a container with one thing wrong."""

    def wrong(data: Tensor) -> Any:
        raw = bytes(data.tolist())
        if len(raw) < 10 or (magic and raw[:4] != b"BOX1"):
            raise ValueError("no container")
        if checksum and zlib.crc32(raw[8:]) != int.from_bytes(raw[4:8], "little"):
            raise ValueError("damaged")
        table, at = [], 10
        for _ in range(int.from_bytes(raw[8:10], "little")):
            n = raw[at]
            table.append((raw[at + 1 : at + 1 + n].decode(), *struct.unpack_from("<I", raw, at + 1 + n)))
            at += n + 5
        end = at + sum(size for _, size in table)
        if (most and end > len(raw)) or (least and end < len(raw)):
            raise ValueError("sizes")
        at, parts = at if start == "behind" else 10, {}
        for name, size in table:
            if size or empty:
                parts[name] = make(data[at : at + size])
            at += size if advance else 0
        return parts

    return wrong


def _empty_for_damaged(data: Tensor) -> Any:
    try:
        return _open()(data)
    except ValueError:
        return {}


def _refuses_all(data: Tensor) -> Any:
    raise ValueError("damaged")


UNPACK_CONTAINER = (
    Mistake("no_checksum", "A damaged container comes back as if it were whole. Compute zlib.crc32 of all behind the "
            "checksum and compare.", _open(checksum=False)),
    Mistake("any_magic", "Another kind of file is taken for a container. Compare the first four bytes.",
            _open(magic=False)),
    Mistake("believes_the_sizes", "You believe the sizes in the table. A checksum only says that the file is as it was "
            "written: parts and table must fill it exactly.", _open(most=False, least=False)),
    Mistake("ignores_what_is_left", "Bytes behind the last part are ignored. The sizes must add up to all there is.",
            _open(least=False)),
    Mistake("cut_off_parts", "A part that is larger than the rest of the file comes back short: a slice does not "
            "complain. "
            "Check the sum of the sizes.", _open(most=False)),
    Mistake("empty_for_damaged", "For a damaged container you return an empty dict. Nobody will notice: raise "
            "ValueError.",
            _empty_for_damaged),
    Mistake("refuses_good_ones", "You refuse good containers. Numbers are little-endian ('<'), and the checksum is "
            "of the "
            "bytes from 8 on.", _refuses_all),
    Mistake("all_from_one_place", "Every part starts where the first one does. Move on by its size.",
            _open(advance=False)),
    Mistake("starts_in_the_table", "Your parts start right behind the number of parts, inside the table. They come "
            "after "
            "it.", _open(start="table")),
    Mistake("drops_empty_parts", "A part of 0 bytes is missing. It is a part like any other.", _open(empty=False)),
    Mistake("lists", "Your parts are lists of numbers. Asked for are uint8 tensors.",
            _open(make=lambda part: part.tolist())),
    Mistake("signed", "Your parts are int8, from -128 to 127. Bytes are uint8.",
            _open(make=lambda part: part.view(torch.int8).clone())),
)  # fmt: skip
