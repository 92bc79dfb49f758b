"""The exercises of lesson 14: their points, tests, hints and forbidden names."""

from __future__ import annotations

from coursekit import compression as reference
from coursekit.exercises.spec import Exercise
from coursekit.exercises.tensor_decomposition import mistakes_algebra as algebra
from coursekit.exercises.tensor_decomposition import mistakes_tucker as tucker
from coursekit.exercises.tensor_decomposition.properties import PUBLIC

__all__ = ["EXERCISES"]

FORBIDDEN = {
    "tensorly": "it has this function: write it with torch alone",
    "tltorch": "write it with torch alone",
    "coursekit": "the reference is what you are writing",
}


EXERCISES = (
    Exercise(
        "unfold", "14", 2, reference.unfold,
        PUBLIC["unfold"],
        (
            "Which elements share a row? Those with the same index in this mode. So this mode must come first before "
            "you reshape.",
            "torch.movedim(tensor, source, destination) moves one dimension and leaves the others in their order.",
            "With the mode in front, join all other dimensions: flatten from dimension 1 on, or reshape with -1.",
        ),
        algebra.UNFOLD, algebra.unfold_probes, FORBIDDEN,
    ),
    Exercise(
        "mode_product", "14", 3, reference.mode_product,
        PUBLIC["mode_product"],
        (
            "If the mode were the last one, tensor @ matrix.T would do. What is left is moving it there and back.",
            "torch.tensordot sums over one dimension of each: this mode of the tensor, and which of the matrix?",
            "tensordot puts the new side last. movedim brings it from there to where the old one was.",
        ),
        algebra.MODE_PRODUCT, algebra.product_probes, FORBIDDEN,
    ),
    Exercise(
        "tucker2_factors", "14", 5, reference.tucker2_factors,
        PUBLIC["tucker2_factors"],
        (
            "Unfold mode 0 and mode 1. The best basis of a matrix's columns you know from lesson 13: its first left "
            "singular vectors.",
            "torch.linalg.svd(matrix, full_matrices=False) gives U first; keep as many of its columns as the rank. Do "
            "it for both unfoldings of the whole kernel.",
            "The core is the kernel in the new coordinates: multiply mode 0 by the outputs' transpose and mode 1 by "
            "the inputs' transpose. An einsum over o and i does both.",
        ),
        tucker.TUCKER2_FACTORS, tucker.factor_probes, FORBIDDEN, (reference.tucker2_conv,),
        "tensor_decomposition.tucker",
    ),
    Exercise(
        "tucker2_kernels", "14", 3, reference.tucker2_kernels,
        PUBLIC["tucker2_kernels"],
        (
            "A convolution's kernel is (channels out, channels in, height, width). Write this down for all three.",
            "The first goes from C_in to rank_in, the second from rank_in to rank_out, the last from rank_out to "
            "C_out. Which of the three parts has the right sides already?",
            "One of the two bases must be transposed. Two sides of length 1 come from indexing with None at the end.",
        ),
        tucker.TUCKER2_KERNELS, tucker.kernel_probes, FORBIDDEN, (reference.tucker2_conv,),
    ),
    Exercise(
        "cp_kernel", "14", 3, reference.cp_kernel,
        PUBLIC["cp_kernel"],
        (
            "Write element (o, i, h, w) as a sum over r. Which element of which factor takes part?",
            "Column r of each factor goes with column r of the others. The index r occurs four times, and is summed "
            "over once.",
            "torch.einsum names the sides of each argument by a letter. A letter that does not stand behind the arrow "
            "is summed over.",
        ),
        algebra.CP_KERNEL, algebra.cp_probes, FORBIDDEN,
    ),
)  # fmt: skip
