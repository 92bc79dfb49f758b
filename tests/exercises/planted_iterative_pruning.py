"""Lesson 07 as students write it: right in other ways than ours, and wrong in ways of their own.

WRONG[exercise][mistake id] is code that makes this mistake; RIGHT[exercise] is code that must get full marks.
It is kept as text, as it would stand in a notebook, and shares nothing with the reference or the known mistakes.
"""

SETUP = """
import math
import torch
from torch import Tensor
"""

CUBIC = """
def cubic_sparsity(step, initial, final, begin, end):
    t = (step - begin) / (end - begin)
    if t < 0:
        t = 0.0
    if t > 1:
        t = 1.0
    return {result}
"""

FURTHER = """
def prune_further(scores, masks, sparsity):
    names = list(scores)
    score = torch.cat([scores[n].reshape(-1) for n in names])
    alive = torch.cat([masks[n].reshape(-1) for n in names])
    n_all, n_dead = alive.numel(), int((alive == 0).sum())
    {count}
    candidates = alive.nonzero().flatten()
    order = candidates[score[candidates].sort(stable=True).indices]
    alive = alive.clone()
    alive[order[:max(k, 0)]] = False
    out, start = {{}}, 0
    for n in names:
        size = masks[n].numel()
        out[n] = alive[start:start + size].reshape(masks[n].shape){final}
        start += size
    return out
"""

LOOP = """
def prune_iteratively(weights, train, prune, targets):
    w = {{n: t.clone() for n, t in weights.items()}}
    m = {{n: torch.full(t.shape, True) for n, t in weights.items()}}
{body}
    return {result}
"""

REWIND = """
def rewind(snapshot, masks):
    out = {{}}
    for key in snapshot:
        w = snapshot[key]
        if key in masks:
            m = masks[key]
            out[key] = {masked}
        {rest}
    return out
"""
REST = "else:\n            out[key] = w.clone()"

RATES = """
def ticket_sparsities(names, rounds, rate=0.2):
    result = {{}}
    for i, name in enumerate(names):
        last = i == len(names) - 1
        result[name] = {value}
    return result
"""

