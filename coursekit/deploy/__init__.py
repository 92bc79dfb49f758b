"""Networks on their way to users: files that other runtimes read, and engines that run them."""

from coursekit.deploy.onnx_export import export_float, export_qdq
from coursekit.deploy.ort import OrtModel

__all__ = ["OrtModel", "export_float", "export_qdq"]
