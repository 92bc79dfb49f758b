"""What students plausibly write in lesson 06, wrong in one way each, and right in different ways; as text."""

from __future__ import annotations

SETUP = """
import itertools
import math
import torch
from torch import Tensor
"""

WRONG = {
    "channel_importance": {
        "wrong_axis": """
def channel_importance(weight, scale=None, p=1):
    dims = [d for d in range(weight.dim()) if d != 1]
    norm = (weight.abs() ** p).sum(dim=dims) ** (1 / p)
    return norm if scale is None else norm * scale.abs()
""",
        "per_kernel": """
def channel_importance(weight, scale=None, p=1):
    if weight.dim() == 2:
        result = weight.abs()
    else:
        result = (weight.abs() ** p).sum(dim=(2, 3)) ** (1 / p)
    return result if scale is None else result * scale.abs().unsqueeze(1)
""",
        "no_magnitude": """
def channel_importance(weight, scale=None, p=1):
    total = torch.stack([(row ** p).sum() for row in weight])
    norm = total if p == 1 else total.sqrt()
    return norm if scale is None else norm * scale.abs()
""",
        "mean": """
def channel_importance(weight, scale=None, p=1):
    rows = weight.reshape(len(weight), -1)
    norm = rows.abs().mean(dim=1) if p == 1 else rows.square().mean(dim=1).sqrt()
    return norm if scale is None else norm * scale.abs()
""",
        "no_root": """
def channel_importance(weight, scale=None, p=1):
    norm = torch.stack([(row.abs() ** p).sum() for row in weight])
    return norm if scale is None else norm * scale.abs()
""",
        "always_p_1": """
def channel_importance(weight, scale=None, p=1):
    norm = weight.flatten(1).abs().sum(dim=1)
    return norm if scale is None else norm * scale.abs()
""",
        "always_p_2": """
def channel_importance(weight, scale=None, p=1):
    norm = weight.flatten(1).norm(dim=1)
    return norm if scale is None else norm * scale.abs()
""",
        "largest_weight": """
def channel_importance(weight, scale=None, p=1):
    norm = torch.stack([row.abs().max() for row in weight])
    return norm if scale is None else norm * scale.abs()
""",
        "ignores_scale": """
def channel_importance(weight, scale=None, p=1):
    return torch.stack([torch.linalg.vector_norm(row, p) for row in weight])
""",
        "signed_scale": """
def channel_importance(weight, scale=None, p=1):
    norm = torch.stack([torch.linalg.vector_norm(row, p) for row in weight])
    return norm if scale is None else scale * norm
""",
        "divides_by_scale": """
def channel_importance(weight, scale=None, p=1):
    norm = torch.stack([torch.linalg.vector_norm(row, p) for row in weight])
    return norm if scale is None else norm / scale.abs()
""",
        "squared_scale": """
def channel_importance(weight, scale=None, p=1):
    norm = torch.stack([torch.linalg.vector_norm(row, p) for row in weight])
    return norm if scale is None else norm * scale.square()
""",
        "order": """
def channel_importance(weight, scale=None, p=1):
    norm = torch.stack([torch.linalg.vector_norm(row, p) for row in weight])
    if scale is not None:
        norm = norm * scale.abs()
    return torch.argsort(norm)
""",
    },
    "cut_conv_bn_conv": {
        "next_inputs_kept": """
def cut_conv_bn_conv(chain, keep):
    return {k: v if k.startswith("conv2") else v[keep] for k, v in chain.items()}
""",
        "next_outputs_cut": """
def cut_conv_bn_conv(chain, keep):
    return {k: v if k == "conv2.bias" else v[keep] for k, v in chain.items()}
""",
        "both_sides_of_conv2_cut": """
def cut_conv_bn_conv(chain, keep):
    result = {k: v if k == "conv2.bias" else v[keep] for k, v in chain.items()}
    result["conv2.weight"] = result["conv2.weight"].index_select(1, keep)
    return result
""",
        "norm_kept": """
def cut_conv_bn_conv(chain, keep):
    result = dict(chain)
    result["conv1.weight"] = chain["conv1.weight"][keep]
    result["conv1.bias"] = chain["conv1.bias"][keep]
    result["conv2.weight"] = chain["conv2.weight"][:, keep]
    return result
""",
        "statistics_kept": """
def cut_conv_bn_conv(chain, keep):
    result = dict(chain)
    for name in ("conv1.weight", "conv1.bias", "bn.weight", "bn.bias"):
        result[name] = chain[name][keep]
    result["conv2.weight"] = chain["conv2.weight"][:, keep]
    return result
""",
        "norm_new": """
def cut_conv_bn_conv(chain, keep):
    bn = torch.nn.BatchNorm2d(len(keep))
    result = {"bn." + k: v for k, v in bn.state_dict().items() if k != "num_batches_tracked"}
    result["conv1.weight"], result["conv1.bias"] = chain["conv1.weight"][keep], chain["conv1.bias"][keep]
    result["conv2.weight"], result["conv2.bias"] = chain["conv2.weight"][:, keep], chain["conv2.bias"]
    return result
""",
        "bias_kept": """
def cut_conv_bn_conv(chain, keep):
    result = dict(chain)
    for name in ("conv1.weight", "bn.weight", "bn.bias", "bn.running_mean", "bn.running_var"):
        result[name] = chain[name][keep]
    result["conv2.weight"] = chain["conv2.weight"][:, keep]
    return result
""",
        "next_bias_cut": """
def cut_conv_bn_conv(chain, keep):
    return {k: v[:, keep] if k == "conv2.weight" else v[keep] for k, v in chain.items()}
""",
        "wrong_axis_of_conv1": """
def cut_conv_bn_conv(chain, keep):
    result = dict(chain)
    for name in ("conv1.bias", "bn.weight", "bn.bias", "bn.running_mean", "bn.running_var"):
        result[name] = chain[name][keep]
    result["conv1.weight"] = chain["conv1.weight"][:, keep]
    result["conv2.weight"] = chain["conv2.weight"][:, keep]
    return result
""",
        "removes_keep": """
def cut_conv_bn_conv(chain, keep):
    stays = torch.ones(len(chain["bn.weight"]), dtype=torch.bool)
    stays[keep] = False
    result = {k: v[stays] for k, v in chain.items() if "conv2" not in k}
    result["conv2.weight"], result["conv2.bias"] = chain["conv2.weight"][:, stays], chain["conv2.bias"]
    return result
""",
        "first_n": """
def cut_conv_bn_conv(chain, keep):
    n = keep.numel()
    result = {k: v[:n] for k, v in chain.items() if "conv2" not in k}
    result["conv2.weight"], result["conv2.bias"] = chain["conv2.weight"][:, :n], chain["conv2.bias"]
    return result
""",
        "sorted": """
def cut_conv_bn_conv(chain, keep):
    stays = torch.zeros(len(chain["bn.weight"]), dtype=torch.bool)
    stays[keep] = True
    result = {k: v[stays] for k, v in chain.items() if "conv2" not in k}
    result["conv2.weight"], result["conv2.bias"] = chain["conv2.weight"][:, stays], chain["conv2.bias"]
    return result
""",
        "zeroed": """
def cut_conv_bn_conv(chain, keep):
    mask = torch.zeros(len(chain["bn.weight"]))
    mask[keep] = 1
    result = {}
    for k, v in chain.items():
        if k == "conv2.weight":
            result[k] = v * mask.view(1, -1, 1, 1)
        elif k == "conv2.bias":
            result[k] = v
        else:
            result[k] = v * mask.view(-1, 1, 1, 1) if v.dim() == 4 else v * mask
    return result
""",
    },
    "flat_indices": {
        "repeats_channels": """
def flat_indices(keep, positions):
    return torch.tensor([c for c in keep.tolist() for _ in range(positions)])
""",
        "first_positions": """
def flat_indices(keep, positions):
    return torch.tensor([c * positions for c in keep.tolist()])
""",
        "no_stride": """
def flat_indices(keep, positions):
    return torch.cat([torch.arange(c, c + positions) for c in keep.tolist()])
""",
        "channels_last": """
def flat_indices(keep, positions):
    return torch.tensor([i * len(keep) + c for i in range(positions) for c in keep.tolist()])
""",
        "position_by_position": """
def flat_indices(keep, positions):
    return torch.tensor([c * positions + i for i in range(positions) for c in keep.tolist()])
""",
        "counts_from_one": """
def flat_indices(keep, positions):
    return torch.tensor([c * positions + i for c in keep.tolist() for i in range(1, positions + 1)])
""",
        "renumbered": """
def flat_indices(keep, positions):
    return torch.tensor([c * positions + i for c in range(len(keep)) for i in range(positions)])
""",
        "not_flat": """
def flat_indices(keep, positions):
    return torch.stack([torch.arange(c * positions, (c + 1) * positions) for c in keep.tolist()])
""",
        "first_channels": """
def flat_indices(keep, positions):
    return torch.tensor(range(max(keep.tolist()) * positions + positions))
""",
        "floats": """
def flat_indices(keep, positions):
    return torch.tensor([float(c * positions + i) for c in keep.tolist() for i in range(positions)])
""",
        "a_list": """
def flat_indices(keep, positions):
    return [c * positions + i for c in keep.tolist() for i in range(positions)]
""",
    },
    "coupled_layers": {
        "direct_neighbours": """
def coupled_layers(layers, edges):
    groups, done = [], set()
    for layer in layers:
        if layer in done:
            continue
        group = [x for x in layers if x not in done and (x == layer or (x, layer) in edges or (layer, x) in edges)]
        groups.append(group)
        done.update(group)
    return groups
""",
        "never_merges": """
def coupled_layers(layers, edges):
    group_of = {}
    n = 0
    groups = {}
    for a, b in edges:
        for i in groups:
            if a in groups[i] or b in groups[i]:
                groups[i] |= {a, b}
                break
        else:
            groups[n] = {a, b}
            n += 1
    lists = [[x for x in layers if x in g] for g in groups.values()]
    used = {x for g in lists for x in g}
    lists += [[x] for x in layers if x not in used]
    return sorted(lists, key=lambda g: layers.index(g[0]))
""",
        "directed": """
def coupled_layers(layers, edges):
    after = {x: [b for a, b in edges if a == x] for x in layers}
    groups, seen = [], set()
    for layer in layers:
        if layer in seen:
            continue
        stack, found = [layer], set()
        while stack:
            x = stack.pop()
            if x not in found:
                found.add(x)
                stack += after[x]
        groups.append([x for x in layers if x in found and x not in seen])
        seen |= found
    return groups
""",
        "one_parent": """
def coupled_layers(layers, edges):
    group = {x: x for x in layers}
    for a, b in edges:
        group[b] = group[a]
    names = list(dict.fromkeys(group[x] for x in layers))
    return [[x for x in layers if group[x] == name] for name in names]
""",
        "drops_singles": """
def coupled_layers(layers, edges):
    sets = [{x} for x in layers]
    for a, b in edges:
        joined = set().union(*(s for s in sets if a in s or b in s))
        sets = [s for s in sets if not s & joined] + [joined]
    lists = [[x for x in layers if x in s] for s in sets if len(s) > 1]
    return sorted(lists, key=lambda g: layers.index(g[0]))
""",
        "all_in_one": """
def coupled_layers(layers, edges):
    added = {x for edge in edges for x in edge}
    groups = []
    for x in layers:
        if x not in added:
            groups.append([x])
        elif not any(x in g for g in groups):
            groups.append([y for y in layers if y in added])
    return groups
""",
        "edges_only": """
def coupled_layers(layers, edges):
    used = {x for edge in edges for x in edge}
    return [[a, b] for a, b in edges] + [[x] for x in layers if x not in used]
""",
        "alphabetical": """
def coupled_layers(layers, edges):
    sets = [{x} for x in layers]
    for a, b in edges:
        joined = set().union(*(s for s in sets if a in s or b in s))
        sets = [s for s in sets if not s & joined] + [joined]
    return sorted(sorted(s) for s in sets)
""",
        "largest_first": """
def coupled_layers(layers, edges):
    sets = [{x} for x in layers]
    for a, b in edges:
        joined = set().union(*(s for s in sets if a in s or b in s))
        sets = [s for s in sets if not s & joined] + [joined]
    lists = sorted(([x for x in layers if x in s] for s in sets), key=lambda g: layers.index(g[0]))
    return sorted(lists, key=lambda g: -len(g))
""",
        "sets": """
def coupled_layers(layers, edges):
    sets = [{x} for x in layers]
    for a, b in edges:
        joined = set().union(*(s for s in sets if a in s or b in s))
        sets = [s for s in sets if not s & joined] + [joined]
    return sorted(sets, key=lambda s: min(layers.index(x) for x in s))
""",
    },
    "conv_macs": {
        "counts_twice": """
def conv_macs(c_in, c_out, kernel, height, width, groups=1):
    return c_out * height * width * (c_in // groups) * kernel ** 2 * 2
""",
        "ignores_groups": """
def conv_macs(c_in, c_out, kernel, height, width, groups=1):
    return c_out * height * width * c_in * kernel ** 2
""",
        "multiplies_groups": """
def conv_macs(c_in, c_out, kernel, height, width, groups=1):
    return groups * c_out * height * width * c_in * kernel ** 2
""",
        "divides_twice": """
def conv_macs(c_in, c_out, kernel, height, width, groups=1):
    return (c_out // groups) * height * width * (c_in // groups) * kernel ** 2
""",
        "kernel_once": """
def conv_macs(c_in, c_out, kernel, height, width, groups=1):
    return c_out * height * width * (c_in // groups) * kernel
""",
        "parameters": """
def conv_macs(c_in, c_out, kernel, height, width, groups=1):
    return c_out * (c_in // groups) * kernel ** 2
""",
        "square_map": """
def conv_macs(c_in, c_out, kernel, height, width, groups=1):
    return c_out * height ** 2 * (c_in // groups) * kernel ** 2
""",
        "no_inputs": """
def conv_macs(c_in, c_out, kernel, height, width, groups=1):
    return c_out * height * width * kernel ** 2 // groups
""",
        "adds_bias": """
def conv_macs(c_in, c_out, kernel, height, width, groups=1):
    return c_out * height * width * ((c_in // groups) * kernel ** 2 + 1)
""",
        "float": """
def conv_macs(c_in, c_out, kernel, height, width, groups=1):
    return c_out * height * width * (c_in / groups) * kernel ** 2
""",
    },
    "choose_channels": {},
}

