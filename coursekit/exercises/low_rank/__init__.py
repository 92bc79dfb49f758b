"""The exercises of lesson 13: their points, tests, hints and forbidden names."""

from __future__ import annotations

from coursekit import compression as reference
from coursekit.exercises.low_rank import mistakes_budget as budget
from coursekit.exercises.low_rank import mistakes_convolutions as convolutions
from coursekit.exercises.low_rank import mistakes_factors as factors
from coursekit.exercises.low_rank.properties import PUBLIC
from coursekit.exercises.spec import Exercise

__all__ = ["EXERCISES"]

FORBIDDEN = {
    "svd_lowrank": "it is random and iterative: start from torch.linalg.svd",
    "pca_lowrank": "start from torch.linalg.svd",
    "coursekit": "the reference is what you are writing",
}


EXERCISES = (
    Exercise(
        "svd_factors", "13", 4, reference.svd_factors,
        PUBLIC["svd_factors"],
        (
            "torch.linalg.svd(matrix, full_matrices=False) gives U, S and V already transposed. What are the shapes of "
            "the three for a 7 x 4 matrix?",
            "Cut: the first columns of U, the first values of S, the first rows of Vh. Where do the values of S go, "
            "so that each is multiplied in exactly once?",
            "Scaling the columns of a matrix by a vector is a product that broadcasts along its rows. Scaling rows "
            "needs the vector as a column: s[:, None].",
        ),
        factors.SVD_FACTORS, factors.factor_probes, FORBIDDEN, (reference.truncated_svd,), "low_rank.product",
    ),
    Exercise(
        "break_even_rank", "13", 2, reference.break_even_rank,
        PUBLIC["break_even_rank"],
        (
            "Write down how many numbers an (m, r) and an (r, n) factor have together, and put < m n behind it.",
            "r (m + n) < m n. For whole numbers a < b is the same as a <= b - 1.",
            "Whole-number division, //, rounds down. Divide what the sum may at most be by what one rank costs.",
        ),
        factors.BREAK_EVEN_RANK, factors.break_even_probes, FORBIDDEN,
    ),
    Exercise(
        "rank_for_energy", "13", 3, reference.rank_for_energy,
        PUBLIC["rank_for_energy"],
        (
            "Square first. How much do the first one, two, three … hold of the sum of all?",
            "torch.cumsum gives all these sums at once; divide by the last of them.",
            "The first place where the share is reached has an index that counts from 0. A rank counts from 1.",
        ),
        factors.RANK_FOR_ENERGY, factors.energy_probes, FORBIDDEN,
    ),
    Exercise(
        "spatial_factors", "13", 4, reference.spatial_factors,
        PUBLIC["spatial_factors"],
        (
            "Which two of the four dimensions belong to the vertical half, and which two to the horizontal one? They "
            "are the two sides of the matrix.",
            "permute brings the pairs side by side, (C_in, K_h, C_out, K_w), then reshape joins each pair. Cut the "
            "matrix in two as in exercise 1.",
            "Going back, reshape must name the dimensions in the order in which they lie: (C_in, K_h, rank) on the "
            "left, (rank, C_out, K_w) on the right. Then permute, and put in the side of length 1.",
        ),
        convolutions.SPATIAL_FACTORS, convolutions.kernel_probes, FORBIDDEN,
        (reference.factorize_conv_spatial, reference.svd_factors, reference.truncated_svd), "low_rank.kernel",
    ),
    Exercise(
        "separable_conv2d", "13", 3, reference.separable_conv2d,
        PUBLIC["separable_conv2d"],
        (
            "Two calls of F.conv2d. What does the first one know about left and right?",
            "In the vertical half everything horizontal is neutral. What are the neutral stride, padding and dilation?",
            "The neutral ones are 1, 0 and 1. Each half gets pairs of which one number is neutral. The bias belongs to "
            "the output channels: which half makes these?",
        ),
        convolutions.SEPARABLE_CONV2D, convolutions.settings_probes, FORBIDDEN,
    ),
    Exercise(
        "split_cost", "13", 3, reference.split_cost,
        PUBLIC["split_cost"],
        (
            "Count the weights of either half: outputs times inputs times kernel. Then ask at how many places each is "
            "used.",
            "The vertical half steps down with the stride, but makes every column. The horizontal half makes only the "
            "places of the output.",
            "Rows left by a stride: round up, which for whole numbers is -(-rows // stride). MACs are the weights of a "
            "half times the places it makes, summed over both halves.",
        ),
        convolutions.SPLIT_COST, convolutions.cost_probes, FORBIDDEN,
    ),
    Exercise(
        "greedy_ranks", "13", 4, reference.greedy_ranks,
        PUBLIC["greedy_ranks"],
        (
            "Start with every layer at its break-even rank, and write the loop first: as long as the factors have more "
            "numbers than the budget, one layer loses a rank.",
            "The price of a layer's last rank r is its square, over the sum of the first r squares, over m + n.",
            "min(candidates, key=price) finds the name. Candidates are the layers with a rank above 1. With squares e "
            "and rank r, the last square kept is e[r - 1].",
        ),
        budget.GREEDY_RANKS, budget.budget_probes, FORBIDDEN,
        (reference.ranks_for_budget, reference.factorize_to_budget),
    ),
)  # fmt: skip
