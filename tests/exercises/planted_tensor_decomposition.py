"""Lesson 14, as students write it: right in other ways than ours, and wrong in ways of their own.

WRONG[exercise][mistake id] is code that makes this mistake; RIGHT[exercise] is code that must get full marks.
It is kept as text, as it would stand in a notebook, and shares nothing with the reference or the known mistakes.
"""

SETUP = """
import itertools
import math
import torch
import torch.nn.functional as F
"""

_UNFOLD = """
def unfold(tensor, mode):
    order = [mode] + [i for i in range(tensor.dim()) if i != mode]
    n = tensor.shape[mode]
    return {}
"""

_PRODUCT = """
def mode_product(tensor, matrix, mode):
    order = [mode] + [i for i in range(tensor.ndim) if i != mode]
    moved = tensor.permute(order)
    flat = {flat}
    new = [{n_new}] + list(moved.shape[1:])
    back = [order.index(i) for i in range(tensor.ndim)]
    return {result}
"""
_PRODUCT_RIGHT = {
    "flat": "matrix @ moved.reshape(tensor.shape[mode], -1)",
    "n_new": "matrix.shape[0]",
    "result": "flat.reshape(new).permute(back)",
}


def _product(**changed: str) -> str:
    return _PRODUCT.format(**{**_PRODUCT_RIGHT, **changed})


_TUCKER = """
def tucker2_factors(weight, rank_out, rank_in):
    O, I, KH, KW = weight.shape
    A, s, _ = torch.linalg.svd({first}, full_matrices=False)
    B, t, _ = torch.linalg.svd({second}, full_matrices=False)
    A, B = {cut}
    core = {core}
    return {result}
"""
_TUCKER_RIGHT = {
    "first": "weight.reshape(O, -1)",
    "second": "weight.permute(1, 0, 2, 3).reshape(I, -1)",
    "cut": "A[:, :rank_out], B[:, :rank_in]",
    "core": "torch.einsum('oihw,oa,ib->abhw', weight, A, B)",
    "result": "core, A, B",
}


def _tucker(**changed: str) -> str:
    return _TUCKER.format(**{**_TUCKER_RIGHT, **changed})


_KERNELS = """
def tucker2_kernels(core, outputs, inputs):
    (C_out, r_out), (C_in, r_in) = outputs.shape, inputs.shape
    return {}, {}, {}
"""
_FIRST, _LAST = "inputs.T.reshape(r_in, C_in, 1, 1)", "outputs.reshape(C_out, r_out, 1, 1)"

_CP = """
def cp_kernel(outputs, inputs, columns, rows):
    O, I, H, W = len(outputs), len(inputs), len(columns), len(rows)
    R = outputs.shape[1]
    kernel = torch.zeros(O, I, H, W, dtype=outputs.dtype)
    for r in range({ranks}):
        one = outputs[:, r].view(O, 1, 1, 1) {times} inputs[:, r].view(1, I, 1, 1)
        kernel = kernel + (one {times} {columns} {times} {rows})
    return {result}
"""
_CP_RIGHT = {
    "ranks": "R",
    "times": "*",
    "columns": "columns[:, r].view(1, 1, H, 1)",
    "rows": "rows[:, r].view(1, 1, 1, W)",
    "result": "kernel",
}


def _cp(**changed: str) -> str:
    return _CP.format(**{**_CP_RIGHT, **changed})


