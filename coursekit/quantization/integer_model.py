"""A whole quantized network: layers on int8 codes in the order they run, in one file without pickle."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from os import PathLike
from typing import Literal

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from coursekit.quantization.grid import QParams, as_qparams
from coursekit.quantization.integer_layers import IntegerLayer, QuantizedConv2d, QuantizedLinear
from coursekit.quantization.integer_ops import (
    QuantizedActivation,
    QuantizedAdd,
    QuantizedAvgPool2d,
    QuantizedConcat,
    QuantizedFlatten,
    QuantizedMaxPool2d,
    QuantizedMean,
)

__all__ = ["FakeQuantizedModel", "QuantizedModel", "Step", "load_integer", "save_integer"]

KINDS: dict[str, type[IntegerLayer]] = {
    each.kind: each
    for each in (
        QuantizedActivation, QuantizedAdd, QuantizedAvgPool2d, QuantizedConcat, QuantizedConv2d, QuantizedFlatten,
        QuantizedLinear, QuantizedMaxPool2d, QuantizedMean,
    )
}  # fmt: skip
_FORMAT = "coursekit.integer.1"


@dataclass(frozen=True)
class Step:
    """One layer of a network: its name, the steps whose outputs it takes ("input" is the image), the layer."""

    name: str
    inputs: tuple[str, ...]
    layer: IntegerLayer


class QuantizedModel(nn.Module):
    """A network that computes in integers alone, from the first quantization of the image to the logits' codes.

    Calling it gives float32 logits, those that the codes of the last step stand for.

    Args: input: the grid of the images. steps: in the order they run; the last one's output is the network's.
    """

    def __init__(self, input: QParams, steps: Iterable[Step]) -> None:
        super().__init__()
        self.input = input
        self.steps = tuple(steps)
        self.layers = nn.ModuleDict({step.name.replace(".", "/"): step.layer for step in self.steps})

    @property
    def output(self) -> QParams:
        """The grid of the logits."""
        return self.steps[-1].layer.output

    def forward(self, x: Tensor) -> Tensor:
        """float32 logits of images (N, ...)."""
        return self.output.values(self.codes(x))

    def codes(self, x: Tensor) -> Tensor:
        """int8 codes of the logits of images (N, ...)."""
        return self.layer_codes(x)[self.steps[-1].name]

    @torch.no_grad()
    def layer_codes(self, x: Tensor) -> dict[str, Tensor]:
        """The int8 codes of the input and of every step's output, by name, in the order they were made."""
        values = {"input": self.input.codes(x)}
        for step in self.steps:
            values[step.name] = step.layer(*(values[name] for name in step.inputs))
        return values

    def fake(self, rounding: Literal["fixed_point", "float"] = "fixed_point") -> FakeQuantizedModel:
        """The same network as a fake-quantized float one.

        Args: rounding: "fixed_point", float64 arithmetic on real values, each layer's output rounded with the integer
              network's own multipliers: equal to it code for code. "float": as fake quantization usually is, float32,
              divided by the scale, halves to even: here and there a code off by one.
        """
        return FakeQuantizedModel(self, rounding)


class FakeQuantizedModel(nn.Module):
    """A view of a quantized network in floating point: real values on the grids, from layer to layer.

    Args: model: the network, shared, not copied. rounding: see `QuantizedModel.fake`.
    """

    def __init__(self, model: QuantizedModel, rounding: Literal["fixed_point", "float"]) -> None:
        super().__init__()
        if rounding not in ("fixed_point", "float"):
            raise ValueError(f'rounding must be "fixed_point" or "float", got {rounding!r}')
        self.model, self.rounding = model, rounding

    def forward(self, x: Tensor) -> Tensor:
        """Logits of images (N, ...): float64 for "fixed_point", float32 for "float"."""
        return self.layer_values(x)[self.model.steps[-1].name]

    @torch.no_grad()
    def layer_values(self, x: Tensor) -> dict[str, Tensor]:
        """The real values on the grid of the input and of every step's output, by name, in order."""
        exact = self.rounding == "fixed_point"
        grid = self.model.input
        values = {"input": grid.values(grid.codes(x), torch.float64 if exact else torch.float32)}
        for step in self.model.steps:
            inputs = [values[name] for name in step.inputs]
            values[step.name] = step.layer.fake(*inputs) if exact else step.layer.float_fake(*inputs)
        return values

    def codes(self, x: Tensor) -> Tensor:
        """int8 codes of the logits."""
        return self.model.output.back(self(x))


def save_integer(model: QuantizedModel, path: str | PathLike[str]) -> None:
    """Writes the network to one safetensors file: codes, biases and scales as tensors, the rest as JSON metadata.

    Codes of fewer than 8 bits still take a byte each here; packing them is lesson 11.

    Args: path: the file to write; `load_integer` reads it.
    """
    steps = [[step.name, step.layer.kind, list(step.inputs), step.layer.config()] for step in model.steps]
    description = {"input": vars(model.input), "steps": steps}
    metadata = {"format": _FORMAT, "network": json.dumps(description, separators=(",", ":"))}
    save_file({key: value.contiguous() for key, value in model.state_dict().items()}, path, metadata)


def load_integer(path: str | PathLike[str]) -> QuantizedModel:
    """The network in a file that `save_integer` wrote; no class, no code of the original network is needed.

    Raises: ValueError if the file holds something else.
    """
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
        if metadata.get("format") != _FORMAT:
            raise ValueError(
                f"{path} is not a quantized network of save_integer: format {metadata.get('format')!r}"
            )
        state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict
    description = json.loads(metadata["network"])
    steps = [
        Step(name, tuple(inputs), KINDS[kind](**config))
        for name, kind, inputs, config in description["steps"]
    ]
    model = QuantizedModel(as_qparams(description["input"]), steps)
    model.load_state_dict(state)
    return model.eval()
