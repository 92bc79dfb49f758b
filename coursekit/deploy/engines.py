"""One small interface over engines that run a network: PyTorch eager, Inductor, ONNX Runtime, OpenVINO.

Every builder returns an `Engine`: float32 images in, float32 logits out, on one thread. So engines can stand side
by side in `measure.latency`, and `engine_accuracy` says what each gets right.
"""

from __future__ import annotations

import copy
import importlib
import logging
import os
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike
from typing import Any

import torch
from torch import Tensor, nn

from coursekit.data import Dataset
from coursekit.deploy.ort import OrtModel

__all__ = [
    "Engine",
    "EngineUnavailableError",
    "eager",
    "engine_accuracy",
    "inductor",
    "inductor_int8",
    "onnx_runtime",
    "openvino",
    "torchao_weight_only",
]


class EngineUnavailableError(RuntimeError):
    """This machine lacks what an engine needs; the message says what, and how to get it."""


@dataclass(frozen=True)
class Engine:
    """A network in a runtime, called like a function.

    Attributes: name: of the runtime and its arithmetic, such as "OpenVINO int8".
                run: images (N, C, H, W) float32 to logits (N, n_classes) float32.
    """

    name: str
    run: Callable[[Tensor], Tensor]

    def __call__(self, images: Tensor) -> Tensor:
        """Logits (N, n_classes) of images (N, C, H, W)."""
        return self.run(images)


def engine_accuracy(engine: Callable[[Tensor], Tensor], data: Dataset, batch_size: int = 64) -> float:
    """The share of `data` an engine gets right, 0 to 1; every batch has the same size.

    A compiled engine is made for one batch size, so the last batch is filled up with its own first image.

    Raises: ValueError if data is empty or batch_size below 1.
    """
    if len(data) == 0 or batch_size < 1:
        raise ValueError(f"there is nothing to run: {len(data)} images in batches of {batch_size}")
    right = 0
    with torch.inference_mode():
        for images, labels in zip(data.images.split(batch_size), data.labels.split(batch_size), strict=True):
            missing = batch_size - len(images)
            filled = torch.cat([images, images[:1].expand(missing, *images.shape[1:])]) if missing else images
            right += int((engine(filled)[: len(images)].argmax(1) == labels).sum())
    return right / len(data)


def eager(model: nn.Module) -> Engine:
    """The network as PyTorch runs it by default: one operation after the other, in float32."""
    network = copy.deepcopy(model).eval()
    return Engine("eager fp32", network)