WRONG = {
    "cubic_sparsity": {
        "initial_only_in_max": """
def cubic_sparsity(step, initial, final, begin, end):
    if step >= end:
        return final
    progress = max(step - begin, 0) / (end - begin)
    return max(initial, final * (1 - (1 - progress) ** 3))
""",
        "forgets_initial": CUBIC.format(result="final - final * (1 - t) ** 3"),
        "adds_initial": CUBIC.format(result="initial + final - final * (1 - t) ** 3"),
        "linear": CUBIC.format(result="(1 - t) * initial + t * final"),
        "squared": CUBIC.format(result="final - (final - initial) * (1 - t) * (1 - t)"),
        "slow_first": CUBIC.format(result="initial + (final - initial) * t * t * t"),
        "ends_swapped": CUBIC.format(result="initial - (initial - final) * (1 - t) ** 3"),
        "runs_on_after_end": """
def cubic_sparsity(step, initial, final, begin, end):
    if step <= begin:
        return initial
    return final + (initial - final) * ((end - step) / (end - begin)) ** 3
""",
        "runs_on_before_begin": """
def cubic_sparsity(step, initial, final, begin, end):
    if step >= end:
        return final
    return final + (initial - final) * ((end - step) / (end - begin)) ** 3
""",
        "zero_before_begin": """
def cubic_sparsity(step, initial, final, begin, end):
    if step < begin:
        return 0.0
    if step > end:
        return final
    rest = (end - step) / (end - begin)
    return final - (final - initial) * rest ** 3
""",
        "counts_from_zero": """
def cubic_sparsity(step, initial, final, begin, end):
    rest = min(1.0, max(0.0, 1 - step / end))
    return final - (final - initial) * rest ** 3
""",
        "length_without_begin": """
def cubic_sparsity(step, initial, final, begin, end):
    rest = min(1.0, max(0.0, 1 - step / (end - begin)))
    return final - (final - initial) * rest ** 3
""",
        "one_step_late": """
def cubic_sparsity(step, initial, final, begin, end):
    n = end - begin + 1
    rest = min(1.0, max(0.0, (n - (step - begin)) / n))
    return final - (final - initial) * rest ** 3
""",
        "per_cent": CUBIC.format(result="(final - (final - initial) * (1 - t) ** 3) * 100"),
    },
    "pruning_steps": {
        "misses_the_end": """
def pruning_steps(begin, end, every):
    out, t = [], begin
    while t < end:
        out.append(t)
        t += every
    return out
""",
        "end_only_if_it_fits": """
def pruning_steps(begin, end, every):
    out, t = [], begin
    while t <= end:
        out.append(t)
        t += every
    return out
""",
        "end_twice": """
def pruning_steps(begin, end, every):
    out, t = [], begin
    while t <= end:
        out.append(t)
        t += every
    out.append(end)
    return out
""",
        "multiples_of_every": """
def pruning_steps(begin, end, every):
    out = []
    for t in range(begin, end + 1):
        if t % every == 0 or t == end:
            out.append(t)
    return out
""",
        "skips_begin": """
def pruning_steps(begin, end, every):
    out, t = [], begin + every
    while t < end:
        out.append(t)
        t += every
    return out + [end]
""",
        "stretches_the_last": """
def pruning_steps(begin, end, every):
    out, t = [], begin
    while t <= end:
        out.append(t)
        t += every
    out[-1] = end
    return out
""",
        "runs_past_the_end": """
def pruning_steps(begin, end, every):
    out = [begin]
    while out[-1] < end:
        out.append(out[-1] + every)
    return out
""",
        "every_step": """
def pruning_steps(begin, end, every):
    return [begin + i for i in range(end - begin + 1)]
""",
        "counts_the_prunings": """
def pruning_steps(begin, end, every):
    return math.ceil((end - begin) / every) + 1
""",
        "both_ends_only": """
def pruning_steps(begin, end, every):
    steps = [begin]
    steps.append(end)
    return steps
""",
    },
    "weights_to_prune": {
        "share_of_the_survivors": """
def weights_to_prune(n_weights, n_pruned, sparsity):
    survivors = n_weights - n_pruned
    return round(survivors * sparsity)
""",
        "forgets_the_pruned": """
def weights_to_prune(n_weights, n_pruned, sparsity):
    return round(n_weights * sparsity)
""",
        "difference_of_shares": """
def weights_to_prune(n_weights, n_pruned, sparsity):
    now = n_pruned / n_weights
    if sparsity <= now:
        return 0
    return round((sparsity - now) * (n_weights - n_pruned))
""",
        "negative": """
def weights_to_prune(n_weights, n_pruned, sparsity):
    wanted = round(n_weights * sparsity)
    return wanted - n_pruned
""",
        "rounds_down": """
def weights_to_prune(n_weights, n_pruned, sparsity):
    wanted = math.floor(n_weights * sparsity)
    return wanted - n_pruned if wanted > n_pruned else 0
""",
        "rounds_up": """
def weights_to_prune(n_weights, n_pruned, sparsity):
    wanted = -int(-n_weights * sparsity // 1)
    return wanted - n_pruned if wanted > n_pruned else 0
""",
        "counts_what_stays": """
def weights_to_prune(n_weights, n_pruned, sparsity):
    wanted = round(n_weights * sparsity)
    if wanted < n_pruned:
        wanted = n_pruned
    return n_weights - wanted
""",
        "counts_all_pruned": """
def weights_to_prune(n_weights, n_pruned, sparsity):
    wanted = round(n_weights * sparsity)
    return wanted if wanted > n_pruned else n_pruned
""",
        "returns_float": """
def weights_to_prune(n_weights, n_pruned, sparsity):
    more = n_weights * sparsity - n_pruned
    return more if more > 0 else 0.0
""",
        "at_least_one": """
def weights_to_prune(n_weights, n_pruned, sparsity):
    more = round(n_weights * sparsity) - n_pruned
    return more if more >= 1 else 1
""",
    },
    "prune_further": {
        "share_of_the_survivors": FURTHER.format(count="k = round((n_all - n_dead) * sparsity)", final=""),
        "counts_from_scratch": FURTHER.format(count="k = round(n_all * sparsity)", final=""),
        "ignores_masks": """
def prune_further(scores, masks, sparsity):
    everything = torch.cat([s.reshape(-1) for s in scores.values()])
    k = round(sparsity * everything.numel())
    bad = set(torch.sort(everything, stable=True).indices[:k].tolist())
    out, i = {}, 0
    for n, s in scores.items():
        out[n] = torch.tensor([i + j not in bad for j in range(s.numel())]).reshape(s.shape)
        i += s.numel()
    return out
""",
        "masks_only_afterwards": """
def prune_further(scores, masks, sparsity):
    everything = torch.cat([s.reshape(-1) for s in scores.values()])
    k = round(sparsity * everything.numel())
    bad = set(torch.sort(everything, stable=True).indices[:k].tolist())
    out, i = {}, 0
    for n, s in scores.items():
        fresh = torch.tensor([i + j not in bad for j in range(s.numel())]).reshape(s.shape)
        out[n] = torch.logical_and(fresh, masks[n])
        i += s.numel()
    return out
""",
        "zero_for_pruned": """
def prune_further(scores, masks, sparsity):
    everything = torch.cat([torch.where(masks[n], s, torch.zeros_like(s)).reshape(-1) for n, s in scores.items()])
    k = round(sparsity * everything.numel())
    bad = set(torch.sort(everything, stable=True).indices[:k].tolist())
    out, i = {}, 0
    for n, s in scores.items():
        out[n] = torch.tensor([i + j not in bad for j in range(s.numel())]).reshape(s.shape)
        i += s.numel()
    return out
""",
        "per_layer": """
def prune_further(scores, masks, sparsity):
    out = {}
    for n, s in scores.items():
        ranked = s.masked_fill(~masks[n], -float("inf")).reshape(-1)
        new = torch.ones(s.numel(), dtype=torch.bool)
        new[torch.sort(ranked, stable=True).indices[:round(sparsity * s.numel())]] = False
        out[n] = new.reshape(s.shape)
    return out
""",
        "prunes_the_highest": """
def prune_further(scores, masks, sparsity):
    ranked = torch.cat([s.masked_fill(~masks[n], float("inf")).reshape(-1) for n, s in scores.items()])
    k = round(sparsity * ranked.numel())
    new = torch.ones(ranked.numel(), dtype=torch.bool)
    new[torch.sort(ranked, descending=True, stable=True).indices[:k]] = False
    out, i = {}, 0
    for n, s in scores.items():
        out[n] = new[i:i + s.numel()].reshape(s.shape)
        i += s.numel()
    return out
""",
        "ties_all_go": """
def prune_further(scores, masks, sparsity):
    left = torch.cat([scores[n][masks[n]] for n in scores])
    total = sum(m.numel() for m in masks.values())
    k = round(sparsity * total) - (total - left.numel())
    if k < 1:
        return {n: m.clone() for n, m in masks.items()}
    threshold = left.kthvalue(k).values
    return {n: masks[n] & (scores[n] > threshold) for n in scores}
""",
        "ties_all_stay": """
def prune_further(scores, masks, sparsity):
    left = torch.cat([scores[n][masks[n]] for n in scores])
    total = sum(m.numel() for m in masks.values())
    k = round(sparsity * total) - (total - left.numel())
    if k < 1:
        return {n: m.clone() for n, m in masks.items()}
    threshold = left.kthvalue(k).values
    return {n: masks[n] & (scores[n] >= threshold) for n in scores}
""",
        "changes_nothing": """
def prune_further(scores, masks, sparsity):
    return {name: mask.clone() for name, mask in masks.items()}
""",
        "upside_down": FURTHER.format(count="k = round(n_all * sparsity) - n_dead", final=".logical_not()"),
        "float_masks": FURTHER.format(
            count="k = round(n_all * sparsity) - n_dead", final=".to(torch.float32)"
        ),
    },
    "prune_iteratively": {
        "only_one_training_counts": LOOP.format(
            body="""    for t in targets:
        m = prune(weights, m, t)
        w = train({n: weights[n] * m[n] for n in weights}, m)
""",
            result="w, m",
        ),
        "never_trains": LOOP.format(
            body="""    for t in targets:
        m = prune(w, m, t)
        w = {n: torch.where(m[n], w[n], torch.zeros(())) for n in w}
""",
            result="w, m",
        ),
        "trains_before_pruning": LOOP.format(
            body="""    for t in targets:
        w = train(w, m)
        m = prune(w, m, t)
        w = {n: torch.where(m[n], w[n], torch.zeros(())) for n in w}
""",
            result="w, m",
        ),
        "does_not_zero": LOOP.format(
            body="""    for t in targets:
        m = prune(w, m, t)
        w = train(w, m)
""",
            result="w, m",
        ),
        "extra_training": LOOP.format(
            body="""    for t in targets:
        m = prune(w, m, t)
        w = train({n: w[n] * m[n] for n in w}, m)
    w = train(w, m)
""",
            result="w, m",
        ),
        "stops_one_early": LOOP.format(
            body="""    for i in range(len(targets) - 1):
        m = prune(w, m, targets[i])
        w = train({n: w[n] * m[n] for n in w}, m)
""",
            result="w, m",
        ),
        "compounds_the_targets": LOOP.format(
            body="""    gone = 0.0
    for t in targets:
        gone = gone + t * (1 - gone)
        m = prune(w, m, gone)
        w = train({n: w[n] * m[n] for n in w}, m)
""",
            result="w, m",
        ),
        "masks_first": LOOP.format(
            body="""    for t in targets:
        m = prune(w, m, t)
        w = train({n: w[n] * m[n] for n in w}, m)
""",
            result="m, w",
        ),
        "weights_only": LOOP.format(
            body="""    for t in targets:
        m = prune(w, m, t)
        w = train({n: w[n] * m[n] for n in w}, m)
""",
            result="w",
        ),
    },
    "rewind": {
        "forgets_the_masks": REWIND.format(masked="w.clone()", rest=REST),
        "upside_down": REWIND.format(masked="w.masked_fill(m, 0.0)", rest=REST),
        "drops_the_rest": REWIND.format(masked="w.masked_fill(~m, 0.0)", rest=""),
        "zeroes_the_rest": REWIND.format(
            masked="w.masked_fill(~m, 0.0)", rest="else:\n            out[key] = w * 0.0"
        ),
        "survivors_only": REWIND.format(masked="torch.masked_select(w, m)", rest=REST),
        "rescales": REWIND.format(masked="w * m * (m.numel() / max(int(m.sum()), 1))", rest=REST),
        "returns_masks": REWIND.format(masked="m.to(w.dtype)", rest=REST),
        "nan_for_pruned": REWIND.format(masked='w.masked_fill(~m, float("nan"))', rest=REST),
        "keeps_the_sign": REWIND.format(masked="torch.sign(w.masked_fill(~m, 0.0))", rest=REST),
        "magnitudes": REWIND.format(masked="torch.abs(w.masked_fill(~m, 0.0))", rest=REST),
    },
    "ticket_sparsities": {
        "adds_up": RATES.format(value="rounds * (rate / 2 if last else rate)"),
        "output_like_the_others": RATES.format(value="1 - (1 - rate) ** rounds"),
        "half_the_sparsity": RATES.format(value="(1 - (1 - rate) ** rounds) / (2 if last else 1)"),
        "first_layer_instead": RATES.format(value="1 - (1 - (rate / 2 if i == 0 else rate)) ** rounds"),
        "named_fc3": RATES.format(value='1 - (1 - (rate / 2 if "fc3" in name else rate)) ** rounds'),
        "output_dense": RATES.format(value="0.0 if last else 1 - (1 - rate) ** rounds"),
        "share_kept": RATES.format(value="(1 - (rate / 2 if last else rate)) ** rounds"),
        "one_round_more": RATES.format(value="1 - (1 - (rate / 2 if last else rate)) ** (rounds + 1)"),
        "always_a_fifth": RATES.format(value="1 - (0.9 if last else 0.8) ** rounds"),
        "rate_to_the_power": RATES.format(value="(rate * (0.5 if last else 1.0)) ** rounds"),
        "a_list": """
def ticket_sparsities(names, rounds, rate=0.2):
    rates = [rate] * (len(names) - 1) + [rate / 2]
    return [1 - (1 - r) ** rounds for r in rates]
""",
    },
}

