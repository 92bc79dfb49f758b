# %% [markdown]
# # 10 · Many teachers: ensembles, peers, assistants, and how sure they are
#
# One teacher is good. Several know more, if their answers are put together rightly; and two students without any teacher can teach
# each other. By the end you will have
#
# - **written** the ensemble, mutual learning, a chain of assistants and two measures of confidence, each of them checked,
# - **seen** one loud teacher outvote two good ones where logits are averaged, and a popular code for mutual learning crash and,
#   once it runs, teach the wrong thing,
# - **measured** which of these ways helps a small network at an equal budget, and whether what it says can be believed.
#
# **Before:** lesson 08 (soft targets, temperature, T²). **You need** about two hours; there are 20 points to check yourself and 4 that a
# person grades. **The machine needs** about 45 s of one core and 1 GB of memory for all cells, and no download.

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
import math
import tempfile
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coursekit import data, measure, plot, zoo
from coursekit import distillation as cd
from coursekit.ledger import Ledger
from coursekit.models import LeNet300100
from coursekit.notebook import check, hint, solution, use
from coursekit.train import Recipe, evaluate, fit, predict

torch.set_num_threads(1)  # small layers gain little from more, and times stay steady
_ = torch.optim.SGD([torch.zeros(1)], 0.1)  # the first optimizer loads torch's compiler: here, not in your exercise

# %% [markdown]
# ## 1 · What several know together
#
# Four networks of the zoo, four architectures: a residual network, a MobileNet, and the two LeNets. All saw the same 60,000 images. Do they
# make the same mistakes?

# %% tags=["demo"]
full = data.fashion_mnist("train", subset=True)  # 10,000 images that every machine has
test = data.fashion_mnist("test", subset=True)
names = ["resnet20", "mobilenet", "lenet5", "lenet300"]
teachers = {name: zoo.load(name) for name in names}
logits = {name: predict(teacher, test.images) for name, teacher in teachers.items()}
right = {name: z.argmax(1) == test.labels for name, z in logits.items()}
for name, each in right.items():
    print(f"{name:>9}: {measure.n_parameters(teachers[name]):>7,} parameters, {each.float().mean():.1%} right")

# %% tags=["demo"]
n_right = torch.stack(list(right.values())).sum(0)
print(f"all four wrong: {(n_right == 0).float().mean():.1%} of the images; all four right: {(n_right == 4).float().mean():.1%}")
best = right["resnet20"]
print(f"resnet20 is wrong on {(~best).sum()} images; on {(~best & (n_right > 0)).sum()} of these another one is right")

# %% tags=["demo", "nbval-ignore-output"]
chosen = (~best & (n_right == 3)).nonzero()[:8, 0]
captions = [
    f"{data.FASHION_CLASSES[logits['resnet20'][i].argmax()]},\nnot {data.FASHION_CLASSES[test.labels[i]]}" for i in chosen
]
plot.images(test.images[chosen], captions, title="What only ResNet-20 gets wrong: three others know better");

# %% [markdown]
# Where one errs, another is often right. An **ensemble** lets all of them answer and weighs their answers. As a *product* it is expensive:
# four networks run for every image. As a *teacher* it costs nothing later: only the student is shipped.

# %% [markdown]
# ## 2 · Putting answers together
#
# Each teacher $k$ gives probabilities, softened at the temperature $T$ of the distillation, and has a weight $w_k$:
#
# $$\bar p = \sum_k w_k\, \mathrm{softmax}(z_k / T), \qquad w_k \ge 0, \quad \sum_k w_k = 1$$
#
# First the weights. Much code takes whatever comes. Weights of 1 and 1 then make "probabilities" that add up to 2, and a teacher without a
# weight is dropped without a word.

# %% [markdown]
# ### Exercise 1 · `ensemble_weights` (3 points, about 6 lines)
#
# **Given** `weights`, a list or a 1-d tensor of numbers, or `None`, and `n_teachers`, **return** a list of floats that adds up to 1: each
# weight divided by the sum of all. `None` means equal weights.
#
# - `[3, 1]` for two teachers gives `[0.75, 0.25]`.
# - **Raise** `ValueError` if the number of weights is not `n_teachers`, if one is below 0, NaN or infinite, or if all are 0.
#
# Which comparison with NaN is true?


# %% nbgrader={"solution": true, "grade_id": "ensemble_weights"}
def ensemble_weights(weights: list[float] | Tensor | None, n_teachers: int) -> list[float]:
    """One weight a teacher, in the given proportions, adding up to 1; ValueError for what cannot be meant."""
    ### BEGIN SOLUTION
    given = [1.0] * n_teachers if weights is None else [float(weight) for weight in weights]
    if len(given) != n_teachers:
        raise ValueError(f"there are {n_teachers} teachers but {len(given)} weights")
    if not all(math.isfinite(weight) and weight >= 0 for weight in given) or sum(given) == 0:
        raise ValueError(f"weights must be finite, not negative and not all 0, got {given}")
    return [weight / sum(given) for weight in given]
    ### END SOLUTION


