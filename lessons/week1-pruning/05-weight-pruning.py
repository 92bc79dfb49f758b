# %% [markdown]
# # 05 · Weight pruning: which weights a network can do without
#
# Quantization makes every number shorter. Pruning throws numbers away. This lesson takes single weights out of trained
# networks, and asks of each step what it really brought. By the end you will have
#
# - **written** seven small functions: masks from scores, a score from gradients, Adam under a mask, a count that is right,
#   a sparse matrix, a pattern for hardware,
# - **seen** which weights a ResNet-20 can spare, and by what they are known,
# - **measured** why a network that is 90 % zeros may be neither smaller nor faster, and what makes it so.
#
# **Before:** lesson 01 for the ledger; no other. **You need** about two hours; there are 21 points to check yourself and 3 that a person
# grades. **The machine needs** about 45 s for all cells, 1.1 GB of memory, and no download.

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
import copy

import torch
from torch import Tensor
from torch.nn import functional as F

from coursekit import data, measure, plot, zoo
from coursekit import pruning as cp
from coursekit.ledger import Ledger
from coursekit.notebook import check, hint, solution, use
from coursekit.pruning import adam_step
from coursekit.train import Recipe, evaluate, fit

torch.set_num_threads(1)  # small layers gain little from more, and times stay steady

# %% [markdown]
# ## 1 · Why it works at all
#
# Networks have more weights than they need: training is easier with room to spare, and afterwards many weights do next to nothing. Our
# ResNet-20 again. Its weights form a bell around zero, with long tails on a logarithmic scale. What if the middle of it
# simply went?

# %% tags=["demo"]
network = zoo.load("resnet20")
test = data.fashion_mnist("test", subset=True)  # 2,000 test images that every machine has
train = data.fashion_mnist("train", subset=True)  # and 10,000 training images
few = test.take(500)

weights = torch.cat([w.flatten() for w in cp.weights_of(network).values()])
middle = weights.abs().quantile(0.5).item()
print(f"{weights.numel():,} weights in {len(cp.prunable(network))} layers; half of them lie within ±{middle:.4f}")
print(f"that half holds {weights[weights.abs() < middle].square().sum() / weights.square().sum():.1%} of the sum of squares")


# %% tags=["demo"]
def pruned(model, masks):
    """A copy of the model whose masked weights are zero."""
    result = copy.deepcopy(model)
    cp.attach_masks(result, masks)  # section 6 says what this does
    cp.finalize(result)
    return result


scores = cp.magnitude_scores(network)  # |w| of every layer
half = pruned(network, cp.make_masks(scores, sparsity=0.5))
baseline = evaluate(network, few)
noise = 2 * (baseline * (1 - baseline) / len(few)) ** 0.5
print(f"accuracy on 500 images: {baseline:.1%} with all weights, {evaluate(half, few):.1%} with half of them")
print(f"so few images know it to about {noise:.1%}")

# %% tags=["demo", "nbval-ignore-output"]
left = torch.cat([w.flatten() for w in cp.weights_of(half).values()])
plot.histograms({"all weights": weights, "kept": left[left != 0]}, band=(-middle, middle), xlim=(-0.6, 0.6),
                title="Half of the weights lie in a narrow band around zero");

# %% [markdown]
# Half of the weights are gone, and 500 images do not notice. That is the whole idea. The tutorials add that pruning *improves
# generalization* and brings a *significant reduction in memory and computation*. Sometimes the first; the second does not come by itself,
# as sections 8 and 9 measure.

# %% [markdown]
# ## 2 · Five names, two questions
#
# You will read of five *types* of pruning: magnitude-based, gradient-based, random, structured, unstructured. They answer two
# different questions:
#
# - **Which go?** Each weight gets a **score**; the lowest go. Magnitude, gradient and random are scores.
# - **In what pieces?** Single weights (**unstructured**), or whole rows, filters, channels (**structured**); in between,
#   2 of every 4 (**N:M**).
#
# A **mask** holds the answer: `True` is kept. Here are five on one corner of a layer.

# %% tags=["demo", "nbval-ignore-output"]
corner = zoo.load("lenet300").fc2.weight.detach()[:24, :24]
gradients = cp.taylor_scores(zoo.load("lenet300"), train.take(500), ["fc2.weight"])["fc2.weight"][:24, :24]
dice = torch.rand(24, 24, generator=torch.Generator().manual_seed(0))
by_row = corner.norm(dim=1, keepdim=True).expand(24, 24)
pieces = {
    "(the weights)": corner.abs() / corner.abs().max(), "magnitude": cp.topk_mask(corner.abs(), 0.5),
    "gradient": cp.topk_mask(gradients, 0.5), "random": cp.topk_mask(dice, 0.5),
    "2 of 4": cp.nm_mask(corner.abs()), "rows": cp.topk_mask(by_row, 0.5),
}
plot.images(torch.stack([piece.float() for piece in pieces.values()]), list(pieces), n_columns=6,
            title="Half of the same 576 weights (white: kept), chosen in five ways");

