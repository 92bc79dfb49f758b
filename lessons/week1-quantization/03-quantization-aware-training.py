# %% [markdown]
# # 03 · Quantization-aware training: learn on the grid
#
# Rounding a trained network costs nothing at 8 bits, some points at 4, and everything at 2. This lesson lets the network feel its grid
# while it still learns. By the end you will have
#
# - **written** fake quantization, the gradient that gets past its rounding, and a training step with both,
# - **seen** a network that 2 bits had ruined come back in seconds, and when that is worth the trouble,
# - **repaired** a depthwise network without any training, by moving its ranges about.
#
# **Before:** lessons 01 and 02. **You need** about two hours; there are 17 points to check yourself and 3 that a person grades.
# **The machine needs** about 40 s of processor time for all cells, 1.1 GB of memory, and no download.

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
from torch import Tensor, nn

from coursekit import data, measure, plot, zoo
from coursekit import quantization as cq
from coursekit.ledger import Ledger
from coursekit.notebook import check, hint, solution, use
from coursekit.quantization import QATConfig, fake_quantize, int_range
from coursekit.train import Recipe, evaluate

torch.set_num_threads(1)  # small layers gain little from more, and times stay steady
train, test = data.fashion_mnist("train", subset=True), data.fashion_mnist("test", subset=True)

# %% [markdown]
# ## 1 · Where rounding afterwards ends
#
# Lesson 02 quantized our ResNet-20 after training and lost next to nothing. That was at 8 bits. Here are fewer, for the weights and
# the activations of all layers but the first and the last (these two, and the image, keep 8: few numbers, and the most sensitive).


# %% tags=["demo"]
network, images, calibration = zoo.load("resnet20"), test.take(500), train.images[:200]

def quantized(model, config):
    """The model with fake quantizers, their ranges set from 200 training images, not trained."""
    prepared = cq.prepare_qat(model, config)
    cq.calibrate(prepared, calibration)
    return prepared

print(f"float32:                        {evaluate(network, images):.1%}")
for weight_bits, activation_bits in ((8, 8), (4, 4), (3, 4), (2, 4)):
    accuracy = evaluate(quantized(network, QATConfig(weight_bits, activation_bits)), images)
    print(f"{weight_bits}-bit weights, {activation_bits}-bit activations: {accuracy:.1%}")

# %% [markdown]
# No cleverer choice of scales will bring the last line back: 2 bits leave each weight the values $-s$, $0$ and $s$, and the network was
# never told. **Quantization-aware training** (QAT) tells it: quantize in the forward pass, as the deployed network will, and go on
# training, so that the weights find values that are good *after* rounding.

# %% [markdown]
# ## 2 · Fake quantization
#
# During training nothing is stored in integers. Every weight and activation takes a round trip through its codes and stays in floating
# point:
#
# $$\hat x = s\,\bigl(\mathrm{clamp}(\mathrm{round}(x/s) + z,\; q_{\min},\; q_{\max}) - z\bigr)$$
#
# The values are exactly those that the integer network will compute with; the arithmetic is ordinary, so that gradients can flow. Hence
# the name.

# %% [markdown]
# ### Exercise 1 · `fake_quantize_affine` (2 points, about 3 lines)
#
# **Given** `x` (floating point, any shape), `scale`, `zero_point` and `n_bits`, **return** $\hat x$ of the formula above: a
# floating-point tensor of the shape of `x`.
#
# `scale` is a float, or a tensor that broadcasts against `x`; `int_range(n_bits)` returns $(q_{\min}, q_{\max})$. With `scale=0.25`, `zero_point=-2`,
# `n_bits=3` the grid runs from −0.5 to 1.25.


# %% nbgrader={"solution": true, "grade_id": "fake_quantize_affine"}
def fake_quantize_affine(x: Tensor, scale: float | Tensor, zero_point: int = 0, n_bits: int = 8) -> Tensor:
    """x through the codes and back, in floating point."""
    ### BEGIN SOLUTION
    qmin, qmax = int_range(n_bits)
    codes = torch.clamp(torch.round(x / scale) + zero_point, qmin, qmax)
    return (codes - zero_point) * scale
    ### END SOLUTION


# %% tags=["demo", "raises-exception"]
# Look: -1 and 9 end up at the two ends of the grid, -0.5 and 1.25.
fake_quantize_affine(torch.tensor([-1.0, 0.1, 0.3, 9.0]), 0.25, zero_point=-2, n_bits=3)

# %% nbgrader={"grade": true, "locked": true, "grade_id": "check-fake_quantize_affine", "points": 2}
check("fake_quantize_affine")

# %% tags=["demo", "nbval-ignore-output"]
hint("fake_quantize_affine")

# %% [markdown]
# ## 3 · The gradient that is not there
#
# Training needs the slope of $\hat x$ by $x$. What does PyTorch make of it?

