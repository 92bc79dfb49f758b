# %% [markdown]
# # 06 · Structured pruning: channels that are really gone
#
# Lesson 05 wrote zeros into weights. A zero takes as many bytes and as much time as any other number. This lesson removes whole
# channels, so that what is left is an ordinary network, only smaller. By the end you will have
#
# - **written** six functions: importance, surgery, and the choice of channels to a budget, and had each of them checked,
# - **seen** why one channel of a residual network runs through 25 tensors, and let a graph find them,
# - **measured** what removed channels buy in bytes and in milliseconds, and when they buy nothing.
#
# **Before:** lesson 05. **You need** about two hours; there are 20 points to check yourself and 3 that a person grades. **The machine
# needs** about 40 s for all cells, 1.2 GB of memory, and no download.

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
from torch import Tensor, nn

from coursekit import data, measure, plot, zoo
from coursekit import pruning as cp
from coursekit.ledger import Ledger
from coursekit.notebook import check, hint, solution, use
from coursekit.train import Recipe, evaluate, fit

torch.set_num_threads(1)  # small layers gain little from more, and times stay steady

# %% [markdown]
# ## 1 · Zeros that shrink nothing
#
# PyTorch has a function for pruning whole neurons, `ln_structured`. Here it is on the trained LeNet-300-100, used as many texts use it:
# 30 % of the neurons of every linear layer.

# %% tags=["demo"]
from safetensors.torch import save_file
from torch.nn.utils import prune

test = data.fashion_mnist("test", subset=True)  # 2,000 test images that every machine has
lenet300 = zoo.load("lenet300")
pruned = copy.deepcopy(lenet300)
for layer in (pruned.fc1, pruned.fc2, pruned.fc3):
    prune.ln_structured(layer, "weight", amount=0.3, n=2, dim=0)

for name, network in (("before", lenet300), ("after", pruned)):
    save_file(network.state_dict(), "lenet300.safetensors")
    print(f"{name:>6}: fc1 {tuple(network.fc1.weight.shape)}, file {measure.file_size('lenet300.safetensors'):,} bytes, "
          f"accuracy {evaluate(network, test):.1%}")
with torch.no_grad():
    logits = pruned(test.images)
    gone = ~pruned.fc1.weight.any(dim=1)
print(f"classes whose logit never changes: {(logits.std(0) == 0).nonzero().flatten().tolist()}")
print(f"zeroed neurons of fc1: {gone.sum()}, of which {pruned.fc1.bias[gone].count_nonzero()} still have a bias")

# %% [markdown]
# Four things went wrong, and nothing complained. The tensors have the same shapes: only zeros were written. The file **doubled**, for each
# weight now has a mask beside it. The zeroed neurons kept their biases, so they still speak. And the last layer's neurons are the
# **classes**: three of ten can no longer be named.
#
# Zeros in a dense tensor are a note to yourself. This lesson acts on the note.

# %% [markdown]
# ## 2 · Why channels
#
# | | single weights (lesson 05) | channels (this lesson) |
# | --- | --- | --- |
# | what is left | a large tensor with holes | a small tensor |
# | file | smaller only in a sparse format | smaller as it is |
# | time | a sparse kernel, rarely faster below 90 % zeros | the same dense kernels on less |
# | accuracy at equal size | better: any weight may stay | worse: good weights go with their channel |

# %% [markdown]
# So channels are the blunter knife, and the one that ordinary hardware feels. Which of them can go?

# %% [markdown]
# ### Importance
#
# The filter $W_c$ makes channel $c$. If its weights are small, its output is small, and the network will hardly miss it:
#
# $$I_c = \lVert W_c \rVert_p = \Bigl(\sum_{i,u,v} |W_{c,i,u,v}|^p\Bigr)^{1/p}$$
#
# But batch norm comes behind. It divides by the channel's own spread $\sigma_c$ and multiplies by a learned $\gamma_c$: a filter of any size
# is worth nothing if $\gamma_c = 0$. So what counts is $I_c \cdot |\gamma_c| / \sigma_c$.

# %% [markdown]
# ### Exercise 1 · `channel_importance` (3 points, 2 or 3 lines)
#
# **Given** the `weight` of a convolution `(C_out, C_in, K, K)` or a linear layer `(C_out, C_in)`, batch norm's factor `scale`
# `(C_out,)` or `None`, and `p` (1 or 2), **return** the importance of each *output* channel, a tensor `(C_out,)`:
#
# $$I_c = \lVert W_c \rVert_p \cdot |\mathrm{scale}_c|$$
#
# `weight = [[3, 4], [1, 0]]` has importances `[7, 1]` for `p = 1` and `[5, 1]` for `p = 2`.


