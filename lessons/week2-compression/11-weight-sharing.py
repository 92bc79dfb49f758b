# %% [markdown]
# # 11 · Weight sharing: a codebook and short indices
#
# Quantization put weights on an evenly spaced grid. Weight sharing lets the weights choose: a few values a layer, wherever they serve
# best, and for each weight only the number of its value. By the end you will have
#
# - **written** six small functions: what sharing saves, packed bits, k-means from its beginning to its empty clusters, zeros that stay
#   zeros, and the gradient of a shared weight,
# - **seen** how few values a layer of a ResNet-20 needs, which layer needs most, and how much the way k-means begins decides,
# - **stored** the network in a seventh of its bytes, in a file that loads and runs, for about a quarter of a point of accuracy.
#
# **Before:** lesson 01 for the grid, lesson 05 for pruning. **You need** about two hours; there are 18 points to check yourself and 3 that
# a person grades. **The machine needs** about 65 s for all cells, 1.3 GB of memory, and no download.

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
import math

import torch
from torch import Tensor
from torch.nn import functional as F

from coursekit import compression as cc
from coursekit import data, measure, plot, zoo
from coursekit import quantization as cq
from coursekit.ledger import Ledger
from coursekit.notebook import check, hint, solution, use
from coursekit.packing import bits_for
from coursekit.train import Recipe, evaluate

torch.set_num_threads(1)  # small layers gain little from more, and times stay steady

# %% [markdown]
# ## 1 · Why compress at all, and why share
#
# A small download gets installed. A network that fits a chip's own memory need not fetch its weights from outside, which costs far
# more energy than computing with them. Four lessons make the file small: **sharing** here, **Huffman codes** (12), **low rank** (13),
# **tensor decomposition** (14). Lesson 15 combines them.
#
# One rule holds all week: a ratio is that of two files, and the small one must load and run.

# %% tags=["demo"]
network = zoo.load("resnet20")
test = data.fashion_mnist("test", subset=True)  # 2,000 test images that every machine has
train = data.fashion_mnist("train", subset=True)  # and 10,000 training images
few = test.take(1000)
reference = evaluate(network, few)

weight = network.stage2[2].conv2.weight.detach()
print(f"one layer:  {weight.numel():,} weights, {weight.unique().numel():,} different ones")
print(f"accuracy:   {reference:.1%} on 1,000 images, known to about {2 * math.sqrt(reference * (1 - reference) / 1000):.1%}")

# %% [markdown]
# Almost every weight is a number of its own, and the network does not need that. Below: the 16 levels of a 4-bit grid, and 16 values that
# **k-means** (section 3) chose for the same layer. The grid spends most of its levels where there is next to nothing.

# %% tags=["demo", "nbval-ignore-output"]
best = cc.kmeans(weight, 16)
grid = cq.dequantize(torch.arange(-8, 8), cq.symmetric_scale(weight, 4))
plot.histogram_with_levels(weight, {"grid": grid, "k-means": best.centroids}, title="k-means puts its values where the weights are");

# %% tags=["demo"]
for name, levels in (("grid", grid), ("k-means", best.centroids)):
    nearest = levels[cc.assign(weight, levels)].float()
    inner = (levels.abs() < weight.abs().quantile(0.9)).sum()
    print(f"{name:>8}: {measure.sqnr_db(weight, nearest):4.1f} dB, {inner} of 16 values among the inner 90 % of the weights")

# %% [markdown]
# ## 2 · What it saves
#
# The list of values is the **codebook**, each value in it a **centroid**. Instead of a weight of $b$ bits we store its **index**, which takes
# $\lceil \log_2 k \rceil$ bits for $k$ centroids. With $n$ weights the layer becomes smaller by
#
# $$r = \frac{n\,b}{n \lceil \log_2 k \rceil + k\,b}$$
#
# Forget neither half of the sum: indices without their codebook mean nothing.

# %% [markdown]
# ### Exercise 1 · `sharing_rate` (2 points, about 3 lines)
#
# **Given** `n_weights`, `n_centroids` and `n_bits` of a weight before (and of a centroid), all of them `int`, **return** $r$ as a `float`.
#
# An index takes a whole number of bits: 16 centroids need 4, 17 need 5, and a single one needs none. The example in the paper: 16 weights
# of 32 bits, 4 centroids, `sharing_rate(16, 4)` = 512 / (32 + 128) = 3.2.


