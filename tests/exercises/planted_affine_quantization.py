"""Lesson 01 as students write it: right in other ways than ours, and wrong in ways of their own.

WRONG[exercise][mistake id] is code that makes this mistake; RIGHT[exercise] is code that must get full marks.
It is kept as text, as it would stand in a notebook, and shares nothing with the reference or the known mistakes.
"""

SETUP = """
import math
import torch
from coursekit.quantization import check_finite, fake_quantize, int_range
"""

WRONG = {
    "affine_qparams": {
        "range_without_zero": """
def affine_qparams(x, n_bits=8):
    steps = 2 ** n_bits - 1
    span = float(x.max()) - float(x.min())
    scale = span / steps if span else 1.0
    return scale, round(-(2 ** (n_bits - 1)) - float(x.min()) / scale)
""",
        "clamped_zero_point": """
def affine_qparams(x, n_bits=8):
    lowest, highest = int_range(n_bits)
    smallest, largest = float(x.min()), float(x.max())
    scale = (largest - smallest) / (highest - lowest)
    if scale == 0:
        scale = 1.0
    zp = round(lowest - smallest / scale)
    return scale, min(max(zp, lowest), highest)
""",
        "levels_not_steps": """
def affine_qparams(x, n_bits=8):
    lowest, _ = int_range(n_bits)
    smallest, largest = min(0.0, float(x.min())), max(0.0, float(x.max()))
    scale = (largest - smallest) / (2 ** n_bits)
    if scale == 0:
        return 1.0, lowest
    return scale, round(lowest - smallest / scale)
""",
        "wrong_sign": """
def affine_qparams(x, n_bits=8):
    lowest, highest = int_range(n_bits)
    smallest, largest = min(0.0, float(x.min())), max(0.0, float(x.max()))
    scale = (largest - smallest) / (highest - lowest)
    if scale == 0:
        return 1.0, lowest
    return scale, round(lowest + smallest / scale)
""",
        "unsigned_range": """
def affine_qparams(x, n_bits=8):
    smallest, largest = min(0.0, float(x.min())), max(0.0, float(x.max()))
    scale = (largest - smallest) / (2 ** n_bits - 1)
    if scale == 0:
        return 1.0, 0
    return scale, round(-smallest / scale)
""",
        "zero_point_not_rounded": """
def affine_qparams(x, n_bits=8):
    lowest, highest = int_range(n_bits)
    smallest, largest = min(0.0, float(x.min())), max(0.0, float(x.max()))
    scale = (largest - smallest) / (highest - lowest)
    if scale == 0:
        return 1.0, float(lowest)
    return scale, lowest - smallest / scale
""",
        "truncated_zero_point": """
def affine_qparams(x, n_bits=8):
    lowest, highest = int_range(n_bits)
    smallest, largest = min(0.0, float(x.min())), max(0.0, float(x.max()))
    scale = (largest - smallest) / (highest - lowest)
    if scale == 0:
        return 1.0, lowest
    return scale, int(lowest - smallest / scale)
""",
        "symmetric_instead": """
def affine_qparams(x, n_bits=8):
    _, highest = int_range(n_bits)
    top = float(x.abs().max())
    return (top / highest if top > 0 else 1.0), 0
""",
        "ignores_n_bits": """
def affine_qparams(x, n_bits=8):
    smallest, largest = min(0.0, float(x.min())), max(0.0, float(x.max()))
    scale = (largest - smallest) / 255
    if scale == 0:
        return 1.0, -128
    return scale, round(-128 - smallest / scale)
""",
        "divides_by_zero": """
def affine_qparams(x, n_bits=8):
    lowest, highest = int_range(n_bits)
    zero = torch.zeros(())
    smallest, largest = torch.minimum(x.min(), zero), torch.maximum(x.max(), zero)
    scale = (largest - smallest) / (highest - lowest)
    return scale.item(), int(torch.round(lowest - smallest / scale))
""",
        "returns_tensors": """
def affine_qparams(x, n_bits=8):
    lowest, highest = int_range(n_bits)
    smallest, largest = x.min().clamp(max=0), x.max().clamp(min=0)
    scale = (largest - smallest) / (highest - lowest)
    scale = torch.where(scale > 0, scale, torch.ones_like(scale))
    return scale, torch.round(lowest - smallest / scale)
""",
    },
    "quantize": {
        "guide_formula": """
def quantize(x, scale, zero_point=0, n_bits=8):
    lo, hi = int_range(n_bits)
    return ((x - zero_point) / scale).round().clamp(lo, hi).to(torch.int8)
""",
        "no_clamp": """
def quantize(x, scale, zero_point=0, n_bits=8):
    return ((x / scale).round() + zero_point).to(torch.int32).to(torch.int8)
""",
        "clamp_after_cast": """
def quantize(x, scale, zero_point=0, n_bits=8):
    lo, hi = int_range(n_bits)
    codes = ((x / scale).round() + zero_point).to(torch.int32).to(torch.int8)
    return codes.clamp(lo, hi)
""",
        "truncates": """
def quantize(x, scale, zero_point=0, n_bits=8):
    lo, hi = int_range(n_bits)
    steps = (x / scale).to(torch.int64) + zero_point
    return steps.clamp(lo, hi).to(torch.int8)
""",
        "no_rounding": """
def quantize(x, scale, zero_point=0, n_bits=8):
    lo, hi = int_range(n_bits)
    return (x / scale + zero_point).clamp(lo, hi).to(torch.int8)
""",
        "adds_half_and_truncates": """
def quantize(x, scale, zero_point=0, n_bits=8):
    lo, hi = int_range(n_bits)
    return (x / scale + zero_point + 0.5).to(torch.int32).clamp(lo, hi).to(torch.int8)
""",
        "floors": """
def quantize(x, scale, zero_point=0, n_bits=8):
    lo, hi = int_range(n_bits)
    return ((x / scale).floor() + zero_point).clamp(lo, hi).to(torch.int8)
""",
        "rounded_before_dividing": """
def quantize(x, scale, zero_point=0, n_bits=8):
    lo, hi = int_range(n_bits)
    return ((x.round() / scale).round() + zero_point).clamp(lo, hi).to(torch.int8)
""",
        "multiplies_by_scale": """
def quantize(x, scale, zero_point=0, n_bits=8):
    lo, hi = int_range(n_bits)
    return ((x * scale).round() + zero_point).clamp(lo, hi).to(torch.int8)
""",
        "forgets_zero_point": """
def quantize(x, scale, zero_point=0, n_bits=8):
    lo, hi = int_range(n_bits)
    return (x / scale).round().clamp(lo, hi).to(torch.int8)
""",
        "subtracts_zero_point": """
def quantize(x, scale, zero_point=0, n_bits=8):
    lo, hi = int_range(n_bits)
    return ((x / scale).round() - zero_point).clamp(lo, hi).to(torch.int8)
""",
        "clamps_before_zero_point": """
def quantize(x, scale, zero_point=0, n_bits=8):
    lo, hi = int_range(n_bits)
    return ((x / scale).round().clamp(lo, hi).to(torch.int32) + zero_point).to(torch.int8)
""",
        "ignores_n_bits": """
def quantize(x, scale, zero_point=0, n_bits=8):
    return ((x / scale).round() + zero_point).clamp(-128, 127).to(torch.int8)
""",
        "stays_float": """
def quantize(x, scale, zero_point=0, n_bits=8):
    lo, hi = int_range(n_bits)
    return ((x / scale).round() + zero_point).clamp(lo, hi)
""",
        "unsigned_codes": """
def quantize(x, scale, zero_point=0, n_bits=8):
    return ((x / scale).round() + zero_point).clamp(0, 2 ** n_bits - 1).to(torch.uint8)
""",
    },
    "dequantize": {
        "int8_overflow": """
def dequantize(q, scale, zero_point=0):
    steps = q - torch.tensor(zero_point, dtype=torch.int8)
    return steps.float() * scale
""",
        "adds_zero_point": """
def dequantize(q, scale, zero_point=0):
    return scale * (q.to(torch.float32) + zero_point)
""",
        "forgets_zero_point": """
def dequantize(q, scale, zero_point=0):
    return scale * q.to(torch.float32)
""",
        "subtracts_after_scaling": """
def dequantize(q, scale, zero_point=0):
    return scale * q.to(torch.float32) - zero_point
""",
        "divides_by_scale": """
def dequantize(q, scale, zero_point=0):
    return (q.to(torch.float32) - zero_point) / scale
""",
        "wrong_way_round": """
def dequantize(q, scale, zero_point=0):
    return scale * (zero_point - q.to(torch.float32))
""",
        "float64": """
def dequantize(q, scale, zero_point=0):
    return (q.to(torch.float64) - zero_point) * scale
""",
        "integer_result": """
def dequantize(q, scale, zero_point=0):
    values = (q.to(torch.int64) - zero_point) * scale
    return values.int()
""",
        "unsigned_codes": """
def dequantize(q, scale, zero_point=0):
    unsigned = torch.where(q < 0, q.to(torch.int32) + 256, q.to(torch.int32))
    return (unsigned - zero_point).float() * scale
""",
    },
    "symmetric_scale": {
        "max_without_abs": """
def symmetric_scale(x, n_bits=8):
    scale = float(x.max()) / int_range(n_bits)[1]
    return scale if scale > 0 else 1.0
""",
        "abs_after_max": """
def symmetric_scale(x, n_bits=8):
    scale = float(x.max().abs()) / int_range(n_bits)[1]
    return scale if scale > 0 else 1.0
""",
        "whole_range": """
def symmetric_scale(x, n_bits=8):
    lo, hi = int_range(n_bits)
    scale = (float(x.max()) - float(x.min())) / (hi - lo)
    return scale if scale > 0 else 1.0
""",
        "divides_by_128": """
def symmetric_scale(x, n_bits=8):
    scale = float(x.abs().max()) / 2 ** (n_bits - 1)
    return scale if scale > 0 else 1.0
""",
        "divides_by_255": """
def symmetric_scale(x, n_bits=8):
    lo, hi = int_range(n_bits)
    scale = float(x.abs().max()) / (hi - lo)
    return scale if scale > 0 else 1.0
""",
        "doubles_the_range": """
def symmetric_scale(x, n_bits=8):
    top = float(x.abs().max())
    scale = (top - (-top)) / int_range(n_bits)[1]
    return scale if scale > 0 else 1.0
""",
        "uses_all_codes": """
def symmetric_scale(x, n_bits=8):
    lo, hi = int_range(n_bits)
    top = float(x.abs().max())
    scale = (top - -top) / (hi - lo)
    return scale if scale > 0 else 1.0
""",
        "zero_scale": """
def symmetric_scale(x, n_bits=8):
    return float(x.abs().max()) / int_range(n_bits)[1]
""",
        "ignores_n_bits": """
def symmetric_scale(x, n_bits=8):
    scale = float(x.abs().max()) / 127
    return scale if scale > 0 else 1.0
""",
        "returns_tensor": """
def symmetric_scale(x, n_bits=8):
    top = x.abs().max()
    return torch.where(top > 0, top / int_range(n_bits)[1], torch.ones_like(top))
""",
    },
    "symmetric_scale_per_channel": {
        "one_scale_for_all": """
def symmetric_scale_per_channel(weight, n_bits=8, axis=0):
    shape = [1] * weight.dim()
    shape[axis] = weight.shape[axis]
    return torch.full(shape, float(weight.abs().max()) / int_range(n_bits)[1])
""",
        "reduces_the_channels": """
def symmetric_scale_per_channel(weight, n_bits=8, axis=0):
    scale = weight.abs().max(dim=axis, keepdim=True).values / int_range(n_bits)[1]
    return torch.where(scale > 0, scale, 1.0)
""",
        "flat_shape": """
def symmetric_scale_per_channel(weight, n_bits=8, axis=0):
    rows = weight.movedim(axis, 0).flatten(1)
    scale = rows.abs().max(dim=1).values / int_range(n_bits)[1]
    return torch.where(scale > 0, scale, 1.0)
""",
        "two_dimensions_only": """
def symmetric_scale_per_channel(weight, n_bits=8, axis=0):
    rows = weight.movedim(axis, 0).flatten(1)
    scale = rows.abs().max(dim=1, keepdim=True).values / int_range(n_bits)[1]
    return torch.where(scale > 0, scale, 1.0)
""",
        "ignores_axis": """
def symmetric_scale_per_channel(weight, n_bits=8, axis=0):
    scale = weight.flatten(1).abs().max(dim=1).values / int_range(n_bits)[1]
    scale[scale == 0] = 1.0
    return scale.reshape(-1, *[1] * (weight.dim() - 1))
""",
        "fixed_dimensions": """
def symmetric_scale_per_channel(weight, n_bits=8, axis=0):
    scale = weight.abs().amax((1, 2, 3), keepdim=True) / int_range(n_bits)[1]
    return torch.where(scale > 0, scale, 1.0)
""",
        "dead_channel_zero": """
def symmetric_scale_per_channel(weight, n_bits=8, axis=0):
    others = [d for d in range(weight.dim()) if d != axis]
    return weight.abs().amax(others, keepdim=True) / int_range(n_bits)[1]
""",
        "max_without_abs": """
def symmetric_scale_per_channel(weight, n_bits=8, axis=0):
    others = [d for d in range(weight.dim()) if d != axis]
    scale = weight.amax(others, keepdim=True) / int_range(n_bits)[1]
    return torch.where(scale > 0, scale, 1.0)
""",
        "divides_by_128": """
def symmetric_scale_per_channel(weight, n_bits=8, axis=0):
    others = [d for d in range(weight.dim()) if d != axis]
    scale = weight.abs().amax(others, keepdim=True) / 2 ** (n_bits - 1)
    return torch.where(scale > 0, scale, 1.0)
""",
        "ignores_n_bits": """
def symmetric_scale_per_channel(weight, n_bits=8, axis=0):
    others = [d for d in range(weight.dim()) if d != axis]
    scale = weight.abs().amax(others, keepdim=True) / 127
    return torch.where(scale > 0, scale, 1.0)
""",
        "whole_range": """
def symmetric_scale_per_channel(weight, n_bits=8, axis=0):
    others = [d for d in range(weight.dim()) if d != axis]
    scale = (weight.amax(others, keepdim=True) - weight.amin(others, keepdim=True)) / (2 ** n_bits - 1)
    return torch.where(scale > 0, scale, 1.0)
""",
    },
    "sqnr_db": {
        "twenty_log": """
def sqnr_db(x, x_hat):
    noise = float(((x - x_hat) ** 2).sum())
    return math.inf if noise == 0 else 20 * math.log10(float((x ** 2).sum()) / noise)
""",
        "natural_log": """
def sqnr_db(x, x_hat):
    noise = float(((x - x_hat) ** 2).sum())
    return math.inf if noise == 0 else 10 * math.log(float((x ** 2).sum()) / noise)
""",
        "inverted": """
def sqnr_db(x, x_hat):
    noise = float(((x - x_hat) ** 2).sum())
    return -math.inf if noise == 0 else 10 * math.log10(noise / float((x ** 2).sum()))
""",
        "not_squared": """
def sqnr_db(x, x_hat):
    noise = float((x - x_hat).norm())
    return math.inf if noise == 0 else 10 * math.log10(float(x.norm()) / noise)
""",
        "bel": """
def sqnr_db(x, x_hat):
    noise = float(((x - x_hat) ** 2).sum())
    return math.inf if noise == 0 else math.log10(float((x ** 2).sum()) / noise)
""",
        "variance": """
def sqnr_db(x, x_hat):
    noise = float((x - x_hat).var())
    return math.inf if noise < 1e-12 else 10 * math.log10(float(x.var()) / noise)
""",
        "peak_signal": """
def sqnr_db(x, x_hat):
    noise = float(((x - x_hat) ** 2).mean())
    return math.inf if noise == 0 else 10 * math.log10(float(x.abs().max() ** 2) / noise)
""",
        "power_of_x_hat": """
def sqnr_db(x, x_hat):
    noise = float(((x - x_hat) ** 2).sum())
    return math.inf if noise == 0 else 10 * math.log10(float((x_hat ** 2).sum()) / noise)
""",
        "divides_by_zero": """
def sqnr_db(x, x_hat):
    return 10 * math.log10((x ** 2).sum().item() / ((x - x_hat) ** 2).sum().item())
""",
        "returns_tensor": """
def sqnr_db(x, x_hat):
    return 10 * torch.log10((x ** 2).sum() / ((x - x_hat) ** 2).sum())
""",
    },
    "mse_clip": {
        "no_clipping": """
def mse_clip(x, n_bits=8, n_candidates=100):
    return float(x.abs().max())
""",
        "smallest_candidate": """
def mse_clip(x, n_bits=8, n_candidates=100):
    best, best_error = None, float("inf")
    for k in range(1, n_candidates + 1):
        c = float(x.abs().max()) * k / n_candidates
        clipped = x.clamp(-c, c)
        error = float(((clipped - fake_quantize(clipped, c / int_range(n_bits)[1], n_bits)) ** 2).mean())
        if error < best_error:
            best, best_error = c, error
    return best
""",
        "absolute_error": """
def mse_clip(x, n_bits=8, n_candidates=100):
    best, best_error = None, float("inf")
    for k in range(1, n_candidates + 1):
        c = float(x.abs().max()) * k / n_candidates
        error = float((x - fake_quantize(x, c / int_range(n_bits)[1], n_bits)).abs().mean())
        if error < best_error:
            best, best_error = c, error
    return best
""",
        "largest_error": """
def mse_clip(x, n_bits=8, n_candidates=100):
    best, best_error = None, float("inf")
    for k in range(1, n_candidates + 1):
        c = float(x.abs().max()) * k / n_candidates
        error = float((x - fake_quantize(x, c / int_range(n_bits)[1], n_bits)).abs().max())
        if error < best_error:
            best, best_error = c, error
    return best
""",
        "threshold_as_scale": """
def mse_clip(x, n_bits=8, n_candidates=100):
    best, best_error = None, float("inf")
    for k in range(1, n_candidates + 1):
        c = float(x.abs().max()) * k / n_candidates
        error = float(((x - fake_quantize(x, c, n_bits)) ** 2).mean())
        if error < best_error:
            best, best_error = c, error
    return best
""",
        "returns_scale": """
def mse_clip(x, n_bits=8, n_candidates=100):
    best, best_error = None, float("inf")
    for k in range(1, n_candidates + 1):
        s = float(x.abs().max()) * k / n_candidates / int_range(n_bits)[1]
        error = float(((x - fake_quantize(x, s, n_bits)) ** 2).mean())
        if error < best_error:
            best, best_error = s, error
    return best
""",
        "returns_index": """
def mse_clip(x, n_bits=8, n_candidates=100):
    errors = []
    for k in range(1, n_candidates + 1):
        c = float(x.abs().max()) * k / n_candidates
        errors.append(float(((x - fake_quantize(x, c / int_range(n_bits)[1], n_bits)) ** 2).mean()))
    return errors.index(min(errors))
""",
        "returns_error": """
def mse_clip(x, n_bits=8, n_candidates=100):
    errors = []
    for k in range(1, n_candidates + 1):
        c = float(x.abs().max()) * k / n_candidates
        errors.append(float(((x - fake_quantize(x, c / int_range(n_bits)[1], n_bits)) ** 2).mean()))
    return min(errors)
""",
        "three_sigma": """
def mse_clip(x, n_bits=8, n_candidates=100):
    return min(float(x.std()) * 3, float(x.abs().max()))
""",
        "max_without_abs": """
def mse_clip(x, n_bits=8, n_candidates=100):
    best, best_error = None, float("inf")
    for k in range(1, n_candidates + 1):
        c = float(x.max()) * k / n_candidates
        error = float(((x - fake_quantize(x, c / int_range(n_bits)[1], n_bits)) ** 2).mean())
        if error < best_error:
            best, best_error = c, error
    return best
""",
        "ignores_n_bits": """
def mse_clip(x, n_bits=8, n_candidates=100):
    best, best_error = None, float("inf")
    for k in range(1, n_candidates + 1):
        c = float(x.abs().max()) * k / n_candidates
        error = float(((x - fake_quantize(x, c / 127, 8)) ** 2).mean())
        if error < best_error:
            best, best_error = c, error
    return best
""",
    },
}