# %% [markdown]
# This lesson treats single weights and N:M; lesson 06 removes whole channels.
#
# ## 3 · Exactly how many
#
# "Prune 20 %" sounds clear. The usual code takes a threshold, the 20 % quantile of the scores, and keeps what lies above it. Try that on
# scores that are not all different: those of a quantized network, or of a layer that was pruned before.

# %% tags=["demo"]
coarse = (corner.abs() / corner.abs().max() * 7).round()  # as from 4 bits: eight different values
cases = {"real weights": corner.abs(), "on a grid of 8 values": coarse, "all equal": torch.ones(24, 24),
         "half zero already": corner.abs() * (corner.abs() > corner.abs().median())}
print(f"{'share pruned for a target of 20 %':>34}:   keep >   keep >=   exact")
for name, s in cases.items():
    threshold = s.quantile(0.2)
    shares = [(s <= threshold), (s < threshold), ~cp.topk_mask(s, 0.2)]
    print(f"{name:>34}: " + "".join(f"{gone.float().mean():9.1%}" for gone in shares))

# %% [markdown]
# A threshold cannot split equals: it takes all of them or none. What can is an **order**: sort the scores, and take the first
# $\mathrm{round}(s\,n)$ positions. Positions are never equal.
#
# ### Exercise 1 · `topk_mask` (3 points, about 5 lines)
#
# **Given** `scores` (any shape, either sign) and `sparsity` $s$ from 0 to 1, **return** a `bool` mask of the same shape that is `False`
# for the $\mathrm{round}(s\,n)$ lowest of the $n$ scores and `True` for all others.
#
# - Exactly so many, always. Where scores are equal, any of them may go.
# - `scores = [0.5, 0.1, 0.1, 0.1]` with $s = 0.5$: two of the three 0.1 go.


# %% nbgrader={"solution": true, "grade_id": "topk_mask"}
def topk_mask(scores: Tensor, sparsity: float) -> Tensor:
    """False at the round(sparsity * n) lowest of the n scores, True elsewhere; the shape of scores."""
    ### BEGIN SOLUTION
    n_pruned = round(sparsity * scores.numel())
    order = scores.flatten().argsort()
    mask = torch.ones(scores.numel(), dtype=torch.bool)
    mask[order[:n_pruned]] = False
    return mask.reshape(scores.shape)
    ### END SOLUTION


# %% tags=["demo", "raises-exception"]
# Look: two True, one of them in front.
topk_mask(torch.tensor([0.5, 0.1, 0.1, 0.1]), 0.5)

# %% nbgrader={"grade": true, "locked": true, "grade_id": "check-topk_mask", "points": 3}
check("topk_mask")

# %% tags=["demo", "nbval-ignore-output"]
hint("topk_mask")

# %% [markdown]
# ## 4 · Each layer the same, or all in one race?
#
# With **layer** scope every layer gives up the same share. With **global** scope all weights are ranked together, and a layer of small weights
# gives up more. The target is the same, the layers are not.

# %% tags=["demo"]
masks = {scope: cp.make_masks(scores, 0.8, scope=scope) for scope in ("layer", "global")}
for scope, each in masks.items():
    print(f"{scope:>6}: sparsity {cp.sparsity_of(each):.4%} in all, accuracy {evaluate(pruned(network, each), few):.1%}")
share = {scope: [1 - m.float().mean().item() for m in each.values()] for scope, each in masks.items()}
print(f"global, first layer {share['global'][0]:.0%}, last {share['global'][-1]:.0%}, "
      f"most {max(share['global']):.0%} in {list(scores)[share['global'].index(max(share['global']))]}")

# %% tags=["demo", "nbval-ignore-output"]
plot.lines(list(range(1, len(scores) + 1)), share, percent=True, markers=True, xlabel="layer, in order", ylabel="share pruned",
           title="One race for all: the last block gives most, the output layer almost nothing");

# %% [markdown]
# ### Exercise 2 · `global_masks` (3 points, about 7 lines)
#
# **Given** `scores`, a dict from names to tensors of any shapes, and `sparsity`, **return** a dict from the same names to `bool` masks of the
# same shapes. Over *all layers together* exactly $\mathrm{round}(s\,n)$ entries are `False`, and they are the lowest.
#
# Weights that are zero already have score 0 and count towards the target. (Code that takes the quantile of the *survivors* at each
# step, as one finds it in tutorials, prunes 99.9998 % where 90 % was asked for.)


# %% nbgrader={"solution": true, "grade_id": "global_masks"}
def global_masks(scores: dict[str, Tensor], sparsity: float) -> dict[str, Tensor]:
    """Masks that are False at the round(sparsity * n) lowest scores of all layers together."""
    ### BEGIN SOLUTION
    flat = torch.cat([score.flatten() for score in scores.values()])
    mask = torch.ones(flat.numel(), dtype=torch.bool)
    mask[flat.argsort()[: round(sparsity * flat.numel())]] = False
    pieces = mask.split([score.numel() for score in scores.values()])
    return {name: piece.reshape(scores[name].shape) for name, piece in zip(scores, pieces, strict=True)}
    ### END SOLUTION