# %% tags=["demo"]
x = torch.linspace(-1.5, 1.5, 7, requires_grad=True)
y = torch.clamp(torch.round(x / 0.25), -4, 3) * 0.25
y.sum().backward()
print("x:       ", x.detach().tolist())
print("rounded: ", y.tolist())
print("gradient:", x.grad.tolist())

# %% [markdown]
# Zero, everywhere: a staircase is flat on every step, and where it jumps it has no slope at all. The derivative is right, and useless. Whoever
# trains through it changes nothing, for ever, without an error message.

# %% tags=["demo", "nbval-ignore-output"]
x = torch.linspace(-1.75, 1.5, 400)
plot.lines(x, {"fake quantization, 3 bits": cq.fake_quantize_affine(x, 0.25, 0, 3), "what the gradient shall see": x.clamp(-1.0, 0.75)},
           xlabel="x", ylabel="output", title="From afar the staircase is a ramp with two ends");

# %% [markdown]
# **Straight-through** (Hinton's lecture 2012; Bengio 2013) is a white lie about one of the four operations: in the backward pass, `round` is taken for the
# identity. What is left is the ramp:
#
# $$\frac{\partial \hat x}{\partial x} \approx \begin{cases} 1 & q_{\min} \le \mathrm{round}(x/s) + z \le q_{\max}\\ 0 & \text{otherwise}\end{cases}$$
#
# The scale cancels: dividing by $s$ and multiplying with it. And the **clamp** is told no lies about. A value beyond the end of the grid
# really changes nothing when it moves a little, so its gradient is 0.

# %% [markdown]
# ### Exercise 2 · `ste_gradient` (3 points, about 4 lines)
#
# **Given** `grad`, the gradient of the loss by $\hat x$, and the `x`, `scale`, `zero_point`, `n_bits` that went into it, **return** the
# straight-through gradient of the loss by `x`: `grad` where `x` was not clamped, 0 where it was.


# %% nbgrader={"solution": true, "grade_id": "ste_gradient"}
def ste_gradient(grad: Tensor, x: Tensor, scale: float | Tensor, zero_point: int = 0, n_bits: int = 8) -> Tensor:
    """The gradient by x: straight through the rounding, stopped by the clamp."""
    ### BEGIN SOLUTION
    qmin, qmax = int_range(n_bits)
    codes = torch.round(x / scale) + zero_point
    inside = (codes >= qmin) & (codes <= qmax)
    return torch.where(inside, grad, torch.zeros_like(grad))
    ### END SOLUTION


# %% tags=["demo", "raises-exception"]
# Look: the first and the last value lie beyond the grid of -0.5 to 1.25.
ste_gradient(torch.full((4,), 2.0), torch.tensor([-1.0, 0.1, 0.3, 9.0]), 0.25, zero_point=-2, n_bits=3)

# %% nbgrader={"grade": true, "locked": true, "grade_id": "check-ste_gradient", "points": 3}
check("ste_gradient")

# %% tags=["demo", "nbval-ignore-output"]
hint("ste_gradient")

# %% [markdown]
# ## 4 · Two weights for the price of one
#
# A training step moves a weight by perhaps a thousandth of a grid step. Round after every step, and it never gets anywhere. So QAT keeps
# two weights: a **latent** one in full precision, which takes the steps, and its quantized image, with which the layer computes.
#
# $$\hat W = \text{fake-quantize}(W) \qquad W \leftarrow W - \eta\; \frac{\partial L}{\partial \hat W}\cdot \text{mask}$$
#
# Small steps add up in $W$ until $\hat W$ jumps to the next value. At the end $\hat W$ is deployed, and $W$ thrown away.

# %% [markdown]
# ### Exercise 3 · `qat_step` (4 points, about 6 lines)
#
# **Given** the latent `weight` (M, K) of a linear layer without bias, inputs `x` (N, K), `targets` (N, M), the `scale` of a **symmetric** grid, a
# learning rate `lr` and `n_bits`, **return** the latent weight after one step of gradient descent on the mean squared error,
# $L = \frac{1}{NM}\sum (x \hat W^{T} - \text{targets})^2$.
#
# `fake_quantize(weight, scale, n_bits)` is given: the symmetric round trip of lesson 01, codes $-q_{\max}\dots q_{\max}$. By hand,
# $\partial L/\partial \hat W = \frac{2}{NM}\,(\text{errors})^{T} x$; with autograd it works too.


# %% nbgrader={"solution": true, "grade_id": "qat_step"}
def qat_step(weight: Tensor, x: Tensor, targets: Tensor, scale: float, lr: float, n_bits: int = 4) -> Tensor:
    """The latent weight after one step of training through its quantized image."""
    ### BEGIN SOLUTION
    _, qmax = int_range(n_bits)
    errors = x @ fake_quantize(weight, scale, n_bits).T - targets
    gradient = 2 * errors.T @ x / errors.numel()
    inside = torch.round(weight / scale).abs() <= qmax
    return weight - lr * gradient * inside
    ### END SOLUTION


