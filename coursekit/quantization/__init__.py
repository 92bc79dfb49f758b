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
from coursekit.quantization.mixed_precision import (
    load_mixed,
    mixed_precision,
    pack_codes,
    save_mixed,
    unpack_codes,
    weight_bytes,
)
from coursekit.quantization.observers import (
    HistogramObserver,
    MinMaxObserver,
    MovingAverageObserver,
    Observer,
    PercentileObserver,
    moving_average_range,
    range_qparams,
)
from coursekit.quantization.sensitivity import greedy_bits, layer_sensitivity, optimal_bits, sensitivity_table
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
    "greedy_bits",
    "int_range",
    "layer_sensitivity",
    "load_mixed",
    "load_quantized",
    "mixed_precision",
    "moving_average_range",
    "mse_clip",
    "optimal_bits",
    "pack_codes",
    "quantization_error",
    "quantize",
    "quantize_weights",
    "range_qparams",
    "save_mixed",
    "save_quantized",
    "sensitivity_table",
    "symmetric_scale",
    "symmetric_scale_per_channel",
    "unpack_codes",
    "weight_bytes",
    "weight_names",
]
