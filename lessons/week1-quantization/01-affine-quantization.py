# %% [markdown]
# # 01 · Affine quantization: real numbers on an integer grid
#
# A trained network is millions of 32-bit numbers. This lesson puts them on a grid of 256 integers, or of 16, or of 4,
# and finds out what that costs. By the end you will have
#
# - **written** seven small functions from the bottom of every quantization library, and had each of them checked,
# - **seen**, on a real trained network, where the error comes from and what scale, zero point, channel and clipping do
#   about it,
# - **stored** that network in little more than a quarter of its bytes, and measured what it still gets right.
#
# **Before:** Python and PyTorch tensors; no other lesson. **You need** about two hours; there are 20 points to check yourself and 3
# that a person grades. **The machine needs** about 40 s for all cells, under 1 GB of memory, and no download.

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

import torch
from torch import Tensor

from coursekit import data, measure, plot, zoo
from coursekit import quantization as cq
from coursekit.ledger import Ledger
from coursekit.notebook import check, hint, solution, use
from coursekit.quantization import check_finite, fake_quantize, int_range
from coursekit.train import evaluate

torch.set_num_threads(1)  # small layers gain little from more, and times stay steady

# %% [markdown]
# ## 1 · Why it works at all
#
# Our companion for two weeks is a ResNet-20 that tells ten kinds of clothes apart. It ships with the course, trained, with
# the recipe that made it.

# %% tags=["demo"]
network = zoo.load("resnet20")
test = data.fashion_mnist("test", subset=True)  # 2,000 test images that every machine has
print(test)
print(f"parameters: {measure.n_parameters(network):,}")
size = measure.saved_size(network)
print(f"file:       {size:,} bytes, {size / measure.n_parameters(network):.2f} per parameter")
print(f"accuracy:   {evaluate(network, test):.1%}")

# %% tags=["demo", "nbval-ignore-output"]
guesses = network(test.images[:8]).argmax(1)
captions = [data.FASHION_CLASSES[k] for k in guesses]
plot.images(test.images[:8], captions, title="What the network says it sees");

# %% [markdown]
# Quantization bets on two facts. A network does not need its numbers to seven digits: it was trained on noisy batches, and
# small errors in many weights average out. And its weights are no arbitrary numbers, but a bell around zero, so that a
# few evenly spaced values come close to all of them. Here is one layer of ours, over the 16 values, or **levels**, of 4 bits.

# %% tags=["demo", "nbval-ignore-output"]
weight = network.stage2[2].conv2.weight.detach()
scale = cq.symmetric_scale(weight, n_bits=4)  # you write these functions yourself, below
levels = cq.dequantize(torch.arange(-8, 8), scale)
plot.histogram_with_levels(weight, levels, title="4 bits leave most weights a handful of levels");

# %% tags=["demo"]
print(f"weights in this layer:   {weight.numel():,}")
print(f"different values before: {weight.unique().numel():,}")
print(f"different values after:  {fake_quantize(weight, scale, 4).unique().numel()}, of 16 levels")

# %% [markdown]
# ## 2 · The formula
#
# Quantizing replaces a real number $x$ by an integer $q$, its **code**. An **affine** quantizer (a straight line and an offset) has two
# parameters. The **scale** $s$ is the length of one step, in units of $x$. The **zero point** $z$ is the code that means exactly $0.0$.
#
# $$q = \mathrm{clamp}\!\left(\mathrm{round}\!\left(\frac{x}{s}\right) + z,\; q_{\min},\; q_{\max}\right)
# \qquad\qquad \hat x = s\,(q - z)$$

# %% [markdown]
# With $b$ bits, $q_{\min} = -2^{b-1}$ and $q_{\max} = 2^{b-1}-1$: `int_range(8)` is (−128, 127). Inside the range nothing
# moves by more than half a step. Outside, clamp cuts values off at the ends: they **saturate**.

# %% tags=["demo", "nbval-ignore-output"]
def three_bits(x):
    """Quantized to the 8 codes of 3 bits and back."""
    return cq.dequantize(cq.quantize(x, 0.5, -1, n_bits=3), 0.5, -1)


plot.staircase(
    three_bits, -2.5, 3.0, title="Rounding costs half a step at most; clipping costs as much as it likes"
);

# %% [markdown]
# ### A formula you will meet elsewhere, and why it fails
#
# Some tutorials print $q = \mathrm{round}((x - z)/s)$ and $\hat x = s\,(q + z)$. It looks harmless. But $z$ is a *code*, and $x$ is
# in other units: the formula subtracts apples from oranges. (For $z = 0$ both agree, which is how the mistake survives. With a *real* offset $\beta$, $\mathrm{round}((x-\beta)/s)$ would be right.) Run
# both on our layer.

