# %% [markdown]
# # 08 · Teacher and student: learning from soft targets
#
# A label says *shirt*. A trained network says *shirt, most likely; but it does look like a T-shirt, and not at all like a boot*.
# That is more to learn from. By the end you will have
#
# - **looked** at what a teacher knows beyond the labels, and at what a temperature does to it,
# - **written** the loss that the teacher teaches with, its gradient, its two hidden halves, and the training, each of them checked,
# - **measured** whether the teacher helps: against the same student alone, at the same budget.
#
# **Before:** lesson 01 (the ResNet-20), and what a cross-entropy is. **You need** about two hours; there are 20 points to check
# yourself and 4 that a person grades. **The machine needs** about 40 s of one core and 1 GB of memory for all cells, and no
# download.

# %% [markdown]
# <details><summary><b>How these notebooks work</b> (open once)</summary>
#
# Run the cells in order with Shift+Enter. An exercise has a statement, a cell where you write, a cell to look at your
# result, and a check. Replace the line `raise NotImplementedError()`, run the cell, run the check: it says which
# properties hold, what it got and what it expected. Run it as often as you like. `hint("name")` opens three hints, each
# stronger than the last; `solution("name")` shows ours where the solutions are installed. If an exercise will not give
# in, go on: everything after it uses our function in place of yours.
#
# The numbers in the text are our run's. A training rounds differently on another processor: your last digits may differ.
#
# </details>

# %%
import tempfile
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coursekit import data, measure, plot, zoo
from coursekit import distillation as cd
from coursekit.ledger import Ledger
from coursekit.notebook import check, hint, solution, use
from coursekit.train import Recipe, evaluate, predict

torch.set_num_threads(1)  # small layers gain little from more, and times stay steady

# %% [markdown]
# ## 1 · A teacher and a student
#
# **Knowledge distillation** trains a small network, the **student**, to answer like a large one that is already trained, the
# **teacher**. Ours is the ResNet-20 of lesson 01. It has seen all 60,000 training images. The student is the smallest thing that
# deserves the name: one hidden layer of 32 units. And it gets 2,000 images, because its owner has no more.


# %% tags=["demo"]
def new_student(seed, hidden=32):
    """An untrained student; the seed draws its first weights."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(784, hidden), nn.ReLU(), nn.Linear(hidden, 10))


teacher = zoo.load("resnet20")
train = data.fashion_mnist("train", subset=True)  # 10,000 images that every machine has
few, test = train.take(2000), data.fashion_mnist("test", subset=True)
teacher_accuracy = evaluate(teacher, test)
print(f"teacher: {teacher_accuracy:.2%} of {len(test):,} test images right")

# %% tags=["demo"]
print(f"{'':>8}{'parameters':>12}{'bytes':>12}{'MACs':>14}")
table = {}
for name, model in (("teacher", teacher), ("student", new_student(0))):
    table[name] = (measure.n_parameters(model), measure.saved_size(model), measure.macs(model, (1, 28, 28)))
    print(f"{name:>8}" + "".join(f"{value:{width},}" for value, width in zip(table[name], (12, 12, 14), strict=True)))
ratios = [a / b for a, b in zip(*table.values(), strict=True)]
print(f"{'ratio':>8}{ratios[0]:12.1f}{ratios[1]:12.1f}{ratios[2]:14.0f}")

# %% [markdown]
# "How many times smaller?" has three answers here. A convolution uses each of its weights at every position, a linear layer once. So
# the student is 11 times smaller in the file, and three orders of magnitude cheaper to run. Say which you mean. (And count *all*
# parameters: a count of those with `requires_grad` finds 0 in a frozen teacher, and the "compression ratio" is then 0.0.)

# %% [markdown]
# ## 2 · What the teacher knows
#
# The last layer gives a **logit** for each class, $z_i$; the softmax turns logits into probabilities. Here are shirts from the training images, with
# the teacher's two likeliest classes.

# %% tags=["demo", "nbval-ignore-output"]
SHIRT = 6
memory = Path(tempfile.mkdtemp())  # the teacher is asked once, and its answers are kept in a file
teacher_few = cd.teacher_outputs(teacher, few.images, folder=memory)["logits"]
shirts = (few.labels == SHIRT).nonzero().flatten()
probability = teacher_few[shirts].softmax(1)
shown = [i for i, p in zip(shirts.tolist(), probability, strict=True) if 0.1 < p.topk(2).values[1] < 0.5][:6]
top = teacher_few[shown].softmax(1).topk(2)
captions = [
    "\n".join(f"{data.FASHION_CLASSES[k]} {p:.2f}" for p, k in zip(*pair, strict=True))
    for pair in zip(top.values.tolist(), top.indices.tolist(), strict=True)
]
plot.images(few.images[shown], captions, n_columns=6, title="All six are labelled 'shirt'; the teacher sees what else they could be");

# %% [markdown]
# Some of these you might have labelled otherwise yourself. The label hides that, the teacher does not. Its probabilities are called **soft
# targets**, and what they say beyond the label, *which wrong answers are nearly right*, Hinton calls dark knowledge.
#
# Usually it is dark indeed: a trained network is sure of itself, and leaves the other classes next to nothing.

# %% tags=["demo"]
probability = teacher_few.softmax(1)
print(f"images whose likeliest class has more than 99 %: {(probability.amax(1) > 0.99).float().mean():.0%}")
ankle_boot = teacher_few[few.labels == 9].softmax(1).mean(0)
print("a boot, on average: " + ", ".join(f"{c} {p:.4f}" for c, p in zip(data.FASHION_CLASSES, ankle_boot, strict=True)))

# %% [markdown]
# ### Exercise 1 · `soften` (2 points, 1 line)
#
# A **temperature** $T$ brings the small ones out:
#
# $$p_i = \frac{\exp(z_i/T)}{\sum_j \exp(z_j/T)}$$
#
# **Given** `logits` (images × classes) and a `temperature` above 0, **return** these probabilities, in the same shape.
#
# - $T = 1$ is the plain softmax; logits `[4, 2]` at $T = 2$ give `[0.731, 0.269]`.
# - Logits may be large: 1,000 must not become NaN.


# %% nbgrader={"solution": true, "grade_id": "soften"}
def soften(logits: Tensor, temperature: float) -> Tensor:
    """The probabilities (n, classes) of each image's classes at a temperature."""
    ### BEGIN SOLUTION
    return torch.softmax(logits / temperature, dim=1)
    ### END SOLUTION


