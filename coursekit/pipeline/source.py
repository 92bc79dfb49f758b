"""The network a command is asked to work on: by its name in the zoo, or from a file."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from coursekit import zoo
from coursekit.compression import load
from coursekit.models import LeNet5, LeNet300100, mobilenet_v2, resize_, resnet20

__all__ = ["load_network"]

_BUILDERS: tuple[Callable[[], nn.Module], ...] = (LeNet300100, LeNet5, resnet20, mobilenet_v2)


def load_network(source: str) -> nn.Module:
    """A trained network: by its name in the zoo, from a file of `coursekit.compression.save`, or from safetensors.

    A safetensors file must hold the state dict of one of coursekit.models, whatever the widths of its layers.

    Raises: ValueError saying what was looked for where (ArtifactError if a file is damaged).
    """
    path = Path(source)
    if source in zoo.available():
        return zoo.load(source)
    if not path.is_file():
        raise ValueError(
            f"{source!r} is neither a network of the zoo ({', '.join(zoo.available())}) nor a file"
        )
    with path.open("rb") as file:
        start = file.read(9)
    if start[:4] == b"CKNN":
        return load(path)
    # A safetensors file begins with the length of its header, a JSON object.
    if len(start) < 9 or start[8:] != b"{" or struct.unpack("<Q", start[:8])[0] > path.stat().st_size:
        raise ValueError(f"{source} is neither a network file of this course nor safetensors")
    try:
        state = load_file(path)
    except (SafetensorError, ValueError, OSError) as error:
        raise ValueError(f"{source} is no whole safetensors file: {error}") from error
    return _built(state, source)


def _built(state: Mapping[str, Tensor], source: str) -> nn.Module:
    """The network of coursekit.models that has tensors of these names."""
    for build in _BUILDERS:
        model = build()
        if model.state_dict().keys() != state.keys():
            continue
        try:
            model = resize_(model, state)
            model.load_state_dict(dict(state))
        except (RuntimeError, KeyError, ValueError) as error:
            raise ValueError(f"the tensors in {source} do not fit each other: {error}") from error
        return model.eval()
    raise ValueError(
        f"the tensors in {source} are those of no network of coursekit.models; save it with "
        "coursekit.compression.save, and give that file"
    )
