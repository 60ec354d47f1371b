"""Options that several command lines have in common. Nothing heavy is loaded for --help."""

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from converter.options import CalibrationOptions, SourceAccess
    from converter.plan.planners import BudgetRequest


# after each product OpenBLAS's threads wait for the next one busily, on the cores that torch's are at work on by then
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")


_MOST_MEMORY = 2.0**30
"""GiB."""


def add_calibration_options(group: argparse._ActionsContainer) -> None:
    """Add the options that `calibration_options` reads."""
    add = group.add_argument
    add(
        "--calib",
        metavar="FILE[:WEIGHT]",
        action="append",
        default=[],
        help="text, conversations in .jsonl, or self for what the model writes itself; may be repeated, each counts by "
        "its weight, 1 if there is none (default: texts of several kinds that come with EOQ)",
    )
    add("--calib-tokens", type=int, metavar="N", help="most tokens, over all texts (default: 131072)")
    add("--calib-length", type=int, metavar="N", help="tokens in a sequence (default: 512)")
    add("--calib-memory", type=float, metavar="GIB", help="for sums of moments at a time (default: 4)")
    add("--gpu-layers", type=int, metavar="N", help="layers that llama.cpp calibrates on the GPU (default: 0)")
    add("--all-experts", action="store_true", help="let every expert of a mixture see every token when calibrating")
    add_llama_bin(group)


def add_llama_bin(group: argparse._ActionsContainer) -> None:
    """Add the folder in which `find_program` looks."""
    group.add_argument(
        "--llama-bin", type=Path, metavar="DIR", help="folder of llama.cpp programs (default: those of eoq setup)"
    )


def calibration_options(arguments: argparse.Namespace) -> "CalibrationOptions":
    """Raises OptionError."""
    from converter.errors import OptionError
    from converter.options import CalibrationOptions, CalibrationText, split_weight

    memory = arguments.calib_memory
    if memory is not None and not 0 < memory < _MOST_MEMORY:
        raise OptionError(f"--calib-memory must be a number of GiB above 0, not {memory:g}")
    return CalibrationOptions(
        **given(
            tokens=arguments.calib_tokens,
            sequence_length=arguments.calib_length,
            gpu_layers=arguments.gpu_layers,
            memory_limit=None if memory is None else max(1, int(memory * 2**30)),
        ),
        texts=tuple(CalibrationText(*split_weight(text)) for text in arguments.calib),
        all_experts=arguments.all_experts,
        resume=arguments.resume,
        llama_bin=arguments.llama_bin,
    )


MODEL_HELP = "Hugging Face model folder, GGUF file (the first of its splits), or id on the Hugging Face Hub (org/name)"


def add_source_options(parser: argparse.ArgumentParser, beside: str) -> None:
    """Add what `source_access` reads, and --threads; the intermediate GGUF goes `beside` something by default."""
    add = parser.add_argument
    tree = "llama.cpp tree to convert Hugging Face folders with"
    add("--threads", type=int, metavar="N", help="threads to work with (default: all cores)")
    add(
        "--revision",
        metavar="REV",
        help="branch, tag or commit of a model that is named by its id on the Hugging Face Hub (default: main)",
    )
    add(
        "--hf-option",
        metavar="OPT[=VALUE]",
        action="append",
        default=[],
        help="option of llama.cpp's converter of Hugging Face folders, without its dashes; may be repeated",
    )
    add("--llama-dir", type=Path, metavar="DIR", help=f"{tree} (default: that of eoq setup)")
    add(
        "--work-dir",
        type=Path,
        metavar="DIR",
        help=f"where intermediate files lie meanwhile (default: beside {beside})",
    )


def source_access(arguments: argparse.Namespace, *, allow_requantize: bool = False) -> "SourceAccess":
    """How the model is opened."""
    from converter.options import SourceAccess

    return SourceAccess(
        allow_requantize,
        arguments.llama_dir,
        arguments.work_dir,
        revision=arguments.revision,
        hf_options=tuple(arguments.hf_option),
    )


def add_budget_options(group: argparse._ActionsContainer) -> None:
    """Add what `budget_request` reads, but for --context."""
    size = group.add_mutually_exclusive_group()
    size.add_argument("--target-bpw", type=float, metavar="X", help="bits a weight over all tensors, at most")
    size.add_argument("--target-size", metavar="SIZE", help="of the file, at most: 700MB, 3.5GiB")
    size.add_argument("--fit-memory", metavar="SIZE", help="for weights, the cache of --context tokens, and buffers")
    group.add_argument(
        "--codes",
        choices=("scalar", "trellis"),
        help="types to choose from below 6 bits: eoq2 to eoq5, or eoq2t to eoq5t (default: trellis)",
    )


def budget_request(
    arguments: argparse.Namespace, context: int, *, needs_unit: bool = False, **others: Any
) -> "BudgetRequest":
    """Raises OptionError, also for sizes without a unit where they need one."""
    from converter.plan.planners import Budget, BudgetRequest
    from converter.sizes import parse_size

    sizes = {"--target-size": arguments.target_size, "--fit-memory": arguments.fit_memory}
    size, memory = (text and parse_size(text, option if needs_unit else None) for option, text in sizes.items())
    budget = Budget(arguments.target_bpw, size, memory, context)
    return BudgetRequest(budget, **given(codes=arguments.codes), **others)


def add_log_json(group: argparse._ActionsContainer) -> None:
    """Add the place of an EventLog."""
    group.add_argument(
        "--log-json",
        metavar="FILE",
        help="also tell of progress in JSON lines, for programs; - for standard error, which has nothing else then "
        "(default: no such log)",
    )


def given(**options: object) -> dict[str, Any]:
    """The options that were given, so that the others keep the defaults of the library."""
    return {name: value for name, value in options.items() if value is not None}
