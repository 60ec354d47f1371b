"""The conversion from end to end: runs the stages, knows their order and nothing of their insides."""

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

from converter.calibrate.calibrate import PROGRAM
from converter.calibrate.texts import check_texts
from converter.checkpoint import TensorJournal, WorkFolder, check_resumable, conversion_facts, hub_facts, work_folder
from converter.checkpoint.tensor_journal import FinishedTensor
from converter.errors import StatisticsError
from converter.ingest import HubModel, HubRevision, hub_revision, local_path, named_model, open_model, source_files
from converter.ingest.projector import find_projector, make_projector, projector_path
from converter.memory import within_memory
from converter.options import ConversionOptions
from converter.plan import Plan, Proposals, TensorPlan, resolve_plan
from converter.plan.memory import PlannedFile
from converter.plan.plan import check_readable
from converter.plan.planners import BudgetRequest
from converter.plan.planners.sized import propose_before_statistics, propose_to_size
from converter.remote import rounding_on
from converter.report import ConversionProgress, ConversionReport, StageClock, TensorRecord, report_path
from converter.report.as_json import write_report
from converter.report.metadata import target_metadata
from converter.rounded_tensors import TensorMaker
from converter.rounding_method import rounding_method, taken_statistics
from converter.statistics import open_statistics
from converter.statistics.least_size import least_size
from gguf_files.output import GgufOutput
from gguf_files.output.splits import split_paths, split_tensors, stale_files
from gguf_files.source import Source
from gguf_files.weights import RowWorkers
from llama_programs.check_gguf import check_by_llama_cpp
from llama_programs.find import find_program
from output_files.claim import claimed
from output_files.errors import TargetError
from output_files.target import check_outputs, check_space, resolve_target
from output_files.whole import explained

_log = logging.getLogger("eoq")


def convert(
    model: Path | str,
    target: Path | str,
    options: ConversionOptions | None = None,
    progress: ConversionProgress | None = None,
    proposals: Proposals | BudgetRequest | None = None,
) -> ConversionReport:
    """Convert a model, a Hugging Face folder or a GGUF file, to a GGUF file with EOQ tensor types.

    `model` may be text that names one of the Hugging Face Hub (`converter.ingest.named_model` tells which does).

    `proposals` are a plan's types for weights that no override names (`converter.plan.read_plan_file`), or a budget,
    for which they are planned by the statistics of this conversion (`BudgetRequest`, but for its own). `target`, or its
    splits, appear, or are replaced, only once all of them are written and checked; a report in JSON lies beside
    them (`ConversionReport.path`). Until then the work is in a folder beside `target`, which stays when it breaks off;
    with `options.resume` the next run goes on with it. Rounded to nearest, the same model and options give the same
    bytes. With calibration they do so on one machine and number of threads: matrix products sum in an order of the
    library's choice. Raises EoqError (see converter.errors and eoq_formats.errors) for all that a user can mend.
    """
    clock = StageClock()
    options, progress = options or ConversionOptions(), progress or ConversionProgress()
    named, target = named_model(model, options.source.revision), resolve_target(Path(target))
    recorded = _recorded(options, proposals)
    with ExitStack() as stack:
        outputs, inputs = _files(named, target, options)
        stack.enter_context(claimed(outputs, inputs))
        check_needs(named, target, options)
        maker_of = stack.enter_context(rounding_on(options, progress))
        check = partial(_check_same_revision, target, options)
        model_path = local_path(named, options.source_access, target.parent, progress, check)
        check_outputs(outputs, [model_path])
        projector = find_projector(model_path, options.source_access, options.projector)
        if projector is not None:
            inputs = [*inputs, model_path]
            stack.enter_context(claimed([projector_path(target, projector.type)], inputs))
        facts = conversion_facts(source_files(model_path), recorded, options, hub_revision(model_path))
        work = stack.enter_context(work_folder(target, options.source.work_dir, facts, resume=options.resume))
        made = make_projector(projector, target, work.path, options, progress)
        if made is not None:
            options = replace(options, source=replace(options.source, tells_of_senses=False))
        source = stack.enter_context(_opened(model_path, target, options, progress, work))
        workers = stack.enter_context(RowWorkers(options.threads))
        plan = _plan_ahead(source, options, proposals)
        options = within_memory(options, plan, source)
        check_splits(target, plan, options, [*inputs, *source.paths])
        _check_space(source, target, plan, options, work)
        clock.add("reading the model", clock.total)
        with taken_statistics(source, work, plan, options, progress, clock) as measured:
            if isinstance(proposals, BudgetRequest):
                with clock.stage("planning"):
                    taken = None if measured is None else measured.path
                    chosen = propose_to_size(source, proposals, options, taken, work.plan, progress)
                    plan = _plan(source, options, chosen)
                options = within_memory(options, plan, source)
            method = rounding_method(source, measured, plan, options, workers, progress, clock)
            plan = method.plan  # it may have grown
            check_splits(target, plan, options, [*inputs, *source.paths])
            check_space((target.parent, plan.nbytes - work.allocated, f"the output {target.name}"))
            metadata = target_metadata(
                source.metadata,
                plan,
                recorded,
                method.name,
                method.statistics,
                {} if measured is None else measured.imatrix,
                options.quantized_by,
                hub.url if (hub := hub_revision(model_path)) else options.source.origin,
            )
            output = GgufOutput(
                target,
                metadata,
                plan.outputs,
                source.alignment,
                with_checksums=True,
                split=options.split,
                work=work.path,
            )
            work_of = method.rounder.work
            progress.stage("quantising", sum(map(work_of, plan.tensors)))
            with output, clock.stage("rounding and writing"):
                records = _write(plan, maker_of(method), work_of, output, work, progress)
                source.check_unchanged()
                progress.stage("checking the output", 0)
                read_back = _ReadBack(source, options)
                output.commit(read_back)
                if made is not None:
                    made.put_in_place()
            work.remove()
        report = ConversionReport(
            target,
            tuple(records),
            source.nbytes,
            output.size,
            clock.total,
            clock.stages,
            method.name,
            tuple(recorded),
            method.statistics,
            method.folds,
            (*method.notes, *([made.note] if made is not None and made.note else [])),
            method.coverage,
            output.paths,
            read_back.answer.text,
            made,
        )
        write_report(report)
        return report


