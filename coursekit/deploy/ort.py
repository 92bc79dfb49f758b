"""ONNX Runtime: runs an exported network on the CPU, in a given number of threads."""

from __future__ import annotations

import os
import platform
from os import PathLike

import numpy as np
import onnxruntime
import torch
from torch import Tensor

__all__ = ["OrtModel", "needs_exact_products"]


def needs_exact_products() -> bool:
    """Whether this is an x86 processor without VNNI, whose fast 8-bit products overflow in 16 bits."""
    if platform.machine().lower() not in ("x86_64", "amd64", "x86"):
        return False
    able = torch.cpu.get_capabilities()
    return not any(able.get(name, False) for name in ("avx512_vnni", "avx10_2", "avx_vnni"))


class OrtModel:
    """An ONNX file in ONNX Runtime: called with images, it gives logits, so it fits into `measure.latency`.

    On x86 processors without VNNI instructions ONNX Runtime adds two products of uint8 and int8 in 16 bits, which
    overflow. There the session asks for the exact way, which is slower ("session.x64quantprecision").

    Args:   path: the .onnx file. threads: of one call.
            optimize: False keeps the graph as it is in the file: quantize, compute in float, dequantize, in that order.
    Raises: FileNotFoundError if there is no such file.
    Source: ONNX Runtime's documentation, "Quantize ONNX models". Taught in lesson 02.
    """

    def __init__(self, path: str | PathLike[str], *, threads: int = 1, optimize: bool = True) -> None:
        if not os.path.isfile(path):
            raise FileNotFoundError(f"no file at {os.fspath(path)!r}; export a network there first")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        if needs_exact_products():
            options.add_session_config_entry("session.x64quantprecision", "1")
        options.log_severity_level = 3
        if not optimize:
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        self.session = onnxruntime.InferenceSession(
            os.fspath(path), options, providers=["CPUExecutionProvider"]
        )
        self.outputs = [each.name for each in self.session.get_outputs()]

    def __call__(self, images: Tensor) -> Tensor:
        """float32 logits (N, n_classes) of images (N, C, H, W)."""
        return torch.from_numpy(self._run(images, self.outputs[:1])[0])

    def layer_codes(self, images: Tensor) -> dict[str, Tensor]:
        """The int8 codes of every step, by its name; of a file that was exported with `layer_codes=True`.

        Raises: ValueError if the file was not.
        """
        wanted = [name for name in self.outputs if name.endswith(".codes")]
        if not wanted:
            raise ValueError("the file has no codes among its outputs; export it with layer_codes=True")
        results = self._run(images, wanted)
        pairs = zip(wanted, results, strict=True)
        return {name.removesuffix(".codes"): _from_uint8(codes) for name, codes in pairs}

    def step(self, *codes: Tensor) -> Tensor:
        """int8 codes of a single layer's output, of its inputs' int8 codes; of a file that `export_layer` wrote."""
        feeds = {f"codes{index}": _to_uint8(q) for index, q in enumerate(codes)}
        return _from_uint8(self.session.run(None, feeds)[0])

    def _run(self, images: Tensor, outputs: list[str]) -> list[np.ndarray]:
        return self.session.run(outputs, {self.session.get_inputs()[0].name: images.contiguous().numpy()})


def _to_uint8(codes: Tensor) -> np.ndarray:
    """Our codes as the files have them, 128 higher."""
    return (codes.int() + 128).to(torch.uint8).contiguous().numpy()


def _from_uint8(codes: np.ndarray) -> Tensor:
    return (torch.from_numpy(codes).int() - 128).to(torch.int8)
