"""Lesson 10 as students write it, second half: chains and calibration; right in other ways, wrong in their own."""

SETUP = """
import math
import torch
import torch.nn.functional as F
"""

_CHAIN = """
def plan_chain(networks, epochs):
    n = len(networks) - 1
    if n < 1{check}:
        raise ValueError("this chain cannot be trained")
    plan = []
    for i in range(n):
        teacher, student = {pair}
        length = {length}
        plan.append((teacher, student, length))
    {end}
"""
_LENGTH = "epochs // n if i < n - 1 else epochs - (n - 1) * (epochs // n)"


def _chain(check=" or epochs < n", pair="networks[i], networks[i + 1]", length=_LENGTH, end="return plan"):
    return _CHAIN.format(check=check, pair=pair, length=length, end=end)


_ERROR = """
def expected_calibration_error(confidence, correct, n_bins=10):
    total, used = 0.0, 0
    for b in range({bins}):
        low, high = b / {bins}, (b + 1) / {bins}
        inside = (confidence > low) & (confidence {upper})
        if not inside.any():
            continue
        used += 1
        n = int(inside.sum())
        acc = float(correct[inside].double().mean())
        conf = float(confidence[inside].double().mean())
        {add}
    return {result}
"""


def _error(
    bins="n_bins", upper="<= high", add="total += n * abs(acc - conf)", result="total / len(confidence)"
):
    return _ERROR.format(bins=bins, upper=upper, add=add, result=result)


_TEMPERATURE = """
def best_temperature(logits, labels, candidates):
    best, lowest = None, math.inf
    for T in {among}:
        score = float({score})
        if score < lowest:
            best, lowest = T, score
    return {result}
"""


def _temperature(score="F.cross_entropy(logits / T, labels)", among="candidates", result="best"):
    return _TEMPERATURE.format(score=score, among=among, result=result)


WRONG = {
    "plan_chain": {
        "teacher_teaches_all": _chain(pair="networks[0], networks[i + 1]"),
        "all_teach_the_student": _chain(pair="networks[i], networks[-1]"),
        "swapped": _chain(pair="networks[i + 1], networks[i]"),
        "backwards": _chain(pair="networks[n - 1 - i], networks[n - i]"),
        "assistants_skipped": _chain(
            end="return [(networks[0], networks[-1], sum(link[2] for link in plan))]"
        ),
        "last_link_missing": _chain(end="return plan[: n - 1]"),
        "all_epochs_each": _chain(length="epochs"),
        "remainder_lost": _chain(length="int(epochs / n)"),
        "remainder_first": _chain(length="epochs // n if i > 0 else epochs - (n - 1) * (epochs // n)"),
        "remainder_spread": _chain(length="epochs // n + (1 if i < epochs % n else 0)"),
        "divided_by_networks": _chain(length=_LENGTH.replace("// n", "// len(networks)")),
        "fractions": _chain(length="epochs / n"),
        "empty_trainings": _chain(check=""),
    },
    "expected_calibration_error": {
        "bins_not_weighted": _error(add="total += abs(acc - conf)", result="total / used"),
        "divided_by_all_bins": _error(add="total += abs(acc - conf)", result="total / n_bins"),
        "signed": _error(add="total += n * (conf - acc)"),
        "overall_gap": """
def expected_calibration_error(confidence, correct, n_bins=10):
    return abs(float(correct.double().mean() - confidence.double().mean()))
""",
        "no_bins": """
def expected_calibration_error(confidence, correct, n_bins=10):
    return sum(abs(c - r) for c, r in zip(confidence.tolist(), correct.double().tolist())) / len(confidence)
""",
        "largest_gap": _error(add="total = max(total, abs(acc - conf))", result="total"),
        "squared": _error(add="total += n * (acc - conf) ** 2"),
        "middle_of_the_bin": _error(add="total += n * abs(acc - (low + high) / 2)"),
        "errors_for_accuracy": _error(add="total += n * abs((1 - acc) - conf)"),
        "certain_ones_lost": _error(upper="<= min(high, 0.999999)"),
        "always_10_bins": _error(bins="10"),
        "bins_of_equal_count": """
def expected_calibration_error(confidence, correct, n_bins=10):
    confidence, order = confidence.sort(stable=True)
    correct = correct[order].double()
    total, start = 0.0, 0
    for b in range(n_bins):
        size = len(confidence) // n_bins + (b < len(confidence) % n_bins)
        if size:
            c, r = confidence[start:start + size].double(), correct[start:start + size]
            total += size * abs(float(c.mean() - r.mean()))
        start += size
    return total / len(confidence)
""",
        "in_per_cent": _error(result="100 * total / len(confidence)"),
        "not_divided": _error(result="total"),
    },
    "best_temperature": {
        "most_accurate": _temperature("-((logits / T).argmax(1) == labels).double().mean()"),
        "multiplies_by_temperature": _temperature("F.cross_entropy(logits * T, labels)"),
        "softmax_twice": _temperature("F.cross_entropy(F.softmax(logits / T, dim=1), labels)"),
        "own_answers": _temperature("F.cross_entropy(logits / T, logits.argmax(dim=1))"),
        "least_sure": _temperature("F.softmax(logits / T, dim=1).max(dim=1).values.mean()"),
        "highest": _temperature("-F.cross_entropy(logits / T, labels)"),
        "confidence_meets_accuracy": _temperature(
            "((logits.argmax(1) == labels).float().mean() - F.softmax(logits / T, 1).max(1).values.mean()).abs()"
        ),
        "squared_error": _temperature(
            "((F.softmax(logits / T, 1) - F.one_hot(labels, logits.shape[1])) ** 2).mean()"
        ),
        "returns_cross_entropy": _temperature(result="lowest"),
        "returns_index": _temperature(result="candidates.index(best)"),
        "never_below_one": _temperature(among="[c for c in candidates if not c < 1]"),
        "returns_inverse": _temperature(result="1.0 / best"),
    },
}