WRONG = {
    "unfold": {
        "reshape_only": _UNFOLD.format("tensor.reshape(n, tensor.numel() // n)"),
        "transposed": _UNFOLD.format("tensor.permute(order).reshape(n, -1).T"),
        "first_index_fastest": _UNFOLD.format("tensor.permute(order[:1] + order[:0:-1]).reshape(n, -1)"),
        "swapped_not_moved": """
def unfold(tensor, mode):
    order = list(range(tensor.dim()))
    order[0], order[mode] = mode, 0
    return tensor.permute(order).reshape(tensor.shape[mode], -1)
""",
        "moved_to_the_end": _UNFOLD.format("tensor.permute(order[1:] + order[:1]).reshape(n, -1)"),
        "cyclic_order": """
def unfold(tensor, mode):
    dims = list(range(tensor.dim()))
    return tensor.permute(dims[mode:] + dims[:mode]).reshape(tensor.shape[mode], -1)
""",
        "counted_from_one": """
def unfold(tensor, mode):
    mode = (mode - 1) % tensor.ndim
    return torch.stack([tensor.select(mode, i).reshape(-1) for i in range(tensor.shape[mode])])
""",
        "not_a_matrix": _UNFOLD.format("tensor.permute(order)"),
        "mode_ignored": """
def unfold(tensor, mode):
    return tensor.reshape(tensor.shape[0], -1)
""",
    },
    "mode_product": {
        "matrix_transposed": _product(
            flat="matrix.T @ moved.reshape(tensor.shape[mode], -1)", n_new="matrix.shape[1]"
        ),
        "left_at_the_end": _product(result="flat.reshape(new).permute(*range(1, tensor.ndim), 0)"),
        "left_in_front": _product(result="flat.reshape(new)"),
        "folded_by_reshape": """
def mode_product(tensor, matrix, mode):
    flat = matrix @ torch.movedim(tensor, mode, 0).reshape(tensor.shape[mode], -1)
    return flat.reshape(*tensor.shape[:mode], len(matrix), *tensor.shape[mode + 1:])
""",
        "unfolded_by_reshape": """
def mode_product(tensor, matrix, mode):
    flat = torch.matmul(matrix, tensor.reshape(tensor.shape[mode], -1))
    return flat.reshape(*tensor.shape[:mode], len(matrix), *tensor.shape[mode + 1:])
""",
        "swapped_back": """
def mode_product(tensor, matrix, mode):
    letters = "ijkl"[:tensor.ndim]
    out = letters.replace(letters[mode], "") + "z"
    y = torch.einsum(f"{letters},z{letters[mode]}->{out}", tensor, matrix)
    return y.swapaxes(mode, tensor.ndim - 1)
""",
        "always_the_last_mode": """
def mode_product(tensor, matrix, mode):
    return torch.einsum("...i,ji->...j", tensor, matrix)
""",
        "always_the_first_mode": """
def mode_product(tensor, matrix, mode):
    return torch.einsum("i...,ji->j...", tensor, matrix)
""",
        "counted_from_one": """
def mode_product(tensor, matrix, mode):
    mode = (mode - 1) % tensor.ndim
    y = tensor.transpose(mode, -1) @ matrix.T
    return y.transpose(mode, -1)
""",
        "not_folded_back": _product(result="flat"),
    },
    "tucker2_factors": {
        "inputs_by_reshape": _tucker(second="weight.reshape(I, O * KH * KW)"),
        "core_is_a_corner": _tucker(core="weight[:rank_out, :rank_in, :, :].clone()"),
        "smallest_kept": _tucker(cut="A[:, O - rank_out:], B[:, I - rank_in:]"),
        "bases_transposed": _tucker(result="core, A.T.contiguous(), B.T.contiguous()"),
        "ranks_swapped": _tucker(cut="A[:, :rank_in], B[:, :rank_out]"),
        "inputs_before_outputs": _tucker(result="core, B, A"),
        "singular_values_in_the_bases": _tucker(
            result="core, A @ torch.diag(s[:rank_out]), B @ torch.diag(t[:rank_in])"
        ),
        "core_in_one_basis": _tucker(core="torch.tensordot(A.T, weight, dims=1)"),
        "space_decomposed_too": """
def tucker2_factors(weight, rank_out, rank_in):
    factors = []
    for mode, rank in enumerate((rank_out, rank_in, weight.shape[2], weight.shape[3])):
        flat = weight.transpose(0, mode).transpose(1, mode) if mode > 1 else weight.transpose(0, mode)
        flat = flat.reshape(weight.shape[mode], -1)
        factors.append(torch.linalg.svd(flat, full_matrices=False)[0][:, :rank])
    core = weight
    for mode, factor in enumerate(factors):
        core = torch.tensordot(core, factor, dims=([0], [0]))
    return core, factors[0], factors[1]
""",
        "stays_double": """
def tucker2_factors(weight, rank_out, rank_in):
    w = weight.to(torch.float64)
    A = torch.linalg.svd(w.reshape(len(w), -1), full_matrices=False)[0][:, :rank_out]
    B = torch.linalg.svd(w.transpose(0, 1).reshape(w.shape[1], -1), full_matrices=False)[0][:, :rank_in]
    return torch.einsum('oihw,oa,ib->abhw', w, A, B), A, B
""",
        "returns_the_kernel": _tucker(result="torch.einsum('abhw,oa,ib->oihw', core, A, B)"),
    },
    "tucker2_kernels": {
        "inputs_not_transposed": _KERNELS.format("inputs.reshape(C_in, r_in, 1, 1)", "core", _LAST),
        "inputs_reshaped": _KERNELS.format("inputs.reshape(r_in, C_in)[:, :, None, None]", "core", _LAST),
        "outputs_transposed": _KERNELS.format(_FIRST, "core", "outputs.T.reshape(r_out, C_out, 1, 1)"),
        "order_reversed": _KERNELS.format(_LAST, "core", _FIRST),
        "bases_swapped": _KERNELS.format(
            "outputs.T.unsqueeze(2).unsqueeze(3)", "core", "inputs.unsqueeze(2).unsqueeze(3)"
        ),
        "two_dimensions": _KERNELS.format("inputs.permute(1, 0)", "core.clone()", "outputs.clone()"),
        "ones_in_front": _KERNELS.format(
            "inputs.T.reshape(1, 1, r_in, C_in)", "core", "outputs.reshape(1, 1, C_out, r_out)"
        ),
        "core_transposed": _KERNELS.format(_FIRST, "core.permute(1, 0, 2, 3)", _LAST),
        "core_flipped": _KERNELS.format(_FIRST, "torch.flip(core, (-1, -2))", _LAST),
        "height_and_width_swapped": _KERNELS.format(_FIRST, "core.permute(0, 1, 3, 2)", _LAST),
        "middle_is_the_whole_kernel": _KERNELS.format(
            _FIRST, "torch.tensordot(outputs, torch.tensordot(inputs, core, ([1], [1])), ([1], [1]))", _LAST
        ),
    },
    "cp_kernel": {
        "not_summed": """
def cp_kernel(outputs, inputs, columns, rows):
    return (outputs[:, None, None, None, :] * inputs[None, :, None, None, :]
            * columns[None, None, :, None, :] * rows[None, None, None, :, :])
""",
        "first_product_only": _cp(ranks="1"),
        "every_rank_with_every_other": """
def cp_kernel(outputs, inputs, columns, rows):
    return torch.einsum("oa,ib,hc,wd->oihw", outputs, inputs, columns, rows)
""",
        "mean_over_the_rank": _cp(result="kernel / R"),
        "height_and_width_swapped": _cp(result="kernel.permute(0, 1, 3, 2)"),
        "channels_swapped": _cp(result="kernel.permute(1, 0, 2, 3)"),
        "space_first": """
def cp_kernel(outputs, inputs, columns, rows):
    return torch.einsum("or,ir,hr,wr->hwoi", outputs, inputs, columns, rows)
""",
        "rows_left_out": _cp(rows="torch.ones(1, 1, 1, W)"),
        "columns_left_out": _cp(columns="torch.ones(1, 1, H, 1)"),
        "added_not_multiplied": _cp(times="+"),
        "matrix": _cp(result="kernel.reshape(O, I * H * W)"),
    },
}

