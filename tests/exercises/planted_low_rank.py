"""Lesson 13, matrices and ranks, as students write it: right in other ways than ours, and wrong in ways of their own.

WRONG[exercise][mistake id] is code that makes this mistake; RIGHT[exercise] is code that must get full marks.
It is kept as text, as it would stand in a notebook, and shares nothing with the reference or the known mistakes.
"""

SETUP = """
import math
import torch
import torch.nn.functional as F
"""

_SVD = """
def svd_factors(matrix, rank):
    U, S, Vh = torch.linalg.svd(matrix, full_matrices=False)
    {}
"""

_PRICED = """
def greedy_ranks(singular_values, shapes, budget):
    ranks = {{name: (m * n - 1) // (m + n) for name, (m, n) in shapes.items()}}
    while sum(ranks[name] * (m + n) for name, (m, n) in shapes.items()) > budget:
        best, best_price = None, float("inf")
        for name, (m, n) in shapes.items():
            r, s = ranks[name], singular_values[name]
            if r == 1:
                continue
            price = {}
            if price < best_price:
                best, best_price = name, price
        ranks[best] -= 1
    return ranks
"""

WRONG = {
    "svd_factors": {
        "singular_values_twice": _SVD.format(
            "d = torch.diag(S[:rank]); return U[:, :rank] @ d, d @ Vh[:rank]"
        ),
        "no_singular_values": _SVD.format("return U[:, :rank], Vh[:rank, :]"),
        "root_only_once": _SVD.format("return U[:, :rank], torch.diag(S[:rank].sqrt()) @ Vh[:rank]"),
        "v_by_columns": _SVD.format("return U[:, :rank] @ torch.diag(S[:rank]), Vh[:, :rank].t()"),
        "smallest_kept": _SVD.format("k = len(S) - rank; return U[:, k:] * S[k:], Vh[k:]"),
        "not_truncated": _SVD.format("return U, torch.diag(S) @ Vh"),
        "returns_product": _SVD.format("return U[:, :rank] @ torch.diag(S[:rank]) @ Vh[:rank]"),
        "right_transposed": _SVD.format("return U[:, :rank], (Vh[:rank] * S[:rank, None]).T"),
        "order_swapped": _SVD.format("return torch.diag(S[:rank]) @ Vh[:rank], U[:, :rank]"),
        "stays_double": """
def svd_factors(matrix, rank):
    U, S, Vh = torch.linalg.svd(matrix.to(torch.float64), full_matrices=False)
    return U[:, :rank], S[:rank].diag() @ Vh[:rank]
""",
    },
    "break_even_rank": {
        "equal_is_not_fewer": """
def break_even_rank(m, n):
    r = 0
    while (r + 1) * (m + n) <= m * n:
        r += 1
    return r
""",
        "first_that_does_not_save": """
def break_even_rank(m, n):
    r = 1
    while r * m + r * n < m * n:
        r += 1
    return r
""",
        "rounded": "def break_even_rank(m, n):\n    return int(round((m * n) / (m + n)))\n",
        "half_the_smaller_side": "def break_even_rank(m, n):\n    return int(min(m, n) * 0.5)\n",
        "smaller_side": "def break_even_rank(m, n):\n    return m if m < n else n\n",
        "left_factor_only": """
def break_even_rank(m, n):
    r = 0
    while (r + 1) * m < m * n:
        r += 1
    return r
""",
        "not_a_whole_number": "def break_even_rank(m, n):\n    return 1 / (1 / m + 1 / n)\n",
        "at_least_one": """
def break_even_rank(m, n):
    r = 1
    while (r + 1) * (m + n) < m * n:
        r += 1
    return r
""",
        "counts_singular_values": """
def break_even_rank(m, n):
    r = 0
    while (r + 1) * m + (r + 1) + (r + 1) * n < m * n:
        r += 1
    return r
""",
    },
    "rank_for_energy": {
        "values_not_squares": """
def rank_for_energy(singular_values, energy):
    share = torch.cumsum(singular_values, 0) / singular_values.sum()
    return int((share < energy).sum()) + 1
""",
        "index_not_rank": """
def rank_for_energy(singular_values, energy):
    share = torch.cumsum(singular_values ** 2, 0) / (singular_values ** 2).sum()
    return int((share < energy).sum())
""",
        "more_than_the_share": """
def rank_for_energy(singular_values, energy):
    squares = [v * v for v in singular_values.tolist()]
    held, rank = 0.0, 0
    while held <= energy * sum(squares) and rank < len(squares):
        held += squares[rank]
        rank += 1
    return rank
""",
        "one_too_many": """
def rank_for_energy(singular_values, energy):
    share = torch.cumsum(singular_values ** 2, 0) / (singular_values ** 2).sum()
    return int((share < energy).sum()) + 2
""",
        "error_not_energy": """
def rank_for_energy(singular_values, energy):
    total = singular_values.norm().item()
    for rank in range(1, len(singular_values) + 1):
        if singular_values[rank:].norm().item() / total <= 1 - energy:
            return rank
""",
        "share_of_the_count": """
def rank_for_energy(singular_values, energy):
    return int(math.ceil(len(singular_values) * energy))
""",
        "relative_to_the_largest": """
def rank_for_energy(singular_values, energy):
    return len([v for v in singular_values.tolist() if v / singular_values[0].item() >= 1 - energy])
""",
        "from_the_smallest": """
def rank_for_energy(singular_values, energy):
    squares = sorted((singular_values ** 2).tolist())
    rank, held = 0, 0.0
    while held < energy * sum(squares):
        held += squares[rank]
        rank += 1
    return rank
""",
        "sum_not_share": """
def rank_for_energy(singular_values, energy):
    held = 0.0
    for rank, v in enumerate(singular_values.tolist(), start=1):
        held += v * v
        if held >= energy:
            return rank
    return len(singular_values)
""",
        "share_squared": """
def rank_for_energy(singular_values, energy):
    share = torch.cumsum(singular_values ** 2, 0) / (singular_values ** 2).sum()
    return int((share < energy * energy).sum()) + 1
""",
        "returns_tensor": """
def rank_for_energy(singular_values, energy):
    share = torch.cumsum(singular_values ** 2, 0) / (singular_values ** 2).sum()
    return (share < energy).sum() + 1
""",
    },
    "greedy_ranks": {
        "absolute_squares": _PRICED.format("s[r - 1].item() ** 2 / (m + n)"),
        "share_of_all": _PRICED.format("(s[r - 1] ** 2 / (s ** 2).sum()).item() / (m + n)"),
        "not_per_number": _PRICED.format("(s[r - 1] ** 2 / (s[:r] ** 2).sum()).item()"),
        "values_not_squares": _PRICED.format("(s[r - 1] / s[:r].sum()).item() / (m + n)"),
        "per_weight_of_the_layer": _PRICED.format("(s[r - 1] ** 2 / (s[:r] ** 2).sum()).item() / (m * n)"),
        "dearest_first": _PRICED.format("-(s[r - 1] ** 2 / (s[:r] ** 2).sum()).item() / (m + n)"),
        "next_not_last": _PRICED.format("(s[r] ** 2 / (s[:r] ** 2).sum()).item() / (m + n)"),
        "down_to_zero": _PRICED.replace("r == 1", "r == 0").format(
            "(s[r - 1] ** 2 / (s[:r] ** 2).sum()).item() / (m + n)"
        ),
        "starts_at_full_rank": _PRICED.replace("(m * n - 1) // (m + n)", "min(m, n)").format(
            "(s[r - 1] ** 2 / (s[:r] ** 2).sum()).item() / (m + n)"
        ),
        "one_too_far": _PRICED.replace("> budget", ">= budget").format(
            "(s[r - 1] ** 2 / (s[:r] ** 2).sum()).item() / (m + n)"
        ),
        "all_at_once": """
def greedy_ranks(singular_values, shapes, budget):
    ranks = {name: (m * n - 1) // (m + n) for name, (m, n) in shapes.items()}
    while sum(ranks[name] * (m + n) for name, (m, n) in shapes.items()) > budget:
        for name in ranks:
            if ranks[name] > 1:
                ranks[name] -= 1
    return ranks
""",
        "returns_numbers": _PRICED.replace(
            "return ranks", "return {{name: ranks[name] * (m + n) for name, (m, n) in shapes.items()}}"
        ).format("(s[r - 1] ** 2 / (s[:r] ** 2).sum()).item() / (m + n)"),
    },
}