# %% nbgrader={"solution": true, "grade_id": "sharing_rate"}
def sharing_rate(n_weights: int, n_centroids: int, n_bits: int = 32) -> float:
    """How many times smaller shared weights are, their codebook counted."""
    ### BEGIN SOLUTION
    index_bits = (n_centroids - 1).bit_length()
    return n_weights * n_bits / (n_weights * index_bits + n_centroids * n_bits)
    ### END SOLUTION


# %% tags=["demo", "raises-exception"]
# Look: 3.2; nearly 8 for a large layer with 4 bits; below 1 where every weight has a centroid of its own.
print(sharing_rate(16, 4), round(sharing_rate(36_864, 16), 2), sharing_rate(16, 16))

# %% nbgrader={"grade": true, "locked": true, "grade_id": "check-sharing_rate", "points": 2}
check("sharing_rate")

# %% tags=["demo", "nbval-ignore-output"]
hint("sharing_rate")

# %% [markdown]
# ### Real bytes
#
# A formula is a promise. k-means libraries hand out indices as `int64`, eight bytes each: twice as much as the weight itself. A tutorial that
# pickles them reports "4 times smaller" and writes a file twice the size of the network. Even `uint8` wastes half a byte where an index
# has four bits. The bits must be **packed**.

# %% [markdown]
# ### Exercise 2 · `pack` (3 points, about 5 lines)
#
# **Given** `codes` (`int64`, any shape, each 0 to $2^b-1$) and `n_bits` $b$ from 1 to 8, **return** a `uint8` tensor of
# $\lceil n\,b/8 \rceil$ bytes: all codes as one row of bits, eight to a byte.
#
# - The first code fills the highest bits of the first byte, its own highest bit first: `[1, 2, 3]` with 2 bits is `01 10 11 00`, the byte 108.
# - A code of 3 or 5 bits may lie across two bytes. Bits left over in the last byte are 0.


# %% nbgrader={"solution": true, "grade_id": "pack"}
def pack(codes: Tensor, n_bits: int) -> Tensor:
    """The codes as a stream of bits in uint8, the first code in the highest bits of the first byte."""
    ### BEGIN SOLUTION
    shifts = torch.arange(n_bits - 1, -1, -1)
    bits = ((codes.flatten()[:, None] >> shifts) & 1).flatten()  # the highest bit of each code first
    bits = torch.cat([bits, bits.new_zeros(-len(bits) % 8)]).reshape(-1, 8)
    return (bits << torch.arange(7, -1, -1)).sum(1).to(torch.uint8)
    ### END SOLUTION


# %% tags=["demo", "raises-exception"]
# Look: one byte, 01101100; and eight codes of 5 bits in five bytes.
print([f"{byte:08b}" for byte in pack(torch.tensor([1, 2, 3]), 2).tolist()])
print([f"{byte:08b}" for byte in pack(torch.arange(8) + 20, 5).tolist()])

# %% nbgrader={"grade": true, "locked": true, "grade_id": "check-pack", "points": 3}
check("pack")

# %% tags=["demo", "nbval-ignore-output"]
hint("pack")

# %% tags=["demo"]
packed = use("pack")(best.indices, 4)
codebook_bytes = 4 * len(best.centroids)
print(f"float32 weights:         {4 * weight.numel():8,} bytes")
print(f"indices as int64:        {8 * weight.numel():8,}")
print(f"indices as uint8:        {weight.numel():8,}")
print(f"indices packed, 4 bits:  {packed.numel():8,}, and {codebook_bytes} for the codebook")
print(f"counted: {4 * weight.numel() / (packed.numel() + codebook_bytes):.4f} times smaller; "
      f"by the formula {cc.sharing_rate(weight.numel(), 16):.4f}")

