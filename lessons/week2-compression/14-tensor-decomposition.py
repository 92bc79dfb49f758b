# %% [markdown]
# # 14 · Tensor decomposition: the kernel as what it is, with four sides
#
# Lesson 13 pressed a kernel into a matrix and cut that. A kernel has four sides, and there is something to save along more than one of them.
# By the end you will have
#
# - **written** five functions: unfolding, the product along a mode, Tucker-2 factors, their three convolutions, and a CP kernel,
# - **seen** the test that finds a wrong decomposition at once, and a fit whose parts grow without bound,
# - **measured** a ResNet-20 with all its 3×3 kernels decomposed, beside the spatial split at equal weights, before and after fine-tuning.
#
# **Before:** lesson 13. **You need** about two hours; there are 16 points to check yourself and 3 that a person grades. **The machine
# needs** about 65 s for all cells, 1.3 GB of memory, and no download.

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
import itertools

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
# ## 1 · More than a matrix
#
# A kernel $W_{o,i,h,w}$ has four indices. To call it a matrix we had to choose which of them share a side, and each choice sees one kind of
# repetition only: the channel split finds outputs that repeat each other, the spatial split something in between.

# %% [markdown]
# But the *inputs* may repeat each other too. A tensor decomposition cuts several sides, called **modes**, at the same time.
#
# To look along one mode, we lay the tensor out as a matrix with that mode as its rows. This is the **unfolding** $W_{(n)}$.

# %% [markdown]
# ### Exercise 1 · `unfold` (2 points, 1 line)
#
# **Given** a `tensor` and a `mode` (from 0), **return** the matrix whose row $i$ holds all elements with index $i$ in that mode. The other modes
# keep their order along the columns, the last of them running fastest, as `reshape` does.
#
# A kernel (64, 32, 3, 3) unfolds to 64 × 288 in mode 0 and to 32 × 576 in mode 1.


# %% nbgrader={"solution": true, "grade_id": "unfold"}
def unfold(tensor: Tensor, mode: int) -> Tensor:
    """The tensor as a matrix: one row for each index of this mode."""
    ### BEGIN SOLUTION
    return tensor.movedim(mode, 0).flatten(1)
    ### END SOLUTION


# %% tags=["demo", "raises-exception"]
# Look: in mode 1, 0 1 4 5 share an index; in mode 2, the even ones do.
cube = torch.arange(8).reshape(2, 2, 2)
for mode in range(3):
    print(mode, unfold(cube, mode).tolist())

# %% nbgrader={"grade": true, "locked": true, "grade_id": "check-unfold", "points": 2}
check("unfold")

# %% tags=["demo", "nbval-ignore-output"]
hint("unfold")

# %% [markdown]
# How much does each channel mode of a trained kernel repeat itself? Its unfolding's singular values say so, as in lesson 13. Beside it, the
# same weights shuffled.

# %% tags=["demo"]
resnet = zoo.load("resnet20")
layer = resnet.get_submodule("stage3.1.conv1")  # 64 to 64 channels, 3 x 3
kernel = layer.weight.detach()
order = torch.randperm(kernel.numel(), generator=torch.Generator().manual_seed(0))
mixed = kernel.flatten()[order].reshape(kernel.shape)
held = {}
for name, mode, weights in (("outputs (mode 0)", 0, kernel), ("inputs (mode 1)", 1, kernel), ("outputs, shuffled", 0, mixed)):
    squares = torch.linalg.svdvals(cc.unfold(weights, mode)).square()
    held[name] = (squares.cumsum(0) / squares.sum()).tolist()
    print(f"{name:>18}: 16 of 64 directions hold {held[name][15]:.0%} of the energy, 32 hold {held[name][31]:.0%}")

# %% tags=["demo", "nbval-ignore-output"]
plot.lines(range(1, 65), held, percent=True, markers=False, xlabel="directions kept", ylabel="energy held",
           title="Outputs and inputs both repeat themselves");

