"""What the course measures: error, bytes, multiply-accumulates, time, memory, and a table of them all.

Sizes are those of files that exist and load again; times are ratios to a reference run in the same process.
"""

from coursekit.measure._compare import Comparison, Row, compare
from coursekit.measure._cost import macs, n_parameters, nonzero, sparsity
from coursekit.measure._error import mse, sqnr_db
from coursekit.measure._memory import peak_memory
from coursekit.measure._size import file_size, saved_size
from coursekit.measure._time import Latency, latency

__all__ = [
    "Comparison",
    "Latency",
    "Row",
    "compare",
    "file_size",
    "latency",
    "macs",
    "mse",
    "n_parameters",
    "nonzero",
    "peak_memory",
    "saved_size",
    "sparsity",
    "sqnr_db",
]
