"""Lesson 02 as students write it: right in other ways than ours, and wrong in ways of their own.

WRONG[exercise][mistake id] is code that makes this mistake; RIGHT[exercise] is code that must get full marks.
It is kept as text, as it would stand in a notebook, and shares nothing with the reference or the known mistakes.
"""

SETUP = """
import copy
import math
import torch
from torch import nn
from coursekit.quantization import fake_quantize, symmetric_scale, symmetric_scale_per_channel, weight_names
"""

WRONG = {
    "moving_average_range": {
        "starts_at_zero": """
def moving_average_range(batches, momentum=0.9):
    lo = hi = 0.0
    for b in batches:
        lo += (1 - momentum) * (float(b.min()) - lo)
        hi += (1 - momentum) * (float(b.max()) - hi)
    return lo, hi
""",
        "momentum_on_the_new": """
def moving_average_range(batches, momentum=0.9):
    lo = hi = None
    for b in batches:
        if lo is None:
            lo, hi = float(b.min()), float(b.max())
        else:
            lo = (1 - momentum) * lo + momentum * float(b.min())
            hi = (1 - momentum) * hi + momentum * float(b.max())
    return lo, hi
""",
        "min_max_of_all": """
def moving_average_range(batches, momentum=0.9):
    everything = torch.cat([b.flatten() for b in batches])
    return float(everything.min()), float(everything.max())
""",
        "plain_mean": """
def moving_average_range(batches, momentum=0.9):
    los = torch.tensor([float(b.min()) for b in batches])
    his = torch.tensor([float(b.max()) for b in batches])
    return float(los.mean()), float(his.mean())
""",
        "one_side_only": """
def moving_average_range(batches, momentum=0.9):
    lo, hi = float(batches[0].min()), float(batches[0].max())
    for b in batches[1:]:
        lo = min(lo, float(b.min()))
        hi = momentum * hi + (1 - momentum) * float(b.max())
    return lo, hi
""",
        "last_batch_only": """
def moving_average_range(batches, momentum=0.9):
    for b in batches:
        lo, hi = float(b.min()), float(b.max())
    return lo, hi
""",
        "averages_the_values": """
def moving_average_range(batches, momentum=0.9):
    running = None
    for b in batches:
        running = b if running is None else running * momentum + b * (1 - momentum)
    return float(running.min()), float(running.max())
""",
        "symmetric_range": """
def moving_average_range(batches, momentum=0.9):
    top = None
    for b in batches:
        m = float(b.abs().max())
        top = m if top is None else momentum * top + (1 - momentum) * m
    return -top, top
""",
        "widened_to_zero": """
def moving_average_range(batches, momentum=0.9):
    lo, hi = float(batches[0].min()), float(batches[0].max())
    for b in batches[1:]:
        lo = momentum * lo + (1 - momentum) * float(b.min())
        hi = momentum * hi + (1 - momentum) * float(b.max())
    if lo > 0:
        lo = 0.0
    if hi < 0:
        hi = 0.0
    return lo, hi
""",
        "ignores_momentum": """
def moving_average_range(batches, momentum=0.9):
    lo, hi = float(batches[0].min()), float(batches[0].max())
    for b in batches[1:]:
        lo = 0.9 * lo + 0.1 * float(b.min())
        hi = 0.9 * hi + 0.1 * float(b.max())
    return lo, hi
""",
        "ends_swapped": """
def moving_average_range(batches, momentum=0.9):
    hi, lo = float(batches[0].max()), float(batches[0].min())
    for b in batches[1:]:
        hi = momentum * hi + (1 - momentum) * float(b.max())
        lo = momentum * lo + (1 - momentum) * float(b.min())
    return hi, lo
""",
        "returns_tensors": """
def moving_average_range(batches, momentum=0.9):
    lo, hi = batches[0].min(), batches[0].max()
    for b in batches[1:]:
        lo = momentum * lo + (1 - momentum) * b.min()
        hi = momentum * hi + (1 - momentum) * b.max()
    return lo, hi
""",
    },
    "fold_batch_norm": {
        "variance_not_deviation": """
def fold_batch_norm(conv_weight, conv_bias, mean, var, weight, bias, eps=1e-5):
    b = 0 if conv_bias is None else conv_bias
    g = weight / (var + eps)
    shape = [len(g)] + [1] * (conv_weight.dim() - 1)
    return conv_weight * g.reshape(shape), g * (b - mean) + bias
""",
        "eps_outside_the_root": """
def fold_batch_norm(conv_weight, conv_bias, mean, var, weight, bias, eps=1e-5):
    b = 0 if conv_bias is None else conv_bias
    g = weight / (var ** 0.5 + eps)
    shape = [len(g)] + [1] * (conv_weight.dim() - 1)
    return conv_weight * g.reshape(shape), g * (b - mean) + bias
""",
        "no_eps": """
def fold_batch_norm(conv_weight, conv_bias, mean, var, weight, bias, eps=1e-5):
    b = 0 if conv_bias is None else conv_bias
    g = weight / var.sqrt()
    shape = [len(g)] + [1] * (conv_weight.dim() - 1)
    return conv_weight * g.reshape(shape), g * (b - mean) + bias
""",
        "multiplies_by_deviation": """
def fold_batch_norm(conv_weight, conv_bias, mean, var, weight, bias, eps=1e-5):
    b = 0 if conv_bias is None else conv_bias
    g = weight * (var + eps).sqrt()
    shape = [len(g)] + [1] * (conv_weight.dim() - 1)
    return conv_weight * g.reshape(shape), g * (b - mean) + bias
""",
        "no_gamma": """
def fold_batch_norm(conv_weight, conv_bias, mean, var, weight, bias, eps=1e-5):
    b = 0 if conv_bias is None else conv_bias
    g = (var + eps) ** -0.5
    shape = [len(g)] + [1] * (conv_weight.dim() - 1)
    return conv_weight * g.reshape(shape), g * (b - mean) + bias
""",
        "no_beta": """
def fold_batch_norm(conv_weight, conv_bias, mean, var, weight, bias, eps=1e-5):
    b = 0 if conv_bias is None else conv_bias
    g = weight * (var + eps) ** -0.5
    shape = [len(g)] + [1] * (conv_weight.dim() - 1)
    return conv_weight * g.reshape(shape), g * (b - mean)
""",
        "wrong_sign_of_mean": """
def fold_batch_norm(conv_weight, conv_bias, mean, var, weight, bias, eps=1e-5):
    b = 0 if conv_bias is None else conv_bias
    g = weight * (var + eps) ** -0.5
    shape = [len(g)] + [1] * (conv_weight.dim() - 1)
    return conv_weight * g.reshape(shape), g * (b + mean) + bias
""",
        "mean_without_gain": """
def fold_batch_norm(conv_weight, conv_bias, mean, var, weight, bias, eps=1e-5):
    b = 0 if conv_bias is None else conv_bias
    g = weight * (var + eps) ** -0.5
    shape = [len(g)] + [1] * (conv_weight.dim() - 1)
    return conv_weight * g.reshape(shape), g * b + bias - mean
""",
        "convolutions_bias_lost": """
def fold_batch_norm(conv_weight, conv_bias, mean, var, weight, bias, eps=1e-5):
    g = weight * (var + eps) ** -0.5
    shape = [len(g)] + [1] * (conv_weight.dim() - 1)
    return conv_weight * g.reshape(shape), bias - g * mean
""",
        "convolutions_bias_without_gain": """
def fold_batch_norm(conv_weight, conv_bias, mean, var, weight, bias, eps=1e-5):
    g = weight * (var + eps) ** -0.5
    shape = [len(g)] + [1] * (conv_weight.dim() - 1)
    shift = bias - g * mean
    if conv_bias is not None:
        shift = shift + conv_bias
    return conv_weight * g.reshape(shape), shift
""",
        "weight_only": """
def fold_batch_norm(conv_weight, conv_bias, mean, var, weight, bias, eps=1e-5):
    g = weight * (var + eps) ** -0.5
    shape = [len(g)] + [1] * (conv_weight.dim() - 1)
    return conv_weight * g.reshape(shape), torch.zeros(len(mean)) if conv_bias is None else conv_bias
""",
        "gain_along_inputs": """
def fold_batch_norm(conv_weight, conv_bias, mean, var, weight, bias, eps=1e-5):
    b = 0 if conv_bias is None else conv_bias
    g = weight * (var + eps) ** -0.5
    shape = [1, len(g)] + [1] * (conv_weight.dim() - 2)
    return conv_weight * g.reshape(shape), g * (b - mean) + bias
""",
        "no_bias_for_none": """
def fold_batch_norm(conv_weight, conv_bias, mean, var, weight, bias, eps=1e-5):
    g = weight * (var + eps) ** -0.5
    shape = [len(g)] + [1] * (conv_weight.dim() - 1)
    if conv_bias is not None:
        conv_bias = g * (conv_bias - mean) + bias
    return conv_weight * g.reshape(shape), conv_bias
""",
    },
    "layer_sensitivity": {
        "never_restored": """
def layer_sensitivity(model, score, n_bits=8):
    start = score(model)
    net = copy.deepcopy(model)
    found = {}
    for name in weight_names(net):
        w = net.get_parameter(name)
        w.data = fake_quantize(w.data, symmetric_scale_per_channel(w.data, n_bits), n_bits)
        found[name] = start - score(net)
    return found
""",
        "all_but_one": """
def layer_sensitivity(model, score, n_bits=8):
    start = score(model)
    found = {}
    for name in weight_names(model):
        net = copy.deepcopy(model)
        for other in weight_names(net):
            if other != name:
                w = net.get_parameter(other)
                w.data = fake_quantize(w.data, symmetric_scale_per_channel(w.data, n_bits), n_bits)
        found[name] = start - score(net)
    return found
""",
        "returns_scores": """
def layer_sensitivity(model, score, n_bits=8):
    found = {}
    for name in weight_names(model):
        net = copy.deepcopy(model)
        w = net.get_parameter(name)
        w.data = fake_quantize(w.data, symmetric_scale_per_channel(w.data, n_bits), n_bits)
        found[name] = score(net)
    return found
""",
        "wrong_sign": """
def layer_sensitivity(model, score, n_bits=8):
    start = score(model)
    found = {}
    for name in weight_names(model):
        net = copy.deepcopy(model)
        w = net.get_parameter(name)
        w.data = fake_quantize(w.data, symmetric_scale_per_channel(w.data, n_bits), n_bits)
        found[name] = score(net) - start
    return found
""",
        "absolute_value": """
def layer_sensitivity(model, score, n_bits=8):
    start = score(model)
    found = {}
    for name in weight_names(model):
        net = copy.deepcopy(model)
        w = net.get_parameter(name)
        w.data = fake_quantize(w.data, symmetric_scale_per_channel(w.data, n_bits), n_bits)
        found[name] = abs(score(net) - start)
    return found
""",
        "relative_drop": """
def layer_sensitivity(model, score, n_bits=8):
    start = score(model)
    found = {}
    for name in weight_names(model):
        net = copy.deepcopy(model)
        w = net.get_parameter(name)
        w.data = fake_quantize(w.data, symmetric_scale_per_channel(w.data, n_bits), n_bits)
        found[name] = 1 - score(net) / start
    return found
""",
        "against_the_layer_before": """
def layer_sensitivity(model, score, n_bits=8):
    last = score(model)
    found = {}
    for name in weight_names(model):
        net = copy.deepcopy(model)
        w = net.get_parameter(name)
        w.data = fake_quantize(w.data, symmetric_scale_per_channel(w.data, n_bits), n_bits)
        now = score(net)
        found[name] = last - now
        last = now
    return found
""",
        "scores_the_original": """
def layer_sensitivity(model, score, n_bits=8):
    start = score(model)
    found = {}
    for name in weight_names(model):
        net = copy.deepcopy(model)
        w = net.get_parameter(name)
        w.data = fake_quantize(w.data, symmetric_scale_per_channel(w.data, n_bits), n_bits)
        found[name] = start - score(model)
    return found
""",
        "one_scale": """
def layer_sensitivity(model, score, n_bits=8):
    start = score(model)
    found = {}
    for name in weight_names(model):
        net = copy.deepcopy(model)
        w = net.get_parameter(name)
        w.data = fake_quantize(w.data, symmetric_scale(w.data, n_bits), n_bits)
        found[name] = start - score(net)
    return found
""",
        "ignores_n_bits": """
def layer_sensitivity(model, score, n_bits=8):
    start = score(model)
    found = {}
    for name in weight_names(model):
        net = copy.deepcopy(model)
        w = net.get_parameter(name)
        w.data = fake_quantize(w.data, symmetric_scale_per_channel(w.data))
        found[name] = start - score(net)
    return found
""",
        "every_parameter": """
def layer_sensitivity(model, score, n_bits=8):
    start = score(model)
    found = {}
    for name, _ in model.named_parameters():
        net = copy.deepcopy(model)
        w = net.get_parameter(name)
        w.data = fake_quantize(w.data, symmetric_scale_per_channel(w.data, n_bits), n_bits)
        found[name] = start - score(net)
    return found
""",
        "convolutions_only": """
def layer_sensitivity(model, score, n_bits=8):
    start = score(model)
    found = {}
    for name, module in model.named_modules():
        if not isinstance(module, nn.Conv2d):
            continue
        net = copy.deepcopy(model)
        w = net.get_submodule(name).weight
        w.data = fake_quantize(w.data, symmetric_scale_per_channel(w.data, n_bits), n_bits)
        found[name + ".weight"] = start - score(net)
    return found
""",
    },
    "greedy_bits": {
        "ignores_bytes": """
def greedy_bits(losses, sizes, budget, bits=(8, 4, 3, 2)):
    at = {k: 0 for k in losses}
    while sum(sizes[k][at[k]] for k in at) > budget:
        open_ = [k for k in at if at[k] < len(bits) - 1]
        k = min(open_, key=lambda k: losses[k][at[k] + 1] - losses[k][at[k]])
        at[k] += 1
    return {k: bits[i] for k, i in at.items()}
""",
        "ignores_losses": """
def greedy_bits(losses, sizes, budget, bits=(8, 4, 3, 2)):
    at = {k: 0 for k in losses}
    while sum(sizes[k][at[k]] for k in at) > budget:
        open_ = [k for k in at if at[k] < len(bits) - 1]
        k = max(open_, key=lambda k: sizes[k][at[k]] - sizes[k][at[k] + 1])
        at[k] += 1
    return {k: bits[i] for k, i in at.items()}
""",
        "whole_loss": """
def greedy_bits(losses, sizes, budget, bits=(8, 4, 3, 2)):
    at = {k: 0 for k in losses}
    while sum(sizes[k][at[k]] for k in at) > budget:
        open_ = [k for k in at if at[k] < len(bits) - 1]
        k = min(open_, key=lambda k: losses[k][at[k] + 1] / (sizes[k][at[k]] - sizes[k][at[k] + 1]))
        at[k] += 1
    return {k: bits[i] for k, i in at.items()}
""",
        "per_byte_left": """
def greedy_bits(losses, sizes, budget, bits=(8, 4, 3, 2)):
    at = {k: 0 for k in losses}
    while sum(sizes[k][at[k]] for k in at) > budget:
        open_ = [k for k in at if at[k] < len(bits) - 1]
        k = min(open_, key=lambda k: (losses[k][at[k] + 1] - losses[k][at[k]]) / sizes[k][at[k] + 1])
        at[k] += 1
    return {k: bits[i] for k, i in at.items()}
""",
        "dearest_first": """
def greedy_bits(losses, sizes, budget, bits=(8, 4, 3, 2)):
    at = {k: 0 for k in losses}
    while sum(sizes[k][at[k]] for k in at) > budget:
        open_ = [k for k in at if at[k] < len(bits) - 1]
        def price(k):
            i = at[k]
            return (losses[k][i + 1] - losses[k][i]) / (sizes[k][i] - sizes[k][i + 1])
        k = max(open_, key=price)
        at[k] += 1
    return {k: bits[i] for k, i in at.items()}
""",
        "straight_to_the_end": """
def greedy_bits(losses, sizes, budget, bits=(8, 4, 3, 2)):
    at = {k: 0 for k in losses}
    while sum(sizes[k][at[k]] for k in at) > budget:
        open_ = [k for k in at if at[k] == 0]
        k = min(open_, key=lambda k: (losses[k][1] - losses[k][0]) / (sizes[k][0] - sizes[k][1]))
        at[k] = len(bits) - 1
    return {k: bits[i] for k, i in at.items()}
""",
        "one_move_too_many": """
def greedy_bits(losses, sizes, budget, bits=(8, 4, 3, 2)):
    at = {k: 0 for k in losses}
    while sum(sizes[k][at[k]] for k in at) >= budget:
        open_ = [k for k in at if at[k] < len(bits) - 1]
        def price(k):
            i = at[k]
            return (losses[k][i + 1] - losses[k][i]) / (sizes[k][i] - sizes[k][i + 1])
        k = min(open_, key=price)
        at[k] += 1
    return {k: bits[i] for k, i in at.items()}
""",
        "in_one_order": """
def greedy_bits(losses, sizes, budget, bits=(8, 4, 3, 2)):
    at = {k: 0 for k in losses}
    order = sorted(at, key=lambda k: (losses[k][1] - losses[k][0]) / (sizes[k][0] - sizes[k][1]))
    for k in order:
        for i in range(1, len(bits)):
            if sum(sizes[j][at[j]] for j in at) <= budget:
                break
            at[k] = i
    return {k: bits[i] for k, i in at.items()}
""",
        "all_together": """
def greedy_bits(losses, sizes, budget, bits=(8, 4, 3, 2)):
    for i, b in enumerate(bits):
        if sum(size[i] for size in sizes.values()) <= budget:
            return {k: b for k in losses}
""",
        "upwards": """
def greedy_bits(losses, sizes, budget, bits=(8, 4, 3, 2)):
    at = {k: len(bits) - 1 for k in losses}
    while True:
        used = sum(sizes[k][at[k]] for k in at)
        best, gain = None, None
        for k, i in at.items():
            if i == 0:
                continue
            more = sizes[k][i - 1] - sizes[k][i]
            if used + more > budget:
                continue
            g = (losses[k][i] - losses[k][i - 1]) / more
            if gain is None or g > gain:
                best, gain = k, g
        if best is None:
            return {k: bits[i] for k, i in at.items()}
        at[best] -= 1
""",
        "returns_options": """
def greedy_bits(losses, sizes, budget, bits=(8, 4, 3, 2)):
    at = {k: 0 for k in losses}
    while sum(sizes[k][at[k]] for k in at) > budget:
        open_ = [k for k in at if at[k] < len(bits) - 1]
        def price(k):
            i = at[k]
            return (losses[k][i + 1] - losses[k][i]) / (sizes[k][i] - sizes[k][i + 1])
        k = min(open_, key=price)
        at[k] += 1
    return at
""",
    },
}

