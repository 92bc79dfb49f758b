"""What counts as the same printed output on another processor, and what does not."""

from __future__ import annotations

import subprocess
import sys

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

from tests.nbval_nearly import alike


@pytest.mark.parametrize(
    ("new", "old", "exact", "varied"),
    [
        ("93.3% right", "93.4% right", True, True),
        ("93.3% right", "93.6% right", False, True),
        ("93.3% right", "87.6% right", False, False),
        ("93.3% right", "93.3% wrong", False, False),
        ("8 of 10", "9 of 10", False, True),
        ("8 of 10", "6 of 10", False, False),
        ("116,067 bytes", "115,924 bytes", False, True),
        ("116,067 bytes", "126,067 bytes", False, False),
        ("error 1.2e-07", "error 1.3e-07", True, True),
        ("error 1.2e-07", "error 3.2e-07", False, False),
        ("x  9.9 y", "x 10.0 y", True, True),
        ("-0.0 points", "+0.1 points", True, True),
        ("63%", "64%", False, True),
        ("conv1 3 x 3", "conv2 3 x 3", False, True),
        ("a 1.0 b 2.0", "a 1.0", False, False),
    ],
)
def test_numbers_that_another_processor_might_print(new, old, exact, varied):
    assert alike(new, old, varies=False) is exact
    assert alike(new, old, varies=True) is varied


@pytest.mark.parametrize(
    ("tagged", "saved", "passes"),
    [
        (False, "0.51\n", True),
        (False, "0.53\n", False),
        (True, "0.53\n", True),
        (True, "0.63\n", False),
    ],
)
def test_nbval_compares_so_below_a_cell_that_varies(tagged, saved, passes, tmp_path):
    saved_output = new_output("stream", name="stdout", text=saved)
    cells = [
        new_code_cell("x = 0.5", metadata={"tags": ["varies"] if tagged else []}),
        new_code_cell("print(f'{x:.2f}')", outputs=[saved_output], execution_count=2),
    ]
    nb = new_notebook(cells=cells, metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}})
    nbformat.write(nb, tmp_path / "small.ipynb")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "--nbval",
        "-p",
        "tests.nbval_nearly",
        "-p",
        "no:cacheprovider",
    ]
    done = subprocess.run(
        [*command, str(tmp_path / "small.ipynb")], capture_output=True, text=True, check=False
    )
    assert (done.returncode == 0) is passes, done.stdout