# %% tags=["demo"]
scale, zero_point = cq.affine_qparams(weight)
qmin, qmax = int_range(8)

right = cq.quantize(weight, scale, zero_point)
wrong = torch.clamp(torch.round((weight - zero_point) / scale), qmin, qmax)

right_back = scale * (right.float() - zero_point)
wrong_back = scale * (wrong + zero_point)
print(f"scale {scale:.4f}, zero point {zero_point}")
for name, q, back in (("x/s + z", right, right_back), ("(x - z)/s", wrong, wrong_back)):
    print(
        f"{name:>9}: {q.unique().numel():3d} different codes, largest error {(weight - back).abs().max():.4f}"
    )
print(f"half a step is {scale / 2:.4f}, the largest weight {weight.abs().max():.4f}")

# %% [markdown]
# The wrong formula sends every weight to one and the same code. Nothing raises an error, and that is what makes such bugs
# expensive: only a measurement shows them.

# %% [markdown]
# ## 3 · Scale and zero point
#
# Take the range of the data, $lo = \min(x)$ to $hi = \max(x)$, and stretch it if need be so that it **contains 0**:
#
# $$lo' = \min(lo, 0), \quad hi' = \max(hi, 0), \qquad s = \frac{hi' - lo'}{q_{\max} - q_{\min}}, \qquad
# z = \mathrm{round}\!\left(q_{\min} - \frac{lo'}{s}\right)$$

# %% [markdown]
# Zero is not just any number here. Padding writes it around every image, and a ReLU writes it wherever its input is negative.
# If 0.0 has no code of its own, all these zeros come back as something else, and all with the same error.

# %% [markdown]
# ### Exercise 1 · `affine_qparams` (4 points, about 5 lines)
#
# **Given** a floating-point tensor `x` of any shape and `n_bits` from 2 to 8, **return** `(scale, zero_point)`: a Python
# `float` above 0 and a Python `int`.
#
# - The range is widened to include 0, as in the formula above.
# - `x = [-1.0, 2.0]` with 8 bits gives `scale = 3/255`, `zero_point = -43`.
# - A tensor of zeros has a range of width 0: return any finite scale above 0.
#
# `int_range(n_bits)` returns `(qmin, qmax)`. `check_finite` has already refused empty tensors and NaN.


# %% nbgrader={"solution": true, "grade_id": "affine_qparams"}
def affine_qparams(x: Tensor, n_bits: int = 8) -> tuple[float, int]:
    """Scale (float > 0) and zero point (int) that put x, widened to include 0, on signed n_bits integers."""
    check_finite(x)
    ### BEGIN SOLUTION
    qmin, qmax = int_range(n_bits)
    lo, hi = min(x.min().item(), 0.0), max(x.max().item(), 0.0)
    scale = (hi - lo) / (qmax - qmin)
    if scale == 0:
        return 1.0, qmin
    return scale, round(qmin - lo / scale)
    ### END SOLUTION


# %% tags=["demo", "raises-exception"]
# Look: the lowest and the highest code should mean the two ends of x, to within half a step.
scale, zero_point = affine_qparams(torch.tensor([-1.0, 2.0]))
print(f"scale {scale:.6f}, zero point {zero_point}")
print(f"code -128 means {scale * (-128 - zero_point):+.4f}, code 127 means {scale * (127 - zero_point):+.4f}")

# %% nbgrader={"grade": true, "locked": true, "grade_id": "check-affine_qparams", "points": 4}
check("affine_qparams")

# %% tags=["demo", "nbval-ignore-output"]
hint("affine_qparams")

# %% [markdown]
# ### What happens without the 0
#
# For data in 5…6, skip the widening. The steps become finer, and yet:

# %% tags=["demo"]
x = torch.linspace(5.0, 6.0, 1001)

def largest_error(x, scale, zero_point):
    """The largest error of x after a round trip through int8."""
    return (x - cq.dequantize(cq.quantize(x, scale, zero_point), scale, zero_point)).abs().max()

narrow = (x.max() - x.min()).item() / 255
exact = round(-128 - x.min().item() / narrow)
clamped = max(-128, exact)
wide, zero_point = cq.affine_qparams(x)
print(f"5...6, as it is:         zero point {exact}, largest error {largest_error(x, narrow, exact):.4f}")
print(f"5...6, z clamped:        zero point {clamped}, largest error {largest_error(x, narrow, clamped):.4f}")
print(f"0...6, widened:          zero point {zero_point}, largest error {largest_error(x, wide, zero_point):.4f}")
print(f"codes that 5...6 uses then: {cq.quantize(x, wide, zero_point).unique().numel()} of 256")