# %% tags=["demo", "raises-exception"]
# Look: three quarters and one quarter; and three times a third.
print(ensemble_weights([3, 1], 2), ensemble_weights(None, 3))

# %% nbgrader={"grade": true, "locked": true, "grade_id": "check-ensemble_weights", "points": 3}
check("ensemble_weights")

# %% tags=["demo", "nbval-ignore-output"]
hint("ensemble_weights")

# %% [markdown]
# ### Exercise 2 · `ensemble_probabilities` (3 points, 1 to 3 lines)
#
# **Given** `logits`, a list with one `(N, classes)` tensor a teacher, `weights`, a list of floats that adds up to 1, and `temperature`, **return**
# the averaged probabilities $\bar p$, `(N, classes)`.
#
# Two teachers with logits `[0, 0]` and `[0, 1000]`, half the weight each, at $T = 1$: `[0.25, 0.75]`.


# %% nbgrader={"solution": true, "grade_id": "ensemble_probabilities"}
def ensemble_probabilities(logits: list[Tensor], weights: list[float], temperature: float = 1.0) -> Tensor:
    """The weighted mean of the teachers' probabilities, each softened at the temperature first."""
    ### BEGIN SOLUTION
    soft = [(each / temperature).softmax(1) for each in logits]
    return torch.stack([weight * each for weight, each in zip(weights, soft, strict=True)]).sum(0)
    ### END SOLUTION


# %% tags=["demo", "raises-exception"]
# Look: a quarter and three quarters.
ensemble_probabilities([torch.zeros(1, 2), torch.tensor([[0.0, 1000.0]])], [0.5, 0.5])

# %% nbgrader={"grade": true, "locked": true, "grade_id": "check-ensemble_probabilities", "points": 3}
check("ensemble_probabilities")

# %% tags=["demo", "nbval-ignore-output"]
hint("ensemble_probabilities")

# %% [markdown]
# ### What it brings
#
# Two, three and four teachers with equal weights, beside the best of them alone:


# %% tags=["demo"]
def accuracy(scores):
    """The share of test images whose highest score is the right class."""
    return (scores.argmax(1) == test.labels).float().mean().item()


groups = [["resnet20"], ["resnet20", "lenet5"], ["resnet20", "mobilenet", "lenet5"], ["mobilenet", "lenet5", "lenet300"], names]
together = {}
for group in groups:
    z = [logits[name] for name in group]
    together[" + ".join(group)] = accuracy(cd.ensemble_probabilities(z)), accuracy(torch.stack(z).mean(0))
for group, (of_probabilities, of_logits) in together.items():
    print(f"{group:>40}: {of_probabilities:.2%}, with averaged logits {of_logits:.2%}")
print(f"2,000 images know such a share to about {2 * math.sqrt(0.95 * 0.05 / 2000):.1%}")

# %% [markdown]
# Three weaker ones together come ahead of each of the three. But a weak voter dilutes a strong one: with LeNet-300-100 in it the group falls behind
# ResNet-20. And how one averages seems to be a matter of taste. So it is, as long as all teachers are **equally loud**.

# %% [markdown]
# ## 3 · One loud teacher
#
# Give one seat to a network that was trained badly: LeNet-300-100 on just 1,000 images, thirty times over, without any penalty on its weights. It
# knows its images by heart, and is very sure of everything.

# %% tags=["demo", "varies"]
torch.manual_seed(0)
loud = LeNet300100()
fit(loud, full.take(1000), Recipe(epochs=30, batch_size=32, weight_decay=0.0), progress=False)
logits["loud"] = predict(loud, test.images)
for name in ("resnet20", "lenet5", "loud"):
    sure, correct = cd.confidences(logits[name], test.labels)
    print(f"{name:>9}: {correct.float().mean():.1%} right, on average {sure.mean():.1%} sure, logits spread by {logits[name].std(1).mean():.1f}")

# %% tags=["demo", "nbval-ignore-output"]
trio = [logits[name] for name in ("resnet20", "lenet5", "loud")]
averaged = torch.stack(trio).mean(0)
p_bar = cd.ensemble_probabilities(trio)
print(f"mean of the probabilities: {accuracy(p_bar):.2%} right")
print(f"mean of the logits:        {accuracy(averaged):.2%} right")
quiet_agree = (trio[0].argmax(1) == trio[1].argmax(1)) & (trio[0].argmax(1) != trio[2].argmax(1))
outvoted = quiet_agree & (averaged.argmax(1) == trio[2].argmax(1))
print(f"two against the loud one: {quiet_agree.sum()} images; with averaged logits it gets its way on {outvoted.sum()}, "
      f"with averaged probabilities on {(quiet_agree & (p_bar.argmax(1) == trio[2].argmax(1))).sum()}")

