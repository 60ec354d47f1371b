"""The conversion from end to end: runs the stages, knows their order and nothing of their insides."""

import time
from collections.abc import Iterator
from pathlib import Path

from converter.ingest import open_model
from converter.metadata import target_metadata
from converter.options import ConversionOptions
from converter.plan import FixedPlanner, TensorPlan
from converter.plan.memory import PlannedFile
from converter.plan.plan import check_readable
from converter.preparation import Preparation, prepared
from converter.progress import Progress
from converter.report import ConversionReport, StageClock, TensorRecord, report_path
from converter.report_json import write_report
from converter.rounding import RoundedRows, WeightedError, copy_rows
from converter.source import Source
from converter.weights import Bytes, RowWorkers
from converter.write import GgufOutput, check_not_input, check_space, resolve_target


def convert(
    source: Path | str,
    target: Path | str,
    options: ConversionOptions | None = None,
    progress: Progress | None = None,
) -> ConversionReport:
    """Convert a model, a Hugging Face folder or a GGUF file, to a GGUF file with EOQ tensor types.

    `target` appears, or is replaced, only once all of it is written and checked; a report in JSON lies beside it
    (`ConversionReport.path`). Rounded to nearest, the same model and options give the same bytes. With calibration
    they do so on one machine and number of threads: matrix products sum in an order of the library's choice. Raises
    EoqError (see converter.errors and eoq_formats.errors) for all that a user can mend.
    """
    clock = StageClock()
    options, progress = options or ConversionOptions(), progress or Progress()
    source, output_path = Path(source), resolve_target(Path(target))
    for written in (output_path, report_path(output_path)):
        check_not_input(written, (options.statistics, options.calibration.text))
    planner = FixedPlanner(options, options.proposals)
    with open_model(source, output_path, options, progress) as model, RowWorkers(options.threads) as workers:
        plan = planner.plan(model.tensors, model.architecture)
        check_readable(plan, options.allow_requantize)
        check_space(output_path.parent, plan.nbytes, f"the output {output_path.name}")
        clock.add("reading the model", clock.total)
        with prepared(model, source, output_path, plan, options, workers, progress, clock) as ready:
            metadata = target_metadata(model.metadata, plan, options, ready.method, ready.statistics)
            output = GgufOutput(output_path, metadata, plan.outputs, model.alignment)
            progress.stage("quantising", plan.weights)
            records = []
            with output, clock.stage("rounding and writing"):
                for number, tensor in enumerate(plan.tensors, 1):
                    records.append(_convert_tensor(tensor, model, ready, output, progress))
                    progress.tensor_done(records[-1], number, len(plan.tensors))
                output.commit()
        report = ConversionReport(
            output_path,
            tuple(records),
            model.nbytes,
            output.size,
            clock.total,
            clock.stages,
            ready.method,
            tuple(options.recorded()),
            ready.statistics,
            ready.folds,
            ready.notes,
        )
        write_report(report)
        return report


def dry_run(
    source: Path | str, target: Path | str, options: ConversionOptions | None = None, progress: Progress | None = None
) -> PlannedFile:
    """What `convert` would write, found without calibrating or writing it. Raises EoqError as `convert` does.

    A Hugging Face folder is made into an intermediate GGUF for it, whose tensors have the names that a plan uses.
    """
    options, progress = options or ConversionOptions(), progress or Progress()
    output_path = resolve_target(Path(target))
    with open_model(Path(source), output_path, options, progress) as model:
        plan = FixedPlanner(options, options.proposals).plan(model.tensors, model.architecture)
        check_readable(plan, options.allow_requantize)
        return PlannedFile.of(plan, model)


def _convert_tensor(
    plan: TensorPlan, model: Source, ready: Preparation, output: GgufOutput, progress: Progress
) -> TensorRecord:
    started = time.perf_counter()
    parts: list[RoundedRows] = []

    def pieces() -> Iterator[Bytes]:
        for rows in _rows(plan, model, ready):
            yield rows.data
            parts.append(rows.without_data())
            progress.advance(len(rows.data) * plan.tensor.row_length)

    output.write_tensor(pieces())
    return _record(plan, parts, ready.is_scaled(plan.tensor), time.perf_counter() - started)


def _rows(plan: TensorPlan, model: Source, ready: Preparation) -> Iterator[RoundedRows]:
    if not plan.is_copy:
        return ready.rounding.round(plan, ready.weights)
    return ready.scaled_copy(plan.tensor) if ready.is_scaled(plan.tensor) else copy_rows(plan.tensor, model)


def _record(plan: TensorPlan, parts: list[RoundedRows], is_scaled: bool, seconds: float) -> TensorRecord:
    weighted = [part.weighted for part in parts if part.weighted is not None]
    methods = dict.fromkeys(part.method for part in parts)
    return TensorRecord(
        plan,
        sum(part.signal for part in parts),
        sum(part.error for part in parts),
        seconds,
        " and ".join(methods),
        sum(weighted, start=WeightedError.none()) if weighted else None,
        max((part.damping for part in parts), default=0.0),
        is_scaled,
        tuple(dict.fromkeys(note for part in parts for note in part.notes)),
    )