# %% [markdown]
# As it is, the zero point is no code of 8 bits: nothing in an `int8` tensor means 0.0, and no padding can be written. Clamping it into the
# range, as one also reads, is worse than either: all of 5…6 lands on the highest code, and comes back as 1.0. Widening costs some
# resolution and makes sure that the zero point is a code.

# %% [markdown]
# ## 4 · There and back
#
# ### Exercise 2 · `quantize` (3 points, about 3 lines)
#
# **Given** `x` (floating point, any shape), `scale`, `zero_point` and `n_bits`, **return** the codes as an `int8` tensor of the
# shape of `x`:
#
# $$q = \mathrm{clamp}(\mathrm{round}(x / s) + z,\; q_{\min},\; q_{\max})$$
#
# `scale` is a float, or a tensor that broadcasts against `x`. Codes of 2 to 8 bits are all kept in `int8`. An exact half may
# go to either neighbour. The four operations must come in this order, and the cast to `int8` after
# them: what does `torch.tensor(200.).to(torch.int8)` give?


# %% nbgrader={"solution": true, "grade_id": "quantize"}
def quantize(x: Tensor, scale: float | Tensor, zero_point: int = 0, n_bits: int = 8) -> Tensor:
    """The int8 codes of x: divided by scale, rounded, moved by zero_point, clamped to n_bits."""
    ### BEGIN SOLUTION
    qmin, qmax = int_range(n_bits)
    q = torch.round(x / scale) + zero_point
    return torch.clamp(q, qmin, qmax).to(torch.int8)
    ### END SOLUTION


# %% tags=["demo", "raises-exception"]
# Look: 0.0 gets the code 3, 0.26 the next one, and 90 is far outside and saturates at 127.
quantize(torch.tensor([-1.0, 0.0, 0.26, 0.5, 90.0]), scale=0.25, zero_point=3)

# %% nbgrader={"grade": true, "locked": true, "grade_id": "check-quantize", "points": 3}
check("quantize")

# %% tags=["demo", "nbval-ignore-output"]
hint("quantize")

# %% [markdown]
# ### Exercise 3 · `dequantize` (3 points, 1 or 2 lines)
#
# **Given** codes `q` (`int8`, any shape), `scale` and `zero_point`, **return** the real values they stand for, as a `float32` tensor:
#
# $$\hat x = s\,(q - z)$$
#
# `scale` is a float, or a tensor that broadcasts against `q`. One thing is easy to get wrong: an `int8` tensor minus a Python `int` is
# still an `int8` tensor.


# %% nbgrader={"solution": true, "grade_id": "dequantize"}
def dequantize(q: Tensor, scale: float | Tensor, zero_point: int = 0) -> Tensor:
    """The float32 values that the integer codes q stand for."""
    ### BEGIN SOLUTION
    return (q.to(torch.float32) - zero_point) * scale
    ### END SOLUTION


# %% tags=["demo", "raises-exception"]
# Look: three codes, 255 steps from the first to the last.
dequantize(torch.tensor([-128, 0, 127], dtype=torch.int8), scale=0.5, zero_point=-128)

# %% nbgrader={"grade": true, "locked": true, "grade_id": "check-dequantize", "points": 3}
check("dequantize")

# %% tags=["demo", "nbval-ignore-output"]
hint("dequantize")

# %% [markdown]
# ## 5 · Measuring the loss
#
# A mean squared error of 0.001 is small for weights around 1 and a disaster for weights around 0.01. The
# **signal-to-quantization-noise ratio** compares the error with the signal, in decibels:
#
# $$\mathrm{SQNR} = 10 \log_{10} \frac{\sum x^2}{\sum (x - \hat x)^2}$$
#
# 20 dB is an error of a tenth (root mean square), 40 dB of a hundredth. Rounding to a grid of step $s$ makes an error that is
# about uniform on $-s/2 \dots s/2$, with mean square $s^2/12$. One more bit halves $s$, or nearly so: $20\log_{10} 2 \approx 6$ dB.

# %% [markdown]
# ### Exercise 4 · `sqnr_db` (2 points, about 4 lines)
#
# **Given** `x` and `x_hat` of one shape, **return** their SQNR as a Python `float`; `math.inf` if they are equal.
#
# `x = [3, 4]`, `x_hat = [3, 4.5]` has powers 25 and 0.25: a ratio of 100, so 20 dB.


