# %% [markdown]
# # 04 · Reduced precision: 16 bits, and the engines that run them
#
# Half the bits, half the bytes, and, say many texts, twice the speed. This lesson opens the 16-bit floats up, finds where
# training with them breaks and why, mends it by hand, and then asks the machine about the speed. By the end you will have
#
# - **written** the bits of a float, rounding to any format, loss scaling and master weights, and had each checked,
# - **seen** on real gradients what FP16 cannot hold, and on this very CPU what 16 bits gain and lose,
# - **run** one network in several engines, in FP32 and INT8, with accuracy, bytes and time side by side.
#
# **Before:** lessons 01 and 02. **You need** about two hours; there are 18 points to check yourself and 3 that a person
# grades. **The machine needs** about 50 s for all cells, under 2 GB of memory, and no download.

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
import torch.nn.functional as F
from torch import Tensor

from coursekit import data, deploy, measure, plot, zoo
from coursekit import quantization as cq
from coursekit.ledger import Ledger
from coursekit.models import LeNet300100
from coursekit.notebook import check, hint, solution, use
from coursekit.quantization import format_of
from coursekit.train import evaluate

torch.set_num_threads(1)  # small layers gain little from more, and times stay steady

# %% tags=["demo"]
network = zoo.load("resnet20")
train = data.fashion_mnist("train", subset=True)  # 10,000 and 2,000 images that every machine has
test = data.fashion_mnist("test", subset=True)
weight = network.stage2[2].conv2.weight.detach()  # the layer of lesson 01
print(f"{len(train):,} and {len(test):,} images; float32: {evaluate(network, test):.2%} right")

# %% [markdown]
# ## 1 · What the bits say
#
# A float is a number in scientific notation, to base 2: a **sign** $s$, an **exponent** $E$, a **fraction** $f$ of $m$ bits.
#
# $$x = (-1)^s \times \Bigl(1 + \frac{f}{2^m}\Bigr) \times 2^{\,E - \text{bias}}, \qquad \text{bias} = 2^{e-1} - 1$$
#
# The 1 is always there, so nobody stores it: the **hidden one**. With $e$ exponent bits a format chooses its range, with $m$
# fraction bits its digits. Integers have neither: all their bits are digits.

# %% tags=["demo"]
for value in (1.0, -6.5, 0.1):
    for kind in (cq.FP32, cq.FP16, cq.BF16):
        x = torch.tensor(value).to(kind.dtype)
        print(f"{value:5} in {kind.name}: {cq.bit_string(x):<36} = {x.double().item():.10g}")
for value in (1, -6):
    print(f"{value:5} in INT8: {cq.bit_string(torch.tensor(value, dtype=torch.int8))}")

# %% [markdown]
# BF16 is FP32 with the last 16 bits cut off: the same exponents, fewer digits. FP16 takes three bits from the exponent and gives
# them to the fraction. That is the whole difference, and everything in this lesson follows from it. (INT8 is in two's complement:
# the first bit counts −128.)

# %% tags=["demo"]
print(f"{'':9}{'bits':>5}{'exponent':>9}{'fraction':>9}{'largest':>12}{'smallest normal':>17}{'smallest':>12}{'step at 1':>11}")
for kind in cq.FLOAT_FORMATS:
    print(f"{kind.name:9}{kind.n_bits:5}{kind.exponent_bits:9}{kind.fraction_bits:9}{kind.largest:12.4g}"
          f"{kind.smallest_normal:17.3g}{kind.smallest:12.3g}{kind.epsilon:11.2g}")

# %% [markdown]
# ### Exercise 1 · `float_bits` (2 points, about 5 lines)
#
# **Given** a tensor `x` (`float16`, `bfloat16` or `float32`, any shape), **return** its three stored fields: sign (0 or 1), exponent
# (as stored, 0 and up) and fraction, as three integer tensors of the shape of `x`.
#
# - `-6.5` in `float16` is $-1.625 \times 2^2$: sign 1, exponent 2 + 15 = 17, fraction 0.625 · 1024 = 640.
# - `x.view(torch.int16)` reads the same bits as an integer, for `float32` it is `torch.int32`. But these integers have a sign of their own:
#   what does `>>` do with it?
#
# `format_of(x.dtype)` has `exponent_bits`, `fraction_bits` and `n_bits`.


