"""Lesson 15 as students write it: right in other ways than ours, and wrong in ways of their own.

WRONG[exercise][mistake id] is code that makes this mistake; RIGHT[exercise] is code that must get full marks. Most
wrong code is one line away from right code, as students' is.
"""

SETUP = """
import struct
import zlib

import torch
from torch import Tensor
"""


def slip(code: str, *changes: str) -> str:
    """The code with one thing wrong in it: right, wrong, right, wrong, …"""
    for right, wrong in zip(changes[::2], changes[1::2], strict=True):
        assert code.count(right) == 1, (right, code)
        code = code.replace(right, wrong)
    return code


RUN = """
def run_pipeline(weights, steps, size_of, distance):
    now = weights
    rows = [{"stage": "original", "size_bytes": size_of(weights), "ratio": 1.0, "error": 0.0}]
    for name in steps:
        before = now
        given = {key: tensor.detach().clone() for key, tensor in before.items()}
        now = steps[name](given)
        size = size_of(now)
        ratio = size_of(weights) / size
        rows.append({"stage": name, "size_bytes": size, "ratio": ratio, "error": distance(weights, now)})
    return now, rows
"""

RUN_DEEPCOPY = """
import copy

def run_pipeline(weights, steps, size_of, distance):
    original = copy.deepcopy(weights)
    stages = [("original", original)]
    for name, step in steps.items():
        stages.append((name, step(copy.deepcopy(stages[-1][1]))))
    rows = []
    for name, made in stages:
        rows.append(dict(stage=name, size_bytes=size_of(made), ratio=size_of(original) / size_of(made),
                         error=distance(original, made)))
    return stages[-1][1], rows
"""

RUN_NESTED = """
def run_pipeline(weights, steps, size_of, distance):
    rows = []

    def note(stage, made):
        bytes_now = size_of(made)
        rows.append({"error": float(distance(weights, made)), "ratio": size_of(weights) / bytes_now,
                     "size_bytes": bytes_now, "stage": stage})
        return made

    current = note("original", weights)
    for name, step in list(steps.items()):
        current = note(name, step({k: torch.clone(v) for k, v in current.items()}))
    return current, rows
"""

BYTES = """
def bytes_by_part(parts, file_size):
    sums = {}
    used = 0
    for tensor, part, size in parts:
        sums[part] = sums.get(part, 0) + size
        used += size
    left = file_size - used
    if left < 0:
        raise ValueError("too many bytes")
    sums["header"] = left
    return sums
"""

RATIO = """
def combined_ratio(n_weights, density, n_bits, gap_bits, n_codes):
    before = n_weights * 32
    left = round(n_weights * density)
    after = left * n_bits + left * gap_bits + n_codes * 32
    return before / after
"""

FRONT = """
def accuracy_front(candidates):
    ordered = sorted(candidates, key=lambda c: (c[1], -c[2]))
    names = []
    best = -1.0
    for name, size, accuracy in ordered:
        if accuracy > best:
            names.append(name)
            best = accuracy
    return names
"""

FRONT_PAIRS = """
def accuracy_front(candidates):
    kept = []
    for i, (name, size, accuracy) in enumerate(candidates):
        beaten = False
        for j, (_, other, better) in enumerate(candidates):
            if i == j:
                continue
            same = other == size and better == accuracy
            if other <= size and better >= accuracy and (not same or j < i):
                beaten = True
        if not beaten:
            kept.append((size, name))
    kept.sort(key=lambda pair: pair[0])
    return [name for _, name in kept]
"""

CHOOSE = """
def choose_candidate(candidates, budget):
    best = None
    for candidate in candidates:
        name, size, accuracy = candidate
        if size > budget:
            continue
        if best is None or accuracy > best[2] or (accuracy == best[2] and size < best[1]):
            best = candidate
    if best is None:
        raise ValueError(f"no candidate of {budget} bytes")
    return best[0]
"""

CHOOSE_SORTED = """
def choose_candidate(candidates, budget):
    fits = sorted([c for c in candidates if c[1] <= budget], key=lambda c: (-c[2], c[1]))
    if len(fits) == 0:
        raise ValueError("nothing fits")
    return fits[0][0]
"""