# %% nbgrader={"solution": true, "grade_id": "sqnr_db"}
def sqnr_db(x: Tensor, x_hat: Tensor) -> float:
    """Signal-to-quantization-noise ratio in decibels; inf if nothing was lost."""
    ### BEGIN SOLUTION
    signal = x.square().sum().item()
    noise = (x - x_hat).square().sum().item()
    return 10 * math.log10(signal / noise) if noise > 0 else math.inf
    ### END SOLUTION


# %% tags=["demo", "raises-exception"]
# Look: should be 20.
print(f"{sqnr_db(torch.tensor([3.0, 4.0]), torch.tensor([3.0, 4.5])):.1f} dB")

# %% nbgrader={"grade": true, "locked": true, "grade_id": "check-sqnr_db", "points": 2}
check("sqnr_db")

# %% tags=["demo", "nbval-ignore-output"]
hint("sqnr_db")

# %% [markdown]
# Does the theory hold for real weights? Quantize the layer from above with 2 to 8 bits and measure.


# %% tags=["demo"]
def affine_round_trip(x, n_bits):
    """x quantized with the affine scheme and back."""
    scale, zero_point = cq.affine_qparams(x, n_bits)
    return cq.dequantize(cq.quantize(x, scale, zero_point, n_bits), scale, zero_point)


bits = list(range(2, 9))
affine_db = [measure.sqnr_db(weight, affine_round_trip(weight, b)) for b in bits]
steps = [cq.affine_qparams(weight, b)[0] for b in bits]
theory_db = [10 * math.log10(weight.square().mean() / (s**2 / 12)) for s in steps]
print("bits:        ", bits)
print("measured, dB:", [round(db, 1) for db in affine_db])
print("s²/12, dB:   ", [round(db, 1) for db in theory_db])
print("step / spread:", [round(s / weight.std().item(), 2) for s in steps])

# %% tags=["demo", "nbval-ignore-output"]
plot.lines(bits, {"measured": affine_db, "theory, s²/12": theory_db}, xticks=bits, xlabel="bits per value", ylabel="SQNR (dB)",
           title="The theory holds until a step is twice the weights' spread");

# %% [markdown]
# ## 6 · Symmetric or asymmetric?
#
# A zero point of the **weights** costs time. One output of a layer is a sum over its inputs,
#
# $$\sum s_w (q_w - z_w)\; s_x (q_x - z_x) = s_w s_x \Bigl(\sum q_w q_x - z_w \sum q_x - z_x \sum q_w + n\, z_w z_x\Bigr)$$
#
# and $\sum q_x$ must be computed anew for every input. The other two extra terms are known in advance. Setting $z_w = 0$ removes the
# costly one. This is **symmetric** quantization: only the largest magnitude counts.
#
# $$s = \frac{\max |x|}{q_{\max}}, \qquad z = 0$$

# %% [markdown]
# ### Exercise 5 · `symmetric_scale` (2 points, 2 or 3 lines)
#
# **Given** `x` (floating point, any shape) and `n_bits`, **return** the symmetric scale as a Python `float` above 0. A tensor of zeros
# gets any finite scale above 0.
#
# `x = [-2.54, 1.0]` with 8 bits gives 0.02.


# %% nbgrader={"solution": true, "grade_id": "symmetric_scale"}
def symmetric_scale(x: Tensor, n_bits: int = 8) -> float:
    """The step that puts the largest magnitude of x on the highest code; the zero point is 0."""
    check_finite(x)
    ### BEGIN SOLUTION
    _, qmax = int_range(n_bits)
    scale = x.abs().max().item() / qmax
    return scale if scale > 0 else 1.0
    ### END SOLUTION


# %% tags=["demo", "raises-exception"]
# Look: should be 0.02.
print(f"{symmetric_scale(torch.tensor([-2.54, 1.0])):.4f}")

# %% nbgrader={"grade": true, "locked": true, "grade_id": "check-symmetric_scale", "points": 2}
check("symmetric_scale")

# %% tags=["demo", "nbval-ignore-output"]
hint("symmetric_scale")

# %% [markdown]
# What does the simpler scheme lose? That depends on the data. Compare the same layer's **weights** with its **input**: the output of a
# ReLU, recorded while real images run through the network.

# %% tags=["demo"]
recorded = {}
hook = network.stage2[2].conv2.register_forward_pre_hook(
    lambda module, args: recorded.update(x=args[0].detach())
)
with torch.inference_mode():
    network(test.images[:256])
