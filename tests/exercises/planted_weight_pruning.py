"""Lesson 05 as students write it: right in other ways than ours, and wrong in ways of their own.

WRONG[exercise][mistake id] is code that makes this mistake; RIGHT[exercise] is code that must get full marks. Most
wrong code is one line away from right code, as students' is.
"""

SETUP = """
import torch
from torch import Tensor
from coursekit.pruning import adam_step
"""


def slip(code: str, right: str, wrong: str) -> str:
    """The code with one thing wrong in it."""
    assert code.count(right) == 1, (right, code)
    return code.replace(right, wrong)


TOPK = """
def topk_mask(scores, sparsity):
    n_gone = round(sparsity * scores.numel())
    mask = torch.ones(scores.numel(), dtype=torch.bool)
    positions = torch.topk(scores.reshape(-1), n_gone, largest=False).indices
    mask[positions] = False
    return mask.reshape(scores.shape)
"""

GLOBAL = """
def global_masks(scores, sparsity):
    everything = torch.cat([scores[name].reshape(-1) for name in scores])
    n_gone = round(sparsity * len(everything))
    keep = torch.ones(len(everything), dtype=torch.bool)
    keep[torch.argsort(everything)[:n_gone]] = False
    masks, start = {}, 0
    for name, score in scores.items():
        stop = start + score.numel()
        masks[name] = keep[start:stop].view(score.shape)
        start = stop
    return masks
"""

NM = """
def nm_mask(scores, n, m):
    blocks = scores.reshape(-1, m)
    best = blocks.topk(n, dim=1).indices
    mask = torch.zeros(blocks.shape, dtype=torch.bool)
    mask.scatter_(1, best, True)
    return mask.reshape(scores.shape)
"""

CSR = """
def to_csr(weight):
    values, columns, starts = [], [], [0]
    for row in weight.tolist():
        for column, value in enumerate(row):
            if value != 0:
                values.append(value)
                columns.append(column)
        starts.append(len(values))
    return (torch.tensor(values, dtype=weight.dtype), torch.tensor(columns, dtype=torch.int16),
            torch.tensor(starts, dtype=torch.int32))
"""

TAYLOR = """
def taylor_score(weight, gradients):
    total = torch.zeros(weight.shape)
    for gradient in gradients:
        total = total + (weight * gradient).abs()
    return total / len(gradients)
"""

ADAM = """
def masked_adam(weight, mask, gradients, exp_avg, exp_avg_sq, step, lr=0.001):
    gone = ~mask
    weight = weight.masked_fill(gone, 0)
    exp_avg = exp_avg.masked_fill(gone, 0)
    exp_avg_sq = exp_avg_sq.masked_fill(gone, 0)
    for gradient in gradients:
        step = step + 1
        gradient = gradient.masked_fill(gone, 0)
        weight, exp_avg, exp_avg_sq = adam_step(weight, gradient, exp_avg, exp_avg_sq, step, lr)
    return weight, exp_avg, exp_avg_sq
"""
WEIGHT = "    weight = weight.masked_fill(gone, 0)\n"
FIRST = "    exp_avg = exp_avg.masked_fill(gone, 0)\n"
SECOND = "    exp_avg_sq = exp_avg_sq.masked_fill(gone, 0)\n"
GRADIENT = "        gradient = gradient.masked_fill(gone, 0)\n"
CALL = "adam_step(weight, gradient, exp_avg, exp_avg_sq, step, lr)\n"
AFTER = CALL + "        weight = torch.where(mask, weight, 0.0)\n"

COUNT = """
def nonzero_of_state(state):
    nonzero = total = 0
    for name, value in state.items():
        if name.endswith("_mask"):
            continue
        if name.endswith("_orig"):
            value = value * state[name[: -len("_orig")] + "_mask"]
        nonzero += int((value != 0).sum())
        total += value.numel()
    return nonzero, total
"""
SKIP = """        if name.endswith("_mask"):
            continue
"""
HIDE = """        if name.endswith("_orig"):
            value = value * state[name[: -len("_orig")] + "_mask"]
"""

