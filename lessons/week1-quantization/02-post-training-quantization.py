# %% [markdown]
# # 02 · Post-training quantization: a network that computes in integers
#
# Lesson 01 put the weights on an integer grid; the arithmetic stayed in floating point. This lesson does the rest without any training: the
# activations, the additions, the file, the clock. By the end you will have
#
# - **written** the parts of an integer network: an observer, batch-norm folding, requantization, a linear layer from int8 to int8,
# - **seen** a ResNet-20 run in integers from its first pixel to its last logit, and measured what that does to bytes, time and accuracy,
# - **found** the layers that need their bits, and given each as many as a budget of bytes allows.
#
# **Before:** lesson 01. **You need** about two and a half hours; there are 22 points to check yourself and 3 that a person grades. **The
# machine needs** about 60 s for all cells, about 1 GB of memory, and no download.

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
import logging
import math
import warnings

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coursekit import data, measure, plot, zoo
from coursekit import quantization as cq
from coursekit.deploy import OrtModel, engine_accuracy, export_float, export_qdq
from coursekit.ledger import Ledger
from coursekit.notebook import check, hint, solution, use
from coursekit.quantization import fake_quantize, int_range, symmetric_scale_per_channel, weight_names
from coursekit.train import evaluate, predict

torch.set_num_threads(1)  # small layers gain little from more, and times stay steady

# %% [markdown]
# ## 1 · What is left to quantize
#
# A layer multiplies weights by **activations**. To do that in integers, both must be codes. The weights lie in the file, and their ranges can be
# read off. The activations do not exist until an image comes, and then there is no time to look for their range. So we look beforehand, on
# images like those to come. That is **calibration**, and the images are the **calibration set**.
#
# Ours comes from the training images. The test images must not take part in any choice.

# %% tags=["demo"]
network = zoo.load("resnet20")
train = data.fashion_mnist("train", subset=True)
test = data.fashion_mnist("test", subset=True)
calibration, few = train.images[:200], test.take(400)
print(f"calibration: {len(calibration)} images, values {calibration.min():.2f} to {calibration.max():.2f}")
print(f"float32:     {evaluate(network, test):.2%} of {len(test):,} test images, {evaluate(network, few):.1%} of the first {len(few)}")

# %% [markdown]
# Let us record one place of the network, the output of a ReLU in the middle, while the calibration set passes in eight batches.

# %% tags=["demo"]
recorded = []
hook = network.stage2[1].relu1.register_forward_hook(lambda module, args, out: recorded.append(out.clone()))
with torch.no_grad():
    for batch in calibration.split(25):
        network(batch)
hook.remove()
activation = torch.cat(recorded)
print(f"{len(recorded)} batches of {tuple(recorded[0].shape)}")
print("largest value of each:", [round(batch.max().item(), 2) for batch in recorded])
print(f"999 of 1,000 values are below {activation.quantile(0.999):.2f}")

# %% [markdown]
# ## 2 · Observers
#
# An **observer** sees the batches one by one and keeps almost nothing: it must not store them. At the end it says what range the codes should
# span. The simplest, **min-max**, remembers the two extremes of everything. One strange image is enough to set it for good.

# %% [markdown]
# A **moving average** lets later batches correct earlier ones: after each batch with extremes $\min x_t$, $\max x_t$
#
# $$lo \leftarrow m\,lo + (1-m) \min x_t, \qquad hi \leftarrow m\,hi + (1-m) \max x_t$$
#
# with a **momentum** $m$ such as 0.9. The first batch sets both.

# %% [markdown]
# ### Exercise 1 · `moving_average_range` (3 points, about 6 lines)
#
# **Given** a list of `batches` (floating-point tensors of any shapes, at least one) and `momentum` (0 to below 1), **return** `(lo, hi)` as two Python
# floats: the moving averages after the last batch.
#
# - The first batch sets `lo` and `hi`; each later one moves them by the formula above.
# - Report the range of the data: do not widen it to 0. (`cq.range_qparams(lo, hi)` does that when it makes scale and zero point.)
# - `[-1, 2]`, then `[-3, 10]`, at momentum 0.9, gives `(-1.2, 2.8)`.


# %% nbgrader={"solution": true, "grade_id": "moving_average_range"}
def moving_average_range(batches: list[Tensor], momentum: float = 0.9) -> tuple[float, float]:
    """Exponential moving averages of the batches' minima and maxima; the first batch sets them."""
    ### BEGIN SOLUTION
    lo, hi = batches[0].min().item(), batches[0].max().item()
    for batch in batches[1:]:
        lo = momentum * lo + (1 - momentum) * batch.min().item()
        hi = momentum * hi + (1 - momentum) * batch.max().item()
    return lo, hi
    ### END SOLUTION


# %% tags=["demo", "raises-exception"]
# Look: the recorded batches; hi should lie between the smallest and the largest of the maxima printed above.
lo, hi = moving_average_range(recorded)
print(f"{lo:.2f} to {hi:.2f}")

# %% nbgrader={"grade": true, "locked": true, "grade_id": "check-moving_average_range", "points": 3}
check("moving_average_range")

# %% tags=["demo", "nbval-ignore-output"]
hint("moving_average_range")

# %% [markdown]
# ### More observers, and what an outlier does to each
#
# `coursekit` has five. The last three keep a **histogram** whose bins double in width when the data outgrow it:
#
# - `MinMaxObserver`, `MovingAverageObserver`;
# - `PercentileObserver(99.9)` cuts off the outermost thousandth;
# - `HistogramObserver("mse")` takes the range with the smallest squared error (lesson 01's `mse_clip`, on a stream);
# - `HistogramObserver("kl")` takes the one whose quantized histogram diverges least from the original (TensorRT's way).
#
# Look at the 16 levels of 4 bits that each would choose.