# %% tags=["demo", "raises-exception"]
# Look: the layer computes with 1.0 and should say 0, so the gradient is 2 and the latent 0.9 becomes 0.7.
qat_step(torch.tensor([[0.9]]), torch.tensor([[1.0]]), torch.tensor([[0.0]]), scale=0.5, lr=0.1)

# %% nbgrader={"grade": true, "locked": true, "grade_id": "check-qat_step", "points": 4}
check("qat_step")

# %% tags=["demo", "nbval-ignore-output"]
hint("qat_step")

# %% [markdown]
# Does the second weight matter? A layer of 10 × 20 weights at 3 bits learns a given layer, with the latent weight and, as a tempting
# shortcut, without: each step rounded at once.

# %% tags=["demo"]
g = torch.Generator().manual_seed(0)
teacher, start = (torch.randn(10, 20, generator=g) * 0.3 for _ in range(2))
inputs = torch.randn(200, 20, generator=g)
goal, scale = inputs @ teacher.T, 0.3
losses = {"latent weight": [], "rounded at every step": []}
for way, curve in losses.items():
    w = start.clone()
    for _ in range(150):
        curve.append((inputs @ fake_quantize(w, scale, 3).T - goal).square().mean().item())
        w = cq.qat_step(w, inputs, goal, scale, lr=0.5, n_bits=3)
        w = fake_quantize(w, scale, 3) if way == "rounded at every step" else w
afterwards = (inputs @ fake_quantize(teacher, scale, 3).T - goal).square().mean().item()
print(f"at the start {losses['latent weight'][0]:.2f}; latent {losses['latent weight'][-1]:.2f}; rounded at every step "
      f"{losses['rounded at every step'][-1]:.2f}; the teacher itself, rounded: {afterwards:.2f}")

# %% tags=["demo", "nbval-ignore-output"]
plot.lines(range(150), losses, markers=False, references={"the teacher, rounded": afterwards}, xlabel="step",
           ylabel="mean squared error", title="Without a latent weight small steps are rounded away");

# %% [markdown]
# The latent weights do not quite settle: those at the border between two codes jump to and fro. A falling learning rate, as in every recipe
# below, calms them.

# %% [markdown]
# ## 5 · A whole network in seconds
#
# `prepare_qat` rewrites a trained network: each layer takes in the batch norm behind it (lesson 02's folding) and quantizes its weight on the
# way; every stored tensor goes through an activation quantizer. What becomes of a residual block?

# %% tags=["demo"]
prepared = quantized(network, QATConfig(4, 4))
block = [node for node in prepared.graph.nodes if "stage1_0" in node.name or node.name in ("add", "add_quantizer")]
for node in block:
    module = prepared.get_submodule(node.target) if node.op == "call_module" else None
    print(f"{node.name:>30}: {type(module).__name__ if module is not None else 'sum'}")

# %% [markdown]
# Both inputs of the sum are quantized, and its ReLU's output; the sum itself is not, since the ReLU works on the accumulator. Older code builds
# such networks by hand, with stubs at both ends and a special object for every `+`. The graph knows where the sums are.
#
# Now the smallest network of ours, LeNet-300-100, at 2 bits: all weights $-s$, 0 or $s$, one $s$ for each layer.

# %% tags=["demo", "varies", "nbval-ignore-output"]
lenet = zoo.load("lenet300")
plain = QATConfig(2, 4, edge_bits=None, per_channel=False)
ruined = quantized(lenet, plain)
print(f"float32: {evaluate(lenet, test):.1%}")
print(f"2 bits, rounded afterwards: {evaluate(ruined, test):.1%}")

trained = copy.deepcopy(ruined)
recipe = Recipe(epochs=4, peak_lr=0.02, augment=True, max_shift=0)
history = cq.train_quantized(trained, train.take(6000), recipe, test=test, progress=False)
print("2 bits, trained, after each epoch:", [f"{a:.1%}" for a in history.accuracy])

# %% [markdown]
# It started from **trained weights**, on **real data**, with a fifth of the learning rate it was trained with: QAT is fine-tuning, a few epochs long. (Starting from
# nothing on noise, as one also sees, trains a network that nobody asked for.) Better, but not good. The trouble is $s$: set by
# the largest weight of the layer, it sends almost all others to 0.

# %% tags=["demo", "nbval-ignore-output"]
for name, layer in [(n, m) for n, m in trained.named_modules() if n in ("fc1", "fc2", "fc3")]:
    weight = layer.quantized(layer.layer.weight)
    print(f"{name}: {(weight == 0).float().mean():.1%} of the weights are 0")