# %% tags=["demo", "raises-exception"]
# Look: the three lowest of six go, and all of them are in "b".
global_masks({"a": torch.tensor([[4.0, 5.0]]), "b": torch.tensor([1.0, 2.0, 9.0, 3.0])}, 0.5)

# %% nbgrader={"grade": true, "locked": true, "grade_id": "check-global_masks", "points": 3}
check("global_masks")

# %% tags=["demo", "nbval-ignore-output"]
hint("global_masks")

# %% [markdown]
# ## 5 · What a weight is worth
#
# Small is not the same as unimportant. What we would like to know is by how much the **loss** changes when $w$ becomes 0. Around the trained
# weights the loss is
#
# $$L(w + \Delta) \approx L(w) + \frac{\partial L}{\partial w}\,\Delta + \tfrac12 \frac{\partial^2 L}{\partial w^2}\,\Delta^2,
# \qquad \Delta = -w .$$

# %% [markdown]
# The first-order part is $\left|w\,\frac{\partial L}{\partial w}\right|$: the **Taylor score**. "Remove weights with the smallest gradients", as
# one also reads, leaves out $w$: a steep slope matters little if you only move a hair's breadth along it.

# %% [markdown]
# ### Exercise 3 · `taylor_score` (2 points, 1 or 2 lines)
#
# One number per weight from several batches: **given** `weight` (any shape) and `gradients` of shape `(B, *weight.shape)`, the gradient of the loss
# on each of $B$ batches, **return** the mean over the batches of $|w\,g_b|$, in the shape of `weight`.
#
# The absolute value comes before the mean. In a trained network the gradients of different batches nearly cancel: that is what *trained*
# means.


# %% nbgrader={"solution": true, "grade_id": "taylor_score"}
def taylor_score(weight: Tensor, gradients: Tensor) -> Tensor:
    """The mean over B batches of |w g|, for gradients of shape (B, *weight.shape)."""
    ### BEGIN SOLUTION
    return (weight * gradients).abs().mean(dim=0)
    ### END SOLUTION


# %% tags=["demo", "raises-exception"]
# Look: two batches pull the first weight in opposite directions, and it is worth 2, not 0.
taylor_score(torch.tensor([2.0, 0.1]), torch.tensor([[1.0, 5.0], [-1.0, 5.0]]))

# %% nbgrader={"grade": true, "locked": true, "grade_id": "check-taylor_score", "points": 2}
check("taylor_score")

# %% tags=["demo", "nbval-ignore-output"]
hint("taylor_score")

# %% [markdown]
# Now all of them on the ResNet-20: magnitude, Taylor, the gradient alone, and a die. A comparison of methods must show *accuracy*: the
# sparsity of each is what we asked for, whichever way. (Gradients from 1,000 training images; about 15 s.)

# %% tags=["demo"]
taylor = cp.taylor_scores(network, train.take(1000))
gradient = {name: score / w.abs().clamp(min=1e-12) for (name, score), w in zip(taylor.items(), cp.weights_of(network).values(), strict=True)}
ways = {"magnitude": scores, "Taylor, |w g|": taylor, "gradient alone, |g|": gradient,
        "random": cp.random_scores(network, seed=0)}
levels = [0.2, 0.4, 0.6, 0.8]
accuracy = {way: [evaluate(pruned(network, cp.make_masks(s, level)), few) for level in levels] for way, s in ways.items()}
accuracy["magnitude, each layer the same"] = [
    evaluate(pruned(network, cp.make_masks(scores, level, scope="layer")), few) for level in levels]
print(f"{'share pruned':>30}:" + "".join(f"{level:8.0%}" for level in levels))
for way, row in accuracy.items():
    print(f"{way:>30}:" + "".join(f"{a:8.1%}" for a in row))

# %% tags=["demo", "nbval-ignore-output"]
shown = {way: [baseline, *row] for way, row in accuracy.items() if way in ways}
ax = plot.lines([0.0, *levels], shown, percent=True, xticks=[0.0, *levels],
                xlabel="share of weights pruned, no training after it", ylabel="accuracy on 500 images",
                title="At one stroke the plain magnitude wins; the die shows that choosing matters")
ax.set_xlim(-0.03, 1.12)
ax.legend(loc="upper right");

# %% [markdown]
# A surprise? The gradient knows the data, and yet magnitude is better here. But look at the formula: at the end of training the first-order term is
# nearly 0 by definition, and what decides is the second, with $w^2$ in it. Magnitude is that term with all curvatures taken as equal. Taylor scores come
# into their own for whole channels (lesson 06) and while a network trains. The gradient alone loses more than half of the answers at 40 %, and
# at 60 % does no better than the die.

# %% [markdown]
# ## 6 · Staying gone
#
# Pruned networks are trained on, so that the other weights take over. Set 90 % of a LeNet-300 to zero, and then take **one** step, with
# an optimizer that has seen ten steps before:

# %% tags=["demo"]
optimizers = {"SGD": lambda p: torch.optim.SGD(p, 0.01), "SGD, momentum": lambda p: torch.optim.SGD(p, 0.01, momentum=0.9),
              "Adam": lambda p: torch.optim.Adam(p)}

def step(model, optimizer, masks=None):
    """One training step; the gradients are masked first if there are masks."""
    optimizer.zero_grad()
    F.cross_entropy(model(train.images[:128]), train.labels[:128]).backward()
    for name, mask in (masks or {}).items():
        model.get_parameter(name).grad *= mask
    optimizer.step()

def zeros_after_a_step(make_optimizer, how):
    """The share of weights that are zero after 10 steps, pruning 90 %, and one more step."""
    model = zoo.load("lenet300").train()
    optimizer = make_optimizer(model.parameters())
    for _ in range(10):
        step(model, optimizer)
    masks = cp.make_masks(cp.magnitude_scores(model), 0.9)
    cp.attach_masks(model, masks)
    if how != "attach_masks":
        cp.finalize(model)  # plain zeros, nothing that holds them
    step(model, optimizer, masks if how == "mask the gradients" else None)
    return 1 - cp.sparsity_of({n: w == 0 for n, w in cp.weights_of(model).items()})

# %% tags=["demo"]
hows = ("multiply once", "mask the gradients", "attach_masks")
print(f"{'zeros after one step':>20}:" + "".join(f"{how:>20}" for how in hows))
for name, make_optimizer in optimizers.items():
    print(f"{name:>20}:" + "".join(f"{zeros_after_a_step(make_optimizer, how):20.1%}" for how in hows))

# %% [markdown]
# With momentum, one step leaves almost none of the zeros: a weight of 0 has a gradient like any other. (What plain SGD left are weights whose
# gradient was exactly 0.) And masking the *gradients* is not enough either: momentum and Adam move a weight by what they **remember** of earlier
# gradients. Three things must be held at zero, the weight, its gradient, and its moments.
#
# ### Exercise 4 · `masked_adam` (4 points, about 6 lines)
#
# `adam_step(weight, gradient, exp_avg, exp_avg_sq, step, lr)` is given: it returns weight and both moments after step number `step`
# (the first is 1). It knows no mask, and must not need to.

# %% [markdown]
# **Given** `weight`, a `bool` `mask`, dense `gradients` of shape `(T, *weight.shape)`, one for each step, the moments `exp_avg` and `exp_avg_sq` from
# training without the mask, the number `step` of steps that training took, and `lr`, **return** `(weight, exp_avg, exp_avg_sq)` after $T$ more
# steps:
#
# - where the mask is `False`, all three are exactly 0,
# - where it is `True`, all three are what Adam makes of them,
# - the next step is number `step + 1`. Do not change the arguments in place.


# %% nbgrader={"solution": true, "grade_id": "masked_adam"}
def masked_adam(
    weight: Tensor, mask: Tensor, gradients: Tensor, exp_avg: Tensor, exp_avg_sq: Tensor, step: int, lr: float = 1e-3
) -> tuple[Tensor, Tensor, Tensor]:
    """Weight and both moments after len(gradients) steps of Adam, all three 0 where the mask is False."""
    ### BEGIN SOLUTION
    weight, exp_avg, exp_avg_sq = weight * mask, exp_avg * mask, exp_avg_sq * mask
    for gradient in gradients:
        step += 1
        weight, exp_avg, exp_avg_sq = adam_step(weight, gradient * mask, exp_avg, exp_avg_sq, step, lr)
    return weight, exp_avg, exp_avg_sq
    ### END SOLUTION


# %% tags=["demo", "raises-exception"]
# Look: the second weight is 0, and nothing is left of its moments.
two, mask = torch.tensor([1.0, 0.2]), torch.tensor([True, False])
masked_adam(two, mask, torch.ones(5, 2), torch.tensor([0.5, 0.5]), torch.tensor([0.3, 0.3]), 10)

# %% nbgrader={"grade": true, "locked": true, "grade_id": "check-masked_adam", "points": 4}
check("masked_adam")

# %% tags=["demo", "nbval-ignore-output"]
hint("masked_adam")

# %% [markdown]
# `cp.attach_masks` does this for any `torch` optimizer: the mask becomes a buffer of its layer, the weight is zeroed before each forward pass,
# gradients as they arrive, weight and state after each step. `cp.finalize` takes it all away again and leaves the zeros. (`cp.MagnitudePruner` has scores, masks and
# both of these in one.) So we can train what is left: LeNet-300 with 5 % of its weights, three epochs of the 10,000 images.

# %% tags=["demo", "varies"]
lenet = zoo.load("lenet300")
print(f"all weights:        {evaluate(lenet, test):.1%}")
cp.attach_masks(lenet, cp.make_masks(cp.magnitude_scores(lenet), 0.95))
print(f"5 % of them:        {evaluate(lenet, test):.1%}")
fit(lenet, train, Recipe(epochs=3, peak_lr=0.05), progress=False)
cp.finalize(lenet)
zeros = cp.sparsity_of(cp.masks_from_zeros(lenet))
print(f"after three epochs: {evaluate(lenet, test):.1%}, and {zeros:.2%} of the weights are zero")

