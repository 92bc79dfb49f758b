"""The MACs of a network whose channels go one after the other, kept up to date without running it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from coursekit.pruning.graph import ChannelGraph, Layer
from coursekit.pruning.groups import Groups

__all__ = ["Budget"]


class Budget:
    """Channels left in each layer, and what removing units saves.

    Attributes: macs: multiply-accumulates of the network as it stands.
    """

    def __init__(self, graph: ChannelGraph, groups: Groups) -> None:
        self._layers = [layer for layer in graph.layers.values() if layer.kind != "batch norm"]
        self._weights = {layer.name: layer for layer in self._layers}
        self._left = {layer.name: (len(layer.ins), len(layer.outs)) for layer in self._layers}
        self._uses: dict[int, list[tuple[str, int, int]]] = {}
        for layer in self._layers:
            ins, outs = (Counter(groups.units(labels).tolist()) for labels in (layer.ins, layer.outs))
            for unit in ins.keys() | outs.keys():
                if unit >= 0:
                    self._uses.setdefault(unit, []).append((layer.name, ins[unit], outs[unit]))
        self.macs = sum(self._cost(layer, *self._left[layer.name]) for layer in self._layers)

    @staticmethod
    def _cost(layer: Layer, n_in: int, n_out: int) -> int:
        """MACs of a layer with so many channels left."""
        return layer.macs_per_pair * n_out * (1 if layer.depthwise else n_in // layer.groups)

    def _after(self, units: Iterable[int]) -> dict[str, tuple[int, int]]:
        """Channels left in each layer that these units run through, once they are gone."""
        left: dict[str, tuple[int, int]] = {}
        for unit in units:
            for name, ins, outs in self._uses[unit]:
                n_in, n_out = left.get(name, self._left[name])
                left[name] = (n_in - ins, n_out - outs)
        return left

    def may_remove(self, units: Iterable[int]) -> bool:
        """Whether every layer would keep a channel."""
        return all(n_in > 0 and n_out > 0 for n_in, n_out in self._after(units).values())

    def saved(self, units: Iterable[int]) -> int:
        """MACs that removing these units saves, as the network stands."""
        return sum(
            self._cost(self._weights[name], *self._left[name]) - self._cost(self._weights[name], *left)
            for name, left in self._after(units).items()
        )

    def remove(self, units: Iterable[int]) -> None:
        """Takes units away."""
        units = list(units)
        self.macs -= self.saved(units)
        self._left.update(self._after(units))
