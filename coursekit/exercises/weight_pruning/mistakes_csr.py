"""Known mistakes in writing compressed sparse rows."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from coursekit.exercises.spec import Mistake
from coursekit.exercises.weight_pruning.properties_masks import with_zeros

__all__ = ["TO_CSR", "csr_probes"]

Parts = tuple[Tensor, Tensor, Tensor]


def csr_probes() -> list[tuple[Any, ...]]:
    """Matrices with empty rows, with more than 127 columns, and with both signs."""
    return [
        (with_zeros(6, 5),),
        (with_zeros(3, 200, seed=4),),
        (torch.tensor([[1.0, -2.0], [0.0, 0.0], [0.0, 3.0]]),),
    ]


def _parts(weight: Tensor, where: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """values, rows, columns (int64), and how many there are in each row."""
    rows, columns = (weight != 0 if where is None else where).nonzero(as_tuple=True)
    return weight[rows, columns], rows, columns, torch.bincount(rows, minlength=len(weight))


def _starts(counts: Tensor) -> Tensor:
    return torch.cat([counts.new_zeros(1), counts.cumsum(0)]).to(torch.int32)


def _right(weight: Tensor, where: Tensor | None = None) -> Parts:
    values, _, columns, counts = _parts(weight, where)
    return values, columns.to(torch.int16), _starts(counts)


def _flat(weight: Tensor) -> Parts:
    values, rows, columns, counts = _parts(weight)
    return values, (rows * weight.shape[1] + columns).to(torch.int16), _starts(counts)


def _rows(weight: Tensor) -> Parts:
    values, rows, columns, _ = _parts(weight)
    return values, columns.to(torch.int16), rows.to(torch.int32)


def _counts(weight: Tensor) -> Parts:
    values, _, columns, counts = _parts(weight)
    return values, columns.to(torch.int16), counts.to(torch.int32)


def _skips_empty(weight: Tensor) -> Parts:
    values, _, columns, counts = _parts(weight)
    return values, columns.to(torch.int16), _starts(counts[counts > 0])


def _by_columns(weight: Tensor) -> Parts:
    values, columns, rows, _ = _parts(weight.T)
    counts = torch.bincount(rows, minlength=len(weight))
    return values, columns.to(torch.int16), _starts(counts)


def _ends(weight: Tensor) -> Parts:
    values, columns, starts = _right(weight)
    return values, columns, starts[1:]


def _without_end(weight: Tensor) -> Parts:
    values, columns, starts = _right(weight)
    return values, columns, starts[:-1]


def _int64(weight: Tensor) -> Parts:
    values, columns, starts = _right(weight)
    return values, columns.long(), starts.long()


def _int8(weight: Tensor) -> Parts:
    values, columns, starts = _right(weight)
    return values, columns.to(torch.int8).to(torch.int16), starts


TO_CSR = (
    Mistake("flat_positions", "Your columns count on through the whole matrix. In each row they start again at 0: that "
            "is why they fit into 16 bits.", _flat),
    Mistake("row_of_each_value", "You store the row of each value. That is the coordinate format; here one number a "
            "row says where it starts.", _rows),
    Mistake("counts_not_starts", "You store how many values each row has. Add them up: a row starts where the last one "
            "ended.", _counts),
    Mistake("no_first_zero", "Your row_starts lack the 0 in front: the first row starts there.", _ends),
    Mistake("no_last_end",
            "Your row_starts lack the end of the last row: they have one entry more than there are rows.",
            _without_end),
    Mistake("skips_empty_rows", "A row without values is missing from row_starts. It is there, and ends where it "
            "starts: torch.bincount has minlength.", _skips_empty),
    Mistake("column_by_column", "Your values run down the columns. They must run along the rows.", _by_columns),
    Mistake("drops_negatives", "You keep only what is above 0. A negative weight is not zero.",
            lambda weight: _right(weight, weight > 0)),
    Mistake("keeps_zeros", "You store every entry, zeros too. Only the others are worth a place.",
            lambda weight: _right(weight, torch.ones_like(weight, dtype=torch.bool))),
    Mistake("int64", "The numbers are right, but in int64: eight bytes for every position, twice the value itself.",
            _int64),
    Mistake("int8_columns", "Your columns went through int8, which ends at 127.", _int8),
)  # fmt: skip