# %% tags=["demo", "nbval-ignore-output"]
index = int((outvoted & right["resnet20"] & right["lenet5"]).nonzero()[0, 0])
four = [*(z[index].softmax(0) for z in trio), averaged[index].softmax(0), p_bar[index]]
shown = torch.stack(four).amax(0).topk(2).indices.tolist()
columns = ["resnet20", "lenet5", "loud one", "mean of\nlogits", "mean of\nprobabilities"]
plot.bars({data.FASHION_CLASSES[c]: {name: p[c].item() for name, p in zip(columns, four, strict=True)} for c in shown},
          percent=True, ylabel="probability", title=f"A real {data.FASHION_CLASSES[test.labels[index]]}: two know it, the loud one wins the logits");

# %% [markdown]
# A softmax only knows *differences* of logits, so their size is how loudly a teacher speaks. Averaging logits lets the loud one have as many votes as it
# likes, whatever its weight (it is the normalised product of the teachers' probabilities: one near 0 is a veto). A probability ends at 1, so averaged
# probabilities give each teacher just its weight.

# %% [markdown]
# ### One module, any loss
#
# `cd.Ensemble(teachers, weights, temperature=T)` is a network whose logits are $T \log \bar p$. Their softmax at $T$ is $\bar p$ again, so every loss of
# lesson 08 takes it as its teacher, unchanged. No $p$ is lost where it rounds to 0: all is done in logarithms.

# %% tags=["demo"]
committee = cd.Ensemble([teachers[name] for name in names], temperature=4.0)
same = cd.ensemble_probabilities([logits[name] for name in names], temperature=4.0)[:100]
softened = (predict(committee, test.images[:100]) / 4.0).softmax(1)
print(f"the same to five digits: {torch.allclose(softened, same, atol=1e-5)}")
for name in ("resnet20", "loud"):
    print(f"entropy of {name}'s soft targets, in bits: " + ", ".join(
        f"{cd.entropy(logits[name], t).mean() / math.log(2):.2f} at T = {t}" for t in (1, 4)))
print(f"entropy of the committee's at T = 4: {-(same * same.log2()).sum(1).mean():.2f}; of no idea at all: {math.log2(10):.2f}")

# %% [markdown]
# ## 4 · Students that teach each other
#
# Where there is no teacher at all, two students can begin together. Each learns from the labels *and* from what the other says at that very moment: **deep mutual
# learning**. With $K$ peers, peer $i$ minimises
#
# $$L_i = \mathrm{CE}(z_i, y) + \frac{T^2}{K-1} \sum_{j \ne i} \mathrm{KL}\bigl(p_j \,\|\, p_i\bigr), \qquad p_k = \mathrm{softmax}(z_k / T)$$
#
# Why should it help, if neither knows more? They start from different weights, so they disagree about the *wrong* classes; and a network held
# back from being too sure of its images tends to generalise better.

# %% [markdown]
# ### The code one finds, and how it fails
#
# All peers look at the batch; then, one after the other, loss, `backward`, `step`. Here with two small peers, as in many a tutorial:


# %% tags=["demo"]
def small(seed):
    """The student of this lesson: 784-32-10, 25,450 parameters."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 32), nn.ReLU(), nn.Linear(32, 10))


images, labels = full.images[:64], full.labels[:64]
peers = [small(0), small(1)]
optimizers = [torch.optim.SGD(peer.parameters(), 0.1) for peer in peers]
outputs = [peer(images) for peer in peers]
before = [peer[3].bias.detach().clone() for peer in peers]
try:
    for i in range(2):
        kl = F.kl_div(outputs[i].log_softmax(1), outputs[1 - i].softmax(1), reduction="batchmean")
        (F.cross_entropy(outputs[i], labels) + kl).backward()
        optimizers[i].step()
except RuntimeError as error:
    print("RuntimeError:", str(error).split(" (or")[0])
print("moved already:", [not torch.equal(peer[3].bias, old) for peer, old in zip(peers, before, strict=True)])

# %% [markdown]
# The first loss holds the other peer's *live* output, so its `backward` ran through both networks and freed both graphs. Half a step was done: peer 0 has moved. The
# message's own advice, `retain_graph=True`, stops this crash and makes it worse: now gradients flow into the **targets**. What that does, on the last bias:


# %% tags=["demo"]
def bias_gradient(target):
    """What reaches the last bias of the first peer, with target(z) on the teachers' side."""
    pair = [small(0), small(1)]
    z = [peer(images) for peer in pair]
    losses = [F.kl_div(z[i].log_softmax(1), target(z[1 - i]).softmax(1), reduction="batchmean") for i in range(2)]
    sum(losses).backward()
    return pair[0][3].bias.grad


