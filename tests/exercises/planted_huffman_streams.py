"""Lesson 12 (codes and positions) as students write it: right in other ways than ours, and wrong in ways of their own.

WRONG[exercise][mistake id] is code that makes this mistake; RIGHT[exercise] is code that must get full marks. Most
wrong code is one line away from right code, as students' is.
"""

SETUP = """
import heapq
import math
import torch
from torch import Tensor
"""


def slip(code: str, right: str, wrong: str) -> str:
    """The code with one thing wrong in it."""
    assert code.count(right) == 1, (right, code)
    return code.replace(right, wrong)


CANONICAL = """
def canonical_codes(lengths):
    codes = [0] * len(lengths)
    code, before = 0, 0
    order = sorted(range(len(lengths)), key=lambda symbol: (lengths[symbol], symbol))
    for symbol in order:
        if lengths[symbol] == 0:
            continue
        code = code << (lengths[symbol] - before)
        before = lengths[symbol]
        codes[symbol] = code
        code = code + 1
    return codes
"""

DECODE = """
def decode_symbols(bits, codes, lengths, n):
    symbols = []
    code, size, at = 0, 0, 0
    while len(symbols) < n:
        if at == len(bits):
            raise ValueError("cut off")
        code = 2 * code + int(bits[at])
        size += 1
        at += 1
        for symbol in range(len(codes)):
            if lengths[symbol] == size and codes[symbol] == code:
                symbols.append(symbol)
                code, size = 0, 0
                break
    return symbols
"""

RELATIVE = """
def relative_positions(x, n_bits):
    gaps, values = [], []
    zeros = 0
    for value in x.tolist():
        if value == 0:
            zeros += 1
            continue
        while zeros > 2 ** n_bits - 1:
            gaps.append(2 ** n_bits - 1)
            values.append(0.0)
            zeros -= 2 ** n_bits
        gaps.append(zeros)
        values.append(value)
        zeros = 0
    return torch.tensor(gaps, dtype=torch.int64), torch.tensor(values, dtype=x.dtype)
"""

BACK = """
def from_relative_positions(gaps, values, n):
    x = torch.zeros(n, dtype=values.dtype)
    at = 0
    for gap, value in zip(gaps.tolist(), values.tolist()):
        at += gap
        x[at] = value
        at += 1
    return x
"""

RIGHT = {
    "canonical_codes": [
        CANONICAL,
        """
def canonical_codes(lengths):
    longest = max(lengths, default=0)
    how_many = [lengths.count(size) if size else 0 for size in range(longest + 1)]
    following, code = [0] * (longest + 1), 0
    for size in range(1, longest + 1):
        code = (code + how_many[size - 1]) << 1
        following[size] = code
    codes = []
    for size in lengths:
        codes.append(following[size] if size else 0)
        following[size] += 1 if size else 0
    return codes
""",
        """
def canonical_codes(lengths):
    # the codes as numbers between 0 and 1: each begins where the last one's interval ends
    codes, start, unit = [0 for _ in lengths], 0, max(lengths, default=0)
    for size, symbol in sorted((s, k) for k, s in enumerate(lengths) if s > 0):
        codes[symbol] = start >> (unit - size)
        start += 1 << (unit - size)
    return codes
""",
    ],
    "decode_symbols": [
        DECODE,
        """
def decode_symbols(bits, codes, lengths, n):
    words = {format(c, "b").zfill(l): k for k, (c, l) in enumerate(zip(codes, lengths)) if l}
    text, out, word = iter("".join(map(str, bits.tolist()))), [], ""
    while len(out) < n:
        try:
            word += next(text)
        except StopIteration:
            raise ValueError("not enough bits") from None
        if word in words:
            out.append(words[word])
            word = ""
    return out
""",
        """
def decode_symbols(bits, codes, lengths, n):
    tree = {}
    for k in range(len(codes)):
        node = tree
        for place in reversed(range(lengths[k])):
            bit = codes[k] >> place & 1
            if place == 0:
                node[bit] = k
            else:
                node = node.setdefault(bit, {})
    out, node, rest = [], tree, bits.tolist()[::-1]
    while len(out) < n:
        if not rest:
            raise ValueError("the bits are used up")
        node = node[rest.pop()]
        if not isinstance(node, dict):
            out.append(node)
            node = tree
    return out
""",
    ],
    "relative_positions": [
        RELATIVE,
        """
def relative_positions(x, n_bits):
    largest = 2 ** n_bits - 1
    gaps, values, pending = [], [], []
    for v in x:
        if v != 0:
            gaps += [largest] * (len(pending) // (largest + 1)) + [len(pending) % (largest + 1)]
            values += [torch.zeros_like(v)] * (len(pending) // (largest + 1)) + [v]
            pending = []
        else:
            pending.append(v)
    stacked = torch.stack(values) if values else x[:0]
    return torch.tensor(gaps, dtype=torch.long), stacked
""",
        """
def relative_positions(x, n_bits):
    span = 2 ** n_bits
    last, stored = -1, []
    for place in torch.nonzero(x).flatten().tolist():
        while place - last > span:
            last += span
            stored.append((span - 1, last))
        stored.append((place - last - 1, place))
        last = place
    gaps = torch.tensor([gap for gap, _ in stored], dtype=torch.int64)
    return gaps, x[torch.tensor([place for _, place in stored], dtype=torch.int64)]
""",
    ],
    "from_relative_positions": [
        BACK,
        """
def from_relative_positions(gaps, values, n):
    places = torch.cumsum(gaps.long() + 1, dim=0) - 1
    return torch.zeros(n, dtype=values.dtype).scatter(0, places, values)
""",
        """
def from_relative_positions(gaps, values, n):
    numbers = []
    for i in range(len(gaps)):
        numbers.extend([0.0] * int(gaps[i]))
        numbers.append(float(values[i]))
    numbers.extend([0.0] * (n - len(numbers)))
    return torch.tensor(numbers, dtype=values.dtype)
""",
    ],
}

