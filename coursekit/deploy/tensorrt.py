"""TensorRT, for machines with an NVIDIA GPU: an ONNX file with QuantizeLinear and DequantizeLinear to an engine.

Not tested where the course was made, which has no GPU; only its refusals are. It follows the interface of TensorRT 10
and 11: `build_serialized_network` makes the plan, and int8 comes from the Q/DQ nodes in the file. What older texts
use is gone: `build_engine`, `max_workspace_size`, `BuilderFlag.INT8` with a calibrator.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from os import PathLike
from typing import Any

import torch
from torch import Tensor

from coursekit.deploy.engines import Engine, EngineUnavailableError

__all__ = ["build_tensorrt_plan", "tensorrt_engine"]

_INSTALL = (
    "pip install tensorrt (that is its name; nvidia-tensorrt is a dead placeholder), on Linux or Windows"
)
_NEEDED = ("Builder", "OnnxParser", "Runtime", "Logger", "NetworkDefinitionCreationFlag", "MemoryPoolType")


def _module() -> Any:
    """TensorRT's Python package, usable.

    Raises: EngineUnavailableError if there is no GPU, no package, or one that lacks what is used here.
    """
    if not torch.cuda.is_available():
        raise EngineUnavailableError(
            "TensorRT runs on NVIDIA GPUs only, and torch sees none here. On a CPU use onnx_runtime or openvino"
        )
    try:
        module = importlib.import_module("tensorrt")
    except ImportError as error:
        raise EngineUnavailableError(f"there is no TensorRT here ({error}): {_INSTALL}") from error
    missing = [name for name in _NEEDED if not hasattr(module, name)]
    if missing or not hasattr(module.Builder, "build_serialized_network"):
        version = getattr(module, "__version__", "unknown")
        raise EngineUnavailableError(f"TensorRT 10 or 11 is needed, found version {version}: {_INSTALL}")
    return module


def build_tensorrt_plan(
    path: str | PathLike[str],
    image_shape: Sequence[int],
    *,
    max_batch: int = 64,
    workspace_bytes: int = 1 << 30,
) -> bytes:
    """The serialized engine of an ONNX file, built for the GPU of this machine and no other.

    The network is strongly typed: each layer runs in the type the file gives it, so int8 is where the Q/DQ nodes
    say so. TensorRT takes symmetric int8 only, every zero point 0. So it refuses the files of `export_qdq`, whose
    activations are uint8: write the file with NVIDIA's ModelOpt, or ONNX Runtime's `quantize_static`, symmetric.

    Args:    path: the .onnx file, with a free batch dimension. image_shape: of one image, without the batch.
             max_batch: largest batch; the engine is tuned for it. workspace_bytes: scratch memory it may use.
    Returns: the plan; write it to a file, or give it to `tensorrt_engine`.
    Raises:  EngineUnavailableError without a GPU or without TensorRT 10 or 11; FileNotFoundError if there is no
             such file; ValueError with the parser's messages if TensorRT refuses it; RuntimeError if building fails.
    Source:  NVIDIA's TensorRT documentation, "Explicit quantization". Taught in lesson 04.
    """
    trt = _module()
    if not os.path.isfile(path):
        raise FileNotFoundError(f"no file at {os.fspath(path)!r}; export the network to ONNX first")
    logger = trt.Logger(trt.Logger.WARNING)
    builder = trt.Builder(logger)
    typed = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)  # in 11 every network is
    network = builder.create_network(0 if typed is None else 1 << int(typed))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(os.fspath(path)):
        reasons = "; ".join(str(parser.get_error(i)) for i in range(parser.num_errors))
        raise ValueError(f"TensorRT cannot read {os.fspath(path)!r}: {reasons or 'it does not say why'}")
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, workspace_bytes)
    profile = builder.create_optimization_profile()
    smallest, largest = (1, *image_shape), (max_batch, *image_shape)
    profile.set_shape(network.get_input(0).name, smallest, largest, largest)
    config.add_optimization_profile(profile)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise RuntimeError("TensorRT read the file but could not build an engine; its log above says why")
    return bytes(plan)


def tensorrt_engine(plan: bytes, name: str = "TensorRT int8") -> Engine:
    """A plan as an engine: images from the CPU in, logits on the CPU out; both copies are part of its time.

    Args:    plan: from `build_tensorrt_plan`, on this machine. name: of the engine.
    Raises:  EngineUnavailableError without a GPU or TensorRT; ValueError if the plan is for another machine or version.
    """
    trt = _module()
    runtime = trt.Runtime(trt.Logger(trt.Logger.WARNING))
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        raise ValueError("this plan was built for another GPU or another version; build it here")
    alive = runtime, engine, engine.create_execution_context()  # the first two must live as long as the third
    names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
    inputs = [each for each in names if engine.get_tensor_mode(each) == trt.TensorIOMode.INPUT]
    outputs = [each for each in names if each not in inputs]

    def run(images: Tensor) -> Tensor:
        _, _, context = alive
        given = images.cuda().contiguous()
        context.set_input_shape(inputs[0], tuple(given.shape))
        result = torch.empty(tuple(context.get_tensor_shape(outputs[0])), device="cuda")
        context.set_tensor_address(inputs[0], given.data_ptr())
        context.set_tensor_address(outputs[0], result.data_ptr())
        stream = torch.cuda.current_stream()
        if not context.execute_async_v3(stream.cuda_stream):
            raise RuntimeError("TensorRT could not run this batch; is it larger than max_batch?")
        stream.synchronize()
        return result.cpu()

    return Engine(name, run)
