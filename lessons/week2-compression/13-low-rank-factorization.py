# %% [markdown]
# # 13 · Low-rank factorization: one layer as two thinner ones
#
# A matrix of 300 × 784 holds 235,200 numbers. If its rows are mostly mixtures of a few patterns, two thin matrices can stand in
# for it: one holds the patterns, the other the mixtures. By the end you will have
#
# - **written** seven functions: the best factors of a matrix, the split of a convolution, and ranks for a whole network,
# - **seen** why trained layers can be cut and random ones cannot, and when two factors are larger than what they replace,
# - **made** a ResNet-20 less than half as large without any training, and measured what that does to its time.
#
# **Before:** lesson 01; what a matrix product is. **You need** about two hours; there are 23 points to check yourself and 3 that a
# person grades. **The machine needs** about 60 s for all cells, 1.3 GB of memory, and no download.

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
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coursekit import compression as cc
from coursekit import data, measure, plot, zoo
from coursekit.ledger import Ledger
from coursekit.notebook import check, hint, solution, use
from coursekit.train import Recipe, evaluate, fit

torch.set_num_threads(1)  # small layers gain little from more, and times stay steady

# %% [markdown]
# ## 1 · How much does a matrix say?
#
# The **singular value decomposition** writes any matrix as a sum of columns times rows, the most important first:
#
# $$W = U\,\mathrm{diag}(\sigma)\,V^\top = \sum_i \sigma_i\, u_i v_i^\top, \qquad \sigma_1 \ge \sigma_2 \ge \dots \ge 0$$
#
# All $u_i$ have length 1 and stand at right angles, and so do all $v_i$. So $\sigma_i$ alone says how much term $i$ counts, and
# $\lVert W \rVert^2 = \sum_i \sigma_i^2$: the squares add up to what is called the **energy** of the matrix.

# %% [markdown]
# Look at the first layer of LeNet-300-100. Beside it: the same weights in random order.

# %% tags=["demo"]
lenet = zoo.load("lenet300")
weight = lenet.fc1.weight.detach()
generator = torch.Generator().manual_seed(0)


def shuffled(w):
    """The same numbers, in random order."""
    return w.flatten()[torch.randperm(w.numel(), generator=generator)].reshape(w.shape)


spectra = {"trained": torch.linalg.svdvals(weight), "same weights, shuffled": torch.linalg.svdvals(shuffled(weight))}
for name, values in spectra.items():
    held = values.square().cumsum(0) / values.square().sum()
    print(f"{name:>22}: the first 10, 30, 100 of {len(values)} hold " + ", ".join(f"{held[r - 1]:.0%}" for r in (10, 30, 100)))

# %% tags=["demo", "nbval-ignore-output"]
plot.lines(range(1, 301), spectra, markers=False, xlabel="index i", ylabel="singular value σᵢ",
           title="A trained layer has a few strong directions");

# %% [markdown]
# Both matrices have the same numbers, the same histogram, the same file size. Codebooks and Huffman codes (lessons 11 and 12) could not
# tell them apart. What differs is how the rows *depend on each other*, and that is what this lesson uses.
#
# Convolutions? Section 5 says how a kernel becomes a matrix. Here is how many of its terms hold 90 %.

# %% tags=["demo"]
resnet = zoo.load("resnet20")
for name in ("stage1.0.conv1", "stage2.1.conv2", "stage3.0.conv2", "stage3.2.conv2"):
    matrix = cc.weight_matrix(resnet.get_submodule(name), spatial=True)
    needed = [cc.rank_for_energy(torch.linalg.svdvals(m), 0.9) for m in (matrix, shuffled(matrix))]
    print(f"{name}: {needed[0]:3d} of {min(matrix.shape)} terms hold 90 %, shuffled {needed[1]:3d}")

# %% [markdown]
# ## 2 · The best approximation
#
# Keep the first $r$ terms and drop the rest. What is lost are the singular values left out, no more and no less:
#
# $$\bigl\lVert W - W_r \bigr\rVert_F = \sqrt{\textstyle\sum_{i>r} \sigma_i^2}$$
#
# No other matrix of rank $r$ comes closer: that is the theorem of **Eckart and Young** (1936). As far as the weights go, there
# is nothing left to search for or to train. We keep $W_r$ as two factors, $L$ of $m \times r$ and $R$ of $r \times n$.

# %% [markdown]
# ### Exercise 1 · `svd_factors` (4 points, about 4 lines)
#
# **Given** a `matrix` `(m, n)` and a `rank` from 1 to `min(m, n)`, **return** `(left, right)`, of shapes `(m, rank)` and `(rank, n)` and the
# dtype of the matrix, such that `left @ right` is the best approximation of that rank.
#
# The singular values may go into the left factor, the right one, or half (their roots) into each. `torch.linalg.svd(matrix,
# full_matrices=False)` is the tool.