UNPACK = """
def unpack_container(data):
    raw = bytes(data.tolist())
    if len(raw) < 10:
        raise ValueError("too short")
    if raw[:4] != b"BOX1":
        raise ValueError("another kind of file")
    (checksum,) = struct.unpack("<I", raw[4:8])
    if zlib.crc32(raw[8:]) != checksum:
        raise ValueError("damaged")
    (n_parts,) = struct.unpack("<H", raw[8:10])
    position = 10
    names, sizes = [], []
    for _ in range(n_parts):
        length = raw[position]
        names.append(raw[position + 1 : position + 1 + length].decode("utf-8"))
        position += 1 + length
        sizes.append(struct.unpack("<I", raw[position : position + 4])[0])
        position += 4
    rest = len(raw) - position
    if sum(sizes) > rest:
        raise ValueError("parts larger than the file")
    if sum(sizes) < rest:
        raise ValueError("bytes are left over")
    parts = {}
    for name, size in zip(names, sizes):
        parts[name] = data[position : position + size]
        position += size
    return parts
"""

UNPACK_SLICES = """
def unpack_container(data):
    raw = data.numpy().tobytes()
    if raw[:4] != b"BOX1" or len(raw) < 10 or int.from_bytes(raw[4:8], "little") != zlib.crc32(raw[8:]):
        raise ValueError("no whole container")
    rest, table = raw[10:], []
    for _ in range(int.from_bytes(raw[8:10], "little")):
        n, rest = rest[0], rest[1:]
        name, size, rest = rest[:n].decode(), int.from_bytes(rest[n : n + 4], "little"), rest[n + 4 :]
        table.append((name, size))
    if sum(size for _, size in table) != len(rest):
        raise ValueError("the sizes lie")
    out = {}
    for name, size in table:
        out[name], rest = torch.tensor(list(rest[:size]), dtype=torch.uint8), rest[size:]
    return out
"""

RIGHT = {
    "run_pipeline": [RUN, RUN_DEEPCOPY, RUN_NESTED],
    "bytes_by_part": [
        BYTES,
        """
from collections import Counter

def bytes_by_part(parts, file_size):
    sums = Counter()
    for _, part, size in parts:
        sums[part] += size
    rest = file_size - sum(sums.values())
    if rest < 0:
        raise ValueError(rest)
    return dict(sums, header=rest)
""",
        """
def bytes_by_part(parts, file_size):
    kinds = {part for _, part, _ in parts}
    result = {kind: sum(size for _, part, size in parts if part == kind) for kind in kinds}
    if sum(result.values()) > file_size:
        raise ValueError("impossible")
    result["header"] = file_size - sum(result.values())
    return result
""",
    ],
    "combined_ratio": [
        RATIO,
        """
def combined_ratio(n_weights, density, n_bits, gap_bits, n_codes):
    kept = round(density * n_weights)
    return 32 * n_weights / (kept * (n_bits + gap_bits) + 32 * n_codes)
""",
        """
def combined_ratio(n_weights, density, n_bits, gap_bits, n_codes):
    kept = round(density * n_weights)
    now_bytes = kept * (n_bits + gap_bits) / 8 + 4 * n_codes
    return 4 * n_weights / now_bytes
""",
    ],
    "accuracy_front": [
        FRONT,
        FRONT_PAIRS,
        """
def accuracy_front(candidates):
    front = []
    for name, size, accuracy in sorted(candidates, key=lambda c: (c[1], -c[2])):
        if not front or accuracy > front[-1][1]:
            front.append((name, accuracy))
    return [name for name, _ in front]
""",
    ],
    "choose_candidate": [
        CHOOSE,
        CHOOSE_SORTED,
        """
def choose_candidate(candidates, budget):
    fits = [c for c in candidates if c[1] <= budget]
    if not fits:
        raise ValueError("nothing fits")
    top = max(c[2] for c in fits)
    return min((c for c in fits if c[2] == top), key=lambda c: c[1])[0]
""",
    ],
    "unpack_container": [UNPACK, UNPACK_SLICES, slip(UNPACK, "data[position : position + size]",
                                                     "data[position : position + size].clone()")],
}  # fmt: skip

LEFT_OVER = """    if sum(sizes) < rest:
        raise ValueError("bytes are left over")
"""

CHECKS = """    rest = len(raw) - position
    if sum(sizes) > rest:
        raise ValueError("parts larger than the file")
    if sum(sizes) < rest:
        raise ValueError("bytes are left over")
"""

