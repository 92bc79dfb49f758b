"""Lesson 03 as students write it: right in other ways than ours, and wrong in ways of their own.

WRONG[exercise][mistake id] is code that makes this mistake; RIGHT[exercise] is code that must get full marks.
It is kept as text, as it would stand in a notebook, and shares nothing with the reference or the known mistakes.
"""

SETUP = """
import math
import torch
from coursekit.quantization import fake_quantize, int_range
"""


def _variants(template: str, **bodies: str) -> dict[str, str]:
    """The template with each text in place of its BODY."""
    return {name: template.replace("BODY", body) for name, body in bodies.items()}


_FAKE = """
def fake_quantize_affine(x, scale, zero_point=0, n_bits=8):
    low, high = int_range(n_bits)
    BODY
"""
_STE = """
def ste_gradient(grad, x, scale, zero_point=0, n_bits=8):
    low, high = int_range(n_bits)
    q = (x / scale).round() + zero_point
    BODY
"""
_STEP = """
def qat_step(weight, x, targets, scale, lr, n_bits=4):
    high = int_range(n_bits)[1]
    w = fake_quantize(weight, scale, n_bits)
    out = x @ w.T
    slope = 2 * (out - targets) / out.numel()
    g = slope.T @ x
    g[(weight / scale).round().abs() > high] = 0
    BODY
"""
_LSQ = """
def lsq_step_gradient(grad, x, scale, n_bits=8):
    high = 2 ** (n_bits - 1) - 1
    v = x / scale
    d = v.round() - v
    d[v >= high] = high
    d[v <= -high] = -high
    norm = (x.numel() * high) ** 0.5
    BODY
"""
_EQUAL = """
def equalization_scale(weight1, weight2):
    n = len(weight1)
    s = torch.ones(n)
    for i in range(n):
        a, b = weight1[i], weight2[:, i]
        if a.abs().max() > 0 and b.abs().max() > 0:
            s[i] = BODY
    return s
"""
_BIAS = """
def bias_correction(weight, quantized, bias, input_mean):
    moved = (quantized - weight) * input_mean[None, :]
    BODY
"""

