"""Techniques one after the other: pipelines measured stage by stage, and the search for one that meets a budget."""

from coursekit.pipeline.accounting import (
    accuracy_front,
    bytes_by_part,
    choose_candidate,
    combined_ratio,
    run_pipeline,
)
from coursekit.pipeline.builders import ComprehensiveModelCompressor, OptimizationPipeline
from coursekit.pipeline.container import pack_container, unpack_container
from coursekit.pipeline.search import Budget, BudgetError, Candidate, SearchConfig, search
from coursekit.pipeline.source import load_network
from coursekit.pipeline.stages import Pipeline, Stage, StageLedger, Step, measure_stages, step_name
from coursekit.pipeline.steps import (
    Distil,
    FineTune,
    NamedStep,
    Trainer,
    cut_channels,
    fine_tune,
    fold_norms,
    integer_weights,
    low_rank,
    prune,
    share,
    short_floats,
    tucker,
)

__all__ = [
    "Budget",
    "BudgetError",
    "Candidate",
    "ComprehensiveModelCompressor",
    "Distil",
    "FineTune",
    "NamedStep",
    "OptimizationPipeline",
    "Pipeline",
    "SearchConfig",
    "Stage",
    "StageLedger",
    "Step",
    "Trainer",
    "accuracy_front",
    "bytes_by_part",
    "choose_candidate",
    "combined_ratio",
    "cut_channels",
    "fine_tune",
    "fold_norms",
    "integer_weights",
    "load_network",
    "low_rank",
    "measure_stages",
    "pack_container",
    "prune",
    "run_pipeline",
    "search",
    "share",
    "short_floats",
    "step_name",
    "tucker",
    "unpack_container",
]