# %% nbgrader={"solution": true, "grade_id": "svd_factors"}
def svd_factors(matrix: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Two factors, (m, rank) and (rank, n), whose product is the best approximation of the matrix."""
    ### BEGIN SOLUTION
    u, s, vh = torch.linalg.svd(matrix, full_matrices=False)
    root = s[:rank].sqrt()
    return u[:, :rank] * root, root[:, None] * vh[:rank]
    ### END SOLUTION


# %% tags=["demo", "raises-exception"]
# Look: this matrix is one column times one row, so rank 1 gives it back.
left, right = svd_factors(torch.tensor([[2.0, 4.0, 6.0], [1.0, 2.0, 3.0]]), 1)
print(left.shape, right.shape)
print(left @ right)

# %% nbgrader={"grade": true, "locked": true, "grade_id": "check-svd_factors", "points": 4}
check("svd_factors")

# %% tags=["demo", "nbval-ignore-output"]
hint("svd_factors")

# %% [markdown]
# Does the theorem hold for our layer? And how far off are factors that know nothing of the weights? Many a tutorial's `LowRankLinear` is two
# new layers with *random* weights, in place of a trained one. Its parameter count is right.

# %% tags=["demo"]
values = torch.linalg.svdvals(weight)
print("error as a share of the layer's norm")
for rank in (10, 30, 100):
    left, right = cc.svd_factors(weight, rank)
    error = (weight - left @ right).norm() / weight.norm()
    tail = values[rank:].square().sum().sqrt() / weight.norm()
    torch.manual_seed(0)
    random = nn.Linear(rank, 300).weight.detach() @ nn.Linear(784, rank).weight.detach()
    print(f"rank {rank:3d}: SVD {error:.3f}, tail of σ {tail:.3f}, random factors {(weight - random).norm() / weight.norm():.3f}")

# %% [markdown]
# A layer of zeros would have an error of 1.000. Random factors are worse than that at every rank: they make a new network, not a smaller copy of this one.

# %% [markdown]
# ## 3 · When two are smaller than one
#
# The factors hold $r\,m + r\,n$ numbers, the matrix $m\,n$. A common example, 512 × 512 with ratios of the full rank:

# %% tags=["demo"]
for ratio in (0.125, 0.25, 0.5, 0.75, 1.0):
    rank = int(512 * ratio)
    print(f"{ratio:5.1%} of the full rank: {rank:3d}, {512 * 512 / (rank * 1024):.2f} times smaller")

# %% [markdown]
# At half of the rank nothing is saved, and beyond it the "compressed" layer is larger. With `rank_ratio=0.5`, a common default, a square layer
# shrinks by exactly nothing.

# %% [markdown]
# ### Exercise 2 · `break_even_rank` (2 points, 1 line)
#
# **Given** the sides `m` and `n` of a matrix, **return** the largest rank (an `int`) at which the two factors have *fewer* numbers than the
# matrix; 0 if even rank 1 does not.
#
# 10 × 100 has 1,000 numbers and a rank costs 110: rank 9.


# %% nbgrader={"solution": true, "grade_id": "break_even_rank"}
def break_even_rank(m: int, n: int) -> int:
    """The largest rank whose two factors have fewer numbers than an m x n matrix."""
    ### BEGIN SOLUTION
    return (m * n - 1) // (m + n)
    ### END SOLUTION


# %% tags=["demo", "raises-exception"]
# Look: 9, 255 (256 would save nothing), 0.
print(break_even_rank(10, 100), break_even_rank(512, 512), break_even_rank(1, 50))

# %% nbgrader={"grade": true, "locked": true, "grade_id": "check-break_even_rank", "points": 2}
check("break_even_rank")

# %% tags=["demo", "nbval-ignore-output"]
hint("break_even_rank")

# %% [markdown]
# What does the *network* lose? Cut `fc1` of LeNet-300-100, which holds nine tenths of its weights, to one rank after the
# other, with no training. The bias stays with the second factor.

# %% tags=["demo"]
test = data.fashion_mnist("test", subset=True)  # 2,000 test images that every machine has
most = cc.break_even_rank(300, 784)
ranks = [2, 5, 10, 20, 40, 80, 160, most]
accuracy = {"SVD": [], "random factors": []}
for rank in ranks:
    cut, blind = copy.deepcopy(lenet), copy.deepcopy(lenet)
    cc.factorize_(cut, "fc1", rank)
    torch.manual_seed(0)
    blind.fc1 = nn.Sequential(nn.Linear(784, rank, bias=False), nn.Linear(rank, 300))
    accuracy["SVD"].append(evaluate(cut, test))
    accuracy["random factors"].append(evaluate(blind, test))
whole = evaluate(lenet, test)
print(f"whole: {whole:.1%}; break-even at rank {most}")
for i, rank in enumerate(ranks):
    print(f"rank {rank:3d}, {rank * 1084 / 235200:4.0%} of the weights: SVD {accuracy['SVD'][i]:.1%}, random {accuracy['random factors'][i]:.1%}")

# %% tags=["demo", "nbval-ignore-output"]
plot.lines(ranks, accuracy, percent=True, logx=True, xticks=ranks, references={"whole layer": whole}, xlabel="rank of fc1",
           ylabel="accuracy on 2,000 test images", title="A small rank does, if it is the right one").set_xticklabels(ranks);

# %% [markdown]
# ## 4 · How many? Energy
#
# The rank follows from how much of the energy you want to keep:
#
# $$r = \min\Bigl\{ r : \sum_{i \le r} \sigma_i^2 \ge e \sum_i \sigma_i^2 \Bigr\}$$
#
# It sums squares, not values: the error above is a root of squares, so an energy of 0.9 is a relative error of $\sqrt{0.1} = 0.32$.

# %% [markdown]
# ### Exercise 3 · `rank_for_energy` (3 points, about 3 lines)
#
# **Given** falling `singular_values` and an `energy` above 0 and below 1, **return** the smallest rank (an `int`) whose values hold at
# least that share of the sum of all squares.
#
# The values 3, 1, 1, 1 have squares 9, 1, 1, 1: the first holds 75 %, the first two 83 %. So 0.8 needs rank 2.


# %% nbgrader={"solution": true, "grade_id": "rank_for_energy"}
def rank_for_energy(singular_values: Tensor, energy: float) -> int:
    """The smallest rank that holds this share of the sum of squares."""
    ### BEGIN SOLUTION
    squares = singular_values.double().square()
    held = squares.cumsum(0) / squares.sum()
    return int((held < energy).sum()) + 1
    ### END SOLUTION


# %% tags=["demo", "raises-exception"]
# Look: 2, and 1 for exactly three quarters.
values = torch.tensor([3.0, 1.0, 1.0, 1.0])
print(rank_for_energy(values, 0.8), rank_for_energy(values, 0.75))

# %% nbgrader={"grade": true, "locked": true, "grade_id": "check-rank_for_energy", "points": 3}
check("rank_for_energy")

# %% tags=["demo", "nbval-ignore-output"]
hint("rank_for_energy")

# %% tags=["demo"]
for keep in ((), ("fc3",)):
    for energy in (0.7, 0.8, 0.9, 0.95):
        small, chosen = cc.factorize_network(lenet, energy, keep=keep)
        shown = ", ".join(f"{name} {rank}" for name, rank in chosen.items())
        print(f"{energy:.0%} of the energy: {measure.saved_size(small):9,} bytes, accuracy {evaluate(small, test):.1%}, ranks: {shown}")
print(f"   whole network: {measure.saved_size(lenet):9,} bytes, accuracy {whole:.1%}")

# %% [markdown]
# At 95 % of the energy the accuracy still sticks at 81.2 %. The culprit is the smallest layer: `fc3` has ten directions for ten classes, and
# cutting it to 8 leaves classes that can no longer be told apart. It holds 1,000 of 266,000 weights. Leave it whole, and 36 % of the
# bytes do as well as all.
#
# So a layer's energy does not say what the network needs from it. Section 7 measures that.

# %% [markdown]
# ## 5 · Convolutions are matrices, in more than one way
#
# A kernel $W_{o,i,h,w}$ (output and input channel, row, column) has four indices, a matrix two sides. A **1×1** convolution is a matrix already. For larger ones we must choose which
# indices share a side:
#
# | | rows | columns | becomes | numbers a rank |
# | --- | --- | --- | --- | --- |
# | channel | $o$ | $i, h, w$ | K×K to $r$ channels, then 1×1 | $C_{out} + C_{in} K^2$ |
# | spatial | $i, h$ | $o, w$ | K×1 to $r$ channels, then 1×K | $(C_{in} + C_{out})\, K$ |

# %% [markdown]
# Both start from the trained kernel. A tutorial that replaces the layer by a new "separable convolution" does not:

# %% tags=["demo"]
layer = resnet.stage2[1].conv1  # 32 to 32 channels over 3 x 3
x = torch.randn(8, 32, 14, 14, generator=torch.Generator().manual_seed(0))


def output_error(made):
    """Of the layer's output, relative."""
    with torch.no_grad():
        return ((made(x) - layer(x)).norm() / layer(x).norm()).item()


torch.manual_seed(0)
fresh = nn.Sequential(nn.Conv2d(32, 16, 1, bias=False), nn.Conv2d(16, 16, 3, padding=1, groups=16, bias=False),
                      nn.Conv2d(16, 32, 1, bias=False))
for part in fresh:
    nn.init.kaiming_normal_(part.weight)
ways = {"fresh separable": fresh, "channel, rank 9": cc.factorize_conv(layer, 9), "spatial, rank 15": cc.factorize_conv_spatial(layer, 15)}
for name, made in ways.items():
    print(f"{name:>16}: {measure.n_parameters(made):,} of {layer.weight.numel():,} weights, output error {output_error(made):.2f}")

# %% [markdown]
# A layer of zeros has an error of 1.00. The fresh layer has learnt nothing from the trained one, which no count of its parameters shows.

# %% [markdown]
# ### The spatial split
#
# A kernel of rank 1 is a column times a row: blur down, then across. One such pair is not enough, so $r$ channels run between them:
#
# $$W_{o,i,h,w} \approx \sum_{\rho=1}^{r} H_{o,\rho,w}\; V_{\rho,i,h}$$
#
# For each $\rho$ that is a number for every $(i,h)$ times a number for every $(o,w)$: a term of the SVD of the matrix with rows $(i,h)$ and
# columns $(o,w)$.

# %% [markdown]
# ### Exercise 4 · `spatial_factors` (4 points, about 8 lines)
#
# **Given** a kernel `weight` `(C_out, C_in, K_h, K_w)` and a `rank`, **return** `(vertical, horizontal)`, kernels of shapes
# `(rank, C_in, K_h, 1)` and `(C_out, rank, 1, K_w)`, that are together the best approximation.
#
# The way: `permute` to the order $i, h, o, w$, `reshape` to a matrix, cut it as in exercise 1, and shape both factors
# back into kernels. Only `permute` swaps dimensions; `reshape` keeps the order of the numbers.


# %% nbgrader={"solution": true, "grade_id": "spatial_factors"}
def spatial_factors(weight: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """The kernels (rank, C_in, K_h, 1) and (C_out, rank, 1, K_w) that approximate the kernel best."""
    ### BEGIN SOLUTION
    n_out, n_in, height, width = weight.shape
    matrix = weight.permute(1, 2, 0, 3).reshape(n_in * height, n_out * width)
    u, s, vh = torch.linalg.svd(matrix, full_matrices=False)
    left, right = u[:, :rank] * s[:rank].sqrt(), s[:rank, None].sqrt() * vh[:rank]
    vertical = left.reshape(n_in, height, rank).permute(2, 0, 1)[..., None]
    horizontal = right.reshape(rank, n_out, width).permute(1, 0, 2)[:, :, None]
    return vertical, horizontal
    ### END SOLUTION


# %% tags=["demo", "raises-exception"]
# Look: a blur is separable, so rank 1 gives it back.
blur = torch.tensor([[1.0, 2.0, 1.0], [2.0, 4.0, 2.0], [1.0, 2.0, 1.0]]).reshape(1, 1, 3, 3)
vertical, horizontal = spatial_factors(blur, 1)
print(vertical.shape, horizontal.shape)
print(vertical[0, 0] @ horizontal[0, 0])

# %% nbgrader={"grade": true, "locked": true, "grade_id": "check-spatial_factors", "points": 4}
check("spatial_factors")

# %% tags=["demo", "nbval-ignore-output"]
hint("spatial_factors")

# %% [markdown]
# Which of the two is better? Give every 3×3 convolution of the ResNet a third of its weights, cut both ways.

# %% tags=["demo"]
energy_kept = {"channel": {}, "spatial": {}}
for name, layer in resnet.named_modules():
    if isinstance(layer, nn.Conv2d) and layer.kernel_size == (3, 3):
        for way in energy_kept:
            matrix = cc.weight_matrix(layer, spatial=way == "spatial")
            rank = max(1, matrix.numel() // 3 // sum(matrix.shape))
            squares = torch.linalg.svdvals(matrix).square()
            energy_kept[way][name] = (squares[:rank].sum() / squares.sum()).item()
better = sum(energy_kept["spatial"][name] > energy_kept["channel"][name] for name in energy_kept["channel"])
print(f"the spatial split keeps more energy in {better} of {len(energy_kept['channel'])} convolutions")
for way, kept in energy_kept.items():
    print(f"{way}: {min(kept.values()):.0%} to {max(kept.values()):.0%}, {sum(kept.values()) / len(kept):.0%} on average")

# %% tags=["demo", "nbval-ignore-output"]
numbers = list(range(1, len(energy_kept["channel"]) + 1))
plot.lines(numbers, {way: list(kept.values()) for way, kept in energy_kept.items()}, percent=True, xticks=numbers,
           xlabel="convolution of the ResNet, from the input on", ylabel="energy kept in a third of the weights",
           title="At equal size the spatial split keeps more energy");

# %% [markdown]
# ### Strides, padding, dilation
#
# A convolution is more than its kernel. The vertical half moves down, the horizontal one across, and each takes **its own direction's**
# settings; for the other it takes the neutral ones. If both halves took a stride of 2, the image would shrink by four.

# %% [markdown]
# ### Exercise 5 · `separable_conv2d` (3 points, 2 lines)
#
# **Given** images `x` `(N, C_in, H, W)`, the two kernels, a `bias` `(C_out,)` or `None`, and the `stride`, `padding` and `dilation` of the
# whole convolution, pairs *(vertical, horizontal)*, **return** what that convolution would: `(N, C_out, H', W')`.
#
# `F.conv2d(x, weight, bias, stride, padding, dilation)` takes pairs too.


# %% nbgrader={"solution": true, "grade_id": "separable_conv2d"}
def separable_conv2d(
    x: Tensor,
    vertical: Tensor,
    horizontal: Tensor,
    bias: Tensor | None = None,
    stride: tuple[int, int] = (1, 1),
    padding: tuple[int, int] = (0, 0),
    dilation: tuple[int, int] = (1, 1),
) -> Tensor:
    """The output of a convolution whose kernel was split into K x 1 and 1 x K."""
    ### BEGIN SOLUTION
    y = F.conv2d(x, vertical, None, (stride[0], 1), (padding[0], 0), (dilation[0], 1))
    return F.conv2d(y, horizontal, bias, (1, stride[1]), (0, padding[1]), (1, dilation[1]))
    ### END SOLUTION


# %% tags=["demo", "raises-exception"]
# Look: 28 x 28 with stride 2 and padding 1 leaves 14 x 14.
print(separable_conv2d(torch.ones(1, 1, 28, 28), torch.ones(2, 1, 3, 1), torch.ones(4, 2, 1, 3), None, (2, 2), (1, 1)).shape)

# %% nbgrader={"grade": true, "locked": true, "grade_id": "check-separable_conv2d", "points": 3}
check("separable_conv2d")

# %% tags=["demo", "nbval-ignore-output"]
hint("separable_conv2d")

# %% [markdown]
# At full rank nothing may change, whatever the settings. That is the test to write first for any factorization, for it finds lost strides,
# lost biases and shuffled kernels at once.

# %% tags=["demo"]
import itertools

torch.manual_seed(0)
x, worst, tried = torch.randn(2, 3, 15, 14), 0.0, 0
with torch.no_grad():
    for stride, padding, dilation in itertools.product([1, 2, (1, 2)], [0, 1, (2, 1)], [1, 2, (1, 2)]):
        conv = nn.Conv2d(3, 4, 3, stride, padding, dilation)
        for made in (cc.factorize_conv(conv, 4), cc.factorize_conv_spatial(conv, 9)):
            worst, tried = max(worst, (made(x) - conv(x)).abs().max().item()), tried + 1
print(f"{tried} factorized convolutions; largest difference below 1e-5: {worst < 1e-5}")

# %% [markdown]
# Our functions refuse **grouped** convolutions. A group is a small convolution of its own, and in a depthwise one each kernel serves
# a single channel: there is hardly anything to share.

# %% [markdown]
# ## 6 · What it costs

# %% [markdown]
# ### Exercise 6 · `split_cost` (3 points, about 4 lines)
#
# **Given** `n_in`, `n_out`, `kernel` = $(K_h, K_w)$, `rank`, the input's `size` = $(H, W)$ and a `stride` for both directions, **return**
# `(weights, macs)` of the split, two `int`s, without biases, for one image padded so that a side of $n$ leaves $\lceil n/s \rceil$.
#
# MACs are a half's weights times the places at which it makes an output. Mind the stride: after the vertical half the image has its final
# *height*, but still all its columns. Round up with `-(-n // s)`.


# %% nbgrader={"solution": true, "grade_id": "split_cost"}
def split_cost(
    n_in: int, n_out: int, kernel: tuple[int, int], rank: int, size: tuple[int, int], stride: int = 1
) -> tuple[int, int]:
    """Weights and multiply-accumulates of a convolution split into K x 1 and 1 x K."""
    ### BEGIN SOLUTION
    rows, columns = -(-size[0] // stride), -(-size[1] // stride)
    vertical, horizontal = rank * n_in * kernel[0], n_out * rank * kernel[1]
    return vertical + horizontal, vertical * rows * size[1] + horizontal * rows * columns
    ### END SOLUTION


# %% tags=["demo", "raises-exception"]
# Look: 1,440 weights; 480 of them at 14 x 28 places, 960 at 14 x 14.
print(split_cost(16, 32, (3, 3), 10, (28, 28), stride=2), 480 * 14 * 28 + 960 * 14 * 14)

# %% nbgrader={"grade": true, "locked": true, "grade_id": "check-split_cost", "points": 3}
check("split_cost")

# %% tags=["demo", "nbval-ignore-output"]
hint("split_cost")

# %% [markdown]
# At stride 1 MACs and weights shrink alike. And the time? One layer of 64 channels on 14 × 14, in batches of 16, at more and more rank.

# %% tags=["demo"]
whole_layer = nn.Conv2d(64, 64, 3, padding=1, bias=False)
ranks = [8, 16, 32, 48, 64, 80, 95]
layers = {"whole": whole_layer} | {str(r): cc.factorize_conv_spatial(whole_layer, r) for r in ranks}
dense_macs = measure.macs(whole_layer, (64, 14, 14))
shares = [measure.macs(layers[str(r)], (64, 14, 14)) / dense_macs for r in ranks]
print("rank:             " + "".join(f"{r:7d}" for r in ranks))
print("share of the MACs:" + "".join(f"{s:7.0%}" for s in shares))

# %% tags=["demo", "nbval-ignore-output"]
times = measure.latency(layers, torch.randn(16, 64, 14, 14), repeats=60)
plot.lines(ranks, {"measured time": [times[str(r)].ratio for r in ranks], "MACs": shares}, xticks=ranks, references={"whole layer": 1.0},
           xlabel="rank", ylabel="ratio to the whole layer", title="Time breaks even at a lower rank than MACs do");

# %% [markdown]
# Two layers mean two calls, and the tensor between them is written and read again. PyTorch's 3×3 convolution may also be better tuned than its
# 3×1. So *time* breaks even at a lower rank than *bytes*. The bytes you can count beforehand; the time you must measure.

# %% [markdown]
# ## 7 · A rank for every layer
#
# A third of the weights for every layer is an arbitrary choice. Three better ways to spend a budget of bytes:
#
# - **energy**: the same share for every layer;
# - **greedy**: start at the break-even ranks; while the factors are too large, take away the singular value that costs least *for what it
#   saves*;
# - **sensitivity**: cut one layer at a time and measure what the network loses.

# %% [markdown]
# Greedy must compare layers. Zhang et al. (2016) maximize the **product** of the energies' shares: what one layer loses, no later layer can bring back.

# %% [markdown]
# ### Exercise 7 · `greedy_ranks` (4 points, about 10 lines)
#
# **Given** `singular_values` (a dict, layer to falling tensor), `shapes` (layer to `(m, n)`) and a `budget` of numbers, **return** a dict of
# ranks. All layers start at their break-even rank, `(m * n - 1) // (m + n)`. While the factors, $r(m+n)$ each, have more numbers than the
# budget, the layer with the lowest price loses one rank:
#
# $$\text{price} = \frac{\sigma_r^2}{\sum_{i \le r} \sigma_i^2} \cdot \frac{1}{m + n}$$
#
# No layer goes below rank 1. The budget can always be met.


# %% nbgrader={"solution": true, "grade_id": "greedy_ranks"}
def greedy_ranks(
    singular_values: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, int]], budget: int
) -> dict[str, int]:
    """A rank for every layer, such that all factors together have at most `budget` numbers."""
    ### BEGIN SOLUTION
    ranks = {name: (m * n - 1) // (m + n) for name, (m, n) in shapes.items()}
    squares = {name: values.double().square() for name, values in singular_values.items()}

    def price(name: str) -> float:
        held = squares[name][: ranks[name]]
        return (held[-1] / held.sum()).item() / sum(shapes[name])

    while sum(rank * sum(shapes[name]) for name, rank in ranks.items()) > budget:
        ranks[min((name for name in ranks if ranks[name] > 1), key=price)] -= 1
    return ranks
    ### END SOLUTION


# %% tags=["demo", "raises-exception"]
# Look: b's second value holds 1/400 of its energy, a's second a fifth: b gives way first, a keeps two.
print(greedy_ranks({"a": torch.tensor([2.0, 1.0, 1.0]), "b": torch.tensor([2.0, 0.1, 0.1])}, {"a": (8, 4), "b": (8, 4)}, 40))

# %% nbgrader={"grade": true, "locked": true, "grade_id": "check-greedy_ranks", "points": 4}
check("greedy_ranks")

# %% tags=["demo", "nbval-ignore-output"]
hint("greedy_ranks")

# %% [markdown]
# ### What the network can spare
#
# Energy is a guess: it weighs all directions alike, whether the data use them or not. So ask the network. `rank_scan` cuts each layer alone to a
# quarter, a half and three quarters of its break-even rank and measures how the loss rises on 200 **training** images; the test set
# chooses nothing. (About 15 s.)

# %% tags=["demo"]
train = data.fashion_mnist("train", subset=True)
few = data.Dataset(train.images[-200:], train.labels[-200:], train.classes, "the end of the training images")
scan = cc.rank_scan(resnet, few, (0.25, 0.5, 0.75), spatial=True)
rise = {name: losses[0] for name, losses in scan.losses.items()}
print(f"{len(rise)} layers at a quarter of their break-even rank; the loss rises by more than 0.02 in {sum(r > 0.02 for r in rise.values())}:")
for name, value in sorted(rise.items(), key=lambda item: -item[1])[:5]:
    print(f"{name:>20}: rank {scan.ranks[name][0]:2d}, loss {value:+.2f}")

# %% tags=["demo", "nbval-ignore-output"]
dearest = dict(sorted(rise.items(), key=lambda item: -item[1])[:5])
plot.bars({name.replace(".conv", "\nconv").replace(".short", "\nshort"): value for name, value in dearest.items()}, fmt="{:.2f}", ylabel="rise of the loss (nats)",
          title="Cut to a quarter of break-even, two of 22 layers hurt");

# %% [markdown]
# Now spend the same number of weights in four ways. The third is your greedy with one more choice, to leave a layer **whole**, at the price
# of its full matrix. The fourth is the third with measured losses in place of energies. Accuracy is on 500 held-out training images.

# %% tags=["demo"]
held_out = data.Dataset(train.images[-500:], train.labels[-500:], train.classes, "the end of the training images")
layers = cc.factorizable(resnet, spatial=True)
matrices = {name: cc.weight_matrix(layer, spatial=True) for name, layer in layers.items()}
singular_values = {name: torch.linalg.svdvals(matrix) for name, matrix in matrices.items()}
shapes = {name: tuple(matrix.shape) for name, matrix in matrices.items()}
dense = sum(matrix.numel() for matrix in matrices.values())
table = cc.energy_table(resnet, spatial=True)
curves = {"same energy": [], "greedy": [], "greedy, whole layers allowed": [], "measured loss": []}
left = []
for energy in (0.95, 0.9, 0.85):
    same, _ = cc.factorize_network(resnet, energy, spatial=True)
    weights = sum(p.numel() for name in layers for p in same.get_submodule(name).parameters() if p.dim() > 1)
    chosen = [cc.greedy_ranks(singular_values, shapes, weights), cc.ranks_for_budget(table, 4 * weights), cc.ranks_for_budget(scan, 4 * weights)]
    networks = [same] + [cc.factorize_ranks(resnet, ranks, spatial=True) for ranks in chosen]
    left.append(weights / dense)
    for way, network in zip(curves, networks, strict=True):
        curves[way].append(evaluate(network, held_out))
print(f"{'share of the weights':>28}:" + "".join(f"{share:7.0%}" for share in left))
for way, row in curves.items():
    print(f"{way:>28}:" + "".join(f"{a:7.1%}" for a in row))
print(f"{'whole network':>28}: {evaluate(resnet, held_out):.1%}")

# %% tags=["demo", "nbval-ignore-output"]
plot.lines([100 * share for share in left], curves, percent=True, references={"whole network": evaluate(resnet, held_out)}, xlabel="weights left (%)",
           ylabel="accuracy on 500 held-out images", title="The scarcer the weights, the more it matters where they go");

# %% [markdown]
# Two points of difference on 500 images may be chance; six are not. The same energy everywhere breaks down where weights are scarce. Plain greedy
# must cut every layer, the last one included; allowed to leave that one whole, it loses next to nothing at 64 % of the weights.
# Where the budget is tight, measured losses do best: 93.8 % with 38 % of the weights, and nothing has been trained yet.

# %% [markdown]
# ### Use it: a fifth of the weights, with your own functions

# %% tags=["demo"]
mine = {name: use(name) for name in ("greedy_ranks", "spatial_factors")}
cut = [name for name, layer in layers.items() if getattr(layer, "kernel_size", None) == (3, 3) and name != "conv1"]
weights = sum(matrices[name].numel() for name in cut)
ranks = mine["greedy_ranks"]({name: singular_values[name] for name in cut}, {name: shapes[name] for name in cut}, weights // 5)
small = copy.deepcopy(resnet)
for name, rank in ranks.items():
    halves = cc.factorize_conv_spatial(layers[name], rank)  # the two convolutions with their settings; the kernels are yours
    with torch.no_grad():
        for half, kernel in zip(halves, mine["spatial_factors"](layers[name].weight.detach(), rank), strict=True):
            half.weight.copy_(kernel)
    cc.replace_module_(small, name, halves)
before, after = measure.saved_size(resnet), measure.saved_size(small)
print(f"file: {before:,} -> {after:,} bytes, {before / after:.1f} times smaller")
print(f"MACs: {measure.macs(resnet, (1, 28, 28)):,} -> {measure.macs(small, (1, 28, 28)):,}")
reference = evaluate(resnet, test)
print(f"accuracy on 2,000 test images: {reference:.2%} -> {evaluate(small, test):.2%}")

# %% [markdown]
# A third of the right answers is gone. But these factors are a far better start for training than fresh
# weights. One pass over 5,000 training images, with a small learning rate (about 20 s):

# %% tags=["demo", "varies"]
torch.manual_seed(0)
fit(small, train.take(5000), Recipe(epochs=1, batch_size=64, peak_lr=0.02), progress=False)
tuned = evaluate(small, test)
print(f"accuracy on 2,000 test images after fine-tuning: {tuned:.1%}, of the whole network {reference:.1%}")

# %% [markdown]
# And the time? Beside it a network cut to *half* of the weights.

# %% tags=["demo"]
half = cc.factorize_ranks(resnet, cc.greedy_ranks({n: singular_values[n] for n in cut}, {n: shapes[n] for n in cut}, weights // 2), spatial=True)
networks = {"whole": resnet, "half the weights": half, "a fifth": small}
for name, network in networks.items():
    print(f"{name:>16}: {measure.macs(network, (1, 28, 28)) / measure.macs(resnet, (1, 28, 28)):.0%} of the MACs")

# %% tags=["demo", "nbval-ignore-output"]
times = {n: measure.latency(networks, test.images[:n], warmup=2, repeats=r) for n, r in ((1, 40), (64, 7))}
for name in networks:
    print(f"{name:>16}: " + ", ".join(f"{ratios[name].ratio:.2f} of the time for a batch of {n}" for n, ratios in times.items()))
ledger = Ledger.open()
by = "yours" if all(function.by == "yours" for function in mine.values()) else "reference"
ledger.add(lesson="13-low-rank-factorization", step="3x3 convolutions split, a fifth of their weights", accuracy=tuned, size_bytes=after,
           nonzero=measure.nonzero(small), macs=measure.macs(small, (1, 28, 28)), latency_ratio=times[64]["a fifth"].ratio, by=by)
ledger

# %% [markdown]
# On our machine the network with half of the weights is *slower* on a batch of 64. The one with a fifth is faster, though by less than its MACs promise: there are
# nearly twice as many layers, and a tensor to write and read between each pair. Factors save bytes first, time second.

# %% [markdown]
# ## 8 · From scratch to the tools people use
#
# A full SVD of an $m \times n$ matrix costs about $m\,n\,\min(m, n)$ operations and finds *all* terms. If only the first few are wanted,
# **randomized** methods (Halko et al. 2011) multiply the matrix with a few random vectors and factorize what comes out: about $m\,n\,r$.
# `torch.svd_lowrank` and scikit-learn's `TruncatedSVD` do that.

# %% tags=["demo"]
from sklearn.decomposition import TruncatedSVD

rank, best = 30, torch.linalg.svdvals(weight)[30:].norm().item()
torch.manual_seed(0)
u, s, v = torch.svd_lowrank(weight, q=rank, niter=2)
errors = {"torch.svd_lowrank": (weight - u * s @ v.T).norm().item()}
sketch = TruncatedSVD(rank, n_iter=2, random_state=0).fit(weight.numpy())
errors["TruncatedSVD"] = (weight - torch.from_numpy(sketch.inverse_transform(sketch.transform(weight.numpy())))).norm().item()
left, right = cc.svd_factors(weight, rank)
errors["svd_factors"] = (weight - left @ right).norm().item()
for name, error in errors.items():
    print(f"{name:>18}: error {error / best:.2f} times the least possible")

# %% tags=["demo", "nbval-ignore-output"]
times = measure.latency({"svd_factors": lambda w: cc.svd_factors(w, 30), "svd_lowrank": lambda w: torch.svd_lowrank(w, q=30, niter=2)}, weight, repeats=10)
print(f"torch.svd_lowrank takes {times['svd_lowrank'].ratio:.2f} of the time of the full SVD in float64")

# %% [markdown]
# For layers of this size the exact method takes milliseconds, once. Randomized methods pay at sides of many thousands, as in language
# models. There you also meet two such factors in another role: **LoRA** leaves $W$ as it is and trains only $L$ and $R$ in $W + L R$, at a small rank.

# %% [markdown]
# ## 9 · In your own words
#
# ### Question 4 (3 points, graded by a person)
#
# What are the computational complexity implications of different decomposition methods? For a convolution of $C$ to $C$ channels over
# $K \times K$ on $H \times W$ places at stride 1, give the weights and MACs of (a) the channel split and (b) the spatial split at rank $r$, and
# the rank at which each breaks even. (c) What does finding the factors cost, and how often is that paid? Why can a network with fewer
# MACs be no faster? Use numbers measured in this notebook. (8 sentences at most.)

# %% [markdown] nbgrader={"grade": true, "solution": true, "grade_id": "question-decomposition-cost", "points": 3}
# **A model answer.** Dense: $C^2K^2$ weights, each used at $HW$ places. (a) $r\,(CK^2 + C)$ weights, breaking even at
# $r \approx C K^2/(K^2+1)$, nine tenths of the full rank for $K = 3$. (b) $2\,r\,C K$ weights, breaking even at $r \approx C K/2$, half of the
# full rank. MACs are weights times $HW$ in both; with a stride the vertical half of (b) makes more places than the output has. (Tucker-2 and CP, in
# lesson 14, put more and thinner layers in its place: about $2Cr + r^2K^2$ and $r\,(2C + 2K)$ weights.)
#
# (c) The SVD costs about $mn\min(m,n)$ once, before deployment: milliseconds here; randomized methods need $mnr$. At inference each factor is a call of
# its own, and the tensor between them is written and read: in section 6 the time broke even at a lower rank than the MACs, and in section 7 the ResNet
# with half of its weights and 71 % of its MACs was no faster in batches of 64.
#
# *Rubric:* one point each for (a) and (b) with their break-even, and for (c): half for the cost of finding and when it is paid, half for calls and memory
# traffic with a measured number.

# %% [markdown]
# ## What we measured
#
# | question | answer, from the cells above |
# | --- | --- |
# | Is a trained layer of low rank? | fc1's first 100 of 300 terms hold 95 % of its energy, those of the same weights shuffled 58 % |
# | How near can two factors come? | as near as the tail of the singular values, and never nearer; random factors are worse than zeros |
# | When do they save? | below $mn/(m+n)$: for a square at half of the full rank |
# | Channel or spatial? | spatial: more energy at equal size in all 19 convolutions of 3×3 |
# | Which ranks? | measured losses or greedy with whole layers; the same energy everywhere is 5 to 7 points behind at 38 % of the weights |
# | What does fine-tuning bring back? | a fifth of the weights: less than two thirds right before, more than 92 % after one pass over 5,000 images, 95 % whole; the file is more than 4 times smaller |
# | Are they faster? | later than the MACs say: a layer's time breaks even at a lower rank, and half of the weights saved no time |
#
# **References.** C. Eckart and G. Young 1936, *The approximation of one matrix by another of lower rank* · M. Denil et al. 2013, *Predicting
# parameters in deep learning*, arXiv:1306.0543 · M. Jaderberg et al. 2014, *Speeding up convolutional neural networks with low rank expansions*,
# arXiv:1405.3866 · C. Tai et al. 2016, *Convolutional neural networks with low-rank regularization*, arXiv:1511.06067 · X. Zhang et al. 2016,
# *Accelerating very deep convolutional networks for classification and detection*, arXiv:1505.06798 · N. Halko et al. 2011, *Finding structure with
# randomness*, arXiv:0909.4061 · E. Hu et al. 2022, *LoRA*, arXiv:2106.09685.
#
# **Next:** 14, tensor decomposition: the kernel as what it is, with four sides.