WRONG = {
    "run_pipeline": {
        "compares_with_itself": slip(RUN, "distance(weights, now)", "distance(now, now)"),
        "works_on_the_original": slip(
            RUN, "{key: tensor.detach().clone() for key, tensor in before.items()}", "before"),
        "restarts": slip(RUN, "in before.items()", "in weights.items()"),
        "ratio_to_the_stage_before": slip(RUN, "size_of(weights) / size\n", "size_of(before) / size\n"),
        "error_to_the_stage_before": slip(RUN, "distance(weights, now)", "distance(before, now)"),
        "upside_down": slip(RUN, "size_of(weights) / size\n", "size / size_of(weights)\n"),
        "share_saved": slip(
            RUN, "size_of(weights) / size\n", "1 - size / size_of(weights)\n", '"ratio": 1.0', '"ratio": 0.0'),
        "ratio_of_parameters": slip(
            RUN, "size_of(weights) / size\n",
            "sum(w.numel() for w in weights.values()) / sum(w.numel() for w in now.values())\n",
        ),
        "no_original": slip(
            RUN, 'rows = [{"stage": "original", "size_bytes": size_of(weights), "ratio": 1.0, "error": 0.0}]', "rows "
            "= []"
        ),
        "measured_too_early": slip(
            RUN, "        now = steps[name](given)\n", "", "distance(weights, now)})\n",
            "distance(weights, now)})\n        now = steps[name](given)\n",
        ),
        "only_the_last_row": slip(RUN, "return now, rows", "return now, [rows[-1]]"),
        "rows_alone": slip(RUN, "return now, rows", "return rows"),
    },
    "bytes_by_part": {
        "overwrites": slip(BYTES, "sums.get(part, 0) + size", "size"),
        "no_header": slip(BYTES, '    sums["header"] = left\n', ""),
        "by_tensor": slip(BYTES, "sums[part] = sums.get(part, 0) + size", "sums[tensor] = sums.get(tensor, 0) + size"),
        "counts": slip(BYTES, "sums.get(part, 0) + size", "sums.get(part, 0) + 1"),
        "header_is_the_file": slip(BYTES, '= left\n', "= file_size\n"),
        "negative_header": slip(BYTES, '    if left < 0:\n        raise ValueError("too many bytes")\n', ""),
        "clamped_header": slip(BYTES, '    if left < 0:\n        raise ValueError("too many bytes")\n', "    left = "
            "max(left, 0)\n"),
        "refuses_an_exact_fit": slip(BYTES, "left < 0", "left <= 0"),
        "header_only_if_any": slip(
            BYTES, '    sums["header"] = left\n', '    if left:\n        sums["header"] = left\n'),
        "shares": slip(BYTES, "return sums", "return {k: v / file_size for k, v in sums.items()}"),
        "bits": slip(BYTES, "return sums", "return {k: v * 8 for k, v in sums.items()}"),
    },
    "combined_ratio": {
        "multiplies": slip(RATIO, "return before / after", "return n_weights / left * (32 / n_bits)"),
        "no_positions": slip(RATIO, " + left * gap_bits", ""),
        "no_codebook": slip(RATIO, " + n_codes * 32", ""),
        "short_codebook": slip(RATIO, "n_codes * 32", "n_codes * n_bits"),
        "positions_for_all": slip(RATIO, "left * gap_bits", "n_weights * gap_bits"),
        "indices_for_all": slip(RATIO, "left * n_bits", "n_weights * n_bits"),
        "sparsity_for_density": slip(RATIO, "left = round(n_weights * density)", "left = round(n_weights * (1 - "
            "density))"),
        "codebook_of_all_indices": slip(RATIO, "n_codes * 32", "2 ** n_bits * 32"),
        "upside_down": slip(RATIO, "before / after", "after / before"),
        "share_saved": slip(RATIO, "before / after", "1 - after / before"),
        "bits_and_bytes": slip(RATIO, "n_weights * 32", "n_weights * 4"),
        "adds": slip(RATIO, "before / after", "1 / density + 32 / n_bits"),
        "not_rounded": slip(RATIO, "round(n_weights * density)", "n_weights * density"),
        "rounded_down": slip(RATIO, "round(n_weights * density)", "int(n_weights * density)"),
    },
    "accuracy_front": {
        "keeps_ties": slip(FRONT, "accuracy > best", "accuracy >= best"),
        "keeps_less_accurate_of_a_size": slip(FRONT_PAIRS, "other <= size and better >= accuracy and (not same or j "
            "< i)",
                                              "other < size and better >= accuracy"),
        "only_neighbours": slip(FRONT, "            names.append(name)\n            best = accuracy\n",
                                "            names.append(name)\n        best = accuracy\n"),
        "strictly_in_both": slip(FRONT_PAIRS, "other <= size and better >= accuracy and (not same or j < i)",
                                 "other < size and better > accuracy"),
        "better_in_one_is_enough": slip(FRONT_PAIRS, "other <= size and better >= accuracy and (not same or j < i)",
                                        "other < size or better > accuracy"),
        "equals_kill_each_other": slip(FRONT_PAIRS, " and (not same or j < i)", ""),
        "last_of_equals": slip(FRONT_PAIRS, "j < i)", "j > i)"),
        "larger_is_better": slip(FRONT, "(c[1], -c[2])", "(-c[1], -c[2])"),
        "less_accurate_is_better": slip(FRONT, "(c[1], -c[2])", "(c[1], c[2])", "best = -1.0", "best = 2.0",
                                        "accuracy > best", "accuracy < best"),
        "largest_first": slip(FRONT, "return names", "return names[::-1]"),
        "order_of_the_input": slip(FRONT, "return names", "return [c[0] for c in candidates if c[0] in names]"),
        "whole_candidates": slip(FRONT, "names.append(name)", "names.append((name, size, accuracy))"),
        "indices": slip(FRONT, "names.append(name)", "names.append([c[0] for c in candidates].index(name))"),
    },
    "choose_candidate": {
        "strict_budget": slip(CHOOSE, "size > budget", "size >= budget"),
        "ignores_the_budget": slip(CHOOSE, "        if size > budget:\n            continue\n", ""),
        "smallest": slip(CHOOSE_SORTED, "(-c[2], c[1])", "c[1]"),
        "largest_that_fits": slip(CHOOSE_SORTED, "(-c[2], c[1])", "-c[1]"),
        "first_of_equals": slip(CHOOSE, " or (accuracy == best[2] and size < best[1])", ""),
        "largest_of_equals": slip(CHOOSE, "size < best[1]", "size > best[1]"),
        "accuracy_per_byte": slip(CHOOSE_SORTED, "(-c[2], c[1])", "-c[2] / c[1]"),
        "least_accurate": slip(CHOOSE, "accuracy > best[2]", "accuracy < best[2]"),
        "none_if_nothing_fits": slip(CHOOSE_SORTED, 'raise ValueError("nothing fits")', "return None"),
        "smallest_if_nothing_fits": slip(CHOOSE_SORTED, 'raise ValueError("nothing fits")',
                                         "return sorted(candidates, key=lambda c: c[1])[0][0]"),
        "whole_candidate": slip(CHOOSE, "return best[0]", "return best"),
        "index": slip(CHOOSE, "return best[0]", "return candidates.index(best)"),
    },
    "unpack_container": {
        "no_checksum": slip(
            UNPACK, '    if zlib.crc32(raw[8:]) != checksum:\n        raise ValueError("damaged")\n', ""),
        "any_magic": slip(UNPACK, '    if raw[:4] != b"BOX1":\n        raise ValueError("another kind of file")\n', ""),
        "believes_the_sizes": slip(UNPACK, CHECKS, ""),
        "ignores_what_is_left": slip(UNPACK, LEFT_OVER, ""),
        "cut_off_parts": slip(
            UNPACK, '    if sum(sizes) > rest:\n        raise ValueError("parts larger than the file")\n', ""
        ),
        "empty_for_damaged": slip(
            UNPACK, "def unpack_container(data):", "def opened(data):"
        ) + "\ndef unpack_container(data):\n    try:\n        return opened(data)\n    except ValueError:\n        "
            "return {}\n",
        "refuses_good_ones": slip(UNPACK, "zlib.crc32(raw[8:])", "zlib.crc32(raw)"),
        "all_from_one_place": slip(UNPACK, "        position += size\n", ""),
        "starts_in_the_table": slip(UNPACK, "    parts = {}\n", "    parts = {}\n    position = 10\n"),
        "drops_empty_parts": slip(UNPACK, "        parts[name] = data", "        if size:\n            parts[name] = "
            "data"),
        "lists": slip(UNPACK_SLICES, "torch.tensor(list(rest[:size]), dtype=torch.uint8)", "list(rest[:size])"),
        "signed": slip(UNPACK, "data[position : position + size]", "data[position : position + size].to(torch.int8)"),
    },
}  # fmt: skip
