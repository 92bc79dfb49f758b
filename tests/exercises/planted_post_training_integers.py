"""Lesson 02's integer arithmetic as students write it: right in other ways than ours, and wrong in their own.

WRONG[exercise][mistake id] is code that makes this mistake; RIGHT[exercise] is code that must get full marks.
It is kept as text, as it would stand in a notebook, and shares nothing with the reference or the known mistakes.
"""

SETUP = """
import math
import torch
from coursekit.quantization import int_range
"""


def _linear(sum_, end):
    """An integer linear layer whose sum and whose way to the codes are given as text."""
    return f"""
def integer_linear(q_x, q_w, q_bias, multiplier, shift, x_zero_point=0, y_zero_point=0):
    bias = torch.zeros(len(q_w), dtype=torch.int64) if q_bias is None else q_bias.to(torch.int64)
    total = {sum_}
    half = torch.as_tensor(2) ** (torch.as_tensor(shift) - 1)
    {end}
"""


GOOD_SUM = "(q_x.int() - x_zero_point).long() @ q_w.long().t() + bias"
GOOD_END = """y = torch.floor_divide(total * multiplier + half, 2 * half) + y_zero_point
    return y.clamp(-128, 127).to(torch.int8)"""


def _requantize(end, zero_point="zero_point", acc="acc.to(torch.int64)"):
    """A requantization whose rescaling, and what is added to it, are given as text."""
    return f"""
def requantize(acc, multiplier, shift, zero_point=0, n_bits=8):
    lo, hi = int_range(n_bits)
    step = torch.as_tensor(2) ** torch.as_tensor(shift)
    product = {acc} * multiplier
    y = {end}
    return torch.clamp(y + {zero_point}, lo, hi).to(torch.int8)
"""


GOOD_ROUNDING = "torch.floor_divide(product + step // 2, step)"