# %% tags=["demo"]
def observers(n_bits):
    """Name to a function that makes such an observer."""
    return {
        "min-max": cq.MinMaxObserver,
        "moving average": cq.MovingAverageObserver,
        "percentile 99.9": lambda: cq.PercentileObserver(99.9),
        "MSE": lambda: cq.HistogramObserver("mse", n_bits),
        "KL": lambda: cq.HistogramObserver("kl", n_bits),
    }


levels = {}
for name, make in observers(4).items():
    observer = make()
    for batch in recorded:
        observer.update(batch)
    scale, zero_point = cq.range_qparams(*observer.range(), n_bits=4)
    levels[name] = cq.dequantize(torch.arange(-8, 8), scale, zero_point)
    error = activation - cq.dequantize(cq.quantize(activation, scale, zero_point, 4), scale, zero_point)
    print(f"{name:>15}: up to {levels[name].max():.2f}, error {error.square().mean().sqrt():.4f} (root mean square)")

# %% tags=["demo", "nbval-ignore-output"]
positive = activation[activation > 0]
plot.histogram_with_levels(positive, levels, xlabel="activation, where above 0", title="Min-max spends half of its levels on almost nothing");

# %% [markdown]
# Now the network's word. `quantize_static` quantizes it whole (you will build its parts below), here with 8-bit weights and 4-bit activations; we run
# the fake-quantized view, which is quicker than integers in PyTorch.


# %% tags=["demo"]
def static_accuracy(images, bits, observer=cq.MinMaxObserver):
    """Accuracy on 400 test images after static quantization, calibrated on these images."""
    config = cq.StaticConfig(activation_bits=bits, observer=observer, batch_size=25)
    return evaluate(cq.quantize_static(network, images, config).fake("float"), few)


print(f"8 bits, min-max:         {static_accuracy(calibration, 8):.1%}")
for name, make in observers(4).items():
    print(f"4 bits, {name + ':':16} {static_accuracy(calibration, 4, make):.1%}")

# %% [markdown]
# In 8 bits any range will do: 256 levels forgive waste. In 4 bits min-max leaves 84.0 % right, the smallest squared error 92.5 %, a percentile 93.5 %, the
# KL search no more than min-max. None is best everywhere: on another network the order may change. Try them, on images that you can spare. (And
# not, as here for once, on test images: that is for showing, not for choosing.)

# %% [markdown]
# ## 3 · Calibrate on what?
#
# Tutorials often calibrate on `torch.randn`, "for the example". What does that do? Four calibration sets: real images; normal noise, which has the mean and
# spread of our normalised images; uniform noise in 0…1, like pixels that nobody normalised; and the real images, of which **one** was left raw, 0…255.

# %% tags=["demo"]
noise = torch.Generator().manual_seed(0)
one_raw = calibration.clone()
one_raw[0] = (one_raw[0] * 0.3530 + 0.2860) * 255  # undoes the normalisation of a single image
sources = {
    "200 images": calibration,
    "10 images": calibration[:10],
    "normal noise": torch.randn(calibration.shape, generator=noise),
    "noise in 0...1": torch.rand(calibration.shape, generator=noise),
    "one image raw": one_raw,
}
by_source = {f"{bits} bits": {name: static_accuracy(x, bits) for name, x in sources.items()} for bits in (8, 4)}
for name in sources:
    print(f"{name:>15}: " + ", ".join(f"{row[name]:5.1%} at {bits}" for bits, row in by_source.items()))

# %% tags=["demo", "nbval-ignore-output"]
plot.bars(by_source, ylabel="accuracy on 400 images", percent=True, references={"float32": evaluate(network, few)},
          title="Noise is no calibration set, and one bad image spoils min-max");

# %% [markdown]
# One image in two hundred. Do the other observers get over it, at 8 bits?

# %% tags=["demo"]
for name, make in list(observers(8).items())[1:]:
    print(f"one image raw, {name}: {static_accuracy(one_raw, 8, make):.1%}")
late = static_accuracy(one_raw.flip(0), 8, cq.MovingAverageObserver)
print(f"the same in the last batch rather than the first, moving average: {late:.1%}")

# %% [markdown]
# - **Normal noise** costs nothing at 8 bits, because its spread happens to be that of our images. At 4 bits the luck ends: 65.5 % against 84.0 %.
# - **Noise in 0…1** never shows the network what it will see; about half of the answers are gone at any number of bits.
# - **Ten images** do as well as 200 at 8 bits. (At 4 bits even better, with min-max: fewer images, fewer outliers.)

# %% [markdown]
# **One raw image** leaves min-max 55.8 %. The squared error counts the outlier's own error, which is huge, and makes room for it: 71.2 %. KL asks how the bulk looks: 94.7 %.
#
# The moving average depends on the *order*: the first batch sets it and is forgotten slowly (84.5 %), a late one moves it by a tenth (95.2 %). Better than any
# observer: look at your calibration set.

# %% [markdown]
# ## 4 · Folding the batch norm
#
# In eval mode a batch norm multiplies each channel by a constant and adds another. The convolution before it does so as well, so one of the two is
# superfluous. For $y = W x + b$ followed by a batch norm with running mean $\mu$, variance $\sigma^2$, weight $\gamma$, bias $\beta$:
#
# $$\gamma\,\frac{W x + b - \mu}{\sqrt{\sigma^2 + \epsilon}} + \beta = W' x + b', \qquad g = \frac{\gamma}{\sqrt{\sigma^2 + \epsilon}},
# \quad W' = g\,W, \quad b' = g\,(b - \mu) + \beta$$
#
# with one $g$ for each output channel. It must happen **before** quantization: $W'$ is what will be multiplied, so $W'$ gets the scales.