# %% [markdown]
# ## 6 · Learn the step too
#
# **Learned step size** (LSQ, Esser 2020) makes $s$ a parameter. Its slope, straight-through again, with $v = x/s$ on a symmetric grid:
#
# $$\frac{\partial \hat x}{\partial s} = \begin{cases} \mathrm{round}(v) - v & |v| < q_{\max} \\ \mathrm{sign}(v)\, q_{\max} & \text{otherwise}\end{cases}$$
#
# Rounding error pulls on the step from inside, clipped values from outside. One $s$ feeds all elements, so their slopes are weighted with
# their gradients and **summed**; a factor $1/\sqrt{N q_{\max}}$, $N$ the number of elements, keeps that sum from outrunning the weights.

# %% [markdown]
# ### Exercise 4 · `lsq_step_gradient` (3 points, about 4 lines)
#
# **Given** `grad` (gradient of the loss by $\hat x$), `x` of the same shape, the `scale` $s$ (a float) and `n_bits`, **return** the gradient of the loss
# by $s$, divided by $\sqrt{N q_{\max}}$, as a Python `float`.
#
# At 3 bits and `scale=1`, `x = 9` alone is clamped at 3: with `grad = 1` the result is $3/\sqrt{1\cdot 3} \approx 1.73$.


# %% nbgrader={"solution": true, "grade_id": "lsq_step_gradient"}
def lsq_step_gradient(grad: Tensor, x: Tensor, scale: float, n_bits: int = 8) -> float:
    """The gradient of the loss by the step size, summed over all elements and scaled as in LSQ."""
    ### BEGIN SOLUTION
    _, qmax = int_range(n_bits)
    v = x / scale
    slope = torch.where(v.abs() < qmax, torch.round(v) - v, v.sign() * qmax)
    return (grad * slope).sum().item() / math.sqrt(x.numel() * qmax)
    ### END SOLUTION


# %% tags=["demo", "raises-exception"]
# Look: the error of the quantizer itself as the loss. Far too small a step has a negative gradient (it should grow), a large one a positive.
values = torch.randn(2000, generator=torch.Generator().manual_seed(0))
for step in (0.05, 0.3, 0.6, 1.5):
    error = fake_quantize(values, step, 3) - values
    print(f"step {step:.2f}: mean squared error {error.square().mean():.3f}, gradient {lsq_step_gradient(2 * error, values, step, 3):+.1f}")

# %% nbgrader={"grade": true, "locked": true, "grade_id": "check-lsq_step_gradient", "points": 3}
check("lsq_step_gradient")

# %% tags=["demo", "nbval-ignore-output"]
hint("lsq_step_gradient")

# %% [markdown]
# The same LeNet, the same four epochs, with learned steps. They start where the squared error of each layer's weights is smallest (lesson 01's
# `mse_clip`), and training takes over.

# %% tags=["demo", "nbval-ignore-output"]
start = quantized(lenet, QATConfig(2, 4, edge_bits=None, per_channel=False, learn_steps=True))
learned = copy.deepcopy(start)
steps_before = {n: m.step.item() for n, m in start.named_modules() if n in ("fc1", "fc2", "fc3")}
history_learned = cq.train_quantized(learned, train.take(6000), recipe, test=test, progress=False)
print(f"best scales, not trained: {evaluate(start, test):.1%}")
print("trained, after each epoch:", [f"{a:.1%}" for a in history_learned.accuracy])
for name, before in steps_before.items():
    print(f"{name}: step {before:.3f} -> {learned.get_submodule(name).step.item():.3f}")

# %% tags=["demo", "nbval-ignore-output"]
curves = {"learned step": [evaluate(start, test), *history_learned.accuracy],
          "step from the largest weight": [evaluate(ruined, test), *history.accuracy]}
plot.lines(range(5), curves, percent=True, xticks=range(5), references={"float32": evaluate(lenet, test)}, xlabel="epochs trained",
           ylabel="accuracy on 2,000 images", title="At 2 bits the step must be learned as well");

# %% [markdown]
# ## 7 · Late in training: freeze
#
# While a network trains, two things besides its weights move: each batch norm computes with the statistics of the **batch**, and each
# activation range follows the batches as a moving average. The deployed network has neither: fixed statistics, folded into the weights, and fixed ranges.
# What that difference is worth shows when one image sits in two different batches.

# %% tags=["demo"]
def logits_of_first(model, others):
    """The logits of test image 0 in training mode, in a batch with 31 other images."""
    with torch.no_grad():
        return copy.deepcopy(model).train()(torch.cat([test.images[:1], others]))[0]