RIGHT = {
    "svd_factors": [
        _SVD.format("return U[:, :rank] @ torch.diag(S[:rank]), Vh[:rank]"),
        """
def svd_factors(matrix, rank):
    # the right singular vectors are eigenvectors of M^T M
    m = matrix.double()
    _, vectors = torch.linalg.eigh(m.T @ m)
    right = vectors[:, -rank:].T
    return (m @ right.T).to(matrix.dtype), right.to(matrix.dtype)
""",
        """
def svd_factors(matrix, rank):
    u, s, v = torch.svd(matrix)
    left = torch.stack([u[:, i] * s[i] ** 0.5 for i in range(rank)], dim=1)
    right = torch.stack([v[:, i] * s[i] ** 0.5 for i in range(rank)], dim=0)
    return left, right
""",
    ],
    "break_even_rank": [
        """
def break_even_rank(m, n):
    r = 0
    while (r + 1) * (m + n) < m * n:
        r += 1
    return r
""",
        "def break_even_rank(m, n):\n    return math.ceil(m * n / (m + n)) - 1\n",
        """
def break_even_rank(m, n):
    r, rest = divmod(m * n, m + n)
    return r if rest else r - 1
""",
    ],
    "rank_for_energy": [
        """
def rank_for_energy(singular_values, energy):
    share = torch.cumsum(singular_values.double() ** 2, 0) / (singular_values.double() ** 2).sum()
    return int((share < energy).sum()) + 1
""",
        """
def rank_for_energy(singular_values, energy):
    squares = [v * v for v in singular_values.tolist()]
    held, rank = 0.0, 0
    while held < energy * sum(squares):
        held += squares[rank]
        rank += 1
    return rank
""",
        """
def rank_for_energy(singular_values, energy):
    held = singular_values.double().pow(2).cumsum(0)
    return torch.searchsorted(held, energy * held[-1]).item() + 1
""",
    ],
    "greedy_ranks": [
        _PRICED.format("(s[r - 1] ** 2 / (s[:r] ** 2).sum()).item() / (m + n)"),
        """
def greedy_ranks(singular_values, shapes, budget):
    # from rank 1 upwards: what is dearest to lose is the first to buy
    steps = []
    for name, s in singular_values.items():
        m, n = shapes[name]
        e = s.double() ** 2
        for r in range(2, (m * n - 1) // (m + n) + 1):
            steps.append(((e[r - 1] / e[:r].sum()).item() / (m + n), -r, name))
    ranks = {name: 1 for name in singular_values}
    room = budget - sum(m + n for m, n in shapes.values())
    for price, _, name in sorted(steps, reverse=True):
        if sum(shapes[name]) > room:
            break
        ranks[name] += 1
        room -= sum(shapes[name])
    return ranks
""",
        """
def greedy_ranks(singular_values, shapes, budget):
    energies = {name: torch.cumsum(s.double().square(), 0) for name, s in singular_values.items()}
    ranks = {name: (shapes[name][0] * shapes[name][1] - 1) // sum(shapes[name]) for name in singular_values}
    def loss(name):
        e, r = energies[name], ranks[name]
        return 1 - (e[r - 2] / e[r - 1]).item()
    while sum(r * sum(shapes[name]) for name, r in ranks.items()) > budget:
        name = min((n for n in ranks if ranks[n] > 1), key=lambda n: loss(n) / sum(shapes[n]))
        ranks[name] = ranks[name] - 1
    return ranks
""",
    ],
}
