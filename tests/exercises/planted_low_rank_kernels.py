"""Lesson 13, convolutions, as students write it: right in other ways than ours, and wrong in ways of their own.

As `planted_low_rank`.
"""

SETUP = """
import math
import torch
import torch.nn.functional as F
"""

_SPLIT = """
def spatial_factors(weight, rank):
    O, I, KH, KW = weight.shape
    M = {matrix}
    U, S, Vh = torch.linalg.svd(M, full_matrices=False)
    A, B = {factors}
    vertical = {vertical}
    horizontal = {horizontal}
    return vertical, horizontal
"""
_SPLIT_RIGHT = {
    "matrix": "weight.permute(1, 2, 0, 3).contiguous().view(I * KH, O * KW)",
    "factors": "U[:, :rank] * S[:rank], Vh[:rank]",
    "vertical": "A.view(I, KH, rank).permute(2, 0, 1).unsqueeze(3)",
    "horizontal": "B.view(rank, O, KW).transpose(0, 1).unsqueeze(2)",
}


def _split(**changed: str) -> str:
    return _SPLIT.format(**{**_SPLIT_RIGHT, **changed})


_CONV = """
def separable_conv2d(x, vertical, horizontal, bias=None, stride=(1, 1), padding=(0, 0), dilation=(1, 1)):
    sh, sw = stride
    ph, pw = padding
    dh, dw = dilation
    y = F.conv2d(x, vertical, stride=({}), padding=({}), dilation=({}))
    return F.conv2d(y, horizontal, bias, stride=({}), padding=({}), dilation=({}))
"""

_COST = """
def split_cost(n_in, n_out, kernel, rank, size, stride=1):
    kh, kw = kernel
    h, w = size
    out_h, out_w = math.ceil(h / stride), math.ceil(w / stride)
    first, second = {weights}
    return {result}
"""
_COST_RIGHT = {
    "weights": "n_in * rank * kh, rank * n_out * kw",
    "result": "first + second, first * out_h * w + second * out_h * out_w",
}


def _cost(**changed: str) -> str:
    return _COST.format(**{**_COST_RIGHT, **changed})


WRONG = {
    "spatial_factors": {
        "view_not_permute": _split(matrix="weight.reshape(I * KH, O * KW)"),
        "rows_in_other_order": _split(matrix="weight.permute(2, 1, 0, 3).reshape(KH * I, O * KW)"),
        "columns_in_other_order": _split(matrix="weight.permute(1, 2, 3, 0).reshape(I * KH, KW * O)"),
        "left_not_permuted": """
def spatial_factors(weight, rank):
    O, I, KH, KW = weight.shape
    U, S, Vh = torch.linalg.svd(weight.permute(1, 2, 0, 3).reshape(I * KH, O * KW), full_matrices=False)
    root = torch.diag(S[:rank].sqrt())
    vertical = (U[:, :rank] @ root).reshape(rank, I, KH, 1)
    return vertical, (root @ Vh[:rank]).reshape(rank, O, 1, KW).transpose(0, 1)
""",
        "right_not_permuted": """
def spatial_factors(weight, rank):
    O, I, KH, KW = weight.shape
    U, S, Vh = torch.linalg.svd(weight.permute(1, 2, 0, 3).reshape(I * KH, O * KW), full_matrices=False)
    root = torch.diag(S[:rank].sqrt())
    vertical = (U[:, :rank] @ root).T.reshape(rank, I, KH, 1)
    return vertical, (root @ Vh[:rank]).reshape(O, rank, 1, KW)
""",
        "singular_values_twice": _split(factors="U[:, :rank] * S[:rank], S[:rank, None] * Vh[:rank]"),
        "no_singular_values": _split(factors="U[:, :rank], Vh[:rank]"),
        "horizontal_first": """
def spatial_factors(weight, rank):
    O, I, KH, KW = weight.shape
    U, S, Vh = torch.linalg.svd(weight.permute(1, 3, 0, 2).reshape(I * KW, O * KH), full_matrices=False)
    first = (U[:, :rank] * S[:rank]).reshape(I, KW, rank).permute(2, 0, 1).unsqueeze(2)
    return first, Vh[:rank].reshape(rank, O, KH).permute(1, 0, 2).unsqueeze(3)
""",
        "three_dimensions": _split(
            vertical="A.view(I, KH, rank).permute(2, 0, 1)",
            horizontal="B.view(rank, O, KW).transpose(0, 1)",
        ),
        "smallest_kept": _split(factors="U[:, -rank:] * S[-rank:], Vh[-rank:]"),
    },
    "separable_conv2d": {
        "stride_on_both": _CONV.format("sh, sw", "ph, 0", "dh, 1", "sh, sw", "0, pw", "1, dw"),
        "strides_swapped": _CONV.format("1, sw", "ph, 0", "dh, 1", "sh, 1", "0, pw", "1, dw"),
        "no_stride": _CONV.format("1, 1", "ph, 0", "dh, 1", "1, 1", "0, pw", "1, dw"),
        "padding_on_both": _CONV.format("sh, 1", "ph, pw", "dh, 1", "1, sw", "ph, pw", "1, dw"),
        "paddings_swapped": _CONV.format("sh, 1", "0, pw", "dh, 1", "1, sw", "ph, 0", "1, dw"),
        "no_padding": _CONV.format("sh, 1", "0, 0", "dh, 1", "1, sw", "0, 0", "1, dw"),
        "no_dilation": _CONV.format("sh, 1", "ph, 0", "1, 1", "1, sw", "0, pw", "1, 1"),
        "dilations_swapped": _CONV.format("sh, 1", "ph, 0", "dw, 1", "1, sw", "0, pw", "1, dh"),
        "bias_on_the_first": _CONV.replace("vertical, stride", "vertical, bias, stride").format(
            "sh, 1", "ph, 0", "dh, 1", "1, sw", "0, pw", "1, dw"
        ),
        "bias_lost": _CONV.replace("horizontal, bias,", "horizontal,").format(
            "sh, 1", "ph, 0", "dh, 1", "1, sw", "0, pw", "1, dw"
        ),
        "bias_twice": """
def separable_conv2d(x, vertical, horizontal, bias=None, stride=(1, 1), padding=(0, 0), dilation=(1, 1)):
    x = F.conv2d(x, vertical, None, (stride[0], 1), (padding[0], 0), (dilation[0], 1))
    x = F.conv2d(x, horizontal, bias, (1, stride[1]), (0, padding[1]), (1, dilation[1]))
    if bias is not None:
        x = x + bias.reshape(1, -1, 1, 1)
    return x
""",
    },
    "split_cost": {
        "output_places_only": _cost(result="first + second, (first + second) * out_h * out_w"),
        "first_at_full_size": _cost(result="first + second, first * h * w + second * out_h * out_w"),
        "stride_ignored": _cost(result="first + second, (first + second) * h * w"),
        "full_kernel": _cost(weights="n_in * rank * kh * kw, rank * n_out * kw"),
        "kernel_swapped": _cost(weights="n_in * rank * kw, rank * n_out * kh"),
        "first_half_only": _cost(result="first, first * out_h * w"),
        "whole_kernel": _cost(result="(n_in * n_out * kh * kw, n_in * n_out * kh * kw * out_h * out_w)"),
        "rounded_down": """
def split_cost(n_in, n_out, kernel, rank, size, stride=1):
    rows, cols = int(size[0] / stride), int(size[1] / stride)
    a, b = rank * n_in * kernel[0], rank * n_out * kernel[1]
    return a + b, rows * (a * size[1] + b * cols)
""",
        "counts_additions": _cost(
            result="first + second, 2 * first * out_h * w + 2 * second * out_h * out_w"
        ),
        "bias_counted": _cost(result="first + second + n_out, first * out_h * w + second * out_h * out_w"),
        "order_swapped": _cost(result="first * out_h * w + second * out_h * out_w, first + second"),
    },
}