# %% tags=["demo", "raises-exception"]
# Look: the same order of classes in each row, the rows ever flatter.
for temperature in (0.5, 1.0, 2.0, 8.0):
    print(temperature, soften(torch.tensor([[4.0, 2.0, -1.0]]), temperature))

# %% nbgrader={"grade": true, "locked": true, "grade_id": "check-soften", "points": 2}
check("soften")

# %% tags=["demo", "nbval-ignore-output"]
hint("soften")

# %% [markdown]
# ### Cold, warm, hot
#
# The second of the shirts above, over three decades of temperature.

# %% tags=["demo", "nbval-ignore-output"]
temperatures = torch.logspace(-1, 2, 61)
one = teacher_few[shown[1]][None]
curves = torch.cat([cd.soften(one, t.item()) for t in temperatures])
largest = one[0].argsort(descending=True)[[0, 1, 2, 9]].tolist()
plot.lines(temperatures, {data.FASHION_CLASSES[k]: curves[:, k] for k in largest}, logx=True, percent=True, markers=False,
           references={"one in ten": 0.1}, xlabel="temperature T", ylabel="probability",
           title="Cold leaves one class, warmth shows its neighbours, heat makes all alike");

# %% tags=["demo"]
print("all 2,000 images:      T = " + "".join(f"{t:>8}" for t in (1, 2, 4, 8, 20)))
softened = {t: cd.soften(teacher_few, t) for t in (1, 2, 4, 8, 20)}
print("probability of the label:  " + "".join(f"{p.gather(1, few.labels[:, None]).mean():8.3f}" for p in softened.values()))
bits = [torch.special.entr(p).sum(1).mean() / torch.tensor(2.0).log() for p in softened.values()]
print("entropy in bits:           " + "".join(f"{b:8.3f}" for b in bits) + "  (at most 3.322)")

# %% [markdown]
# The **entropy** measures how much of an answer is left open: 0 bits for one sure class, $\log_2 10 = 3.322$ for no idea at all. A label has 0.
# At $T = 1$ the teacher has hardly more; at $T = 4$ it talks; at $T = 20$ it mumbles.

# %% tags=["demo", "nbval-ignore-output"]
order = [6, 0, 2, 4, 3, 8, 5, 7, 9, 1]
mean = {t: softened[t][shirts].mean(0) for t in (1, 4)}
plot.bars({f"T = {t}": {data.FASHION_CLASSES[k]: p[k].item() for k in order} for t, p in mean.items()}, fmt="", percent=True,
          ylabel="mean probability over all shirts", title="To the teacher a shirt is a bit of T-shirt, pullover and coat, and no trouser");

# %% [markdown]
# ## 3 · The loss
#
# Teach the student to give the same probabilities, at the same temperature. How far is its answer $q$ from the teacher's $p$? The
# **Kullback–Leibler divergence** measures it:
#
# $$\mathrm{KL}(p \,\|\, q) = \sum_i p_i \log \frac{p_i}{q_i}$$
#
# It is 0 where both agree and above 0 elsewhere. The order matters: the *teacher's* probabilities are the weights, so a student pays
# for what the teacher finds likely and it does not.