a, b = test.images[100:131], test.images[200:231]
gap = (logits_of_first(prepared, a) - logits_of_first(prepared, b)).abs().max()
frozen = copy.deepcopy(prepared)
cq.freeze(frozen)
gap_frozen = (logits_of_first(frozen, a) - logits_of_first(frozen, b)).abs().max()
print(f"largest difference between the two: {gap:.2f} before freezing, {gap_frozen:.2f} after")

# %% [markdown]
# So for the last part of training both are **frozen**: from there on what is trained is exactly what will be used (Krishnamoorthi 2018, section 3.2.3).
# `train_quantized(…, freeze_at=0.75)` does so after three quarters of the steps. Not from the start, since the weights still move a lot
# there, and the statistics should follow them.

# %% [markdown]
# ## 8 · The long runs: when is it worth it?
#
# Our ResNet-20 needs a few minutes, so we did it for you: `benchmarks/qat.py`, 20,000 training images, three seeds. The numbers
# come from the card of the network in the zoo, measured on all 10,000 test images.

# %% tags=["demo"]
card = zoo.card("resnet20-w4a4")
results = card["benchmark"]
print(f"float32: {results['float32']:.2%}")
for name, row in results["runs"].items():
    by_seed = ", ".join(f"{value:.2%}" for value in row["trained"]) or "not done"
    print(f"{name}: rounded {row['largest']:.2%}, best scales {row['best']:.2%}, trained, by seed: {by_seed}")

# %% tags=["demo", "nbval-ignore-output"]
values = {"rounded": lambda row: row["largest"], "best scales": lambda row: row["best"],
          "trained": lambda row: sum(row["trained"]) / len(row["trained"])}
bars = {way: {name.replace(", ", ",\n").replace(" and ", "\nand "): value(row) for name, row in results["runs"].items() if row["trained"]}
        for way, value in values.items()}
plot.bars(bars, percent=True, ylabel="accuracy on 10,000 images", references={"float32": results["float32"]},
          title="The fewer the bits, the more training on the grid is worth");

# %% [markdown]
# At 8 bits there is nothing to win: calibrate and be done. At 4, well-chosen scales bring back more than
# half of the loss for nothing, and training about half of what is then left. With 2-bit weights there is no network without training, and with it one
# some two points below float32. The 4-bit network ships with the course: weights that lie on their grids, learned scales and ranges on its card.

# %% tags=["demo"]
config = QATConfig(**card["config"])
small = cq.prepare_qat(zoo.load("resnet20-w4a4"), config)
cq.set_activation_ranges(small, card["ranges"])
cq.set_learned_scales(small, card["scales"])
weight = small.get_submodule("stage2.2.conv2").quantized(small.get_submodule("stage2.2.conv2").folded()[0])
print(f"values in one filter of stage 2: {weight[0].unique().numel()}, of at most 15")
print(f"accuracy on 500 images: {evaluate(small, images):.1%}; without training it was "
      f"{evaluate(quantized(network, config), images):.1%}; float32 {evaluate(network, images):.1%}")

# %% [markdown]
# Fake quantization is a promise about an integer network. `to_integer` redeems it: the same codes and grids in lesson 02's integer layers, int32
# sums, no floating point between image and logits.

# %% tags=["demo"]
integer = cq.to_integer(small, calibration)
few = test.images[:200]
with torch.inference_mode():
    fake_answers, integer_answers = small(few).argmax(1), integer(few).argmax(1)
print(f"same answers on {(fake_answers == integer_answers).float().mean():.1%} of 200 images")

# %% [markdown]
# ## 9 · Depthwise networks: when one scale is not enough
#
# A **depthwise** convolution gives each channel a filter of its own, nine weights. MobileNets consist of these, and they are where quantization got its
# bad name. Batch-norm folding multiplies each filter with its channel's $\gamma/\sigma$, and nothing keeps these alike.

# %% tags=["demo", "nbval-ignore-output"]
mobile = cq.fold_batch_norms(zoo.load("mobilenet"))
depthwise = mobile.get_submodule("blocks.1.depthwise.0").weight
plot.channel_ranges(depthwise, title="A few channels of this depthwise layer dwarf all the others");

# %% tags=["demo"]
largest = depthwise.abs().amax(dim=(1, 2, 3))
print(f"largest magnitude in a channel: {largest.max():.1f}; in the median channel: {largest.median():.2f}, {largest.max() / largest.median():.0f} times less")

def mobile_accuracy(model, bits, per_channel=False, correct=False):
    """Accuracy on 500 images with that many bits for all weights and 8 for activations, not trained."""
    prepared = quantized(model, QATConfig(bits, 8, edge_bits=None, per_channel=per_channel))
    return evaluate(cq.correct_biases(prepared, calibration) if correct else prepared, images)

few_bits = [4, 5, 6, 8]
accuracy = {"one scale a layer": [mobile_accuracy(mobile, b) for b in few_bits],
            "one a channel": [mobile_accuracy(mobile, b, per_channel=True) for b in few_bits]}