detached, live = bias_gradient(Tensor.detach), bias_gradient(lambda z: z)
print(f"gradient of the divergences: {detached.norm():.4f} detached, {live.norm():.4f} with live targets")
print(f"what the live target adds is {(live - detached).norm() / detached.norm():.0%} of the right gradient's size")

# %% [markdown]
# A target that can move is no target: each peer would also learn to say what makes *the other's* loss small. Three rules, then: targets are **detached**; **all losses come before
# any step**, so that no peer sees another's new weights and their order does not matter; one divergence **for each** other peer.

# %% [markdown]
# ### Exercise 3 · `peer_loss` (3 points, about 5 lines)
#
# **Given** `own`, a peer's logits `(n, classes)`, `others`, a list of the other peers' logits, `labels` `(n,)` and `temperature`, **return** the loss $L_i$
# from above as a scalar tensor. Both terms are means over the batch. The temperature softens both sides of the divergence, and not the cross-entropy.
#
# If all peers say the same, only the cross-entropy is left.


# %% nbgrader={"solution": true, "grade_id": "peer_loss"}
def peer_loss(own: Tensor, others: list[Tensor], labels: Tensor, temperature: float = 1.0) -> Tensor:
    """Cross-entropy with the labels plus T² times the mean KL(other ‖ own)."""
    ### BEGIN SOLUTION
    mine = (own / temperature).log_softmax(1)
    theirs = [(other.detach() / temperature).log_softmax(1) for other in others]
    apart = [F.kl_div(mine, each, reduction="batchmean", log_target=True) for each in theirs]
    return F.cross_entropy(own, labels) + temperature**2 * torch.stack(apart).mean()
    ### END SOLUTION


# %% tags=["demo", "raises-exception"]
# Look: the same answers leave log 2 = 0.6931; a peer that is sure of the wrong class costs more.
agree, sure = torch.zeros(1, 2), torch.tensor([[0.0, 3.0]])
print(f"{peer_loss(agree, [agree], torch.tensor([0])):.4f}, {peer_loss(agree, [sure], torch.tensor([0])):.4f}")

# %% nbgrader={"grade": true, "locked": true, "grade_id": "check-peer_loss", "points": 3}
check("peer_loss")

# %% tags=["demo", "nbval-ignore-output"]
hint("peer_loss")

# %% [markdown]
# ### Exercise 4 · `train_peers` (4 points, about 10 lines)
#
# **Given** `peers`, a list of two or more networks, `batches`, a list of `(images, labels)`, a learning rate `lr`, and `loss`, a function like exercise 3
# (`loss(own, others, labels)`; a gradient flows into whatever you give it), **train** the peers in place, one step of plain `torch.optim.SGD` a batch,
# and **return** a list with one entry a step: the list of the peers' losses as floats, as they were before that step.
#
# Each peer's step follows the gradient of its own loss alone.


# %% nbgrader={"solution": true, "grade_id": "train_peers"}
def train_peers(peers: list, batches: list[tuple[Tensor, Tensor]], lr: float, loss) -> list[list[float]]:
    """Trains the peers in place, all losses before any step; returns each step's losses, one a peer."""
    ### BEGIN SOLUTION
    optimizers = [torch.optim.SGD(peer.parameters(), lr) for peer in peers]
    history = []
    for images, labels in batches:
        logits = [peer(images) for peer in peers]
        losses = [loss(own, [z.detach() for z in logits if z is not own], labels) for own in logits]
        for one, optimizer in zip(losses, optimizers, strict=True):
            optimizer.zero_grad()
            one.backward()
        for optimizer in optimizers:
            optimizer.step()
        history.append([one.item() for one in losses])
    return history
    ### END SOLUTION


# %% tags=["demo", "raises-exception"]
# Look: three peers, five steps on the same 64 images; all three losses should fall.
for row in train_peers([small(0), small(1), small(2)], [(images, labels)] * 5, 0.1, cd.peer_loss):
    print([round(value, 3) for value in row])

# %% nbgrader={"grade": true, "locked": true, "grade_id": "check-train_peers", "points": 4}
check("train_peers")

# %% tags=["demo", "nbval-ignore-output"]
hint("train_peers")

# %% [markdown]
# ## 5 · Step by step: assistants and stages
#
# A student far below its teacher may not be able to follow. A **teacher assistant** of middle size learns from the teacher first and then teaches the student (Mirzadeh et al.). That is a
# second training, so the honest question is: what does a chain bring *at the same number of epochs*?

