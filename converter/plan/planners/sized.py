"""The plan of a conversion to a size: made once its statistics are there, and kept for a run that is resumed."""

from dataclasses import replace
from pathlib import Path

from converter.errors import OptionError
from converter.options import ConversionOptions
from converter.plan.plan_file import as_plan_file, read_plan_file
from converter.plan.planners.propose import make_proposals
from converter.plan.planners.requests import Budget, BudgetRequest
from converter.plan.proposals import Proposals
from gguf_files.source import Source
from output_files.json_text import json_text
from output_files.whole import write_whole
from terminal.progress import Progress

_TEXT_HEAD = 64
"""Bytes of a text's key and length, and more."""


def propose_before_statistics(source: Source, request: BudgetRequest, options: ConversionOptions) -> Proposals:
    """What a budget comes to where all tensors lose alike: what is needed for it is much the same, and so is the size.

    Raises OptionError for a budget that cannot be kept, or that the model as it is keeps.
    """
    request = replace(request, budget=_with_texts(request.budget, options), statistics=None)
    proposals = make_proposals(source, request, options.types, options.threads, Progress()).proposals
    if all(proposal.type is None for proposal in proposals.tensors.values()):
        raise OptionError(
            f"{source.named} as it is keeps to {' '.join(request.budget.recorded)}: there is nothing to quantise; "
            "give less, or use the model as it is"
        )
    return proposals


def propose_to_size(
    source: Source,
    request: BudgetRequest,
    options: ConversionOptions,
    statistics: Path | None,
    kept: Path | None,
    progress: Progress,
) -> Proposals:
    """Proposals with the least loss that a file of statistics predicts; without one all tensors lose alike.

    `kept` is a plan file: what an earlier run has put there is taken, or else this is put there. Raises OptionError,
    StatisticsError or TargetError.
    """
    if kept is not None and kept.exists():
        return read_plan_file(kept)
    request = replace(
        request,
        budget=_with_texts(request.budget, options),
        statistics=statistics,
        allow_partial_statistics=options.allow_partial_statistics,
        rounding=options.rounding,
    )
    proposals = make_proposals(source, request, options.types, options.threads, progress).proposals
    if kept is not None:
        write_whole(kept, json_text(as_plan_file(proposals, {"for": list(request.recorded)}), indent=1) + "\n")
    return proposals


def _with_texts(budget: Budget, options: ConversionOptions) -> Budget:
    """The budget, of which the options' own texts in the metadata take a part."""
    texts = (*options.types.tensor_types, options.quantized_by or "", options.source.origin or "")
    return replace(budget, text_bytes=sum(len(text.encode(errors="replace")) + _TEXT_HEAD for text in texts))
