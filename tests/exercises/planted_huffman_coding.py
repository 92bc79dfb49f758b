"""Lesson 12 as students write it: right in other ways than ours, and wrong in ways of their own.

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


ENTROPY = """
def entropy(counts):
    total = sum(counts)
    bits = 0.0
    for count in counts:
        if count > 0:
            bits -= count / total * math.log2(count / total)
    return bits
"""

LENGTHS = """
def code_lengths(counts):
    nodes = [(count, [symbol]) for symbol, count in enumerate(counts) if count > 0]
    lengths = [0 for _ in counts]
    while len(nodes) > 1:
        nodes.sort(key=lambda node: node[0])
        (a, left), (b, right) = nodes[0], nodes[1]
        for symbol in left + right:
            lengths[symbol] += 1
        nodes = nodes[2:] + [(a + b, left + right)]
    return lengths
"""

BYTES = """
def coded_bytes(counts, lengths):
    payload = 0
    for count, size in zip(counts, lengths):
        payload += count * size
    table = 5 * len(lengths)
    return math.ceil(payload / 8) + math.ceil(table / 8)
"""

RIGHT = {
    "entropy": [
        ENTROPY,
        """
def entropy(counts):
    p = torch.as_tensor(counts, dtype=torch.float64)
    p = p[p > 0]
    p = p / p.sum()
    return float(-(p * p.log2()).sum())
""",
        """
def entropy(counts):
    n = sum(counts)
    return math.log2(n) - sum(c * math.log2(c) for c in counts if c) / n
""",
    ],
    "code_lengths": [
        LENGTHS,
        """
def code_lengths(counts):
    parent, heap = {}, []
    for symbol, count in enumerate(counts):
        if count:
            heapq.heappush(heap, (count, symbol))
    new = len(counts)
    while len(heap) >= 2:
        a, b = heapq.heappop(heap), heapq.heappop(heap)
        parent[a[1]] = parent[b[1]] = new
        heapq.heappush(heap, (a[0] + b[0], new))
        new += 1
    lengths = []
    for symbol in range(len(counts)):
        depth = 0
        while symbol in parent:
            symbol, depth = parent[symbol], depth + 1
        lengths.append(depth)
    return lengths
""",
        """
def code_lengths(counts):
    def walk(node, depth):
        if isinstance(node, int):
            lengths[node] = depth
        else:
            walk(node[0], depth + 1)
            walk(node[1], depth + 1)

    lengths = [0] * len(counts)
    heap = [(count, -symbol, symbol) for symbol, count in enumerate(counts) if count]
    heapq.heapify(heap)
    tick = 1
    while len(heap) > 1:
        a = heapq.heappop(heap)
        b = heapq.heappop(heap)
        heapq.heappush(heap, (a[0] + b[0], tick, (a[2], b[2])))
        tick += 1
    if heap:
        walk(heap[0][2], 0)
    return lengths
""",
    ],
    "coded_bytes": [
        BYTES,
        """
def coded_bytes(counts, lengths):
    return (sum(c * s for c, s in zip(counts, lengths)) + 7) // 8 + (5 * len(counts) + 7) // 8
""",
        """
def coded_bytes(counts, lengths):
    bits = int((torch.tensor(counts, dtype=torch.int64) * torch.tensor(lengths, dtype=torch.int64)).sum())
    whole = lambda n: n // 8 + (n % 8 > 0)
    return whole(bits) + whole(len(lengths) * 5)
""",
    ],
}

LOG = "math.log2(count / total)"

WRONG = {
    "entropy": {
        "natural_logarithm": slip(ENTROPY, LOG, "math.log(count / total)"),
        "decimal_logarithm": slip(ENTROPY, LOG, "math.log10(count / total)"),
        "no_minus": slip(ENTROPY, "bits -=", "bits +="),
        "zero_count": slip(ENTROPY, "if count > 0:", "if True:"),
        "counts_for_shares": slip(
            ENTROPY, "count / total * math.log2(count / total)", "count * math.log2(count)"
        ),
        "in_all": slip(ENTROPY, "count / total * math", "count * math"),
        "unweighted": """
def entropy(counts):
    there = [count for count in counts if count]
    return -sum(math.log2(count / sum(there)) for count in there) / len(there)
""",
        "fixed_length": """
def entropy(counts):
    return math.log2(len([count for count in counts if count]))
""",
        "relative": slip(ENTROPY, "return bits", "return bits / math.log2(sum(c > 0 for c in counts))"),
        "rounded_up": slip(ENTROPY, LOG, "-math.ceil(math.log2(total / count))"),
        "adds_one": slip(
            ENTROPY,
            "    total = sum(counts)",
            "    counts = [c + 1 for c in counts]\n    total = sum(counts)",
        ),
    },
    "code_lengths": {
        "fixed_length": """
def code_lengths(counts):
    present = [count for count in counts if count]
    size = (len(present) - 1).bit_length()
    return [size if count else 0 for count in counts]
""",
        "rounded_shannon": """
def code_lengths(counts):
    total = sum(counts)
    return [math.ceil(math.log2(total / count)) if count else 0 for count in counts]
""",
        "comb": """
def code_lengths(counts):
    ranked = sorted([k for k in range(len(counts)) if counts[k]], key=lambda k: counts[k], reverse=True)
    lengths = [0] * len(counts)
    for place, k in enumerate(ranked, start=1):
        lengths[k] = place
    if ranked:
        lengths[ranked[-1]] = len(ranked) - 1
    return lengths
""",
        "joins_the_largest": slip(LENGTHS, "node[0])", "-node[0])"),
        "pair_counts_as_the_larger": slip(LENGTHS, "(a + b,", "(max(a, b),"),
        "absent_symbols_join": slip(LENGTHS, " if count > 0]", "]"),
        "one_bit_alone": slip(
            LENGTHS,
            "    while len",
            "    if len(nodes) == 1:\n        lengths[nodes[0][1][0]] = 1\n    while len",
        ),
        "one_too_long": slip(LENGTHS, "[0 for _ in counts]", "[1 if count else 0 for count in counts]"),
        "one_side_only": slip(LENGTHS, "for symbol in left + right:", "for symbol in left:"),
        "sorted": slip(LENGTHS, "return lengths", "return sorted(lengths)"),
        "empty": slip(LENGTHS, "    while", "    first = counts[0]\n    while"),
    },
    "coded_bytes": {
        "no_table": slip(BYTES, " + math.ceil(table / 8)", ""),
        "bits": slip(BYTES, "math.ceil(payload / 8) + math.ceil(table / 8)", "payload + table"),
        "rounded_down": slip(
            BYTES, "math.ceil(payload / 8) + math.ceil(table / 8)", "payload // 8 + table // 8"
        ),
        "rounded_together": slip(
            BYTES, "math.ceil(payload / 8) + math.ceil(table / 8)", "math.ceil((payload + table) / 8)"
        ),
        "only_what_occurs": slip(BYTES, "5 * len(lengths)", "5 * len([c for c in counts if c > 0])"),
        "byte_a_length": slip(BYTES, "5 * len(lengths)", "8 * len(lengths)"),
        "codes_in_the_table": slip(BYTES, "5 * len(lengths)", "sum(lengths)"),
        "each_code_once": slip(BYTES, "payload += count * size", "payload += size"),
        "longest_for_all": slip(BYTES, "payload += count * size", "payload += count * max(lengths)"),
        "not_rounded": slip(
            BYTES, "math.ceil(payload / 8) + math.ceil(table / 8)", "payload / 8 + table / 8"
        ),
    },
}