print(f"{'bits':>20}:" + "".join(f"{b:8d}" for b in few_bits))
for way, row in accuracy.items():
    print(f"{way:>20}:" + "".join(f"{value:8.1%}" for value in row))
print(f"{'float32':>20}: {evaluate(mobile, images):.1%}")

# %% [markdown]
# With one scale a layer, accuracy falls off a cliff: at 4 bits a single step is larger than most channels' weights. Krishnamoorthi saw the cliff at *8* bits, for
# MobileNet on ImageNet: 0.1 % with one scale a layer, 59.1 % with one a channel, 70.9 % in float. Our small net can spare the three or four bits that a factor of
# 13 costs, as long as it has eight. The cure is the same: a scale per channel. What if the hardware only has one?

# %% [markdown]
# ### Cross-layer equalization
#
# A ReLU does not mind scale: $\mathrm{relu}(x/s) = \mathrm{relu}(x)/s$ for $s > 0$. So divide channel $i$ of one layer (weights and bias) by $s_i$, multiply
# the weights that read it in the next layer by $s_i$, and the network computes what it did (Nagel 2019). With $r^{(1)}_i$ and $r^{(2)}_i$ the largest magnitudes in
# that channel of both layers, the two become equal for
#
# $$s_i = \sqrt{r^{(1)}_i / r^{(2)}_i}$$
#
# Ranges flow from where they are too large to where there is room.

# %% [markdown]
# ### Exercise 5 · `equalization_scale` (3 points, about 4 lines)
#
# **Given** `weight1` (C, …) of the first layer, linear or convolution, and `weight2` (M, C, …) of the second, **return** $s$ as a tensor (C,). Where a channel
# is all zero in either layer, $s_i = 1$.
#
# Channel $i$ is row `weight1[i]`, and `weight2[:, i]`. Ranges 8 and 2 give $s = 2$: both become 4.


# %% nbgrader={"solution": true, "grade_id": "equalization_scale"}
def equalization_scale(weight1: Tensor, weight2: Tensor) -> Tensor:
    """The factor of each channel between two layers that makes their ranges in it equal."""
    ### BEGIN SOLUTION
    r1 = weight1.abs().flatten(1).amax(1)
    r2 = weight2.abs().transpose(0, 1).flatten(1).amax(1)
    return torch.where((r1 > 0) & (r2 > 0), torch.sqrt(r1 / r2), 1.0)
    ### END SOLUTION


# %% tags=["demo", "raises-exception"]
# Look: [2, 0.5]. The first channel gives some of its range away, the second takes some.
equalization_scale(torch.tensor([[8.0], [0.5]]), torch.tensor([[2.0, 2.0]]))

# %% nbgrader={"grade": true, "locked": true, "grade_id": "check-equalization_scale", "points": 3}
check("equalization_scale")

# %% tags=["demo", "nbval-ignore-output"]
hint("equalization_scale")

# %% [markdown]
# `cq.equalize` does it for all pairs of a network, round after round until nothing moves. A ReLU6 does mind scale, at its upper end: there each channel gets a
# limit of its own, $6/s_i$, and the function stays the same.

# %% tags=["demo"]
flat = cq.equalize(mobile)
with torch.inference_mode():
    difference = (flat(few) - mobile(few)).abs().max()
print(f"largest change of a logit, in float32: below {10 ** math.ceil(math.log10(difference)):.0e}")
for name in ("blocks.0.depthwise.0", "blocks.1.depthwise.0", "blocks.3.depthwise.0"):
    spread = [(r.max() / r.median()).item() for r in (m.get_submodule(name).weight.abs().amax(dim=(1, 2, 3)) for m in (mobile, flat))]
    print(f"{name}: largest range over median {spread[0]:.1f} -> {spread[1]:.1f}")

# %% [markdown]
# ### Bias correction
#
# Rounding errors of the nine weights of a depthwise filter do not average out, as those of hundreds would. They shift the filter's **mean** output, by the same amount
# for every image, and a shift is what a bias can undo:
#
# $$b' = b - (\hat W - W)\; \mathrm{E}[x]$$

# %% [markdown]
# ### Exercise 6 · `bias_correction` (2 points, 1 or 2 lines)
#
# **Given** a linear layer's `weight` and its `quantized` version (M, K), its `bias` (M,), and `input_mean` (K,), the mean of its inputs over some images,
# **return** the corrected bias (M,).
#
# A single weight rounded from 0.4 to 0.5, with inputs of mean 2, shifts the output by 0.2: the bias 1 becomes 0.8.


# %% nbgrader={"solution": true, "grade_id": "bias_correction"}
def bias_correction(weight: Tensor, quantized: Tensor, bias: Tensor, input_mean: Tensor) -> Tensor:
    """The bias that gives a layer with a quantized weight the mean output it had before."""
    ### BEGIN SOLUTION
    return bias - (quantized - weight) @ input_mean
    ### END SOLUTION