RIGHT = {
    "spatial_factors": [
        _split(),
        """
def spatial_factors(weight, rank):
    O, I, KH, KW = weight.shape
    M = torch.cat([torch.cat([weight[o, :, :, w].reshape(-1, 1) for w in range(KW)], 1) for o in range(O)], 1)
    U, S, Vh = torch.linalg.svd(M.double(), full_matrices=False)
    vertical = torch.empty(rank, I, KH, 1, dtype=weight.dtype)
    horizontal = torch.empty(O, rank, 1, KW, dtype=weight.dtype)
    for r in range(rank):
        vertical[r, :, :, 0] = (U[:, r] * S[r]).reshape(I, KH)
        horizontal[:, r, 0, :] = Vh[r].reshape(O, KW)
    return vertical, horizontal
""",
        """
def spatial_factors(weight, rank):
    O, I, KH, KW = weight.shape
    M = torch.einsum("oihw->owih", weight).reshape(O * KW, I * KH)
    U, S, Vh = torch.linalg.svd(M, full_matrices=False)
    horizontal = (U * S.sqrt())[:, :rank].reshape(O, KW, rank).permute(0, 2, 1).reshape(O, rank, 1, KW)
    vertical = (S.sqrt()[:, None] * Vh)[:rank].reshape(rank, I, KH, 1)
    return vertical, horizontal
""",
    ],
    "separable_conv2d": [
        _CONV.format("sh, 1", "ph, 0", "dh, 1", "1, sw", "0, pw", "1, dw"),
        """
def separable_conv2d(x, vertical, horizontal, bias=None, stride=(1, 1), padding=(0, 0), dilation=(1, 1)):
    x = F.pad(x, (padding[1], padding[1], padding[0], padding[0]))
    x = F.conv2d(x, vertical, stride=(stride[0], 1), dilation=(dilation[0], 1))
    x = F.conv2d(x, horizontal, stride=(1, stride[1]), dilation=(1, dilation[1]))
    return x if bias is None else x + bias[None, :, None, None]
""",
        """
def separable_conv2d(x, vertical, horizontal, bias=None, stride=(1, 1), padding=(0, 0), dilation=(1, 1)):
    weight = torch.einsum("rih,orw->oihw", vertical[..., 0], horizontal[:, :, 0])
    return F.conv2d(x, weight, bias, tuple(stride), tuple(padding), tuple(dilation))
""",
    ],
    "split_cost": [
        _cost(),
        """
def split_cost(n_in, n_out, kernel, rank, size, stride=1):
    rows, cols = -(-size[0] // stride), -(-size[1] // stride)
    weights, macs = 0, 0
    for count, places in ((rank * n_in * kernel[0], rows * size[1]), (n_out * rank * kernel[1], rows * cols)):
        weights += count
        macs += count * places
    return weights, macs
""",
        """
def split_cost(n_in, n_out, kernel, rank, size, stride=1):
    rows = len(range(0, size[0], stride))
    cols = len(range(0, size[1], stride))
    per_row = n_in * kernel[0] * size[1] + n_out * kernel[1] * cols
    return rank * (n_in * kernel[0] + n_out * kernel[1]), rank * rows * per_row
""",
    ],
}
