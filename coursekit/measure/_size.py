"""Bytes on disk, always of a file that exists."""

from __future__ import annotations

import copy
import os
import tempfile
from pathlib import Path
from typing import TypeVar

import torch
from safetensors.torch import load_model, save_model
from torch import nn

M = TypeVar("M", bound=nn.Module)


def file_size(path: str | os.PathLike[str]) -> int:
    """The bytes of a file, or of all files in a folder and below it.

    Args:    path: a file or folder. A symbolic link to a file counts as that file.
    Returns: bytes as `os.path.getsize` reports them: the content, not the disk blocks it occupies.
    Raises:  FileNotFoundError if nothing is there.
    """
    target = Path(path)
    if not target.exists():
        raise FileNotFoundError(f"no file or folder at {str(target)!r}; save the model there first")
    if target.is_dir():
        return sum(os.path.getsize(each) for each in target.rglob("*") if each.is_file())
    return os.path.getsize(target)


def saved_size(model: nn.Module) -> int:
    """The bytes of the safetensors file that holds the model's state dict, header included.

    The file is really written, read back and compared, then deleted. It holds parameters and persistent
    buffers; a tensor shared by two layers (tied weights) is stored once and counted once. Nothing else is
    in it: numbers kept as plain Python attributes are neither stored nor counted.

    Args:    model: any module with at least one parameter or buffer.
    Raises:  ValueError if there is nothing to store.
    """
    return save_and_reload(model)[0]


def save_and_reload(model: M) -> tuple[int, M]:
    """The bytes of the model's safetensors file, and a copy of the model whose state came from that file."""
    state = model.state_dict()
    if not state:
        raise ValueError(f"{type(model).__name__} has no parameter or buffer: there is nothing to store")
    with tempfile.TemporaryDirectory(prefix="coursekit-") as folder:
        path = Path(folder) / "model.safetensors"
        save_model(model, str(path))
        reloaded = copy.deepcopy(model)
        with torch.no_grad():
            for tensor in reloaded.state_dict().values():
                tensor.zero_()  # so that every value must come from the file
        load_model(reloaded, str(path))
        for name, tensor in reloaded.state_dict().items():
            if not torch.equal(tensor.nan_to_num(), state[name].nan_to_num()):
                raise RuntimeError(f"{name} came back from the file with other values; please report this")
        return file_size(path), reloaded
