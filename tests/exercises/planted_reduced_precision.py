"""Lesson 04 as students write it: right in other ways than ours, and wrong in ways of their own.

WRONG[exercise][mistake id] is code that makes this mistake; RIGHT[exercise] is code that must get full marks.
It is kept as text, as it would stand in a notebook, and shares nothing with the reference or the known mistakes.
"""

SETUP = """
import math
import torch
from coursekit.quantization import format_of
"""

_READ = """
def whole_bits(x):
    if x.dtype == torch.float32:
        return x.contiguous().view(torch.int32).long() & 0xFFFFFFFF
    return x.contiguous().view(torch.int16).long() & 0xFFFF

def widths(x):
    return format_of(x.dtype).exponent_bits, format_of(x.dtype).fraction_bits
"""

_ROUND = """
def pow2(n):
    return torch.ldexp(torch.ones(n.shape, dtype=torch.float64), n)

def pieces(x, exponent_bits, fraction_bits):
    b = 2 ** (exponent_bits - 1) - 1
    d = x.double()
    top = (2.0 - 0.5 ** fraction_bits) * 2.0 ** b
    k = torch.frexp(d).exponent.long() - 1
    return b, d, top, k

def to_inf(y, d, top):
    y = y.clone()
    y[y > top] = math.inf
    y[y < -top] = -math.inf
    y[d.isnan()] = math.nan
    y[d == math.inf] = math.inf
    y[d == -math.inf] = -math.inf
    return y
"""

