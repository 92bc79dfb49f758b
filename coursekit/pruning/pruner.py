"""Pruning by magnitude in steps, on one model, to absolute targets."""

from __future__ import annotations

from torch import Tensor, nn

from coursekit.pruning.attach import attach_masks, finalize, masks_from_zeros, masks_of
from coursekit.pruning.masks import Scope, make_masks, sparsity_of
from coursekit.pruning.scores import magnitude_scores, prunable

__all__ = ["MagnitudePruner"]


class MagnitudePruner:
    """Prunes a model by magnitude, further with each call, and keeps it pruned while it trains.

    Weights that are zero to begin with count as pruned and stay so.

    Args:    model: changed in place. output_layer: False leaves the last layer whole.
    Raises:  ValueError as `prunable`.
    Source:  Han et al. 2015, arXiv:1506.02626. Taught in lesson 05.
    """

    def __init__(self, model: nn.Module, *, output_layer: bool = True) -> None:
        self.model = model
        self.names = prunable(model, output_layer=output_layer)
        attach_masks(model, masks_from_zeros(model, self.names))

    @property
    def masks(self) -> dict[str, Tensor]:
        """Name to mask, True = kept."""
        attached = masks_of(self.model)
        return {name: attached[name] for name in self.names}

    def prune(self, sparsity: float, scope: Scope = "global") -> float:
        """Prunes until `sparsity` of all weights are gone, counting those that were before; returns what was reached.

        The target is absolute: `prune(0.5)` and then `prune(0.5)` again changes nothing.

        Raises: ValueError if it is outside 0..1, or below what is gone already.
        """
        scores = magnitude_scores(self.model, self.names)
        attach_masks(self.model, make_masks(scores, sparsity, scope, within=self.masks))
        return sparsity_of(self.masks)

    def sparsities(self) -> dict[str, float]:
        """Layer to the share of its weights that are zero, counted on the weights themselves."""
        zeros = masks_from_zeros(self.model, self.names)
        return {name: sparsity_of({name: kept}) for name, kept in zeros.items()}

    def finalize(self) -> None:
        """Makes the zeros permanent; the model is a plain network again."""
        finalize(self.model)