# %% nbgrader={"solution": true, "grade_id": "float_bits"}
def float_bits(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The stored sign, exponent and fraction of each element of x, as integer tensors."""
    ### BEGIN SOLUTION
    kind = format_of(x.dtype)
    same_width = torch.int32 if kind.n_bits == 32 else torch.int16
    bits = x.contiguous().view(same_width).to(torch.int64) & (2**kind.n_bits - 1)
    exponent = (bits >> kind.fraction_bits) & (2**kind.exponent_bits - 1)
    return bits >> (kind.n_bits - 1), exponent, bits & (2**kind.fraction_bits - 1)
    ### END SOLUTION


# %% tags=["demo", "raises-exception"]
# Look: should be 1, 17, 640; then the two zeros, which differ in one bit.
print(float_bits(torch.tensor([-6.5]).half()))
print(float_bits(torch.tensor([0.0, -0.0]).bfloat16()))

# %% nbgrader={"grade": true, "locked": true, "grade_id": "check-float_bits", "points": 2}
check("float_bits")

# %% tags=["demo", "nbval-ignore-output"]
hint("float_bits")

# %% [markdown]
# ### The two ends of the exponent
#
# With a hidden one there would be no zero. So both ends of the exponent mean something else:
#
# | stored exponent | fraction | value |
# | --- | --- | --- |
# | 0 | any | $\dfrac{f}{2^m} \times 2^{1 - \text{bias}}$: zero, and the **subnormals** |
# | all ones | 0 | $\pm\infty$ |
# | all ones | not 0 | NaN |

# %% [markdown]
# Subnormals have no hidden one and the power of exponent 1. They fill the gap between the smallest normal number and 0 with even
# steps, and have fewer digits the smaller they are.

# %% [markdown]
# ### Exercise 2 · `value_from_bits` (3 points, about 7 lines)
#
# **Given** the three fields (integer tensors of one shape), `exponent_bits` and `fraction_bits`, **return** the values they mean, as a
# `float64` tensor: by the formula above, and by the table at both ends of the exponent.


# %% nbgrader={"solution": true, "grade_id": "value_from_bits"}
def value_from_bits(
    sign: Tensor, exponent: Tensor, fraction: Tensor, exponent_bits: int, fraction_bits: int
) -> Tensor:
    """The float64 values that stored fields mean."""
    ### BEGIN SOLUTION
    bias = 2 ** (exponent_bits - 1) - 1
    significand = (exponent > 0) + fraction.double() / 2**fraction_bits
    value = significand * 2.0 ** (exponent.double().clamp(min=1) - bias)
    special = torch.where(fraction == 0, math.inf, math.nan)
    value = torch.where(exponent == 2**exponent_bits - 1, special.double(), value)
    return torch.where(sign == 1, -value, value)
    ### END SOLUTION


# %% tags=["demo", "raises-exception"]
# Look: 0, the smallest FP16, the largest subnormal, the smallest normal, 1, 65504, inf, nan.
fields = torch.tensor([[0, 0], [0, 1], [0, 1023], [1, 0], [15, 0], [30, 1023], [31, 0], [31, 1]])
print(value_from_bits(torch.zeros(8, dtype=torch.int64), fields[:, 0], fields[:, 1], 5, 10).tolist())

# %% nbgrader={"grade": true, "locked": true, "grade_id": "check-value_from_bits", "points": 3}
check("value_from_bits")

# %% tags=["demo", "nbval-ignore-output"]
hint("value_from_bits")

# %% [markdown]
# ## 2 · Rounding, overflow, underflow
#
# Lesson 01 rounded to a grid with one step for all numbers. A float's step follows the number: between $2^k$ and $2^{k+1}$ it is
# $2^{k-m}$. So what stays the same is the **relative** error. At the lower end the exponent cannot follow any more: numbers lose
# digits, then **underflow** to 0. At the upper end they **overflow** to inf. (An integer saturates. A float does not.)


# %% tags=["demo", "nbval-ignore-output"]
powers = torch.arange(-30, 16)
between = 2.0 ** powers[:, None] * torch.linspace(1, 2, 202)[:-1]  # 201 numbers from each power of 2 to the next

def worst(rounded):
    """The largest relative error within each power of 2, at most 1."""
    return ((rounded - between).abs() / between).amax(1).clamp(max=1.0)

curves = {"FP16": worst(cq.round_to_format(between, 5, 10)), "BF16": worst(cq.round_to_format(between, 8, 7)),
          "INT8, scale 1/127": worst(cq.fake_quantize(between, 1 / 127))}
plot.lines(2.0**powers, curves, logx=True, logy=True, xlabel="magnitude of the number", ylabel="largest relative error",
           title="Floats keep their digits over many powers of 2; INT8 is good near the top of its range only");

# %% [markdown]
# ### Exercise 3 · `round_to_format` (4 points, about 9 lines)
#
# **Given** `x` (`float32` or `float64`, any shape), `exponent_bits` and `fraction_bits`, **return** `x` rounded to the nearest number
# of that format, in the dtype of `x`.
#
# - The step at $|x|$ in $[2^k, 2^{k+1})$ is $2^{k-m}$, but never smaller than $2^{1 - \text{bias} - m}$.
# - Halves go to the even neighbour, as `torch.round` does.
# - What is larger than $(2 - 2^{-m})\,2^{\text{bias}}$ **after** rounding becomes inf, with its sign. inf and NaN stay.
#
# `torch.frexp(x)` gives a mantissa in 0.5…1 and a power: mind the difference to $k$. `float64` holds every step you need.


# %% nbgrader={"solution": true, "grade_id": "round_to_format"}
def round_to_format(x: Tensor, exponent_bits: int, fraction_bits: int) -> Tensor:
    """x rounded to the nearest number with so many exponent and fraction bits, in the dtype of x."""
    ### BEGIN SOLUTION
    bias = 2 ** (exponent_bits - 1) - 1
    wide = x.double()
    k = (torch.frexp(wide).exponent - 1).clamp(min=1 - bias)
    step = 2.0 ** (k - fraction_bits).double()
    rounded = torch.round(wide / step) * step
    too_large = rounded.abs() > (2 - 2.0**-fraction_bits) * 2.0**bias
    rounded = torch.where(too_large, torch.copysign(torch.full_like(wide, math.inf), wide), rounded)
    return torch.where(wide.isfinite(), rounded, wide).to(x.dtype)
    ### END SOLUTION


# %% tags=["demo", "raises-exception"]
# Look: nearest, a half to even, a subnormal, underflow, the last number that does not overflow, overflow.
x = torch.tensor([0.1, 1 + 2**-11, 3e-6, 2e-8, 65519.0, 65520.0])
for name, rounded in (("yours", round_to_format(x, 5, 10)), ("torch", x.half().float())):
    print(f"{name}: {[f'{v:.8g}' for v in rounded.tolist()]}")

# %% nbgrader={"grade": true, "locked": true, "grade_id": "check-round_to_format", "points": 4}
check("round_to_format")

# %% tags=["demo", "nbval-ignore-output"]
hint("round_to_format")

# %% [markdown]
# What does each format lose on real weights? They span few powers of 2, so a wide exponent is wasted on them. That is why 8 bits of
# integer beat 8 bits of float here.

# %% tags=["demo", "varies"]
rounded = {kind.name: weight.to(kind.dtype).float() for kind in cq.FLOAT_FORMATS[1:]}
rounded["INT8, per channel"] = cq.fake_quantize(weight, cq.symmetric_scale_per_channel(weight))
for name, back in rounded.items():
    print(f"{name:>18}: {measure.sqnr_db(weight, back):5.1f} dB")

# %% [markdown]
# ## 3 · A network in 16 bits
#
# Casting is one call: `model.half()` or `model.to(torch.bfloat16)`. The file is half as long. The tutorials stop there; three things are
# still to be done.
#
# **First, `eval()`.** A cast network left in training mode normalizes each image by its neighbours in the batch, and counts the batch:
# that is no inference. Look at one image, alone and among four.

# %% tags=["demo"]
def answer(model, images):
    """The logits of the first image."""
    with torch.no_grad():
        return model(images.bfloat16())[0].float()

for mode in ("training", "eval"):
    cast = copy.deepcopy(network).to(torch.bfloat16).train(mode == "training")
    counted = cast.bn1.num_batches_tracked.item()
    alone, among = answer(cast, test.images[:1]), answer(cast, test.images[:4])
    print(f"{mode:>8} mode: the same image alone and in a batch differs by {(alone - among).norm() / among.norm():4.0%}, "
          f"batches counted: {cast.bn1.num_batches_tracked.item() - counted}")

# %% [markdown]
# **Second, compare.** `cast_model` puts a copy into eval mode, refuses weights that would overflow, and takes and gives `float32`, so it
# stands beside the original. **Third, keep two decisions apart:** what the *file* holds, and what the machine *computes* in. An FP16 file can
# be computed in FP32.

# %% tags=["demo"]
bf16, fp16 = cq.cast_model(network, torch.bfloat16), cq.cast_model(network, torch.float16)
stored = copy.deepcopy(network).half().float()  # what an FP16 file holds, computed in float32
with torch.no_grad():
    exact = network(test.images[:32])
    for name, model in (("FP16", fp16), ("BF16", bf16), ("FP16 file, FP32 arithmetic", stored)):
        print(f"{name:>27}: logits differ by {(model(test.images[:32]) - exact).norm() / exact.norm():.3%}")
size, half_size = measure.saved_size(network), measure.saved_size(fp16)
print(f"file: {size:,} -> {half_size:,} bytes, {size / half_size:.2f} times smaller")
print(f"accuracy on 2,000 images: BF16 {evaluate(bf16, test):.2%}, FP16 file {evaluate(stored, test):.2%}")

# %% [markdown]
# And now the promise: "lower precision is faster". Ask the machine. The network runs on 16 images in each format, interleaved, on one thread.

# %% tags=["demo", "nbval-ignore-output"]
times = measure.latency({"FP32": network, "BF16": bf16, "FP16": fp16}, test.images[:16], warmup=1, repeats=7)
for name, t in times.items():
    print(f"{name}: {t.median_ms:7.1f} ms, {t.ratio:5.2f} times FP32")
plot.bars({name: t.ratio for name, t in times.items()}, ylabel="time, FP32 = 1 (log scale)", logy=True, fmt="{:.2f}",
          references={"FP32": 1.0}, title="What 16 bits cost or gain on this CPU, in eager PyTorch");

# %% [markdown]
# On the processor where this was written, FP16 was some 20 times **slower**, and BF16 took about two thirds of the time. It has instructions that multiply
# BF16 (`avx512_bf16`) and none for FP16, so PyTorch falls back on slow loops. On a GPU with tensor cores both are fast. A format is as fast as
# the machine's instructions *and* the library's kernels for it. What has yours?

# %% tags=["demo", "nbval-ignore-output"]
from pathlib import Path

cpuinfo = Path("/proc/cpuinfo").read_text(encoding="utf-8") if Path("/proc/cpuinfo").exists() else ""
flags = next((line.split() for line in cpuinfo.splitlines() if line.startswith(("flags", "Features"))), [])
for flag, gives in {"avx512_vnni": "INT8", "avx_vnni": "INT8", "amx_int8": "INT8", "avx512_bf16": "BF16", "amx_bf16": "BF16",
                    "avx512_fp16": "FP16", "amx_fp16": "FP16", "asimdhp": "FP16", "bf16": "BF16", "i8mm": "INT8"}.items():
    if flag in flags:
        print(f"{flag}: multiplies {gives}")
print("CUDA GPU:", torch.cuda.is_available())

# %% [markdown]
# ## 4 · Training: what FP16 cannot hold
#
# Weights and activations fit into FP16, as section 3 showed. Gradients do not. Here is one batch of real ones: the gradient of the loss by every layer's
# *output*, which is what travels backwards, and by its *weights*, which is what the optimizer sees.

# %% tags=["demo"]
gradients = cq.gradients_by_layer(zoo.load("resnet20").train(), train.images[:128], train.labels[:128])
by_kind = {kind: torch.cat([g for name, g in gradients.items() if name.endswith(kind)]) for kind in ("output", "weight")}
print(f"FP16: 0 below {cq.FP16.smallest / 2:.1e}, fewer digits below {cq.FP16.smallest_normal:.1e}, inf from 65,520")
for kind, g in by_kind.items():
    some = g[g != 0].abs()
    print(f"by {kind:>6}: {len(g):>10,} values, largest {some.max():.1e}, median {some.median():.1e}, "
          f"lost {cq.underflow_share(g, cq.FP16.smallest):.1%}, subnormal or lost {(some < cq.FP16.smallest_normal).float().mean():.0%}")

# %% tags=["demo", "nbval-ignore-output"]
limits = {"smallest": cq.FP16.smallest, "smallest_normal": cq.FP16.smallest_normal, "largest": cq.FP16.largest}
plot.magnitudes({f"gradients by {kind}": g[::10] for kind, g in by_kind.items()}, format_name="FP16", **limits,
                title="Most gradients by a layer's output lie below FP16's normal numbers; the upper half of its range is empty");

# %% [markdown]
# Half of FP16's range stands empty on the right while values fall off on the left. So move them: multiply the **loss** by a scale $S$. By the
# chain rule every gradient is then $S$ times as large, and after the backward pass, in FP32, we divide by $S$ again. Nothing else changes. This
# is **loss scaling**. A power of 2 costs no digits.

# %% [markdown]
# How much is right? Compute the gradients of LeNet-300-100 in FP16 with many scales, and compare with FP32 arithmetic on the same weights.

# %% tags=["demo"]
half = zoo.load("lenet300").half()
images, labels = train.images[:512].half(), train.labels[:512]

def weight_gradients(model, x, scale):
    """The gradients of scale times the loss by all weights, divided by scale, in one vector."""
    loss = F.cross_entropy(model(x).float(), labels) * scale
    return torch.cat([g.float().flatten() for g in torch.autograd.grad(loss, list(model.parameters()))]) / scale

exact = weight_gradients(copy.deepcopy(half).float(), images.float(), 1.0)
errors = {}
for k in range(-20, 26, 3):
    found = weight_gradients(half, images, 2.0**k)
    errors[k] = ((found - exact).norm() / exact.norm()).item() if found.isfinite().all() else math.inf
print({f"2^{k}": f"{e:.2%}" if e < math.inf else "overflow" for k, e in errors.items()})

# %% tags=["demo", "nbval-ignore-output"]
finite = [k for k, e in errors.items() if e < math.inf]
ax = plot.lines([2.0**k for k in finite], {"FP16 gradient": [errors[k] for k in finite]}, logx=True, logy=True,
                xlabel="loss scale", ylabel="relative error of the gradient",
                title="Too small a scale underflows, too large a one overflows; between them lies a wide plain")
ax.axvspan(2.0 ** finite[-1], 2.0**25, color="#C4C4C4")
ax.text(2.0 ** (finite[-1] + 0.5), 0.02, "overflow", rotation=90, va="center");

# %% [markdown]
# For this network a scale of 1 lies on the plain, and an honest lesson says so: what underflows here is too small to matter. A scale of
# $2^{-11}$ is what averaging over 2,048 times as many values does to a gradient; deep networks with large feature maps get there. (In BF16, whose
# exponents are those of FP32, there is nothing to scale.)

# %% [markdown]
# ### Exercise 4 · `unscale_and_clip` (3 points, about 6 lines)
#
# **Given** `grads`, a list of tensors (`float16` or `float32`) of a loss that was multiplied by `scale`, and `max_norm`, **return** a list of
# `float32` tensors and a `bool`:
#
# 1. Divide by the scale, in `float32`.
# 2. `found_inf` is True if any element of any gradient is inf or NaN: then return what you have, and True.
# 3. Otherwise **clip**: if the norm of *all* gradients together, $\sqrt{\sum g^2}$, is above `max_norm`, multiply all by
#    `max_norm / norm`.
#
# The order matters: clipping is about true gradients.


# %% nbgrader={"solution": true, "grade_id": "unscale_and_clip"}
def unscale_and_clip(grads: list[Tensor], scale: float, max_norm: float) -> tuple[list[Tensor], bool]:
    """The float32 gradients divided by scale and clipped to max_norm, and whether any was not finite."""
    ### BEGIN SOLUTION
    unscaled = [grad.to(torch.float32) / scale for grad in grads]
    if not all(grad.isfinite().all() for grad in unscaled):
        return unscaled, True
    norm = math.sqrt(sum(grad.square().sum().item() for grad in unscaled))
    factor = max_norm / norm if norm > max_norm else 1.0
    return [grad * factor for grad in unscaled], False
    ### END SOLUTION


# %% tags=["demo", "raises-exception"]
# Look: [3, 4] and [12] have norm 13, so they are halved; tiny ones survive; inf is found.
print(unscale_and_clip([torch.tensor([3.0, 4.0]) * 8, torch.tensor([12.0]) * 8], scale=8.0, max_norm=6.5))
print(unscale_and_clip([torch.tensor([2.0**-20]).half()], scale=65536.0, max_norm=1.0))
print(unscale_and_clip([torch.tensor([1e6]).half()], scale=65536.0, max_norm=1.0))

# %% nbgrader={"grade": true, "locked": true, "grade_id": "check-unscale_and_clip", "points": 3}
check("unscale_and_clip")

# %% tags=["demo", "nbval-ignore-output"]
hint("unscale_and_clip")

# %% [markdown]
# ### The scale looks after itself
#
# Where the plain ends depends on the network and changes while it learns. So let the scale find the edge: start high; if a gradient
# overflows, **skip the step** and halve the scale; after many good steps in a row, try double. A skipped step costs little, a weight that
# became inf costs everything.

# %% [markdown]
# ### Exercise 5 · `loss_scale_step` (3 points, about 6 lines)
#
# **Given** the `scale`, the number of `good_steps` in a row before this one, and whether this step `found_inf`, **return** the new
# `(scale, good_steps)`:
#
# - `found_inf`: the scale times `backoff_factor`, and the count 0;
# - a good step that makes `growth_interval` in a row: the scale times `growth_factor`, and the count 0;
# - any other good step: the same scale, the count one higher.


# %% nbgrader={"solution": true, "grade_id": "loss_scale_step"}
def loss_scale_step(
    scale: float,
    good_steps: int,
    found_inf: bool,
    growth_factor: float = 2.0,
    backoff_factor: float = 0.5,
    growth_interval: int = 2000,
) -> tuple[float, int]:
    """The loss scale after a step, and the number of good steps in a row since it changed."""
    ### BEGIN SOLUTION
    if found_inf:
        return scale * backoff_factor, 0
    if good_steps + 1 == growth_interval:
        return scale * growth_factor, 0
    return scale, good_steps + 1
    ### END SOLUTION


# %% tags=["demo", "raises-exception"]
# Look: one step before the interval, at it, and an overflow.
print(loss_scale_step(1024.0, 1998, False), loss_scale_step(1024.0, 1999, False), loss_scale_step(1024.0, 1999, True))

# %% nbgrader={"grade": true, "locked": true, "grade_id": "check-loss_scale_step", "points": 3}
check("loss_scale_step")

# %% tags=["demo", "nbval-ignore-output"]
hint("loss_scale_step")

# %% [markdown]
# Watch it work. LeNet-300-100 trains in FP16, all of it; the scale starts much too high and may double after 15 good steps. (`HalfTraining`
# puts the parts of this lesson together; read it with `HalfTraining??`.)

# %% tags=["demo"]
def train_lenet(lr, **options):
    """LeNet-300-100 from one and the same start, once through the 10,000 images: the losses, the accuracy, the trainer."""
    torch.manual_seed(0)
    trainer = cq.HalfTraining(LeNet300100(), lr, **options)
    order = torch.Generator().manual_seed(1)
    losses, scales = [], []
    for x, y in data.batches(train, 128, generator=order):
        scales.append(trainer.loss_scale.scale if trainer.loss_scale else 1.0)
        losses.append(trainer.train_step(x, y))
    return losses, scales, evaluate(copy.deepcopy(trainer.model).float(), test)

losses, scales, right = train_lenet(0.1, dtype=torch.float16, loss_scale=cq.DynamicLossScale(2.0**24, growth_interval=15))
print(f"{len(losses)} steps, {right:.0%} right, scale {min(scales):,.0f} to {max(scales):,.0f}, at the end {scales[-1]:,.0f}")

# %% tags=["demo", "nbval-ignore-output"]
plot.lines(range(len(scales)), {"loss scale": scales}, logy=True, markers=False, xlabel="step", ylabel="loss scale",
           title="The scale falls until nothing overflows, then keeps probing the edge");

# %% [markdown]
# ## 5 · Master weights
#
# The second thing that breaks is smaller and quieter. Just below 1 the steps of BF16 are 1/256 wide. Take away less than half a step, and
# rounding brings you back to where you were. A thousand times over.

# %% tags=["demo"]
for name, dtype in (("FP32", torch.float32), ("FP16", torch.float16), ("BF16", torch.bfloat16)):
    w = torch.ones(1, dtype=dtype)
    for _ in range(1000):
        w = w - 1e-4 * torch.ones(1, dtype=dtype)
    print(f"{name}: 1, less 0.0001 a thousand times, is {w.item():.4f}")

# %% tags=["demo"]
# And on a real network: which share of the weights does one step of SGD move at all?
trained = zoo.load("lenet300").train()
loss = F.cross_entropy(trained(train.images[:128]), train.labels[:128])
grads = torch.autograd.grad(loss, list(trained.parameters()))
for lr in (0.1, 0.01, 0.001):
    row = f"learning rate {lr:5}:"
    for name, dtype in (("FP16", torch.float16), ("BF16", torch.bfloat16)):
        moved = total = 0
        for p, g in zip(trained.parameters(), grads, strict=True):
            w = p.detach().to(dtype)
            moved, total = moved + int((w - lr * g.to(dtype) != w).sum()), total + w.numel()
        row += f"  {name} {moved / total:6.1%}"
    print(row)

# %% [markdown]
# The cure is to remember in FP32. The **master weight** takes every step; the 16-bit weight is its rounded copy, made anew after each
# step, and serves the forward and backward passes. The master costs 4 bytes a weight while training, and is not in the shipped file.
#
# ### Exercise 6 · `master_weight_update` (3 points, 2 or 3 lines)
#
# **Given** `master` (`float32`), `weight` (the master in 16 bits, with which the network computed), `grad` (unscaled; `float32` or 16 bits)
# and `lr`, **return** `(new_master, new_weight)`: the master after one step of SGD, in `float32`, and its copy in the dtype of `weight`. Both
# are new tensors.


# %% nbgrader={"solution": true, "grade_id": "master_weight_update"}
def master_weight_update(master: Tensor, weight: Tensor, grad: Tensor, lr: float) -> tuple[Tensor, Tensor]:
    """The float32 master after one step of SGD, and its copy in the dtype of weight."""
    ### BEGIN SOLUTION
    new_master = master - lr * grad.to(torch.float32)
    return new_master, new_master.to(weight.dtype)
    ### END SOLUTION


# %% tags=["demo", "raises-exception"]
# Look: the same thousand steps. The master ends at 0.9, and the BF16 weight beside it.
master, w = torch.ones(1), torch.ones(1, dtype=torch.bfloat16)
for _ in range(1000):
    master, w = master_weight_update(master, w, torch.ones(1), 1e-4)
print(f"master {master.item():.4f}, weight {w.item():.4f}")

# %% nbgrader={"grade": true, "locked": true, "grade_id": "check-master_weight_update", "points": 3}
check("master_weight_update")

# %% tags=["demo", "nbval-ignore-output"]
hint("master_weight_update")

# %% [markdown]
# Does it decide anything? Train LeNet-300-100 with a large and with a small learning rate, five ways, from the same first weights on the
# same batches. (About 10 s.)

# %% tags=["demo"]
def train_in_float32(lr):
    """The same run with nothing reduced, for comparison: the losses and the accuracy."""
    torch.manual_seed(0)
    model, order = LeNet300100(), torch.Generator().manual_seed(1)
    optimizer, losses = torch.optim.SGD(model.parameters(), lr), []
    for x, y in data.batches(train, 128, generator=order):
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses, evaluate(model, test)

ways = {"BF16, no master": {"dtype": torch.bfloat16, "master": False}, "BF16, master": {"dtype": torch.bfloat16},
        "FP16, no master": {"dtype": torch.float16, "master": False}, "FP16, master": {"dtype": torch.float16}}

# %% tags=["demo"]
curves = {}
for lr in (0.1, 0.003):
    runs = {"FP32": train_in_float32(lr)} | {way: train_lenet(lr, **options)[::2] for way, options in ways.items()}
    curves[lr] = {way: run[0] for way, run in runs.items()}
    print(f"learning rate {lr}: " + ", ".join(f"{way} {run[1]:.0%}" for way, run in runs.items()))

# %% tags=["demo", "nbval-ignore-output"]
plot.lines(range(len(losses)), curves[0.003], markers=False, xlabel="step at learning rate 0.003", ylabel="training loss",
           title="With small steps, 16-bit weights stand still or lag; with a master they follow FP32");

# %% [markdown]
# With large steps nothing is lost, and a test at that learning rate would have found nothing. With small ones BF16 without a master learns
# **nothing at all**, and FP16 learns more slowly. Learning rates fall during training, so every run comes there in the end.

# %% [markdown]
# ### Use it: your parts, one training run
#
# FP16 with your loss scale, your unscaling and your master weights, at the small learning rate. `use` takes your function if it passes its
# check, ours otherwise.

# %% tags=["demo"]
mine = {name: use(name) for name in ("unscale_and_clip", "loss_scale_step", "master_weight_update")}
scale = cq.DynamicLossScale(2.0**24, growth_interval=15, step=mine["loss_scale_step"])
_, _, right = train_lenet(0.003, dtype=torch.float16, loss_scale=scale, max_norm=5.0,
                          unscale=mine["unscale_and_clip"], update=mine["master_weight_update"])
print(f"{right:.0%} right after {len(losses)} steps, {scale.skipped} of them skipped")

# %% [markdown]
# Skipped steps are the price of starting far too high: in ten thousand steps a few do not matter, in 79 they do.

# %% [markdown]
# ## 6 · From scratch to the tools people use: autocast
#
# PyTorch's mixed precision does all this. Weights stay `float32`, and *are* the masters. Inside `torch.autocast` matrix products and
# convolutions run in 16 bits, sums that need more digits in `float32`. `torch.amp.GradScaler` is exercises 4 and 5. (`torch.cuda.amp`, in older
# texts, is deprecated, and on a CPU it silently did nothing.)

# %% tags=["demo"]
model = zoo.load("resnet20").train()
seen = {}
for module in model.modules():
    module.register_forward_hook(lambda m, i, out: seen.update({type(m).__name__: out.dtype}))
trainer = cq.AutocastTraining(model, torch.optim.SGD(model.parameters(), 0.01), max_norm=5.0)
loss = trainer.train_step(train.images[:64], train.labels[:64])
for name in ("Conv2d", "BatchNorm2d", "Linear"):
    print(f"{name:>12} gives {seen[name]}")
print(f"weights are {model.fc.weight.dtype}, their gradients {model.fc.weight.grad.dtype}, loss scaling: {trainer.scaler.is_enabled()}")

# %% [markdown]
# `AutocastTraining` (read it with `AutocastTraining??`) is the order to remember, on a CPU with BF16 or a GPU with either:
#
# 1. `zero_grad()` **first**: what somebody left in `.grad` must not take part;
# 2. the forward pass inside `autocast`, the loss in `float32` outside;
# 3. `scaler.scale(loss).backward()`;
# 4. `scaler.unscale_(optimizer)`, **then** clip;
# 5. `scaler.step(optimizer)`, which skips where a gradient is not finite; `scaler.update()`.

# %% tags=["demo"]
for name, dtype in (("BF16", torch.bfloat16), ("FP16", torch.float16)):
    torch.manual_seed(0)
    model, order = LeNet300100().train(), torch.Generator().manual_seed(1)
    trainer = cq.AutocastTraining(model, torch.optim.SGD(model.parameters(), 0.003), dtype=dtype)
    for x, y in data.batches(train, 128, generator=order):
        trainer.train_step(x, y)
    print(f"autocast {name}: {evaluate(model, test):.0%} right, scale {trainer.scaler.get_scale():,.0f}")

# %% [markdown]
# ## 7 · Engines
#
# A network is a list of operations; an **engine** decides how they are run. Eager PyTorch runs one after the other. Compilers and runtimes
# fuse them: convolution, batch norm and ReLU become one pass over memory. For INT8 that is not a luxury. Without fusion every layer would
# dequantize, compute in float and quantize again.
#
# Two ONNX files, written by our exporters: the float network, and its static INT8 version from lesson 02, with `QuantizeLinear` and
# `DequantizeLinear` around every operation.

# %% tags=["demo"]
calibration = train.images[:512]
deploy.export_float(network, "resnet20-fp32.onnx")
deploy.export_qdq(cq.quantize_static(network, calibration), "resnet20-int8.onnx")
sizes = {kind: measure.file_size(f"resnet20-{kind}.onnx") for kind in ("fp32", "int8")}
print(f"FP32 {sizes['fp32']:,} bytes, INT8 {sizes['int8']:,}: {sizes['fp32'] / sizes['int8']:.2f} times smaller")

engines = {engine.name: engine for engine in (
    deploy.eager(network),
    deploy.onnx_runtime("resnet20-fp32.onnx"), deploy.onnx_runtime("resnet20-int8.onnx", "ONNX Runtime int8"),
    deploy.openvino("resnet20-fp32.onnx"), deploy.openvino("resnet20-int8.onnx", "OpenVINO int8"),
)}
right = {name: deploy.engine_accuracy(engine, test) for name, engine in engines.items()}
for name, accuracy in right.items():
    print(f"{name:>18}: {accuracy:.2%} right")

# %% tags=["demo", "nbval-ignore-output"]
times = measure.latency(engines, test.images[:64], warmup=2, repeats=15)
for name, t in times.items():
    print(f"{name:>18}: {t.median_ms:6.1f} ms for 64 images, {t.ratio:.2f} times eager")
plot.bars({name.replace(" ", "\n", 1 if name.startswith("eager") else -1): t.ratio for name, t in times.items()},
          ylabel="time for 64 images, eager FP32 = 1", fmt="{:.2f}", references={"eager FP32": 1.0},
          title="The engine gains, and INT8 gains again within each engine");

# %% [markdown]
# Two gains, and they must not be mixed up. From eager to ONNX Runtime at FP32 is the *engine's*. From FP32 to INT8 *within* one engine is the
# *quantization's*. Whoever divides eager FP32 by ONNX Runtime INT8 has sold you both as one.

# %% tags=["demo", "nbval-ignore-output"]
for name in ("ONNX Runtime", "OpenVINO"):
    pair = {kind: engines[f"{name} {kind}"] for kind in ("fp32", "int8")}
    for batch in (1, 64):
        t = measure.latency(pair, test.images[:batch], warmup=2, repeats=15)  # the fastest call is disturbed least by other work
        print(f"{name:>12}, batch {batch:2}: INT8 takes {t['int8'].min_ms / t['fp32'].min_ms:.2f} of FP32's time")

# %% [markdown]
# ### Inductor, and what `quantize_` does not do
#
# `torch.compile` writes C++ with its backend Inductor; for INT8, torchao's *pt2e* quantizes the exported graph first. torchao also has
# `quantize_(model, Int8WeightOnlyConfig())`, which looks simpler. Try it on a network with convolutions:

# %% tags=["demo"]
lenet = deploy.torchao_weight_only(zoo.load("lenet5"))  # calls quantize_ on a copy
for name in ("conv1", "conv2", "fc1", "fc2"):
    print(f"{name}: {type(getattr(lenet, name).weight.data).__name__}")

# %% [markdown]
# The convolutions are still plain `float32` tensors, and nothing said so. Hence pt2e, as in `deploy.inductor_int8`. Compiling takes tens of
# seconds, so here is what the course's own benchmark measured on the machine it names; set `COMPILE` to compile LeNet-300-100 on yours.

# %% tags=["demo", "nbval-ignore-output"]
measured = deploy.measured_engines()
print(measured["machine"])
for key, part in measured["parts"].items():
    name, batch = key.split(",")
    pairs = {engine: pair[f"{engine} int8"]["ratio"] for engine, pair in part["pairs"].items()}
    print(f"{name:>8}, batch {batch:>2}, INT8 : FP32   " + "   ".join(f"{engine} {ratio:.2f}" for engine, ratio in pairs.items()))

# %% tags=["demo", "nbval-ignore-output"]
COMPILE = False  # needs a C++ compiler, and about 20 s

if COMPILE:
    lenet, example = zoo.load("lenet300"), test.images[:64]
    compiled = {"fp32": deploy.inductor(lenet, example), "int8": deploy.inductor_int8(lenet, calibration, example)}
    print(measure.latency(compiled, example)["int8"])

# %% [markdown]
# ### TensorRT
#
# On NVIDIA GPUs, TensorRT builds an engine from the same kind of file, with symmetric INT8 only. Older texts switch INT8 on with a builder flag and a calibrator; both are
# gone, and INT8 comes from the Q/DQ nodes in the file. (One tutorial's code prints "setup complete" without ever building anything.) Ours builds,
# or says why it cannot:

# %% tags=["demo", "nbval-ignore-output"]
try:
    plan = deploy.build_tensorrt_plan("resnet20-int8.onnx", (1, 28, 28))
    print(f"a plan of {len(plan):,} bytes")
except (deploy.EngineUnavailableError, ValueError) as error:
    print(f"{type(error).__name__}: {error}")

# %% [markdown]
# ### The ledger
#
# Three rows for ResNet-20: the BF16 network, the FP16 file, and INT8 in ONNX Runtime, whose time is against the unchanged network in eager
# PyTorch.

# %% tags=["demo", "nbval-ignore-output"]
ledger = Ledger.open()
row = {"lesson": "04-reduced-precision", "macs": measure.macs(network, (1, 28, 28)), "nonzero": measure.nonzero(network), "by": "reference"}
times = measure.latency({"fp32": network, "bf16": bf16, "int8": engines["ONNX Runtime int8"]}, test.images[:64], warmup=1, repeats=9)
ledger.add(step="bfloat16", accuracy=evaluate(bf16, test), size_bytes=measure.saved_size(bf16), latency_ratio=times["bf16"].ratio, **row)
ledger.add(step="float16 file, float32 arithmetic", accuracy=evaluate(stored, test), size_bytes=half_size, latency_ratio=1.0, **row)
ledger.add(step="int8, ONNX Runtime", accuracy=right["ONNX Runtime int8"], size_bytes=sizes["int8"], latency_ratio=times["int8"].ratio, **row)
ledger

# %% [markdown]
# ## 8 · In your own words
#
# ### Question 1 (3 points, graded by a person)
#
# A colleague casts a ResNet to FP16 for the company's CPU servers, "because lower-precision operations are faster and use less memory". Answers are
# the same, the file is half as long, and every request takes twenty times as long. (a) How can that be? (b) Name four things you check before you
# choose a number format for a machine you do not know. (c) What would you ship for these servers, and how would you show that it is better? Use
# what this notebook measured. (8 sentences at most.)

# %% [markdown] nbgrader={"grade": true, "solution": true, "grade_id": "question-hardware", "points": 3}
# **A model answer.** (a) A format is fast only where the processor has instructions for it and the library has kernels that use them; without, each
# FP16 number is converted, or multiplied in a slow loop, and in section 3 FP16 was many times slower than FP32 on such a CPU. (b) The instructions
# (flags such as `avx512_fp16`, `avx512_bf16`, `avx512_vnni`, tensor cores); whether the engine has kernels for my layers in that format, and does not
# leave some in float; the batch size and the size of the layers, as small ones are bound by overhead; accuracy, range and overflow on real data.
# (c) The file in 16 bits if only bytes matter: 1.98 times smaller, and computed in FP32 it is as right as before. For speed INT8 in ONNX Runtime or
# OpenVINO: the ONNX file is less than a third as long, and in the course's benchmark it beats FP32 of the same engine at batch 64. I would show it as a ratio
# within one engine, interleaved in one run, on one of these servers, beside the accuracy on held-out images.
#
# *Rubric:* one point each for (a) instructions *and* kernels, (b) four sensible checks, a quarter each, (c) a choice with a fair measurement: same
# engine, same machine, accuracy beside it.

# %% [markdown]
# ## What we measured
#
# | question | answer, from the cells above |
# | --- | --- |
# | What do 16 bits cost ResNet-20? | one image of 2,000; the file is 1.98 times smaller |
# | Are they faster? | it depends on the machine: BF16 often, FP16 on a CPU without its instructions not at all |
# | Do gradients fit into FP16? | ResNet-20's by a layer's output do not: 13.5 % are lost, nearly all lose digits |
# | Does loss scaling matter? | LeNet-300-100 has a plain of many powers of 2; the dynamic scale finds its edge |
# | Do master weights matter? | at a learning rate of 0.003 BF16 without them learns nothing |
# | What does INT8 gain? | at batch 64 it is faster than FP32 in every engine; at batch 1 a small network may lose |
#
# **References.** P. Micikevicius et al. 2018, *Mixed Precision Training*, arXiv:1710.03740 · IEEE 754-2019 · P. Micikevicius et al. 2022, *FP8
# Formats for Deep Learning*, arXiv:2209.05433 · D. Kalamkar et al. 2019, *A Study of BFLOAT16 for Deep Learning Training*, arXiv:1905.12322 ·
# J. Ansel et al. 2024, *PyTorch 2*, ASPLOS.
#
# **Next:** pruning, which takes weights away instead of bits.