# %% [markdown]
# ### Exercise 2 · `distillation_kl` (3 points, about 3 lines)
#
# **Given** `student_logits` and `teacher_logits` (both images × classes) and a `temperature`, **return** a scalar tensor:
#
# $$T^2 \cdot \frac{1}{n} \sum_{\text{images}} \mathrm{KL}\big(p^{(T)} \,\|\, q^{(T)}\big)$$
#
# - *Both* sides are softened. The mean is over images, not over images × classes.
# - A student that is right up to a constant has a loss of 0.
# - You may use `F.kl_div`. Read its documentation first: which argument wants logarithms, and what does `'mean'` divide by?


# %% nbgrader={"solution": true, "grade_id": "distillation_kl"}
def distillation_kl(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """T² times the mean divergence KL(teacher ‖ student) at temperature T: a scalar."""
    ### BEGIN SOLUTION
    log_q = F.log_softmax(student_logits / temperature, dim=1)
    log_p = F.log_softmax(teacher_logits / temperature, dim=1)
    return temperature**2 * (log_p.exp() * (log_p - log_q)).sum(dim=1).mean()
    ### END SOLUTION


# %% tags=["demo", "raises-exception"]
# Look: 0.4438, and 0 for the student that is only off by a constant.
print(distillation_kl(torch.tensor([[0.0, 0.0]]), torch.tensor([[2.0, 0.0]]), 2.0))
print(distillation_kl(torch.tensor([[7.0, 5.0]]), torch.tensor([[2.0, 0.0]]), 2.0))

# %% nbgrader={"grade": true, "locked": true, "grade_id": "check-distillation_kl", "points": 3}
check("distillation_kl")

# %% tags=["demo", "nbval-ignore-output"]
hint("distillation_kl")

# %% [markdown]
# ### Why T²?
#
# Heat shrinks the differences between probabilities by $1/T$. The logits enter as $z/T$, which is $1/T$ once more. So the gradient of the bare
# divergence falls as $1/T^2$, and at $T = 20$ the labels would outvote the teacher 400 to 1. $T^2$ puts that right. Here is the size of the
# gradient at an untrained student's logits, for 256 real images.


# %% tags=["demo"]
def slope(temperature, bare=False):
    """The norm of the divergence's gradient with respect to the student's logits."""
    z = predict(new_student(0), few.images[:256]).clone().requires_grad_()
    loss = cd.distillation_kl(z, teacher_few[:256], temperature)
    return torch.autograd.grad(loss / temperature**2 if bare else loss, z)[0].norm().item()


heats = [1, 2, 4, 8, 16, 32]
bare, scaled = [slope(t, bare=True) for t in heats], [slope(t) for t in heats]
for t, a, b in zip(heats, bare, scaled, strict=True):
    print(f"T = {t:2d}: bare {a:.5f}, times T² {b:.4f}")

# %% tags=["demo", "nbval-ignore-output"]
plot.lines(heats, {"bare divergence": bare, "times T²": scaled}, logy=True, xticks=heats, xlabel="temperature T",
           ylabel="size of the gradient", title="Without T² the teacher's voice fades; with it, it stays within a factor of three");

# %% [markdown]
# ### Exercise 3 · `kd_loss` (4 points, about 5 lines)
#
# The labels still count. **Given** `student_logits`, `teacher_logits`, `labels` (n,), `temperature` and `alpha`, **return** a dict of two scalar
# tensors that add up to the loss:
#
# - `"hard"`: $(1 - \alpha)$ times the cross-entropy of the student with the labels, at temperature 1,
# - `"soft"`: $\alpha$ times the divergence of exercise 2, $T^2$ included.
#
# `alpha` weighs the *teacher*. Return the parts **as they enter the sum**, weights and all, and as tensors: they are to be learned from.


# %% nbgrader={"solution": true, "grade_id": "kd_loss"}
def kd_loss(
    student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, temperature: float, alpha: float
) -> dict[str, Tensor]:
    """The weighted parts "hard" and "soft", whose sum is the loss."""
    ### BEGIN SOLUTION
    log_q = F.log_softmax(student_logits / temperature, dim=1)
    p = F.softmax(teacher_logits / temperature, dim=1)
    return {
        "hard": (1 - alpha) * F.cross_entropy(student_logits, labels),
        "soft": alpha * temperature**2 * F.kl_div(log_q, p, reduction="batchmean"),
    }
    ### END SOLUTION


# %% tags=["demo", "raises-exception"]
# Look: half of log 2 for the hard part, half of exercise 2's 0.4438 for the soft one.
kd_loss(torch.tensor([[0.0, 0.0]]), torch.tensor([[2.0, 0.0]]), torch.tensor([0]), temperature=2.0, alpha=0.5)

# %% nbgrader={"grade": true, "locked": true, "grade_id": "check-kd_loss", "points": 4}
check("kd_loss")

# %% tags=["demo", "nbval-ignore-output"]
hint("kd_loss")

# %% [markdown]
# ### Parts that add up
#
# A loss that is often copied returns its total, and beside it both terms *before* their weights. Then the log looks like this:

# %% tags=["demo"]
z, v, y = predict(new_student(0), few.images[:256]), teacher_few[:256], few.labels[:256]
parts = cd.kd_loss(z, v, y, temperature=4.0, alpha=0.7)
copied = {"distill": cd.distillation_kl(z, v, 4.0) / 16, "class": F.cross_entropy(z, y)}
total = sum(parts.values())
print(f"copied: total {total:.4f}, " + ", ".join(f"{k} {p:.4f}" for k, p in copied.items()) + f", sum {sum(copied.values()):.4f}")
print(f"ours:   total {total:.4f}, " + ", ".join(f"{k} {p:.4f}" for k, p in parts.items()) + f", sum {total:.4f}")

# %% [markdown]
# Who reads the first line believes that the labels dominate. It is the other way round.

# %% [markdown]
# ## 4 · The gradient, by hand
#
# What does the student feel? The derivative of a cross-entropy with respect to the logits is *prediction minus target*, for soft targets as
# for hard ones. (The divergence differs from a cross-entropy only by the teacher's own entropy, which is no business of the student's.) With
# the chain rule through $z/T$:
#
# $$\frac{\partial L}{\partial z} = \frac1n \Big[ (1-\alpha)\,\big(q^{(1)} - \text{one-hot}\big) + \alpha\,T\,\big(q^{(T)} - p^{(T)}\big) \Big]$$

# %% [markdown]
# ### Exercise 4 · `kd_gradient` (3 points, about 5 lines)
#
# **Given** the arguments of `kd_loss`, **return** this gradient (images × classes), worked out by the formula: no `backward`, no `autograd`.
#
# Student `[0, 0]`, teacher `[2, 0]`, $T = 2$, `alpha = 1` gives `[-0.462, 0.462]`. `F.one_hot(labels, n_classes)` gives integers.


# %% nbgrader={"solution": true, "grade_id": "kd_gradient"}
def kd_gradient(
    student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, temperature: float, alpha: float
) -> Tensor:
    """The derivative of the whole loss with respect to the student's logits (n, classes)."""
    ### BEGIN SOLUTION
    n, n_classes = student_logits.shape
    hard = torch.softmax(student_logits, 1) - F.one_hot(labels, n_classes)
    q, p = (torch.softmax(logits / temperature, 1) for logits in (student_logits, teacher_logits))
    return ((1 - alpha) * hard + alpha * temperature * (q - p)) / n
    ### END SOLUTION


# %% tags=["demo", "raises-exception"]
# Look: -0.4621 and 0.4621; a step against it raises the first logit.
kd_gradient(torch.tensor([[0.0, 0.0]]), torch.tensor([[2.0, 0.0]]), torch.tensor([0]), temperature=2.0, alpha=1.0)

# %% nbgrader={"grade": true, "locked": true, "grade_id": "check-kd_gradient", "points": 3}
check("kd_gradient")

# %% tags=["demo", "nbval-ignore-output"]
hint("kd_gradient")

# %% [markdown]
# ### What heat means
#
# For large $T$, $\exp(z/T) \approx 1 + z/T$, and the soft gradient becomes $\alpha\,(z - v)/(n \cdot \text{classes})$, with $v$ the teacher's logits and both
# without their means: the student **matches logits**, the very negative ones as carefully as the others. At a low $T$ it ignores
# those, since their probability is nothing. How near are we to the limit?

# %% tags=["demo"]
limit = (z - z.mean(1, keepdim=True) - v + v.mean(1, keepdim=True)) / z.numel()
for t in (1.0, 4.0, 20.0, 100.0, 1000.0):
    gradient = cd.kd_gradient(z, v, y, t, alpha=1.0)
    print(f"T = {t:4.0f}: {(gradient - limit).norm() / limit.norm():6.1%} away from matching logits")

# %% [markdown]
# From $T = 20$ on it is nearly logits that are matched; at the temperatures that people use, 2 to 8, it is not.

# %% [markdown]
# ## 5 · Is it only smoothing?
#
# Soft targets also keep a student from being too sure of itself, and that alone can help. **Label smoothing** does it without any
# teacher: it takes a share $\varepsilon$ from the label and spreads it evenly. It is the control that a claim about *dark knowledge* has to
# beat.

# %% [markdown]
# ### Exercise 5 · `smooth_targets` (2 points, 1 or 2 lines)
#
# **Given** `labels` (n,), `n_classes` and `smoothing` from 0 to 1, **return** the targets (n × `n_classes`), `float32`:
#
# $$(1 - \varepsilon) \cdot \text{one-hot} + \varepsilon \cdot \frac{1}{\text{classes}}$$
#
# The label gets its share of $\varepsilon$ as well: label 2 of 4 classes, smoothing 0.2, gives `[0.05, 0.05, 0.85, 0.05]`.


# %% nbgrader={"solution": true, "grade_id": "smooth_targets"}
def smooth_targets(labels: Tensor, n_classes: int, smoothing: float) -> Tensor:
    """Targets (n, n_classes) with `smoothing` spread evenly over all classes."""
    ### BEGIN SOLUTION
    return (1 - smoothing) * F.one_hot(labels, n_classes).float() + smoothing / n_classes
    ### END SOLUTION


# %% tags=["demo", "raises-exception"]
# Look: both rows add up to 1.
smooth_targets(torch.tensor([2, 0]), n_classes=4, smoothing=0.2)

# %% nbgrader={"grade": true, "locked": true, "grade_id": "check-smooth_targets", "points": 2}
check("smooth_targets")

# %% tags=["demo", "nbval-ignore-output"]
hint("smooth_targets")

# %% [markdown]
# Beside the teacher at $T = 4$, for the shirts:

# %% tags=["demo"]
smooth = cd.smooth_targets(few.labels[shirts], 10, 0.1).mean(0)
for name, target in (("smoothing 0.1", smooth), ("teacher, T = 4", mean[4])):
    print(f"{name:>15}: " + ", ".join(f"{data.FASHION_CLASSES[k]} {target[k]:.3f}" for k in order))

# %% [markdown]
# ## 6 · Two lessons in one
#
# The divergence teaches two things at once. How sure to be of the label: (label, not label), two probabilities. And how the *other* classes
# compare with each other: their probabilities $\hat p$, made to add up to 1 again. The identity is exact:
#
# $$\mathrm{KL}(p \,\|\, q) = \underbrace{\mathrm{KL}\big((p_y, 1-p_y) \,\|\, (q_y, 1-q_y)\big)}_{\text{target}}
# + (1 - p_y)\,\underbrace{\mathrm{KL}(\hat p \,\|\, \hat q)}_{\text{others}}$$

# %% [markdown]
# Mind the weight: the surer the teacher is of the label, the less it gets to say about the others.

# %% [markdown]
# ### Exercise 6 · `decoupled_kl` (3 points, about 8 lines)
#
# **Given** `student_logits`, `teacher_logits`, `labels` and `temperature`, **return** the two parts `(target, others)`, each (n,): one value **per
# image**, without $T^2$ and without the weight $1 - p_y$.
#
# - The class $y$ is the label's, even where the teacher prefers another.
# - `logits[~mask].reshape(n, -1)` takes one column per row away; setting it to 0 does not.
# - Teacher `[2, 1, 0]`, student `[0, 0, 0]`, label 0, $T = 1$: `0.2291` and `0.1109`.


# %% nbgrader={"solution": true, "grade_id": "decoupled_kl"}
def decoupled_kl(
    student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    """The divergences (target, others) of each image, at temperature T."""
    ### BEGIN SOLUTION
    n, n_classes = student_logits.shape
    mask = F.one_hot(labels, n_classes).bool()

    def apart(logits):
        others = logits[~mask].reshape(n, n_classes - 1)
        binary = torch.stack([logits[mask], others.logsumexp(1)], dim=1)
        return binary.log_softmax(1), others.log_softmax(1)

    pairs = zip(apart(teacher_logits / temperature), apart(student_logits / temperature), strict=True)
    target, others = ((p.exp() * (p - q)).sum(1) for p, q in pairs)
    return target, others
    ### END SOLUTION


# %% tags=["demo", "raises-exception"]
# Look: 0.2291 and 0.1109.
decoupled_kl(torch.zeros(1, 3), torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([0]), 1.0)

# %% nbgrader={"grade": true, "locked": true, "grade_id": "check-decoupled_kl", "points": 3}
check("decoupled_kl")

# %% tags=["demo", "nbval-ignore-output"]
hint("decoupled_kl")

# %% [markdown]
# What is the weight $1 - p_y$ on real images?

# %% tags=["demo"]
for t in (1, 2, 4, 8):
    weight = 1 - cd.soften(v, t).gather(1, y[:, None])[:, 0]
    target, others = cd.decoupled_kl(z, v, y, t)
    whole = (target + weight * others).mean()
    same = torch.allclose(t**2 * whole, cd.distillation_kl(z, v, t), rtol=1e-4)
    print(f"T = {t}: weight {weight.mean():.3f}; target {target.mean():.3f}, others {others.mean():.3f}; adds up: {same}")

# %% [markdown]
# At $T = 1$ what the teacher says of the others has a weight of 6 %. Heat raises it. **Decoupled distillation** does so
# directly: it gives both parts weights of their own (`cd.DecoupledDistillationLoss`).

# %% [markdown]
# ## 7 · The training
#
# ### Exercise 7 · `distill_epoch` (3 points, about 14 lines)
#
# **Given** a `student`, a `teacher`, `batches` (a list of `(images, labels)`), a function `loss(student_logits, teacher_logits, labels)` that returns
# a dict of parts, and a learning rate `lr`: for each batch make one step of `torch.optim.SGD` (plain, no momentum) on the student, against the **sum** of the parts.
# **Return** a list with one dict a batch: each part as a Python float, from before the step.
#
# - The student learns in train mode and is left in eval mode.
# - The teacher answers in eval mode, and gets no gradients. Afterwards it is **as it was**: its mode, its weights, its
#   `requires_grad`. It may be somebody else's.


# %% nbgrader={"solution": true, "grade_id": "distill_epoch"}
def distill_epoch(student: nn.Module, teacher: nn.Module, batches: list, loss, lr: float) -> list[dict[str, float]]:
    """The parts of the loss at each step of one pass in which the teacher teaches the student."""
    ### BEGIN SOLUTION
    optimizer = torch.optim.SGD(student.parameters(), lr=lr)
    was_training = teacher.training
    teacher.eval()
    student.train()
    log = []
    for images, labels in batches:
        with torch.no_grad():
            teacher_logits = teacher(images)
        parts = loss(student(images), teacher_logits, labels)
        optimizer.zero_grad()
        sum(parts.values()).backward()
        optimizer.step()
        log.append({name: part.item() for name, part in parts.items()})
    teacher.train(was_training)
    student.eval()
    return log
    ### END SOLUTION


# %% tags=["demo", "raises-exception"]
# Look: the total falls over 16 steps of 50 images, with a wobble.
tried = new_student(0)
some = [*zip(few.images[:800].split(50), few.labels[:800].split(50), strict=True)]
log = distill_epoch(tried, teacher, some, lambda s, t, y: cd.kd_loss(s, t, y, 4.0, 0.7), lr=0.02)
print("totals of the first and the last steps:", [round(sum(each.values()), 1) for each in log[:3] + log[-3:]])

# %% nbgrader={"grade": true, "locked": true, "grade_id": "check-distill_epoch", "points": 3}
check("distill_epoch")

# %% tags=["demo", "nbval-ignore-output"]
hint("distill_epoch")

# %% [markdown]
# ### Use it: does the teacher help?
#
# `cd.distill` is your loop with momentum, a learning-rate cycle, and a memory of the teacher's answers. The question needs a fair trial: the same
# first weights, the same images in the same order, the same 640 steps. Only the loss differs. And it needs more than one seed. `use` takes your loss
# if it passes its check, ours otherwise. (About 10 s.)

# %% tags=["demo", "varies"]
loss = use("kd_loss")


def trained(objective, seed, images=few):
    """A student after 20 epochs with this objective."""
    student = new_student(seed)
    how = Recipe(epochs=20, batch_size=64, peak_lr=0.05, seed=seed)
    guide = None if isinstance(objective, cd.StudentAlone) else teacher
    cd.distill(student, guide, images, objective, how, cache=memory)
    return student


ways = {
    "alone": cd.StudentAlone(),
    "label smoothing": cd.StudentAlone(label_smoothing=0.1),
    **{f"distilled, T = {t}": cd.DistillationLoss(t, 0.9, loss) for t in (1, 2, 4, 8)},
    "decoupled, T = 2": cd.DecoupledDistillationLoss(2.0, target=0.9, others=0.45, hard=0.1),
}

# %% tags=["demo", "nbval-ignore-output"]
seeds = (0, 1, 2)
students = {name: [trained(way, seed) for seed in seeds] for name, way in ways.items()}
scores = {name: torch.tensor([evaluate(s, test) for s in row]) for name, row in students.items()}
gains = {name: score - scores["alone"] for name, score in scores.items()}  # seed by seed: same start, same images
for name, score in scores.items():
    print(f"{name:>17}: {100 * score.mean():.2f} ± {100 * score.std():.2f} %, gain {100 * gains[name].mean():+.2f} ± {100 * gains[name].std():.2f}")

# %% tags=["demo", "nbval-ignore-output"]
levels = {"label smoothing": scores["label smoothing"].mean().repeat(4), "alone": scores["alone"].mean().repeat(4)}
plot.lines((1, 2, 4, 8), {"distilled": [scores[f"distilled, T = {t}"].mean() for t in (1, 2, 4, 8)], **levels}, percent=True,
           xticks=(1, 2, 4, 8), xlabel="temperature T", ylabel="accuracy, mean of 3 seeds",
           title="With a teacher the student is ahead at every temperature");

# %% [markdown]
# Yes. The same student is right on about 83.2 % alone, on 84.4 to 84.8 % with the teacher: a gain of 1.2 to 1.6 points, positive for each of the three
# seeds at each of the four temperatures. Label smoothing explains about half a point of it at most. The rest is what the teacher *knows*.

# %% [markdown]
# Which temperature is best, this cannot tell: the four means lie within half a point of each other, and the seeds at one temperature can differ by more. Decoupled, with the others weighed nearly three times as heavily as at $T = 2$, was ahead by about 1.9 points: no more than the seeds allow either.

# %% tags=["demo", "nbval-ignore-output"]
student = students["distilled, T = 2"][0]
accuracy = evaluate(student, test)
print(f"teacher {teacher_accuracy:.2%}, distilled {accuracy:.2%}: {accuracy / teacher_accuracy:.1%} of its accuracy")
ledger = Ledger.open()
ledger.add(lesson="08-teacher-student", step="distilled, 32 hidden units, T = 2", accuracy=accuracy, size_bytes=measure.saved_size(student),
           macs=measure.macs(student, (1, 28, 28)), nonzero=measure.nonzero(student), by=loss.by)
ledger

# %% [markdown]
# "89 % of the teacher's accuracy" by itself says nothing: the student *alone* keeps about 88 %. (A tutorial once reported 100 %: its teacher and its student both
# guessed, on noise with random labels.) What distillation is worth is the difference to the control.

# %% [markdown]
# ### When does it pay?
#
# Measured beforehand (`python benchmarks/distillation.py`): a small convolutional network, 19,810 parameters, with the same teacher and three amounts
# of data, each over three seeds.

# %% tags=["demo"]
long = cd.distillation_curves()
budgets = {"2,000 images, 20 epochs": long["rows"], "10,000 images, 4 epochs": long["10000"], "55,000 images, 2 epochs": long["55000"]}
for budget, rows in budgets.items():
    alone, *others = (rows[way] for way in ("alone", "smoothing", "kd"))
    print(f"{budget}: alone {100 * alone['mean']:.2f} ± {100 * alone['sd']:.2f} %")
    for row in others:
        gain = torch.tensor(row["accuracy"]) - torch.tensor(alone["accuracy"])
        print(f"    {row['label']:>20}: {100 * gain.mean():+.2f} ± {100 * gain.std():.2f} points")

# %% [markdown]
# With few images the teacher is worth 2.52 points. With 10,000 and only four passes it *costs* 0.32, and with 55,000 and two passes its 0.39 lie within the spread. Where
# labels are plenty and steps are few, the student has no time for the fine print. (The first budget was chosen after the second had been seen: so this is a finding, not a forecast.)

# %% [markdown]
# ## 8 · A class it never saw
#
# Hinton's strangest experiment: take one class **out** of the student's images. No bag, no label "bag". Its teacher knows bags, though, and whenever it
# looks at a shirt it says how little that resembles one. Is that enough to learn what a bag is?

# %% tags=["demo"]
MISSING = data.FASHION_CLASSES.index("bag")
left = few.labels != MISSING
without = data.Dataset(few.images[left], few.labels[left], few.classes, "no bags")
print(f"{len(without):,} images, labels {sorted(set(without.labels.tolist()))}")
is_bag = test.labels == MISSING


def score(logits):
    """Accuracy on all test images, and the share of the bags that is recognised."""
    right = logits.argmax(1) == test.labels
    return f"all {right.float().mean():.1%}, bags {right[is_bag].float().mean():.1%}"


# %% tags=["demo", "nbval-ignore-output"]
unlabelled = train.images[2000:4000]  # other images, bags among them; their labels are not used
for name, way in (("labels only", cd.StudentAlone()), ("teacher only", cd.DistillationLoss(4.0, alpha=1.0))):
    blind = trained(way, 0, without)
    logits = predict(blind, test.images)
    bias = cd.missing_class_bias(predict(blind, unlabelled), MISSING, share=0.1)
    corrected = logits.clone()
    corrected[:, MISSING] += bias
    print(f"{name:>12}: {score(logits)}; with {bias:+.1f} on the bag's logit: {score(corrected)}")

# %% [markdown]
# Without ever seeing a bag, or hearing its name, the student now recognises about five bags of eight. It had learned what they look like, but nothing had ever
# made it *say* so: its bias for the class only went down. One number mends that, chosen on images without labels by how common bags are. (Hinton chose it on the test set.)

# %% [markdown]
# The control matters here too. A student of labels alone, corrected in the same way, finds about four of ten: that something looks like none of the nine is knowledge as well.
# The teacher's share is the difference. In the paper, on digits without 3s, the errors went from 206 to 109.

# %% [markdown]
# ## 9 · From scratch to the tools people use
#
# PyTorch has the pieces: `nn.KLDivLoss`. **torchdistill** has the whole loss, `KDLoss`, and configurations of published experiments around it. It reads
# logits out of dicts, by the name of the module they came from.

# %% tags=["demo"]
from torchdistill.losses.mid_level import KDLoss

pieces = nn.KLDivLoss(reduction="batchmean")((z / 4).log_softmax(1), (v / 4).softmax(1)) * 16
print(f"nn.KLDivLoss equals exercise 2: {torch.allclose(pieces, cd.distillation_kl(z, v, 4.0))}")


def theirs(alpha):
    """torchdistill's loss of the same logits."""
    return KDLoss("fc", "output", "fc", "output", temperature=4.0, alpha=alpha)({"fc": {"output": z}}, {"fc": {"output": v}}, y)


for alpha in (0.7, 0.3, 0.0):
    print(f"torchdistill's alpha = {alpha}: {theirs(alpha):8.4f}")
for alpha in (0.7, 1.0):
    print(f"our alpha = {alpha}:            {sum(cd.kd_loss(z, v, y, 4.0, alpha).values()):8.4f}")

# %% [markdown]
# Their `alpha` weighs the *labels*: their 0.3 is our 0.7. And at 0 they return the bare divergence, without $T^2$: 16 times less than our
# `alpha = 1`. Neither is wrong, both are traps. Whenever you take a number from a paper or a repository, take its formula too.

# %% [markdown]
# ## 10 · In your own words
#
# ### Question 1 (4 points, graded by a person)
#
# *How does temperature scaling affect knowledge distillation effectiveness?* (a) What does a student see at a very low, a medium and a very high temperature, and
# what does it then learn? (b) What happens if you raise $T$ and forget $T^2$? (c) A colleague reports that $T = 20$ "works best", from one run each at
# four temperatures, each with new first weights. What would you ask for before you believe it? Use numbers measured in this notebook. (10 sentences at most.)

# %% [markdown] nbgrader={"grade": true, "solution": true, "grade_id": "question-temperature", "points": 4}
# **A model answer.** (a) Near $T = 0$ the targets are the teacher's own choices, and the student learns them like labels. A medium $T$ shows it which other classes are likely: at $T = 4$ our
# teacher leaves the label 0.535 and 2.3 bits of entropy, at $T = 1$ 0.931 and 0.2 bits; the weight $1 - p_y$ of what it says about the others rises from 0.06 to 0.47. At a very high $T$ the targets are nearly uniform
# (3.29 of 3.32 bits at $T = 20$), but with $T^2$ the student is still taught, namely to match logits: the gradient was 20 % away from that at $T = 20$ and 4 % at $T = 100$. Then it spends as much on very negative logits as on the
# relevant ones, which a small student may not have the capacity for. (b) The bare gradient falls about as $1/T^2$: from 0.0575 at $T = 1$ to 0.00008 at $T = 32$, so the teacher drops out and the labels are all that is left, at whatever
# alpha; it looks as if a high $T$ did not work. (c) The same first weights and images for all temperatures, several seeds with their spread, the student alone and label smoothing as controls, and a choice
# on held-out training images, not on the test set. Here the four temperatures differed by less than half a point, no more than seeds can, while all of them were more than a point ahead of the student alone.
#
# *Rubric:* (a) two points: low, medium and high each with what is learned (one point), with measured numbers, matching logits among them (one point). (b) one point: the teacher's part fades as $1/T^2$ against the labels, with a number. (c) one point:
# equal starts and several seeds, a control, and held-out data for the choice; half if one of these is missing.

# %% [markdown]
# ## What we measured
#
# | question | answer, from the cells above |
# | --- | --- |
# | How much smaller is the student? | 10.7 times in parameters, 10.8 in bytes, 1,221 in MACs |
# | What does a temperature of 4 do to the teacher's answers? | the label keeps 0.535 instead of 0.931; 2.3 bits of entropy instead of 0.2 |
# | What does the gradient do without T²? | from T = 1 to 32 it falls from 0.0575 to 0.00008; with T² it stays between 0.05 and 0.13 |
# | When does the student match logits? | at T = 100 its gradient is 4 % away from that, at T = 4 87 % |
# | How much do the other classes count? | 6 % at T = 1, 47 % at T = 4 |
# | Does the teacher help? | 1.2 to 1.6 points over the same student alone, three seeds; label smoothing about half a point |
# | And with more images? | a convolutional student: +2.52 points with 2,000, -0.32 with 10,000 in four passes, +0.39 ± 0.79 with 55,000 in two |
# | A class never seen? | about five of eight bags recognised after one bias; four of ten without a teacher |
#
# **References.** G. Hinton, O. Vinyals, J. Dean 2015, *Distilling the Knowledge in a Neural Network*, arXiv:1503.02531 · C. Buciluă, R. Caruana, A. Niculescu-Mizil 2006,
# *Model Compression* (matching logits) · C. Szegedy et al. 2016, *Rethinking the Inception Architecture*, arXiv:1512.00567, section 7 (label smoothing) · B. Zhao et al. 2022, *Decoupled Knowledge
# Distillation*, arXiv:2203.08679 · Y. Matsubara 2021, *torchdistill*, arXiv:2011.12913.
#
# **Next:** lesson 09, where the student is shown not only the teacher's answers but how it came to them.
