"""Lesson 11 as students write it: right in other ways than ours, and wrong in ways of their own.

WRONG[exercise][mistake id] is code that makes this mistake; RIGHT[exercise] is code that must get full marks. Most
wrong code is one line away from right code, as students' is.
"""

SETUP = """
import math
import numpy as np
import torch
from torch import Tensor
"""


def slip(code: str, right: str, wrong: str) -> str:
    """The code with one thing wrong in it."""
    assert code.count(right) == 1, (right, code)
    return code.replace(right, wrong)


STEP = """
def kmeans_step(values, centroids):
    flat = values.reshape(-1)
    distances = (flat[:, None] - centroids[None, :]).abs()
    nearest = distances.argmin(dim=1)
    order = distances.min(dim=1).values.sort(descending=True).indices
    spare = iter(flat[order].tolist())
    new = []
    for j in range(len(centroids)):
        mine = flat[nearest == j]
        if len(mine) > 0:
            new.append(mine.mean().item())
        else:
            new.append(next(spare))
    return torch.tensor(sorted(new), dtype=torch.float64)
"""
EMPTY = """        else:
            new.append(next(spare))
"""
LAST = "    return torch.tensor(sorted(new), dtype=torch.float64)\n"

LOOP_STEP = """
def kmeans_step(values, centroids):
    numbers, centres = values.flatten().tolist(), centroids.tolist()
    groups = {c: [] for c in centres}
    lost = []
    for v in numbers:
        c = min(centres, key=lambda c: abs(c - v))
        groups[c].append(v)
        lost.append((abs(c - v), v))
    lost.sort(reverse=True)
    empty = [c for c in centres if not groups[c]]
    new = [math.fsum(g) / len(g) for g in groups.values() if g] + [v for _, v in lost[: len(empty)]]
    return torch.tensor(sorted(new)).double() if False else torch.tensor(sorted(new), dtype=torch.float64)
"""

NUMPY_STEP = """
def kmeans_step(values, centroids):
    x, c = values.numpy().ravel(), centroids.numpy()
    own = np.searchsorted((c[:-1] + c[1:]) / 2, x)
    count = np.bincount(own, minlength=len(c))
    total = np.bincount(own, weights=x, minlength=len(c))
    new = np.where(count > 0, total / np.maximum(count, 1), 0)
    far = x[np.argsort(-np.abs(x - c[own]))]
    new[count == 0] = far[: (count == 0).sum()]
    return torch.from_numpy(np.sort(new))
"""

INITIAL = """
def initial_centroids(values, n_clusters, init, seed=0):
    x = values.flatten().double()
    if init == "linear":
        return torch.linspace(x.min(), x.max(), n_clusters, dtype=torch.float64)
    if init == "density":
        ranks = (torch.arange(n_clusters).double() + 0.5) / n_clusters
        return x.quantile(ranks)
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(x), generator=generator)[:n_clusters]
    return x[chosen].sort().values
"""
LINEAR = "torch.linspace(x.min(), x.max(), n_clusters, dtype=torch.float64)"
RANKS = "(torch.arange(n_clusters).double() + 0.5) / n_clusters"
CHOSEN = "torch.randperm(len(x), generator=generator)[:n_clusters]"

SHARE = """
def share_with_zeros(weight, centroids):
    codebook = torch.cat([torch.zeros(1, dtype=torch.float64), centroids]).to(weight.dtype)
    distances = (weight.double().unsqueeze(-1) - centroids).abs()
    indices = distances.argmin(dim=-1) + 1
    indices[weight == 0] = 0
    return codebook, indices
"""
ZERO = "    indices[weight == 0] = 0\n"
BOOK = "torch.cat([torch.zeros(1, dtype=torch.float64), centroids]).to(weight.dtype)"

