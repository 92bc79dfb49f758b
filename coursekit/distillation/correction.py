"""A class that the student never saw: one number that lets it use what the teacher's answers taught."""

from __future__ import annotations

import math

from torch import Tensor

from coursekit.distillation.checks import check_logits

__all__ = ["missing_class_bias"]


def missing_class_bias(logits: Tensor, missing: int, share: float) -> float:
    """What to add to one class's logits for it to be predicted for `share` of the images.

    A class that was missing from the student's data is predicted too rarely, though the teacher's soft targets have
    taught what it looks like. One number puts that right, and needs no label: only how common the class is.

    Args:      logits: (n, classes), of images that include the class. missing: the class.
               share: of the images, above 0 and below 1.
    Returns:   a number halfway between the last image that changes to the class and the first that does not.
    Raises:    ValueError for a class out of range, or a share that means no image or all of them.
    Source:    Hinton et al. 2015, arXiv:1503.02531, section 3 (there chosen on the test set).
    Taught in: lesson 08.

    >>> import torch
    >>> missing_class_bias(torch.tensor([[0.0, 1.0], [0.0, 3.0], [0.0, 9.0]]), 0, 1 / 3)
    2.0
    """
    check_logits("logits", logits)
    n, n_classes = logits.shape
    if not 0 <= missing < n_classes:
        raise ValueError(f"missing must be a class from 0 to {n_classes - 1}, got {missing}")
    wanted = round(share * n)
    if not 0 < wanted < n:
        raise ValueError(
            f"a share of {share} of {n} images is {wanted}: it must mean some images, and not all"
        )
    rest = logits.clone()
    rest[:, missing] = -math.inf
    gap = (rest.amax(1) - logits[:, missing]).sort().values  # added, a gap makes the image a tie
    return (gap[wanted - 1] + gap[wanted]).item() / 2