RIGHT = {
    "affine_qparams": [
        """
def affine_qparams(x, n_bits=8):
    values = torch.cat([x.double().flatten(), torch.zeros(1, dtype=torch.float64)])
    span = (values.max() - values.min()).item()
    scale = span / (2 ** n_bits - 1) if span > 0 else 1e-3
    return scale, int(torch.round(-(2 ** (n_bits - 1)) - values.min() / scale))
""",
        """
def affine_qparams(x, n_bits=8):
    lowest, highest = int_range(n_bits)
    a, b = torch.aminmax(x)
    a, b = a.clamp(max=0).item(), b.clamp(min=0).item()
    if a == b:
        return 1.0, 0
    scale = (b - a) / (highest - lowest)
    return scale, round(highest - b / scale)
""",
        """
def affine_qparams(x, n_bits=8):
    lowest, highest = -(1 << n_bits - 1), (1 << n_bits - 1) - 1
    numbers = x.flatten().tolist() + [0.0]
    scale = max((max(numbers) - min(numbers)) / (highest - lowest), 1e-12)
    return scale, max(lowest, min(highest, round(lowest - min(numbers) / scale)))
""",
    ],
    "quantize": [
        """
def quantize(x, scale, zero_point=0, n_bits=8):
    lo, hi = int_range(n_bits)
    return torch.round(x / scale).add(zero_point).clamp(lo, hi).to(torch.int8)
""",
        """
def quantize(x, scale, zero_point=0, n_bits=8):
    half = 2 ** (n_bits - 1)
    steps = torch.floor(x.double() / scale + 0.5) + zero_point
    steps = torch.where(steps < -half, -half, steps)
    steps = torch.where(steps > half - 1, half - 1, steps)
    return steps.to(torch.int8)
""",
        """
def quantize(x, scale, zero_point=0, n_bits=8):
    lo, hi = int_range(n_bits)
    q = x * (1 / scale)
    q = torch.round(q + zero_point)
    return torch.maximum(torch.minimum(q, torch.tensor(float(hi))), torch.tensor(float(lo))).char()
""",
    ],
    "dequantize": [
        """
def dequantize(q, scale, zero_point=0):
    return scale * (q.float() - zero_point)
""",
        """
def dequantize(q, scale, zero_point=0):
    return (q.to(torch.int32) - zero_point).to(torch.float32) * scale
""",
        """
def dequantize(q, scale, zero_point=0):
    return q.float() * scale - zero_point * torch.as_tensor(scale, dtype=torch.float32)
""",
    ],
    "symmetric_scale": [
        """
def symmetric_scale(x, n_bits=8):
    top = max(-x.min().item(), x.max().item())
    return top / (2 ** (n_bits - 1) - 1) if top > 0 else 1.0
""",
        """
def symmetric_scale(x, n_bits=8):
    top = torch.linalg.vector_norm(x, float("inf")).item()
    return max(top / int_range(n_bits)[1], 1e-10)
""",
        """
def symmetric_scale(x, n_bits=8):
    top = max(abs(v) for v in x.flatten().tolist())
    if top == 0:
        return 0.5
    return top / int_range(n_bits)[1]
""",
    ],
    "symmetric_scale_per_channel": [
        """
def symmetric_scale_per_channel(weight, n_bits=8, axis=0):
    dims = [d for d in range(weight.dim()) if d != axis]
    scale = weight.abs().amax(dim=dims, keepdim=True) / int_range(n_bits)[1]
    return torch.where(scale > 0, scale, 1.0)
""",
        """
def symmetric_scale_per_channel(weight, n_bits=8, axis=0):
    shape = [1] * weight.dim()
    shape[axis] = -1
    slices = weight.unbind(axis)
    scales = [max(s.abs().max().item() / int_range(n_bits)[1], 1e-9) for s in slices]
    return torch.tensor(scales).reshape(shape)
""",
        """
def symmetric_scale_per_channel(weight, n_bits=8, axis=0):
    result = weight.abs()
    for d in range(weight.dim()):
        if d != axis:
            result = result.max(dim=d, keepdim=True).values
    result = result / int_range(n_bits)[1]
    result[result == 0] = 1
    return result
""",
    ],
    "sqnr_db": [
        """
def sqnr_db(x, x_hat):
    noise = ((x - x_hat) ** 2).sum().item()
    return 10 * math.log10((x ** 2).sum().item() / noise) if noise else math.inf
""",
        """
def sqnr_db(x, x_hat):
    error = (x.double() - x_hat.double()).norm().item()
    if error == 0:
        return float("inf")
    return 20 * math.log10(x.double().norm().item() / error)
""",
        """
def sqnr_db(x, x_hat):
    return (10 * torch.log10(x.square().mean() / (x_hat - x).square().mean())).item()
""",
    ],
    "mse_clip": [
        """
def mse_clip(x, n_bits=8, n_candidates=100):
    top = float(x.abs().max())
    if top == 0:
        return 1.0
    best, best_error = None, float("inf")
    for k in range(1, n_candidates + 1):
        c = top * k / n_candidates
        error = float(((x - fake_quantize(x, c / int_range(n_bits)[1], n_bits)) ** 2).mean())
        if error < best_error:
            best, best_error = c, error
    return best
""",
        """
def mse_clip(x, n_bits=8, n_candidates=100):
    cs = (x.abs().max().clamp(min=1e-6) * torch.arange(1, n_candidates + 1) / n_candidates).tolist()
    return min(cs, key=lambda c: (fake_quantize(x, c / int_range(n_bits)[1], n_bits) - x).norm().item())
""",
        """
def mse_clip(x, n_bits=8, n_candidates=100):
    qmax = 2 ** (n_bits - 1) - 1
    cs = torch.linspace(1 / n_candidates, 1, n_candidates, dtype=torch.float64) * x.abs().max().clamp(min=1e-9)
    steps = cs[:, None] / qmax
    rounded = torch.clamp(torch.round(x.double().flatten()[None] / steps), -qmax, qmax) * steps
    return cs[(rounded - x.double().flatten()).square().sum(1).argmin()].item()
""",
    ],
}