# %% nbgrader={"solution": true, "grade_id": "channel_importance"}
def channel_importance(weight: Tensor, scale: Tensor | None = None, p: int = 1) -> Tensor:
    """The p-norm of each output channel's weights, times |scale| if there is one."""
    ### BEGIN SOLUTION
    norm = weight.flatten(1).abs().pow(p).sum(dim=1).pow(1 / p)
    return norm if scale is None else norm * scale.abs()
    ### END SOLUTION


# %% tags=["demo", "raises-exception"]
# Look: should be [7, 1] and [5, 1].
print(channel_importance(torch.tensor([[3.0, 4.0], [1.0, 0.0]])))
print(channel_importance(torch.tensor([[3.0, 4.0], [1.0, 0.0]]), p=2))

# %% nbgrader={"grade": true, "locked": true, "grade_id": "check-channel_importance", "points": 3}
check("channel_importance")

# %% tags=["demo", "nbval-ignore-output"]
hint("channel_importance")

# %% [markdown]
# Does batch norm matter in practice? Rank the 32 channels inside one block of our ResNet-20 with and without its factor.

# %% tags=["demo"]
resnet = zoo.load("resnet20")
block = resnet.stage2[1]
factor = (block.bn1.weight / (block.bn1.running_var + block.bn1.eps).sqrt()).detach()
plain = cp.channel_importance(block.conv1.weight.detach())
folded = cp.channel_importance(block.conv1.weight.detach(), factor)
eight = [set(scores.argsort()[:8].tolist()) for scores in (plain, folded)]
print(f"batch norm multiplies by {factor.min():.2f} to {factor.max():.2f}")
print(f"of the 8 least important channels, the same with and without it: {len(eight[0] & eight[1])}")

# %% [markdown]
# ## 3 · Surgery by hand
#
# Take a chain convolution → batch norm → ReLU → convolution, as inside a residual block, and remove channel $c$ between the two. Whoever only
# shortens the first layer gets this:

# %% tags=["demo"]
small = copy.deepcopy(block)
keep = folded.argsort(descending=True)[:24].sort().values
small.conv1.weight = nn.Parameter(small.conv1.weight[keep])
try:
    small(torch.zeros(1, 32, 14, 14))
except RuntimeError as error:
    print(error)

# %% [markdown]
# Batch norm still has 32 channels. Behind it the second convolution expects 32 inputs. One channel runs through **seven** tensors:
#
# | tensor | shape | cut along |
# | --- | --- | --- |
# | `conv1.weight`, `conv1.bias` | (C, C_in, K, K), (C,) | dimension 0: what it makes |
# | `bn.weight`, `bn.bias`, `bn.running_mean`, `bn.running_var` | (C,) | dimension 0 |
# | `conv2.weight` | (C_out, C, K, K) | dimension **1**: what it reads |
#
# `conv2.bias` belongs to conv2's own outputs, and stays.

# %% [markdown]
# ### Exercise 2 · `cut_conv_bn_conv` (4 points, 3 to 6 lines)
#
# **Given** `chain`, a dict with the eight tensors `conv1.weight`, `conv1.bias`, `bn.weight`, `bn.bias`, `bn.running_mean`,
# `bn.running_var`, `conv2.weight`, `conv2.bias`, and `keep`, an int64 tensor with the indices of the channels that stay, **return** a new
# dict of the same names in which the other channels are gone.
#
# The channels come in the order of `keep`. Do not change the tensors that came in.


# %% nbgrader={"solution": true, "grade_id": "cut_conv_bn_conv"}
def cut_conv_bn_conv(chain: dict[str, Tensor], keep: Tensor) -> dict[str, Tensor]:
    """The tensors of conv1 -> bn -> conv2, with only the channels of `keep` between them."""
    ### BEGIN SOLUTION
    result = {name: tensor[keep] for name, tensor in chain.items() if not name.startswith("conv2.")}
    result["conv2.weight"] = chain["conv2.weight"][:, keep]
    result["conv2.bias"] = chain["conv2.bias"]
    return result
    ### END SOLUTION


# %% tags=["demo"]
def tensors_of(block):
    """The eight tensors of a residual block's two convolutions; ours have no bias, so it is 0."""
    state = {name: tensor for name, tensor in block.state_dict().items() if "tracked" not in name}
    state = {name.replace("bn1", "bn"): t for name, t in state.items() if name.startswith(("conv", "bn1"))}
    return {**state, "conv1.bias": torch.zeros(len(state["bn.bias"])), "conv2.bias": torch.zeros(32)}


# %% tags=["demo", "raises-exception"]
# Look: 24 of 32 channels between the two convolutions.
for name, tensor in cut_conv_bn_conv(tensors_of(block), keep).items():
    print(f"{name:<16} {tuple(tensor.shape)}")

# %% nbgrader={"grade": true, "locked": true, "grade_id": "check-cut_conv_bn_conv", "points": 4}
check("cut_conv_bn_conv")