# %% [markdown]
# ### Exercise 2 · `fold_batch_norm` (3 points, about 4 lines)
#
# **Given** the weight of a convolution `(C, C_in, K, K)` or of a linear layer `(C, C_in)`, its bias `(C,)` or `None`, and the batch norm's `mean`, `var`, `weight`, `bias`,
# all `(C,)`, and `eps`, **return** the new `(weight, bias)`, both as tensors.
#
# A convolution without a bias gets one. By hand: weight 1, mean 2, variance 4, $\gamma = 6$, $\beta = 1$, no eps, gives $3x - 5$.


# %% nbgrader={"solution": true, "grade_id": "fold_batch_norm"}
def fold_batch_norm(
    conv_weight: Tensor, conv_bias: Tensor | None, mean: Tensor, var: Tensor, weight: Tensor, bias: Tensor, eps: float = 1e-5
) -> tuple[Tensor, Tensor]:
    """Weight and bias of the one layer that does what the convolution and its batch norm do together."""
    ### BEGIN SOLUTION
    gain = weight / torch.sqrt(var + eps)
    old_bias = torch.zeros_like(mean) if conv_bias is None else conv_bias
    folded = conv_weight * gain.reshape(-1, *[1] * (conv_weight.dim() - 1))
    return folded, gain * (old_bias - mean) + bias
    ### END SOLUTION


# %% tags=["demo", "raises-exception"]
# Look: 3 and -5.
one = torch.ones(1)
fold_batch_norm(torch.ones(1, 1), None, mean=2 * one, var=4 * one, weight=6 * one, bias=one, eps=0.0)

# %% nbgrader={"grade": true, "locked": true, "grade_id": "check-fold_batch_norm", "points": 3}
check("fold_batch_norm")

# %% tags=["demo", "nbval-ignore-output"]
hint("fold_batch_norm")

# %% [markdown]
# `fold_batch_norms` does it for a whole network: it follows the graph, and folds only where the convolution's output goes nowhere else. Folding is
# exact up to rounding; what changes is which weights are quantized.

# %% tags=["demo"]
folded = cq.fold_batch_norms(network)
norms = [sum(isinstance(module, nn.BatchNorm2d) for module in model.modules()) for model in (network, folded)]
difference = (predict(folded, few.images) - predict(network, few.images)).abs().max()
print(f"batch norms: {norms[0]} before, {norms[1]} after; the logits differ by less than 0.001: {bool(difference < 1e-3)}")


def spread(model, name):
    """How much larger the largest channel of a weight is than the smallest, by their largest magnitudes."""
    largest = model.get_parameter(name).detach().abs().flatten(1).amax(dim=1)
    return (largest.max() / largest.min()).item()


convolutions = [name for name in weight_names(network) if name != "fc.weight"]
wider = sum(spread(folded, name) > spread(network, name) for name in convolutions)
print(f"in {wider} of {len(convolutions)} convolutions the channels' ranges lie further apart after folding, for example:")
for name in ("stage2.0.shortcut.0.weight", "stage3.0.shortcut.0.weight"):
    print(f"{name}: a factor of {spread(network, name):.1f} before, {spread(folded, name):.1f} after")
for per_channel in (False, True):
    small = cq.quantize_static(network, calibration, cq.StaticConfig(weight_bits=4, per_channel=per_channel))
    print(f"weights in 4 bits, one scale {'a channel' if per_channel else 'a layer'}: {evaluate(small.fake('float'), few):.1%}")

# %% [markdown]
# Each channel is multiplied by a gain of its own, so the ranges part: a single scale for the layer then has steps far too wide for the small channels. With one scale
# for each channel, which lesson 01 found cheap, folding costs nothing. Folding into weights that are already quantized, or quantizing without folding, would either
# round twice or keep 21 batch norms in float32.

# %% [markdown]
# ## 5 · Arithmetic in integers
#
# A linear layer on codes, with symmetric weights, is a sum of products of small integers:
#
# $$y = \sum_k s_w q_w\, s_x (q_x - z_x) + b = s_w s_x \Bigl( \underbrace{\sum_k q_w (q_x - z_x) + q_b}_{\text{acc, int32}} \Bigr), \qquad q_b = \mathrm{round}\frac{b}{s_w s_x}$$
#
# Each product needs 16 bits, a sum of thousands of them fewer than 32. So products are **accumulated in int32**. The bias is stored in int32 as well, in the accumulator's own steps: in int8 its
# error would be added to every output.

# %% [markdown]
# The next layer wants int8 codes of scale $s_y$: $\;q_y = \mathrm{round}(M \cdot \mathrm{acc}) + z_y\;$ with one real number $M = s_w s_x / s_y$, known beforehand. The last float to get rid of.

# %% tags=["demo"]
quantized = cq.quantize_static(network, calibration)
factors = [
    (layer.input.scale * layer.weight_scale.double() / layer.output.scale)
    for layer in (step.layer for step in quantized.steps) if hasattr(layer, "weight_scale")
]
every = torch.cat(factors)
print(f"{len(factors)} layers, {len(every)} channels: M from {every.min():.1e} to {every.max():.1e}")
print("some of them:", ", ".join(f"{m:.2e}" for m in every[300:304].tolist()))

# %% [markdown]
# (The smallest belong to channels that training switched off: times $10^{-10}$ no 32-bit accumulator reaches one half.)
#
# Integers multiply by a fraction with a **multiplier and a right shift**, $M \approx m / 2^{n}$. To keep as many bits as an int32 has, take $m$ in
# $2^{30} \dots 2^{31}-1$. Write $M = f \cdot 2^{e}$ with $0.5 \le f < 1$, which `math.frexp(M)` does; then
#
# $$m = \mathrm{round}(f \cdot 2^{31}), \qquad n = 31 - e$$