# %% [markdown]
# ## 3 · k-means on a line
#
# Which $k$ values? Those that make the squared error $\sum_i (w_i - c_{\text{index}(i)})^2$ smallest: that is the problem called **k-means**.
# **Lloyd's algorithm** goes there in rounds: each value joins its nearest centroid, each centroid moves to the mean of its values, and again.

# %% [markdown]
# On a line this is easier than elsewhere. Sorted values, ascending centroids: a cluster is a range, and the border of two neighbours is
# half-way between their centroids. `torch.bucketize(values, borders)` finds all indices at once. The usual table of $n \times k$ distances,
# for two million weights and 256 centroids, takes gigabytes.

# %% [markdown]
# ### Exercise 3 · `kmeans_step` (4 points, about 9 lines)
#
# **Given** `values` (`float64`, any shape) and `centroids` (`float64`, `(k,)`, ascending), **return** the centroids after one round, ascending,
# as a `float64` tensor `(k,)`.
#
# - Each value belongs to its nearest centroid (a tie may go either way), and each centroid moves to the mean of its values.
# - A centroid without values would stay useless. It moves to the value **farthest from its own centroid**, a second one to the second
#   farthest, and so on. Distances are those before anything moved; the means stay as they are.


# %% nbgrader={"solution": true, "grade_id": "kmeans_step"}
def kmeans_step(values: Tensor, centroids: Tensor) -> Tensor:
    """The centroids after one round of k-means, in which no cluster stays empty."""
    ### BEGIN SOLUTION
    flat = values.flatten()
    nearest = torch.bucketize(flat, (centroids[1:] + centroids[:-1]) / 2)
    counts = torch.bincount(nearest, minlength=len(centroids))
    moved = torch.zeros_like(centroids).index_add_(0, nearest, flat) / counts
    empty = counts == 0
    farthest_first = (flat - centroids[nearest]).abs().argsort(descending=True)
    moved[empty] = flat[farthest_first[: int(empty.sum())]]
    return moved.sort().values
    ### END SOLUTION


# %% tags=["demo", "raises-exception"]
# Look: 0 and 1 belong to the first, 3 and 7 to the second; the third has nothing, and of all values 7 is served worst.
kmeans_step(torch.tensor([0.0, 1.0, 3.0, 7.0]).double(), torch.tensor([0.0, 4.0, 90.0]).double())

# %% nbgrader={"grade": true, "locked": true, "grade_id": "check-kmeans_step", "points": 4}
check("kmeans_step")

# %% tags=["demo", "nbval-ignore-output"]
hint("kmeans_step")

# %% [markdown]
# ### Where to begin
#
# Lloyd's algorithm only walks downhill, so it ends where its beginning lets it. Deep Compression compares three:
#
# - **linear**: evenly spaced from the smallest to the largest value;
# - **density**: evenly spaced in *rank*. Centroid $i$ sits at rank $(i + \frac12)/k$, in the middle of its share of the values;
# - **random**: $k$ of the values, drawn without repetition.

# %% [markdown]
# ### Exercise 4 · `initial_centroids` (3 points, about 8 lines)
#
# **Given** `values` (floating point, any shape), `n_clusters` $k \ge 2$, `init` (`"linear"`, `"density"` or `"random"`) and `seed`, **return**
# $k$ ascending centroids, `float64`.
#
# - *density*: `torch.quantile` at the ranks $(i+\frac12)/k$, $i = 0 \dots k-1$, or any value next to that rank.
# - *random*: draw positions with `torch.Generator().manual_seed(seed)`: the same seed, the same draw; another seed, another.


# %% nbgrader={"solution": true, "grade_id": "initial_centroids"}
def initial_centroids(values: Tensor, n_clusters: int, init: str, seed: int = 0) -> Tensor:
    """Where k-means begins: k centroids, ascending."""
    ### BEGIN SOLUTION
    flat = values.flatten().double()
    if init == "linear":
        return torch.linspace(flat.min().item(), flat.max().item(), n_clusters, dtype=torch.float64)
    if init == "density":
        return torch.quantile(flat, (torch.arange(n_clusters).double() + 0.5) / n_clusters)
    order = torch.randperm(flat.numel(), generator=torch.Generator().manual_seed(seed))
    return flat[order[:n_clusters]].sort().values
    ### END SOLUTION