# %% tags=["demo", "raises-exception"]
# Look: 0.8.
bias_correction(torch.tensor([[0.4]]), torch.tensor([[0.5]]), torch.tensor([1.0]), torch.tensor([2.0]))

# %% nbgrader={"grade": true, "locked": true, "grade_id": "check-bias_correction", "points": 2}
check("bias_correction")

# %% tags=["demo", "nbval-ignore-output"]
hint("bias_correction")

# %% tags=["demo"]
accuracy["one a layer, equalized"] = [mobile_accuracy(flat, b) for b in few_bits]
accuracy["one a layer, both repairs"] = [mobile_accuracy(flat, b, correct=True) for b in few_bits]
print(f"{'bits':>27}:" + "".join(f"{b:8d}" for b in few_bits))
for way, row in accuracy.items():
    print(f"{way:>27}:" + "".join(f"{value:8.1%}" for value in row))

# %% tags=["demo", "nbval-ignore-output"]
plot.lines(few_bits, accuracy, percent=True, xticks=few_bits, xlabel="bits per weight", ylabel="accuracy on 500 images",
           references={"float32": evaluate(mobile, images)}, title="Two repairs without training do the work of a scale per channel");

# %% [markdown]
# ### When accuracy drops after quantization
#
# In this order, each step cheaper than the next:
#
# 1. Is the calibration set real, and of some hundreds of images? (Lesson 02.)
# 2. Weights or activations? Quantize one at a time, then layer by layer.
# 3. Weights: a scale per channel; else equalize and correct biases. Clip at few bits.
# 4. Activations: another range (percentile, least squares) where there are outliers.
# 5. More bits for the few layers that suffer most, the first and the last above all.
# 6. Only then train, from these weights and ranges.

# %% [markdown]
# ### Use it: your fake quantizer in the 4-bit network
#
# `use` takes your `fake_quantize_affine` if it passes its check, ours otherwise, and puts it in place of all activation quantizers of the 4-bit
# ResNet. The ledger gets the network as it would ship: in integers, in one file.

# %% tags=["demo"]
mine = use("fake_quantize_affine")

class Quantizer(nn.Module):
    """One activation quantizer, on your function."""

    def __init__(self, original):
        super().__init__()
        (self.scale, self.zero_point), self.n_bits = original.qparams(), original.n_bits

    def forward(self, x):
        return mine(x, self.scale, self.zero_point, self.n_bits)

yours = copy.deepcopy(small)
for name in list(cq.activation_ranges(small)):
    yours.set_submodule(f"quantizers.{name}", Quantizer(small.get_submodule(f"quantizers.{name}")))
path = "resnet20-w4a4-integer.safetensors"
cq.save_integer(integer, path)
after, size = evaluate(yours, test.take(1000)), measure.file_size(path)
print(f"accuracy on 1,000 images: {after:.1%}; file: {size:,} bytes, codes of 4 bits kept in a byte each")

# %% tags=["demo", "nbval-ignore-output"]
ledger = Ledger.open()
row = {"lesson": "03-quantization-aware-training", "macs": measure.macs(network, (1, 28, 28))}
ledger.add(step="4 bits, trained on the grid", accuracy=after, size_bytes=size, by=mine.by, **row)
ledger

# %% [markdown]
# ## 10 · From scratch to the tools people use
#
# PyTorch's own operator has the same straight-through gradient built in. Ours agrees, forward and backward.

# %% tags=["demo"]
x = torch.randn(10_000, generator=torch.Generator().manual_seed(1), requires_grad=True)
theirs = torch.fake_quantize_per_tensor_affine(x, 0.25, -2, -8, 7)
(their_gradient,) = torch.autograd.grad(theirs.sum(), x)
ours = cq.fake_quantize_affine(x.detach(), 0.25, -2, 4)
our_gradient = cq.ste_gradient(torch.ones(10_000), x.detach(), 0.25, -2, 4)
print(f"largest difference: {(theirs - ours).abs().max():.0e} forward, {(their_gradient - our_gradient).abs().max():.0e} backward")

# %% [markdown]
# The old interface, `torch.ao.quantization`, is deprecated; you will meet it in tutorials. It wants stubs where integers begin and end, an object for each sum, and batch norms
# **fused by hand** before `prepare_qat`: forget that, and they stay in the integer network. It freezes in two calls. What replaces it is **torchao**: one verb, `quantize_`,
# with a config for preparing and one for converting; its eager form knows linear layers only.

# %% tags=["demo", "nbval-ignore-output"]
import warnings


