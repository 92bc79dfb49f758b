"""Lesson 08, gradients and training, as students write it: right in other ways than ours, and wrong in their own.

WRONG[exercise][mistake id] is code that makes this mistake; RIGHT[exercise] is code that must get full marks.
It is kept as text, as it would stand in a notebook, and shares nothing with the reference or the known mistakes.
"""

SETUP = """
import math
import torch
import torch.nn.functional as F
from torch import Tensor, nn
"""

GRADIENT = """
def kd_gradient(student_logits, teacher_logits, labels, temperature, alpha):
    T, n, k = temperature, student_logits.shape[0], student_logits.shape[1]
    g = torch.zeros_like(student_logits)
    for i in range(n):
        hard = torch.softmax(student_logits[i]{hard_t}, 0)
        {subtract}
        soft = torch.softmax(student_logits[i] / T, 0) - torch.softmax(teacher_logits[i]{teacher_t}, 0)
        g[i] = {row}
    return g{scale}
"""


def gradient(
    hard_t="",
    subtract="hard[labels[i]] = hard[labels[i]] - 1",
    teacher_t=" / T",
    row="(1 - alpha) * hard + alpha * T * soft",
    scale=" / n",
):
    """The gradient image by image, changed in one place."""
    return GRADIENT.format(hard_t=hard_t, subtract=subtract, teacher_t=teacher_t, row=row, scale=scale)


DECOUPLED = """
def decoupled_kl(student_logits, teacher_logits, labels, temperature):
    T = temperature
    target, others = [], []
    for z, v, y in zip(student_logits{t}, teacher_logits{t}, {labels}):
        y = int(y)
        q, p = z.softmax(0), v.softmax(0)
        rest = [k for k in range(len(z)) if k != y]
        {before}
        a, b = p[y], q[y]
        na, nb = p[rest].sum(), q[rest].sum()
        first = {first}
        pr, qr = {shares}
        second = {second}
        target.append(first)
        others.append(second)
    target, others = torch.stack(target), torch.stack(others)
    return {result}
"""


def decoupled(
    t=" / T",
    labels="labels",
    before="pass",
    first="a * (a / b).log() + na * (na / nb).log()",
    shares="p[rest] / na, q[rest] / nb",
    second="(pr * (pr / qr).log()).sum()",
    result="target, others",
):
    """The two parts image by image, changed in one place."""
    return DECOUPLED.format(
        t=t, labels=labels, before=before, first=first, shares=shares, second=second, result=result
    )


EPOCH = """
def distill_epoch(student, teacher, batches, loss, lr):
    was = teacher.training
    teacher.{teacher_mode}
    student.{student_mode}
    opt = torch.optim.SGD({weights}, lr=lr)
    history = []
    for x, y in {stream}:
        {zero}
        {answer}
        s = student(x)
        parts = loss({arguments})
        total = {total}
        total.backward()
        {step}
        {log}
        history.append({name: float(value) for name, value in parts.items()})
    teacher.train(was)
    student.eval()
    return {result}
"""
EPOCH_USUAL = {
    "teacher_mode": "eval()", "student_mode": "train()", "weights": "student.parameters()", "stream": "batches",
    "zero": "opt.zero_grad()", "answer": "t = teacher(x).detach()", "arguments": "s, t, y",
    "total": "sum(parts.values())", "step": "opt.step()", "log": "pass", "result": "history",
}  # fmt: skip


def epoch(**changes):
    """The pass, changed in one place."""
    code = EPOCH
    for name, text in {**EPOCH_USUAL, **changes}.items():
        code = code.replace("{" + name + "}", text)
    return code


WRONG = {
    "kd_gradient": {
        "not_averaged": gradient(scale=""),
        "averaged_over_elements": gradient(scale=" / (n * k)"),
        "chain_rule_forgotten": gradient(row="(1 - alpha) * hard + alpha * T * T * soft"),
        "no_factor": gradient(row="(1 - alpha) * hard + alpha * soft"),
        "t_squared_forgotten": gradient(row="(1 - alpha) * hard + alpha * soft / T"),
        "sign": gradient(scale=" / -n"),
        "alpha_reversed": gradient(row="alpha * hard + (1 - alpha) * T * soft"),
        "hard_at_temperature": gradient(hard_t=" / T"),
        "labels_not_subtracted": gradient(subtract="pass"),
        "teacher_at_one": gradient(teacher_t=""),
        "no_alphas": gradient(row="hard + T * soft"),
        "matches_logits": gradient(row="(1 - alpha) * hard + alpha * (student_logits[i] - student_logits[i].mean()"
                                   " - teacher_logits[i] + teacher_logits[i].mean()) / k"),
    },
    "decoupled_kl": {
        "others_not_renormalised": decoupled(shares="p[rest], q[rest]"),
        "others_weighted": decoupled(second="na * (pr * (pr / qr).log()).sum()"),
        "label_term_only": decoupled(first="a * (a / b).log()"),
        "no_temperature": decoupled(t=""),
        "kl_swapped": decoupled(before="p, q = q, p"),
        "teachers_choice": decoupled(labels="teacher_logits.argmax(dim=1)"),
        "averaged": decoupled(result="target.mean(), others.mean()"),
        "order": decoupled(result="others, target"),
        "label_at_zero": decoupled(before="zz, vv = z.clone(), v.clone(); zz[y] = vv[y] = 0",
                                   shares="vv.softmax(0), zz.softmax(0)"),
        "label_included": decoupled(shares="p, q"),
        "t_squared": decoupled(result="T * T * target, T * T * others"),
    },
    "distill_epoch": {
        "teacher_in_training_mode": epoch(teacher_mode="train()"),
        "student_in_eval_mode": epoch(student_mode="eval()"),
        "gradients_pile_up": epoch(zero="pass"),
        "no_step": epoch(step="pass"),
        "logits_swapped": epoch(arguments="t, s, y"),
        "labels_part_only": epoch(total="parts['labels']"),
        "teacher_part_only": epoch(total="parts['teacher']"),
        "mean_of_the_parts": epoch(total="torch.stack(list(parts.values())).mean()"),
        "logged_after_the_step": epoch(log="parts = loss(student(x), t, y)"),
        "teachers_labels": epoch(arguments="s, t, t.max(dim=1).indices"),
        "trains_the_teacher": epoch(weights="list(student.parameters()) + list(teacher.parameters())",
                                    answer="t = teacher(x)"),
        "one_batch_only": epoch(stream="[batches[0] for _ in batches]"),
        "totals": epoch(result="[sum(each.values()) for each in history]"),
        "last_only": epoch(result="history[-1]"),
    },
}  # fmt: skip

