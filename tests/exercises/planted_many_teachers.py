"""Lesson 10 as students write it, first half: ensembles and peers; right in other ways, wrong in their own."""

SETUP = """
import math
import torch
import torch.nn.functional as F
"""

_WEIGHTS = """
def ensemble_weights(weights, n_teachers):
    w = torch.ones(n_teachers) if weights is None else torch.as_tensor(weights)
    w = w.double()
    {length}
    {bad}
    {result}
"""
_LENGTH = "if w.numel() != n_teachers: raise ValueError('wrong number of weights')"
_BAD = "if not torch.isfinite(w).all() or (w < 0).any() or w.sum() == 0: raise ValueError('bad weights')"
_RESULT = "return (w / w.sum()).tolist()"


def _weights(length=_LENGTH, bad=_BAD, result=_RESULT):
    return _WEIGHTS.format(length=length, bad=bad, result=result)


_LOSS = """
def peer_loss(own, others, labels, temperature=1.0):
    T = temperature
    logp = F.log_softmax(own / T, dim=1)
    kls = []
    for other in others:
        {divergence}
    hard = {hard}
    return {total}
"""
_DIVERGENCE = "kls.append(F.kl_div(logp, F.softmax(other / T, dim=1), reduction='batchmean'))"


def _loss(
    divergence=_DIVERGENCE, hard="F.cross_entropy(own, labels)", total="hard + T * T * sum(kls) / len(kls)"
):
    return _LOSS.format(divergence=divergence, hard=hard, total=total)


_TRAIN = """
def train_peers(peers, batches, lr, loss):
    opts = [{optimizer} for p in peers]
    history = []
    for images, labels in batches:
        outs = [p(images) for p in peers]
        ls = []
        for i in range(len(peers)):
            others = {others}
            ls.append(loss(outs[i], others, labels))
        {zero}
        {backward}
        {step}
        {record}
    return history
"""


def _train(
    optimizer="torch.optim.SGD(p.parameters(), lr=lr)",
    others="[outs[j].detach() for j in range(len(peers)) if j != i]",
    zero="[o.zero_grad() for o in opts]",
    backward="[l.backward() for l in ls]",
    step="[o.step() for o in opts]",
    record="history.append([float(l) for l in ls])",
):
    return _TRAIN.format(
        optimizer=optimizer, others=others, zero=zero, backward=backward, step=step, record=record
    )