# %% [markdown]
# ### Exercise 3 · `quantize_multiplier` (3 points, about 5 lines)
#
# **Given** a Python float `m` above 0, **return** `(multiplier, shift)`, two Python ints with $2^{30} \le$ `multiplier` $< 2^{31}$ and `multiplier / 2**shift` nearest to `m`.
#
# 0.75 gives `(1610612736, 31)`. One case needs care: $f$ may round up to $2^{31}$, one more than an int32 holds.


# %% nbgrader={"solution": true, "grade_id": "quantize_multiplier"}
def quantize_multiplier(m: float) -> tuple[int, int]:
    """The 31-bit integer and the right shift that stand for m: m = multiplier / 2**shift."""
    ### BEGIN SOLUTION
    fraction, exponent = math.frexp(m)
    multiplier, shift = round(fraction * 2**31), 31 - exponent
    if multiplier == 2**31:
        multiplier, shift = 2**30, shift - 1
    return multiplier, shift
    ### END SOLUTION


# %% tags=["demo", "raises-exception"]
# Look: the relative error is at most 2**-31, about 4.7e-10.
for m in (0.75, 0.0123, every.min().item()):
    multiplier, shift = quantize_multiplier(m)
    print(f"{m:.3e} = {multiplier} / 2**{shift}, relative error {abs(multiplier / 2**shift / m - 1):.0e}")

# %% nbgrader={"grade": true, "locked": true, "grade_id": "check-quantize_multiplier", "points": 3}
check("quantize_multiplier")

# %% tags=["demo", "nbval-ignore-output"]
hint("quantize_multiplier")

# %% [markdown]
# ### Exercise 4 · `requantize` (3 points, about 5 lines)
#
# **Given** an accumulator `acc` (int32, any shape), `multiplier` and `shift` (ints, or int64 tensors that broadcast against `acc`), the output's `zero_point` and `n_bits`,
# **return** the int8 codes
#
# $$q = \mathrm{clamp}\Bigl(\Bigl\lfloor \frac{\mathrm{acc} \cdot m + 2^{\,n-1}}{2^{\,n}} \Bigr\rfloor + z_y,\; q_{\min},\; q_{\max}\Bigr)$$
#
# Adding half of $2^n$ before a right shift, which rounds down, is rounding to nearest, halves up, on both sides of 0. Every machine must round alike: so the
# exercise fixes even the halves. `acc * multiplier` needs 64 bits: `acc.long()`.


# %% nbgrader={"solution": true, "grade_id": "requantize"}
def requantize(
    acc: Tensor, multiplier: int | Tensor, shift: int | Tensor, zero_point: int = 0, n_bits: int = 8
) -> Tensor:
    """The int8 codes of an int32 accumulator, in integers alone."""
    ### BEGIN SOLUTION
    qmin, qmax = int_range(n_bits)
    shift = torch.as_tensor(shift)
    half = torch.ones_like(shift) << (shift - 1)
    rounded = (acc.long() * multiplier + half) >> shift
    return torch.clamp(rounded + zero_point, qmin, qmax).to(torch.int8)
    ### END SOLUTION


# %% tags=["demo", "raises-exception"]
# Look: a quarter of each, halves up: -1, 0, 1, 2, and 1000 / 4 saturates at 127.
requantize(torch.tensor([-6, -2, 2, 6, 1000]), multiplier=2**30, shift=32)

# %% nbgrader={"grade": true, "locked": true, "grade_id": "check-requantize", "points": 3}
check("requantize")

# %% tags=["demo", "nbval-ignore-output"]
hint("requantize")

# %% [markdown]
# ### Exercise 5 · `integer_linear` (4 points, about 6 lines)
#
# **Given** codes `q_x` (int8, `(N, K)`) with zero point `x_zero_point`, symmetric weight codes `q_w` (int8, `(M, K)`), `q_bias` (int32, `(M,)`, or `None`), and `multiplier`, `shift`
# (ints, or tensors `(M,)`), **return** the int8 codes `(N, M)` of the layer's output, with zero point `y_zero_point`.
#
# Take the zero point off, multiply, add the bias, requantize. You may call your own `requantize`; if it does not pass yet, write its lines here. And mind int8: what is
# $127 - (-128)$?


# %% nbgrader={"solution": true, "grade_id": "integer_linear"}
def integer_linear(
    q_x: Tensor, q_w: Tensor, q_bias: Tensor | None, multiplier: int | Tensor, shift: int | Tensor,
    x_zero_point: int = 0, y_zero_point: int = 0,
) -> Tensor:  # fmt: skip
    """A linear layer from int8 codes to int8 codes, accumulated in int32."""
    ### BEGIN SOLUTION
    acc = (q_x.int() - x_zero_point) @ q_w.int().T
    if q_bias is not None:
        acc = acc + q_bias
    return requantize(acc, multiplier, shift, y_zero_point)
    ### END SOLUTION


# %% tags=["demo", "raises-exception"]
# Look: (10 + 4) * 2 + (-3 + 4) * 1 = 29 and (10 + 4) * -4 = -56; halved, halves up.
q_x, q_w = torch.tensor([[10, -3]], dtype=torch.int8), torch.tensor([[2, 1], [-4, 0]], dtype=torch.int8)
integer_linear(q_x, q_w, None, 2**30, 31, x_zero_point=-4)

# %% nbgrader={"grade": true, "locked": true, "grade_id": "check-integer_linear", "points": 4}
check("integer_linear")

# %% tags=["demo", "nbval-ignore-output"]
hint("integer_linear")

# %% [markdown]
# ## 6 · A whole ResNet-20 in integers
#
# A convolution is a linear layer on patches, so it has the same accumulator and the same requantization. A ReLU is free: clamp at the code of 0. Only the
# **sum** of a residual block is new: its two inputs lie on different grids, so both are rescaled, added, and rounded once.
#
# `quantize_static` wrote the network down as such steps. Here is the machine that runs them, with *your* multiplier and requantization where they pass.

