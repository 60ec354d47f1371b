"""Measures how far quantised models are from the one they were made of, by way of llama-perplexity."""

from evaluation.errors import EvaluationError, OutputError
from evaluation.evaluate import EvaluationOptions, evaluate
from evaluation.measurement import Evaluation, Measurement
from evaluation.model_file import ModelFile
from evaluation.perplexity_output import Divergence, Estimate
from evaluation.progress import EvaluationProgress

__all__ = [
    "Divergence",
    "Estimate",
    "Evaluation",
    "EvaluationError",
    "EvaluationOptions",
    "EvaluationProgress",
    "Measurement",
    "ModelFile",
    "OutputError",
    "evaluate",
]