SKIP = "        if lengths[symbol] == 0:\n            continue\n"
GROW = "        code = code << (lengths[symbol] - before)\n"
CUT = '            raise ValueError("cut off")\n'
FILL = """        while zeros > 2 ** n_bits - 1:
            gaps.append(2 ** n_bits - 1)
            values.append(0.0)
            zeros -= 2 ** n_bits
"""
NOTE = "        gaps.append(zeros)\n        values.append(value)\n"

WRONG = {
    "canonical_codes": {
        "in_symbol_order": slip(
            slip(CANONICAL, "(lengths[symbol], symbol)", "symbol"),
            GROW,
            "        if lengths[symbol] > before:\n            code = code << (lengths[symbol] - before)\n",
        ),
        "later_symbol_first": slip(CANONICAL, "(lengths[symbol], symbol)", "(lengths[symbol], -symbol)"),
        "longest_first": slip(
            slip(CANONICAL, "(lengths[symbol], symbol)", "(-lengths[symbol], symbol)"),
            GROW,
            "        code = code << max(0, lengths[symbol] - before)\n",
        ),
        "never_shifted": slip(
            slip(CANONICAL, GROW, ""), "codes[symbol] = code", "codes[symbol] = code % 2 ** before"
        ),
        "shifted_by_one": slip(
            CANONICAL, GROW, "        if lengths[symbol] > before:\n            code = code << 1\n"
        ),
        "anew_at_each_length": slip(
            CANONICAL, GROW, "        if lengths[symbol] > before:\n            code = 0\n"
        ),
        "shifted_before_counting": """
def canonical_codes(lengths):
    codes, code, before = [0] * len(lengths), -1, 0
    for size, symbol in sorted((s, k) for k, s in enumerate(lengths) if s):
        code = (code << (size - before) if before else -1) + 1
        codes[symbol], before = code, size
    return codes
""",
        "starts_at_one": slip(CANONICAL, "code, before = 0, 0", "code, before = 1, 0"),
        "absent_symbols_count": slip(CANONICAL, SKIP, ""),
        "bits_mirrored": slip(
            CANONICAL,
            "return codes",
            "return [int(format(c, f'0{s}b')[::-1], 2) if s else 0 for c, s in zip(codes, lengths)]",
        ),
        "counted_down": slip(
            CANONICAL, "return codes", "return [2 ** s - 1 - c if s else 0 for c, s in zip(codes, lengths)]"
        ),
        "texts": slip(
            CANONICAL,
            "return codes",
            "return [format(c, 'b').zfill(s) if s else '' for c, s in zip(codes, lengths)]",
        ),
    },
    "decode_symbols": {
        "reads_all_bits": slip(
            slip(DECODE, "while len(symbols) < n:", "while True:"), CUT, "            break\n"
        ),
        "n_bits": slip(slip(DECODE, "while len(symbols) < n:", "while at < n:"), CUT, "            break\n"),
        "shorter_result": slip(DECODE, CUT, "            break\n"),
        "filled_with_zeros": slip(DECODE, CUT, "            symbols.append(0)\n            continue\n"),
        "first_bit_lowest": slip(DECODE, "2 * code + int(bits[at])", "code + int(bits[at]) * 2 ** size"),
        "length_ignored": slip(DECODE, "lengths[symbol] == size and", "lengths[symbol] > 0 and"),
        "not_reset": slip(
            DECODE, "code, size = 0, 0\n                break", "size = 0\n                break"
        ),
        "codes_for_symbols": slip(DECODE, "symbols.append(symbol)", "symbols.append(codes[symbol])"),
        "last_one_missing": slip(DECODE, "return symbols", "return symbols[: n - 1] if n else symbols"),
        "waits_for_the_longest": slip(
            DECODE, "lengths[symbol] == size and", "lengths[symbol] == size == max(lengths) and"
        ),
    },
    "relative_positions": {
        "absolute": """
def relative_positions(x, n_bits):
    return torch.nonzero(x).flatten(), x[x != 0]
""",
        "no_fillers": slip(RELATIVE, FILL, ""),
        "saturates": slip(
            slip(RELATIVE, FILL, ""), "gaps.append(zeros)", "gaps.append(min(zeros, 2 ** n_bits - 1))"
        ),
        "wraps": slip(slip(RELATIVE, FILL, ""), "gaps.append(zeros)", "gaps.append(zeros % 2 ** n_bits)"),
        "differences": slip(RELATIVE, "gaps.append(zeros)", "gaps.append(zeros + 1)"),
        "filler_one_short": slip(RELATIVE, "zeros -= 2 ** n_bits\n", "zeros -= 2 ** n_bits - 1\n"),
        "filler_too_early": slip(
            slip(
                slip(RELATIVE, "zeros > 2 ** n_bits - 1", "zeros > 2 ** n_bits - 2"),
                "gaps.append(2 ** n_bits - 1)",
                "gaps.append(2 ** n_bits - 2)",
            ),
            "zeros -= 2 ** n_bits\n",
            "zeros -= 2 ** n_bits - 1\n",
        ),
        "filler_too_late": slip(
            slip(
                slip(RELATIVE, "zeros > 2 ** n_bits - 1", "zeros > 2 ** n_bits"),
                "gaps.append(2 ** n_bits - 1)",
                "gaps.append(2 ** n_bits)",
            ),
            "zeros -= 2 ** n_bits\n",
            "zeros -= 2 ** n_bits + 1\n",
        ),
        "filler_behind": slip(
            slip(
                RELATIVE, FILL, "        full = zeros // 2 ** n_bits\n        zeros = zeros % 2 ** n_bits\n"
            ),
            NOTE,
            NOTE + "        gaps += [2 ** n_bits - 1] * full\n        values += [0.0] * full\n",
        ),
        "filler_without_gap": slip(RELATIVE, "gaps.append(2 ** n_bits - 1)", "gaps.append(0)"),
        "one_filler": slip(RELATIVE, "        while zeros >", "        if zeros >"),
        "fillers_at_the_end": slip(
            RELATIVE,
            "    return torch",
            "    for _ in range(zeros // 2 ** n_bits):\n        gaps.append(2 ** n_bits - 1)\n"
            "        values.append(0.0)\n"
            "    return torch",
        ),
        "values_without_fillers": slip(RELATIVE, "            values.append(0.0)\n", ""),
        "first_missing": slip(
            RELATIVE, "    return torch", "    gaps, values = gaps[1:], values[1:]\n    return torch"
        ),
    },
    "from_relative_positions": {
        "gaps_as_places": slip(BACK, "        x[at] = value\n", "        x[gap] = value\n"),
        "value_takes_no_place": slip(BACK, "        at += 1\n", ""),
        "one_too_far": slip(BACK, "    at = 0\n", "    at = 1\n"),
        "too_short": """
def from_relative_positions(gaps, values, n):
    parts = [torch.cat([torch.zeros(int(g)), v.reshape(1)]) for g, v in zip(gaps, values)]
    return torch.cat(parts)
""",
        "fillers_dropped": slip(BACK, "        at += 1\n", "        at += 1 if value else 0\n"),
        "gap_behind": """
def from_relative_positions(gaps, values, n):
    x, at = torch.zeros(n), 0
    for gap, value in zip(gaps.tolist(), values.tolist()):
        x[at] = value
        at += 1 + gap
    return x
""",
        "from_the_end": slip(BACK, "        x[at] = value\n", "        x[n - 1 - at] = value\n"),
        "ones": slip(BACK, "        x[at] = value\n", "        x[at] = 1\n"),
        "mask": slip(BACK, "return x", "return x.bool()"),
    },
}