def _write(
    plan: Plan,
    maker: TensorMaker,
    work_of: Callable[[TensorPlan], int],
    output: GgufOutput,
    work: WorkFolder,
    progress: ConversionProgress,
) -> list[TensorRecord]:
    """Write what an earlier run has not written already. Returns the records of all tensors, in their order."""
    journal = TensorJournal(work.journal, output.bring_to_disk)
    earlier = journal.read(plan.tensors)
    restored = output.restore({number: tensor.checksum for number, tensor in earlier.items()})
    journal.begin(earlier[number] for number in sorted(restored))
    records = {number: earlier[number].record for number in restored}
    numbers = {tensor.tensor.name: number for number, tensor in enumerate(plan.tensors)}
    if records:
        progress.skip(sum(work_of(plan.tensors[number]) for number in records))
        progress.tensors_kept([records[number] for number in sorted(records)], len(plan.tensors))
    with journal:
        for made in maker.make([tensor for number, tensor in enumerate(plan.tensors) if number not in records]):
            number = numbers[made.plan.tensor.name]
            checksum = output.write_tensor(made.pieces, number)
            records[number] = made.record()
            journal.add(FinishedTensor(checksum, records[number]))
            progress.tensor_done(records[number], len(records), len(plan.tensors))
    return [records[number] for number in range(len(plan.tensors))]


def dry_run(
    model: Path | str,
    target: Path | str,
    options: ConversionOptions | None = None,
    progress: ConversionProgress | None = None,
    proposals: Proposals | BudgetRequest | None = None,
) -> PlannedFile:
    """What `convert` would write, found without calibrating or writing it. Raises EoqError as `convert` does.

    A Hugging Face folder is made into an intermediate GGUF for it, whose tensors have the names that a plan uses.
    """
    options, progress = options or ConversionOptions(), progress or ConversionProgress()
    target = resolve_target(Path(target))
    if isinstance(proposals, BudgetRequest) and statistics_folder(target, options) is not None:
        raise StatisticsError(
            "a plan for a size goes by statistics, and --dry-run takes none: give --stats with a file that is there "
            "(`eoq stats collect MODEL FILE` makes it, or a conversion with --stats), or leave --dry-run out"
        )
    named = named_model(model, options.source.revision)
    model_path = local_path(named, options.source_access, target.parent, progress)
    projector = find_projector(model_path, options.source_access, options.projector)
    options = replace(options, source=replace(options.source, tells_of_senses=projector is None))
    with _opened(model_path, target, options, progress) as source:
        plan = _plan_ahead(source, options, proposals)
        if isinstance(proposals, BudgetRequest):
            chosen = propose_to_size(source, proposals, options, options.statistics, None, progress)
            plan = _plan(source, options, chosen)
        path = None if projector is None else projector_path(target, projector.type)
        return replace(PlannedFile.of(plan, source), projector=path)


def _check_same_revision(target: Path, options: ConversionOptions, revision: HubRevision) -> None:
    """Before it is downloaded. Raises ResumeError where the work to go on with is of another one."""
    if options.resume:
        check_resumable(target, options.source.work_dir, hub_facts(revision))