# %% [markdown]
# ## 2 · Multiplying along a mode
#
# A matrix is multiplied from the left or from the right. A tensor has as many ways as it has modes. In the **mode-n product**
# $\mathcal{X} \times_n A$ every vector along mode $n$ is multiplied by $A$:
#
# $$(\mathcal{X} \times_n A)_{\dots j \dots} = \sum_i A_{ji}\, \mathcal{X}_{\dots i \dots} \qquad\Longleftrightarrow\qquad
# (\mathcal{X} \times_n A)_{(n)} = A\, \mathcal{X}_{(n)}$$
#
# For a matrix $X$: $X \times_0 A = A X$ and $X \times_1 A = X A^\top$.

# %% [markdown]
# ### Exercise 2 · `mode_product` (3 points, 1 to 3 lines)
#
# **Given** a `tensor`, a `matrix` `(m, n)` and a `mode` whose side is `n`, **return** the product: the same shape, with `m` in place of `n`.
#
# One way: unfold, multiply, fold back. Another: `torch.tensordot`, and then mind where it puts the new side.


# %% nbgrader={"solution": true, "grade_id": "mode_product"}
def mode_product(tensor: Tensor, matrix: Tensor, mode: int) -> Tensor:
    """The tensor with every vector along this mode multiplied by the matrix."""
    ### BEGIN SOLUTION
    return torch.tensordot(tensor, matrix, dims=([mode], [1])).movedim(-1, mode)
    ### END SOLUTION


# %% tags=["demo", "raises-exception"]
# Look: mode 1 of (2, 3, 4) goes from 3 to 5.
print(mode_product(torch.ones(2, 3, 4), torch.ones(5, 3), 1).shape)

# %% nbgrader={"grade": true, "locked": true, "grade_id": "check-mode_product", "points": 3}
check("mode_product")

# %% tags=["demo", "nbval-ignore-output"]
hint("mode_product")

# %% [markdown]
# You have used one all along. A 1×1 convolution multiplies the *channels* of the images, which are mode 1, by a matrix:

# %% tags=["demo"]
generator = torch.Generator().manual_seed(0)
x, matrix = torch.randn(8, 64, 7, 7, generator=generator), torch.randn(10, 64, generator=generator)
same = torch.allclose(F.conv2d(x, matrix[:, :, None, None]), cc.mode_product(x, matrix, 1), atol=1e-4)
print(f"a 1x1 convolution is a product in mode 1: {same}")

# %% [markdown]
# ## 3 · Tucker-2
#
# Give the outputs a basis $A$ of $r_o$ vectors, the inputs a basis $B$ of $r_i$, and keep a small **core** that says how they meet:
#
# $$W \approx G \times_0 A \times_1 B, \qquad G: (r_o, r_i, K_h, K_w), \quad A: (C_{out}, r_o), \quad B: (C_{in}, r_i)$$
#
# It is called Tucker-**2**, for two of the four modes are cut. Height and width are left alone: they have three directions each, and there
# is nothing to gain in three.

# %% [markdown]
# ### Exercise 3 · `tucker2_factors` (5 points, about 4 lines)
#
# **Given** a kernel `weight` `(C_out, C_in, K_h, K_w)`, `rank_out` and `rank_in`, **return** `(core, outputs, inputs)`, of the shapes above and the
# dtype of the kernel.
#
# For each channel mode take the first left singular vectors of its unfolding. This is the **higher-order SVD** (HOSVD). The best core for two
# orthonormal bases is the kernel seen in them, $G = W \times_0 A^\top \times_1 B^\top$.


# %% nbgrader={"solution": true, "grade_id": "tucker2_factors"}
def tucker2_factors(weight: Tensor, rank_out: int, rank_in: int) -> tuple[Tensor, Tensor, Tensor]:
    """Core, basis of the outputs and basis of the inputs of a kernel."""
    ### BEGIN SOLUTION
    outputs = torch.linalg.svd(weight.flatten(1), full_matrices=False).U[:, :rank_out]
    inputs = torch.linalg.svd(weight.transpose(0, 1).flatten(1), full_matrices=False).U[:, :rank_in]
    return torch.einsum("oihw,oa,ib->abhw", weight, outputs, inputs), outputs, inputs
    ### END SOLUTION


