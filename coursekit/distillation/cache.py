"""What a teacher says of each image, computed once and kept on disk: it says the same in every epoch."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from coursekit.distillation.hooks import capture
from coursekit.distillation.store import (
    DamagedFileError,
    fingerprint,
    network_tensors,
    read_tensors,
    write_tensors,
)
from coursekit.train import eval_mode

__all__ = ["teacher_key", "teacher_outputs"]

MOST_BYTES = 4 << 30


def teacher_key(
    teacher: nn.Module, images: Tensor, layers: Sequence[str] = (), bfloat16: bool = False
) -> str:
    """The name of a teacher's outputs: it changes with its weights, its structure, the images, and what is asked.

    The teacher's answers to a few of the images are part of it, so that a setting which is neither a weight nor in
    its `repr` (the weights of an ensemble, say) counts too.

    Args:    layers: names of modules whose outputs are wanted beside the logits. bfloat16: of the forward pass.
    Returns: 64 hexadecimal digits.
    """
    answers = _forward(teacher, images[:: max(1, len(images) // 8)][:8], layers, bfloat16)
    return fingerprint(repr(teacher), network_tensors(teacher), images, list(layers), bfloat16, answers)


def teacher_outputs(
    teacher: nn.Module,
    images: Tensor,
    *,
    layers: Sequence[str] = (),
    bfloat16: bool = False,
    folder: Path | None = None,
    batch_size: int = 128,
) -> dict[str, Tensor]:
    """The teacher's logits for all images, and the outputs of the modules asked for, in eval mode.

    Args:    teacher: left as it was. images: (N, C, H, W). layers: names of modules.
             bfloat16: run the forward pass in bfloat16. folder: where outputs are kept and found again under
             `teacher_key`; None keeps them in memory only. A damaged file is warned about and made anew.
    Returns: "logits" (N, classes) and, for each layer, "features/NAME" of N rows; no gradients.
    Raises:  ValueError for an unknown layer, or if the outputs would take more than 4 GiB.
    Source:  Taught in lesson 08.
    """
    path = (
        None if folder is None else folder / f"{teacher_key(teacher, images, layers, bfloat16)}.safetensors"
    )
    if path is not None and path.is_file():
        try:
            return read_tensors(path)[0]
        except DamagedFileError as error:
            warnings.warn(f"{error}; the teacher is asked again", stacklevel=2)
    outputs = _ask(teacher, images, layers, bfloat16, batch_size)
    if path is not None:
        write_tensors(path, outputs, {"teacher": type(teacher).__name__, "images": len(images)})
    return outputs


def _ask(
    teacher: nn.Module, images: Tensor, layers: Sequence[str], bfloat16: bool, batch_size: int
) -> dict[str, Tensor]:
    outputs: dict[str, Tensor] = {}
    for start in range(0, len(images), batch_size):
        answers = _forward(teacher, images[start : start + batch_size], layers, bfloat16)
        if not outputs:
            n_bytes = sum(a[0].numel() * a.element_size() for a in answers.values()) * len(images)
            if n_bytes > MOST_BYTES:
                raise ValueError(
                    f"the outputs of {', '.join(layers)} on {len(images):,} images take {n_bytes / 2**30:.1f} GiB; "
                    "ask for fewer layers or leave the cache out"
                )
            outputs = {name: a.new_empty(len(images), *a.shape[1:]) for name, a in answers.items()}
        for name, answer in answers.items():
            outputs[name][start : start + batch_size] = answer
    return outputs


@torch.no_grad()
def _forward(teacher: nn.Module, images: Tensor, layers: Sequence[str], bfloat16: bool) -> dict[str, Tensor]:
    """Not in inference mode: a loss's backward pass may need what comes out."""
    with (
        eval_mode(teacher),
        capture(teacher, layers) as features,
        torch.autocast("cpu", torch.bfloat16, enabled=bfloat16),
    ):
        logits = teacher(images)
        return {"logits": logits, **{f"features/{name}": features[name] for name in layers}}