# %% [markdown]
# ### Exercise 5 · `plan_chain` (2 points, about 6 lines)
#
# **Given** `networks`, a list of names from the trained teacher through the assistants to the student, and `epochs` for everything together, **return** the trainings in order:
# a list of `(teacher, student, epochs)`.
#
# - Each network is taught by the one before it; the first is trained already.
# - All get the same whole number of epochs; what is left over goes to the **last**.
# - `["resnet20", "lenet5", "tiny"]` and 9 give `[("resnet20", "lenet5", 4), ("lenet5", "tiny", 5)]`.
# - **Raise** `ValueError` for fewer than two networks, and for fewer epochs than trainings.


# %% nbgrader={"solution": true, "grade_id": "plan_chain"}
def plan_chain(networks: list[str], epochs: int) -> list[tuple[str, str, int]]:
    """The trainings of a chain of assistants: (teacher, student, epochs), the epochs of all adding up to the budget."""
    ### BEGIN SOLUTION
    n_links = len(networks) - 1
    if n_links < 1 or epochs < n_links:
        raise ValueError(f"{len(networks)} networks and {epochs} epochs make no chain")
    share, left = divmod(epochs, n_links)
    lengths = [share] * (n_links - 1) + [share + left]
    return list(zip(networks[:-1], networks[1:], lengths, strict=True))
    ### END SOLUTION


# %% tags=["demo", "raises-exception"]
# Look: two trainings, nine epochs.
plan_chain(["resnet20", "lenet5", "tiny"], 9)

# %% nbgrader={"grade": true, "locked": true, "grade_id": "check-plan_chain", "points": 2}
check("plan_chain")

# %% tags=["demo", "nbval-ignore-output"]
hint("plan_chain")

# %% [markdown]
# A plan must also *run*: progressive "distillation" in the document that we follow counts its stages and trains nothing. `cd.run_stages` trains every link with the loop of lesson 08. A stage may also change the
# temperature and the share $\alpha$ of the soft loss under one and the same teacher, from soft to hard: `cd.softening_stages`.

# %% tags=["demo"]
for stage in cd.softening_stages("resnet20", "small", 15, temperatures=[8.0, 4.0, 2.0], alphas=[0.9, 0.7, 0.5]):
    print(stage)

# %% [markdown]
# ## 6 · All of them at one budget
#
# The small network, 3,000 training images, 12 epochs in all, the same first weights and the same order of the images for each way. Two controls: the student alone, and one good teacher. Three seeds, since one proves
# little. (About 20 s.)


# %% tags=["demo"]
def stage_loss(stage):
    """The loss of lesson 08 with a stage's settings."""
    return cd.DistillationLoss(stage.temperature, stage.alpha)


def in_stages(stages, student, seed):
    """The student after these stages under ResNet-20, with a LeNet-300-100 as assistant where they name one."""
    torch.manual_seed(100 + seed)
    networks = {"resnet20": teachers["resnet20"], "lenet300": LeNet300100(), "small": student}
    cd.run_stages(stages, networks, train, replace(recipe, seed=seed), stage_loss, cache=cache)


train = full.take(3000)
held = data.Dataset(full.images[8000:], full.labels[8000:], full.classes, "held out of the training images")
recipe = Recipe(epochs=12, batch_size=64, peak_lr=0.03)
kd = cd.DistillationLoss(temperature=4.0, alpha=0.9)
cache = Path(tempfile.mkdtemp())  # what a teacher says of each image is worked out once
chain = cd.assistant_stages(["resnet20", "lenet300", "small"], recipe.epochs)
softening = cd.softening_stages("resnet20", "small", recipe.epochs, [8.0, 4.0, 2.0], [0.9, 0.7, 0.5])

# %% tags=["demo"]
ways = ("alone", "one teacher", "four teachers", "mutual pair", "assistant", "softening")

def teach(seed):
    """The small network, trained in all six ways."""
    taught, now = {way: small(seed) for way in ways}, replace(recipe, seed=seed)
    fit(taught["alone"], train, now, progress=False)
    cd.distill(taught["one teacher"], teachers["resnet20"], train, kd, now, cache=cache)
    cd.distill(taught["four teachers"], committee, train, kd, now, cache=cache)
    cd.learn_mutually([taught["mutual pair"], small(seed + 50)], train, now)
    in_stages(chain, taught["assistant"], seed)
    in_stages(softening, taught["softening"], seed)
    return taught

# %% tags=["demo"]
runs = [teach(seed) for seed in range(3)]
for way in ways:
    z = [predict(run[way], test.images) for run in runs]
    hits = torch.tensor([accuracy(each) for each in z])
    surprise = torch.tensor([F.cross_entropy(each, test.labels) for each in z])
    print(f"{way:>14}: {hits.mean():.1%} ± {hits.std():.1%} right, cross-entropy {surprise.mean():.3f} ± {surprise.std():.3f}")

