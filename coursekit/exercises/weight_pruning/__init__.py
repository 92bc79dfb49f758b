"""The exercises of lesson 05: their points, tests, hints and forbidden names."""

from __future__ import annotations

from coursekit import pruning as reference
from coursekit.exercises.spec import Exercise
from coursekit.exercises.weight_pruning import mistakes_csr as csr
from coursekit.exercises.weight_pruning import mistakes_masks as masks
from coursekit.exercises.weight_pruning import mistakes_weights as weights
from coursekit.exercises.weight_pruning import properties_masks, properties_weights

__all__ = ["EXERCISES"]

PUBLIC = {**properties_masks.PUBLIC, **properties_weights.PUBLIC}
FORBIDDEN = {
    **dict.fromkeys(
        ("l1_unstructured", "L1Unstructured", "global_unstructured"), "torch.nn.utils.prune comes at the end"
    ),
    "coursekit": "the reference is what you are writing",
}
NO_SPARSE = FORBIDDEN | dict.fromkeys(
    ("to_sparse", "to_sparse_csr", "csr_matrix", "csr_array"), "write the three tensors yourself"
)


EXERCISES = (
    Exercise(
        "topk_mask", "05", 3, reference.topk_mask,
        PUBLIC["topk_mask"],
        (
            "First work out how many go. Then find which: a sorting gives you their positions, and positions are never "
            "equal.",
            "scores.flatten().argsort() lists positions from the lowest score to the highest. The first so many of "
            "them go.",
            "Start from a flat mask that is all True, set the positions that go to False, and give it the shape of the "
            "scores at the end.",
        ),
        masks.TOPK_MASK, masks.topk_probes, FORBIDDEN, (reference.make_masks, reference.global_masks),
    ),
    Exercise(
        "global_masks", "05", 3, reference.global_masks,
        PUBLIC["global_masks"],
        (
            "If all layers were one long tensor, it would be the exercise before this one.",
            "torch.cat joins the flattened scores. Afterwards tensor.split takes a list of lengths and undoes it.",
            "Go through scores.values() for joining, and through the same dict, in the same order, when you hand the "
            "pieces back, each in the shape of its scores.",
        ),
        masks.GLOBAL_MASKS, masks.global_probes, FORBIDDEN, (reference.make_masks,),
    ),
    Exercise(
        "taylor_score", "05", 2, reference.taylor_score,
        PUBLIC["taylor_score"],
        (
            "The loss changes by about the gradient times the step, and to remove w is a step of -w.",
            "gradients has one dimension more than weight, in front: their product broadcasts.",
            "What must come first, the mean over the batches or the absolute value? Think of two batches with "
            "gradients +2 and -2.",
        ),
        weights.TAYLOR_SCORE, weights.taylor_probes, FORBIDDEN,
    ),
    Exercise(
        "masked_adam", "05", 4, reference.masked_adam,
        PUBLIC["masked_adam"],
        (
            "Three things hold a memory of a weight: the weight itself and two moments. And something new arrives with "
            "every step.",
            "If all three start at 0 and every gradient is 0 there, Adam's step is 0 too, and they stay so for good.",
            "Multiply weight and both moments by the mask before the loop, and each gradient inside it. The first step "
            "has the number step + 1.",
        ),
        weights.MASKED_ADAM, weights.adam_probes,
        FORBIDDEN | {"optim": "write the steps yourself; adam_step is given"},
    ),
    Exercise(
        "nonzero_of_state", "05", 3, reference.nonzero_of_state,
        PUBLIC["nonzero_of_state"],
        (
            "Which entries are numbers that the network computes with, and which are only a way to store them?",
            "Skip names that end in _mask. Multiply those that end in _orig by their mask. Take all others as "
            "they are.",
            "For a name that ends in _orig, name.removesuffix('_orig') + '_mask' is its partner. torch.count_nonzero "
            "counts; int() makes it a number.",
        ),
        weights.NONZERO_OF_STATE, weights.state_probes, FORBIDDEN, (reference.effective_weights,),
    ),
    Exercise(
        "to_csr", "05", 3, reference.to_csr,
        PUBLIC["to_csr"],
        (
            "Write the three lists for the example on paper first, the empty row included.",
            "weight.nonzero(as_tuple=True) gives the rows and the columns of all entries that are not 0, row by row.",
            "torch.bincount(rows, minlength=…) says how many entries each row has; their cumulative sum, with a 0 in "
            "front, is where the rows start. Mind the dtypes.",
        ),
        csr.TO_CSR, csr.csr_probes, NO_SPARSE,
    ),
    Exercise(
        "nm_mask", "05", 3, reference.nm_mask,
        PUBLIC["nm_mask"],
        (
            "A reshape turns every group of m neighbours into a row of its own.",
            "In a tensor of shape (groups, m), argsort(dim=1) orders each group. How many of its first entries go?",
            "m - n go. mask.scatter_(1, positions, False) writes False at positions of each row; reshape back at "
            "the end.",
        ),
        masks.NM_MASK, masks.nm_probes, FORBIDDEN, (reference.nm_masks,),
    ),
)  # fmt: skip
