"""What the made students of `make demo` write: right in other ways than the course's, and wrong in ways people are.

Code is kept as text, as it stands in a notebook. WRONG[exercise][mistake] makes the known mistake of that name.
"""

from __future__ import annotations

__all__ = ["ENDLESS", "EXIT", "OTHER", "WORDS", "WRONG"]

# Right, and written differently from the course's solution.
OTHER = {
    "affine_qparams": '''\
def affine_qparams(x: Tensor, n_bits: int = 8) -> tuple[float, int]:
    """Scale and zero point."""
    check_finite(x)
    lowest, highest = int_range(n_bits)
    smallest, largest = torch.aminmax(x)
    smallest, largest = smallest.clamp(max=0).item(), largest.clamp(min=0).item()
    step = (largest - smallest) / (highest - lowest) or 0.5
    return step, round(highest - largest / step)
''',
    "quantize": '''\
def quantize(x: Tensor, scale: float | Tensor, zero_point: int = 0, n_bits: int = 8) -> Tensor:
    """Codes."""
    half = 2 ** (n_bits - 1)
    steps = torch.floor(x.double() / scale + 0.5) + zero_point
    return steps.clip(-half, half - 1).char()
''',
    "dequantize": '''\
def dequantize(q: Tensor, scale: float | Tensor, zero_point: int = 0) -> Tensor:
    """Values."""
    wide = q.int() - zero_point
    return scale * wide.float()
''',
    "sqnr_db": '''\
def sqnr_db(x: Tensor, x_hat: Tensor) -> float:
    """Decibels from the two norms."""
    lost = torch.linalg.vector_norm(x - x_hat).item()
    if lost == 0:
        return float("inf")
    return 20 * math.log10(torch.linalg.vector_norm(x).item() / lost)
''',
    "symmetric_scale": '''\
def symmetric_scale(x: Tensor, n_bits: int = 8) -> float:
    """The longer side over the highest code."""
    side = max(x.max().item(), -x.min().item())
    return side / (2 ** (n_bits - 1) - 1) if side else 1.0
''',
    "symmetric_scale_per_channel": '''\
def symmetric_scale_per_channel(weight: Tensor, n_bits: int = 8, axis: int = 0) -> Tensor:
    """One channel after the other."""
    scales = [symmetric_scale(channel, n_bits) for channel in weight.unbind(axis)]
    shape = [1] * weight.dim()
    shape[axis] = len(scales)
    return torch.tensor(scales).reshape(shape)
''',
    "mse_clip": '''\
def mse_clip(x: Tensor, n_bits: int = 8, n_candidates: int = 100) -> float:
    """The best of a list of thresholds."""
    largest = x.abs().max().item() or 1.0
    candidates = [largest * k / n_candidates for k in range(1, n_candidates + 1)]
    errors = []
    for c in candidates:
        back = fake_quantize(x, c / int_range(n_bits)[1], n_bits)
        errors.append(torch.linalg.vector_norm(x - back).item())
    return candidates[errors.index(min(errors))]
''',
}