# %% tags=["demo", "nbval-ignore-output"]
gains = {way.replace(" ", "\n"): [accuracy(predict(run[way], test.images)) - accuracy(predict(run["alone"], test.images)) for run in runs] for way in ways[1:]}
plot.bars({f"seed {i}": {way: 100 * gain[i] for way, gain in gains.items()} for i in range(3)}, fmt="{:+.1f}", ylabel="points above the student alone",
          title="Teachers help in every seed; at this budget an assistant does not");

# %% [markdown]
# Four teachers lift the small network from 84.0 to 85.5 %, one teacher to 84.7 %, over three seeds that differ by 0.4 or less. The mutual pair's 84.3 % is within that spread. Softening ends where one teacher does, with a lower cross-entropy. And the assistant takes half of
# the epochs and does not pay them back: it was proposed for trainings in which every link has a budget of its own.

# %% [markdown]
# ### The long runs
#
# Measured beforehand (`python benchmarks/distillation.py`): a convolutional student of 19,810 parameters, 2,000 images, 20 epochs for every way, three seeds.

# %% tags=["demo"]
long = cd.distillation_curves()["rows"]
print(f"student alone {100 * long['alone']['mean']:.2f} ± {100 * long['alone']['sd']:.2f} %; each way above it, seed by seed:")
for row in sorted(long.values(), key=lambda row: -row["mean"]):
    gain = 100 * (torch.tensor(row["accuracy"]) - torch.tensor(long["alone"]["accuracy"]))
    if row is not long["alone"]:
        print(f"{row['label']:>32} {gain.mean():+.2f} ± {gain.std():.2f}")

# %% [markdown]
# The same order of magnitude everywhere: what counts most is *that* somebody teaches. Three teachers add 0.4 points to one. Here, with twenty epochs, even the assistant's pupil gains 2.00, though less than ResNet-20's
# own. Two peers who know nothing to begin with still gain 1.05: they learn from each other's doubts.

# %% [markdown]
# ## 7 · How sure, and how sure rightly?
#
# A network that says "90 %" should be right nine times out of ten. Then it is **calibrated**, and one can act on what it says: take the sure answers, send the others to a person. Accuracy
# does not show that; the cross-entropy does in part, since it punishes being sure and wrong.

# %% [markdown]
# Sort the answers into bins $B_b$ by **confidence**, the largest probability. In each, compare the mean confidence with the share of right answers:
#
# $$\mathrm{ECE} = \sum_b \frac{|B_b|}{N} \,\bigl|\, \mathrm{accuracy}(B_b) - \mathrm{confidence}(B_b) \,\bigr|$$

# %% [markdown]
# ### Exercise 6 · `expected_calibration_error` (3 points, about 8 lines)
#
# **Given** `confidence` `(N,)`, each above 0 and at most 1, `correct` `(N,)` of `bool`, and `n_bins`, **return** the expected calibration error over that many bins of equal width, a Python `float`.
#
# - A confidence of exactly 1 belongs to the last bin. A value on an edge between two bins may go to either.
# - Empty bins count nothing.
# - Ten answers at 0.95, six of them right: 0.35.


# %% nbgrader={"solution": true, "grade_id": "expected_calibration_error"}
def expected_calibration_error(confidence: Tensor, correct: Tensor, n_bins: int = 10) -> float:
    """The gaps between accuracy and confidence in bins of equal width, each weighted by its share of the answers."""
    ### BEGIN SOLUTION
    index = (confidence.double() * n_bins).ceil().long() - 1
    total = 0.0
    for b in range(n_bins):
        inside = index == b
        if inside.any():
            gap = correct[inside].double().mean() - confidence[inside].double().mean()
            total += inside.double().mean().item() * abs(gap.item())
    return total
    ### END SOLUTION


# %% tags=["demo", "raises-exception"]
# Look: should be 0.35.
print(f"{expected_calibration_error(torch.full((10,), 0.95), torch.arange(10) < 6):.2f}")

# %% nbgrader={"grade": true, "locked": true, "grade_id": "check-expected_calibration_error", "points": 3}
check("expected_calibration_error")

# %% tags=["demo", "nbval-ignore-output"]
hint("expected_calibration_error")

# %% [markdown]
# ### Does distillation calibrate?

# %% tags=["demo"]
students = runs[0]
answers = {name: predict(student, test.images) for name, student in students.items()}
for name, z in answers.items():
    sure, correct = cd.confidences(z, test.labels)
    error = cd.expected_calibration_error(sure, correct)
    print(f"{name:>14}: {correct.float().mean():.1%} right, {sure.mean():.1%} sure, calibration error {error:.1%}")

# %% tags=["demo", "nbval-ignore-output"]
curves = {}
for name in ("alone", "mutual pair", "four teachers"):
    bins = cd.reliability(*cd.confidences(answers[name], test.labels))
    many = torch.where(bins.count >= 20, 1.0, math.nan)  # a handful of images is no share
    curves[name] = bins.confidence * many, bins.accuracy