# %% tags=["demo", "raises-exception"]
# Look: linear reaches both ends of the layer, density crowds around 0.
for init in ("linear", "density", "random"):
    print(f"{init:>8}:", [round(c, 2) for c in initial_centroids(weight, 6, init).tolist()])

# %% nbgrader={"grade": true, "locked": true, "grade_id": "check-initial_centroids", "points": 3}
check("initial_centroids")

# %% tags=["demo", "nbval-ignore-output"]
hint("initial_centroids")

# %% [markdown]
# ### The best there is
#
# On a line one need not walk at all. The best $k$ clusters of the first $j$ sorted values are the best $k-1$ clusters of the first $i$, and one
# more of the rest, for the best $i$:
#
# $$E_k(j) = \min_{i \le j}\; E_{k-1}(i) + \mathrm{cost}(i, j)$$

# %% [markdown]
# This is **dynamic programming**; the cost of a range takes two look-ups in running sums of $w$ and $w^2$. `kmeans_exact` does it for every weight. `kmeans` does it
# for 512 bins and lets Lloyd finish. How far from the best does each way end?

# %% tags=["demo"]
index_bits, inits = (3, 4, 5, 6), ("linear", "density", "random")
ratios = {name: [] for name in ("kmeans", *inits, "linear, none empty")}
for b in index_bits:
    exact = cc.kmeans_exact(weight, 2**b).error
    ratios["kmeans"].append(cc.kmeans(weight, 2**b).error / exact)
    for init in inits:  # lloyd leaves an empty cluster where it is
        ratios[init].append(cc.lloyd(weight, cc.initial_centroids(weight, 2**b, init)).error / exact)
    moving = cc.initial_centroids(weight, 2**b, "linear")
    for _ in range(300):
        moving = cc.kmeans_step(weight, moving)
    ratios["linear, none empty"].append(cc.lloyd(weight, moving, max_rounds=0).error / exact)
print("error over the exact one's, bits: " + "".join(f"{b:8d}" for b in index_bits))
for name, row in ratios.items():
    print(f"{name:>33}:" + "".join(f"{r:8.3f}" for r in row))

# %% tags=["demo", "nbval-ignore-output"]
plot.lines(index_bits, ratios, xticks=index_bits, xlabel="bits of an index", ylabel="squared error over the best",
           title="The more centroids, the more the beginning decides");

# %% [markdown]
# With 64 centroids all three beginnings end with more than twice the least error, although Lloyd ran until nothing moved. Moving empty
# clusters, as yours does, removes most of that. One tutorial stops after ten rounds from a linear beginning and leaves empty clusters empty. Try it on the first layer
# of LeNet-300-100, which has long tails:

# %% tags=["demo"]
tailed = zoo.load("lenet300").fc1.weight.detach()
for k in (64, 256):
    ten = cc.lloyd(tailed, cc.initial_centroids(tailed, k, "linear"), max_rounds=10)
    print(f"{k:3d} centroids: {ten.indices.unique().numel():3d} in use, error {ten.error / cc.kmeans(tailed, k).error:.1f} times the best")

# %% [markdown]
# ## 4 · The whole network, and its zeros
#
# `share_weights(network, k)` gives every layer a codebook of its own: layers differ in scale, and 16 numbers are cheap. One thing can go
# badly wrong. In a **pruned** network nine weights of ten are exactly 0, and that is worth something. If zeros are clustered like the rest, their
# centroid is the mean of zeros and small weights: not 0. Nothing is pruned any more.


# %% tags=["demo"]
def shared_naively(model, k):
    """Every layer's weights from k values, zeros treated like all others."""
    result = copy.deepcopy(model)
    with torch.no_grad():
        for w in cc.shareable(result).values():
            found = cc.kmeans(w, k)
            w.copy_(found.centroids[found.indices])
    return result


sparse = zoo.load("resnet20-sparse90")
naive, careful = shared_naively(sparse, 16), cc.share_weights(sparse, 16)
for name, model in (("pruned", sparse), ("shared, zeros too", naive), ("shared, zeros kept", careful)):
    weights = torch.cat([w.detach().flatten() for w in cc.shareable(model).values()])
    print(f"{name:>18}: {weights.count_nonzero():7,} weights not 0, {cc.save(model, 'sparse.net'):6,} bytes, "
          f"{evaluate(model, few):.1%}")