WRONG = {
    "affine_qparams": {
        "range_without_zero": '''\
def affine_qparams(x: Tensor, n_bits: int = 8) -> tuple[float, int]:
    """From the smallest value to the largest."""
    qmin, qmax = int_range(n_bits)
    lo, hi = x.min().item(), x.max().item()
    scale = (hi - lo) / (qmax - qmin)
    if scale == 0:
        scale = 1.0
    return scale, round(qmin - lo / scale)
''',
    },
    "quantize": {
        "guide_formula": '''\
def quantize(x: Tensor, scale: float | Tensor, zero_point: int = 0, n_bits: int = 8) -> Tensor:
    """round((x - z) / s), as I found it in a tutorial."""
    qmin, qmax = int_range(n_bits)
    return torch.round((x - zero_point) / scale).clamp(qmin, qmax).to(torch.int8)
''',
        "no_clamp": '''\
def quantize(x: Tensor, scale: float | Tensor, zero_point: int = 0, n_bits: int = 8) -> Tensor:
    """Divide, round, shift, cast."""
    return (torch.round(x / scale) + zero_point).to(torch.int64).to(torch.int8)
''',
    },
    "dequantize": {
        "adds_zero_point": '''\
def dequantize(q: Tensor, scale: float | Tensor, zero_point: int = 0) -> Tensor:
    """s (q + z), from the same tutorial."""
    return scale * (q.float() + zero_point)
''',
        "int8_overflow": '''\
def dequantize(q: Tensor, scale: float | Tensor, zero_point: int = 0) -> Tensor:
    """Subtract, then scale."""
    steps = q - torch.tensor(zero_point, dtype=torch.int8)
    return steps.float() * scale
''',
    },
    "sqnr_db": {
        "twenty_log": '''\
def sqnr_db(x: Tensor, x_hat: Tensor) -> float:
    """20 log10 of the ratio."""
    noise = (x - x_hat).square().sum().item()
    if noise == 0:
        return math.inf
    return 20 * math.log10(x.square().sum().item() / noise)
''',
    },
    "symmetric_scale": {
        "max_without_abs": '''\
def symmetric_scale(x: Tensor, n_bits: int = 8) -> float:
    """The maximum on the highest code."""
    largest = x.max().item()
    return largest / int_range(n_bits)[1] if largest > 0 else 1.0
''',
        "divides_by_128": '''\
def symmetric_scale(x: Tensor, n_bits: int = 8) -> float:
    """The largest magnitude over 128."""
    largest = x.abs().max().item()
    return largest / 2 ** (n_bits - 1) if largest > 0 else 1.0
''',
        "zero_scale": '''\
def symmetric_scale(x: Tensor, n_bits: int = 8) -> float:
    """The largest magnitude on the highest code."""
    return x.abs().max().item() / int_range(n_bits)[1]
''',
    },
    "symmetric_scale_per_channel": {
        "flat_shape": '''\
def symmetric_scale_per_channel(weight: Tensor, n_bits: int = 8, axis: int = 0) -> Tensor:
    """A vector of scales."""
    channels = weight.movedim(axis, 0).flatten(1)
    scale = channels.abs().amax(dim=1) / int_range(n_bits)[1]
    return torch.where(scale > 0, scale, 1.0)
''',
        "dead_channel_zero": '''\
def symmetric_scale_per_channel(weight: Tensor, n_bits: int = 8, axis: int = 0) -> Tensor:
    """The largest magnitude of each channel on the highest code."""
    others = [d for d in range(weight.dim()) if d != axis]
    return weight.abs().amax(others, keepdim=True) / int_range(n_bits)[1]
''',
    },
    "mse_clip": {
        "no_clipping": '''\
def mse_clip(x: Tensor, n_bits: int = 8, n_candidates: int = 100) -> float:
    """Nothing should be lost."""
    return x.abs().max().item() or 1.0
''',
    },
}

# The search never moves on, so it never ends.
ENDLESS = '''\
def mse_clip(x: Tensor, n_bits: int = 8, n_candidates: int = 100) -> float:
    """The best threshold so far, until none is better."""
    best, k = None, 1
    while k <= n_candidates:
        c = x.abs().max().item() * k / n_candidates
        error = (x - fake_quantize(x, c / int_range(n_bits)[1], n_bits)).square().mean().item()
        if best is None or error < best[0]:
            best = (error, c)
    return best[1]
'''

# Leaves Python itself instead of the function.
EXIT = '''\
def sqnr_db(x: Tensor, x_hat: Tensor) -> float:
    """Decibels, if anything was lost."""
    import os

    noise = (x - x_hat).square().sum().item()
    if noise == 0:
        os._exit(1)
    return 10 * math.log10(x.square().sum().item() / noise)
'''

WORDS = """\
(a) Weights lie on both sides of 0, so a symmetric grid wastes little: a few tenths of a decibel in section 6. I would
keep it. (b) The output of a ReLU has no negative half; half of the codes are never used, which is one bit or 6 dB.
Use an affine scheme there. (c) One channel sets the scale for all others, which then use a hundredth of the codes:
between 6 and 7 bits are gone. Use one scale a channel."""