WRONG = {
    "fake_quantize_affine": _variants(
        _FAKE,
        stays_in_codes="return ((x / scale).round() + zero_point).clamp(low, high)",
        forgets_zero_point_back="return ((x / scale).round() + zero_point).clamp(low, high) * scale",
        never_clamps="return (x / scale).round() * scale",
        clamps_values="return (x.clamp(low, high) / scale).round() * scale",
        cuts_off="""q = (x / scale).int() + zero_point
    return (q.clamp(low, high) - zero_point).float() * scale""",
        no_zero_point="""q = (x / scale).round().clamp(low, high) + zero_point
    return (q - zero_point) * scale""",
        same_both_sides="""q = ((x / scale).round() + zero_point).clamp(-high, high)
    return (q - zero_point) * scale""",
        eight_bits="""q = ((x / scale).round() + zero_point).clamp(-128, 127)
    return (q - zero_point) * scale""",
        wraps="""q = ((x / scale).round() + zero_point).clamp(low, high).to(torch.int8)
    return (q - zero_point) * torch.as_tensor(scale)""",
        offset_in_x="""q = ((x - zero_point) / scale).round().clamp(low, high)
    return q * scale + zero_point""",
    ),
    "ste_gradient": _variants(
        _STE,
        true_gradient="return 0 * grad",
        passes_everything="return grad",
        compares_x="return torch.where((x < low) | (x > high), 0.0, grad)",
        mask_without_zero_point="""q = (x / scale).round()
    return torch.where((q < low) | (q > high), 0.0, grad)""",
        times_scale="return torch.where((q < low) | (q > high), 0.0, grad * scale)",
        over_scale="return torch.where((q < low) | (q > high), 0.0, grad / scale)",
        inverted="return torch.where((q < low) | (q > high), grad, 0.0)",
        only_the_mask="return ((q >= low) & (q <= high)).float()",
        drops_the_ends="return torch.where((q <= low) | (q >= high), 0.0, grad)",
        mask_of_8_bits="return torch.where((q < -128) | (q > 127), 0.0, grad)",
        masks_after_clamping="return grad * q.clamp(low, high)",
    ),
    "qat_step": {
        **_variants(
            _STEP,
            updates_quantized="return w - lr * g",
            nothing_comes_through="return weight + 0 * g",
            updates_clamped="""g = slope.T @ x
    return weight - lr * g""",
            returns_quantized="return fake_quantize(weight - lr * g, scale, n_bits)",
            climbs="return weight + lr * g",
            sums="return weight - lr * g * out.numel()",
            mean_over_images="return weight - lr * g * out.shape[1]",
            half_the_gradient="return weight - lr * g / 2",
            gradient_times_scale="return weight - lr * g * scale",
        ),
        "forward_in_float": """
def qat_step(weight, x, targets, scale, lr, n_bits=4):
    latent = weight.clone().requires_grad_()
    loss = ((x @ latent.T - targets) ** 2).mean()
    loss.backward()
    inside = (weight / scale).round().abs() <= int_range(n_bits)[1]
    return weight - lr * latent.grad * inside
""",
        "trains_at_8_bits": """
def qat_step(weight, x, targets, scale, lr, n_bits=4):
    used = fake_quantize(weight, scale).requires_grad_()
    ((x @ used.T - targets) ** 2).mean().backward()
    return weight - lr * used.grad * ((weight / scale).round().abs() <= 127)
""",
    },
    "lsq_step_gradient": _variants(
        _LSQ,
        no_factor="return (grad * d).sum().item()",
        sign_inside="""inside = v.abs() < high
    d[inside] = -d[inside]
    return ((grad * d).sum() / norm).item()""",
        nothing_outside="""d[v.abs() >= high] = 0
    return ((grad * d).sum() / norm).item()""",
        holds_codes_still="""d = v.round().clamp(-high, high)
    return ((grad * d).sum() / norm).item()""",
        same_end="""d[v <= -high] = high
    return ((grad * d).sum() / norm).item()""",
        lowest_code="""d[v <= -high] = -high - 1
    return ((grad * d).sum() / norm).item()""",
        forgets_grad="return (d.sum() / norm).item()",
        mean="return ((grad * d).mean() / norm).item()",
        no_root="return ((grad * d).sum() / norm ** 2).item()",
        only_numel="return ((grad * d).sum() / x.numel() ** 0.5).item()",
        returns_tensor="return (grad * d).sum() / norm",
    ),
    "equalization_scale": {
        **_variants(
            _EQUAL,
            inverse="(b.abs().max() / a.abs().max()) ** 0.5",
            geometric_mean="(a.abs().max() * b.abs().max()) ** 0.5",
            no_root="a.abs().max() / b.abs().max()",
            only_the_first="a.abs().max()",
            whole_width="((a.max() - a.min()) / (b.max() - b.min())) ** 0.5",
            mean_size="(a.abs().mean() / b.abs().mean()) ** 0.5",
        ),
        "rows_of_second": """
def equalization_scale(weight1, weight2):
    s = []
    for i in range(len(weight1)):
        a, b = float(weight1[i].abs().max()), float(weight2[i].abs().max())
        s.append((a / b) ** 0.5 if a and b else 1.0)
    return torch.tensor(s)
""",
        "without_abs": """
def equalization_scale(weight1, weight2):
    a = torch.stack([row.max() for row in weight1])
    b = torch.stack([weight2[:, i].max() for i in range(weight2.shape[1])])
    return torch.where((a > 0) & (b > 0), (a / b) ** 0.5, 1.0)
""",
        "one_factor": """
def equalization_scale(weight1, weight2):
    s = math.sqrt(float(weight1.abs().max()) / float(weight2.abs().max()))
    return torch.full((len(weight1),), s)
""",
        "divides_by_zero": """
def equalization_scale(weight1, weight2):
    a = torch.stack([row.abs().max() for row in weight1])
    b = torch.stack([weight2[:, i].abs().max() for i in range(weight2.shape[1])])
    return (a / b) ** 0.5
""",
    },
    "bias_correction": _variants(
        _BIAS,
        doubles_the_error="return bias + moved.sum(1)",
        ignores_inputs="return bias - (quantized - weight).sum(1)",
        mean_weight_error="return bias - (quantized - weight).mean(1)",
        subtracts_everything="return bias - quantized @ input_mean",
        only_the_shift="return -moved.sum(1)",
        one_input_mean="return bias - ((quantized - weight) * input_mean.mean()).sum(1)",
        averages_over_inputs="return bias - moved.mean(1)",
        one_shift="return bias - moved.sum(1).mean()",
        absolute_errors="return bias - moved.abs().sum(1)",
        rescales_bias="return bias * ((weight @ input_mean) / (quantized @ input_mean))",
    ),
}