# %% tags=["demo", "nbval-ignore-output"]
hint("cut_conv_bn_conv")

# %% [markdown]
# ### How to know that a cut is right
#
# There is a test that needs no judgement: the small network must give, to rounding, what the *large* one gives when the same channels are
# set to zero. Set to zero means the filter, its bias **and** batch norm's scale and shift: with $\gamma = 0$ alone the shift would speak on. Try
# it, and forget the shift once.

# %% tags=["demo"]
def run_chain(tensors, x):
    """conv1 -> bn -> ReLU -> conv2 on x."""
    f = nn.functional
    x = f.conv2d(x, tensors["conv1.weight"], tensors["conv1.bias"], padding=1)
    x = f.batch_norm(x, tensors["bn.running_mean"], tensors["bn.running_var"], tensors["bn.weight"], tensors["bn.bias"])
    return f.conv2d(torch.relu(x), tensors["conv2.weight"], tensors["conv2.bias"], padding=1)


whole = tensors_of(block)
gone = [c for c in range(32) if c not in keep.tolist()]
with torch.no_grad():
    x = resnet.stage2[0](resnet.stage1(resnet.relu(resnet.bn1(resnet.conv1(test.images[:8])))))
    cut = run_chain(cp.cut_conv_bn_conv(whole, keep), x)
    for forgotten in ("", "bn.bias"):
        masked = {name: tensor.clone() for name, tensor in whole.items()}
        for name in {"conv1.weight", "conv1.bias", "bn.weight", "bn.bias"} - {forgotten}:
            masked[name][gone] = 0
        off = (cut - run_chain(masked, x)).abs().max()
        print(f"cut against masked{', shift forgotten' if forgotten else '':<17}: equal to 1e-5: {bool(off < 1e-5)}")

# %% [markdown]
# ## 4 · Behind a flatten
#
# LeNet-5 ends its convolutions with a `(50, 4, 4)` map and flattens it: the linear layer behind reads 800 features, and a channel is no longer
# one index but a block of sixteen. `flatten(1)` writes channel after channel:
#
# $$\text{feature}(c, \text{position}) = c \cdot HW + \text{position}$$

# %% [markdown]
# ### Exercise 3 · `flat_indices` (2 points, 1 or 2 lines)
#
# **Given** `keep`, an int64 tensor of the channels that stay, and `positions`, the height times the width of a channel's map, **return** the
# features that stay, an int64 tensor of `len(keep) * positions` indices, in the order in which `flatten(1)` of the smaller map would write them.
#
# `keep = [0, 2]` with 3 positions gives `[0, 1, 2, 6, 7, 8]`.


# %% nbgrader={"solution": true, "grade_id": "flat_indices"}
def flat_indices(keep: Tensor, positions: int) -> Tensor:
    """The features behind flatten(1) that belong to the channels of `keep`."""
    ### BEGIN SOLUTION
    blocks = keep[:, None] * positions + torch.arange(positions)
    return blocks.flatten()
    ### END SOLUTION


# %% tags=["demo", "raises-exception"]
# Look: should be [0, 1, 2, 6, 7, 8].
flat_indices(torch.tensor([0, 2]), 3).tolist()

# %% nbgrader={"grade": true, "locked": true, "grade_id": "check-flat_indices", "points": 2}
check("flat_indices")

# %% tags=["demo", "nbval-ignore-output"]
hint("flat_indices")

# %% [markdown]
# ## 5 · What goes together
#
# A residual block ends with an addition, $y = F(x) + x$. Channel 5 of the sum is channel 5 of both terms. Remove it from one, and the shapes
# no longer fit; remove *another* one from the other, and they fit, but apples are added to oranges. So the layers at both ends of an addition
# must lose the **same** channels. And the next block adds to the same sum, and the next: a whole stage hangs together.

# %% [markdown]
# A group is what additions connect, directly or through others. That is an old problem: the connected parts of a graph.

# %% [markdown]
# ### Exercise 4 · `coupled_layers` (4 points, about 10 lines)
#
# **Given** `layers`, names in the network's order, and `edges`, pairs of layers whose outputs are added, **return** the groups of layers that
# must lose the same channels, as a list of lists of names.
#
# - Groups come in the order of their first layers; inside a group layers stand in the network's order.
# - A layer without an addition is a group of one.
# - `layers = [a, b, c, d]` with the edge `(d, a)` gives `[[a, d], [b], [c]]`.
#
# One way is **union-find**: a dict `parent` in which each layer first points to itself; following it to the end finds a group's root; an edge
# makes one root point to the other.


