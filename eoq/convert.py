"""Convert a model to a GGUF file with EOQ tensor types."""

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from eoq.common_options import (
    MODEL_HELP,
    add_budget_options,
    add_calibration_options,
    add_log_json,
    add_source_options,
    budget_request,
    calibration_options,
    given,
    source_access,
)
from terminal.event_log import EventLog
from terminal.text import say
from terminal.tool import run_tool

if TYPE_CHECKING:
    from converter import BudgetRequest, ConversionOptions
    from converter.plan import Proposals
    from converter.plan.memory import PlannedFile
    from gguf_files.output import SplitLimit

EXAMPLES = """\
examples:
  eoq convert models/SmolLM2-135M smollm2-EOQ4.gguf --stats smollm2.stats
  eoq convert HuggingFaceTB/SmolLM2-135M-Instruct smollm2-EOQ4.gguf
  eoq convert model-F16.gguf model-EOQ3.gguf --type eoq3 --tensor-type 'ffn_down=eoq4'
  eoq convert model-F16.gguf model-EOQ4.gguf --calib my-text.txt --stats model.stats
  eoq convert model-F16.gguf model-EOQ4.gguf --imatrix imatrix.gguf
  eoq convert model-F16.gguf model-ewq.gguf --plan plan.json --dry-run
  eoq convert models/SmolLM2-135M-eoq4t smollm2-EOQ4T.gguf
  eoq convert models/SmolLM2-135M folder --type eoq3t,eoq4t,eoq5t --evaluate text.txt
  eoq convert model-F16.gguf model-5GB.gguf --target-size 5.2GB
  eoq convert model-F16.gguf model-8GiB.gguf --fit-memory 8GiB --context 8192
"""

_AWQ = {"auto": None, "on": True, "off": False}
_FOR_CODES = (
    *("model", "output", "threads", "revision", "hf_option", "llama_dir", "work_dir", "llama_bin", "mmproj"),
    *("split_max_size", "split_max_tensors", "quantized_by", "quiet", "log_json"),
)
"""What can be chosen for a folder that has codes already."""
_CONTEXT = 4096
"""Tokens that memory is counted for where the model does not say how many it was trained on."""