RIGHT = {
    "kd_gradient": [
        gradient(),
        """
def kd_gradient(student_logits, teacher_logits, labels, temperature, alpha):
    target = torch.zeros_like(student_logits)
    target[torch.arange(len(labels)), labels] = 1.0
    q1 = torch.softmax(student_logits, dim=1)
    qt = torch.softmax(student_logits / temperature, dim=1)
    pt = torch.softmax(teacher_logits / temperature, dim=1)
    result = alpha * temperature ** 2 * (qt - pt) / temperature - (1 - alpha) * (target - q1)
    return result / student_logits.shape[0]
""",
        """
def kd_gradient(student_logits, teacher_logits, labels, temperature, alpha):
    def q(z, t):
        e = torch.exp((z - z.amax(1, keepdim=True)) / t)
        return e / e.sum(1, keepdim=True)
    hard = q(student_logits, 1) - torch.eye(student_logits.shape[1])[labels]
    soft = q(student_logits, temperature) - q(teacher_logits, temperature)
    return torch.lerp(hard, temperature * soft, alpha) / len(labels)
""",
    ],
    "decoupled_kl": [
        decoupled(),
        """
def decoupled_kl(student_logits, teacher_logits, labels, temperature):
    hot = F.one_hot(labels, student_logits.shape[1]).bool()

    def two(z):
        z = z / temperature
        rest = z.masked_fill(hot, -math.inf)
        binary = torch.stack([z[hot], rest.logsumexp(1)], 1)
        return F.log_softmax(binary, 1), F.log_softmax(rest, 1).masked_fill(hot, 0.0), F.softmax(rest, 1)

    bp, op, wp = two(teacher_logits)
    bq, oq, _ = two(student_logits)
    return F.kl_div(bq, bp.exp(), reduction="none").sum(1), (wp * (op - oq)).sum(1)
""",
        """
def decoupled_kl(student_logits, teacher_logits, labels, temperature):
    n, k = student_logits.shape
    keep = torch.tensor([[c for c in range(k) if c != int(y)] for y in labels])
    z, v = student_logits / temperature, teacher_logits / temperature
    log_q, log_p = torch.log_softmax(z.gather(1, keep), 1), torch.log_softmax(v.gather(1, keep), 1)
    others = (log_p.exp() * (log_p - log_q)).sum(1)
    p = torch.softmax(v, 1).gather(1, labels[:, None])[:, 0]
    q = torch.softmax(z, 1).gather(1, labels[:, None])[:, 0]
    return torch.xlogy(p, p / q) + torch.xlogy(1 - p, (1 - p) / (1 - q)), others
""",
    ],
    "distill_epoch": [
        epoch(),
        """
def distill_epoch(student, teacher, batches, loss, lr):
    mode = teacher.training
    teacher.eval()
    with torch.no_grad():
        answers = [teacher(images) for images, _ in batches]
    teacher.train(mode)
    student.train()
    optimizer = torch.optim.SGD(student.parameters(), lr=lr)
    log = []
    for (images, labels), answer in zip(batches, answers):
        parts = loss(student(images), answer, labels)
        optimizer.zero_grad()
        total = 0
        for part in parts.values():
            total = total + part
        total.backward()
        optimizer.step()
        log.append({k: v.item() for k, v in parts.items()})
    student.eval()
    return log
""",
        """
def distill_epoch(student, teacher, batches, loss, lr):
    teacher_was = [(m, m.training) for m in teacher.modules()]
    teacher.train(False)
    student.train(True)
    weights = list(student.parameters())
    log = []
    for images, labels in batches:
        with torch.inference_mode():
            answers = teacher(images)
        parts = loss(student(images), answers.clone(), labels)
        slopes = torch.autograd.grad(sum(parts.values()), weights)
        with torch.no_grad():
            for w, g in zip(weights, slopes):
                w -= lr * g
        log.append({k: v.item() for k, v in parts.items()})
    student.train(False)
    for m, was in teacher_was:
        m.training = was
    return log
""",
    ],
}