PACK = """
def pack(codes, n_bits):
    text = "".join(f"{code:0{n_bits}b}" for code in codes.flatten().tolist())
    text = text + "0" * (-len(text) % 8)
    return torch.tensor([int(text[i:i + 8], 2) for i in range(0, len(text), 8)], dtype=torch.uint8)
"""
TEXT = 'f"{code:0{n_bits}b}"'
FILL = 'text + "0" * (-len(text) % 8)'
BYTE = "int(text[i:i + 8], 2)"

RATE = """
def sharing_rate(n_weights, n_centroids, n_bits=32):
    index_bits = math.ceil(math.log2(n_centroids))
    before = n_weights * n_bits
    after = n_weights * index_bits + n_centroids * n_bits
    return before / after
"""
INDEX = "math.ceil(math.log2(n_centroids))"
CODEBOOK = "n_centroids * n_bits"

GRADIENT = """
def codebook_gradient(gradient, indices, n_codes):
    sums = torch.zeros(n_codes, dtype=gradient.dtype)
    for value, index in zip(gradient.flatten(), indices.flatten()):
        if index > 0:
            sums[index] += value
    return sums
"""
ADD = "sums[index] += value"
RETURN = "    return sums\n"

RIGHT = {
    "kmeans_step": [
        STEP,
        slip(LOOP_STEP, "torch.tensor(sorted(new)).double() if False else ", ""),
        NUMPY_STEP,
    ],
    "initial_centroids": [
        INITIAL,
        """
def initial_centroids(values, n_clusters, init, seed=0):
    x = np.sort(values.numpy().astype(np.float64), axis=None)
    if init == "linear":
        chosen = np.linspace(x[0], x[-1], n_clusters)
    elif init == "density":
        chosen = np.quantile(x, (np.arange(n_clusters) + 0.5) / n_clusters)
    else:
        chosen = np.sort(np.random.default_rng(seed).choice(x, n_clusters, replace=False))
    return torch.from_numpy(chosen)
""",
        """
def initial_centroids(values, n_clusters, init, seed=0):
    import random
    numbers = sorted(values.flatten().tolist())
    n, k = len(numbers), n_clusters
    if init == "random":
        made = sorted(random.Random(seed).sample(numbers, k))
    elif init == "linear":
        made = [numbers[0] + i * (numbers[-1] - numbers[0]) / (k - 1) for i in range(k)]
    else:
        made = [numbers[min(n - 1, int((i + 0.5) * n / k))] for i in range(k)]
    return torch.tensor(made, dtype=torch.float64)
""",
    ],
    "share_with_zeros": [
        SHARE,
        """
def share_with_zeros(weight, centroids):
    borders = (centroids[:-1] + centroids[1:]) / 2
    indices = (1 + torch.searchsorted(borders, weight.double().contiguous())) * (weight != 0)
    return torch.nn.functional.pad(centroids.to(weight.dtype), (1, 0)), indices
""",
        """
def share_with_zeros(weight: Tensor, centroids: Tensor) -> tuple[Tensor, Tensor]:
    c = centroids.tolist()
    indices = [0 if v == 0 else 1 + min(range(len(c)), key=lambda j: abs(c[j] - v)) for v in weight.flatten().tolist()]
    return torch.tensor([0.0] + c, dtype=weight.dtype), torch.tensor(indices).reshape(weight.shape)
""",
    ],
    "pack": [
        PACK,
        """
def pack(codes, n_bits):
    bits = (codes.flatten()[:, None] >> torch.arange(n_bits - 1, -1, -1)) & 1
    bits = bits.flatten()
    bits = torch.cat([bits, bits.new_zeros(-len(bits) % 8)]).reshape(-1, 8)
    return (bits * 2 ** torch.arange(7, -1, -1)).sum(1).to(torch.uint8)
""",
        """
def pack(codes, n_bits):
    made, held, free = [], 0, 8
    for code in codes.flatten().tolist():
        for shift in reversed(range(n_bits)):
            free -= 1
            held |= ((code >> shift) & 1) << free
            if free == 0:
                made.append(held)
                held, free = 0, 8
    if free < 8:
        made.append(held)
    return torch.tensor(made, dtype=torch.uint8)
""",
    ],
    "sharing_rate": [
        RATE,
        """
def sharing_rate(n_weights, n_centroids, n_bits=32):
    bits = (n_centroids - 1).bit_length()
    return n_weights * n_bits / (n_weights * bits + n_centroids * n_bits)
""",
        """
def sharing_rate(n, k, b=32):
    bits = 0
    while 2 ** bits < k:
        bits += 1
    return 1 / (bits / b + k / n)
""",
    ],
    "codebook_gradient": [
        GRADIENT,
        """
def codebook_gradient(gradient, indices, n_codes):
    one_hot = indices.flatten()[:, None] == torch.arange(n_codes)
    sums = one_hot.to(gradient.dtype).T @ gradient.flatten()
    sums[0] = 0
    return sums
""",
        """
def codebook_gradient(gradient, indices, n_codes):
    kept = gradient * (indices > 0)
    return torch.bincount(indices.flatten(), kept.flatten(), n_codes).to(gradient.dtype)
""",
    ],
}