# %% nbgrader={"solution": true, "grade_id": "coupled_layers"}
def coupled_layers(layers: list[str], edges: list[tuple[str, str]]) -> list[list[str]]:
    """The connected parts of the graph: groups in the order of their first layers."""
    ### BEGIN SOLUTION
    parent = {layer: layer for layer in layers}

    def root(layer: str) -> str:
        return layer if parent[layer] == layer else root(parent[layer])

    for a, b in edges:
        parent[root(b)] = root(a)
    groups: dict[str, list[str]] = {}
    for layer in layers:
        groups.setdefault(root(layer), []).append(layer)
    return list(groups.values())
    ### END SOLUTION


# %% tags=["demo", "raises-exception"]
# Look: the first stage of ResNet-20. The layers that write the sum are one group; each block's inner layer is free.
layers = ["conv1", *(f"stage1.{i}.conv{j}" for i in range(3) for j in (1, 2))]
edges = list(itertools.pairwise(["conv1", *(f"stage1.{i}.conv2" for i in range(3))]))
for group in coupled_layers(layers, edges):
    print(group)

# %% nbgrader={"grade": true, "locked": true, "grade_id": "check-coupled_layers", "points": 4}
check("coupled_layers")

# %% tags=["demo", "nbval-ignore-output"]
hint("coupled_layers")

# %% [markdown]
# ### Let the graph find them
#
# Writing edges down by hand does not scale, and guessing from names is worse: a well-known tutorial looks for the batch norm of a layer by
# replacing `conv` with `bn` in its name. For `shortcut.0` it finds the convolution itself.
#
# `coursekit.pruning` asks the network instead. It runs the network on **labels** in place of numbers: every output channel gets one, ReLU and
# pooling pass it on, flatten repeats it, concat lines labels up, and an addition ties two. Ask for our ResNet-20.

# %% tags=["demo"]
graph = cp.trace_channels(resnet, test.images[:1])
groups = cp.channel_groups(graph)
stage = groups.groups[0]
print(stage)
tensors = sum(4 if side == "channels" else 1 for _, side in stage.members)  # a batch norm has four
print(f"{len(stage.members)} layer sides, {tensors} tensors")

# %% [markdown]
# One unit of this group is one channel of the first stage, and removing it shortens all 25 tensors. Not every group is like that:

# %% tags=["demo"]
print(groups.groups[1])
print(groups.groups[-1])
sizes = [len(group.units) for group in groups.groups]
print(f"{len(sizes)} groups with {sizes} channels that can go")

# %% [markdown]
# The last layer's outputs stay, as they are the classes. What the graph cannot follow, it refuses by name, before anything is touched:

# %% tags=["demo"]
import torchvision

try:
    cp.trace_channels(torchvision.models.shufflenet_v2_x1_0(weights=None), torch.zeros(1, 3, 32, 32))
except cp.UnsupportedError as error:
    print(error)

# %% [markdown]
# And the cut is tested as in section 3, now on whole networks: half of the channels of every group, cut against masked.

# %% tags=["demo"]
for name in ("lenet300", "lenet5", "resnet20"):
    network = zoo.load(name)
    plan = cp.plan_channels(network, test.images[:1], cp.ChannelPruning(ratio=0.5))
    with torch.no_grad():
        off = (plan.cut()(test.images[:8]) - plan.mask()(test.images[:8])).abs().max()
    print(f"{name:>8}: {measure.n_parameters(network):,} -> {measure.n_parameters(plan.cut()):,} parameters, "
          f"cut and masked agree to 1e-5: {bool(off < 1e-5)}")

# %% [markdown]
# Half of the channels is a *quarter* of the parameters where most weights lie between two pruned layers and are cut on both sides. (Most of
# LeNet-300's read the image, which stays.)

# %% [markdown]
# ## 6 · What a channel costs
#
# A multiply-accumulate (MAC) is one product, added to a sum. Every value of a convolution's output costs one for each weight of its filter. With
# $g$ groups a filter reads only a $g$-th of the input channels.

# %% [markdown]
# ### Exercise 5 · `conv_macs` (2 points, 1 or 2 lines)
#
# **Given** the channels `c_in` and `c_out`, the side `kernel` of square kernels, the `height` and `width` of the **output** and the number of
# `groups` (which divides both), **return** the MACs of one image as an `int`. Biases are not counted.
#
# 16 → 32 channels with 3 × 3 kernels and a 14 × 14 output: 903,168.


