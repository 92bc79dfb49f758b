"""Tensors on disk for caches and checkpoints: one safetensors file each, whole or not there; no pickle."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

__all__ = ["DamagedFileError", "fingerprint", "network_tensors", "read_tensors", "write_tensors"]


class DamagedFileError(ValueError):
    """The file is cut off, altered, or not one that `write_tensors` wrote."""


def fingerprint(*things: Any) -> str:
    """SHA-256 of tensors, of mappings and lists of them, and of whatever else by its `repr`.

    >>> fingerprint(torch.zeros(2), "a") == fingerprint(torch.zeros(2), "a")
    True
    >>> fingerprint(torch.zeros(2)) == fingerprint(torch.zeros(2, 1))
    False
    """
    digest = hashlib.sha256()
    for thing in things:
        _feed(digest, thing)
    return digest.hexdigest()


def _feed(digest: Any, thing: Any) -> None:
    if isinstance(thing, Tensor):
        flat = thing.detach().cpu().contiguous().reshape(-1)
        digest.update(f"{thing.dtype}{tuple(thing.shape)}".encode())
        if flat.numel():  # an empty tensor has no bytes to look at
            digest.update(flat.view(torch.uint8).numpy().data)
    elif isinstance(thing, Mapping):
        for key, value in thing.items():
            digest.update(f"{key}=".encode())
            _feed(digest, value)
    elif isinstance(thing, list | tuple):
        digest.update(f"{len(thing)}:".encode())
        for value in thing:
            _feed(digest, value)
    else:
        digest.update(repr(thing).encode())


def network_tensors(network: nn.Module) -> dict[str, Tensor]:
    """All parameters and buffers of a network by name, those outside its state dict too."""
    return dict([*network.named_parameters(), *network.named_buffers()])


def write_tensors(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Writes tensors and facts into one file: beside its place first, then moved there whole.

    Args:   tensors: by name. facts: what JSON can hold.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = {name: tensor.detach().contiguous().clone() for name, tensor in tensors.items()}
    text = json.dumps(facts)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        save_file(whole, beside, {"facts": text, "sha256": fingerprint(_ordered(whole), text)})
        with beside.open("rb") as written:
            os.fsync(written.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and facts of such a file.

    Raises: DamagedFileError if it is not whole, or anything in it has changed.
    """
    try:
        with safe_open(path, "pt") as opened:
            notes = opened.metadata() or {}
        tensors = load_file(path)
    except (SafetensorError, ValueError) as error:
        raise DamagedFileError(f"{path} is not a whole file ({error})") from error
    text = notes.get("facts", "null")
    if notes.get("sha256") != fingerprint(_ordered(tensors), text):
        raise DamagedFileError(f"{path} was altered after it was written")
    return tensors, json.loads(text)


def _ordered(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensors[name] for name in sorted(tensors)}