RIGHT = {
    "unfold": [
        _UNFOLD.format("tensor.permute(order).reshape(n, -1)"),
        """
def unfold(tensor, mode):
    return torch.stack([piece.reshape(-1) for piece in tensor.unbind(mode)])
""",
        """
def unfold(tensor, mode):
    before = math.prod(tensor.shape[:mode])
    blocks = tensor.reshape(before, tensor.shape[mode], -1)
    return torch.cat([blocks[i] for i in range(before)], dim=1)
""",
    ],
    "mode_product": [
        _product(),
        """
def mode_product(tensor, matrix, mode):
    letters = "ijkl"[:tensor.ndim]
    out = letters.replace(letters[mode], "z")
    return torch.einsum(f"{letters},z{letters[mode]}->{out}", tensor, matrix)
""",
        """
def mode_product(tensor, matrix, mode):
    slices = tensor.unbind(mode)
    return torch.stack([sum(row[i] * s for i, s in enumerate(slices)) for row in matrix], dim=mode)
""",
    ],
    "tucker2_factors": [
        _tucker(),
        """
def tucker2_factors(weight, rank_out, rank_in):
    # eigenvectors of the Gram matrices instead of singular vectors
    w = weight.double()
    A = torch.linalg.eigh(torch.einsum('oihw,pihw->op', w, w))[1][:, -rank_out:]
    B = torch.linalg.eigh(torch.einsum('oihw,ojhw->ij', w, w))[1][:, -rank_in:]
    core = torch.einsum('oihw,oa,ib->abhw', w, A, B)
    return core.to(weight.dtype), A.to(weight.dtype), B.to(weight.dtype)
""",
        """
def tucker2_factors(weight, rank_out, rank_in):
    # one after the other: the inputs' basis is found in what the outputs' basis has left
    O, I, KH, KW = weight.shape
    A, s, V = torch.linalg.svd(weight.reshape(O, -1), full_matrices=False)
    A = A[:, :rank_out]
    half = (A.T @ weight.reshape(O, -1)).reshape(rank_out, I, KH, KW)
    B = torch.linalg.svd(half.transpose(0, 1).reshape(I, -1), full_matrices=False)[0]
    B = torch.cat([B, torch.zeros(I, I, dtype=B.dtype)], 1)[:, :rank_in]
    return torch.einsum('aihw,ib->abhw', half, B.to(weight.dtype)), A, B.to(weight.dtype)
""",
    ],
    "tucker2_kernels": [
        _KERNELS.format(_FIRST, "core", _LAST),
        """
def tucker2_kernels(core, outputs, inputs):
    first = torch.zeros(inputs.shape[1], inputs.shape[0], 1, 1, dtype=core.dtype)
    for r in range(inputs.shape[1]):
        first[r, :, 0, 0] = inputs[:, r]
    return first, core.clone(), outputs.unsqueeze(-1).unsqueeze(-1)
""",
        """
def tucker2_kernels(core, outputs, inputs):
    # any scale may move from one to the other
    return 2 * inputs.mT[..., None, None], core / 2, outputs[..., None, None].contiguous()
""",
    ],
    "cp_kernel": [
        _cp(),
        """
def cp_kernel(outputs, inputs, columns, rows):
    channels = outputs[:, None, :] * inputs[None]
    space = columns[:, None, :] * rows[None]
    O, I, R = channels.shape
    H, W, _ = space.shape
    return (channels.reshape(O * I, R) @ space.reshape(H * W, R).T).reshape(O, I, H, W)
""",
        """
def cp_kernel(outputs, inputs, columns, rows):
    whole = torch.zeros(len(outputs), len(inputs), len(columns), len(rows), dtype=outputs.dtype)
    for o, i, h, w in itertools.product(*map(range, whole.shape)):
        whole[o, i, h, w] = (outputs[o] * inputs[i] * columns[h] * rows[w]).sum()
    return whole
""",
    ],
}