# %% [markdown]
# So: cluster what is left, and give 0 an entry of its own, outside k-means. It is a constant, not a centroid. It takes no bits for its
# value and, as lesson 12 shows, few for its places.

# %% [markdown]
# ### Exercise 5 · `share_with_zeros` (3 points, about 4 lines)
#
# **Given** `weight` (floating point, any shape) and `centroids` (`float64`, `(k,)`, ascending), **return** `(codebook, indices)`:
#
# - `codebook`: `(k + 1,)`, of the dtype of `weight`: 0.0, then the centroids;
# - `indices`: `int64`, of the shape of `weight`. What is **exactly** 0 has the index 0. Everything else has the index of its nearest
#   centroid, counted from 1, even where 0 would be nearer: nothing is pruned here that was not.
#
# So `codebook[indices]` is the new weight.


# %% nbgrader={"solution": true, "grade_id": "share_with_zeros"}
def share_with_zeros(weight: Tensor, centroids: Tensor) -> tuple[Tensor, Tensor]:
    """A codebook whose entry 0 is 0.0, and the index of each weight into it."""
    ### BEGIN SOLUTION
    nearest = torch.bucketize(weight.double(), (centroids[1:] + centroids[:-1]) / 2) + 1
    codebook = torch.cat([centroids.new_zeros(1), centroids]).to(weight.dtype)
    return codebook, torch.where(weight == 0, 0, nearest)
    ### END SOLUTION


# %% tags=["demo", "raises-exception"]
# Look: the zero gets 0; 0.1, though nearer to 0, gets the centroid 1.
share_with_zeros(torch.tensor([[0.0, 0.1], [0.9, -3.0]]), torch.tensor([-1.0, 1.0]).double())

# %% nbgrader={"grade": true, "locked": true, "grade_id": "check-share_with_zeros", "points": 3}
check("share_with_zeros")

# %% tags=["demo", "nbval-ignore-output"]
hint("share_with_zeros")

# %% [markdown]
# ## 5 · How many bits?
#
# Now the network has its say. Every layer with $2^b$ centroids, against grids of as many steps, with one scale a layer or one a channel (lesson 01).

# %% tags=["demo"]
bits = (2, 3, 4, 5)
accuracy = {"codebook a layer": [evaluate(cc.share_weights(network, 2**b), few) for b in bits],
            "grid a layer": [evaluate(cq.quantize_weights(network, b, scale_of=cq.symmetric_scale), few) for b in bits],
            "grid a channel": [evaluate(cq.quantize_weights(network, b), few) for b in bits]}
print("bits per weight: " + "".join(f"{b:8d}" for b in bits))
for way, row in accuracy.items():
    print(f"{way:>16}: " + "".join(f"{a:7.1%} " for a in row))

# %% tags=["demo", "nbval-ignore-output"]
plot.lines(bits, accuracy, references={"float32": reference}, percent=True, xticks=bits, xlabel="bits per weight",
           ylabel="accuracy on 1,000 images", title="At 2 bits only the codebook is left standing");

# %% [markdown]
# From 4 bits up all are within two points of float32. At 3 bits the codebook is far ahead of the grid with one scale a layer; a scale for
# each channel, another way to adapt to the weights, closes the gap. At 2 bits neither grid is better than guessing.

# %% [markdown]
# And the beginnings? Deep Compression found linear best, and explains it so: large weights are few, but they matter; density gives them next to no
# centroids.

# %% tags=["demo"]
print(f"{'':>8}   8 centroids   16 centroids")
for init in ("best", *inits):
    known = accuracy["codebook a layer"][1:3]
    row = known if init == "best" else [evaluate(cc.share_weights(network, k, init=init), few) for k in (8, 16)]
    print(f"{init:>8}: {row[0]:12.1%} {row[1]:14.1%}")

# %% [markdown]
# Of the three, linear is the best here too, clearly so with 16. The exact codebook beats all of them and needs no beginning: use it, and the question is gone.