RIGHT = {
    "moving_average_range": [
        """
def moving_average_range(batches, momentum=0.9):
    ends = None
    for b in batches:
        new = torch.stack([b.min(), b.max()]).double()
        ends = new if ends is None else momentum * ends + (1 - momentum) * new
    return ends[0].item(), ends[1].item()
""",
        """
def moving_average_range(batches, momentum=0.9):
    def average(values):
        if len(values) == 1:
            return values[0]
        return momentum * average(values[:-1]) + (1 - momentum) * values[-1]
    return average([float(b.min()) for b in batches]), average([float(b.max()) for b in batches])
""",
        """
def moving_average_range(batches, momentum=0.9):
    stream = iter(batches)
    first = next(stream)
    lo, hi = float(first.amin()), float(first.amax())
    for b in stream:
        lo += (float(b.amin()) - lo) * (1 - momentum)
        hi += (float(b.amax()) - hi) * (1 - momentum)
    return lo, hi
""",
    ],
    "fold_batch_norm": [
        """
def fold_batch_norm(conv_weight, conv_bias, mean, var, weight, bias, eps=1e-5):
    std = torch.sqrt(var + eps)
    rows = conv_weight.flatten(1) * (weight / std)[:, None]
    old = torch.zeros_like(mean) if conv_bias is None else conv_bias
    return rows.reshape(conv_weight.shape), bias + weight * (old - mean) / std
""",
        """
def fold_batch_norm(conv_weight, conv_bias, mean, var, weight, bias, eps=1e-5):
    gain = weight.double() / (var.double() + eps).sqrt()
    folded = torch.stack([w * g for w, g in zip(conv_weight.double(), gain)])
    shift = bias.double() - gain * mean.double()
    if conv_bias is not None:
        shift = shift + gain * conv_bias.double()
    return folded.float(), shift.float()
""",
        """
def fold_batch_norm(conv_weight, conv_bias, mean, var, weight, bias, eps=1e-5):
    gain = torch.diag(weight * torch.rsqrt(var + eps))
    folded = torch.einsum("ij,j...->i...", gain, conv_weight)
    b = -mean if conv_bias is None else conv_bias - mean
    return folded, gain @ b + bias
""",
    ],
    "layer_sensitivity": [
        """
def layer_sensitivity(model, score, n_bits=8):
    start, found = score(model), {}
    for name in weight_names(model):
        net = copy.deepcopy(model)
        w = net.get_parameter(name)
        w.data = fake_quantize(w.data, symmetric_scale_per_channel(w.data, n_bits), n_bits)
        found[name] = start - score(net)
    return found
""",
        """
def layer_sensitivity(model, score, n_bits=8):
    start = score(model)
    state = {k: v.clone() for k, v in model.state_dict().items()}
    drops = {}
    for name in weight_names(model):
        scale = symmetric_scale_per_channel(state[name], n_bits)
        model.load_state_dict({**state, name: fake_quantize(state[name], scale, n_bits)})
        drops[name] = start - score(model)
        model.load_state_dict(state)
    return drops
""",
        """
def layer_sensitivity(model, score, n_bits=8):
    with torch.no_grad():
        start = score(model)
        def drop(name):
            w = model.get_parameter(name)
            saved = w.detach().clone()
            try:
                w.set_(fake_quantize(saved, symmetric_scale_per_channel(saved, n_bits), n_bits))
                return start - score(model)
            finally:
                w.set_(saved)
        return {name: drop(name) for name in weight_names(model)}
""",
    ],
    "greedy_bits": [
        """
def greedy_bits(losses, sizes, budget, bits=(8, 4, 3, 2)):
    at = {k: 0 for k in losses}
    total = sum(s[0] for s in sizes.values())
    while total > budget:
        best = None
        for k, i in at.items():
            if i + 1 < len(bits):
                saved = sizes[k][i] - sizes[k][i + 1]
                price = (losses[k][i + 1] - losses[k][i]) / saved
                if best is None or price < best[0]:
                    best = (price, k, saved)
        at[best[1]] += 1
        total -= best[2]
    return {k: bits[i] for k, i in at.items()}
""",
        """
def greedy_bits(losses, sizes, budget, bits=(8, 4, 3, 2)):
    names = list(losses)
    loss = torch.tensor([losses[k] for k in names], dtype=torch.float64)
    size = torch.tensor([sizes[k] for k in names], dtype=torch.float64)
    price = (loss[:, 1:] - loss[:, :-1]) / (size[:, :-1] - size[:, 1:])
    price = torch.cat([price, torch.full((len(names), 1), float("inf"), dtype=torch.float64)], 1)
    at = torch.zeros(len(names), dtype=torch.long)
    rows = torch.arange(len(names))
    while size[rows, at].sum() > budget:
        at[price[rows, at].argmin()] += 1
    return {k: bits[i] for k, i in zip(names, at.tolist())}
""",
        """
def greedy_bits(losses, sizes, budget, bits=(8, 4, 3, 2)):
    left = {k: [(l, s, b) for l, s, b in zip(losses[k], sizes[k], bits)] for k in losses}
    def price(k):
        (l0, s0, _), (l1, s1, _) = left[k][:2]
        return (l1 - l0) / (s0 - s1)
    while sum(options[0][1] for options in left.values()) > budget:
        left[min((k for k in left if len(left[k]) > 1), key=price)].pop(0)
    return {k: options[0][2] for k, options in left.items()}
""",
    ],
}