RIGHT = {
    "topk_mask": [
        TOPK,
        """
def topk_mask(scores, sparsity):
    gone = round(sparsity * scores.numel())
    ranks = torch.empty(scores.numel(), dtype=torch.long)
    ranks[torch.sort(scores.flatten(), descending=True).indices] = torch.arange(scores.numel())
    return (ranks < scores.numel() - gone).view(*scores.shape)
""",
        """
def topk_mask(scores: Tensor, sparsity: float) -> Tensor:
    numbers = scores.flatten().tolist()
    order = sorted(range(len(numbers)), key=numbers.__getitem__)
    gone = set(order[: round(sparsity * len(numbers))])
    return torch.tensor([i not in gone for i in range(len(numbers))]).reshape(scores.shape)
""",
    ],
    "global_masks": [
        GLOBAL,
        """
def global_masks(scores, sparsity):
    flat = torch.cat([s.flatten() for s in scores.values()])
    keep = torch.ones_like(flat, dtype=torch.bool)
    keep[flat.topk(round(sparsity * flat.numel()), largest=False).indices] = False
    parts = keep.split([s.numel() for s in scores.values()])
    return {name: part.reshape(s.shape) for (name, s), part in zip(scores.items(), parts)}
""",
        """
def global_masks(scores, sparsity):
    entries = [(v, name, i) for name, s in scores.items() for i, v in enumerate(s.flatten().tolist())]
    entries.sort(key=lambda entry: entry[0])
    flat = {name: [True] * s.numel() for name, s in scores.items()}
    for _, name, i in entries[: round(sparsity * len(entries))]:
        flat[name][i] = False
    return {name: torch.tensor(flat[name]).reshape(s.shape) for name, s in scores.items()}
""",
    ],
    "nm_mask": [
        NM,
        """
def nm_mask(scores, n, m):
    rows, columns = scores.shape
    groups = scores.reshape(rows, columns // m, m)
    places = groups.argsort(dim=-1, descending=True).argsort(dim=-1)
    return (places < n).reshape(rows, columns)
""",
        """
def nm_mask(scores: Tensor, n: int = 2, m: int = 4) -> Tensor:
    mask = torch.zeros(scores.shape, dtype=torch.bool)
    for r in range(scores.shape[0]):
        for start in range(0, scores.shape[1], m):
            group = scores[r, start:start + m].tolist()
            for i in sorted(range(m), key=lambda i: group[i], reverse=True)[:n]:
                mask[r, start + i] = True
    return mask
""",
    ],
    "to_csr": [
        CSR,
        """
def to_csr(weight):
    where = torch.nonzero(weight)
    starts = torch.zeros(weight.shape[0] + 1, dtype=torch.int32)
    starts[1:] = (weight != 0).sum(dim=1).cumsum(dim=0)
    return weight[weight != 0], where[:, 1].short(), starts
""",
        """
def to_csr(weight: Tensor):
    kept = weight.ne(0)
    columns = torch.arange(weight.shape[1]).expand(weight.shape)[kept]
    counts = [int(row.sum()) for row in kept]
    starts = [sum(counts[:i]) for i in range(len(counts) + 1)]
    return weight.masked_select(kept), columns.to(torch.int16), torch.tensor(starts).int()
""",
    ],
    "taylor_score": [
        TAYLOR,
        "def taylor_score(weight, gradients):\n    return torch.mean(weight.abs() * gradients.abs(), 0)\n",
        """
def taylor_score(weight: Tensor, gradients: Tensor) -> Tensor:
    return torch.stack([weight.mul(g).abs() for g in gradients.unbind()]).sum(dim=0) / gradients.shape[0]
""",
    ],
    "masked_adam": [
        ADAM,
        """
def masked_adam(weight, mask, gradients, exp_avg, exp_avg_sq, step, lr=0.001):
    state = [torch.where(mask, part, torch.zeros_like(part)) for part in (weight, exp_avg, exp_avg_sq)]
    for i in range(len(gradients)):
        weight, first, second = state
        state = adam_step(weight, gradients[i] * mask, first, second, step + i + 1, lr)
    return tuple(state)
""",
        """
def masked_adam(weight, mask, gradients, exp_avg, exp_avg_sq, step, lr=0.001):
    weight, exp_avg, exp_avg_sq = weight * mask, exp_avg * mask, exp_avg_sq * mask
    for t, gradient in enumerate(gradients):
        weight, exp_avg, exp_avg_sq = adam_step(weight, gradient, exp_avg, exp_avg_sq, step + 1 + t, lr=lr)
        weight, exp_avg, exp_avg_sq = weight * mask, exp_avg * mask, exp_avg_sq * mask
    return weight, exp_avg, exp_avg_sq
""",
    ],
    "nonzero_of_state": [
        COUNT,
        """
def nonzero_of_state(state):
    acting = []
    for name in state:
        base, _, kind = name.rpartition("_")
        if kind == "orig":
            acting.append(state[name].mul(state[f"{base}_mask"]).flatten())
        elif kind != "mask":
            acting.append(state[name].flatten())
    everything = torch.cat(acting)
    return int(everything.count_nonzero()), len(everything)
""",
        """
def nonzero_of_state(state):
    effective = {k: v for k, v in state.items() if not (k.endswith("_orig") or k.endswith("_mask"))}
    effective.update({k[:-5]: v * state[k[:-5] + "_mask"] for k, v in state.items() if k.endswith("_orig")})
    zeros = sum((v == 0).sum().item() for v in effective.values())
    total = sum(v.numel() for v in effective.values())
    return total - zeros, total
""",
    ],
}