plot.reliability(curves, title="Above 60 %, the student of four\nteachers is less often right than it says");

# %% [markdown]
# Not by itself. The student of one teacher is 90.9 % sure and 84.8 % right. It copies how sure its teacher *sounds*, and the teacher has reason to: it is right on 95 % of the images. The student is not. Mutual learning, 3.5 against 3.8 %, makes
# no difference to speak of. The cross-entropy fell all the same, since the distilled students are wiser about the *other* classes.

# %% [markdown]
# ## 8 · One number that mends it
#
# **Temperature scaling**: divide the logits by one $T$, the same for all images. The order of the classes stays, so does the accuracy; only how sure it sounds changes. Choose the $T$ with the
# lowest cross-entropy on images that the network has **not** been trained on (on its own training images it looks far too good) and that no report uses.

# %% [markdown]
# ### Exercise 7 · `best_temperature` (2 points, 1 to 4 lines)
#
# **Given** `logits` `(N, classes)` of held-out images, their `labels` `(N,)` and `candidates`, a list of temperatures in any order, **return** the candidate with the lowest mean cross-entropy
# of $\mathrm{softmax}(z / T)$ with the labels.


# %% nbgrader={"solution": true, "grade_id": "best_temperature"}
def best_temperature(logits: Tensor, labels: Tensor, candidates: list[float]) -> float:
    """The candidate with the lowest cross-entropy of softmax(logits / T) against the labels."""
    ### BEGIN SOLUTION
    return min(candidates, key=lambda t: F.cross_entropy(logits / t, labels).item())
    ### END SOLUTION


# %% tags=["demo", "raises-exception"]
# Look: twice as sure as it should be, so 2.
half_right = torch.tensor([[2 * math.log(3), 0.0]]).repeat(4, 1)  # says 9 to 1, is right 3 times of 4
print(best_temperature(half_right, torch.tensor([0, 0, 0, 1]), [0.5, 1.0, 2.0, 4.0]))

# %% nbgrader={"grade": true, "locked": true, "grade_id": "check-best_temperature", "points": 2}
check("best_temperature")

# %% tags=["demo", "nbval-ignore-output"]
hint("best_temperature")

# %% tags=["demo"]
print(f"fitted on {len(held):,} held-out training images, measured on {len(test):,} test images:")
scaled = {}
for name, z in answers.items():
    t = cd.fit_temperature(predict(students[name], held.images), held.labels)
    errors = [cd.expected_calibration_error(*cd.confidences(z, test.labels, each)) for each in (1.0, t)]
    scaled[name] = {"as trained": errors[0], "at its temperature": errors[1]}
    print(f"{name:>14}: T = {t:.2f}, calibration error {errors[0]:.1%} -> {errors[1]:.1%}")

# %% tags=["demo", "nbval-ignore-output"]
series = {kind: {name.replace(" ", "\n"): row[kind] for name, row in scaled.items()} for kind in ("as trained", "at its temperature")}
plot.bars(series, percent=True, ylabel="calibration error", title="One temperature mends them all; the students of teachers needed it most");

# %% [markdown]
# ## 9 · Use it: a student of your committee
#
# Now with your own `ensemble_probabilities`, where it passes its check. It teaches the small network by the loss and the loop of lesson 08.


# %% tags=["demo"]
class Committee(nn.Module):
    """All four teachers as one, by the given function: T times the logarithm of their averaged probabilities."""

    def __init__(self, members, average, temperature):
        super().__init__()
        self.members, self.average, self.temperature = nn.ModuleList(members), average, temperature

    def forward(self, x):
        z = [member(x) for member in self.members]
        weights = [1 / len(z)] * len(z)
        return self.temperature * self.average(z, weights, self.temperature).clamp_min(1e-12).log()


# %% tags=["demo"]
mine = use("ensemble_probabilities")
student = small(0)
cd.distill(student, Committee(teachers.values(), mine, 4.0), train, kd, recipe)
size = measure.saved_size(student)
print(f"{evaluate(student, test):.2%} right, {size:,} bytes; our own gave {accuracy(answers['four teachers']):.2%}")
print(f"the four teachers together: {sum(measure.saved_size(t) for t in teachers.values()):,} bytes")

# %% tags=["demo", "nbval-ignore-output"]
ledger = Ledger.open()
ledger.add(step="small student of four teachers", lesson="10-many-teachers", accuracy=evaluate(student, test), size_bytes=size,
           nonzero=measure.nonzero(student), macs=measure.macs(student, (1, 28, 28)), by=mine.by)
ledger

# %% [markdown]
# ## 10 · From scratch to the tools people use
#
# scikit-learn draws reliability diagrams with `calibration_curve`, and SciPy finds the temperature with any scalar minimiser. (Neither has the expected calibration error or ensembles of PyTorch
# networks; `torchmetrics`, which has the first, is not among this course's packages.) Ours agree with theirs.

