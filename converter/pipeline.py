"""The conversion from end to end: runs the stages, knows their order and nothing of their insides."""

import time
from collections.abc import Iterator
from pathlib import Path

from converter.ingest import open_model
from converter.metadata import target_metadata
from converter.options import ConversionOptions
from converter.plan import FixedPlanner, TensorPlan
from converter.plan.plan import check_readable
from converter.progress import Progress
from converter.report import ConversionReport, TensorRecord
from converter.rounding import Rounding, RoundToNearest, copy_rows
from converter.source import Source
from converter.weights import Bytes, RowWorkers, SourceWeights, WeightReader
from converter.write import GgufOutput, check_space, resolve_target


def convert(
    source: Path | str,
    target: Path | str,
    options: ConversionOptions | None = None,
    progress: Progress | None = None,
) -> ConversionReport:
    """Convert a model, a Hugging Face folder or a GGUF file, to a GGUF file with EOQ tensor types.

    `target` appears, or is replaced, only once all of it is written and checked. The same model and options give the
    same bytes. Raises EoqError (see converter.errors and eoq_formats.errors) for all that a user can mend.
    """
    started = time.perf_counter()
    options, progress = options or ConversionOptions(), progress or Progress()
    output_path = resolve_target(Path(target))
    planner = FixedPlanner(options)
    with open_model(Path(source), output_path, options, progress) as model, RowWorkers(options.threads) as workers:
        plan = planner.plan(model.tensors, model.architecture)
        check_readable(plan, options.allow_requantize)
        rounding = RoundToNearest(workers)
        metadata = target_metadata(model.metadata, plan, options, rounding.method)
        output = GgufOutput(output_path, metadata, plan, model.alignment)
        check_space(output_path.parent, output.size, f"the output {output_path.name}")
        progress.stage("quantising", plan.weights)
        weights = SourceWeights(model, workers)
        records = []
        with output:
            for number, tensor in enumerate(plan.tensors, 1):
                records.append(_convert_tensor(tensor, model, weights, rounding, output, progress))
                progress.tensor_done(records[-1], number, len(plan.tensors))
            output.commit()
        return ConversionReport(output_path, tuple(records), model.nbytes, output.size, time.perf_counter() - started)


def _convert_tensor(
    plan: TensorPlan, model: Source, weights: WeightReader, rounding: Rounding, output: GgufOutput, progress: Progress
) -> TensorRecord:
    started = time.perf_counter()
    signal = error = 0.0

    def pieces() -> Iterator[Bytes]:
        nonlocal signal, error
        for rows in copy_rows(plan.tensor, model) if plan.is_copy else rounding.round(plan, weights):
            signal += rows.signal
            error += rows.error
            yield rows.data
            progress.advance(len(rows.data) * plan.tensor.row_length)

    output.write_tensor(pieces())
    return TensorRecord(plan, signal, error, time.perf_counter() - started)