# %% tags=["demo"]
mine = {name: use(name) for name in ("quantize_multiplier", "requantize")}


# %% tags=["demo"]
def run_in_integers(model, images):
    """int8 codes of every step of a quantized network; after the first line no float touches an activation."""
    codes = {"input": model.input.codes(images)}
    for step in model.steps:
        inputs, layer = [codes[name] for name in step.inputs], step.layer
        if not hasattr(layer, "accumulate"):  # a sum, or the mean before the last layer
            codes[step.name] = layer(*inputs)
            continue
        acc = layer.accumulate(*inputs)  # int32, (N, C, H, W) or (N, C)
        factors = layer.factors().clamp(min=2**-32)  # input scale * weight scale / output scale
        multiplier, shift = torch.tensor([mine["quantize_multiplier"](m) for m in factors.tolist()]).T
        shape = (-1, *[1] * (acc.dim() - 2))  # one factor a channel
        q = mine["requantize"](acc, multiplier.reshape(shape), shift.reshape(shape), layer.output.zero_point)
        codes[step.name] = q.clamp(min=layer.output.zero_point) if layer.activation == "relu" else q
    return codes


# %% tags=["demo"]
images = test.images[:100]
codes = run_in_integers(quantized, images)
print("kinds of tensors between the layers:", {q.dtype for q in codes.values()})
library = quantized.layer_codes(images)
same = sum(torch.equal(codes[name], q) for name, q in library.items())
print(f"steps whose codes equal the library's, bit for bit: {same} of {len(library)}")
last = quantized.steps[-1]
guess = codes[last.name].argmax(1)
print(f"right: {(guess == test.labels[:100]).sum()} of 100; in float: {(predict(network, images).argmax(1) == test.labels[:100]).sum()}")

# %% [markdown]
# The largest code is the largest logit: not even the end needs a float. PyTorch is a poor home for this, as it has no fast int8 kernels, so the
# 2,000 images go elsewhere: to **ONNX Runtime**. `export_qdq` writes our codes, scales and zero points between `QuantizeLinear` and
# `DequantizeLinear` nodes, which the runtime fuses into its own integer kernels.

# %% tags=["demo"]
cq.save_integer(quantized, "resnet20-static.safetensors")
export_float(network, "resnet20-float.onnx")
export_qdq(quantized, "resnet20-int8.onnx")
ort = {"float32": OrtModel("resnet20-float.onnx"), "int8": OrtModel("resnet20-int8.onnx")}
again = cq.load_integer("resnet20-static.safetensors")
print("the file, loaded again, gives the same codes:", torch.equal(again.codes(images), codes[last.name]))
size_before, size_after = measure.saved_size(network), measure.file_size("resnet20-static.safetensors")
print(f"bytes: {size_before:,} -> {size_after:,}, {size_before / size_after:.2f} times smaller")
accuracy = {name: engine_accuracy(model, test, 100) for name, model in ort.items()}
print(f"accuracy in ONNX Runtime on {len(test):,} images: float32 {accuracy['float32']:.2%}, int8 {accuracy['int8']:.2%}")
steps_off = (last.layer.output.codes(ort["int8"](images)).int() - codes[last.name].int()).abs()
print(f"logits' codes, ONNX Runtime against ours: {(steps_off > 0).sum()} of {steps_off.numel():,} differ")

# %% [markdown]
# None, though ONNX Runtime multiplies its accumulators in float32, where a product near a half may be rounded the other way than ours. One such code
# becomes several in the layers behind it. `quantize_static` made sure beforehand: it tries every accumulator next to a half, and where float32
# would go wrong it takes a scale that is larger in its fifth digit (`coursekit.quantization.halves`).

# %% [markdown]
# ### How fast? Only a ratio is an answer
#
# Times depend on the machine, its neighbours and the weather. So: warm up, run the rivals in turns, take the ratio of each pair, and the median of
# those (lesson 01's `measure.latency`). And compare within **one runtime**: from PyTorch to ONNX Runtime something is gained without any quantization.

# %% tags=["demo", "nbval-ignore-output"]
ratios = {}
for batch_size in (1, 64):
    rivals = {"float32": ort["float32"], "int8": ort["int8"], "PyTorch": network}
    times = measure.latency(rivals, test.images[:batch_size], repeats=20 if batch_size == 1 else 8, warmup=2)
    ratios[batch_size] = times["int8"].ratio
    print(f"batch {batch_size:2d}: float32 {times['float32'].median_ms:.2f} ms; int8 takes {times['int8'].ratio:.2f} of that, "
          f"PyTorch float32 {times['PyTorch'].ratio:.1f}")

# %% [markdown]
# About half of the time for one image, and less for 64. The other column is a warning: PyTorch's own float32 takes longer than ONNX Runtime's, so whoever compares eager PyTorch
# with an int8 runtime sells the runtime's gain as one of quantization. Other traps: timing the first call, a single call, or the mean of a few on a busy machine.
#
# A row for your ledger; its time is the one at batch 64.

# %% tags=["demo", "nbval-ignore-output"]
ledger = Ledger.open()
by = "yours" if all(function.by == "yours" for function in mine.values()) else "reference"
weights = [step.layer.weight for step in quantized.steps if hasattr(step.layer, "accumulate")]
ledger.add(lesson="02-post-training-quantization", step="int8 weights and activations", accuracy=accuracy["int8"], size_bytes=size_after,
           macs=measure.macs(network, (1, 28, 28)), nonzero=int(sum((q != 0).sum() for q in weights)), latency_ratio=ratios[64], by=by)
ledger

# %% [markdown]
# ## 7 · Static or dynamic?
#
# **Dynamic** quantization needs no calibration: each batch's range is looked up when the batch is there. That costs a pass over the activations, in
# every layer, every time; and one outlier in a batch widens the steps for all of it. (It is not true, as one also reads, that activations then stay in float32: they
# are quantized, only later.)