WRONG = {
    "ensemble_weights": {
        "not_normalised": _weights(
            result="return [1 / n_teachers] * n_teachers if weights is None else w.tolist()"
        ),
        "softmax_of_weights": _weights(result="return torch.softmax(w, 0).tolist()"),
        "divided_by_largest": _weights(result="return (w / w.max()).tolist()"),
        "divided_by_number": _weights(result="return (w / n_teachers).tolist()"),
        "ignores_weights": _weights(result="return [1.0 / n_teachers for _ in range(n_teachers)]"),
        "ones_for_none": _weights(result="return w.tolist() if weights is None else (w / w.sum()).tolist()"),
        "extra_weights_dropped": _weights(
            length="w = torch.tensor([v for v, _ in zip(w.tolist(), range(n_teachers))], dtype=torch.float64)"
        ),
        "negative_accepted": _weights(
            bad="if not torch.isfinite(w).all() or w.sum() == 0: raise ValueError('bad')"
        ),
        "absolute_values": _weights(
            bad="w = w.abs()\n    if not torch.isfinite(w).all() or w.sum() == 0: raise ValueError('bad')"
        ),
        "zeros_accepted": _weights(
            bad="if not torch.isfinite(w).all() or (w < 0).any(): raise ValueError('bad')"
        ),
        "nan_accepted": _weights(
            bad="if (w < 0).any() or w.sum() == 0 or (w == math.inf).any(): raise ValueError('bad')"
        ),
        "infinity_accepted": _weights(
            bad="if (w < 0).any() or w.sum() == 0 or w.isnan().any(): raise ValueError('bad')"
        ),
        "truth_of_a_tensor": """
def ensemble_weights(weights, n_teachers):
    weights = weights or [1.0] * n_teachers
    if len(weights) != n_teachers:
        raise ValueError("length")
    if any(not math.isfinite(w) or w < 0 for w in weights) or sum(weights) == 0:
        raise ValueError("values")
    return [w / sum(weights) for w in weights]
""",
    },
    "ensemble_probabilities": {
        "averaged_logits": """
def ensemble_probabilities(logits, weights, temperature=1.0):
    total = torch.zeros_like(logits[0])
    for z, w in zip(logits, weights):
        total = total + w * z
    return F.softmax(total / temperature, dim=1)
""",
        "softened_after_averaging": """
def ensemble_probabilities(logits, weights, temperature=1.0):
    mean = sum(w * F.softmax(z, dim=1) for z, w in zip(logits, weights))
    return F.softmax(torch.log(mean) / temperature, dim=1)
""",
        "softmax_twice": """
def ensemble_probabilities(logits, weights, temperature=1.0):
    mean = sum(w * F.softmax(z, dim=1) for z, w in zip(logits, weights))
    return F.softmax(mean / temperature, dim=1)
""",
        "ignores_temperature": """
def ensemble_probabilities(logits, weights, temperature=1.0):
    return sum(w * F.softmax(z, dim=1) for z, w in zip(logits, weights))
""",
        "multiplies_by_temperature": """
def ensemble_probabilities(logits, weights, temperature=1.0):
    return sum(w * F.softmax(z * temperature, dim=1) for z, w in zip(logits, weights))
""",
        "ignores_weights": """
def ensemble_probabilities(logits, weights, temperature=1.0):
    return sum(F.softmax(z / temperature, dim=1) for z in logits) / len(logits)
""",
        "sum_without_weights": """
def ensemble_probabilities(logits, weights, temperature=1.0):
    return sum(F.softmax(z / temperature, dim=1) for z in logits)
""",
        "mean_of_weighted": """
def ensemble_probabilities(logits, weights, temperature=1.0):
    return torch.stack([w * F.softmax(z / temperature, dim=1) for z, w in zip(logits, weights)]).mean(dim=0)
""",
        "over_the_images": """
def ensemble_probabilities(logits, weights, temperature=1.0):
    return sum(w * F.softmax(z / temperature, dim=0) for z, w in zip(logits, weights))
""",
        "weights_in_the_logits": """
def ensemble_probabilities(logits, weights, temperature=1.0):
    return sum(F.softmax(w * z / temperature, dim=1) for z, w in zip(logits, weights)) / len(weights)
""",
        "votes": """
def ensemble_probabilities(logits, weights, temperature=1.0):
    votes = torch.zeros_like(logits[0])
    for z, w in zip(logits, weights):
        for row, choice in enumerate(z.argmax(dim=1).tolist()):
            votes[row, choice] += w
    return votes
""",
        "most_confident_only": """
def ensemble_probabilities(logits, weights, temperature=1.0):
    soft = [F.softmax(z / temperature, dim=1) for z in logits]
    return torch.stack([max((p[i] for p in soft), key=lambda r: float(r.max())) for i in range(len(soft[0]))])
""",
        "returns_logarithm": """
def ensemble_probabilities(logits, weights, temperature=1.0):
    return torch.log(sum(w * F.softmax(z / temperature, dim=1) for z, w in zip(logits, weights)))
""",
    },
    "peer_loss": {
        "reversed": _loss(
            "kls.append(F.kl_div(F.log_softmax(other / T, dim=1), logp.exp(), reduction='batchmean'))"
        ),
        "mean_of_logits": """
def peer_loss(own, others, labels, temperature=1.0):
    target = F.softmax(torch.mean(torch.stack(others), dim=0) / temperature, dim=1)
    soft = F.kl_div(F.log_softmax(own / temperature, dim=1), target, reduction="batchmean")
    return temperature ** 2 * soft + F.cross_entropy(own, labels)
""",
        "mean_of_probabilities": """
def peer_loss(own, others, labels, temperature=1.0):
    target = sum(F.softmax(o / temperature, dim=1) for o in others) / len(others)
    soft = F.kl_div(F.log_softmax(own / temperature, dim=1), target, reduction="batchmean")
    return temperature ** 2 * soft + F.cross_entropy(own, labels)
""",
        "sum_over_peers": _loss(total="hard + T * T * sum(kls)"),
        "no_temperature_squared": _loss(total="hard + sum(kls) / len(kls)"),
        "temperature_not_squared": _loss(total="hard + T * sum(kls) / len(kls)"),
        "mean_over_classes": _loss(
            "kls.append(F.kl_div(logp, F.softmax(other / T, dim=1), reduction='mean'))"
        ),
        "sum_over_images": _loss("kls.append(F.kl_div(logp, F.softmax(other / T, dim=1), reduction='sum'))"),
        "labels_softened": _loss(hard="F.nll_loss(logp, labels)"),
        "others_not_softened": _loss(
            "kls.append(F.kl_div(logp, F.softmax(other, dim=1), reduction='batchmean'))"
        ),
        "no_labels": _loss(total="T * T * sum(kls) / len(kls)"),
        "halves": _loss(total="0.5 * hard + 0.5 * T * T * sum(kls) / len(kls)"),
        "soft_cross_entropy": _loss("kls.append(-(F.softmax(other / T, dim=1) * logp).sum(dim=1).mean())"),
        "probability_for_logarithm": _loss(
            "kls.append(F.kl_div(F.softmax(own / T, dim=1), F.softmax(other / T, dim=1), reduction='batchmean'))"
        ),
        "first_peer_only": _loss(total="hard + T * T * kls[0]"),
    },
    "train_peers": {
        "graph_used_twice": _train(others="[outs[j] for j in range(len(peers)) if j != i]"),
        "not_detached": _train(
            others="[outs[j] for j in range(len(peers)) if j != i]",
            backward="[l.backward(retain_graph=True) for l in ls]",
        ),
        "steps_between_losses": """
def train_peers(peers, batches, lr, loss):
    opts = [torch.optim.SGD(p.parameters(), lr=lr) for p in peers]
    history = []
    for images, labels in batches:
        history.append([])
        for peer, opt in zip(peers, opts):
            with torch.no_grad():
                others = [p(images) for p in peers if p is not peer]
            value = loss(peer(images), others, labels)
            opt.zero_grad()
            value.backward()
            opt.step()
            history[-1].append(value.item())
    return history
""",
        "gradients_not_cleared": _train(zero="pass"),
        "only_the_first_learns": _train(step="opts[0].step()"),
        "losses_after_the_step": _train(
            record="""outs = [p(images) for p in peers]
        history.append([loss(outs[i], outs[:i] + outs[i + 1:], labels).item() for i in range(len(peers))])"""
        ),
        "own_among_the_others": _train(others="[o.detach() for o in outs]"),
        "neighbour_only": _train(others="[outs[i + 1].detach() if i + 1 < len(outs) else outs[0].detach()]"),
        "first_is_the_teacher": _train(others="[outs[0 if i > 0 else 1].detach()]"),
        "mean_of_the_losses": _train(backward="(sum(ls) / len(ls)).backward()"),
        "adam": _train(optimizer="torch.optim.Adam(p.parameters(), lr=lr)"),
        "only_the_sum": _train(record="history.append(float(sum(ls)))"),
    },
}