# The skeleton most students write; each mistake changes one line of it.
_CHOOSE = """
def choose_channels(importance, areas, n_in, n_out, budget):
    kept = [sorted(range(len(s)), key=lambda c: -float(s[c])) for s in importance]
    start = [n_in] + [len(k) for k in kept] + [n_out]
    while True:
        w = [n_in] + [len(k) for k in kept] + [n_out]
        total = sum(areas[i] * w[i] * w[i + 1] for i in range(len(areas)))
        if total <= budget:
            break
        best, where = math.inf, None
        for i, k in enumerate(kept):
            if len(k) < 2:
                continue
            saved = areas[i] * w[i] + areas[i + 1] * w[i + 2]
            price = float(importance[i][k[-1]]) / saved
            if price < best:
                best, where = price, i
        kept[where].pop()
    return [torch.tensor(sorted(k)) for k in kept]
"""


def _changed(*pairs: tuple[str, str]) -> str:
    code = _CHOOSE
    for old, new in pairs:
        assert code.count(old) == 1
        code = code.replace(old, new)
    return code


_PRICE = "float(importance[i][k[-1]]) / saved"
_SAVED = "saved = areas[i] * w[i] + areas[i + 1] * w[i + 2]"
WRONG["choose_channels"] = {
    "ignores_macs": _changed((_PRICE, "float(importance[i][k[-1]])")),
    "multiplies": _changed((_PRICE, "float(importance[i][k[-1]]) * saved")),
    "stale_savings": _changed((_SAVED, "saved = areas[i] * start[i] + areas[i + 1] * start[i + 2]")),
    "own_layer_only": _changed((_SAVED, "saved = areas[i] * w[i]")),
    "next_layer_only": _changed((_SAVED, "saved = areas[i + 1] * w[i + 2]")),
    "same_area": _changed((_SAVED, "saved = areas[i] * (w[i] + w[i + 2])")),
    "one_too_few": _changed(
        ("        kept[where].pop()", "        before = [list(k) for k in kept]\n        kept[where].pop()"),
        ("    while True", "    before = kept\n    while True"),
        ("sorted(k)) for k in kept", "sorted(k)) for k in before"),
    ),
    "one_too_many": _changed(("total <= budget", "total < budget")),
    "empties_a_layer": _changed(
        ("len(k) < 2", "len(k) < 1"), (_SAVED, "saved = max(1, areas[i] * w[i] + areas[i + 1] * w[i + 2])"),
        ("torch.tensor(sorted(k))", "torch.tensor(sorted(k), dtype=torch.int64)"),
    ),
    "most_important_first": _changed(("-float(s[c])", "float(s[c])")),
    "returns_removed": _changed(
        ("torch.tensor(sorted(k)) for k in kept",
         "torch.tensor([c for c in range(len(s)) if c not in k], dtype=torch.int64) for s, k in zip(importance, kept)"),
    ),
    "unsorted": _changed(("torch.tensor(sorted(k))", "torch.tensor(k)")),
    "same_share": """
def choose_channels(importance, areas, n_in, n_out, budget):
    for percent in range(101):
        w = [n_in] + [max(1, len(s) * (100 - percent) // 100) for s in importance] + [n_out]
        if sum(areas[i] * w[i] * w[i + 1] for i in range(len(areas))) <= budget:
            break
    return [torch.tensor(sorted(torch.topk(s, n).indices.tolist())) for s, n in zip(importance, w[1:-1])]
""",
}  # fmt: skip

