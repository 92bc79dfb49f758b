"""The exercises of lesson 11: their points, tests, hints and forbidden names."""

from __future__ import annotations

from coursekit import compression as reference
from coursekit import packing
from coursekit.exercises.spec import Exercise
from coursekit.exercises.weight_sharing import mistakes_clusters as clusters
from coursekit.exercises.weight_sharing import mistakes_codes as codes
from coursekit.exercises.weight_sharing.properties import PUBLIC

__all__ = ["EXERCISES"]

FORBIDDEN = {
    "coursekit": "the reference is what you are writing",
    **dict.fromkeys(("sklearn", "KMeans", "kmeans1d"), "the tools people use come at the end"),
}


EXERCISES = (
    Exercise(
        "kmeans_step", "11", 4, reference.kmeans_step,
        PUBLIC["kmeans_step"],
        (
            "Three steps: whose value is this, what is the mean of mine, and what about those who have none?",
            "torch.bucketize finds, for all values at once, between which borders they lie; the borders are half-way "
            "between neighbours. torch.bincount counts, index_add_ adds up.",
            "Sort the values by their distance to their own centroid, the farthest first. The first so many go to the "
            "empty centroids. Only at the very end sort the centroids.",
        ),
        clusters.KMEANS_STEP, clusters.step_probes, FORBIDDEN,
        (reference.lloyd, reference.kmeans, reference.kmeans_exact, reference.assign),
    ),
    Exercise(
        "initial_centroids", "11", 3, reference.initial_centroids,
        PUBLIC["initial_centroids"],
        (
            "Linear is about values, density about ranks, random about positions.",
            "torch.linspace includes both ends. torch.quantile takes ranks from 0 to 1, all at once, and wants its "
            "ranks in the dtype of the values.",
            "A permutation drawn from torch.Generator().manual_seed(seed) has no position twice; its first so many "
            "entries are a draw. Mind the order at the end.",
        ),
        clusters.INITIAL_CENTROIDS, clusters.initial_probes, FORBIDDEN,
    ),
    Exercise(
        "share_with_zeros", "11", 3, reference.share_with_zeros,
        PUBLIC["share_with_zeros"],
        (
            "First find the nearest centroid of every weight as if there were no zeros. Then make room for entry 0.",
            "torch.cat puts a 0 in front of the centroids, which moves the number of each of them by one.",
            "torch.where chooses between 0 and that number. Its condition is about the weight itself, not about "
            "distances.",
        ),
        codes.SHARE_WITH_ZEROS, codes.share_probes, FORBIDDEN,
    ),
    Exercise(
        "pack", "11", 3, packing.pack,
        PUBLIC["pack"],
        (
            "Write 6, 1, 5 with three bits each, one behind the other, and cut the line after eight.",
            "(code >> shift) & 1 is one bit of a code. All shifts at once, from the highest to 0, make a row of bits "
            "for each code.",
            "Flatten the rows, fill up with zeros at the end to a multiple of 8, and reshape to (bytes, 8). Each row "
            "times 128, 64, … 1, added up, is a byte.",
        ),
        codes.PACK, codes.pack_probes, FORBIDDEN,
    ),
    Exercise(
        "sharing_rate", "11", 2, reference.sharing_rate,
        PUBLIC["sharing_rate"],
        (
            "Count bits before and bits after, and divide. Two things are stored afterwards.",
            "17 centroids need indices 0 to 16. How many binary digits has the largest?",
            "(k - 1).bit_length() is an exact ceil(log2 k). The codebook holds k numbers as long as a weight was.",
        ),
        codes.SHARING_RATE, codes.rate_probes, FORBIDDEN | {"bits_for": "that is part of what you are writing"},
    ),
    Exercise(
        "codebook_gradient", "11", 3, reference.codebook_gradient,
        PUBLIC["codebook_gradient"],
        (
            "The chain rule: one number is used in many places, and the loss hears of all of them.",
            "made[indices] = gradient writes over itself. scatter_add_, index_add_ and torch.bincount with weights do "
            "not.",
            "Flatten both, add into zeros of length n_codes and of the dtype of gradient, and last of all see to "
            "entry 0.",
        ),
        codes.CODEBOOK_GRADIENT, codes.gradient_probes,
        FORBIDDEN | {"backward": "write the sum yourself", "autograd": "write the sum yourself"},
    ),
)  # fmt: skip