# %% [markdown]
# ### Which layer needs them?
#
# Share one layer at a time, with 2 bits, and leave all others alone: what is lost is its **sensitivity**. (About 12 s; with so few images half a point is noise.)

# %% tags=["demo"]
probe = test.take(300)
layers = cc.shareable(network)
whole = evaluate(network, probe)
lost = {name: whole - evaluate(cc.share_weights(network, {name: 4}), probe) for name in layers}
ranked = sorted(lost, key=lost.get, reverse=True)
print("share of weights   points lost at 2 bits")
for name in [*ranked[:3], *ranked[-3:]]:
    print(f"{layers[name].numel() / sum(w.numel() for w in layers.values()):16.1%} {100 * lost[name]:23.1f}   {name}")

# %% tags=["demo", "nbval-ignore-output"]
plot.bars({name.removesuffix(".weight"): 100 * max(lost[name], 0.0) for name in ranked[:5]}, fmt="{:.1f}", ylabel="accuracy lost (points)",
          title="With 2 bits in one layer alone, few layers suffer");

# %% [markdown]
# The sensitive layers are small here, so more bits for them cost little. `share_weights` takes a dict from name to number of centroids: give these
# 5 or 6 bits and all others fewer. But each codebook counts too, and in the smallest layer it outweighs the indices:

# %% tags=["demo"]
for name in ("conv1.weight", "stage3.2.conv2.weight"):
    n = layers[name].numel()
    print(f"{name:>22}: {n:6,} weights, times smaller with 4, 6, 8 bits: {[round(cc.sharing_rate(n, 2**b), 2) for b in (4, 6, 8)]}")

# %% [markdown]
# ## 6 · Training what is shared
#
# The indices are fixed now, but the centroids need not be. If a weight is $w_i = c_{\text{index}(i)}$, the chain rule gives
#
# $$\frac{\partial L}{\partial c_j} = \sum_{i:\ \text{index}(i) = j} \frac{\partial L}{\partial w_i}$$
#
# All weights of a cluster pull at their centroid; it moves, they move with it, and they stay shared. Take one ordinary step on the weights
# instead, and each is a number of its own again: the file grows back.

# %% [markdown]
# ### Exercise 6 · `codebook_gradient` (3 points, about 3 lines)
#
# **Given** `gradient` (of the loss with respect to each weight, any shape), `indices` (`int64`, the same shape, 0 to `n_codes` − 1) and `n_codes`,
# **return** the gradient of each entry of the codebook: `(n_codes,)`, of the dtype of `gradient`.
#
# Entry 0 stands for what is pruned: its gradient is 0, whatever arrives there. An entry that no weight uses has gradient 0 too. Beware of
# `result[indices] += gradient`: try it on two weights that share an index.


# %% nbgrader={"solution": true, "grade_id": "codebook_gradient"}
def codebook_gradient(gradient: Tensor, indices: Tensor, n_codes: int) -> Tensor:
    """The gradient of each entry of a codebook; entry 0, for what is pruned, gets none."""
    ### BEGIN SOLUTION
    summed = torch.zeros(n_codes, dtype=gradient.dtype)
    summed.index_add_(0, indices.flatten(), gradient.flatten())
    summed[0] = 0
    return summed
    ### END SOLUTION


# %% tags=["demo", "raises-exception"]
# Look: 0 for the pruned, 2 for the second, 1 + 4 for the third.
codebook_gradient(torch.tensor([9.0, 1.0, 2.0, 4.0]), torch.tensor([0, 2, 1, 2]), n_codes=3)

# %% nbgrader={"grade": true, "locked": true, "grade_id": "check-codebook_gradient", "points": 3}
check("codebook_gradient")

# %% tags=["demo", "nbval-ignore-output"]
hint("codebook_gradient")

# %% [markdown]
# `attach_codebooks` makes the codebooks the parameters of a network, with just this gradient. Does it agree with yours?

# %% tags=["demo"]
two_bits = cc.share_weights(network, 4)
attached = copy.deepcopy(two_bits)
cc.attach_codebooks(attached)
for model in (two_bits, attached):
    F.cross_entropy(model(train.images[:128]), train.labels[:128]).backward()