hook.remove()
activation = recorded["x"]
print(f"weights: {weight.min():+.2f} to {weight.max():+.2f}")
print(
    f"input:   {activation.min():+.2f} to {activation.max():+.2f}, {(activation == 0).float().mean():.0%} exactly 0"
)


# %% tags=["demo"]
def symmetric_round_trip(x, n_bits):
    """x quantized with the symmetric scheme and back."""
    return fake_quantize(x, cq.symmetric_scale(x, n_bits), n_bits)


by_scheme = {
    scheme: {
        name: measure.sqnr_db(x, round_trip(x, 8)) for name, x in (("weights", weight), ("input", activation))
    }
    for scheme, round_trip in (("symmetric", symmetric_round_trip), ("affine", affine_round_trip))
}
for name in ("weights", "input"):
    gain = by_scheme["affine"][name] - by_scheme["symmetric"][name]
    print(f"{name:>7}: affine is better by {gain:.1f} dB")

# %% tags=["demo", "nbval-ignore-output"]
plot.bars(
    by_scheme,
    ylabel="SQNR at 8 bits (dB)",
    fmt="{:.1f}",
    title="A zero point is worth a bit on ReLU outputs, little on weights",
);

# %% [markdown]
# A ReLU's output has no negative half, so the symmetric grid never uses its negative codes: half of all, one bit, 6 dB. Weights lie on
# both sides of 0 and lose little. Hence the usual choice: **symmetric weights, affine activations**. The zero point of the
# activations costs nothing at run time: $z_x \sum q_w$ does not depend on the input and goes into the bias, once
# (if padding is filled with the code $z_x$, not with 0).

# %% [markdown]
# ## 7 · One scale, or one for each channel?
#
# The largest weight of a layer sets the scale for all. But each **output channel** of a convolution is a filter of its own, and
# their sizes differ.

# %% tags=["demo", "nbval-ignore-output"]
plot.channel_ranges(weight, title="One channel sets the scale for all the others");

# %% tags=["demo"]
largest = weight.abs().amax(dim=(1, 2, 3))
print(
    f"largest magnitude in a channel: {largest.min():.3f} to {largest.max():.3f}, a factor of "
    f"{largest.max() / largest.min():.1f}"
)

# %% [markdown]
# ### Exercise 6 · `symmetric_scale_per_channel` (3 points, about 4 lines)
#
# **Given** `weight` (two or more dimensions), `n_bits` and the channel dimension `axis` (0 or more), **return** one symmetric scale for each channel,
# $s_c = \max |w_c| / q_{\max}$, as a tensor of size 1 in every dimension but `axis`: for a convolution's `(C_out, C_in, K, K)` that is
# `(C_out, 1, 1, 1)`. So `weight / scale` broadcasts, and your `quantize` works as it is.
#
# A channel of zeros gets any finite scale above 0; it must not change the others.


# %% nbgrader={"solution": true, "grade_id": "symmetric_scale_per_channel"}
def symmetric_scale_per_channel(weight: Tensor, n_bits: int = 8, axis: int = 0) -> Tensor:
    """One symmetric scale per channel, of size 1 in every dimension but axis."""
    check_finite(weight)
    ### BEGIN SOLUTION
    _, qmax = int_range(n_bits)
    others = tuple(d for d in range(weight.dim()) if d != axis)
    scale = weight.abs().amax(dim=others, keepdim=True) / qmax
    return torch.where(scale > 0, scale, 1.0)
    ### END SOLUTION


# %% tags=["demo", "raises-exception"]
# Look: one scale per channel, in a shape that broadcasts.
symmetric_scale_per_channel(weight).shape

# %% nbgrader={"grade": true, "locked": true, "grade_id": "check-symmetric_scale_per_channel", "points": 3}
check("symmetric_scale_per_channel")

# %% tags=["demo", "nbval-ignore-output"]
hint("symmetric_scale_per_channel")

# %% tags=["demo"]
per_channel_db = []
for b in bits:
    per_channel = fake_quantize(weight, cq.symmetric_scale_per_channel(weight, b), b)
    per_channel_db.append(measure.sqnr_db(weight, per_channel))
per_tensor_db = [measure.sqnr_db(weight, symmetric_round_trip(weight, b)) for b in bits]
print("per tensor: ", [round(db, 1) for db in per_tensor_db])
print("per channel:", [round(db, 1) for db in per_channel_db])
print("gain:       ", [round(b - a, 1) for a, b in zip(per_tensor_db, per_channel_db, strict=True)])