def _files(named: Path | HubModel, target: Path, options: ConversionOptions) -> tuple[list[Path], list[Path]]:
    """What is written, and what is read as far as it is known before the model is open."""
    outputs, inputs = [target, report_path(target)], [text.path for text in options.calibration.texts]
    inputs += [option.file for option in options.source.converter_options if option.file is not None]
    if isinstance(named, Path):
        inputs.insert(0, named)
    if options.statistics is not None:
        (inputs if options.statistics.exists() else outputs).append(options.statistics)
    return outputs, inputs


def check_needs(named: Path | HubModel, target: Path, options: ConversionOptions) -> None:
    """Ask for texts, statistics, device and program before the long steps. Raises EoqError."""
    if options.rounding.is_calibrated:
        check_texts(options.calibration.texts)
    if options.statistics is not None and options.statistics.exists():
        open_statistics(options.statistics)  # what is damaged is refused before the model is looked at
    if options.rounding.is_calibrated and options.rounding.device != "cpu":
        from converter.torch_settings import check_device  # torch takes seconds to load

        check_device(options.rounding.device)
    is_folder = isinstance(named, HubModel) or named.is_dir()
    if is_folder and statistics_folder(target, options) is not None:
        find_program(PROGRAM, options.calibration.llama_bin)


def _opened(
    model_path: Path,
    target: Path,
    options: ConversionOptions,
    progress: ConversionProgress,
    work: WorkFolder | None = None,
) -> AbstractContextManager[Source]:
    least_bits = options.types.least_bits_per_weight
    folder = statistics_folder(target, options)
    kept = work.source if work else None
    return open_model(model_path, target, options.source_access, options.threads, progress, least_bits, folder, kept)


def statistics_folder(target: Path, options: ConversionOptions) -> Path | None:
    """Where a calibration for this conversion is put; None where none is needed."""
    if not options.rounding.is_calibrated or (options.statistics is not None and options.statistics.exists()):
        return None
    return options.statistics.absolute().parent if options.statistics else options.source.work_dir or target.parent


def check_splits(target: Path, plan: Plan, options: ConversionOptions, inputs: Sequence[Path]) -> None:
    """Where there may be splits, refuse those that would be written over an input, and older ones beside them."""
    if options.split is None:
        return
    paths = split_paths(target, len(split_tensors(plan.outputs, options.split)))
    check_outputs(paths, inputs)
    read = {path.resolve() for path in inputs}
    with explained(f"cannot read the folder {target.parent}"):
        stale = [path for path in stale_files(target, len(paths)) if path not in read]
    if stale:
        count = f"{len(paths)} splits" if len(paths) > 1 else "one file"
        raise TargetError(
            f"{stale[0]} is left of an older output, and the new one becomes {count}; remove it, or give another name"
        )


def _check_space(source: Source, target: Path, plan: Plan, options: ConversionOptions, work: WorkFolder) -> None:
    needs = [(target.parent, plan.nbytes - work.allocated, f"the output {target.name}")]
    folder = statistics_folder(target, options)
    if folder is not None and plan.eoq_types and not work.statistics.exists():
        matrices = ((t.name, t.row_length, t.matrices) for t in source.tensors if t.dimensions > 1)
        needs.append((folder, least_size(matrices), "the statistics"))
    check_space(*needs)


def _recorded(options: ConversionOptions, proposals: Proposals | BudgetRequest | None) -> list[str]:
    if isinstance(proposals, BudgetRequest):
        return options.recorded(budget=proposals.recorded)
    return options.recorded(None if proposals is None else f"{proposals.planner}, {proposals.digest}")


def _plan_ahead(source: Source, options: ConversionOptions, proposals: Proposals | BudgetRequest | None) -> Plan:
    """The plan as far as it is known before statistics are."""
    if isinstance(proposals, BudgetRequest):
        proposals = propose_before_statistics(source, proposals, options)
    return _plan(source, options, proposals)


def _plan(source: Source, options: ConversionOptions, proposals: Proposals | None) -> Plan:
    plan = resolve_plan(source.tensors, source.architecture, options.types, proposals)
    check_readable(plan, options.source.allow_requantize)
    return plan


class _ReadBack:
    """Shows the output to llama.cpp's own reader, and keeps the answer. Raises RefusedByLlamaCpp."""

    def __init__(self, source: Source, options: ConversionOptions) -> None:
        self._source, self._options = source, options

    def __call__(self, files: Mapping[Path, Path]) -> None:
        folder = self._options.calibration.llama_bin
        self.answer = check_by_llama_cpp(files, self._source.paths, folder, self._options.threads)