RIGHT = {
    "cubic_sparsity": [
        CUBIC.format(result="initial + (final - initial) * (1 - (1 - t) ** 3)"),
        """
def cubic_sparsity(step, initial, final, begin, end):
    step = sorted([begin, step, end])[1]
    left = (end - step) / (end - begin)
    return left ** 3 * initial + (1 - left ** 3) * final
""",
        """
def cubic_sparsity(step, initial, final, begin, end):
    if step <= begin:
        return initial
    elif step >= end:
        return final
    x = 1 - (step - begin) / (end - begin)
    return final - x * x * x * (final - initial)
""",
    ],
    "pruning_steps": [
        """
def pruning_steps(begin, end, every):
    return list(range(begin, end, every)) + [end]
""",
        """
def pruning_steps(begin, end, every):
    out = []
    for t in range(begin, end + 1):
        if (t - begin) % every == 0 or t == end:
            out.append(t)
    return out
""",
        """
def pruning_steps(begin, end, every):
    n = math.ceil((end - begin) / every)
    return [min(begin + i * every, end) for i in range(n + 1)]
""",
    ],
    "weights_to_prune": [
        """
def weights_to_prune(n_weights, n_pruned, sparsity):
    return max(0, round(sparsity * n_weights) - n_pruned)
""",
        """
def weights_to_prune(n_weights, n_pruned, sparsity):
    wanted = int(sparsity * n_weights + 0.5)
    if wanted <= n_pruned:
        return 0
    return wanted - n_pruned
""",
        """
def weights_to_prune(n_weights, n_pruned, sparsity):
    stay = min(n_weights - round(n_weights * sparsity), n_weights - n_pruned)
    return n_weights - n_pruned - stay
""",
    ],
    "prune_further": [
        FURTHER.format(count="k = round(n_all * sparsity) - n_dead", final=""),
        """
def prune_further(scores, masks, sparsity):
    flat = torch.cat([torch.where(masks[n], scores[n], -torch.inf).flatten() for n in masks])
    kept = torch.ones_like(flat, dtype=torch.bool)
    kept[torch.topk(flat, round(sparsity * len(flat)), largest=False).indices] = False
    parts = kept.split([m.numel() for m in masks.values()])
    return {n: part.view(masks[n].shape) for n, part in zip(masks, parts)}
""",
        """
def prune_further(scores, masks, sparsity):
    entries = []
    for n, s in scores.items():
        for i, (value, kept) in enumerate(zip(s.flatten().tolist(), masks[n].flatten().tolist())):
            if kept:
                entries.append((value, n, i))
    total = sum(m.numel() for m in masks.values())
    k = max(round(sparsity * total) - (total - len(entries)), 0)
    out = {n: m.clone().flatten() for n, m in masks.items()}
    for _, n, i in sorted(entries)[:k]:
        out[n][i] = False
    return {n: out[n].reshape(m.shape) for n, m in masks.items()}
""",
    ],
    "prune_iteratively": [
        LOOP.format(
            body="""    for t in targets:
        m = prune(w, m, t)
        w = train({n: w[n] * m[n] for n in w}, m)
""",
            result="w, m",
        ),
        """
def prune_iteratively(weights, train, prune, targets):
    masks = {name: torch.ones(w.shape) > 0 for name, w in weights.items()}
    for target in targets:
        masks = prune(weights, masks, target)
        weights = {name: w.masked_fill(~masks[name], 0.0) for name, w in weights.items()}
        weights = train(weights, masks)
    return [weights, masks]
""",
        """
def prune_iteratively(weights, train, prune, targets):
    def go(weights, masks, targets):
        if not targets:
            return weights, masks
        masks = prune(weights, masks, targets[0])
        sparse = {name: torch.where(masks[name], w, 0.0) for name, w in weights.items()}
        return go(train(sparse, masks), masks, targets[1:])

    return go(weights, {name: torch.ones_like(w).bool() for name, w in weights.items()}, list(targets))
""",
    ],
    "rewind": [
        REWIND.format(masked="w * m", rest=REST),
        """
def rewind(snapshot, masks):
    result = dict(snapshot)
    for name, mask in masks.items():
        result[name] = torch.where(mask, snapshot[name], 0.0)
    return result
""",
        """
def rewind(snapshot, masks):
    result = {name: tensor.clone() for name, tensor in snapshot.items()}
    for name in masks:
        result[name][masks[name] == False] = 0
    return result
""",
    ],
    "ticket_sparsities": [
        RATES.format(value="1 - (1 - (rate / 2 if last else rate)) ** rounds"),
        """
def ticket_sparsities(names, rounds, rate=0.2):
    left = {name: 1.0 for name in names}
    for _ in range(rounds):
        for name in names:
            left[name] *= 1 - (rate * 0.5 if name == names[-1] else rate)
    return {name: 1.0 - value for name, value in left.items()}
""",
        """
def ticket_sparsities(names, rounds, rate=0.2):
    out = dict.fromkeys(names, 1 - (1 - rate) ** rounds)
    out[names[-1]] = 1 - (1 - rate / 2) ** rounds
    return out
""",
    ],
}