# %% tags=["demo", "raises-exception"]
# Look: (16, 24, 3, 3), (64, 16), (64, 24).
print([tuple(part.shape) for part in tucker2_factors(kernel, 16, 24)])

# %% nbgrader={"grade": true, "locked": true, "grade_id": "check-tucker2_factors", "points": 5}
check("tucker2_factors")

# %% tags=["demo", "nbval-ignore-output"]
hint("tucker2_factors")

# %% [markdown]
# ### The test to write first
#
# At full rank the kernel must come back. A common tutorial decomposes **all four** modes, makes convolutions of the core and the two channel bases, and
# drops the bases of height and width. Its counts are right:

# %% tags=["demo"]
from tensorly.decomposition import partial_tucker, tucker


def kernel_error(core, outputs, inputs):
    """Of the kernel that the parts make, relative."""
    made = cc.mode_product(cc.mode_product(core, outputs, 0), inputs, 1)
    return ((made - kernel).norm() / kernel.norm()).item()


core, bases = tucker(kernel.numpy(), rank=[64, 64, 3, 3])
dropped = kernel_error(*(torch.from_numpy(part.copy()) for part in (core, bases[0], bases[1])))
print(f"Tucker-2 at full ranks: error below 1e-5: {kernel_error(*cc.tucker2_factors(kernel, 64, 64)) < 1e-5}")
print(f"four modes at full ranks, two bases dropped: error {dropped:.2f}")

# %% [markdown]
# A kernel of zeros has an error of 1.00. The core lives in turned coordinates of height and width, and nobody turns it back.

# %% [markdown]
# ### How good is HOSVD?
#
# For a matrix, singular vectors were the best. Here they are only good: each basis is found as if the other side were not cut. The squared
# error is at most the sum of what both cuts lose (De Lathauwer et al. 2000). **HOOI** takes turns: it finds one basis again with the other one fixed. That
# is what `partial_tucker` does.

# %% tags=["demo"]
print("relative error of the kernel")
for rank in (8, 16, 32, 48):
    (core, bases), _ = partial_tucker(kernel.numpy(), rank=[rank, rank], modes=[0, 1], init="svd")
    hooi = kernel_error(*(torch.from_numpy(part.copy()) for part in (core, *bases)))
    lost = [torch.linalg.svdvals(cc.unfold(kernel, mode))[rank:].square().sum() for mode in (0, 1)]
    bound = (sum(lost).sqrt() / kernel.norm()).item()
    print(f"ranks {rank:2d}, {rank:2d}: HOSVD {kernel_error(*cc.tucker2_factors(kernel, rank, rank)):.4f}, HOOI {hooi:.4f}, bound {bound:.4f}")

# %% [markdown]
# HOOI wins, by little. HOSVD is two SVDs and no loop.

# %% [markdown]
# ## 4 · Three convolutions
#
# Each part is a convolution. The image goes through them from the inputs' side on: into the basis of the inputs (1×1), through the core
# (K×K), out of the basis of the outputs (1×1).

# %% [markdown]
# ### Exercise 4 · `tucker2_kernels` (3 points, 1 line)
#
# **Given** `core`, `outputs` and `inputs` as above, **return** the kernels `(first, middle, last)` of the three convolutions in the order in which
# they run. Write down the four sides of each before you start.