gains = []
for name in cq.weight_names(network):
    w = network.get_parameter(name).detach()
    one, many = fake_quantize(w, cq.symmetric_scale(w), 8), fake_quantize(w, cq.symmetric_scale_per_channel(w), 8)
    gains.append(measure.sqnr_db(w, many) - measure.sqnr_db(w, one))
print(f"gain at 8 bits over all {len(gains)} layers: {min(gains):.1f} to {max(gains):.1f} dB, {sum(gains) / len(gains):.1f} on average")

# %% tags=["demo", "nbval-ignore-output"]
plot.error_by_bits(
    bits,
    {"one scale per channel": per_channel_db, "one scale for all": per_tensor_db},
    decibel=True,
    ylabel="SQNR (dB)",
    title="In this layer a scale per channel is worth a whole bit, from 3 bits up",
);

# %% [markdown]
# How bad can it get? Make one channel a hundred times larger, and look at the *others*.

# %% tags=["demo"]
spoiled = weight.clone()
spoiled[0] *= 100
for name, scale_of in (("one scale", cq.symmetric_scale), ("one per channel", cq.symmetric_scale_per_channel)):
    back = fake_quantize(spoiled, scale_of(spoiled, 8), 8)
    print(f"{name:>16}: all channels {measure.sqnr_db(spoiled, back):.1f} dB, "
          f"all but the large one {measure.sqnr_db(spoiled[1:], back[1:]):.1f} dB")

# %% [markdown]
# With one scale the other channels are as good as gone, and the SQNR of the whole tensor hides it, because the large channel is most of the
# signal. A scale per channel costs one `float32` in the file, against hundreds of weights, and nothing at run time: it multiplies a whole
# output, after the sum. (A scale per *input* channel could not be taken out of the sum. Hence `axis` 0; transposed convolutions keep their outputs on axis 1.)

# %% [markdown]
# ## 8 · Choosing the range: what clipping buys
#
# However many scales there are, a few large weights set each of them. What if we **clip** these at a threshold $c$ and use finer steps for
# the rest? Two errors pull against each other:
#
# - a smaller $c$ makes the **clipping error** of the few larger,
# - a larger $c$ makes the **rounding error** of the many larger, in proportion to $c^2$.

# %% [markdown]
# Min-max is the end of that scale where nothing is clipped. There is no reason that it should be the best.

# %% tags=["demo", "nbval-ignore-output"]
thresholds = weight.abs().max().item() * torch.arange(10, 101) / 100
clipping, rounding = zip(*(cq.error_parts(weight, c.item(), n_bits=4) for c in thresholds), strict=False)
plot.clip_curve(
    thresholds,
    clipping,
    rounding,
    xlabel="clipping threshold c",
    title="At 4 bits, cutting off the largest weights lowers the error",
);

# %% [markdown]
# ### Exercise 7 · `mse_clip` (3 points, about 7 lines)
#
# **Given** `x`, `n_bits` and `n_candidates`, **return** the threshold $c$ (a Python `float`) whose symmetric grid has the smallest mean squared
# error. Try $c_k = \max|x| \cdot k / n$ for $k = 1 \dots n$, each with scale $c_k / q_{\max}$.
#
# `fake_quantize(x, scale, n_bits)` is given: the symmetric round trip, quantize and dequantize at once. A tensor of zeros gets any finite
# threshold above 0.


# %% nbgrader={"solution": true, "grade_id": "mse_clip"}
def mse_clip(x: Tensor, n_bits: int = 8, n_candidates: int = 100) -> float:
    """The clipping threshold with the smallest mean squared error among n_candidates."""
    check_finite(x)
    ### BEGIN SOLUTION
    _, qmax = int_range(n_bits)
    largest = x.abs().max().item() or 1.0

    def error(c: float) -> float:
        return (x - fake_quantize(x, c / qmax, n_bits)).square().mean().item()

    return min((largest * k / n_candidates for k in range(1, n_candidates + 1)), key=error)
    ### END SOLUTION


# %% tags=["demo", "raises-exception"]
# Look: the fewer the bits, the more it pays to clip.
for b in (8, 6, 4, 3):
    c = mse_clip(weight, b)
    gain = measure.sqnr_db(weight, fake_quantize(weight, c / int_range(b)[1], b)) - per_tensor_db[bits.index(b)]
    print(f"{b} bits: clip at {c:.3f}, {c / weight.abs().max():.0%} of the largest weight, {gain:+.1f} dB")

# %% nbgrader={"grade": true, "locked": true, "grade_id": "check-mse_clip", "points": 3}
check("mse_clip")

