"""A plugin for `pytest --nbval`: numbers may differ as far as another processor's arithmetic makes them.

Sums of floats depend on the order of their parts, which MKL and oneDNN choose by the processor. In any cell a number
with decimals may differ by one unit of its last place. A training, or half precision, makes more of such a difference:
from the first cell on that is tagged "varies" a number may also differ by 5 % or five units. Words must agree exactly.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

from nbval import plugin

NUMBER = re.compile(r"[-+−]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?")
compare_outputs = plugin.IPyNbCell.compare_outputs


def near(new: str, old: str, *, varies: bool) -> bool:
    """Whether two printed numbers are as good as equal."""
    a, b = (Decimal(number.replace(",", "").replace("−", "-")) for number in (new, old))
    unit = Decimal(1).scaleb(max(int(number.as_tuple().exponent) for number in (a, b)))
    units = 0 if unit >= 1 and not varies else 5 if varies and unit < 1 else 1
    return abs(a - b) <= max(units * unit, abs(b) / 20 if varies else 0)


def alike(new: str, old: str, *, varies: bool) -> bool:
    """Whether two texts have the same words, whatever the columns between them, and numbers that are near."""
    words = [[" ".join(part.split()) for part in NUMBER.split(text)] for text in (new, old)]
    numbers = [NUMBER.findall(text) for text in (new, old)]
    return words[0] == words[1] and all(near(a, b, varies=varies) for a, b in zip(*numbers, strict=True))


def matched(new: Any, old: Any, *, varies: bool) -> Any:
    """The old outputs, with each text that is alike to its new one replaced by that."""
    if isinstance(new, str) and isinstance(old, str):
        return new if alike(new, old, varies=varies) else old
    if isinstance(new, list) and isinstance(old, list) and len(new) == len(old):
        return [matched(a, b, varies=varies) for a, b in zip(new, old, strict=True)]
    if isinstance(new, dict) and isinstance(old, dict):
        return type(old)({key: matched(new.get(key), value, varies=varies) for key, value in old.items()})
    return old


def follows_a_varying_cell(self: Any) -> bool:
    """Whether a cell, or one above it, is tagged "varies"."""
    for cell in self.parent.nb.cells:
        if "varies" in cell.metadata.get("tags", []):
            return True
        if cell is self.cell:
            break
    return False


def compare(self: Any, test: Any, ref: Any, skip_compare: Any = None) -> bool:
    """nbval's comparison with what was computed now in place of what is as good as equal."""
    close = matched(test, ref, varies=follows_a_varying_cell(self))
    equal: bool = compare_outputs(self, test, close, skip_compare)
    return equal


plugin.IPyNbCell.compare_outputs = compare