# %% [markdown]
# Most of the loss comes back, from weights that were there all along. Pruning in several rounds, with training in between, goes much further: that is lesson 07.
#
# ## 7 · Counting right
#
# PyTorch's own `torch.nn.utils.prune` keeps the dense weight as `weight_orig`, a mask as `weight_mask`, and multiplies. Ask such a
# model for its parameters, and it shows you the dense ones.

# %% tags=["demo"]
from torch.nn.utils import prune

theirs = zoo.load("lenet300")
for layer in (theirs.fc1, theirs.fc2, theirs.fc3):
    prune.l1_unstructured(layer, "weight", amount=0.5)
state = theirs.state_dict()
naive = sum(int(p.count_nonzero()) for p in theirs.parameters())
total = measure.n_parameters(theirs)
print("the state:", ", ".join(state))
print(f"counted on parameters(): {naive:,} of {total:,} are not zero, sparsity {1 - naive / total:.1%}")
nonzero, total = cp.nonzero_of_state(state)
print(f"counted on what acts:    {nonzero:,} of {total:,} are not zero, sparsity {1 - nonzero / total:.1%}")

# %% [markdown]
# ### Exercise 5 · `nonzero_of_state` (3 points, about 8 lines)
#
# **Given** a dict from names to tensors as above, **return** `(nonzero, total)` as Python ints: of the numbers the network
# computes with, how many are not exactly 0, and how many there are.
#
# - `x_orig` and `x_mask` are *one* tensor `x`, their product.
# - All other entries count as they are, biases too.
# - A weight that the mask keeps may be 0 itself.


# %% nbgrader={"solution": true, "grade_id": "nonzero_of_state"}
def nonzero_of_state(state: dict[str, Tensor]) -> tuple[int, int]:
    """(nonzero, total) of the numbers that act: x_orig times x_mask where there is a mask, else as they are."""
    ### BEGIN SOLUTION
    acting = []
    for name, value in state.items():
        if name.endswith("_orig"):
            acting.append(value * state[name.removesuffix("_orig") + "_mask"])
        elif not name.endswith("_mask"):
            acting.append(value)
    return sum(int(w.count_nonzero()) for w in acting), sum(w.numel() for w in acting)
    ### END SOLUTION


# %% tags=["demo", "raises-exception"]
# Look: of w two are kept, one of which is 0; with the bias that makes 2 of 4.
nonzero_of_state({"w_orig": torch.tensor([3.0, 0.0, 5.0]), "w_mask": torch.tensor([1.0, 1.0, 0.0]), "b": torch.ones(1)})

# %% nbgrader={"grade": true, "locked": true, "grade_id": "check-nonzero_of_state", "points": 3}
check("nonzero_of_state")

# %% tags=["demo", "nbval-ignore-output"]
hint("nonzero_of_state")

# %% [markdown]
# ## 8 · What zeros do not bring
#
# Nine tenths of a network are zero. How much smaller is its file, and how much faster does it run?

# %% tags=["demo"]
def lenet_with_zeros(share):
    """A LeNet-300 with this share of its weights zero, by magnitude."""
    model = zoo.load("lenet300")
    return pruned(model, cp.make_masks(cp.magnitude_scores(model), share))


dense, sparse = zoo.load("lenet300"), lenet_with_zeros(0.9)
print(f"file: {measure.saved_size(dense):,} bytes before, {measure.saved_size(sparse):,} bytes after")
print(f"MACs: {measure.macs(dense, (1, 28, 28)):,} before, {measure.macs(sparse, (1, 28, 28)):,} after")

# %% tags=["demo", "nbval-ignore-output"]
times = measure.latency({"dense": dense, "90 % zeros": sparse}, test.images[:64], repeats=60)
print(f"time: {times['90 % zeros'].ratio:.2f} of what it was, for 64 images on one thread")

# %% [markdown]
# Not a byte, and no time to speak of. A file of `float32` writes four bytes for a zero as for anything else, and a dense matrix product multiplies by it.
# Zeros pay only where somebody **leaves them out**, and then one has to write down *where* the others are. The oldest way to do it is **compressed sparse
# rows** (CSR): row by row the values, the column of each, and where each row starts.

# %% [markdown]
# $$\begin{pmatrix} 0 & 2 & 0\\ 0 & 0 & 0\\ 3 & 0 & 4\end{pmatrix} \;\to\;
# \text{values } (2, 3, 4),\quad \text{columns } (1, 0, 2),\quad \text{row starts } (0, 1, 1, 3)$$
#
# Row $i$ is `values[row_starts[i] : row_starts[i + 1]]`: the second row goes from 1 to 1 and is empty.
#
# ### Exercise 6 · `to_csr` (3 points, about 5 lines)
#
# **Given** a `weight` of shape `(rows, columns)`, **return** `(values, columns, row_starts)`: the values in the dtype of `weight`, the columns as
# `int16`, the row starts, `rows + 1` of them, as `int32`. Positions cost bytes, so their dtype matters.