RIGHT = {
    "channel_importance": [
        """
def channel_importance(weight, scale=None, p=1):
    norm = torch.linalg.vector_norm(weight.flatten(1), ord=p, dim=1)
    return norm if scale is None else norm * scale.abs()
""",
        """
def channel_importance(weight, scale=None, p=1):
    dims = tuple(range(1, weight.dim()))
    result = weight.abs().sum(dim=dims) if p == 1 else weight.square().sum(dim=dims).sqrt()
    if scale is not None:
        result = result * torch.abs(scale)
    return result
""",
        """
def channel_importance(weight, scale=None, p=1):
    if scale is not None:
        weight = weight * scale.reshape(-1, *[1] * (weight.dim() - 1))
    return torch.stack([channel.abs().pow(p).sum().pow(1 / p) for channel in weight])
""",
    ],
    "cut_conv_bn_conv": [
        """
def cut_conv_bn_conv(chain, keep):
    result = {}
    for name, tensor in chain.items():
        if name == "conv2.weight":
            result[name] = tensor[:, keep]
        elif name == "conv2.bias":
            result[name] = tensor
        else:
            result[name] = tensor[keep]
    return result
""",
        """
def cut_conv_bn_conv(chain, keep):
    result = dict(chain)
    for name in chain:
        if name.startswith(("conv1", "bn")):
            result[name] = chain[name].index_select(0, keep)
    result["conv2.weight"] = chain["conv2.weight"].index_select(1, keep)
    return result
""",
        """
def cut_conv_bn_conv(chain, keep):
    order = keep.tolist()
    result = {n: torch.stack([t[i] for i in order]) for n, t in chain.items() if "conv2" not in n}
    result["conv2.weight"] = torch.stack([chain["conv2.weight"][:, i] for i in order], dim=1)
    result["conv2.bias"] = chain["conv2.bias"].clone()
    return result
""",
    ],
    "flat_indices": [
        """
def flat_indices(keep, positions):
    return torch.tensor([c * positions + i for c in keep.tolist() for i in range(positions)])
""",
        """
def flat_indices(keep, positions):
    return keep.repeat_interleave(positions) * positions + torch.arange(positions).repeat(len(keep))
""",
        """
def flat_indices(keep, positions):
    features = torch.arange((int(keep.max()) + 1) * positions).reshape(-1, positions)
    return features[keep].reshape(-1)
""",
    ],
    "coupled_layers": [
        """
def coupled_layers(layers, edges):
    sets = [{x} for x in layers]
    for a, b in edges:
        joined = set().union(*(s for s in sets if a in s or b in s))
        sets = [s for s in sets if not s & joined] + [joined]
    lists = [[x for x in layers if x in s] for s in sets]
    return sorted(lists, key=lambda g: layers.index(g[0]))
""",
        """
def coupled_layers(layers, edges):
    near = {x: set() for x in layers}
    for a, b in edges:
        near[a].add(b)
        near[b].add(a)
    groups, seen = [], set()
    for layer in layers:
        if layer in seen:
            continue
        stack, found = [layer], set()
        while stack:
            x = stack.pop()
            if x not in found:
                found.add(x)
                stack.extend(near[x])
        seen |= found
        groups.append([x for x in layers if x in found])
    return groups
""",
        """
def coupled_layers(layers, edges):
    label = {x: i for i, x in enumerate(layers)}
    changed = True
    while changed:
        changed = False
        for a, b in edges:
            low = min(label[a], label[b])
            if (label[a], label[b]) != (low, low):
                label[a] = label[b] = low
                changed = True
    return [[x for x in layers if label[x] == i] for i in sorted(set(label.values()))]
""",
    ],
    "conv_macs": [
        """
def conv_macs(c_in, c_out, kernel, height, width, groups=1):
    weights = c_out * (c_in // groups) * kernel * kernel
    return weights * height * width
""",
        """
def conv_macs(c_in, c_out, kernel, height, width, groups=1):
    per_group = (c_in // groups) * (c_out // groups) * kernel ** 2 * height * width
    return groups * per_group
""",
        """
def conv_macs(c_in, c_out, kernel, height, width, groups=1):
    return math.prod([c_in, c_out, kernel, kernel, height, width]) // groups
""",
    ],
    "choose_channels": [
        _CHOOSE,
        """
def choose_channels(importance, areas, n_in, n_out, budget):
    alive = [torch.ones(len(s), dtype=torch.bool) for s in importance]

    def cost(counts):
        w = [n_in, *counts, n_out]
        return sum(a * x * y for a, x, y in zip(areas, w[:-1], w[1:]))

    counts = [len(s) for s in importance]
    while cost(counts) > budget:
        options = []
        for i, s in enumerate(importance):
            if counts[i] > 1:
                worst = min((c for c in range(len(s)) if alive[i][c]), key=lambda c: s[c].item())
                fewer = list(counts)
                fewer[i] -= 1
                options.append((s[worst].item() / (cost(counts) - cost(fewer)), i, worst))
        _, i, worst = min(options)
        alive[i][worst] = False
        counts[i] -= 1
    return [torch.nonzero(a).flatten() for a in alive]
""",
        """
def choose_channels(importance, areas, n_in, n_out, budget):
    queues = [torch.argsort(s).tolist() for s in importance]
    widths = [n_in] + [len(q) for q in queues] + [n_out]
    while sum(areas[i] * widths[i] * widths[i + 1] for i in range(len(areas))) > budget:
        prices = []
        for i, q in enumerate(queues):
            saved = areas[i] * widths[i] + areas[i + 1] * widths[i + 2]
            prices.append(importance[i][q[0]].item() / saved if len(q) > 1 else float("inf"))
        i = prices.index(min(prices))
        queues[i] = queues[i][1:]
        widths[i + 1] -= 1
    return [torch.tensor(q).sort().values for q in queues]
""",
    ],
}