WRONG = {
    "kmeans_step": {
        "keeps_empty": slip(slip(STEP, "next(spare)", "centroids[j].item()"), "sorted(new)", "new"),
        "divides_by_zero": slip(slip(STEP, "if len(mine) > 0:", "if True:"), "sorted(new)", "new"),
        "empty_becomes_zero": slip(STEP, "next(spare)", "0.0"),
        "drops_empty": slip(slip(STEP, EMPTY, ""), "sorted(new)", "new"),
        "all_to_one_value": slip(STEP, "next(spare)", "flat[order[0]].item()"),
        "to_the_largest": slip(STEP, "next(spare)", "flat.max().item()"),
        "to_the_mean": slip(STEP, "next(spare)", "flat.mean().item()"),
        "out_of_order": slip(STEP, "sorted(new)", "new"),
        "not_flattened": slip(STEP, "values.reshape(-1)", "values"),
        "median": slip(STEP, "mine.mean().item()", "mine.sort().values[(len(mine) - 1) // 2].item()"),
        "between_centroids": """
def kmeans_step(values, centroids):
    x, c = values.numpy().ravel(), centroids.numpy()
    own = np.minimum(np.searchsorted(c, x), len(c) - 1)
    far = list(x[np.argsort(-np.abs(x - c[own]))])
    new = [x[own == j].mean() if (own == j).any() else far.pop(0) for j in range(len(c))]
    return torch.tensor(np.sort(new))
""",
        "until_it_stands": NUMPY_STEP.replace("def kmeans_step", "def one")
        + """
def kmeans_step(values, centroids):
    while True:
        moved = one(values, centroids)
        if torch.equal(moved, centroids):
            return moved
        centroids = moved
""",
        "does_not_move": """
def kmeans_step(values, centroids):
    nearest = (values.flatten()[:, None] - centroids).abs().argmin(1)
    return centroids.clone()
""",
    },
    "initial_centroids": {
        "linear_inside": slip(
            INITIAL,
            LINEAR,
            "x.min() + (x.max() - x.min()) * (torch.arange(n_clusters).double() + 0.5) / n_clusters",
        ),
        "linear_symmetric": slip(INITIAL, "x.min(), x.max(), n", "-x.abs().max(), x.abs().max(), n"),
        "linear_without_end": slip(
            INITIAL, LINEAR, "x.min() + torch.arange(n_clusters) * (x.max() - x.min()) / n_clusters"
        ),
        "density_with_ends": slip(INITIAL, RANKS, "torch.arange(n_clusters).double() / (n_clusters - 1)"),
        "density_at_borders": slip(INITIAL, RANKS, "torch.arange(n_clusters).double() / n_clusters"),
        "density_of_k_plus_1": slip(
            INITIAL, RANKS, "torch.linspace(0, 1, n_clusters + 2, dtype=torch.float64)[1:-1]"
        ),
        "density_is_linear": slip(
            INITIAL,
            "x.quantile(ranks)",
            "x.min() + (x.max() - x.min()) * torch.linspace(0, 1, n_clusters, dtype=torch.float64)",
        ),
        "random_numbers": slip(
            slip(INITIAL, CHOSEN, "torch.rand(n_clusters, generator=generator, dtype=torch.float64)"),
            "x[chosen].sort()",
            "(x.min() + (x.max() - x.min()) * chosen).sort()",
        ),
        "drawn_twice": slip(INITIAL, CHOSEN, "torch.randint(0, len(x), (n_clusters,), generator=generator)"),
        "random_out_of_order": slip(INITIAL, "x[chosen].sort().values", "x[chosen]"),
        "one_seed": slip(INITIAL, "manual_seed(seed)", "manual_seed(0)"),
        "the_first_k": slip(INITIAL, CHOSEN, "torch.arange(n_clusters)"),
    },
    "share_with_zeros": {
        "zeros_shared_too": """
def share_with_zeros(weight, centroids):
    indices = (weight.double().unsqueeze(-1) - centroids).abs().argmin(dim=-1)
    return centroids.to(weight.dtype), indices
""",
        "zero_is_a_cluster": """
def share_with_zeros(weight, centroids):
    codebook = torch.cat([torch.zeros(1, dtype=torch.float64), centroids])
    distances = torch.stack([(weight.double() - c).abs() for c in codebook])
    return codebook.to(weight.dtype), distances.argmin(0)
""",
        "codebook_in_order": """
def share_with_zeros(weight, centroids):
    book = sorted([0.0] + centroids.tolist())
    others = [j for j, c in enumerate(book) if c != 0]
    at = torch.tensor(others)[(weight.double().unsqueeze(-1) - centroids).abs().argmin(-1)]
    at[weight == 0] = book.index(0.0)
    return torch.tensor(book, dtype=weight.dtype), at
""",
        "zero_at_the_end": slip(
            slip(
                slip(
                    SHARE,
                    "[torch.zeros(1, dtype=torch.float64), centroids]",
                    "[centroids, torch.zeros(1, dtype=torch.float64)]",
                ),
                "argmin(dim=-1) + 1",
                "argmin(dim=-1)",
            ),
            "= 0\n",
            "= len(centroids)\n",
        ),
        "not_counted_from_1": slip(SHARE, "argmin(dim=-1) + 1", "argmin(dim=-1)"),
        "no_entry_for_zero": slip(SHARE, BOOK, "centroids.to(weight.dtype)"),
        "threshold": slip(SHARE, "weight == 0", "weight.abs() < 0.001"),
        "zero_is_minus_one": slip(slip(SHARE, "argmin(dim=-1) + 1", "argmin(dim=-1)"), "= 0\n", "= -1\n"),
        "cut_at_centroids": """
def share_with_zeros(weight, centroids):
    place = torch.searchsorted(centroids, weight.double().contiguous())
    place = torch.minimum(place, torch.tensor(len(centroids) - 1)) + 1
    return torch.cat([torch.zeros(1), centroids.float()]), place * (weight != 0)
""",
        "flat_indices": slip(SHARE, "return codebook, indices", "return codebook, indices.reshape(-1)"),
        "swapped": slip(SHARE, "return codebook, indices", "return indices, codebook"),
    },
    "pack": {
        "a_byte_each": """
def pack(codes, n_bits):
    return torch.tensor([int(code) for code in codes.flatten()], dtype=torch.uint8)
""",
        "a_byte_a_bit": """
def pack(codes, n_bits):
    text = "".join(f"{code:0{n_bits}b}" for code in codes.flatten().tolist())
    return torch.tensor([int(bit) for bit in text], dtype=torch.uint8)
""",
        "not_flattened": slip(PACK, "codes.flatten().tolist()", "codes.tolist()"),
        "lowest_bit_first": slip(PACK, TEXT, TEXT + "[::-1]"),
        "from_the_low_end": slip(PACK, BYTE, "int(text[i:i + 8][::-1], 2)"),
        "both_reversed": slip(slip(PACK, TEXT, TEXT + "[::-1]"), BYTE, "int(text[i:i + 8][::-1], 2)"),
        "zeros_in_front": slip(PACK, FILL, '"0" * (-len(text) % 8) + text'),
        "end_cut_off": slip(PACK, FILL, "text[: len(text) // 8 * 8]"),
        "no_crossing": """
def pack(codes, n_bits):
    per_byte, made = 8 // n_bits, []
    numbers = codes.flatten().tolist()
    for i in range(0, len(numbers), per_byte):
        byte = 0
        for place, code in enumerate(numbers[i:i + per_byte]):
            byte |= code << (8 - n_bits * (place + 1))
        made.append(byte)
    return torch.tensor(made, dtype=torch.uint8)
""",
        "round_widths": slip(
            PACK, '    text = "".join', '    n_bits = 2 ** math.ceil(math.log2(n_bits))\n    text = "".join'
        ),
        "one_byte_more": slip(PACK, FILL, 'text + "0" * (8 - len(text) % 8)'),
        "int64": slip(PACK, ", dtype=torch.uint8", ""),
    },
    "sharing_rate": {
        "no_codebook": slip(
            slip(RATE, " + " + CODEBOOK, ""),
            "    return before / after",
            "    return before / after if after else math.inf",
        ),
        "broken_bits": slip(RATE, INDEX, "math.log2(n_centroids)"),
        "rounded_down": slip(RATE, INDEX, "math.floor(math.log2(n_centroids))"),
        "bit_length_of_k": slip(RATE, INDEX, 'len(f"{n_centroids:b}")'),
        "a_byte_an_index": slip(RATE, INDEX, "8"),
        "codebook_in_bytes": slip(RATE, CODEBOOK, "n_centroids * (n_bits / 8)"),
        "codebook_of_32_bits": slip(RATE, CODEBOOK, "n_centroids * 32"),
        "small_codebook": slip(
            slip(RATE, CODEBOOK, "n_centroids * index_bits"),
            "    return before / after",
            "    return before / after if after else math.inf",
        ),
        "upside_down": slip(RATE, "before / after", "after / before"),
        "share_saved": slip(RATE, "before / after", "1 - after / before"),
    },
    "codebook_gradient": {
        "averaged": slip(
            GRADIENT,
            RETURN,
            """    for j in range(1, n_codes):
        sums[j] /= max(1, int((indices == j).sum()))
    return sums
""",
        ),
        "overwrites": """
def codebook_gradient(gradient, indices, n_codes):
    sums = torch.zeros(n_codes, dtype=gradient.dtype)
    sums[indices.flatten()] = gradient.flatten()
    sums[0] = 0
    return sums
""",
        "zero_moves": slip(GRADIENT, "if index > 0:", "if True:"),
        "no_entry_0": slip(GRADIENT, RETURN, "    return sums[1:]\n"),
        "used_only": slip(GRADIENT, RETURN, "    return sums[sorted(set(indices.flatten().tolist()))]\n"),
        "up_to_the_largest": slip(GRADIENT, "torch.zeros(n_codes,", "torch.zeros(1 + indices.max(),"),
        "absolute": slip(GRADIENT, ADD, "sums[index] += abs(value)"),
        "downhill": slip(GRADIENT, ADD, "sums[index] -= value"),
        "divided_by_all": slip(GRADIENT, RETURN, "    return sums / gradient.numel()\n"),
        "counted": slip(GRADIENT, ADD, "sums[index] += 1"),
        "float64": slip(GRADIENT, "dtype=gradient.dtype", "dtype=torch.float64"),
    },
}