@contextmanager
def _quiet() -> Iterator[None]:
    """Others' deprecations and notices kept away: none of them is about what the caller did."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _need_compiler() -> None:
    """Raises: EngineUnavailableError where no C++ compiler is found."""
    candidates = [os.environ.get("CXX", ""), "g++", "clang++", "cl"]
    if not any(shutil.which(each) for each in candidates if each):
        raise EngineUnavailableError(
            "Inductor writes C++ and needs a compiler for it; there is no g++ or clang++ on the PATH. Install one "
            "(Debian and Ubuntu: apt install g++; macOS: xcode-select --install), or set CXX to yours"
        )


def _compiled(module: Callable[[Tensor], Tensor], example: Tensor) -> Callable[[Tensor], Tensor]:
    """The module compiled by Inductor for the shape of the example, with its weights frozen into the code."""
    settings = _imported("torch._inductor.config", "torch")
    compiled = torch.compile(module, dynamic=False)
    # Compiled on the first call, and again if the mode changes: so in the mode it will be called in. Not frozen, an
    # int8 graph does not compile; passing the option to torch.compile does not freeze it.
    with settings.patch(freezing=True), torch.inference_mode():
        compiled(example)
    return compiled


def inductor(model: nn.Module, example: Tensor) -> Engine:
    """The network compiled to C++ by `torch.compile`, for inference on inputs of one shape.

    Args:    model: left as it is. example: images of the shape it will be called with, the batch included.
    Raises:  EngineUnavailableError without a C++ compiler.
    Source:  Ansel et al. 2024, PyTorch 2, ASPLOS. Taught in lesson 04.
    """
    _need_compiler()
    with _quiet():
        return Engine("Inductor fp32", _compiled(copy.deepcopy(model).eval(), example))


def inductor_int8(model: nn.Module, calibration: Tensor, example: Tensor) -> Engine:
    """Static int8 by torchao's pt2e, compiled by Inductor: weights per channel, activations by histograms.

    (`torchao.quantization.quantize_` is for linear layers: a Conv2d it leaves in float32 without a word.)

    Args:    model: left as it is. calibration: a few hundred training images. example: as for `inductor`.
    Raises:  EngineUnavailableError without a C++ compiler or torchao.
    Source:  PyTorch's "PT2E quantization with the X86 backend through Inductor". Taught in lesson 04.
    """
    _need_compiler()
    pt2e, quantizer = (
        _imported(f"torchao.quantization.pt2e.{name}", "torchao")
        for name in ("quantize_pt2e", "quantizer.x86_inductor_quantizer")
    )
    with _quiet(), torch.no_grad():
        network = copy.deepcopy(model).eval()
        # Not strict, the graph has partitions that the quantizer refuses ("more than one output node").
        graph: Any = torch.export.export(network, (example,), strict=True).module()
        rules = quantizer.X86InductorQuantizer()
        rules.set_global(quantizer.get_default_x86_inductor_quantization_config())
        observed = pt2e.prepare_pt2e(graph, rules)
        for images in calibration.split(len(example)):
            if len(images) == len(example):  # the graph was exported for this batch size
                observed(images)
        return Engine("Inductor int8", _compiled(pt2e.convert_pt2e(observed), example))


def torchao_weight_only(model: nn.Module) -> nn.Module:
    """What torchao's `quantize_` with `Int8WeightOnlyConfig` makes of a copy of the model: int8 in linear layers only.

    Every convolution stays the float32 it was, and nothing is said about it: look at the weights' types.

    Raises:  EngineUnavailableError without torchao. Taught in lesson 04.
    """
    torchao = _imported("torchao.quantization", "torchao")
    result = copy.deepcopy(model)
    with _quiet():
        torchao.quantize_(result, torchao.Int8WeightOnlyConfig())
    return result


def _imported(module: str, package: str) -> Any:
    try:
        with _quiet():
            return importlib.import_module(module)
    except ImportError as error:
        raise EngineUnavailableError(
            f"this engine needs {package} ({error}): pip install {package}"
        ) from error


def onnx_runtime(path: str | PathLike[str], name: str = "ONNX Runtime fp32", *, threads: int = 1) -> Engine:
    """An ONNX file in ONNX Runtime on the CPU, by `OrtModel`; Q/DQ nodes in it become int8 kernels.

    Args:    path: the .onnx file. name: of the engine. threads: of one call.
    Raises:  FileNotFoundError if there is no such file.
    """
    return Engine(name, OrtModel(path, threads=threads))


def openvino(path: str | PathLike[str], name: str = "OpenVINO fp32", *, threads: int = 1) -> Engine:
    """An ONNX file in OpenVINO on the CPU; a quantized one runs in int8.

    OpenVINO reports its import to Google Analytics by default. Here it is imported without its telemetry package, for
    which it has a stub of its own, so nothing leaves the machine.

    Args:    path: the .onnx file. name: of the engine. threads: of one call.
    Raises:  FileNotFoundError if there is no such file; EngineUnavailableError without openvino.
    """
    if "openvino" not in sys.modules:
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # importing it now fails
    runtime = _imported("openvino", "openvino")
    _need_file(path)
    options = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    core = runtime.Core()
    compiled = core.compile_model(core.read_model(os.fspath(path)), "CPU", options)

    def run(images: Tensor) -> Tensor:
        return torch.from_numpy(compiled(images.numpy())[0].copy())  # the buffer is reused by the next call

    return Engine(name, run)


def _need_file(path: str | PathLike[str]) -> None:
    if not os.path.isfile(path):
        raise FileNotFoundError(f"no file at {os.fspath(path)!r}; export the network to ONNX first")