class OldBlock(nn.Module):
    """A residual block as torch.ao.quantization wants it."""

    def __init__(self):
        super().__init__()
        self.quant, self.dequant = tq.QuantStub(), tq.DeQuantStub()
        self.conv, self.bn, self.relu = nn.Conv2d(1, 1, 3, padding=1, bias=False), nn.BatchNorm2d(1), nn.ReLU()
        self.add = torch.ao.nn.quantized.FloatFunctional()

    def forward(self, x):
        x = self.quant(x)
        return self.dequant(self.add.add(self.relu(self.bn(self.conv(x))), x))

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    try:
        import torch.ao.quantization as tq

        old = tq.fuse_modules_qat(OldBlock().train(), [["conv", "bn", "relu"]])
        old.qconfig = tq.get_default_qat_qconfig("x86")
        old = tq.prepare_qat(old)
        old(few[:8]).sum().backward()  # here you would train
        old.apply(torch.ao.nn.intrinsic.qat.freeze_bn_stats).apply(tq.disable_observer)
        print("old:", type(tq.convert(old.eval()).conv))
    except (ImportError, AttributeError, RuntimeError) as error:
        print("the old interface is gone here:", error)

# %% tags=["demo", "nbval-ignore-output"]
import logging

logging.disable(logging.WARNING)  # torchao says much at import
try:
    from torchao.quantization import quantize_
    from torchao.quantization.qat import IntxFakeQuantizeConfig
    from torchao.quantization.qat import QATConfig as TorchaoConfig

    new = zoo.load("lenet300")
    weights = IntxFakeQuantizeConfig(torch.int4, "per_channel", is_symmetric=True)
    quantize_(new, TorchaoConfig(weight_config=weights, step="prepare"))
    new(few[:8]).sum().backward()  # here you would train
    print("torchao:", type(new.fc1).__name__, "with a gradient:", new.fc1.weight.grad is not None)
except ImportError as error:
    print("torchao is not installed here:", error)
logging.disable(logging.NOTSET)

# %% [markdown]
# ## 11 · In your own words
#
# ### Question 1 (3 points, graded by a person)
#
# When would you choose quantization-aware training over post-training quantization? Decide for three cases, with numbers measured in this notebook: (a) a ResNet for a phone whose chip computes
# in int8; (b) the same ResNet for a chip with 4-bit arithmetic, and one for a chip with 2-bit weights; (c) a MobileNet for a chip that has one scale per tensor, and you have 200 unlabelled
# images and no training code. Say what QAT needs that PTQ does not. (10 sentences at most.)

# %% [markdown] nbgrader={"grade": true, "solution": true, "grade_id": "question-qat-or-ptq", "points": 3}
# **A model answer.** (a) PTQ: at 8 bits it costs nothing that the card of section 8 shows, so there is nothing for training to win. (b) At 4 bits first try better scales, which bring back
# more than half of the loss for nothing; if what remains matters, QAT, which comes within a point of float32 after 40,000 images. At 2 bits only QAT: rounding leaves a network that guesses or nearly so,
# and the step must be learned as well (section 6); the price is some two points. (c) PTQ with repairs: labels and training are not to be had, and with equalization and bias correction one scale a layer is nearly as good as one a
# channel (section 9), from a few hundred images. QAT needs the labelled training data (or a teacher), the training code and its hyperparameters, much more time, and a trained network to start from; and it must
# be done again for every new grid.
#
# *Rubric:* one point for (a) and (b) with the right decision at 8, 4 and 2 bits and numbers; one for (c), the repairs with a number; one for what QAT needs: data with labels, training time and code, a trained
# start (any two).

# %% [markdown]
# ## What we measured
#
# | question | answer, from the cells above |
# | --- | --- |
# | Why does plain training fail through a rounding? | its gradient is 0 everywhere; straight-through replaces it by that of the ramp |
# | Which weight takes the step? | the latent one; rounded at every step, small steps are lost (section 4) |
# | What does training bring back at 2 bits? | with learned steps nearly all of LeNet's accuracy, in seconds (section 6) |
# | When is QAT worth it? | at 8 bits never, at 4 for the last point, at 2 always (section 8) |
# | What breaks depthwise networks? | channels far apart under one scale; a scale per channel, or equalization and bias correction, heal it |
#
# **References.** Y. Bengio, N. Léonard, A. Courville 2013, *Estimating or propagating gradients through stochastic neurons*, arXiv:1308.3432 · B. Jacob et al. 2018, *Quantization and
# training of neural networks for efficient integer-arithmetic-only inference*, arXiv:1712.05877 · R. Krishnamoorthi 2018, *Quantizing deep convolutional networks for efficient inference*,
# arXiv:1806.08342 · S. Esser et al. 2020, *Learned step size quantization*, arXiv:1902.08153 · M. Nagel et al. 2019, *Data-free quantization through weight equalization and bias correction*, arXiv:1906.04721.
#
# **Next:** 04, reduced precision: sixteen bits, and what computing with them costs and gains.
