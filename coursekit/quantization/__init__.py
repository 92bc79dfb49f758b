"""Quantization: real numbers on an integer grid, one tensor or a whole network at a time."""

from coursekit.quantization.affine import (
    affine_qparams,
    affine_qparams_per_channel,
    check_finite,
    dequantize,
    fake_quantize,
    int_range,
    quantize,
    symmetric_scale,
    symmetric_scale_per_channel,
)
from coursekit.quantization.errors import QuantizationError, error_parts, mse_clip, quantization_error
from coursekit.quantization.weight_only import load_quantized, quantize_weights, save_quantized, weight_names

__all__ = [
    "QuantizationError",
    "affine_qparams",
    "affine_qparams_per_channel",
    "check_finite",
    "dequantize",
    "error_parts",
    "fake_quantize",
    "int_range",
    "load_quantized",
    "mse_clip",
    "quantization_error",
    "quantize",
    "quantize_weights",
    "save_quantized",
    "symmetric_scale",
    "symmetric_scale_per_channel",
    "weight_names",
]