# %% [markdown]
# It pays where reading the weights takes the time: linear and recurrent layers. Try a fully connected network, and then our convolutions.

# %% tags=["demo", "varies"]
mlp = zoo.load("lenet300")
versions = {"float32": mlp, "dynamic": cq.quantize_dynamic(mlp), "static": cq.quantize_static(mlp, calibration)}
sizes = {name: measure.saved_size(model) for name, model in versions.items()}
cq.save_integer(versions["static"], "lenet300-static.safetensors")
sizes["static"] = measure.file_size("lenet300-static.safetensors")  # with its grids and its structure
for name, model in versions.items():
    print(f"LeNet-300-100, {name}: {sizes[name]:,} bytes, {sizes['float32'] / sizes[name]:.2f} times smaller, {evaluate(model, test):.2%}")

# %% tags=["demo"]
dynamic = cq.quantize_dynamic(network)  # its one linear layer; asked for Conv2d it would refuse
layers = [type(module).__name__ for module in dynamic.modules()]
print(f"ResNet-20: {layers.count('Conv2d')} convolutions in float32, {layers.count('DynamicLinear')} linear layer in int8")
print(f"bytes: {size_before:,} -> {measure.saved_size(dynamic):,}, {1 - measure.saved_size(dynamic) / size_before:.1%} saved")

# %% [markdown]
# Nothing is gained, as all the weights are in the convolutions. ONNX Runtime does have dynamic integer convolutions. Are they worth it? The
# three kinds, in the same runtime, in turns:

# %% tags=["demo", "nbval-ignore-output"]
from onnxruntime.quantization import quantize_dynamic

export_float(mlp, "lenet300-float.onnx")
export_qdq(versions["static"], "lenet300-static.onnx")
export_qdq(quantized, "resnet20-static.onnx")
logging.disable(logging.WARNING)  # it would like us to simplify the graph first
quantize_dynamic("lenet300-float.onnx", "lenet300-dynamic.onnx")
quantize_dynamic("resnet20-float.onnx", "resnet20-dynamic.onnx")
logging.disable(logging.NOTSET)

# %% tags=["demo", "nbval-ignore-output"]
by_kind = {"static int8": {}, "dynamic int8": {}}
for name, batch_size, repeats in (("lenet300", 1, 50), ("lenet300", 64, 50), ("resnet20", 16, 6)):
    rivals = {kind: OrtModel(f"{name}-{kind}.onnx") for kind in ("float", "static", "dynamic")}
    times = measure.latency(rivals, test.images[:batch_size], repeats=repeats, warmup=2)
    for kind in ("static", "dynamic"):
        by_kind[f"{kind} int8"][f"{name}, batch {batch_size}"] = times[kind].ratio
plot.bars(by_kind, fmt="{:.2f}", references={"float32": 1.0}, ylabel="time, float32 = 1",
          title="Dynamic int8 makes convolutions slower, not faster");

# %% [markdown]
# The fully connected network gains from either kind, at batch 1 less. The convolutions take several times as long as in float32: each layer must look up its range, and the
# convolution that ONNX Runtime has for such codes is a slow one. "Lower precision is faster" is true of fast *kernels*, not of numbers.

# %% [markdown]
# ## 8 · Which layers need their bits?
#
# From 8 bits down, layers differ. To find out which are sensitive, quantize **one layer at a time** and see what the network loses. As a score take something finer than
# accuracy, which moves in whole images: minus the Kullback–Leibler divergence between the float network's answers and the quantized one's, on 64 training images that
# did not calibrate.

# %% tags=["demo"]
held_out = train.images[1000:1064]
answers = F.log_softmax(predict(network, held_out), dim=1)


def score(model):
    """Minus the divergence of a network's answers from the float network's, in nats an image; 0 is perfect."""
    theirs = F.log_softmax(predict(model, held_out), dim=1)
    return -F.kl_div(theirs, answers, reduction="batchmean", log_target=True).item()


print(f"float32: {score(network) + 0.0:.3f}, all weights in 3 bits: {score(cq.quantize_weights(network, 3)):.3f}")

# %% [markdown]
# ### Exercise 6 · `layer_sensitivity` (3 points, about 9 lines)
#
# **Given** a network, a function `score(network) -> float` (higher is better) and `n_bits`, **return** a dict from the name of each weight in `weight_names(model)` to the **drop** of the
# score when this weight alone is quantized: `score(as it was) - score(with this weight quantized)`.
#
# Quantize a weight with `fake_quantize(w, symmetric_scale_per_channel(w, n_bits), n_bits)`. The network must be afterwards what it was before. A drop may be below 0.


# %% nbgrader={"solution": true, "grade_id": "layer_sensitivity"}
def layer_sensitivity(model: nn.Module, score, n_bits: int = 8) -> dict[str, float]:
    """By how much the score falls when one layer's weight alone is quantized, by the weight's name."""
    ### BEGIN SOLUTION
    before, drops = score(model), {}
    for name in weight_names(model):
        trial = copy.deepcopy(model)
        weight = trial.get_parameter(name)
        with torch.no_grad():
            weight.copy_(fake_quantize(weight, symmetric_scale_per_channel(weight, n_bits), n_bits))
        drops[name] = before - score(trial)
    return drops
    ### END SOLUTION


# %% tags=["demo", "raises-exception"]
# Look: a small network with two layers; the score is minus the mean square of what 2 bits change.
small, x = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1)), torch.eye(2)
with torch.no_grad():
    small[0].weight.copy_(torch.tensor([[1.0, 0.4], [0.3, -1.0]]))
    small[1].weight.copy_(torch.tensor([[1.0, 1.0]]))