RIGHT = {
    "fake_quantize_affine": [
        """
def fake_quantize_affine(x, scale, zero_point=0, n_bits=8):
    low, high = int_range(n_bits)
    q = ((x / scale).round() + zero_point).clamp(low, high)
    return (q - zero_point) * scale
""",
        """
def fake_quantize_affine(x, scale, zero_point=0, n_bits=8):
    half = 2 ** (n_bits - 1)
    steps = torch.round(x / scale).clamp(-half - zero_point, half - 1 - zero_point)
    return scale * steps
""",
        """
def fake_quantize_affine(x, scale, zero_point=0, n_bits=8):
    low, high = int_range(n_bits)
    q = torch.floor(x.double() / scale + 0.5) + zero_point
    q = torch.minimum(torch.maximum(q, torch.tensor(low)), torch.tensor(high)).to(torch.int32)
    return ((q - zero_point).double() * scale).float()
""",
    ],
    "ste_gradient": [
        """
def ste_gradient(grad, x, scale, zero_point=0, n_bits=8):
    low, high = int_range(n_bits)
    q = (x / scale).round() + zero_point
    return torch.where((q < low) | (q > high), torch.zeros_like(grad), grad)
""",
        """
def ste_gradient(grad, x, scale, zero_point=0, n_bits=8):
    low, high = int_range(n_bits)
    v = x / scale
    return grad * (v >= low - zero_point) * (v <= high - zero_point)
""",
        """
def ste_gradient(grad, x, scale, zero_point=0, n_bits=8):
    low, high = int_range(n_bits)
    leaf = x.clone().requires_grad_()
    v = (leaf / scale + zero_point).clamp(low, high)
    y = (v + (v.round() - v).detach() - zero_point) * scale
    y.backward(grad)
    return leaf.grad
""",
    ],
    "qat_step": [
        """
def qat_step(weight, x, targets, scale, lr, n_bits=4):
    high = int_range(n_bits)[1]
    w = fake_quantize(weight, scale, n_bits)
    out = x @ w.T
    g = (2 * (out - targets) / out.numel()).T @ x
    g[(weight / scale).round().abs() > high] = 0
    return weight - lr * g
""",
        """
def qat_step(weight, x, targets, scale, lr, n_bits=4):
    high = int_range(n_bits)[1]
    latent = weight.clone().requires_grad_()
    clipped = latent.clamp(-high * scale, high * scale)
    used = clipped + (fake_quantize(weight, scale, n_bits) - clipped).detach()
    torch.nn.functional.mse_loss(x @ used.T, targets).backward()
    return weight - lr * latent.grad
""",
        """
def qat_step(weight, x, targets, scale, lr, n_bits=4):
    used = fake_quantize(weight, scale, n_bits).requires_grad_()
    loss = (x @ used.T - targets).square().mean()
    (g,) = torch.autograd.grad(loss, used)
    inside = (weight.abs() <= (int_range(n_bits)[1] + 0.5) * scale).float()
    return weight - lr * inside * g
""",
    ],
    "lsq_step_gradient": [
        """
def lsq_step_gradient(grad, x, scale, n_bits=8):
    high = 2 ** (n_bits - 1) - 1
    v = x / scale
    d = v.round() - v
    d[v >= high] = high
    d[v <= -high] = -high
    return ((grad * d).sum() / (x.numel() * high) ** 0.5).item()
""",
        """
def lsq_step_gradient(grad, x, scale, n_bits=8):
    _, high = int_range(n_bits)
    clamped = (x / scale).clamp(-high, high)
    error = torch.where(clamped == x / scale, x / scale, torch.zeros_like(x))
    return float(torch.sum(grad * (clamped.round() - error)) / math.sqrt(high * x.numel()))
""",
        """
def lsq_step_gradient(grad, x, scale, n_bits=8):
    high = 2 ** (n_bits - 1) - 1
    total = 0.0
    for g, value in zip(grad.flatten().tolist(), x.flatten().tolist()):
        v = value / scale
        if v >= high:
            total += g * high
        elif v <= -high:
            total -= g * high
        else:
            total += g * (round(v) - v)
    return total / math.sqrt(x.numel() * high)
""",
    ],
    "equalization_scale": [
        _EQUAL.replace("BODY", "(a.abs().max() / b.abs().max()) ** 0.5"),
        """
def equalization_scale(weight1, weight2):
    a = weight1.abs().reshape(len(weight1), -1).max(dim=1).values
    b = weight2.abs().movedim(1, 0).reshape(weight2.shape[1], -1).max(dim=1).values
    s = torch.sqrt(a * b) / b
    s[(a == 0) | (b == 0)] = 1
    return s
""",
        """
def equalization_scale(weight1, weight2):
    factors = []
    for i in range(weight1.shape[0]):
        a = max(abs(v) for v in weight1[i].flatten().tolist())
        b = max(abs(v) for v in weight2[:, i].flatten().tolist())
        factors.append(math.exp((math.log(a) - math.log(b)) / 2) if a > 0 and b > 0 else 1.0)
    return torch.tensor(factors)
""",
    ],
    "bias_correction": [
        _BIAS.replace("BODY", "return bias - moved.sum(1)"),
        """
def bias_correction(weight, quantized, bias, input_mean):
    before, after = weight @ input_mean + bias, quantized @ input_mean + bias
    return bias + before - after
""",
        """
def bias_correction(weight, quantized, bias, input_mean):
    return bias + torch.einsum("mk,k->m", weight - quantized, input_mean)
""",
    ],
}