def make_parser(prog: str | None = None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog, description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("model", metavar="MODEL", help=MODEL_HELP)
    add(
        "output",
        metavar="OUT.gguf",
        type=Path,
        help="file to write, or folder for several types; existing files are replaced when they are done",
    )
    add(
        "--type",
        metavar="TYPE[,TYPE…]",
        help="eoq2 … eoq6, eoq2t … eoq5t (default: eoq4); several make a folder of files by one calibration",
    )
    add("--output-type", metavar="TYPE", help="type of output.weight, or of tied token embeddings (default: eoq6)")
    add("--token-embd-type", metavar="TYPE", help="type of the token embeddings (default: as the other weights)")
    add(
        "--tensor-type",
        metavar="REGEX=TYPE",
        action="append",
        default=[],
        help="type of the weights whose GGUF name the expression is found in; the first match wins; may be repeated",
    )
    add("--plan", type=Path, metavar="FILE", help="types by a plan of eoq plan, or your own, in JSON or TOML")
    size = parser.add_argument_group("a size in place of a type (one of the first three)")
    add_budget_options(size)
    size.add_argument(
        "--context",
        type=int,
        metavar="N",
        help="tokens of context to count memory for, with --fit-memory (default: 4096) and --dry-run (default: as many "
        "as the model was trained on)",
    )
    add("--dry-run", action="store_true", help="print types, sizes and memory, and write nothing")
    method = parser.add_argument_group("calibration")
    how = method.add_argument
    how("--rtn", action="store_true", help="round to nearest, without calibration: fast, and much worse")
    how(
        "--rounding",
        choices=("feedback", "nearest"),
        default="feedback",
        help="feedback (default): each column makes up for the errors of those before; nearest: each weight by itself",
    )
    how(
        "--awq",
        choices=tuple(_AWQ),
        default="auto",
        help="scale channels before rounding; auto: at two bits, and without error feedback (default: auto)",
    )
    how(
        "--stats",
        metavar="FILE",
        type=Path,
        help="use these statistics; if there is no such file, calibrate and keep the statistics in it",
    )
    how("--imatrix", metavar="FILE", type=Path, help="use llama.cpp's imatrix in place of a calibration; less precise")
    how("--allow-partial-stats", action="store_true", help="accept an imatrix that lacks over a tenth of the weights")
    add_calibration_options(method)
    how("--device", metavar="DEVICE", help="PyTorch device to round on: cpu (default), cuda, cuda:1, mps")
    how("--damping", type=float, metavar="X", help="of error feedback, relative to the inputs' energy (default: 0.02)")
    how(
        "--shrinkage",
        type=float,
        metavar="X",
        help="share of the inputs' correlations not to rely on (default: 0.5 up to 52,000 tokens, 0.2 from 131,072 on)",
    )
    how("--effort", type=int, metavar="N", help="how widely to search eoq2t to eoq5t, 1 (fast) to 3 (default: 2)")
    add(
        "--mmproj",
        choices=("f16", "bf16", "f32", "q8_0", "none"),
        help="type of the file for images and sound, mmproj-OUT-TYPE.gguf, that is written beside the output of a "
        "folder with such parts; none: leave them out (default: f16)",
    )
    add("--allow-requantize", action="store_true", help="accept a model that is quantised already")
    add("--resume", action="store_true", help="go on with a conversion to OUT.gguf that broke off, if there is one")
    add(
        "--split-max-size",
        metavar="SIZE",
        help="write splits of that many bytes of tensors at most, such as 8G or 500M",
    )
    add("--split-max-tensors", metavar="N", type=int, help="write splits of that many tensors at most")
    add(
        "--max-memory",
        metavar="SIZE",
        help="most memory to take, such as 12G: what cannot keep to it is refused (default: no bound)",
    )
    add_source_options(parser, beside="the output")
    ray = "round on a Ray cluster whose nodes see the same files: HOST:PORT, or auto for that of this machine"
    add("--ray", metavar="ADDRESS", help=f"{ray} (default: on this machine alone)")
    add(
        "--evaluate",
        metavar="FILE",
        type=Path,
        help="for several types: measure the files on this text, other than that of the calibration, for their card "
        "(default: no measurement)",
    )
    add("--quantized-by", metavar="NAME", help="who makes the file, for its metadata (default: as the model has it)")
    add("--table", action="store_true", help="print a table of errors by tensor at the end")
    add("--quiet", action="store_true", help="print nothing but errors")
    add_log_json(parser)
    return parser


def parse_arguments(words: Sequence[str] | None, prog: str | None) -> argparse.Namespace:
    parser = make_parser(prog)
    arguments = parser.parse_args(words)
    if arguments.stats and arguments.imatrix:
        parser.error("--stats and --imatrix are two sources of the same statistics; give one")
    if arguments.resume and arguments.dry_run:
        parser.error("--dry-run begins nothing that could be gone on with; leave --resume out")
    if arguments.rtn and (arguments.stats or arguments.imatrix or arguments.calib):
        parser.error("--rtn uses no statistics; leave --stats, --imatrix and --calib out")
    if arguments.evaluate and "," not in (arguments.type or ""):
        parser.error("--evaluate is for several types, whose card has the results; for one file there is eoq eval")
    if arguments.plan and "," in (arguments.type or ""):
        parser.error("--plan would give all types the same tensors; leave it out, or name one type")
    sizes = ("target_bpw", "target_size", "fit_memory")
    named = next((f"--{name.replace('_', '-')}" for name in sizes if getattr(arguments, name) is not None), None)
    if named and arguments.plan:
        parser.error(f"{named} makes a plan, and --plan is one; give one of them")
    if named and arguments.type:
        parser.error(f"{named} chooses the types; leave --type out, or fix types by --tensor-type")
    if arguments.codes and not named:
        parser.error("--codes is for --target-size, --target-bpw and --fit-memory; give one of them")
    if arguments.context is not None and arguments.fit_memory is None and not arguments.dry_run:
        parser.error("--context is for --fit-memory and --dry-run; give one of them")
    if arguments.context is not None and arguments.context < 1:
        parser.error("the context must have at least one token")
    return arguments


def run(arguments: argparse.Namespace, log: EventLog) -> None:
    from converter import ConversionOptions, ConversionProgress, RoundingOptions, TypeOptions, convert, dry_run
    from converter.errors import StatisticsError
    from converter.ingest.stored_quantization import has_own_codes
    from converter.plan.tables import size_lines, split_lines, tensor_lines
    from converter.report import report_path
    from converter.report.display import ConversionDisplay
    from converter.report.logged_conversion import LoggedConversion, totals
    from converter.sizes import parse_size
    from output_files.target import check_outputs

    if has_own_codes(Path(arguments.model)):
        _restore(arguments, log)
        return
    types = (arguments.type or "").split(",")
    outputs = [arguments.output, report_path(arguments.output)] if len(types) == 1 else []
    log.open(outputs)
    if arguments.imatrix and not arguments.imatrix.exists():
        raise StatisticsError(f"the imatrix {arguments.imatrix} does not exist; make it with llama-imatrix")
    check_outputs(outputs, [arguments.plan])
    options = ConversionOptions(
        types=TypeOptions(
            output_type=arguments.output_type,
            token_embd_type=arguments.token_embd_type,
            tensor_types=tuple(arguments.tensor_type),
            **given(type=types[0] if arguments.type is not None else None),
        ),
        rounding=RoundingOptions(
            method="nearest" if arguments.rtn else arguments.rounding,
            awq=False if arguments.rtn else _AWQ[arguments.awq],
            **given(
                damping=arguments.damping,
                shrinkage=arguments.shrinkage,
                effort=arguments.effort,
                device=arguments.device,
            ),
        ),
        statistics=arguments.stats or arguments.imatrix,
        allow_partial_statistics=arguments.allow_partial_stats,
        calibration=calibration_options(arguments),
        source=source_access(arguments, allow_requantize=arguments.allow_requantize),
        projector=arguments.mmproj,
        ray=arguments.ray,
        split=_split_limit(arguments),
        quantized_by=arguments.quantized_by,
        resume=arguments.resume,
        max_memory=None if arguments.max_memory is None else parse_size(arguments.max_memory, "--max-memory"),
        **given(threads=arguments.threads),
    )
    if len(types) > 1:
        _convert_to(types, arguments, options, log)
        return
    proposals = _proposals(arguments)
    if arguments.dry_run:
        progress = LoggedConversion(log, ConversionProgress())
        planned = dry_run(arguments.model, arguments.output, options, progress, proposals)
        splits = split_lines(planned, arguments.output, options.split) if options.split else []
        beside = [f"projector, for images or sound: {path}" for path in _projectors([planned])]
        say([*tensor_lines(planned), "", *size_lines(planned, _context(arguments, planned)), *splits, *beside])
        log.ended(bytes=planned.file_bytes)
        return
    if arguments.quiet:
        progress = LoggedConversion(log, ConversionProgress())
        log.ended(**totals(convert(arguments.model, arguments.output, options, progress, proposals)))
        return
    with ConversionDisplay() as display:
        report = convert(arguments.model, arguments.output, options, LoggedConversion(log, display), proposals)
    display.summary(report)
    if arguments.table:
        display.table(report)
    log.ended(**totals(report))


def _restore(arguments: argparse.Namespace, log: EventLog) -> None:
    """A folder of codes, which are put into a GGUF. Raises OptionError for options that would choose other codes."""
    from converter import CalibrationOptions, ConversionOptions, ConversionProgress
    from converter.errors import OptionError
    from converter.ingest import named_model
    from converter.report import report_path
    from converter.report.display import ConversionDisplay
    from converter.report.logged_conversion import LoggedConversion, totals
    from hf_export import restore

    named_model(arguments.model, arguments.revision)  # it refuses the revision of a path
    usual = make_parser().parse_args(["model", "output"])
    for name, value in vars(arguments).items():
        if name not in _FOR_CODES and value != getattr(usual, name):
            raise OptionError(
                f"{arguments.model} has EOQ codes already, which go into the GGUF as they are; leave "
                f"--{name.replace('_', '-')} out, or convert the original model"
            )
    log.open([arguments.output, report_path(arguments.output)])
    options = ConversionOptions(
        calibration=CalibrationOptions(llama_bin=arguments.llama_bin),
        source=source_access(arguments),
        projector=arguments.mmproj,
        split=_split_limit(arguments),
        quantized_by=arguments.quantized_by,
        **given(threads=arguments.threads),
    )
    task = Path(arguments.model), arguments.output, options
    if arguments.quiet:
        report = restore(*task, LoggedConversion(log, ConversionProgress()))
    else:
        with ConversionDisplay() as display:
            report = restore(*task, LoggedConversion(log, display))
        display.summary(report)
    log.ended(**totals(report))


def _convert_to(
    types: Sequence[str], arguments: argparse.Namespace, options: "ConversionOptions", log: EventLog
) -> None:
    """Several types, into a folder."""
    from converter.plan.tables import size_lines, split_lines, tensor_lines
    from converter.release import ReleaseProgress, make_release, plan_release
    from converter.release.display import ReleaseDisplay, release_lines
    from converter.release.logged_release import LoggedRelease, release_totals

    if arguments.dry_run:
        progress = LoggedRelease(log, ReleaseProgress())
        release_plan = plan_release(arguments.model, arguments.output, types, options, progress)
        for path, planned in release_plan.items():
            splits = split_lines(planned, path, options.split) if options.split else []
            lines = [*tensor_lines(planned), "", *size_lines(planned, _context(arguments, planned)), *splits]
            say([f"{path.name}:", *lines, ""])
        say(f"projector, for images or sound: {path}" for path in _projectors(release_plan.values()))
        log.ended(bytes=sum(planned.file_bytes for planned in release_plan.values()))
        return
    task = (arguments.model, arguments.output, types, options)
    if arguments.quiet:
        release = make_release(*task, LoggedRelease(log, ReleaseProgress()), arguments.evaluate)
    else:
        with ReleaseDisplay(with_table=arguments.table) as display:
            release = make_release(*task, LoggedRelease(log, display), arguments.evaluate)
        say(release_lines(release))
    log.ended(**release_totals(release))


def _projectors(planned: "Iterable[PlannedFile]") -> list[Path]:
    """Each once."""
    return list(dict.fromkeys(file.projector for file in planned if file.projector is not None))


def _context(arguments: argparse.Namespace, planned: "PlannedFile") -> int:
    """Tokens that memory is counted for in a dry run."""
    trained = None if arguments.fit_memory else planned.trained_context
    return arguments.context or trained or _CONTEXT


def _proposals(arguments: argparse.Namespace) -> "Proposals | BudgetRequest | None":
    """A plan, or what one is to be made for. Raises OptionError."""
    from converter.plan import read_plan_file

    if arguments.plan:
        return read_plan_file(arguments.plan)
    if any(size is not None for size in (arguments.target_bpw, arguments.target_size, arguments.fit_memory)):
        return budget_request(arguments, arguments.context or _CONTEXT, needs_unit=True)
    return None


def _split_limit(arguments: argparse.Namespace) -> "SplitLimit | None":
    """Raises OptionError."""
    from converter.errors import OptionError
    from converter.sizes import parse_size
    from gguf_files.output import SplitLimit

    size, tensors = arguments.split_max_size, arguments.split_max_tensors
    if size is None and tensors is None:
        return None
    nbytes = None if size is None else parse_size(size, "--split-max-size")
    if tensors is not None and tensors < 1:
        raise OptionError(f"--split-max-tensors must be at least 1, not {tensors}")
    return SplitLimit(nbytes, tensors)


def main(words: Sequence[str] | None = None, prog: str | None = None) -> int:
    """The command line; returns the exit status."""
    arguments = parse_arguments(words, prog)
    log = EventLog(arguments.log_json, "convert")
    return run_tool(lambda arguments: run(arguments, log), arguments, log=log)