target = small(x).detach()
drops = layer_sensitivity(small, lambda net: -(net(x) - target).square().mean().item(), n_bits=2)
{name: round(drop, 3) for name, drop in drops.items()}

# %% nbgrader={"grade": true, "locked": true, "grade_id": "check-layer_sensitivity", "points": 3}
check("layer_sensitivity")

# %% tags=["demo", "nbval-ignore-output"]
hint("layer_sensitivity")

# %% tags=["demo"]
scan, bits = use("layer_sensitivity"), (8, 4, 3, 2)
scans = [scan(network, score, n_bits=b) for b in bits]
losses = {name: [each[name] for each in scans] for name in weight_names(network)}
for b, each in zip(bits, scans, strict=True):
    worst = max(each, key=each.get)  # at 8 bits all are next to nothing
    print(f"{b} bits: {sum(each.values()):.3f} in all, most in {worst} ({each[worst]:.3f})")

# %% tags=["demo", "nbval-ignore-output"]
short = {name.removesuffix(".weight").replace("stage", "s").replace("shortcut.0", "short").replace("conv", "c"): row for name, row in losses.items()}
worst_first = sorted(short, key=lambda name: -short[name][2])
ax = plot.bars({name: max(short[name][2], 1e-6) for name in worst_first}, fmt="", logy=True, ylabel="divergence at 3 bits (nats an image)",
               title="At 3 bits one layer costs a hundred times as much as another")
ax.tick_params(axis="x", rotation=90)

# %% [markdown]
# ## 9 · Bits to a budget
#
# Suppose the file may take a given number of bytes. Give every layer 8 bits, and take bits away where they cost least. A move from 4 to 3 bits in a layer of $n$ weights saves
# $n/8$ bytes; so the **price** of a move is the divergence it adds **per byte it saves**. That is a greedy search. It assumes that losses add up, which is not quite true.

# %% [markdown]
# ### Exercise 7 · `greedy_bits` (3 points, about 9 lines)
#
# **Given** `losses` and `sizes`, dicts from layer to a list with one entry for each of the options `bits` (finest first), and a `budget` in bytes, **return** a dict from layer to bits.
#
# All layers start at the first option. While the sizes add up to more than the budget, move **one** layer to its **next** option: the one with the least added loss per byte saved (of equals, the first).
# The budget can always be met.


# %% nbgrader={"solution": true, "grade_id": "greedy_bits"}
def greedy_bits(
    losses: dict[str, list[float]], sizes: dict[str, list[int]], budget: int, bits: tuple[int, ...] = (8, 4, 3, 2)
) -> dict[str, int]:
    """Bits for every layer within the budget, each move the cheapest for each byte it saves."""
    ### BEGIN SOLUTION
    chosen = dict.fromkeys(losses, 0)
    while sum(sizes[name][i] for name, i in chosen.items()) > budget:
        prices = {
            name: (losses[name][i + 1] - losses[name][i]) / (sizes[name][i] - sizes[name][i + 1])
            for name, i in chosen.items() if i + 1 < len(bits)
        }  # fmt: skip
        chosen[min(prices, key=prices.get)] += 1
    return {name: bits[i] for name, i in chosen.items()}
    ### END SOLUTION


# %% tags=["demo", "raises-exception"]
# Look: b's move adds more loss, but less per byte: a keeps 8 bits, b goes to 4.
greedy_bits({"a": [0.0, 1.0], "b": [0.0, 1.5]}, {"a": [8, 4], "b": [16, 8]}, budget=20, bits=(8, 4))

# %% nbgrader={"grade": true, "locked": true, "grade_id": "check-greedy_bits", "points": 3}
check("greedy_bits")

# %% tags=["demo", "nbval-ignore-output"]
hint("greedy_bits")

# %% [markdown]
# Now for real: the same bytes as 3 bits everywhere, once spread evenly, once by your search, once by an exact one (`optimal_bits`, dynamic programming). `save_mixed` packs the
# codes without gaps; the bytes are those of the file, batch norms and all.

# %% tags=["demo"]
def stored(bits_of):
    """Bytes of the file with these bits, and the accuracy on 1,000 images of the network loaded from it."""
    cq.save_mixed(network, "resnet20-mixed.safetensors", bits_of)
    return measure.file_size("resnet20-mixed.safetensors"), evaluate(cq.load_mixed("resnet20-mixed.safetensors", network), test.take(1000))


rows = {f"{b} bits everywhere": stored(dict.fromkeys(losses, b)) for b in (8, 4, 3)}
budget = rows["3 bits everywhere"][0]
for name, choose in (("greedy", use("greedy_bits")), ("optimal", cq.optimal_bits)):
    chosen = cq.mixed_precision(network, losses, budget, bits, choose=choose)
    rows[f"{name}, same bytes"] = stored(chosen)
for name, (size, accuracy_here) in rows.items():
    print(f"{name:>20}: {size:,} bytes, {size_before / size:.1f} times smaller, {accuracy_here:.2%}")
print("bits, first layer to last:", list(chosen.values()))

# %% tags=["demo", "nbval-ignore-output"]
plot.pareto([{"name": name, "size_bytes": size, "accuracy": a} for name, (size, a) in rows.items()],
            title="At the same bytes, bits where they are needed win");

# %% [markdown]
# At the bytes of 3 bits everywhere (90.5 %), the greedy choice has 91.9 % and the exact one 93.0 %. Greedy stopped more than 4 kB short of the budget, because its last move was a
# large layer; the exact search fills it. 4 bits everywhere lose nothing against 8 here, so mixing pays only below. And neither search knows how the errors of several layers
# add up: so the file is loaded again, and the network has the last word.

# %% [markdown]
# ## 10 · From scratch to the tools people use
#
# Older texts use `torch.ao.quantization`: stubs mark where codes begin and end, `prepare` puts observers in, `convert` swaps the layers. It is deprecated, and announced for removal. Once, to have seen it:

# %% tags=["demo"]
def old_api():
    """The fully connected network with the deprecated API: static, then dynamic on the ResNet."""
    import torch.ao.quantization as old

    model = nn.Sequential(old.QuantStub(), nn.Flatten(), *_relus(zoo.load("lenet300")), old.DeQuantStub()).eval()
    model.qconfig = old.get_default_qconfig(torch.backends.quantized.engine)
    prepared = old.prepare(model)
    with torch.no_grad():
        prepared(calibration)
    return old.convert(prepared), old.quantize_dynamic(network, {nn.Conv2d, nn.Linear}, dtype=torch.qint8)


def _relus(mlp):
    """The layers of LeNet-300-100 in order."""
    return mlp.fc1, nn.ReLU(), mlp.fc2, nn.ReLU(), mlp.fc3


with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    old_static, old_dynamic = old_api()
    print(f"old static LeNet-300-100: {evaluate(old_static, test):.2%}, ours {evaluate(versions['static'], test):.2%}")
print("old dynamic ResNet-20, asked to quantize Conv2d as well:",
      f"{sum(type(module) is nn.Conv2d for module in old_dynamic.modules())} convolutions are float32 as before")

# %% [markdown]
# The second line is worth remembering: asked for `Conv2d`, it says nothing and does nothing. And its codes live in packed objects, which breaks the usual way to count:

# %% tags=["demo"]
counted = sum(p.numel() * p.element_size() for p in old_static.parameters())
torch.save(old_static.state_dict(), "old-static.pt")
print(f"bytes by counting parameters: {counted}")
print(f"bytes of the file: {round(measure.file_size('old-static.pt'), -3):,} (float32: {measure.saved_size(mlp):,})")

# %% [markdown]
# Divide by the first number, and you crash; add a few bytes of buffers to it, and you print that the network is tens of thousands of times smaller. Both have been published. Bytes are
# those of a **file that loads again**.
#
# | step | `torch.ao.quantization` | today |
# | --- | --- | --- |
# | static, int8 on CPU | `QuantStub`, `prepare`, `convert` | QDQ in ONNX Runtime or OpenVINO; torchao's pt2e with Inductor |
# | dynamic | `quantize_dynamic` | torchao's `quantize_` for linear layers; ONNX Runtime |
# | observers | `MinMaxObserver`, `HistogramObserver` | the same ideas in each of these |
#
# Lesson 04 runs the engines side by side.

# %% [markdown]
# ## 11 · In your own words
#
# ### Question 1 (3 points, graded by a person)
#
# A colleague calibrates with `torch.randn`, finds the int8 network as good as before, and concludes: "calibration data do not matter, and observers neither". (a) What do the tables of sections 2 and 3 say to that? Name
# one case where she would have been lucky and two where not. (b) With one raw image among the 250, which observer held, which did not, and why did the smallest *squared* error not help? (c) She also stores the bias in int8, "like everything
# else", and adds the products up in int16. What goes wrong in each case? (10 sentences at most, with numbers from this notebook.)

# %% [markdown] nbgrader={"grade": true, "solution": true, "grade_id": "question-calibration", "points": 3}
# **A model answer.** (a) She was lucky with normal noise at 8 bits: 95.5 %, as its spread is that of normalised images and 256 levels forgive a range that does not fit. With noise in
# 0…1 she would have had 51.2 %, and with normal noise at 4 bits 65.5 % where images give 84.0 %. Observers matter as soon as levels are few: at 4 bits 84.0 % for min-max,
# 93.5 % for a percentile. (b) KL held (94.7 %), min-max did not (55.8 %); the squared error (71.2 %) counts the outlier, whose own error is enormous, so it makes the range wide for it
# and the steps coarse for all the rest. (c) A bias in int8 has the steps of its own largest value, far coarser than $s_w s_x$, and its rounding error shifts *every* output of the channel; in int32, in
# the accumulator's steps, it is exact enough for free. Two products of int8 codes already fill 16 bits, so a sum of hundreds overflows and wraps round.
#
# *Rubric:* one point each for (a), (b), (c): half for the right numbers or sizes, half for the reason.

# %% [markdown]
# ## What we measured
#
# | question | answer, from the cells above |
# | --- | --- |
# | Which observer? | at 8 bits any; at 4 bits a percentile or the squared error: about ten points better than min-max |
# | Calibrate on noise? | no: 51.2 % with noise in 0…1; normal noise passes at 8 bits and fails at 4 |
# | What does a bad image do? | one in 200 leaves min-max 55.8 %; KL 94.7 % |
# | Is integer arithmetic exact? | all 33 steps equal the library's bit for bit, and ONNX Runtime's logits on 100 images equal ours, every code |
# | What does int8 cost? | 94.95 % before, 94.90 % after; the file is 3.76 times smaller; half of the time in one runtime |
# | Static or dynamic? | static for convolutions; dynamic saves 0.2 % of this network's bytes, and dynamic integer convolutions are slower |
# | Which layers need bits? | at 3 bits one layer makes most of the loss; the same bytes, spread by sensitivity, give 93.0 % for 90.5 % |
#
# **References.** B. Jacob et al. 2018, *Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference*,
# arXiv:1712.05877 · R. Krishnamoorthi 2018, *Quantizing deep convolutional networks for efficient inference*, arXiv:1806.08342 · H. Wu et
# al. 2020, *Integer quantization for deep learning inference*, arXiv:2004.09602 · S. Migacz 2017, *8-bit inference with TensorRT*, GTC (the KL
# calibration) · J. McKinstry et al. 2018, arXiv:1809.04191 (percentiles).
#
# **Next:** 03, quantization-aware training: what no choice of range can save.