WRONG = {
    "topk_mask": {
        "above_threshold": """
def topk_mask(scores, sparsity):
    threshold = torch.quantile(scores, sparsity)
    return torch.where(scores <= threshold, False, True)
""",
        "from_threshold": """
def topk_mask(scores, sparsity):
    threshold = scores.flatten().quantile(sparsity).item()
    return ~(scores < threshold)
""",
        "inverted": slip(slip(TOPK, "ones(", "zeros("), "= False", "= True"),
        "highest_go": slip(TOPK, "largest=False", "largest=True"),
        "rounded_down": slip(TOPK, "round(", "int("),
        "rounded_up": slip(TOPK, "round(sparsity * scores.numel())", "-int(-sparsity * scores.numel() // 1)"),
        "keeps_that_share": slip(TOPK, "sparsity * scores", "(1 - sparsity) * scores"),
        "takes_abs": slip(TOPK, "scores.reshape(-1)", "scores.abs().reshape(-1)"),
        "each_row": """
def topk_mask(scores, sparsity):
    k = round(sparsity * scores.size(-1))
    mask = torch.ones(scores.shape, dtype=torch.bool)
    return mask.scatter(-1, scores.topk(k, dim=-1, largest=False).indices, False)
""",
        "flat": slip(TOPK, "mask.reshape(scores.shape)", "mask"),
        "not_bool": slip(TOPK, ", dtype=torch.bool", ""),
    },
    "global_masks": {
        "each_layer": """
def global_masks(scores, sparsity):
    masks = {}
    for name, score in scores.items():
        keep = torch.ones(score.numel(), dtype=torch.bool)
        keep[score.flatten().argsort()[:round(sparsity * score.numel())]] = False
        masks[name] = keep.reshape(score.shape)
    return masks
""",
        "above_threshold": """
def global_masks(scores, sparsity):
    threshold = torch.quantile(torch.cat([s.flatten() for s in scores.values()]), sparsity)
    return {name: s > threshold for name, s in scores.items()}
""",
        "among_survivors": """
def global_masks(scores, sparsity):
    flat = torch.cat([s.flatten() for s in scores.values()])
    survivors = flat[flat != 0]
    keep = flat != 0
    order = [i for i in flat.argsort().tolist() if flat[i] != 0]
    keep[order[:round(sparsity * len(survivors))]] = False
    parts = keep.split([s.numel() for s in scores.values()])
    return {name: part.reshape(s.shape) for (name, s), part in zip(scores.items(), parts)}
""",
        "layer_normalised": slip(GLOBAL, "scores[name].reshape(-1)", "scores[name].flatten() / scores[name].mean()"),
        "order_of_names": slip(GLOBAL, "for name in scores]", "for name in sorted(scores)]"),
        "inverted": slip(slip(GLOBAL, "torch.ones(", "torch.zeros("), "= False", "= True"),
        "highest_go": slip(GLOBAL, "argsort(everything)", "argsort(everything, descending=True)"),
        "rounded_down": slip(GLOBAL, "round(", "int("),
        "flat": slip(GLOBAL, ".view(score.shape)", ""),
        "keeps_that_share": slip(GLOBAL, "sparsity * len", "(1 - sparsity) * len"),
    },
    "nm_mask": {
        "down_the_columns": """
def nm_mask(scores, n, m):
    mask = torch.zeros_like(scores, dtype=torch.bool)
    for c in range(scores.shape[1]):
        for r in range(0, scores.shape[0], m):
            for i in scores[r:r + m, c].topk(n).indices.tolist():
                mask[r + i, c] = True
    return mask
""",
        "prunes_n": slip(NM, "topk(n,", "topk(m - n,"),
        "whole_rows": slip(slip(NM, "reshape(-1, m)", "clone()"), "topk(n,", "topk(scores.shape[1] * n // m,"),
        "whole_matrix": """
def nm_mask(scores, n, m):
    keep = torch.zeros(scores.numel(), dtype=torch.bool)
    keep[scores.flatten().topk(scores.numel() * n // m).indices] = True
    return keep.reshape(scores.shape)
""",
        "lowest_stay": slip(NM, "topk(n, dim=1)", "topk(n, dim=1, largest=False)"),
        "above_the_mean": """
def nm_mask(scores, n, m):
    rows, columns = scores.shape
    blocks = scores.view(rows, columns // m, m)
    return (blocks > blocks.mean(-1, keepdim=True)).view(rows, columns)
""",
        "first_n": slip(NM, "blocks.topk(n, dim=1).indices", "torch.arange(n).repeat(len(blocks), 1)"),
        "always_two_of_four": """
def nm_mask(scores, n=2, m=4):
    blocks = scores.reshape(-1, 4)
    order = blocks.argsort(1, descending=True)
    mask = torch.zeros_like(blocks, dtype=torch.bool).scatter(1, order[:, :2], True)
    return mask.reshape(scores.shape)
""",
        "strided": """
def nm_mask(scores, n, m):
    rows, columns = scores.shape
    step = columns // m
    mask = torch.zeros(rows, columns, dtype=torch.bool)
    for r in range(rows):
        for j in range(step):
            for i in scores[r, j::step].topk(n).indices.tolist():
                mask[r, j + i * step] = True
    return mask
""",
        "inverted": slip(slip(NM, "torch.zeros(", "torch.ones("), "best, True", "best, False"),
        "not_back_in_shape": slip(NM, "mask.reshape(scores.shape)", "mask"),
    },
    "to_csr": {
        "flat_positions": slip(
            slip(CSR, "for row in weight.tolist()", "for r, row in enumerate(weight.tolist())"),
            "append(column)", "append(r * len(row) + column)",
        ),
        "row_of_each_value": """
def to_csr(weight):
    rows, columns = weight.nonzero().T
    return weight[rows, columns], columns.to(torch.int16), rows.to(torch.int32)
""",
        "counts_not_starts": """
def to_csr(weight):
    rows, columns = weight.nonzero().T
    return weight[rows, columns], columns.to(torch.int16), weight.ne(0).sum(1).int()
""",
        "no_first_zero": slip(CSR, "starts = [], [], [0]", "starts = [], [], []"),
        "no_last_end": slip(CSR, "torch.tensor(starts,", "torch.tensor(starts[:-1],"),
        "skips_empty_rows": slip(CSR, "        starts.append(", "        if any(row): starts.append("),
        "column_by_column": """
def to_csr(weight):
    values, columns = [], []
    for c in range(weight.shape[1]):
        for r in range(weight.shape[0]):
            if weight[r, c] != 0:
                values.append(weight[r, c].item())
                columns.append(c)
    starts = [int((weight[:i] != 0).sum()) for i in range(len(weight) + 1)]
    return (torch.tensor(values), torch.tensor(columns, dtype=torch.int16), torch.tensor(starts, dtype=torch.int32))
""",
        "drops_negatives": slip(CSR, "value != 0", "value > 0"),
        "keeps_zeros": slip(CSR, "value != 0", "True"),
        "int64": slip(slip(CSR, "torch.int16", "torch.int64"), "torch.int32", "torch.int64"),
        "int8_columns": slip(CSR, "dtype=torch.int16)", "dtype=torch.int16).to(torch.int8).short()"),
    },
    "taylor_score": {
        "gradient_only": slip(TAYLOR, "(weight * gradient)", "gradient"),
        "mean_before_abs": "def taylor_score(w, g):\n    return torch.abs(g.mean(dim=0)) * torch.abs(w)\n",
        "no_abs": slip(TAYLOR, "(weight * gradient).abs()", "weight * gradient"),
        "weight_without_abs": slip(TAYLOR, "(weight * gradient).abs()", "weight * gradient.abs()"),
        "squared": slip(TAYLOR, ".abs()", " ** 2"),
        "sum_of_batches": slip(TAYLOR, "total / len(gradients)", "total"),
        "weight_only": slip(TAYLOR, "(weight * gradient)", "weight"),
        "added": slip(TAYLOR, "(weight * gradient).abs()", "weight.abs() + gradient.abs()"),
        "one_number": slip(TAYLOR, "total / len(gradients)", "torch.full(weight.shape, total.mean() / len(gradients))"),
        "last_batch": slip(slip(TAYLOR, "total + ", ""), " / len(gradients)", ""),
        "first_batch": "def taylor_score(weight, gradients):\n    return torch.abs(gradients[0]) * weight.abs()\n",
    },
    "masked_adam": {
        "weight_once": slip(slip(slip(ADAM, FIRST, ""), SECOND, ""), GRADIENT, ""),
        "gradient_only": slip(slip(ADAM, FIRST, ""), SECOND, ""),
        "weight_forgotten": slip(ADAM, WEIGHT, ""),
        "weight_after_step": slip(
            slip(slip(slip(slip(ADAM, WEIGHT, ""), FIRST, ""), SECOND, ""), GRADIENT, ""), CALL, AFTER
        ),
        "moments_forgotten": slip(slip(slip(ADAM, FIRST, ""), SECOND, ""), CALL, AFTER),
        "second_moment_forgotten": slip(ADAM, SECOND, ""),
        "first_moment_forgotten": slip(slip(ADAM, FIRST, ""), CALL, AFTER),
        "inverted": slip(ADAM, "gone = ~mask", "gone = mask"),
        "counts_from_one": slip(ADAM, "gone = ~mask", "gone, step = ~mask, 0"),
        "counts_from_step": slip(ADAM, "gone = ~mask", "gone, step = ~mask, step - 1"),
        "moments_emptied": slip(slip(ADAM, FIRST, FIRST.replace("gone", "gone | mask")), SECOND,
                                SECOND.replace("gone", "gone | mask")),
        "one_mean_step": slip(ADAM, "for gradient in gradients", "for gradient in [gradients.mean(dim=0)]"),
        "own_learning_rate": slip(ADAM, "step, lr)", "step)"),
    },
    "nonzero_of_state": {
        "counts_orig": slip(COUNT, HIDE, ""),
        "counts_masks_too": slip(slip(COUNT, SKIP, ""), HIDE, ""),
        "counts_the_mask": slip(slip(COUNT, "continue", "pass"), HIDE,
                                '        if name.endswith("_orig"):\n            continue\n'),
        "acting_and_orig": slip(COUNT, HIDE, HIDE + "            nonzero += int((state[name] != 0).sum())\n"
                                                    "            total += value.numel()\n"),
        "weights_only": slip(COUNT, 'endswith("_mask")', 'endswith(("_mask", "bias", "b"))'),
        "masked_only": slip(COUNT, SKIP, SKIP.replace('name.endswith("_mask")', 'not name.endswith("_orig")')),
        "total_of_kept": slip(COUNT, HIDE + "        nonzero += int((value != 0).sum())\n"
                                            "        total += value.numel()\n",
                              HIDE + "            total += int(state[name[:-5] + '_mask'].sum())\n        else:\n"
                              "            total += value.numel()\n        nonzero += int((value != 0).sum())\n"),
        "counts_zeros": slip(COUNT, "(value != 0)", "(value == 0)"),
        "nearly_zero": slip(COUNT, "(value != 0)", "(value.abs() > 1e-3)"),
        "share": slip(COUNT, "return nonzero, total", "return nonzero / total, total"),
        "tensors": slip(COUNT, "return nonzero, total", "return torch.tensor(nonzero), torch.tensor(total)"),
    },
}  # fmt: skip