RIGHT = {
    "plan_chain": [
        _chain(),
        """
def plan_chain(networks, epochs):
    links = [(a, b) for a, b in zip(networks, networks[1:])]
    if not links or epochs // len(links) == 0:
        raise ValueError("too short")
    each = epochs // len(links)
    plan = [(a, b, each) for a, b in links]
    plan[-1] = (*links[-1], epochs - each * (len(links) - 1))
    return plan
""",
        """
def plan_chain(networks, epochs):
    if len(networks) < 2:
        raise ValueError("nobody to teach")
    if len(networks) == 2:
        if epochs < 1:
            raise ValueError("no epochs")
        return [(networks[0], networks[1], epochs)]
    share = epochs // (len(networks) - 1)
    if share < 1:
        raise ValueError("too few epochs")
    plan = [(networks[i], networks[i + 1], share) for i in range(len(networks) - 2)]
    plan.append((networks[-2], networks[-1], epochs - sum(e for _, _, e in plan)))
    return plan
""",
    ],
    "expected_calibration_error": [
        _error(),
        """
def expected_calibration_error(confidence, correct, n_bins=10):
    index = (confidence.double() * n_bins).long().clamp(max=n_bins - 1)
    gap = torch.zeros(n_bins, dtype=torch.float64)
    gap.index_add_(0, index, correct.double() - confidence.double())
    return gap.abs().sum().item() / len(confidence)
""",
        """
def expected_calibration_error(confidence, correct, n_bins=10):
    bins = {}
    for c, r in zip(confidence.tolist(), correct.tolist()):
        b = min(int(c * n_bins), n_bins - 1)
        bins.setdefault(b, []).append((c, r))
    total = 0.0
    for answers in bins.values():
        acc = sum(r for _, r in answers) / len(answers)
        conf = sum(c for c, _ in answers) / len(answers)
        total += len(answers) / len(confidence) * abs(acc - conf)
    return total
""",
    ],
    "best_temperature": [
        _temperature(),
        """
def best_temperature(logits, labels, candidates):
    losses = [F.nll_loss(F.log_softmax(logits / T, dim=1), labels).item() for T in candidates]
    return candidates[losses.index(min(losses))]
""",
        """
def best_temperature(logits, labels, candidates):
    T = torch.tensor(candidates, dtype=torch.float64)
    z = logits.double()[None] / T[:, None, None]
    right = z[:, torch.arange(len(labels)), labels]
    surprise = (torch.logsumexp(z, dim=2) - right).mean(dim=1)
    return float(T[surprise.argmin()])
""",
    ],
}