# %% nbgrader={"solution": true, "grade_id": "to_csr"}
def to_csr(weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(values, columns as int16, row_starts as int32) of all entries that are not 0, row by row."""
    ### BEGIN SOLUTION
    rows, columns = weight.nonzero(as_tuple=True)
    counts = torch.bincount(rows, minlength=len(weight))
    row_starts = torch.cat([torch.zeros(1), counts.cumsum(0)])
    return weight[rows, columns], columns.to(torch.int16), row_starts.to(torch.int32)
    ### END SOLUTION


# %% tags=["demo", "raises-exception"]
# Look: the example above.
to_csr(torch.tensor([[0.0, 2.0, 0.0], [0.0, 0.0, 0.0], [3.0, 0.0, 4.0]]))

# %% nbgrader={"grade": true, "locked": true, "grade_id": "check-to_csr", "points": 3}
check("to_csr")

# %% tags=["demo", "nbval-ignore-output"]
hint("to_csr")

# %% [markdown]
# ### From which sparsity on?
#
# With density $d$, the share that is *not* zero, a weight costs on average $4$ bytes dense, $(4 + 2)\,d$ as CSR, and $4d + \tfrac18$ with a
# **bitmap**, one bit for every weight that says whether it is there. So CSR should pay from a third of zeros on, a bitmap from $\tfrac1{32}$, and CSR
# should beat the bitmap when $d < \tfrac1{16}$. Measured, on files that load again:

# %% tags=["demo"]
path = "sparse.safetensors"
shares, rows = [0.0, 0.05, 0.3, 0.5, 0.7, 0.9, 0.95, 0.98], {}
for layout in ("dense", "bitmap", "csr"):
    rows[layout] = []
    for share in shares:
        cp.save_sparse(lenet_with_zeros(share), path, layout=layout)
        rows[layout].append(measure.file_size(path))
print(f"{'share of zeros':>16}:" + "".join(f"{share:10.0%}" for share in shares))
for layout, sizes in rows.items():
    print(f"{layout:>10} bytes:" + "".join(f"{size:10,}" for size in sizes))

# %% tags=["demo", "nbval-ignore-output"]
plot.lines([100 * s for s in shares], {name: [size / 1e6 for size in sizes] for name, sizes in rows.items()}, xlabel="zeros (%)", ylabel="file (MB)",
           title="A bitmap pays from a few per cent of zeros, row indices from a third");

# %% [markdown]
# The formula holds, up to row starts, biases and the file's header. And time? `cp.sparse_linear` replaces every linear layer by a product
# that runs over the stored values only. It has fewer multiplications and more to do for each: follow the index, fetch the input from somewhere. Times of your machine:

# %% tags=["demo", "nbval-ignore-output"]
ratios = {"1 image": [], "64 images": []}
some = [0.5, 0.7, 0.8, 0.9, 0.95, 0.98]
for share in some:
    model = lenet_with_zeros(share)
    for name, n in (("1 image", 1), ("64 images", 64)):
        run = measure.latency({"dense": model, "sparse": cp.sparse_linear(model)}, test.images[:n], repeats=60)
        ratios[name].append(run["sparse"].ratio)
plot.lines([100 * s for s in some], ratios, references={"dense": 1.0}, xlabel="zeros (%)", ylabel="time / dense",
           title="At 50 % zeros the sparse product loses; with many images it wins late");

# %% [markdown]
# The same curve for larger matrices, three runs each, stands in `benchmarks/results/sparse.md`. Moral: on a CPU single zeros are worth *bytes* early and
# *time* late. For time people either take out whole channels (lesson 06), or agree with the hardware on a pattern.
#
# ## 9 · A pattern for hardware: N of M
#
# Recent GPUs multiply matrices in which **2 of every 4** neighbouring weights are zero at up to twice the speed: each kept weight needs only two bits to say which of
# the four it is. (PyTorch: `torch.sparse.to_sparse_semi_structured`, CUDA only; here we measure what it costs in accuracy.)

# %% [markdown]
# ### Exercise 7 · `nm_mask` (3 points, about 5 lines)
#
# **Given** `scores` of shape `(out, in)`, with `in` divisible by `m`, and `n` $\le$ `m`, **return** a `bool` mask of the same shape that keeps exactly the `n`
# highest of every `m` neighbours in a row: columns $0 \dots m-1$, then $m \dots 2m-1$, and so on.
#
# Where scores are equal, any may stay, but `n` of them.


# %% nbgrader={"solution": true, "grade_id": "nm_mask"}
def nm_mask(scores: Tensor, n: int = 2, m: int = 4) -> Tensor:
    """True at the n highest of every m neighbours in a row."""
    ### BEGIN SOLUTION
    groups = scores.reshape(-1, m)
    order = groups.argsort(dim=1)
    mask = torch.ones_like(groups, dtype=torch.bool)
    mask.scatter_(1, order[:, : m - n], False)
    return mask.reshape(scores.shape)
    ### END SOLUTION


# %% tags=["demo", "raises-exception"]
# Look: two of the first four, two of the second four.
nm_mask(torch.tensor([[0.9, 0.1, 0.8, 0.7, 0.1, 0.2, 0.4, 0.3]]))

# %% nbgrader={"grade": true, "locked": true, "grade_id": "check-nm_mask", "points": 3}
check("nm_mask")

# %% tags=["demo", "nbval-ignore-output"]
hint("nm_mask")

# %% tags=["demo"]
inner = cp.magnitude_scores(network, [name for name in scores if name != "conv1.weight"])  # conv1 has one input channel
patterns = {
    "half, anywhere": cp.make_masks(inner, 0.5), "half of each layer": cp.make_masks(inner, 0.5, scope="layer"),
    "4 of 8": cp.nm_masks(inner, 4, 8), "2 of 4": cp.nm_masks(inner, 2, 4), "1 of 2": cp.nm_masks(inner, 1, 2),
}
for name, each in patterns.items():
    print(f"{name:>20}: sparsity {cp.sparsity_of(each):.2%}, accuracy {evaluate(pruned(network, each), few):.1%}")

# %% [markdown]
# The tighter the pattern, the more good weights have to go while worse ones stay, all at the same sparsity. From one row to the next the difference is within the
# noise of 500 images, until the last. A little training usually repairs most of it; without any, this is the price of regularity.
#
# ## 10 · Which layers can spare how much
#
# A **sensitivity scan** prunes one layer at a time and watches the accuracy. Here LeNet-5, on 1,000 training images: the scan will choose something, and
# what chooses must not be the test set.

# %% tags=["demo"]
lenet5 = zoo.load("lenet5")
scan = cp.sensitivity_scan(lenet5, train.take(1000), (0.5, 0.7, 0.8, 0.9, 0.95, 0.98))
print(f"{'pruned alone to':>14}:" + "".join(f"{s:8.0%}" for s in scan.sparsities))
for name, row in scan.accuracy.items():
    print(f"{name:>14}:" + "".join(f"{a:8.1%}" for a in row) + f"   of {scan.counts[name]:,} weights")

# %% tags=["demo", "nbval-ignore-output"]
plot.lines([100 * s for s in scan.sparsities], dict(scan.accuracy), references={"nothing pruned": scan.baseline}, percent=True,
           xlabel="this layer alone pruned to (%)", ylabel="accuracy on 1,000 images",
           title="The first convolution is 500 weights, and needs them");

# %% [markdown]
# Every layer can be given the sparsity at which it alone would lose the same accuracy, so that all together reach the target.

# %% tags=["demo"]
by_size = cp.magnitude_scores(lenet5)
for target in (0.8, 0.9):
    chosen = cp.layer_sparsities(scan, target)
    print(f"{target:.0%}: " + ", ".join(f"{name.removesuffix('.weight')} {s:.0%}" for name, s in chosen.items()))
    ways = {"each layer the same": cp.make_masks(by_size, target, scope="layer"), "from the scan": cp.make_masks(by_size, chosen),
            "global": cp.make_masks(by_size, target)}
    for way, each in ways.items():
        print(f"{way:>24}: sparsity {cp.sparsity_of(each):.2%}, accuracy {evaluate(pruned(lenet5, each), test):.1%}")

# %% [markdown]
# The same share for each layer is fatal here. The scan finds out why and does far better. At 90 % the global race, which asks no data at all, does better still:
# pruning one layer at a time does not see what happens when all are pruned. Scans earn their keep where the magnitudes of different layers cannot be compared.

# %% [markdown]
# ### Use it: your masks on the ResNet-20
#
# Half of all weights, by your own `global_masks` if it passes, in a file that leaves the zeros out and is loaded again before anything is measured.

# %% tags=["demo"]
mine = use("global_masks")
small = pruned(network, mine(cp.magnitude_scores(network), 0.5))
path = "resnet20-half.safetensors"
cp.save_sparse(small, path)
small = cp.load_sparse(path, zoo.load("resnet20"))
size_before, size_after = measure.saved_size(network), measure.file_size(path)
before, after = evaluate(network, test), evaluate(small, test)
print(f"{size_before:,} bytes -> {size_after:,} bytes: {size_before / size_after:.2f} times smaller")
print(f"{measure.nonzero(small):,} of {measure.n_parameters(small):,} parameters are not zero")
print(f"accuracy on 2,000 images: {before:.2%} -> {after:.2%}")

# %% tags=["demo", "nbval-ignore-output"]
ledger = Ledger.open()
ledger.add(lesson="05-weight-pruning", step="half of the weights, sparse file", accuracy=after, size_bytes=size_after,
           nonzero=measure.nonzero(small), macs=measure.macs(small, (1, 28, 28)), by=mine.by)
ledger

# %% [markdown]
# Not twice as small: the bitmap costs one bit for each of all the weights. The MACs are what they were, because the network runs dense.
#
# ## 11 · From scratch to the tools people use
#
# `torch.nn.utils.prune` chooses the same weights as we do. It is sound if one knows four things about it, which the rest of this section
# prints.

# %% tags=["demo"]
model = zoo.load("lenet300")
layers = [(model.fc1, "weight"), (model.fc2, "weight"), (model.fc3, "weight")]
prune.global_unstructured(layers, pruning_method=prune.L1Unstructured, amount=0.9)
ours = cp.make_masks(cp.magnitude_scores(zoo.load("lenet300")), 0.9)
same = all(torch.equal(mask, model.state_dict()[f"{name}_mask"].bool()) for name, mask in ours.items())
print("the same masks as ours:", same)

from safetensors.torch import save_file

save_file(model.state_dict(), path)
print(f"1. file with masks: {measure.file_size(path):,} bytes, without: {measure.saved_size(zoo.load('lenet300')):,}")
try:
    copy.deepcopy(model)
except RuntimeError as error:
    print("2. deepcopy:", str(error).split("(")[0])

# %% tags=["demo"]
prune.global_unstructured(layers, pruning_method=prune.L1Unstructured, amount=0.9)
nonzero, total = cp.nonzero_of_state({k: v for k, v in model.state_dict().items() if "bias" not in k})
print(f"3. amount=0.9 a second time: {1 - nonzero / total:.1%} of the weights are gone, 90 % of those that were left")
for layer, name in layers:
    prune.remove(layer, name)  # makes the zeros permanent: weight_orig and weight_mask become weight
copy.deepcopy(model)
print(f"4. after remove: {measure.saved_size(model):,} bytes, {measure.nonzero(model):,} parameters not zero")
print("prune.L2Unstructured, which some tutorials call, exists:", hasattr(prune, "L2Unstructured"))

# %% [markdown]
# So: count on `module.weight`, not on `parameters()`; give the amount of what is *left*, or prune once; call `prune.remove` before you copy, save or
# measure; and expect no smaller file and no faster layer from it, only zeros. (Both rankings are by $|w|$: for a single weight L1 and L2 are one and the same.)

# %% [markdown]
# ## 12 · In your own words
#
# ### Question (3 points, graded by a person)
#
# A colleague prunes a network to 90 % zeros with `torch.nn.utils.prune`, saves its state dict, and finds the file *larger* and the network *no
# faster*. (a) Why is the file larger, and why would it still not be smaller after `prune.remove`? (b) Why is it no faster? (c) What would make it smaller,
# and what faster, and from what sparsity on? Use numbers measured in this notebook. (8 sentences at most.)

# %% [markdown] nbgrader={"grade": true, "solution": true, "grade_id": "question-zeros", "points": 3}
# **A model answer.** (a) The state holds the dense `weight_orig` *and* a mask of the same size in `float32`: the file of LeNet-300 went from 1.07 MB to 2.13 MB. `prune.remove` drops the mask,
# but a dense file spends four bytes on a zero as on anything else, and is exactly as long as before. (b) The layers stay dense: same shapes, same
# MACs, a kernel that multiplies by 0; the ratio in section 8 was about 1. (c) Smaller: a file that leaves out zeros and stores positions, a bitmap from a few per cent
# of zeros on, row indices from a third; at 90 % LeNet-300 takes about a seventh. Faster: a sparse product, which loses at 50 % zeros and
# wins late (in section 8's figure from about 80 % with 64 images, and hardly at all with one); or structure: whole channels, or 2:4 on hardware that has it.
#
# *Rubric:* one point each for (a), (b), (c): half for the cause, half for a number of this notebook or, in (c), for naming both a format and a
# kernel or structure.

# %% [markdown]
# ## What we measured
#
# | question | answer, from the cells above |
# | --- | --- |
# | How many weights can a ResNet-20 spare at one stroke? | half of them, unnoticed by 500 images; not 80 % |
# | Which score? | magnitude; Taylor next; the gradient alone and the die far behind |
# | Layer or global? | global, by much in LeNet-5, whose first layer has 500 weights and needs them |
# | Do zeros stay? | not by themselves: one step revives almost all; mask weight, gradient and moments |
# | What is 90 % sparsity worth? | nothing in a dense file and a dense kernel; about a seventh of the bytes in a sparse file |
# | When is a sparse product faster? | late: not at 50 % zeros; see the figure of your machine |
#
# **References.** Y. LeCun et al. 1990, *Optimal brain damage* (the second-order term) · S. Han et al. 2015, *Learning both weights and connections for efficient neural networks*,
# arXiv:1506.02626 · P. Molchanov et al. 2017, *Pruning convolutional neural networks for resource efficient inference*, arXiv:1611.06440 (the Taylor score) · A. Mishra et al. 2021,
# *Accelerating sparse deep neural networks*, arXiv:2104.08378 (2:4) · V. Sanh et al. 2020, *Movement pruning*, arXiv:2005.07683 (scores by where training moves a weight:
# `cp.MovementScores`).
#
# **Next:** 06, structured pruning: channels that are really gone.
