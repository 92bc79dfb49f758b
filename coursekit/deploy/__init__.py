"""Networks on their way to users: files that other runtimes read, and engines that run them."""

from coursekit.deploy.engines import (
    Engine,
    EngineUnavailableError,
    eager,
    engine_accuracy,
    inductor,
    inductor_int8,
    onnx_runtime,
    openvino,
    torchao_weight_only,
)
from coursekit.deploy.measured import measured_engines
from coursekit.deploy.onnx_export import export_float, export_layer, export_qdq
from coursekit.deploy.ort import OrtModel
from coursekit.deploy.tensorrt import build_tensorrt_plan, tensorrt_engine

__all__ = [
    "Engine",
    "EngineUnavailableError",
    "OrtModel",
    "build_tensorrt_plan",
    "eager",
    "engine_accuracy",
    "export_float",
    "export_layer",
    "export_qdq",
    "inductor",
    "inductor_int8",
    "measured_engines",
    "onnx_runtime",
    "openvino",
    "tensorrt_engine",
    "torchao_weight_only",
]
