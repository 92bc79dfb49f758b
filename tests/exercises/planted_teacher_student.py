"""Lesson 08, targets and losses, as students write it: right in other ways than ours, and wrong in their own.

WRONG[exercise][mistake id] is code that makes this mistake; RIGHT[exercise] is code that must get full marks.
It is kept as text, as it would stand in a notebook, and shares nothing with the reference or the known mistakes.
"""

SETUP = """
import math
import torch
import torch.nn.functional as F
from torch import Tensor, nn
"""

SOFTEN = """
def soften(logits, temperature):
    z = logits{scale}
    z = z - z.max(dim=1, keepdim=True).values
    e = z.exp()
    return {result}
"""
ROWS = "e / e.sum(dim=1, keepdim=True)"

KL = """
def distillation_kl(student_logits, teacher_logits, temperature):
    T = temperature
    p = F.softmax(teacher_logits{teacher}, dim={dim})
    q = F.softmax(student_logits{student}, dim={dim})
    each = {each}
    return {result}
"""


def kl(
    student=" / T",
    teacher=" / T",
    dim=1,
    each="(p * torch.log(p / q)).sum(dim=-1)",
    result="T * T * each.mean()",
):
    """The divergence written with quotients of probabilities, changed in one place."""
    return KL.format(student=student, teacher=teacher, dim=dim, each=each, result=result)


LOSS = """
def kd_loss(student_logits, teacher_logits, labels, temperature, alpha):
    T = temperature
    log_prob = torch.log(F.softmax(student_logits{hard_t}, dim=1))
    hard = -log_prob[torch.arange(len(labels)), {labels}].mean()
    p = F.softmax(teacher_logits / T, dim=1)
    q = F.softmax(student_logits{soft_t}, dim=1)
    soft = {soft}
    hard, soft = {weights}
    return {result}
"""
BOTH = '{"hard": hard, "soft": soft}'


def kd(
    hard_t="",
    soft_t=" / T",
    labels="labels",
    soft="(p * (p.log() - q.log())).sum() / len(labels)",
    weights="hard * (1 - alpha), soft * alpha * T ** 2",
    result=BOTH,
):
    """Hinton's loss, changed in one place."""
    return LOSS.format(hard_t=hard_t, soft_t=soft_t, labels=labels, soft=soft, weights=weights, result=result)


SMOOTH = """
def smooth_targets(labels, n_classes, smoothing):
    rows = []
    for y in labels.tolist():
        row = [{off}] * n_classes
        row[y] = {on}
        rows.append(row)
    return {result}
"""
TENSOR = "torch.tensor(rows, dtype=torch.float32)"

WRONG = {
    "soften": {
        "no_temperature": SOFTEN.format(scale="", result="(e / temperature) / (e / temperature).sum(1)[:, None]"),
        "multiplies": SOFTEN.format(scale=" * temperature", result=ROWS),
        "divides_the_probabilities": SOFTEN.format(scale="", result=f"{ROWS} / temperature"),
        "over_the_images": "def soften(logits, temperature):\n    return F.softmax(logits / temperature, dim=0)",
        "logarithms": "def soften(logits, temperature):\n    z = logits / temperature\n"
        "    return z - z.logsumexp(1, keepdim=True)",
        "not_normalised": "def soften(logits, temperature):\n    return (logits / temperature).exp()",
        "squared": SOFTEN.format(scale=" / (temperature * temperature)", result=ROWS),
        "overflows": "def soften(logits, temperature):\n    e = math.e ** (logits / temperature)\n"
        "    return e / e.sum(dim=1, keepdim=True)",
        "power_not_normalised": "def soften(logits, temperature):\n"
        "    return torch.pow(F.softmax(logits, dim=1), 1 / temperature)",
        "one_row": "def soften(logits, temperature):\n    z = logits / temperature\n    e = (z - z.max()).exp()\n"
        "    return e / e.sum()",
    },
    "distillation_kl": {
        "no_t_squared": kl(result="each.mean()"),
        "t_once": kl(result="T * each.mean()"),
        "divides_by_t_squared": kl(result="each.mean() / (T * T)"),
        "mean_over_elements": kl(result="T * T * each.sum() / p.numel()"),
        "sum_over_images": kl(result="T * T * each.sum()"),
        "kl_swapped": kl(each="(q * torch.log(q / p)).sum(dim=-1)"),
        "only_the_teacher_soft": kl(student=""),
        "only_the_student_soft": kl(teacher=""),
        "cross_entropy": kl(each="-(p * q.log()).sum(dim=-1)"),
        "probabilities_for_logarithms": kl(each="(p * (p.log() - q)).sum(dim=-1)"),
        "logarithms_of_the_teacher": kl(each="nn.KLDivLoss(reduction='batchmean')(q.log(), p.log())"),
        "over_the_images": kl(dim=0, each="(p * torch.log(p / q)).sum() / len(p)", result="T * T * each"),
        "negative": kl(each="(p * torch.log(q / p)).sum(dim=-1)"),
        "image_by_image": kl(result="T * T * each"),
    },
    "kd_loss": {
        "alpha_reversed": kd(weights="alpha * hard, (1 - alpha) * T * T * soft"),
        "no_t_squared": kd(weights="(1 - alpha) * hard, alpha * soft"),
        "t_squared_on_both": kd(weights="(1 - alpha) * T * T * hard, alpha * T * T * soft"),
        "parts_without_weights": kd(weights="hard, soft"),
        "only_t_squared": kd(weights="hard, T * T * soft"),
        "hard_at_temperature": kd(hard_t=" / T"),
        "hard_from_the_teacher": kd(labels="teacher_logits.max(dim=1).indices"),
        "hard_of_the_teacher": kd().replace("F.softmax(student_logits, dim=1)", "F.softmax(teacher_logits, dim=1)"),
        "mean_over_elements": kd(soft="(p * (p.log() - q.log())).mean()"),
        "kl_swapped": kd(soft="(q * (q.log() - p.log())).sum() / len(labels)"),
        "one_side_only": kd(soft_t=""),
        "probabilities_for_logarithms": kd(soft="(p * (p.log() - q)).sum() / len(labels)"),
        "total_among_the_parts": kd(result='{"hard": hard, "soft": soft, "total": hard + soft}'),
        "only_the_sum": kd(result="hard + soft"),
        "numbers": kd(result='{"hard": float(hard), "soft": float(soft)}'),
    },
    "smooth_targets": {
        "others_only": SMOOTH.format(off="smoothing / (n_classes - 1)", on="1 - smoothing", result=TENSOR),
        "label_without_its_share": SMOOTH.format(off="smoothing / n_classes", on="1 - smoothing", result=TENSOR),
        "label_not_reduced": SMOOTH.format(off="smoothing / n_classes", on="1 + row[y]", result=TENSOR),
        "not_divided": SMOOTH.format(off="smoothing", on="(1 - smoothing) + smoothing", result=TENSOR),
        "label_divided_only": SMOOTH.format(off="smoothing", on="1 - smoothing + smoothing / n_classes", result=TENSOR),
        "reversed": SMOOTH.format(off="(1 - smoothing) / n_classes", on="row[y] + smoothing", result=TENSOR),
        "hard": SMOOTH.format(off="0.0", on="1.0", result=TENSOR),
        "uniform": SMOOTH.format(off="1 / n_classes", on="row[y]", result=TENSOR),
        "transposed": SMOOTH.format(off="smoothing / n_classes", on="1 - smoothing + row[y]",
                                    result=f"{TENSOR}.t().clone()"),
        "divided_by_images": SMOOTH.format(off="smoothing / len(labels)", on="1 - smoothing + row[y]", result=TENSOR),
    },
}  # fmt: skip