WRONG = {
    "quantize_multiplier": {
        "always_31": """
def quantize_multiplier(m):
    return round(m * (1 << 31)), 31
""",
        "shift_without_31": """
def quantize_multiplier(m):
    shift = 0
    while m < 0.5:
        m *= 2
        shift += 1
    while m >= 1:
        m /= 2
        shift -= 1
    q = round(m * (1 << 31))
    if q == 1 << 31:
        q //= 2
        shift -= 1
    return q, shift
""",
        "shift_to_the_left": """
def quantize_multiplier(m):
    f, e = math.frexp(m)
    q = round(f * (1 << 31))
    if q == 1 << 31:
        q, e = q // 2, e + 1
    return q, 31 + e
""",
        "power_of_two_only": """
def quantize_multiplier(m):
    exponent = round(math.log2(m))
    return 1 << 30, 30 - exponent
""",
        "truncates": """
def quantize_multiplier(m):
    f, e = math.frexp(m)
    return int(f * 2147483648), 31 - e
""",
        "sixteen_bits": """
def quantize_multiplier(m):
    f, e = math.frexp(m)
    q = round(f * (1 << 15))
    if q == 1 << 15:
        q, e = q // 2, e + 1
    return q, 15 - e
""",
        "overflows_at_one": """
def quantize_multiplier(m):
    shift = 31
    while m < 0.5:
        m, shift = m * 2, shift + 1
    while m >= 1:
        m, shift = m / 2, shift - 1
    return round(m * 2 ** 31), shift
""",
        "too_large": """
def quantize_multiplier(m):
    shift = 31
    while m < 1:
        m, shift = m * 2, shift + 1
    while m >= 2:
        m, shift = m / 2, shift - 1
    return round(m * 2 ** 31), shift
""",
        "float_multiplier": """
def quantize_multiplier(m):
    f, e = math.frexp(m)
    q = torch.round(torch.tensor(f, dtype=torch.float64) * 2 ** 31).item()
    if q == 2.0 ** 31:
        q, e = q / 2, e + 1
    return q, 31 - e
""",
        "scaled_by_largest": """
def quantize_multiplier(m):
    f, e = math.frexp(m)
    return round(f * 2147483647), 31 - e
""",
        "reciprocal": """
def quantize_multiplier(m):
    f, e = math.frexp(1.0 / m)
    q = round(f * (1 << 31))
    if q == 1 << 31:
        q, e = q // 2, e + 1
    return q, 31 - e
""",
    },
    "requantize": {
        "rounds_down": _requantize("torch.floor_divide(product, step)"),
        "int32_product": _requantize(
            "torch.floor_divide(product.to(torch.int64) + step // 2, step)", acc="acc.to(torch.int64)"
        ).replace("* multiplier\n", "* multiplier\n    product = product.to(torch.int32)\n"),
        "halves_to_even": _requantize("(acc * (multiplier / step.to(torch.float64))).round().long()"),
        "halves_away_from_zero": _requantize(
            "torch.sign(product) * torch.floor_divide(product.abs() + step // 2, step)"
        ),
        "truncating_division": _requantize("torch.div(product + step // 2, step, rounding_mode='trunc')"),
        "adds_a_whole_step": _requantize("torch.floor_divide(product, step) + 1"),
        "zero_point_before_scaling": _requantize(GOOD_ROUNDING, "0", "(acc.to(torch.int64) + zero_point)"),
        "forgets_zero_point": _requantize(GOOD_ROUNDING, "0"),
        "subtracts_zero_point": _requantize(GOOD_ROUNDING, "(-1) * zero_point"),
        "no_clamp": """
def requantize(acc, multiplier, shift, zero_point=0, n_bits=8):
    half = 2 ** (torch.as_tensor(shift) - 1)
    y = ((acc.to(torch.int64) * multiplier + half) >> shift) + zero_point
    return y.to(torch.int32).to(torch.int8)
""",
        "clamps_before_zero_point": """
def requantize(acc, multiplier, shift, zero_point=0, n_bits=8):
    lo, hi = int_range(n_bits)
    half = 2 ** (torch.as_tensor(shift) - 1)
    y = ((acc.to(torch.int64) * multiplier + half) >> shift).clamp(lo, hi).to(torch.int8)
    return y + torch.tensor(zero_point, dtype=torch.int8)
""",
        "ignores_n_bits": _requantize(GOOD_ROUNDING).replace("int_range(n_bits)", "(-128, 127)"),
        "stays_wide": _requantize(GOOD_ROUNDING).replace(".to(torch.int8)", ""),
    },
    "integer_linear": {
        "ignores_x_zero_point": _linear("q_x.long() @ q_w.long().t() + bias", GOOD_END),
        "zero_point_once": _linear("q_x.long() @ q_w.long().t() - x_zero_point + bias", GOOD_END),
        "int8_difference": _linear(
            "(q_x - torch.tensor(x_zero_point, dtype=torch.int8)).long() @ q_w.long().t() + bias", GOOD_END
        ),
        "int8_products": _linear(
            "((q_x - torch.tensor(x_zero_point, dtype=torch.int8))[..., None, :] * q_w)"
            ".sum(-1, dtype=torch.int8).long() + bias",
            GOOD_END,
        ),
        "int16_accumulator": _linear(
            "((q_x.short() - x_zero_point)[..., None, :] * q_w.short()).sum(-1, dtype=torch.int16).long() + bias",
            GOOD_END,
        ),
        "not_transposed": _linear("(q_x.int() - x_zero_point).long() @ q_w.long() + bias", GOOD_END),
        "saturated_accumulator": _linear(f"({GOOD_SUM}).clamp(-128, 127)", GOOD_END),
        "bias_after_scaling": _linear(
            GOOD_SUM.replace(" + bias", ""), GOOD_END.replace("+ y_zero_point", "+ bias + y_zero_point")
        ),
        "bias_lost": _linear(GOOD_SUM.replace(" + bias", ""), GOOD_END),
        "y_zero_point_before_scaling": _linear(
            f"{GOOD_SUM} + y_zero_point", GOOD_END.replace(" + y_zero_point", "")
        ),
        "y_zero_point_lost": _linear(GOOD_SUM, GOOD_END.replace(" + y_zero_point", "")),
        "rounds_down": _linear(GOOD_SUM, GOOD_END.replace(" + half", "")),
        "stays_wide": _linear(GOOD_SUM, GOOD_END.replace(".to(torch.int8)", ".to(torch.int32)")),
    },
}

