"""Networks on their way to users: engines that run them."""

from coursekit.deploy.engines import (
    Engine,
    EngineUnavailableError,
    eager,
    engine_accuracy,
    inductor,
    inductor_int8,
    onnx_runtime,
    openvino,
)
from coursekit.deploy.tensorrt import build_tensorrt_plan, tensorrt_engine

__all__ = [
    "Engine",
    "EngineUnavailableError",
    "build_tensorrt_plan",
    "eager",
    "engine_accuracy",
    "inductor",
    "inductor_int8",
    "onnx_runtime",
    "openvino",
    "tensorrt_engine",
]