# %% tags=["demo", "nbval-ignore-output"]
hint("mse_clip")

# %% [markdown]
# ## 9 · What the network says
#
# Decibels are a means. What does the network still get right? `quantize_weights` sends every weight through the integers and back; here
# with each number of bits and four ways to choose the scale. (About 25 s.)

# %% tags=["demo"]
def clipped(w, n_bits):
    """The scale of the best clipping threshold, one for the whole tensor."""
    return cq.mse_clip(w, n_bits, n_candidates=20) / int_range(n_bits)[1]

def clipped_per_channel(w, n_bits):
    """The same for each output channel, shaped to broadcast."""
    return torch.tensor([clipped(channel, n_bits) for channel in w]).reshape(-1, *[1] * (w.dim() - 1))

ways = {"one scale": cq.symmetric_scale, "one scale, clipped": clipped,
        "one per channel": cq.symmetric_scale_per_channel, "one per channel, clipped": clipped_per_channel}

# %% tags=["demo"]
images, few = test.take(1000), [2, 3, 4, 5, 6, 8]
reference = evaluate(network, images)
accuracy = {way: [evaluate(cq.quantize_weights(network, b, scale_of=f), images) for b in few]
            for way, f in ways.items()}
print(f"{'bits per weight':>24}:" + "".join(f"{b:7d}" for b in few))
for way, row in accuracy.items():
    print(f"{way:>24}:" + "".join(f"{a:7.1%}" for a in row))
standard_error = math.sqrt(reference * (1 - reference) / len(images))
print(f"{'float32':>24}: {reference:.1%}, known to about {2 * standard_error:.1%} from {len(images):,} images")

# %% tags=["demo", "nbval-ignore-output"]
plot.lines(few, accuracy, references={"float32": reference}, percent=True, xticks=few, xlabel="bits per weight",
           ylabel="accuracy on 1,000 images", title="From 5 bits up any scale will do; at 3 the choice decides");

# %% [markdown]
# With 5 bits and more all four are within the noise of 1,000 images. With 2 bits, which leave a symmetric grid the three levels $-s, 0, s$,
# all are at the tenth that guessing gives: no choice of scale brings that back, and lesson 03 will have to train the network for it. And at 3
# bits? Compare with the decibels of our layer.

# %% tags=["demo"]
for way, scale_of in ways.items():
    db = measure.sqnr_db(weight, fake_quantize(weight, scale_of(weight, 3), 3))
    print(f"{way:>24}: {db:4.1f} dB in one layer, {accuracy[way][few.index(3)]:.1%} right")

# %% [markdown]
# The most decibels do not win. Clipping each channel makes the smallest squared error, but it cuts off just the large weights, and a network
# leans on these more than their share of the squares says. So use decibels to understand and to choose candidates, and let the network have
# the last word. Lesson 02 does so layer by layer.

# %% [markdown]
# ### Use it: your functions on the whole network
#
# Now with your own `quantize` and scales. `use` takes your function if it passes its check, ours otherwise. The file, beside this notebook, holds
# one byte per weight, and it is loaded again before anything is measured.

# %% tags=["demo"]
mine = {name: use(name) for name in ("symmetric_scale_per_channel", "quantize")}
path = "resnet20-int8.safetensors"
cq.save_quantized(network, path, scale_of=mine["symmetric_scale_per_channel"], quantize=mine["quantize"])
small = cq.load_quantized(path, zoo.load("resnet20"))
size_before, size_after = measure.saved_size(network), measure.file_size(path)
before, after = evaluate(network, test), evaluate(small, test)
print(f"{size_before:,} bytes -> {size_after:,} bytes: {size_before / size_after:.2f} times smaller")
print(f"accuracy on 2,000 images: {before:.2%} -> {after:.2%}")

# %% [markdown]
# Your **ledger** keeps one row for every step of the two weeks: accuracy, bytes, non-zero parameters, multiply-accumulates (MACs) for one image,
# later also time, and whose functions made it.

# %% tags=["demo", "nbval-ignore-output"]
ledger = Ledger.open()
by = "yours" if all(function.by == "yours" for function in mine.values()) else "reference"
row = {"lesson": "01-affine-quantization", "macs": measure.macs(network, (1, 28, 28))}
ledger.add(step="float32", accuracy=before, size_bytes=size_before, nonzero=measure.nonzero(network), by="reference", **row)
ledger.add(step="int8 weights, per channel", accuracy=after, size_bytes=size_after, nonzero=measure.nonzero(small), by=by, **row)
ledger