RIGHT = {
    "ensemble_weights": [
        _weights(),
        """
def ensemble_weights(weights, n_teachers):
    if weights is None:
        return [1 / n_teachers] * n_teachers
    values = [float(weights[i]) for i in range(len(weights))]
    total = math.fsum(values)
    if len(values) != n_teachers or not 0 < total < math.inf or min(values) < 0:
        raise ValueError(f"cannot use the weights {values}")
    return [v / total for v in values]
""",
        """
def ensemble_weights(weights, n_teachers):
    w = [1] * n_teachers if weights is None else list(weights)
    if len(w) != n_teachers:
        raise ValueError("one weight for each teacher, please")
    for v in w:
        if not (0 <= v < float("inf")):
            raise ValueError("a weight is a number from 0 up")
    s = float(sum(w))
    if s == 0:
        raise ValueError("all weights are 0")
    return [float(v) / s for v in w]
""",
    ],
    "ensemble_probabilities": [
        """
def ensemble_probabilities(logits, weights, temperature=1.0):
    return sum(w * F.softmax(z / temperature, dim=1) for z, w in zip(logits, weights))
""",
        """
def ensemble_probabilities(logits, weights, temperature=1.0):
    stacked = torch.softmax(torch.stack(logits) / temperature, dim=2)
    return torch.einsum("k,knc->nc", torch.tensor(weights), stacked)
""",
        """
def ensemble_probabilities(logits, weights, temperature=1.0):
    logs = torch.stack([torch.log_softmax(z / temperature, dim=-1) for z in logits])
    logs = logs + torch.tensor(weights).log()[:, None, None]
    return torch.logsumexp(logs, dim=0).exp()
""",
    ],
    "peer_loss": [
        _loss(),
        """
def peer_loss(own, others, labels, temperature=1.0):
    q = F.log_softmax(own / temperature, dim=1)
    targets = torch.stack([F.softmax(o.detach() / temperature, dim=1) for o in others])
    kl = (targets * (targets.log() - q[None])).sum(dim=2).mean()
    return F.nll_loss(F.log_softmax(own, dim=1), labels) + kl * temperature ** 2
""",
        """
def peer_loss(own, others, labels, temperature=1.0):
    loss = F.cross_entropy(own, labels)
    for other in others:
        p = torch.distributions.Categorical(logits=other.detach() / temperature)
        q = torch.distributions.Categorical(logits=own / temperature)
        loss = loss + temperature ** 2 * torch.distributions.kl_divergence(p, q).mean() / len(others)
    return loss
""",
    ],
    "train_peers": [
        _train(),
        """
def train_peers(peers, batches, lr, loss):
    opts = [torch.optim.SGD(p.parameters(), lr=lr) for p in peers]
    history = []
    for images, labels in batches:
        with torch.no_grad():
            targets = [p(images) for p in peers]
        row = []
        for i, (peer, opt) in enumerate(zip(peers, opts)):
            value = loss(peer(images), targets[:i] + targets[i + 1:], labels)
            opt.zero_grad()
            value.backward()
            opt.step()
            row.append(value.item())
        history.append(row)
    return history
""",
        """
def train_peers(peers, batches, lr, loss):
    optimizer = torch.optim.SGD([w for p in peers for w in p.parameters()], lr=lr)
    history = []
    for images, labels in batches:
        outs = [p(images) for p in peers]
        fixed = [o.detach() for o in outs]
        losses = [loss(o, [f for j, f in enumerate(fixed) if j != i], labels) for i, o in enumerate(outs)]
        optimizer.zero_grad()
        torch.stack(losses).sum().backward()
        optimizer.step()
        history.append(torch.stack(losses).tolist())
    return history
""",
    ],
}
