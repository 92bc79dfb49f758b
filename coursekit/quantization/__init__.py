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
from coursekit.quantization.folding import fold_batch_norm, fold_batch_norms
from coursekit.quantization.observers import (
    HistogramObserver,
    MinMaxObserver,
    MovingAverageObserver,
    Observer,
    PercentileObserver,
    moving_average_range,
    range_qparams,
)
from coursekit.quantization.weight_only import load_quantized, quantize_weights, save_quantized, weight_names

__all__ = [
    "HistogramObserver",
    "MinMaxObserver",
    "MovingAverageObserver",
    "Observer",
    "PercentileObserver",
    "QuantizationError",
    "affine_qparams",
    "affine_qparams_per_channel",
    "check_finite",
    "dequantize",
    "error_parts",
    "fake_quantize",
    "fold_batch_norm",
    "fold_batch_norms",
    "int_range",
    "load_quantized",
    "moving_average_range",
    "mse_clip",
    "quantization_error",
    "quantize",
    "quantize_weights",
    "range_qparams",
    "save_quantized",
    "symmetric_scale",
    "symmetric_scale_per_channel",
    "weight_names",
]