# %% nbgrader={"solution": true, "grade_id": "tucker2_kernels"}
def tucker2_kernels(core: Tensor, outputs: Tensor, inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The kernels of the 1 x 1, the K x K and the 1 x 1 convolution."""
    ### BEGIN SOLUTION
    return inputs.t()[:, :, None, None], core, outputs[:, :, None, None]
    ### END SOLUTION


# %% tags=["demo", "raises-exception"]
# Look: (24, 64, 1, 1), (16, 24, 3, 3), (64, 16, 1, 1).
print([tuple(k.shape) for k in tucker2_kernels(torch.zeros(16, 24, 3, 3), torch.zeros(64, 16), torch.zeros(64, 24))])

# %% nbgrader={"grade": true, "locked": true, "grade_id": "check-tucker2_kernels", "points": 3}
check("tucker2_kernels")

# %% tags=["demo", "nbval-ignore-output"]
hint("tucker2_kernels")

# %% [markdown]
# Stride, padding and dilation belong to the middle one, the bias to the last. At full rank, with every setting, nothing may change:

# %% tags=["demo"]
def chain(layer, kernels):
    """Three convolutions with these kernels and the layer's settings."""
    r_in, r_out = kernels[1].shape[1], kernels[1].shape[0]
    parts = nn.Sequential(
        nn.Conv2d(layer.in_channels, r_in, 1, bias=False),
        nn.Conv2d(r_in, r_out, layer.kernel_size, layer.stride, layer.padding, layer.dilation, bias=False),
        nn.Conv2d(r_out, layer.out_channels, 1, bias=layer.bias is not None))
    with torch.no_grad():
        for part, weight in zip(parts, kernels, strict=True):
            part.weight.copy_(weight)
        if layer.bias is not None:
            parts[2].bias.copy_(layer.bias)
    return parts


torch.manual_seed(0)
x, worst, tried = torch.randn(2, 3, 15, 14), 0.0, 0
with torch.no_grad():
    for stride, padding, dilation in itertools.product([1, 2, (1, 2)], [0, 1, (2, 1)], [1, 2, (1, 2)]):
        conv = nn.Conv2d(3, 4, 3, stride, padding, dilation)
        made = chain(conv, cc.tucker2_kernels(*cc.tucker2_factors(conv.weight, 4, 3)))
        worst, tried = max(worst, (made(x) - conv(x)).abs().max().item()), tried + 1
print(f"{tried} decomposed convolutions; largest difference below 1e-5: {worst < 1e-5}")

# %% [markdown]
# ### What it costs
#
# $C_{in}\, r_i + r_i\, r_o\, K^2 + r_o\, C_{out}$ weights. The expensive term has *both* ranks in it: half of the channels on both sides is a quarter of
# the core. Beside it the spatial split of lesson 13 at as many weights:

# %% tags=["demo"]
whole = nn.Conv2d(64, 64, 3, padding=1, bias=False)
layers = {"whole": whole}
for rank in (16, 32, 48):
    layers[f"Tucker {rank}"] = cc.tucker2_conv(whole, rank, rank)
    split_rank = sum(p.numel() for p in layers[f"Tucker {rank}"].parameters()) // (3 * 128)
    layers[f"split {split_rank}"] = cc.factorize_conv_spatial(whole, split_rank)
for name, made in layers.items():
    weights, macs = measure.n_parameters(made), measure.macs(made, (64, 14, 14))
    print(f"{name:>9}: {weights:6,} weights, {weights / 36864:4.0%}; {macs / measure.macs(whole, (64, 14, 14)):4.0%} of the MACs; {len(list(made.modules())) - 1 or 1} layers")

# %% tags=["demo", "nbval-ignore-output"]
times = measure.latency(layers, torch.randn(16, 64, 14, 14), repeats=60)
plot.bars({name.replace(" ", "\n"): times[name].ratio for name in layers}, fmt="{:.2f}", ylabel="time, as a ratio to the whole layer",
          title="Fewer weights do not mean as much less time");

# %% [markdown]
# ## 5 · Which ranks?
#
# **Energy** is one answer: for each unfolding the smallest rank that holds, say, 90 %. It needs a number from you.
#
# **EVBMF** needs none. It asks which singular values stand out of what pure noise would make, and estimates the noise from the matrix itself
# (Nakajima et al. 2013; Kim et al. 2016 use it for Tucker-2). A model of noise is not a measure of what the network needs, so see it as a start.

# %% tags=["demo"]
names = [n for n, m in resnet.named_modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3) and n != "conv1"]
evbmf = {name: cc.tucker_ranks(resnet.get_submodule(name)) for name in names}
print("ranks (outputs, inputs)    energy 90 %     EVBMF")
for name in names[::3]:
    weight = resnet.get_submodule(name).weight.detach()
    energy = tuple(cc.rank_for_energy(torch.linalg.svdvals(cc.unfold(weight, mode)), 0.9) for mode in (0, 1))
    print(f"{name}, {weight.shape[1]:2d} to {weight.shape[0]:2d}:   {energy!s:>10}   {evbmf[name]!s:>10}")

