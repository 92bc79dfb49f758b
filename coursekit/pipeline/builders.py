"""The two pipelines of the tutorials this course mirrors, under their names, on top of `Pipeline`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from coursekit.data import Dataset
from coursekit.pipeline.stages import Pipeline, StageLedger, measure_stages
from coursekit.pipeline.steps import NamedStep, Trainer, integer_weights, low_rank, prune, share

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["ComprehensiveModelCompressor", "OptimizationPipeline"]


class ComprehensiveModelCompressor:
    """Collects steps, then runs them on a copy of the model: `add_pruning(0.5).add_quantization(8).compress()`.

    Args:   model: left as it is. data: what accuracy is measured on. finetune: trains after each step, if given.
    Source: Taught in lesson 15.
    """

    def __init__(self, model: nn.Module, data: Dataset, *, finetune: Trainer | None = None) -> None:
        self.original_model, self.data, self.finetune = model, data, finetune
        self.compression_pipeline: list[NamedStep] = []
        self.compression_stats: StageLedger | None = None

    def add_pruning(self, sparsity: float = 0.5) -> ComprehensiveModelCompressor:
        """As `coursekit.pipeline.prune`."""
        return self._add(prune(sparsity, finetune=self.finetune))

    def add_quantization(self, bits: int = 8) -> ComprehensiveModelCompressor:
        """As `coursekit.pipeline.integer_weights`; zeros stay zeros, and `bits` counts."""
        return self._add(integer_weights(bits, finetune=self.finetune))

    def add_weight_sharing(self, clusters: int = 256) -> ComprehensiveModelCompressor:
        """As `coursekit.pipeline.share`."""
        return self._add(share(clusters, finetune=self.finetune))

    def add_low_rank(self, energy: float = 0.9) -> ComprehensiveModelCompressor:
        """As `coursekit.pipeline.low_rank`: by energy, since half of all ranks would save nothing in a square layer."""
        return self._add(low_rank(energy, finetune=self.finetune))

    def _add(self, step: NamedStep) -> ComprehensiveModelCompressor:
        self.compression_pipeline.append(step)
        return self

    def compress(self) -> nn.Module:
        """The compressed network; `compression_stats` then has a row a stage.

        Raises: as `Pipeline`.
        """
        made, self.compression_stats = Pipeline(self.compression_pipeline, data=self.data)(
            self.original_model
        )
        return made

    def analyze_compression(self, compressed: nn.Module) -> StageLedger:
        """The original and a compressed network side by side: bytes of their files, accuracy, agreement.

        Raises: as `measure_stages`.
        """
        return measure_stages({"original": self.original_model, "compressed": compressed}, self.data)[1]


class OptimizationPipeline:
    """Steps applied one at a time, with a look after each: `apply_pruning`, `apply_quantization`, `run_pipeline`.

    Args:   model: left as it is. data: what accuracy is measured on. finetune: trains after each step, if given.
    Source: Taught in lesson 15.
    """

    def __init__(self, model: nn.Module, data: Dataset, *, finetune: Trainer | None = None) -> None:
        self.original_model, self.data, self.finetune = model, data, finetune
        self._stages: dict[str, nn.Module] = {"original": model}

    @property
    def optimized_model(self) -> nn.Module:
        """What the last step made; the original before the first."""
        return list(self._stages.values())[-1]

    def apply_pruning(self, amount: float = 0.5) -> nn.Module:
        """Prunes what there is now, as `coursekit.pipeline.prune`."""
        return self._apply(prune(amount, finetune=self.finetune))

    def apply_quantization(self, bits: int = 8) -> nn.Module:
        """Puts the weights of what there is now on a grid, as `coursekit.pipeline.integer_weights`."""
        return self._apply(integer_weights(bits, finetune=self.finetune))

    def _apply(self, step: NamedStep) -> nn.Module:
        made = step(self.optimized_model)
        self._stages[f"{len(self._stages)}: {step.name}"] = made
        return made

    def evaluate(self) -> StageLedger:
        """A row for the original and for every step so far.

        Raises: as `measure_stages`.
        """
        return measure_stages(self._stages, self.data)[1]

    def run_pipeline(self, prune_amount: float = 0.5) -> StageLedger:
        """Pruning and quantization, and the row of each."""
        self.apply_pruning(prune_amount)
        self.apply_quantization()
        return self.evaluate()

    def visualize_results(self) -> Axes:
        """Accuracy against bytes, stage by stage."""
        return self.evaluate().plot()