# %% [markdown]
# Almost a quarter: the scales, the batch norms and the file's own table of contents are still there in full. And the network is no faster, as
# its weights go back to `float32` before they are used. Computing *with* the integers is lesson 02.

# %% [markdown]
# ## 10 · Play with it
#
# Choose a tensor, a number of bits, a scheme, and how much of the range to keep. Which range gives the most decibels at 3 bits, and which at 8?

# %% tags=["demo", "nbval-ignore-output"]
from coursekit.explore import explore_quantizer

explore_quantizer({
    "weights of stage 2": weight,
    "its input (a ReLU)": activation,
    "the last layer": network.fc.weight,
})

# %% [markdown]
# ## 11 · From scratch to the tools people use
#
# PyTorch has these operations built in, written in C++. If ours are right, they agree code for code.

# %% tags=["demo"]
scale, zero_point = cq.affine_qparams(activation)
theirs = torch.fake_quantize_per_tensor_affine(activation, scale, zero_point, -128, 127)
ours = cq.dequantize(cq.quantize(activation, scale, zero_point), scale, zero_point)
print(f"affine, per tensor:     largest difference {(theirs - ours).abs().max() / scale:.3f} steps")

scales = cq.symmetric_scale_per_channel(weight)
zeros = torch.zeros(len(weight), dtype=torch.int32)
theirs = torch.fake_quantize_per_channel_affine(weight, scales.flatten(), zeros, 0, -128, 127)
ours = cq.dequantize(cq.quantize(weight, scales), scales)
print(f"symmetric, per channel: largest difference {((theirs - ours).abs() / scales).max():.3f} steps")

# %% [markdown]
# `torch.ao.quantization`, which older texts use, wraps the same arithmetic in observers and modules; it is deprecated, and its place is
# taken by `torchao` and by runtimes such as ONNX Runtime. Lesson 02 runs our numbers there.

# %% [markdown]
# ## 12 · In your own words
#
# ### Question 1 (3 points, graded by a person)
#
# A colleague quantizes every tensor of a network, weights and activations, with one **symmetric** scale per tensor, at 8 bits, "because it is
# simpler". What does that cost, in decibels or bits, and why, for (a) the weights of an ordinary convolution, (b) the output of a ReLU, (c) the
# *other* channels of a layer in which one channel's weights are a hundred times as large? What would you do instead? Use numbers measured in
# this notebook. (8 sentences at most.)

# %% [markdown] nbgrader={"grade": true, "solution": true, "grade_id": "question-symmetric", "points": 3}
# **A model answer.** (a) The zero point matters little: the weights lie on both sides of 0, and affine was better by only 1.4 dB, a quarter of a
# bit (section 6), so keep symmetric, which saves the sum over $q_x$. The single scale costs more: one per channel gains 7.2 dB, more than a bit.
# (b) 6.1 dB, one bit: the output is never negative, so half of the codes are never used. Use an affine scheme; its zero point goes into the bias.
# (c) Almost everything: the large channel makes the steps a hundred times too wide, $20\log_{10} 100 = 40$ dB or 6 to 7 of 8 bits, and section 7
# printed what is left. Use one scale per channel, which costs one number per channel in the file and nothing at run time.
#
# *Rubric:* one point each for (a), (b), (c): half for the right size of the loss with its reason, half for the remedy.

# %% [markdown]
# ## What we measured
#
# | question | answer, from the cells above |
# | --- | --- |
# | How much is a bit worth? | about 6 dB of SQNR, as $s^2/12$ says, until a step is twice the weights' spread |
# | Symmetric or affine? | weights symmetric; ReLU outputs affine, which is worth one bit there |
# | One scale, or one per channel? | one per channel: 7.2 dB in our layer, for one number per channel |
# | When does clipping pay? | in decibels with few bits: +6.6 dB at 4, +0.3 at 8; in accuracy only at 3 bits, and not per channel |
# | What does int8 cost the network? | nothing that 2,000 images could show; the file is 3.7 times smaller |
#
# **References.** B. Jacob et al. 2018, *Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference*,
# arXiv:1712.05877 · R. Krishnamoorthi 2018, *Quantizing deep convolutional networks for efficient inference*, arXiv:1806.08342 · R. Banner et
# al. 2019, *Post-training 4-bit quantization of convolution networks for rapid-deployment*, arXiv:1810.05723 · W. Bennett 1948, *Spectra of
# quantized signals* (the $s^2/12$).
#
# **Next:** 02, post-training quantization: activations too, and arithmetic in integers.