plain, layer = two_bits.stage2[2].conv2.weight, attached.stage2[2].conv2
codebook = layer.parametrizations.weight.original
_, indices = cc.share_with_zeros(plain, codebook.detach().double())
ours = use("codebook_gradient")(plain.grad, indices, 5)[1:]
print("centroids:            ", [round(c, 3) for c in codebook.tolist()])
print("gradients summed:     ", [round(g, 3) for g in ours.tolist()])
print(f"largest difference from the attached codebook's: {(ours - codebook.grad).abs().max():.6f}")
print("weights to a centroid:", torch.bincount(indices.flatten())[1:].tolist())

# %% [markdown]
# Each of these sums runs over hundreds or thousands of weights, so a learning rate that suits weights is far too large for centroids. `finetune_centroids`
# therefore divides each sum by the number of its weights: the centroid takes the mean of the steps that its weights would take. Two epochs on 2,560 images (about 12 s):

# %% tags=["demo", "varies"]
recipe = Recipe(epochs=2, peak_lr=0.02, bfloat16=True)
tuned, _ = cc.finetune_centroids(two_bits, train.take(2560), recipe, progress=False)
before, after = evaluate(two_bits, few), evaluate(tuned, few)
values = [w.unique().numel() for w in cc.shareable(tuned).values()]
print(f"2 bits a weight: {before:.1%} before, {after:.1%} after training 4 centroids a layer (float32: {reference:.1%})")
print(f"different values a layer: {min(values)} to {max(values)}, in all {sum(values)}")
assert after > before + 0.2

# %% [markdown]
# Four numbers a layer, 88 in all (and the batch norms), were trained; not one weight changed its cluster. (The batch norms get new statistics in the same
# pass; part of the gain may be theirs.)

# %% [markdown]
# ## 7 · Use it: your functions on the whole network
#
# Four bits a weight, which lost next to nothing even without training. k-means chooses the centroids and your `share_with_zeros` the indices. `save` finds
# the codebooks by itself and writes the file.

# %% tags=["demo"]
mine = {name: use(name) for name in ("share_with_zeros", "pack", "sharing_rate")}
small = copy.deepcopy(network)
with torch.no_grad():
    for w in cc.shareable(small).values():
        codebook, indices = mine["share_with_zeros"](w, cc.kmeans(w, 16).centroids)
        w.copy_(codebook[indices])

size_before, size_after = measure.saved_size(network), cc.save(small, "resnet20-shared.net", huffman=False)
again = cc.load("resnet20-shared.net")
dense_accuracy, accuracy_after = evaluate(network, test), evaluate(again, test)
print(f"{size_before:,} bytes -> {measure.file_size('resnet20-shared.net'):,} bytes: {size_before / size_after:.2f} times smaller")
print(f"accuracy on 2,000 images: {dense_accuracy:.2%} -> {accuracy_after:.2%}")

# %% [markdown]
# Where do the bytes go? `contents` counts every one of them; the indices are what `pack` says, layer by layer.

# %% tags=["demo"]
parts = {}
for part in cc.contents("resnet20-shared.net"):
    weights = part.part if part.tensor.removesuffix(".weight") + ".weight" in layers else "batch norms, biases"
    kind = "header" if part.part == "header" else weights
    parts[kind] = parts.get(kind, 0) + part.size_bytes
print(parts, "together", f"{sum(parts.values()):,}")
print("packed by your function:", sum(mine["pack"](torch.zeros(w.numel(), dtype=torch.int64), 4).numel() for w in layers.values()))

# %% tags=["demo", "nbval-ignore-output"]
ledger = Ledger.open()
by = "yours" if all(function.by == "yours" for function in mine.values()) else "reference"
ledger.add(lesson="11-weight-sharing", step="16 shared values a layer", accuracy=accuracy_after, size_bytes=size_after,
           nonzero=measure.nonzero(again), macs=measure.macs(network, (1, 28, 28)), by=by)
ledger