# %% tags=["demo"]
from scipy.optimize import minimize_scalar
from sklearn.calibration import calibration_curve

sure, correct = cd.confidences(answers["alone"], test.labels)
their_accuracy, their_confidence = calibration_curve(correct, sure, n_bins=10)
bins = cd.reliability(sure, correct, 10)
held_bins = bins.count > 0
print(f"equal to calibration_curve: {torch.allclose(bins.accuracy[held_bins], torch.tensor(their_accuracy))}")

z = predict(students["alone"], held.images)
found = minimize_scalar(lambda t: F.cross_entropy(z.double() / t, held.labels).item(), bounds=(0.05, 20), method="bounded", options={"xatol": 1e-8})
print(f"temperature: SciPy {found.x:.4f}, ours {cd.fit_temperature(z, held.labels):.4f}")

# %% [markdown]
# `sklearn.ensemble.VotingClassifier` tells the two ways of section 2 apart by name: `voting="soft"` averages probabilities with weights, `"hard"` counts votes. It knows no averaging of logits.

# %% [markdown]
# ## 11 · In your own words
#
# ### Question 1 (4 points, graded by a person)
#
# The document that we follow asks: *"Set up feature-level knowledge distillation between ResNet-50 (teacher) and MobileNet (student)."* Write the plan, not the code: (a) which features of which layers, what comes between
# teacher and student where widths and sizes differ, and what is left of that in the shipped student; (b) in which stages you would train, and what an assistant or further teachers might add; (c) which runs you would compare,
# and at what budget, so that a gain can be believed; (d) how you would find out whether the student's confidence may be used to send hard images to a person. Use what this notebook and lessons 08 and 09 measured. (12 sentences at most.)

# %% [markdown] nbgrader={"grade": true, "solution": true, "grade_id": "question-feature-plan", "points": 4}
# **A model answer.** (a) The outputs of whole stages, at two or three depths, found by module name with hooks that change neither network. Where widths differ, a $1 \times 1$ convolution on the student's side; where sizes differ, the larger map
# is pooled to the smaller; attention maps need no adapter at all. Adapters are trained beside the student, stand outside it and are thrown away: the shipped student is just MobileNet. (b) First the hints alone, up to the middle of the student, then soft targets and labels on the
# whole, as FitNets does. An assistant between the two is a further training: it must pay at the same total of epochs. Further teachers enter by averaged probabilities, with checked weights, so that none can outvote the others. (c) The student alone, with label
# smoothing, with soft targets alone, and with features added: the same first weights, images, augmentation and epochs, three seeds or more. Settings are chosen on held-out training images; the test set measures once. A difference below twice its
# standard error (1.6 points on 2,000 images here) is none. (d) A reliability diagram and the calibration error on held-out images; here the student of one teacher was surer than it was right, by 6.1 points. So fit a temperature on
# held-out images first, then choose the confidence below which a person looks, from the share of errors above it.
#
# *Rubric:* one point each for (a) layers, adapters outside the student, nothing left of them; (b) an order of stages with a reason, and the budget; (c) controls, equal budget, seeds, no choice on the test set; (d) calibration measured on held-out images, before a
# threshold is chosen.

# %% [markdown]
# ## What we measured
#
# | question | answer, from the cells above |
# | --- | --- |
# | Do four architectures err alike? | no: on 49 of ResNet-20's 101 errors another one is right; all four fail on 2.6 % |
# | Average logits or probabilities? | all the same for teachers of one loudness; with a loud one among three, 91.25 against 93.85 % right |
# | What if peers are not detached? | a crash with half a step done; with `retain_graph`, a false part of 105 % of the right gradient |
# | What helps a small network at 12 epochs? | from 84.0 %: four teachers to 85.5, one to 84.7, over three seeds; peers to 84.3, within the spread; an assistant: nothing |
# | Does distillation calibrate? | not by itself: an error of 6.1 % after one teacher, 3.8 % alone |
# | What does? | one temperature, from held-out images: 1.8 and 1.2 % |
#
# **References.** G. Hinton, O. Vinyals, J. Dean 2015, *Distilling the Knowledge in a Neural Network*, arXiv:1503.02531 (ensembles as teachers) · Y. Zhang et al. 2018, *Deep Mutual Learning*, arXiv:1706.00384 · S. I. Mirzadeh et al. 2020,
# *Improved Knowledge Distillation via Teacher Assistant*, arXiv:1902.03393 · C. Guo et al. 2017, *On Calibration of Modern Neural Networks*, arXiv:1706.04599 · A. Romero et al. 2015, *FitNets*, arXiv:1412.6550 (training in two stages).
#
# **Next:** 11, weight sharing: after fewer weights and fewer bits, fewer *different* values.