WRONG = {
    "float_bits": {
        name: _READ + code
        for name, code in {
            "unmasked_sign": """
def float_bits(x):
    e, m = widths(x)
    signed = x.view(torch.int32 if x.dtype == torch.float32 else torch.int16).long()
    return signed >> (e + m), (signed >> m) % (1 << e), signed % (1 << m)
""",
            "sign_by_comparison": """
def float_bits(x):
    e, m = widths(x)
    b = whole_bits(x)
    return torch.where(x < 0, 1, 0), (b // 2 ** m) % 2 ** e, b % 2 ** m
""",
            "bias_subtracted": """
def float_bits(x):
    e, m = widths(x)
    b = whole_bits(x)
    return b >> (e + m), (b // 2 ** m) % 2 ** e - format_of(x.dtype).bias, b % 2 ** m
""",
            "hidden_one_added": """
def float_bits(x):
    e, m = widths(x)
    b = whole_bits(x)
    exponent = (b // 2 ** m) % 2 ** e
    fraction = b % 2 ** m
    fraction[exponent != 0] += 2 ** m
    return b >> (e + m), exponent, fraction
""",
            "always_float16": """
def float_bits(x):
    b = whole_bits(x)
    return b >> 15, (b >> 10) & 31, b & 1023
""",
            "swapped_widths": """
def float_bits(x):
    m, e = widths(x)
    b = whole_bits(x)
    return b >> (e + m), (b // 2 ** m) % 2 ** e, b % 2 ** m
""",
            "exponent_keeps_sign": """
def float_bits(x):
    e, m = widths(x)
    b = whole_bits(x)
    return b >> (e + m), b >> m, b % 2 ** m
""",
            "fraction_keeps_exponent": """
def float_bits(x):
    e, m = widths(x)
    b = whole_bits(x)
    return b >> (e + m), (b // 2 ** m) % 2 ** e, b % 2 ** (e + m)
""",
            "casts_the_value": """
def float_bits(x):
    e, m = widths(x)
    b = x.long() % (1 << (1 + e + m))
    return b >> (e + m), (b >> m) % (1 << e), b % (1 << m)
""",
            "fraction_as_value": """
def float_bits(x):
    e, m = widths(x)
    b = whole_bits(x)
    return b >> (e + m), (b // 2 ** m) % 2 ** e, (b % 2 ** m).float() / 2 ** m
""",
            "sign_as_boolean": """
def float_bits(x):
    e, m = widths(x)
    b = whole_bits(x)
    return (b >> (e + m)) == 1, (b // 2 ** m) % 2 ** e, b % 2 ** m
""",
        }.items()
    },
    "value_from_bits": {
        "no_hidden_one": """
def value_from_bits(sign, exponent, fraction, exponent_bits, fraction_bits):
    bias = 2 ** (exponent_bits - 1) - 1
    out = []
    for s, e, f in zip(sign.tolist(), exponent.tolist(), fraction.tolist()):
        v = f / 2 ** fraction_bits * 2.0 ** (max(e, 1) - bias)
        if e == 2 ** exponent_bits - 1:
            v = math.nan if f else math.inf
        out.append(-v if s else v)
    return torch.tensor(out, dtype=torch.float64)
""",
        "hidden_one_everywhere": """
def value_from_bits(sign, exponent, fraction, exponent_bits, fraction_bits):
    bias = 2 ** (exponent_bits - 1) - 1
    out = []
    for s, e, f in zip(sign.tolist(), exponent.tolist(), fraction.tolist()):
        v = (1 + f / 2 ** fraction_bits) * 2.0 ** (max(e, 1) - bias)
        if e == 2 ** exponent_bits - 1:
            v = math.nan if f else math.inf
        out.append(-v if s else v)
    return torch.tensor(out, dtype=torch.float64)
""",
        "subnormal_exponent": """
def value_from_bits(sign, exponent, fraction, exponent_bits, fraction_bits):
    bias = 2 ** (exponent_bits - 1) - 1
    out = []
    for s, e, f in zip(sign.tolist(), exponent.tolist(), fraction.tolist()):
        v = ((e > 0) + f / 2 ** fraction_bits) * 2.0 ** (e - bias)
        if e == 2 ** exponent_bits - 1:
            v = math.nan if f else math.inf
        out.append(-v if s else v)
    return torch.tensor(out, dtype=torch.float64)
""",
        "subnormals_dropped": """
def value_from_bits(sign, exponent, fraction, exponent_bits, fraction_bits):
    bias = 2 ** (exponent_bits - 1) - 1
    out = []
    for s, e, f in zip(sign.tolist(), exponent.tolist(), fraction.tolist()):
        v = 0.0 if e == 0 else (1 + f / 2 ** fraction_bits) * 2.0 ** (e - bias)
        if e == 2 ** exponent_bits - 1:
            v = math.nan if f else math.inf
        out.append(-v if s else v)
    return torch.tensor(out, dtype=torch.float64)
""",
        "bias_off_by_one": """
def value_from_bits(sign, exponent, fraction, exponent_bits, fraction_bits):
    bias = 2 ** exponent_bits // 2
    out = []
    for s, e, f in zip(sign.tolist(), exponent.tolist(), fraction.tolist()):
        v = ((e > 0) + f / 2 ** fraction_bits) * 2.0 ** (max(e, 1) - bias)
        if e == 2 ** exponent_bits - 1:
            v = math.nan if f else math.inf
        out.append(-v if s else v)
    return torch.tensor(out, dtype=torch.float64)
""",
        "bias_of_float16": """
def value_from_bits(sign, exponent, fraction, exponent_bits, fraction_bits):
    out = []
    for s, e, f in zip(sign.tolist(), exponent.tolist(), fraction.tolist()):
        v = ((e > 0) + f / 2 ** fraction_bits) * 2.0 ** (max(e, 1) - 15)
        if e == 2 ** exponent_bits - 1:
            v = math.nan if f else math.inf
        out.append(-v if s else v)
    return torch.tensor(out, dtype=torch.float64)
""",
        "no_specials": """
def value_from_bits(sign, exponent, fraction, exponent_bits, fraction_bits):
    bias = 2 ** (exponent_bits - 1) - 1
    out = []
    for s, e, f in zip(sign.tolist(), exponent.tolist(), fraction.tolist()):
        v = ((e > 0) + f / 2 ** fraction_bits) * 2.0 ** (max(e, 1) - bias)
        out.append(-v if s else v)
    return torch.tensor(out, dtype=torch.float64)
""",
        "nan_is_inf": """
def value_from_bits(sign, exponent, fraction, exponent_bits, fraction_bits):
    bias = 2 ** (exponent_bits - 1) - 1
    out = []
    for s, e, f in zip(sign.tolist(), exponent.tolist(), fraction.tolist()):
        v = ((e > 0) + f / 2 ** fraction_bits) * 2.0 ** (max(e, 1) - bias)
        if e == 2 ** exponent_bits - 1:
            v = math.inf
        out.append(-v if s else v)
    return torch.tensor(out, dtype=torch.float64)
""",
        "sign_ignored": """
def value_from_bits(sign, exponent, fraction, exponent_bits, fraction_bits):
    bias = 2 ** (exponent_bits - 1) - 1
    out = []
    for e, f in zip(exponent.tolist(), fraction.tolist()):
        v = ((e > 0) + f / 2 ** fraction_bits) * 2.0 ** (max(e, 1) - bias)
        if e == 2 ** exponent_bits - 1:
            v = math.nan if f else math.inf
        out.append(v)
    return torch.tensor(out, dtype=torch.float64)
""",
        "sign_turned": """
def value_from_bits(sign, exponent, fraction, exponent_bits, fraction_bits):
    bias = 2 ** (exponent_bits - 1) - 1
    out = []
    for s, e, f in zip(sign.tolist(), exponent.tolist(), fraction.tolist()):
        v = ((e > 0) + f / 2 ** fraction_bits) * 2.0 ** (max(e, 1) - bias)
        if e == 2 ** exponent_bits - 1:
            v = math.nan if f else math.inf
        out.append(v if s else -v)
    return torch.tensor(out, dtype=torch.float64)
""",
        "fraction_steps": """
def value_from_bits(sign, exponent, fraction, exponent_bits, fraction_bits):
    bias = 2 ** (exponent_bits - 1) - 1
    out = []
    for s, e, f in zip(sign.tolist(), exponent.tolist(), fraction.tolist()):
        v = ((e > 0) + f / (2 ** fraction_bits - 1)) * 2.0 ** (max(e, 1) - bias)
        if e == 2 ** exponent_bits - 1:
            v = math.nan if f else math.inf
        out.append(-v if s else v)
    return torch.tensor(out, dtype=torch.float64)
""",
    },
    "round_to_format": {
        name: _ROUND + code
        for name, code in {
            "truncates": """
def round_to_format(x, exponent_bits, fraction_bits):
    b, d, top, k = pieces(x, exponent_bits, fraction_bits)
    step = pow2(k.clamp(min=1 - b) - fraction_bits)
    return to_inf((d / step).trunc() * step, d, top).to(x.dtype)
""",
            "halves_away": """
def round_to_format(x, exponent_bits, fraction_bits):
    b, d, top, k = pieces(x, exponent_bits, fraction_bits)
    step = pow2(k.clamp(min=1 - b) - fraction_bits)
    n = (d.abs() / step + 0.5).floor()
    return to_inf(torch.copysign(n * step, d), d, top).to(x.dtype)
""",
            "subnormals_dropped": """
def round_to_format(x, exponent_bits, fraction_bits):
    b, d, top, k = pieces(x, exponent_bits, fraction_bits)
    step = pow2(k - fraction_bits)
    y = to_inf((d / step).round() * step, d, top)
    y[d.abs() < 2.0 ** (1 - b)] = 0
    return y.to(x.dtype)
""",
            "no_underflow": """
def round_to_format(x, exponent_bits, fraction_bits):
    b, d, top, k = pieces(x, exponent_bits, fraction_bits)
    step = pow2(k - fraction_bits)
    return to_inf((d / step).round() * step, d, top).to(x.dtype)
""",
            "no_overflow": """
def round_to_format(x, exponent_bits, fraction_bits):
    b, d, top, k = pieces(x, exponent_bits, fraction_bits)
    step = pow2(k.clamp(min=1 - b) - fraction_bits)
    return to_inf((d / step).round() * step, d, math.inf).to(x.dtype)
""",
            "saturates": """
def round_to_format(x, exponent_bits, fraction_bits):
    b, d, top, k = pieces(x, exponent_bits, fraction_bits)
    step = pow2(k.clamp(min=1 - b) - fraction_bits)
    y = ((d / step).round() * step).clamp(-top, top)
    return to_inf(y, d, top).to(x.dtype)
""",
            "overflow_before_rounding": """
def round_to_format(x, exponent_bits, fraction_bits):
    b, d, top, k = pieces(x, exponent_bits, fraction_bits)
    step = pow2(k.clamp(min=1 - b) - fraction_bits)
    y = (d / step).round() * step
    y[d > top] = math.inf
    y[d < -top] = -math.inf
    return y.to(x.dtype)
""",
            "a_bit_too_few": """
def round_to_format(x, exponent_bits, fraction_bits):
    b, d, top, k = pieces(x, exponent_bits, fraction_bits)
    step = pow2(k.clamp(min=1 - b) + 1 - fraction_bits)
    return to_inf((d / step).round() * step, d, top).to(x.dtype)
""",
            "a_bit_too_many": """
def round_to_format(x, exponent_bits, fraction_bits):
    b, d, top, k = pieces(x, exponent_bits, fraction_bits)
    step = pow2(k.clamp(min=1 - b) - 1 - fraction_bits)
    return to_inf((d / step).round() * step, d, top).to(x.dtype)
""",
            "fixed_point": """
def round_to_format(x, exponent_bits, fraction_bits):
    b, d, top, k = pieces(x, exponent_bits, fraction_bits)
    return to_inf((d * 2 ** fraction_bits).round() / 2 ** fraction_bits, d, top).to(x.dtype)
""",
            "bias_off_by_one": """
def round_to_format(x, exponent_bits, fraction_bits):
    b, d, top, k = pieces(x, exponent_bits, fraction_bits)
    step = pow2(k.clamp(min=-b) - fraction_bits)
    return to_inf((d / step).round() * step, d, 2 * top).to(x.dtype)
""",
            "inf_becomes_nan": """
def round_to_format(x, exponent_bits, fraction_bits):
    b, d, top, k = pieces(x, exponent_bits, fraction_bits)
    k = torch.where(d.isinf(), 5000, k)
    step = pow2(k.clamp(min=1 - b) - fraction_bits)
    y = (d / step).round() * step
    y[y > top] = math.inf
    y[y < -top] = -math.inf
    return y.to(x.dtype)
""",
            "always_float16": """
def round_to_format(x, exponent_bits, fraction_bits):
    return x.to(torch.float16).to(x.dtype)
""",
            "float64_result": """
def round_to_format(x, exponent_bits, fraction_bits):
    b, d, top, k = pieces(x, exponent_bits, fraction_bits)
    step = pow2(k.clamp(min=1 - b) - fraction_bits)
    return to_inf((d / step).round() * step, d, top)
""",
        }.items()
    },
    "unscale_and_clip": {
        "clips_before_unscaling": """
def unscale_and_clip(grads, scale, max_norm):
    out = [g.float() for g in grads]
    if any((~g.isfinite()).any() for g in out):
        return [g / scale for g in out], True
    length = torch.cat([g.flatten() for g in out]).norm().item()
    if length > max_norm:
        out = [g * (max_norm / length) for g in out]
    return [g / scale for g in out], False
""",
        "divides_in_half_precision": """
def unscale_and_clip(grads, scale, max_norm):
    out = []
    for g in grads:
        out.append((g / scale).float())
    if any((~g.isfinite()).any() for g in out):
        return out, True
    length = torch.cat([g.flatten() for g in out]).norm().item()
    if length > max_norm:
        out = [g * (max_norm / length) for g in out]
    return out, False
""",
        "clips_each_tensor": """
def unscale_and_clip(grads, scale, max_norm):
    out = [g.float() / scale for g in grads]
    if any((~g.isfinite()).any() for g in out):
        return out, True
    return [g * min(1.0, max_norm / g.norm().item()) for g in out], False
""",
        "never_finds_inf": """
def unscale_and_clip(grads, scale, max_norm):
    out = [g.float() / scale for g in grads]
    length = torch.cat([g.flatten() for g in out]).norm().item()
    if length > max_norm:
        out = [g * (max_norm / length) for g in out]
    return out, False
""",
        "nan_passes": """
def unscale_and_clip(grads, scale, max_norm):
    out = [g.float() / scale for g in grads]
    if any(bool((g.abs() == math.inf).any()) for g in out):
        return out, True
    length = torch.cat([g.flatten() for g in out]).norm().item()
    if length > max_norm:
        out = [g * (max_norm / length) for g in out]
    return out, False
""",
        "looks_at_the_last": """
def unscale_and_clip(grads, scale, max_norm):
    out = [g.float() / scale for g in grads]
    for g in out:
        found = bool((~g.isfinite()).any())
    if found:
        return out, True
    length = torch.cat([g.flatten() for g in out]).norm().item()
    if length > max_norm:
        out = [g * (max_norm / length) for g in out]
    return out, False
""",
        "multiplies": """
def unscale_and_clip(grads, scale, max_norm):
    out = [g.float() * scale for g in grads]
    if any((~g.isfinite()).any() for g in out):
        return out, True
    length = torch.cat([g.flatten() for g in out]).norm().item()
    if length > max_norm:
        out = [g * (max_norm / length) for g in out]
    return out, False
""",
        "never_clips": """
def unscale_and_clip(grads, scale, max_norm):
    out = [g.float() / scale for g in grads]
    return out, any(bool((~g.isfinite()).any()) for g in out)
""",
        "always_at_the_norm": """
def unscale_and_clip(grads, scale, max_norm):
    out = [g.float() / scale for g in grads]
    if any((~g.isfinite()).any() for g in out):
        return out, True
    length = torch.cat([g.flatten() for g in out]).norm().item()
    return [g / length * max_norm for g in out], False
""",
        "clips_values": """
def unscale_and_clip(grads, scale, max_norm):
    out = [g.float() / scale for g in grads]
    if any((~g.isfinite()).any() for g in out):
        return out, True
    return [torch.clip(g, -max_norm, max_norm) for g in out], False
""",
        "sum_of_norms": """
def unscale_and_clip(grads, scale, max_norm):
    out = [g.float() / scale for g in grads]
    if any((~g.isfinite()).any() for g in out):
        return out, True
    length = sum(g.norm().item() for g in out)
    if length > max_norm:
        out = [g * (max_norm / length) for g in out]
    return out, False
""",
        "norm_squared": """
def unscale_and_clip(grads, scale, max_norm):
    out = [g.float() / scale for g in grads]
    if any((~g.isfinite()).any() for g in out):
        return out, True
    length = sum((g ** 2).sum().item() for g in out)
    if length > max_norm:
        out = [g * (max_norm / length) for g in out]
    return out, False
""",
        "back_to_half": """
def unscale_and_clip(grads, scale, max_norm):
    out = [g.float() / scale for g in grads]
    if any((~g.isfinite()).any() for g in out):
        return [o.to(g.dtype) for o, g in zip(out, grads)], True
    length = torch.cat([g.flatten() for g in out]).norm().item()
    if length > max_norm:
        out = [g * (max_norm / length) for g in out]
    return [o.to(g.dtype) for o, g in zip(out, grads)], False
""",
        "zeroes_what_overflowed": """
def unscale_and_clip(grads, scale, max_norm):
    out = [torch.where(g.isfinite(), g.float() / scale, 0.0) for g in grads]
    length = torch.cat([g.flatten() for g in out]).norm().item()
    if length > max_norm:
        out = [g * (max_norm / length) for g in out]
    return out, False
""",
        "flag_is_a_tensor": """
def unscale_and_clip(grads, scale, max_norm):
    out = [g.float() / scale for g in grads]
    found = torch.stack([(~g.isfinite()).any() for g in out]).any()
    if found:
        return out, found
    length = torch.cat([g.flatten() for g in out]).norm().item()
    if length > max_norm:
        out = [g * (max_norm / length) for g in out]
    return out, found
""",
    },
    "loss_scale_step": {
        "never_grows": """
def loss_scale_step(scale, good_steps, found_inf, growth_factor=2.0, backoff_factor=0.5, growth_interval=2000):
    if found_inf:
        return scale * backoff_factor, 0
    return scale, good_steps + 1
""",
        "grows_every_step": """
def loss_scale_step(scale, good_steps, found_inf, growth_factor=2.0, backoff_factor=0.5, growth_interval=2000):
    if found_inf:
        return scale * backoff_factor, 0
    return scale * growth_factor, good_steps + 1
""",
        "keeps_count_after_overflow": """
def loss_scale_step(scale, good_steps, found_inf, growth_factor=2.0, backoff_factor=0.5, growth_interval=2000):
    if found_inf:
        return scale * backoff_factor, good_steps
    good_steps += 1
    if good_steps >= growth_interval:
        return scale * growth_factor, 0
    return scale, good_steps
""",
        "counts_the_overflow": """
def loss_scale_step(scale, good_steps, found_inf, growth_factor=2.0, backoff_factor=0.5, growth_interval=2000):
    good_steps += 1
    if found_inf:
        return scale * backoff_factor, good_steps
    if good_steps == growth_interval:
        return scale * growth_factor, 0
    return scale, good_steps
""",
        "no_reset_after_growth": """
def loss_scale_step(scale, good_steps, found_inf, growth_factor=2.0, backoff_factor=0.5, growth_interval=2000):
    if found_inf:
        return scale * backoff_factor, 0
    good_steps += 1
    if good_steps == growth_interval:
        scale *= growth_factor
    return scale, good_steps
""",
        "starts_at_one": """
def loss_scale_step(scale, good_steps, found_inf, growth_factor=2.0, backoff_factor=0.5, growth_interval=2000):
    if found_inf:
        return scale * backoff_factor, 0
    good_steps += 1
    if good_steps == growth_interval:
        scale, good_steps = scale * growth_factor, 1
    return scale, good_steps
""",
        "no_backoff": """
def loss_scale_step(scale, good_steps, found_inf, growth_factor=2.0, backoff_factor=0.5, growth_interval=2000):
    good_steps = 0 if found_inf else good_steps + 1
    if good_steps == growth_interval:
        return scale * growth_factor, 0
    return scale, good_steps
""",
        "the_wrong_way_round": """
def loss_scale_step(scale, good_steps, found_inf, growth_factor=2.0, backoff_factor=0.5, growth_interval=2000):
    if found_inf:
        good_steps += 1
        if good_steps == growth_interval:
            return scale * growth_factor, 0
        return scale, good_steps
    return scale * backoff_factor, 0
""",
        "divides_by_backoff": """
def loss_scale_step(scale, good_steps, found_inf, growth_factor=2.0, backoff_factor=0.5, growth_interval=2000):
    if found_inf:
        return scale / backoff_factor, 0
    good_steps += 1
    if good_steps == growth_interval:
        return scale * growth_factor, 0
    return scale, good_steps
""",
        "adds_the_factor": """
def loss_scale_step(scale, good_steps, found_inf, growth_factor=2.0, backoff_factor=0.5, growth_interval=2000):
    if found_inf:
        return scale * backoff_factor, 0
    good_steps += 1
    if good_steps == growth_interval:
        return scale + growth_factor, 0
    return scale, good_steps
""",
        "restarts_at_one": """
def loss_scale_step(scale, good_steps, found_inf, growth_factor=2.0, backoff_factor=0.5, growth_interval=2000):
    if found_inf:
        return 1.0, 0
    good_steps += 1
    if good_steps == growth_interval:
        return scale * growth_factor, 0
    return scale, good_steps
""",
        "constants_built_in": """
def loss_scale_step(scale, good_steps, found_inf, growth_factor=2.0, backoff_factor=0.5, growth_interval=2000):
    if found_inf:
        return scale / 2, 0
    good_steps += 1
    if good_steps == 2000:
        return scale * 2, 0
    return scale, good_steps
""",
    },
    "master_weight_update": {
        "updates_the_copy": """
def master_weight_update(master, weight, grad, lr):
    weight = weight - lr * grad.to(weight.dtype)
    return weight.float(), weight
""",
        "starts_from_the_copy": """
def master_weight_update(master, weight, grad, lr):
    master = weight.float() - lr * grad.float()
    return master, master.to(weight.dtype)
""",
        "product_in_half": """
def master_weight_update(master, weight, grad, lr):
    change = grad.to(weight.dtype) * lr
    master = master - change.float()
    return master, master.to(weight.dtype)
""",
        "rounds_the_master": """
def master_weight_update(master, weight, grad, lr):
    master = (master - lr * grad.float()).to(weight.dtype)
    return master.to(torch.float32), master
""",
        "two_separate_updates": """
def master_weight_update(master, weight, grad, lr):
    return master - lr * grad.float(), weight - lr * grad.to(weight.dtype)
""",
        "climbs": """
def master_weight_update(master, weight, grad, lr):
    master = master + lr * grad.float()
    return master, master.to(weight.dtype)
""",
        "forgets_lr": """
def master_weight_update(master, weight, grad, lr):
    master = master - grad.float()
    return master, master.to(weight.dtype)
""",
        "old_copy": """
def master_weight_update(master, weight, grad, lr):
    weight = master.to(weight.dtype)
    master = master - lr * grad.float()
    return master, weight
""",
        "copy_not_rounded": """
def master_weight_update(master, weight, grad, lr):
    master = master - lr * grad.float()
    return master, master.clone()
""",
        "always_float16": """
def master_weight_update(master, weight, grad, lr):
    master = master - lr * grad.float()
    return master, master.to(torch.float16)
""",
        "relative_step": """
def master_weight_update(master, weight, grad, lr):
    master = master - lr * grad.float() * master
    return master, master.to(weight.dtype)
""",
        "swapped": """
def master_weight_update(master, weight, grad, lr):
    master = master - lr * grad.float()
    return master.to(weight.dtype), master
""",
    },
}