# %% nbgrader={"solution": true, "grade_id": "conv_macs"}
def conv_macs(c_in: int, c_out: int, kernel: int, height: int, width: int, groups: int = 1) -> int:
    """Multiply-accumulates of one image's way through a convolution."""
    ### BEGIN SOLUTION
    weights = c_out * (c_in // groups) * kernel**2
    return weights * height * width
    ### END SOLUTION


# %% tags=["demo", "raises-exception"]
# Look: should be 903168, and a 32nd of 2 * 903168 with 32 groups.
print(conv_macs(16, 32, 3, 14, 14), conv_macs(32, 32, 3, 14, 14, groups=32))

# %% nbgrader={"grade": true, "locked": true, "grade_id": "check-conv_macs", "points": 2}
check("conv_macs")

# %% tags=["demo", "nbval-ignore-output"]
hint("conv_macs")

# %% [markdown]
# Parameters and MACs do not lie in the same places. Stage 1 works on 28 × 28 positions, stage 3 on 7 × 7.

# %% tags=["demo", "nbval-ignore-output"]
total = measure.macs(resnet, (1, 28, 28))
costs, weights = {}, {}
for name, positions in (("stage1", 28 * 28), ("stage2", 14 * 14), ("stage3", 7 * 7)):
    convolutions = [m for m in resnet.get_submodule(name).modules() if isinstance(m, nn.Conv2d)]
    weights[name] = sum(m.weight.numel() for m in convolutions) / measure.n_parameters(resnet)
    costs[name] = sum(m.weight.numel() for m in convolutions) * positions / total
plot.bars({"parameters": weights, "MACs": costs}, percent=True, ylabel="share of the network",
          title="Three quarters of the weights make a third of the work");

# %% tags=["demo"]
for group in groups.groups[:-1:4]:
    one = cp.remove_units(resnet, graph, groups, group.units[:1])
    print(f"one channel of {group.name:<16} saves {(total - measure.macs(one, (1, 28, 28))) / total:.2%} of the MACs")

# %% [markdown]
# A channel of the first stage's sum saves seventeen times as much as one inside the third. If the goal is MACs, importance alone is the wrong
# order. Ask instead: *how much importance do I give up for each MAC I save?*

# %% [markdown]
# ### Exercise 6 · `choose_channels` (5 points, about 12 lines)
#
# A chain of layers has the widths $n_{in}, C_1, \dots, C_L, n_{out}$, and layer $i$ costs $a_i$ MACs for each pair of an input and an output
# channel: in all $\sum_i a_i\,C_i\,C_{i+1}$. **Given** `importance` (a list of $L$ tensors), `areas` (the $L+1$ numbers $a_i$), `n_in`,
# `n_out` and `budget`, **return** which channels to keep: a list of $L$ int64 tensors, ascending.
#
# Be greedy. While the chain costs more than `budget`: in each hidden layer the least important channel left is the candidate, unless it is the
# layer's last. Removing it saves $a_{i-1} C_{i-1} + a_{i} C_{i+1}$, with the widths *as they are now*. Remove the candidate with the smallest
# importance per MAC saved.


# %% nbgrader={"solution": true, "grade_id": "choose_channels"}
def choose_channels(
    importance: list[Tensor], areas: list[int], n_in: int, n_out: int, budget: int
) -> list[Tensor]:
    """Indices of the channels to keep in each hidden layer, so that the chain costs at most budget MACs."""
    ### BEGIN SOLUTION
    kept = [scores.argsort(descending=True).tolist() for scores in importance]
    while True:
        widths = [n_in, *(len(channels) for channels in kept), n_out]
        if sum(a * c * d for a, (c, d) in zip(areas, itertools.pairwise(widths), strict=True)) <= budget:
            return [torch.tensor(sorted(channels)) for channels in kept]
        price = {}
        for i, channels in enumerate(kept):
            saved = areas[i] * widths[i] + areas[i + 1] * widths[i + 2]
            if len(channels) > 1:
                price[i] = importance[i][channels[-1]].item() / saved
        kept[min(price, key=price.get)].pop()
    ### END SOLUTION


# %% tags=["demo", "raises-exception"]
# Look: equal importances, so only the costs decide. Widths 1-4-4-1; the first layer is dear, then the last.
for areas in ([100, 10, 1], [1, 10, 100]):
    print([k.tolist() for k in choose_channels([torch.arange(1.0, 5.0)] * 2, areas, 1, 1, 300)])

# %% nbgrader={"grade": true, "locked": true, "grade_id": "check-choose_channels", "points": 5}
check("choose_channels")

# %% tags=["demo", "nbval-ignore-output"]
hint("choose_channels")

# %% [markdown]
# ### Use it: LeNet-5 with your own functions
#
# LeNet-5 *is* such a chain: 1 → 20 → 50 → 500 → 10, and a linear layer is a convolution on one position. Its four areas are kernel size times
# output positions; `fc1` reads every channel at 16 positions. All your functions together make it half as dear.

# %% tags=["demo"]
mine = {name: use(name) for name in ("channel_importance", "choose_channels", "conv_macs", "flat_indices")}
lenet5 = zoo.load("lenet5")
names = ("conv1", "conv2", "fc1", "fc2")
importance = [mine["channel_importance"](lenet5.get_submodule(name).weight.detach(), p=2) for name in names[:3]]
importance = [scores / scores.sum() for scores in importance]  # the share of its layer that goes with a channel
areas = [mine["conv_macs"](1, 1, kernel, side, side) for kernel, side in ((5, 24), (5, 8), (4, 1), (1, 1))]
before = measure.macs(lenet5, (1, 28, 28))
keep = mine["choose_channels"](importance, areas, 1, 10, before // 2)
print("areas:", areas)
print("widths:", [20, 50, 500], "->", [len(channels) for channels in keep])

# %% tags=["demo"]
half = copy.deepcopy(lenet5)
reads = [torch.arange(1), keep[0], mine["flat_indices"](keep[1], 16), keep[2]]
makes = [*keep, torch.arange(10)]
for name, columns, rows in zip(names, reads, makes, strict=True):
    old, width = lenet5.get_submodule(name), (len(columns), len(rows))
    new = nn.Conv2d(*width, 5) if isinstance(old, nn.Conv2d) else nn.Linear(*width)
    new.weight.data, new.bias.data = old.weight.data[rows][:, columns].clone(), old.bias.data[rows].clone()
    setattr(half, name, new)
print(f"MACs: {before:,} -> {measure.macs(half, (1, 28, 28)):,}")
print(f"file: {measure.saved_size(lenet5):,} -> {measure.saved_size(half):,} bytes")
print(f"accuracy: {evaluate(lenet5, test):.1%} -> {evaluate(half, test):.1%}, before any fine-tuning")

# %% [markdown]
# What is missing comes back if the network may adapt. Two passes over 5,000 training images take a few seconds, with a small learning rate:
# most weights are nearly right. That is **fine-tuning**.

# %% tags=["demo", "varies"]
train = data.fashion_mnist("train", subset=True)
torch.manual_seed(0)
fit(half, train.take(5000), Recipe(epochs=2, batch_size=64, peak_lr=0.02), progress=False)
print(f"accuracy after fine-tuning: {evaluate(half, test):.1%}, of the whole network {evaluate(lenet5, test):.1%}")

# %% [markdown]
# ## 7 · Which importance?
#
# Norms ask how large a channel is. **Taylor's** expansion asks what the loss would do without it. If $\gamma$ and $\beta$ are batch norm's
# scale and shift, zeroing both changes the loss, to first order, by
#
# $$\Delta L_c \approx -\Bigl(\gamma_c \frac{\partial L}{\partial \gamma_c} + \beta_c \frac{\partial L}{\partial \beta_c}\Bigr)$$
#
# squared and averaged over batches. It needs data and one backward pass, and its numbers are in units of the loss, so that all layers can be
# compared. A policy is exchangeable; the surgery does not change.

# %% tags=["demo"]
scores = {name: policy(resnet, graph, groups) for name, policy in {
    "random": cp.RandomChannels(0), "L1 norm": cp.Magnitude(p=1), "Taylor": cp.Taylor(train.take(1000)),
}.items()}
held_out = data.Dataset(train.images[-500:], train.labels[-500:], train.classes, "the end of the training images")
ways = {"random, same share": ("random", "uniform"), "L1, same share": ("L1 norm", "uniform"),
        "Taylor, same share": ("Taylor", "uniform"), "Taylor per MAC": ("Taylor", "per_mac")}
kept, curves = [0.9, 0.8, 0.7, 0.5], {}
for way, (policy, allocation) in ways.items():
    curves[way] = []
    for share in kept:
        config = cp.ChannelPruning(macs=share, importance=lambda *_, p=policy: scores[p], allocation=allocation)
        curves[way].append(evaluate(cp.prune_channels(resnet, test.images[:1], config), held_out))
    print(f"{way:>19}: " + "  ".join(f"{s:.0%} of the MACs {a:.1%}" for s, a in zip(kept, curves[way], strict=True)))

# %% tags=["demo", "nbval-ignore-output"]
plot.lines(kept, curves, percent=True, xticks=kept, xlabel="share of the MACs that is left",
           ylabel="accuracy, no fine-tuning", references={"all channels": evaluate(resnet, held_out)},
           title="What the loss says, per MAC saved, is the best order; the norms here are no better than chance");

# %% [markdown]
# Choices like this one are made on held-out *training* images: the test set is for measuring, not for choosing. Dividing by the MACs saved is
# the step you wrote in exercise 6.

# %% [markdown]
# ## 8 · MACs are not milliseconds
#
# Remove 10 % of the channels of every group, and the MACs fall by twice as much:

# %% tags=["demo"]
removed = [0, 10, 20, 30, 50, 70]
networks = {str(r): cp.prune_channels(resnet, test.images[:1], cp.ChannelPruning(ratio=r / 100)) for r in removed}
for r in removed:
    print(f"{r:2d} % of the channels removed: {measure.macs(networks[str(r)], (1, 28, 28)) / total:4.0%} of the MACs left")

# %% [markdown]
# And the time? Measure one convolution first. It has 64 output channels, of which more and more are removed.

# %% tags=["demo", "nbval-ignore-output"]
widths = [64, 62, 60, 58, 56, 52, 48, 40, 32, 16]
layers = {str(n): nn.Conv2d(64, n, 3, padding=1, bias=False) for n in widths}
times = measure.latency(layers, torch.randn(8, 64, 14, 14), repeats=150)
plot.lines(widths, {"measured time": [times[str(n)].ratio for n in widths], "MACs": [n / 64 for n in widths]},
           xlabel="output channels left of 64", ylabel="ratio to 64 channels", xticks=widths,
           title="Time falls in steps, MACs in a line");

# %% [markdown]
# Processors work on vectors: 16 floats at once with AVX-512, eight with AVX2. Channels come in such blocks, and a block costs the same whether it
# is full or nearly empty. Going from 64 to 60 leaves the number of blocks as it was. So removed channels pay **when a whole block goes**.
# `ChannelPruning(multiple_of=8)` removes them in blocks.
#
# Then the whole network:

# %% tags=["demo", "nbval-ignore-output"]
ratios = {"MACs": [measure.macs(networks[str(r)], (1, 28, 28)) / total for r in removed]}
for batch, repeats in ((1, 60), (64, 7)):
    times = measure.latency(networks, test.images[:batch], warmup=1, repeats=repeats)
    ratios[f"time, batch {batch}"] = [times[str(r)].ratio for r in removed]
plot.lines(removed, ratios, xticks=removed, xlabel="channels removed from every group (%)",
           ylabel="ratio to the whole network", title="A quarter of the MACs is not a quarter of the time");

# %% [markdown]
# With one image, much of the time goes into calling some 70 operations, and that does not shrink with their channels. A batch of 64 comes closer
# to the MACs. But batch norm, ReLU and additions move numbers and multiply little: they shrink with the channels, not with their square.
# "Structured pruning is a guaranteed speed-up", one reads. It is a chance of one. Measure.

# %% [markdown]
# ## 9 · Half the MACs, fine-tuned
#
# Without training, half of the MACs cost a third of the accuracy or more (section 7). With training? The network below was cut with Taylor's scores
# per MAC and then fine-tuned on all training images. That took minutes, not seconds, so it comes with the course.

# %% tags=["demo"]
card = zoo.card("resnet20-half")
half = zoo.load("resnet20-half")
print(f"MACs:       {total:,} -> {measure.macs(half, (1, 28, 28)):,}, {measure.macs(half, (1, 28, 28)) / total:.1%}")
print(f"parameters: {measure.n_parameters(resnet):,} -> {measure.n_parameters(half):,}")
print(f"after surgery, {card['test_images']:,} test images: {card['accuracy_cut']:.2%}")
print(f"after fine-tuning, {card['recipe']['epochs']} x 60,000 images: {card['test_accuracy']:.2%}, the whole network {card['accuracy_dense']:.2%}")

# %% tags=["demo", "nbval-ignore-output"]
curve = card["on_the_first_2000_test_images"]
epochs = list(range(len(curve["by_epoch"]) + 1))
plot.lines(epochs, {"half the MACs": [curve["cut"], *curve["by_epoch"]]}, percent=True, xticks=epochs,
           references={"whole network": curve["dense"]}, xlabel="epochs of fine-tuning",
           ylabel="accuracy on 2,000 test images", title="One epoch brings back most of what surgery took");

# %% [markdown]
# The file needs no sparse format and no list of removed channels. It holds the small tensors, and their shapes say how wide each layer is. Your
# **ledger** gets its row, with time, for the first network of this course that is really faster.

# %% tags=["demo", "nbval-ignore-output"]
times = measure.latency({"whole": resnet, "half": half}, test.images[:64], warmup=1, repeats=8)
ledger = Ledger.open()
ledger.add(lesson="06-structured-pruning", step="half the MACs, channels removed", accuracy=evaluate(half, test),
           size_bytes=measure.saved_size(half), nonzero=measure.nonzero(half), macs=measure.macs(half, (1, 28, 28)),
           latency_ratio=times["half"].ratio, by="reference")
ledger

# %% [markdown]
# ## 10 · From scratch to the tools people use
#
# **Torch-Pruning** finds groups by following the gradient's graph backwards, another road to the same place. Do both see the same groups, and does
# its pruner, given the same budget, keep the same accuracy before fine-tuning?

# %% tags=["demo"]
import warnings

import torch_pruning as tp

theirs = zoo.load("resnet20")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    dependencies = tp.DependencyGraph().build_dependency(theirs, example_inputs=test.images[:1])
    found = list(dependencies.get_all_groups(ignored_layers=[theirs.fc], root_module_types=[nn.Conv2d, nn.Linear]))
module_names = {module: name for name, module in theirs.named_modules()}
their_layers = {frozenset(module_names[d.target.module] for d, _ in group if d.target.module in module_names) for group in found}
our_layers = {frozenset(layer for layer, _ in group.members) for group in groups.groups if group.units}
print(f"groups: {len(their_layers)} theirs, {len(our_layers)} ours, equal: {their_layers == our_layers}")

# %% tags=["demo"]
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    pruner = tp.pruner.BasePruner(theirs, test.images[:1], importance=tp.importance.GroupMagnitudeImportance(p=1),
                                  pruning_ratio=0.27, ignored_layers=[theirs.fc])
    pruner.step()
config = cp.ChannelPruning(macs=0.5, importance=lambda *_: scores["Taylor"], allocation="per_mac")
ours = cp.prune_channels(resnet, test.images[:1], config)
for name, network in (("Torch-Pruning, L1", theirs), ("ours, Taylor per MAC", ours)):
    share = measure.macs(network, (1, 28, 28)) / total
    print(f"{name:>21}: {share:.1%} of the MACs, {evaluate(network, held_out):.1%} before fine-tuning")

# %% [markdown]
# The groups agree, whichever road one takes. The lead before fine-tuning is the policy's, not the surgery's; what is left of it after fine-tuning
# both alike, with three seeds, stands in `benchmarks/results/channels.md`.
#
# In practice, take Torch-Pruning: it knows far more layers (attention, LSTM). Name the classes in `ignored_layers`, which it cannot guess. And
# `torch.nn.utils.prune` is for experiments with masks, not for smaller networks.

# %% [markdown]
# ## 11 · In your own words
#
# ### Question 2 (3 points, graded by a person)
#
# An app classifies photos on a mobile phone: one image at a time, ordinary dense kernels, a download that should be small. Your colleague offers two
# versions of the network, at equal accuracy: one with 90 % of its weights set to zero, one with half of its MACs removed as channels. Compare them
# in (a) bytes to download, (b) milliseconds and battery on the phone, (c) what it costs to get there. Which do you ship, and when would you
# choose the other? Use numbers measured in lessons 05 and 06. (8 sentences at most.)

# %% [markdown] nbgrader={"grade": true, "solution": true, "grade_id": "question-mobile", "points": 3}
# **A model answer.** (a) The zeros win: as a sparse file with its positions, 90 % zeros take about a seventh of the bytes (lesson 05), while half of the
# MACs is a file of 712,072 instead of 1,106,024 bytes, two thirds (section 9). (b) The channels win: the phone's dense kernels multiply by zeros as by
# anything else, and lesson 05 measured no gain, whereas smaller layers are faster in any runtime, though by less than the MACs say, above all for
# one image at a time (section 8). (c) Both need fine-tuning; single weights keep their accuracy at far higher shares, channels need a graph that
# knows what goes together, but no format or kernel of their own. I ship the channels: a download happens once, a classification many times. I would
# choose the zeros if only the download counted, or on hardware with sparse kernels (2:4); and quantization goes on top of either.
#
# *Rubric:* one point each for (a), (b), (c) with the decision: half for the right comparison with its reason, half for a measured number or a
# condition under which the other wins.

# %% [markdown]
# ## What we measured
#
# | question | answer, from the cells above |
# | --- | --- |
# | Does `ln_structured` make a network smaller? | no: same shapes, twice the bytes, and three of ten classes lost |
# | What runs through one channel of a residual stage? | 25 tensors, which lose it together |
# | How do you know that a cut is right? | it gives what the masked network gives, to rounding |
# | Which channels? | by what the loss says, per MAC saved: 92.8 % at 70 % of the MACs; the norms 26.0 % |
# | Do MACs predict time? | only roughly: channels pay in blocks, and one image waits for calls |
# | What does fine-tuning do? | LeNet-5 with half its MACs: 70.6 % to 91.9 % in seconds |
# | And in minutes? | ResNet-20 with half its MACs: 58.76 % to 93.54 %, the whole network 93.95 % |
#
# **References.** H. Li et al. 2017, *Pruning Filters for Efficient ConvNets*, arXiv:1608.08710 · P. Molchanov et al. 2019, *Importance Estimation for
# Neural Network Pruning*, arXiv:1906.10771 · Z. Liu et al. 2017, *Learning Efficient Convolutional Networks through Network Slimming*,
# arXiv:1708.06519 · G. Fang et al. 2023, *DepGraph: Towards Any Structural Pruning*, arXiv:2301.12900.
#
# **Next:** 07, iterative pruning: little by little, and lottery tickets.