RIGHT = {
    "quantize_multiplier": [
        """
def quantize_multiplier(m):
    f, e = math.frexp(m)
    q = round(f * 2 ** 31)
    return (q, 31 - e) if q < 2 ** 31 else (2 ** 30, 30 - e)
""",
        """
def quantize_multiplier(m):
    shift = 0
    while round(m * 2 ** shift) < 2 ** 30:
        shift += 1
    while round(m * 2 ** shift) >= 2 ** 31:
        shift -= 1
    return round(m * 2 ** shift), shift
""",
        """
def quantize_multiplier(m):
    numerator, denominator = m.as_integer_ratio()
    shift = 30 - math.floor(math.log2(m))
    def nearest(shift):
        top = numerator << shift if shift >= 0 else numerator
        return (2 * top + denominator) // (2 * denominator)
    if nearest(shift) < 2 ** 30:
        shift += 1
    if nearest(shift) >= 2 ** 31:
        shift -= 1
    return nearest(shift), shift
""",
    ],
    "requantize": [
        """
def requantize(acc, multiplier, shift, zero_point=0, n_bits=8):
    lo, hi = int_range(n_bits)
    shift = torch.as_tensor(shift)
    product = acc.to(torch.int64) * multiplier
    y = (product >> shift) + ((product >> (shift - 1)) & 1)
    return (y + zero_point).clamp(lo, hi).to(torch.int8)
""",
        """
def requantize(acc, multiplier, shift, zero_point=0, n_bits=8):
    lo, hi = int_range(n_bits)
    product = acc.long() * multiplier
    y = torch.div(product + (1 << (shift - 1)), 1 << shift, rounding_mode="floor")
    return torch.minimum(torch.maximum(y + zero_point, torch.tensor(lo)), torch.tensor(hi)).to(torch.int8)
""",
        """
def requantize(acc, multiplier, shift, zero_point=0, n_bits=8):
    multipliers = torch.as_tensor(multiplier).expand(acc.shape).flatten().tolist()
    shifts = torch.as_tensor(shift).expand(acc.shape).flatten().tolist()
    lo, hi = int_range(n_bits)
    out = []
    for a, m, s in zip(acc.flatten().tolist(), multipliers, shifts):
        y = (a * m + 2 ** (s - 1)) // 2 ** s + zero_point
        out.append(max(lo, min(hi, y)))
    return torch.tensor(out, dtype=torch.int8).reshape(acc.shape)
""",
    ],
    "integer_linear": [
        """
def integer_linear(q_x, q_w, q_bias, multiplier, shift, x_zero_point=0, y_zero_point=0):
    acc = torch.nn.functional.linear(q_x.int() - x_zero_point, q_w.int(), q_bias)
    y = (acc.long() * multiplier + (1 << (shift - 1))) >> shift
    return (y + y_zero_point).clamp(-128, 127).to(torch.int8)
""",
        """
def integer_linear(q_x, q_w, q_bias, multiplier, shift, x_zero_point=0, y_zero_point=0):
    x, w = q_x.long(), q_w.long()
    acc = x @ w.T - x_zero_point * w.sum(1)
    if q_bias is not None:
        acc += q_bias
    shift = torch.as_tensor(shift)
    y = (acc * multiplier + torch.bitwise_left_shift(torch.tensor(1), shift - 1)) >> shift
    return torch.clamp(y + y_zero_point, -128, 127).type(torch.int8)
""",
        """
def integer_linear(q_x, q_w, q_bias, multiplier, shift, x_zero_point=0, y_zero_point=0):
    acc = torch.einsum("nk,mk->nm", q_x.long() - x_zero_point, q_w.long())
    acc = acc if q_bias is None else acc + q_bias
    s = torch.as_tensor(shift)
    product = acc * multiplier
    y = (product >> s) + ((product >> (s - 1)) & 1) + y_zero_point
    return y.clamp(-128, 127).to(torch.int8)
""",
    ],
}