RIGHT = {
    "float_bits": [
        """
def float_bits(x):
    f = format_of(x.dtype)
    whole = x.contiguous().view(torch.int32 if x.element_size() == 4 else torch.int16).to(torch.int64)
    whole = torch.where(whole < 0, whole + 2 ** f.n_bits, whole)
    top = whole // 2 ** f.fraction_bits
    return top // 2 ** f.exponent_bits, top % 2 ** f.exponent_bits, whole % 2 ** f.fraction_bits
""",
        """
def float_bits(x):
    f = format_of(x.dtype)
    e, m = f.exponent_bits, f.fraction_bits
    kind = {2: torch.int16, 4: torch.int32}[x.element_size()]
    b = x.contiguous().view(kind)
    return (b < 0).to(torch.int32), (b >> m) & ((1 << e) - 1), b & ((1 << m) - 1)
""",
        """
def float_bits(x):
    f = format_of(x.dtype)
    e, m = f.exponent_bits, f.fraction_bits
    shape = x.shape
    raw = x.contiguous().flatten().view(torch.uint8).reshape(-1, x.element_size()).long()
    whole = sum(raw[:, i] << (8 * i) for i in range(x.element_size()))
    text = [format(v, f"0{1 + e + m}b") for v in whole.tolist()]
    parts = [[int(t[0]), int(t[1:1 + e], 2), int(t[1 + e:], 2)] for t in text]
    return tuple(torch.tensor([p[i] for p in parts]).reshape(shape) for i in range(3))
""",
    ],
    "value_from_bits": [
        """
def value_from_bits(sign, exponent, fraction, exponent_bits, fraction_bits):
    bias = 2 ** (exponent_bits - 1) - 1
    f = fraction.double() / 2 ** fraction_bits
    normal = (1 + f) * 2.0 ** (exponent.double() - bias)
    small = f * 2.0 ** (1 - bias)
    value = torch.where(exponent == 0, small, normal)
    last = exponent == 2 ** exponent_bits - 1
    value[last & (fraction == 0)] = math.inf
    value[last & (fraction > 0)] = math.nan
    return value * (1 - 2 * sign)
""",
        """
def value_from_bits(sign, exponent, fraction, exponent_bits, fraction_bits):
    bias = (1 << (exponent_bits - 1)) - 1
    whole = fraction + (exponent != 0) * 2 ** fraction_bits
    value = torch.ldexp(whole.double(), exponent.clamp(min=1) - bias - fraction_bits)
    special = torch.full_like(value, math.inf).masked_fill(fraction != 0, math.nan)
    value = torch.where(exponent == (1 << exponent_bits) - 1, special, value)
    return torch.where(sign.bool(), -value, value)
""",
        """
def value_from_bits(sign, exponent, fraction, exponent_bits, fraction_bits):
    def one(s, e, f):
        if e == 2 ** exponent_bits - 1:
            v = float("nan") if f else float("inf")
        elif e == 0:
            v = math.ldexp(f, 2 - 2 ** (exponent_bits - 1) - fraction_bits)
        else:
            v = math.ldexp(f + 2 ** fraction_bits, e + 1 - 2 ** (exponent_bits - 1) - fraction_bits)
        return -v if s else v
    rows = zip(sign.flatten().tolist(), exponent.flatten().tolist(), fraction.flatten().tolist())
    return torch.tensor([one(*row) for row in rows]).reshape(sign.shape)
""",
    ],
    "round_to_format": [
        """
def round_to_format(x, exponent_bits, fraction_bits):
    bias = 2 ** (exponent_bits - 1) - 1
    d = x.double()
    k = (torch.frexp(d).exponent - 1).clamp(min=1 - bias)
    scaled = torch.round(torch.ldexp(d, fraction_bits - k))
    y = torch.ldexp(scaled, k - fraction_bits)
    largest = (2 - 2.0 ** -fraction_bits) * 2.0 ** bias
    y = torch.where(y > largest, math.inf, torch.where(y < -largest, -math.inf, y))
    return torch.where(x.isfinite(), y, d).to(x.dtype)
""",
        """
def round_to_format(x, exponent_bits, fraction_bits):
    bias = 2 ** (exponent_bits - 1) - 1
    def one(v):
        if v == 0 or not math.isfinite(v):
            return v
        k = max(math.frexp(abs(v))[1] - 1, 1 - bias)
        step = 2.0 ** (k - fraction_bits)
        y = round(v / step) * step
        if abs(y) >= 2.0 ** (bias + 1):
            y = math.inf
        return math.copysign(y, v)
    return torch.tensor([one(v) for v in x.flatten().tolist()], dtype=x.dtype).reshape(x.shape)
""",
        """
def round_to_format(x, exponent_bits, fraction_bits):
    bias = 2 ** (exponent_bits - 1) - 1
    d = x.double()
    magnitude = d.abs()
    k = torch.floor(torch.log2(magnitude.clamp(min=1e-300)))
    k = torch.where(2.0 ** k > magnitude, k - 1, k).clamp(1 - bias, bias + 1)
    step = 2.0 ** (k - fraction_bits)
    low = torch.floor(magnitude / step)
    rest = magnitude / step - low
    up = (rest > 0.5) | ((rest == 0.5) & (low % 2 == 1))
    y = (low + up) * step
    y[y >= 2.0 ** (bias + 1)] = math.inf
    y = torch.where(d < 0, -y, y)
    y = torch.where(d.isinf() | d.isnan(), d, y)
    return y.to(x.dtype)
""",
    ],
    "unscale_and_clip": [
        """
def unscale_and_clip(grads, scale, max_norm):
    true = [g.float() / scale for g in grads]
    everything = torch.cat([g.flatten() for g in true])
    if not torch.isfinite(everything).all():
        return true, True
    norm = everything.double().norm().item()
    if norm <= max_norm:
        return true, False
    return [g * (max_norm / norm) for g in true], False
""",
        """
def unscale_and_clip(grads, scale, max_norm):
    out, total, found = [], 0.0, False
    for g in grads:
        g = g.to(torch.float32) * (1.0 / scale)
        if g.isnan().any() or g.isinf().any():
            found = True
        total += g.double().pow(2).sum().item()
        out.append(g)
    if not found and total > max_norm ** 2:
        out = [g / (total ** 0.5 / max_norm) for g in out]
    return out, found
""",
        """
def unscale_and_clip(grads, scale, max_norm):
    true = tuple(g.double() / scale for g in grads)
    norm = torch.stack([g.norm() for g in true]).norm().item()
    if not math.isfinite(norm):
        return [g.float() for g in true], True
    factor = max_norm / max(norm, max_norm) if max_norm < math.inf else 1.0
    return [(g * factor).float() for g in true], False
""",
    ],
    "loss_scale_step": [
        """
def loss_scale_step(scale, good_steps, found_inf, growth_factor=2.0, backoff_factor=0.5, growth_interval=2000):
    if found_inf:
        return scale * backoff_factor, 0
    good_steps += 1
    if good_steps >= growth_interval:
        return scale * growth_factor, 0
    return scale, good_steps
""",
        """
def loss_scale_step(scale, good_steps, found_inf, growth_factor=2.0, backoff_factor=0.5, growth_interval=2000):
    full = not found_inf and good_steps == growth_interval - 1
    factor = backoff_factor if found_inf else growth_factor if full else 1.0
    return factor * scale, (0 if found_inf or full else good_steps + 1)
""",
        """
def loss_scale_step(scale, good_steps, found_inf, growth_factor=2.0, backoff_factor=0.5, growth_interval=2000):
    count = 0 if found_inf else (good_steps + 1) % growth_interval
    if found_inf:
        scale = scale * backoff_factor
    elif count == 0:
        scale = scale * growth_factor
    return float(scale), count
""",
    ],
    "master_weight_update": [
        """
def master_weight_update(master, weight, grad, lr):
    master = master - lr * grad.float()
    return master, master.to(weight.dtype)
""",
        """
def master_weight_update(master, weight, grad, lr):
    new = torch.add(master, grad.to(torch.float32), alpha=-lr)
    return new, new.type(weight.dtype)
""",
        """
def master_weight_update(master, weight, grad, lr):
    new = master.double().sub(grad.double().mul(lr)).to(torch.float32)
    copy = torch.empty_like(weight)
    copy.copy_(new)
    return new, copy
""",
    ],
}