# %% [markdown]
# Not 8 times, as the formula promises for large layers: the batch norms are in full `float32`, and now they are a twelfth of the file. And nothing is
# *faster*: the weights are looked up once, when the file is loaded, and then they are ordinary `float32` numbers.

# %% [markdown]
# ## 8 · From scratch to the tools people use
#
# scikit-learn's `KMeans` works in any number of dimensions and does not know that ours is one. The 235,200 weights of LeNet-300-100's first layer, 16
# centroids:

# %% tags=["demo"]
from sklearn.cluster import KMeans

column = tailed.reshape(-1, 1).numpy()
theirs = KMeans(16, n_init=1, random_state=0).fit(column)
ratio = theirs.inertia_ / cc.kmeans(tailed, 16).error
print(f"scikit-learn's squared error over ours: {ratio:.3f}")
assert ratio > 0.999  # ours is within a part in a thousand of the best there is

# %% tags=["demo", "nbval-ignore-output"]
measure.latency({"scikit-learn": lambda w: KMeans(16, n_init=1, random_state=0).fit(column), "ours": lambda w: cc.kmeans(w, 16)},
                tailed, warmup=0, repeats=3)

# %% [markdown]
# Both find good codebooks; knowing that there is only one dimension saves most of the time. In practice sharing is rarely used alone:
# Deep Compression prunes first and Huffman-codes last, where the next lesson begins.

# %% [markdown]
# ## 9 · In your own words
#
# ### Question 1 (3 points, graded by a person)
#
# A colleague shares the weights of a network that is 90 % zeros, with 256 clusters a layer found by ten rounds of k-means from a linear beginning, zeros and all,
# stores the indices as they come from NumPy, and reports "4 times smaller". (a) What is wrong with the number? (b) Name two things in the clustering that you would
# change, and what each is worth. (c) After one epoch of ordinary fine-tuning the file is as large as at first. Why, and what would you train instead? Use numbers
# measured in this notebook. (8 sentences at most.)

# %% [markdown] nbgrader={"grade": true, "solution": true, "grade_id": "question-sharing", "points": 3}
# **A model answer.** (a) 4 is 32 bits over 8, but the indices are stored as `int64`: 64 bits, twice the float32 weights (section 2). The codebooks are not counted either: for
# `conv1`, 8 bits make the layer *larger* (section 5). Only the size of the file counts. (b) Zeros must stay out of k-means: otherwise all 270,608 weights are different from 0 again
# instead of 27,061, and the file of section 4 is a sixth larger. And ten rounds from a linear beginning leave clusters empty and the error many times the best (section 3): use
# the exact method, or move empty centroids. With it 4 bits are enough, not 8 (section 5). (c) Every weight has its own gradient, so after a step none is shared. Train the centroids:
# the gradient of each is the sum over its weights (section 6), which took the network with 2 bits from 64.2 % to 92.4 %.
#
# *Rubric:* one point each for (a), (b), (c): half for what is wrong, half for the remedy with a number.

# %% [markdown]
# ## What we measured
#
# | question | answer, from the cells above |
# | --- | --- |
# | What does sharing save? | nearly $32/\lceil\log_2 k\rceil$ in large layers, if indices are packed; less in small ones, whose codebook counts |
# | How good is Lloyd's algorithm? | with 64 centroids more than twice the best error from any beginning, less if empty clusters move |
# | Codebook or grid? | from 4 bits up all are within two points of float32; at 3 a grid needs a scale for each channel to keep up; at 2 only the codebook is left |
# | What about zeros? | outside k-means, as a constant; else pruning is undone |
# | What does training the centroids bring? | at 2 bits most of what was lost |
# | Smaller file, faster network? | smaller only |
#
# **References.** S. Han, H. Mao, W. Dally 2016, *Deep Compression*, arXiv:1510.00149 · S. Lloyd 1982, *Least squares quantization in PCM* · H. Wang, M. Song 2011,
# *Ckmeans.1d.dp: optimal k-means clustering in one dimension by dynamic programming*, The R Journal 3(2) · Y. Gong et al. 2014, *Compressing deep convolutional networks using
# vector quantization*, arXiv:1412.6115.
#
# **Next:** 12, Huffman coding: not all indices are equally frequent.