RIGHT = {
    "soften": [
        SOFTEN.format(scale=" / temperature", result=ROWS),
        "def soften(logits, temperature):\n    return torch.log_softmax(logits / temperature, dim=-1).exp()",
        """
def soften(logits, temperature):
    rows = []
    for row in logits:
        row = row / temperature
        rows.append(torch.exp(row - torch.logsumexp(row, 0)))
    return torch.stack(rows)
""",
        "def soften(logits, temperature):\n    return nn.Softmax(dim=1)(logits * (1 / temperature))",
    ],
    "distillation_kl": [
        kl(),
        kl(each="p * (p.log() - q.log())", result="T ** 2 * each.sum() / each.shape[0]"),
        """
def distillation_kl(student_logits, teacher_logits, temperature):
    log_q = F.log_softmax(student_logits / temperature, dim=1)
    log_p = F.log_softmax(teacher_logits / temperature, dim=1)
    return F.kl_div(log_q, log_p, reduction="batchmean", log_target=True) * temperature ** 2
""",
        """
def distillation_kl(student_logits, teacher_logits, temperature):
    p = torch.softmax(teacher_logits / temperature, 1)
    cross = F.cross_entropy(student_logits / temperature, p)
    own = F.cross_entropy(teacher_logits / temperature, p)
    return (cross - own) * temperature ** 2
""",
    ],
    "kd_loss": [
        kd(),
        """
def kd_loss(student_logits, teacher_logits, labels, temperature, alpha):
    criterion = nn.KLDivLoss(reduction="batchmean")
    soft = criterion(F.log_softmax(student_logits / temperature, dim=1), F.softmax(teacher_logits / temperature, dim=1))
    hard = nn.CrossEntropyLoss()(student_logits, labels)
    return dict(soft=soft * (alpha * temperature * temperature), hard=hard * (1.0 - alpha))
""",
        """
def kd_loss(student_logits, teacher_logits, labels, temperature, alpha):
    def logs(z):
        return z - torch.logsumexp(z, dim=1, keepdim=True)
    parts = {"hard": 0.0, "soft": 0.0}
    for z, v, y in zip(student_logits, teacher_logits, labels):
        log_p, log_q = logs(v[None] / temperature), logs(z[None] / temperature)
        parts["hard"] = parts["hard"] - logs(z[None])[0, y] * (1 - alpha) / len(labels)
        parts["soft"] = parts["soft"] + (log_p.exp() * (log_p - log_q)).sum() * alpha * temperature**2 / len(labels)
    return parts
""",
    ],
    "smooth_targets": [
        SMOOTH.format(off="smoothing / n_classes", on="1 - smoothing + smoothing / n_classes", result=TENSOR),
        """
def smooth_targets(labels, n_classes, smoothing):
    uniform = torch.full((n_classes,), 1 / n_classes)
    return torch.lerp(torch.eye(n_classes)[labels], uniform.expand(len(labels), n_classes), smoothing)
""",
        """
def smooth_targets(labels, n_classes, smoothing):
    targets = torch.full((labels.numel(), n_classes), smoothing / n_classes)
    targets[range(labels.numel()), labels] += 1.0 - smoothing
    return targets
""",
    ],
}