# %% [markdown]
# ## 6 · CP: four thin ones
#
# Cut until nothing is left to cut: a sum of products of four **vectors**, one for each side.
#
# $$W_{o,i,h,w} \approx \sum_{r=1}^{R} A_{o,r}\, B_{i,r}\, C_{h,r}\, D_{w,r}$$
#
# It is called **CP** (canonical polyadic). It runs as four convolutions: 1×1 to $R$ channels, K×1 and 1×K on each channel alone, 1×1 out: only
# $R\,(C_{out} + C_{in} + K_h + K_w)$ weights (Lebedev et al. 2015).

# %% [markdown]
# ### Exercise 5 · `cp_kernel` (3 points, 1 line)
#
# **Given** `outputs` `(C_out, R)`, `inputs` `(C_in, R)`, `columns` `(K_h, R)` and `rows` `(K_w, R)`, **return** the kernel
# `(C_out, C_in, K_h, K_w)`.


# %% nbgrader={"solution": true, "grade_id": "cp_kernel"}
def cp_kernel(outputs: Tensor, inputs: Tensor, columns: Tensor, rows: Tensor) -> Tensor:
    """The kernel that the four factors make."""
    ### BEGIN SOLUTION
    return torch.einsum("or,ir,hr,wr->oihw", outputs, inputs, columns, rows)
    ### END SOLUTION


# %% tags=["demo", "raises-exception"]
# Look: [[6, 30], [6, 30]], twice (1, 1) times 3 times (1, 5).
print(cp_kernel(torch.tensor([[2.0]]), torch.tensor([[3.0]]), torch.ones(2, 1), torch.tensor([[1.0], [5.0]])))

# %% nbgrader={"grade": true, "locked": true, "grade_id": "check-cp_kernel", "points": 3}
check("cp_kernel")

# %% tags=["demo", "nbval-ignore-output"]
hint("cp_kernel")

# %% [markdown]
# ### Parts that grow
#
# There is no SVD for this. The factors are fitted in turns, each by least squares with the others fixed. And something happens that matrices do not
# know: a best fit may not *exist* (de Silva and Lim 2008). The error then falls for ever, while single products grow and cancel each other. Such layers
# are hard to fine-tune: a small step in one product is large beside their sum.

# %% [markdown]
# A small penalty on the size of the products, a **ridge**, holds them down. On a kernel of our ResNet:

# %% tags=["demo"]
small_layer = resnet.get_submodule("stage1.1.conv1")  # 16 to 16 channels


def cp_factors(layer, rank, **options):
    """The four factors that `cp_conv` fitted."""
    first, down, across, last = (part.weight.detach() for part in cc.cp_conv(layer, rank, **options))
    return last[:, :, 0, 0], first[:, :, 0, 0].t(), down[:, 0, :, 0].t(), across[:, 0, 0].t()


steps, sizes = (10, 30, 100, 300, 1000), {"left to itself": [], "with a ridge": []}
norm = small_layer.weight.detach().norm()
for name, ridge in (("left to itself", 0.0), ("with a ridge", 1e-3)):
    for n in steps:
        factors = cp_factors(small_layer, 16, ridge=ridge, n_iterations=n)
        products = torch.stack([factor.norm(dim=0) for factor in factors]).prod(0)
        sizes[name].append((products.max() / norm).item())
        error = (cc.cp_kernel(*factors) - small_layer.weight.detach()).norm() / norm
        print(f"{name:>14}, {n:4d} steps: error {error:.2f}, largest product {sizes[name][-1]:.1f} times the kernel")

# %% tags=["demo", "nbval-ignore-output"]
plot.lines(steps, sizes, logx=True, xticks=steps, references={"the whole kernel": 1.0}, xlabel="steps of the fit (rank 16)",
           ylabel="largest product / whole kernel", title="Left to itself, one product outgrows the sum").set_xticklabels(steps);

# %% [markdown]
# The ridge costs a hundredth of error here and keeps every product smaller than the kernel.
#
# What does CP buy? One kernel of 32 to 32 channels in all three forms, at equal numbers of weights:

# %% tags=["demo"]
layer = resnet.get_submodule("stage2.1.conv1")
kernel, errors = layer.weight.detach(), {"CP": [], "Tucker-2": [], "spatial split": []}
budgets = (1200, 2400, 4600, 6900)
for budget in budgets:
    rank = max(r for r in range(1, 33) if 64 * r + 9 * r * r <= budget)
    core, outputs, inputs = cc.tucker2_factors(kernel, rank, rank)
    down, across = cc.spatial_factors(kernel, budget // 192)
    made = {"CP": cc.cp_kernel(*cp_factors(layer, budget // 70)),
            "Tucker-2": cc.mode_product(cc.mode_product(core, outputs, 0), inputs, 1),
            "spatial split": torch.einsum("rih,orw->oihw", down[..., 0], across[:, :, 0])}
    for name, weights in made.items():
        errors[name].append(((weights - kernel).norm() / kernel.norm()).item())
    print(f"{budget:,} of {kernel.numel():,} weights: " + ", ".join(f"{name} {row[-1]:.2f}" for name, row in errors.items()))

# %% tags=["demo", "nbval-ignore-output"]
plot.lines(budgets, errors, xticks=budgets, xlabel="weights (the kernel has 9,216)", ylabel="relative error of the kernel",
           title="At equal weights CP comes closest to this kernel");

# %% [markdown]
# The thinnest parts fit best. The price is a fit of many steps in place of two SVDs, parts that must be held down, and four layers to run in place
# of three. (Nor are equal ranks on both sides the best that Tucker-2 can do.) The whole network below is cut by Tucker-2, as is usual.

# %% [markdown]
# ## 7 · Use it: the whole ResNet, with your own functions
#
# All 18 convolutions of 3×3 but the first, by Tucker-2, at three choices of ranks: half of the channels, EVBMF, a quarter of the channels. Beside each one the
# spatial split of lesson 13, which gets **as many weights, layer by layer**.
#
# Then both are trained on 2,000 images, once, with a small learning rate. (About 50 s.)

# %% tags=["demo", "varies"]
mine = {name: use(name) for name in ("tucker2_factors", "tucker2_kernels")}
train, test = data.fashion_mnist("train", subset=True), data.fashion_mnist("test", subset=True)


def share_of_channels(share):
    """These ranks for every layer."""
    sides = {name: resnet.get_submodule(name).weight.shape for name in names}
    return {name: (int(side[0] * share), int(side[1] * share)) for name, side in sides.items()}


def both_ways(ranks):
    """The network by Tucker-2 at these ranks, and split at as many weights in each layer."""
    tucker2, split_ranks = copy.deepcopy(resnet), {}
    for name, (rank_out, rank_in) in ranks.items():
        layer = resnet.get_submodule(name)
        parts = chain(layer, mine["tucker2_kernels"](*mine["tucker2_factors"](layer.weight.detach(), rank_out, rank_in)))
        cc.replace_module_(tucker2, name, parts)
        split_ranks[name] = measure.n_parameters(parts) // (3 * (layer.in_channels + layer.out_channels))
    return {"Tucker-2": tucker2, "spatial split": cc.factorize_ranks(resnet, split_ranks, spatial=True)}


networks = {"half": both_ways(share_of_channels(0.5)), "EVBMF": both_ways(evbmf), "a quarter": both_ways(share_of_channels(0.25))}
tuned = {"Tucker-2": {}, "spatial split": {}}
for choice, pair in networks.items():
    for way, network in pair.items():
        before = evaluate(network, test)
        torch.manual_seed(0)
        fit(network, train.take(2000), Recipe(epochs=1, batch_size=64, peak_lr=0.02), progress=False)
        tuned[way][choice] = evaluate(network, test)
        print(f"{choice:>9}, {way:>13}: {measure.saved_size(network):7,} bytes, {measure.macs(network, (1, 28, 28)) / 1e6:4.1f} M MACs, "
              f"accuracy {before:.1%}, tuned {tuned[way][choice]:.1%}")
whole = evaluate(resnet, test)
print(f"whole network: {measure.saved_size(resnet):,} bytes, {measure.macs(resnet, (1, 28, 28)) / 1e6:.1f} M MACs, accuracy {whole:.1%}")

# %% tags=["demo", "nbval-ignore-output"]
sizes = [measure.saved_size(networks[choice]["Tucker-2"]) / 1000 for choice in networks]
plot.lines(sizes, {way: list(row.values()) for way, row in tuned.items()}, percent=True, references={"whole network": whole},
           xlabel="file of the Tucker-2 network (kB)", ylabel="accuracy on 2,000 test images",
           title="Tuned, the two forms lie within a point of each other");

# %% [markdown]
# Nearly a third of the answers are gone at the ranks of EVBMF, and three quarters at a quarter of the channels; one pass over 2,000 images
# brings most of them back. After it the two forms lie within a point of each other, in one run each and on 2,000 test images: that is no
# difference. The spatial files are a few percent smaller, as ranks are whole numbers.

# %% [markdown]
# EVBMF asked for fewer bytes than half of the channels and for as many MACs: it keeps more of the first layers, where a kernel is small but the image is
# large. What counts as noise in a kernel is not what the network can spare.
#
# And the time?

# %% tags=["demo", "nbval-ignore-output"]
timed = {"whole": resnet} | {f"{way}, {choice}": networks[choice][way] for choice in ("half", "a quarter") for way in tuned}
times = measure.latency(timed, test.images[:64], warmup=2, repeats=7)
for name in timed:
    print(f"{name:>24}: {times[name].ratio:.2f} of the time for a batch of 64")
ledger = Ledger.open()
by = "yours" if all(function.by == "yours" for function in mine.values()) else "reference"
best = networks["half"]["Tucker-2"]
ledger.add(lesson="14-tensor-decomposition", step="3x3 convolutions by Tucker-2, half of the channels", accuracy=tuned["Tucker-2"]["half"],
           size_bytes=measure.saved_size(best), nonzero=measure.nonzero(best), macs=measure.macs(best, (1, 28, 28)),
           latency_ratio=times["Tucker-2, half"].ratio, by=by)
ledger

# %% [markdown]
# Half of the channels leave 37 % of the MACs and hardly less time, a quarter leave 13 % and still most of it.
# Three small layers write and read three tensors. As in lesson 13, the file shrinks for certain, and the time must be measured.

# %% [markdown]
# ## 8 · From scratch to the tools people use
#
# **tensorly** has all of this for NumPy, PyTorch, JAX and others behind one interface, and many decompositions more. It and you agree:

# %% tags=["demo"]
import tensorly as tl
from tensorly.cp_tensor import cp_to_tensor
from tensorly.tenalg import mode_dot

array, matrix = kernel.numpy(), torch.randn(5, 32, generator=generator)
factors = [factor.numpy() for factor in cp_factors(layer, 17)]
same = {
    "tl.unfold": abs(tl.unfold(array, 1) - cc.unfold(kernel, 1).numpy()).max(),
    "mode_dot": abs(mode_dot(array, matrix.numpy(), 1) - cc.mode_product(kernel, matrix, 1).numpy()).max(),
    "cp_to_tensor": abs(cp_to_tensor((None, factors)) - cc.cp_kernel(*map(torch.from_numpy, factors)).numpy()).max(),
}
for name, difference in same.items():
    print(f"{name:>12}: largest difference below 1e-5: {difference < 1e-5}")

# %% [markdown]
# `partial_tucker` and `parafac` you have met: `cc.tucker2_conv` and `cc.cp_conv` are these two, with the layer's settings kept and grouped layers refused by name.
#
# **tensorly-torch** goes one step on: its `FactorizedConv` is *one* layer that stores a decomposition (Tucker, CP or tensor train), is made from a
# trained convolution, and trains in that form. Its Tucker decomposes all four modes, and uses the two small bases (compare question 1). With half of the channels each:

# %% tags=["demo"]
from tltorch import FactorizedConv

x = torch.randn(16, 32, 14, 14, generator=generator)
forms = {
    "cc.tucker2_conv": cc.tucker2_conv(layer, 16, 16),
    "FactorizedConv": FactorizedConv.from_conv(layer, rank=(16, 16, 3, 3), factorization="tucker", implementation="factorized"),
}
with torch.no_grad():
    for name, form in forms.items():
        error = ((form(x) - layer(x)).norm() / layer(x).norm()).item()
        shapes = ", ".join("x".join(map(str, p.shape)) for p in form.parameters())
        print(f"{name:>15}: {error:.3f} of the outputs lost; {sum(p.numel() for p in form.parameters()):,} parameters: {shapes}")

# %% [markdown]
# ## 9 · In your own words
#
# ### Question 1 (3 points, graded by a person)
#
# A colleague decomposes a trained 3×3 kernel of 64 to 64 channels by a Tucker decomposition of all four modes, makes three convolutions of the core and the two channel
# bases, and reports "a third of the weights". (a) What is wrong, and which test would have shown it before any training? (b) Why does Tucker-2 leave height and width alone?
# (c) She may choose Tucker-2, CP or the spatial split. Say what speaks for each, with numbers measured in this notebook. (8 sentences at most.)

# %% [markdown] nbgrader={"grade": true, "solution": true, "grade_id": "question-four-modes", "points": 3}
# **A model answer.** (a) The four-mode core stands in turned coordinates of height and width; without the two small bases nobody turns it back. At full ranks
# the layer must be reproduced: here its kernel had an error of 1.39, more than a kernel of zeros, and Tucker-2 less than 0.00001. The count of weights is right in both.
# (b) They have three directions each, so a rank of 2 saves a third at most, and a cut there needs two more layers (or the core made large again).
#
# (c) CP fits best: at 2,400 of 9,216 weights an error of 0.49 beside 0.58 for the two others; but its fit takes many steps, its products grew to 5.4 times
# the kernel without a ridge, and it runs as four layers. Tucker-2 is two SVDs and needs two ranks a layer. The spatial split is one SVD, one rank and two layers; tuned, it was within a point
# of Tucker-2 at equal weights (93.6 % and 93.3 % at half of the channels) and no slower.
#
# *Rubric:* one point for the cause and the test at full rank; one for (b); one for (c), with at least one advantage of each and two measured numbers.

# %% [markdown]
# ## What we measured
#
# | question | answer, from the cells above |
# | --- | --- |
# | Do outputs and inputs both repeat themselves? | 32 of 64 directions hold 82 % and 85 % of the energy, 65 % if the weights are shuffled |
# | Is it right? | Tucker-2 at full ranks gives the kernel back; four modes with two bases dropped have an error of 1.39 |
# | Is HOSVD good enough? | ranks 32 of 64: 0.528, the best that taking turns finds 0.522 |
# | What does CP do that matrices do not? | one product grew to 5.4 times the kernel; with a ridge none to more than 0.9 |
# | Which form fits best? | CP, at equal weights: 0.15 beside 0.29 and 0.25 at 6,900 of 9,216 |
# | And in the network? | half of the channels: a file 2.6 times smaller, 89.1 % before and 93.3 % after one pass over 2,000 images, 95.0 % whole; the spatial split 93.6 % |
# | Is it faster? | less than the MACs say: 37 % of them take most of the time |
#
# **References.** T. Kolda and B. Bader 2009, *Tensor decompositions and applications*, SIAM Review 51(3) · L. De Lathauwer et al. 2000, *A multilinear
# singular value decomposition*, SIAM J. Matrix Anal. 21(4) · Y.-D. Kim et al. 2016, *Compression of deep convolutional neural networks for fast and low power mobile
# applications*, arXiv:1511.06530 · V. Lebedev et al. 2015, *Speeding-up convolutional neural networks using fine-tuned CP-decomposition*, arXiv:1412.6553 · V. de Silva and
# L.-H. Lim 2008, *Tensor rank and the ill-posedness of the best low-rank approximation problem*, arXiv:math/0607647 · S. Nakajima et al. 2013, *Global analytic solution of
# fully-observed variational Bayesian matrix factorization*, JMLR 14 · J. Kossaifi et al. 2019, *TensorLy: tensor learning in Python*, arXiv:1610.09555.
#
# **Next:** 15, the compression pipeline: all of it in one file.
