"""A release from end to end: one intermediate GGUF, one calibration, a file of each type, their measurement, a card."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from pathlib import Path

from converter.checkpoint import WorkFolder, conversion_facts, file_facts, work_folder
from converter.errors import OptionError
from converter.ingest import HubModel, hub_revision, local_path, named_model, open_model, source_files
from converter.ingest.projector import find_projector, make_projector, projector_path
from converter.memory import within_memory
from converter.options import OWN_TEXT, ConversionOptions
from converter.pipeline import check_needs, check_splits, convert, statistics_folder
from converter.plan import Plan, resolve_plan
from converter.plan.memory import PlannedFile
from converter.plan.plan import check_readable
from converter.release.files import Release, ReleasedFile
from converter.release.model_card import card_text, check_replaceable, repository_of
from converter.release.names import file_name, model_name
from converter.report import ConversionProgress, ConversionReport, StageClock, report_path
from converter.rounding_method import taken_statistics
from converter.statistics.least_size import least_size
from evaluation import Evaluation, EvaluationError, EvaluationOptions, EvaluationProgress, evaluate
from evaluation.base_logits import digest_of
from evaluation.model_file import describe
from evaluation.perplexity_program import NAME as PERPLEXITY
from gguf_files.source import Source, open_gguf
from input_files.ordinary import check_ordinary
from llama_programs.find import find_program
from output_files.claim import claimed
from output_files.errors import TargetError
from output_files.target import check_outputs, check_space, made_folder
from output_files.whole import write_whole

_WORK = "types"
"""What the work folder is named after: `types.work`, for what all types have in common."""


class ReleaseProgress(ConversionProgress, EvaluationProgress):
    """Hears of the progress of all conversions and of the evaluation. This one stays silent."""

    def file_done(self, report: ConversionReport) -> None:
        """The file of a type is written."""

    def file_kept(self, file: ReleasedFile) -> None:
        """The file of a type is there from the run that broke off."""


def make_release(
    model: Path | str,
    folder: Path,
    types: Sequence[str],
    options: ConversionOptions | None = None,
    progress: ReleaseProgress | None = None,
    text: Path | None = None,
) -> Release:
    """Convert a model to several types by the same statistics, and put a model card beside them.

    The files are called `folder`/NAME-TYPE.gguf; `options` are for all of them, but for their type. Each is what
    `convert` writes by these statistics, and is whole or not there. With `options.resume` finished ones stay, and the
    run goes on with the one that it was at. With a `text`, all are compared on it with the model that they are made of.
    Raises EoqError.
    """
    options, progress = options or ConversionOptions(), progress or ReleaseProgress()
    by_type, folder = _by_type(types, options), folder.absolute()
    named = named_model(model, options.source.revision)
    _check_folder(folder, named)
    _check_text(text, options)
    inputs = [*_local(named), *(t.path for t in options.calibration.texts), *([text] if text else [])]
    with made_folder(folder), ExitStack() as stack:
        card, beside = folder / "README.md", folder / _WORK
        check_replaceable(card)
        written = [card]
        if options.statistics is not None:
            (inputs if options.statistics.exists() else written).append(options.statistics)
        stack.enter_context(claimed(written, inputs))
        check_needs(named, beside, options)
        model_path = local_path(named, options.source_access, folder, progress)
        projector = find_projector(model_path, options.source_access, options.projector)
        options = replace(options, source=replace(options.source, tells_of_senses=projector is None))
        facts = conversion_facts(source_files(model_path), _recorded(by_type), options, hub_revision(model_path))
        work = stack.enter_context(work_folder(beside, options.source.work_dir, facts, resume=options.resume))
        source = stack.enter_context(_opened(model_path, beside, by_type, options, progress, work.source))
        if text is not None:
            describe(source.paths[0], source)  # refuses a model without a vocabulary
        plans = _plans(source, by_type)
        name = model_name(source)
        targets = {type_name: folder / file_name(name, type_name) for type_name in by_type}
        outputs = [path for target in targets.values() for path in (target, report_path(target))]
        check_outputs([*written, *outputs], [*inputs, *source.paths])
        made = None
        if projector is not None:
            inputs = [*inputs, model_path]
            stack.enter_context(claimed([projector_path(folder / f"{name}.gguf", projector.type)], inputs))
            made = make_projector(projector, folder / f"{name}.gguf", work.path, options, progress)
        for type_name, plan in plans.items():
            options = within_memory(options, plan, source)
            check_splits(targets[type_name], plan, options, [*inputs, *source.paths])
        finished = _finished(folder, by_type, work)
        pending = [type_name for type_name in by_type if type_name not in finished]
        _check_space(source, [(targets[t], plans[t]) for t in pending], options, work)
        for file in finished.values():
            progress.file_kept(file)
        revision = hub_revision(model_path)
        origin = revision.url if revision else options.source.origin
        options = replace(options, source=replace(options.source, origin=origin))
        if pending:
            clock = StageClock()
            with taken_statistics(source, work, plans[pending[0]], options, progress, clock) as measured:
                common = replace(options, statistics=None if measured is None else measured.path)
                for type_name in pending:
                    each = replace(common, types=by_type[type_name].types)
                    report = _converted(source, targets[type_name], each, progress)
                    work.finish(type_name, file_facts(report.files))
                    finished[type_name] = ReleasedFile.of(type_name, report.files)
                    progress.file_done(report)
        files = tuple(finished[type_name] for type_name in by_type)
        if made is not None:
            made.put_in_place()
        evaluation = None if text is None else _evaluated(source, files, text, folder, options, progress)
        calibration = open_gguf(files[0].paths[0]).value("eoq.calibration")
        release = Release(
            folder,
            name,
            files,
            tuple(option for option in _recorded(by_type) if not option.startswith("type=")),
            str(calibration) if calibration is not None else None,
            revision.id if revision else repository_of(source),
            options.quantized_by,
            evaluation,
            projector=made,
            text_is_other=options.rounding.is_calibrated and options.statistics is None,
        )
        write_whole(card, card_text(release, source))
        return release


def plan_release(
    model: Path | str,
    folder: Path,
    types: Sequence[str],
    options: ConversionOptions | None = None,
    progress: ConversionProgress | None = None,
) -> dict[Path, PlannedFile]:
    """What `make_release` would write, by file, found without calibrating or writing it. Raises EoqError."""
    options, progress = options or ConversionOptions(), progress or ConversionProgress()
    by_type, folder = _by_type(types, options), folder.absolute()
    named = named_model(model, options.source.revision)
    _check_folder(folder, named)
    check_replaceable(folder / "README.md")
    beside = folder.with_name(f"{folder.name}.gguf")  # the folder may not be there yet
    model_path = local_path(named, options.source_access, folder.parent, progress)
    projector = find_projector(model_path, options.source_access, options.projector)
    options = replace(options, source=replace(options.source, tells_of_senses=projector is None))
    with _opened(model_path, beside, by_type, options, progress, None) as source:
        name = model_name(source)
        beside_all = None if projector is None else projector_path(folder / f"{name}.gguf", projector.type)
        return {
            folder / file_name(name, type_name): replace(PlannedFile.of(plan, source), projector=beside_all)
            for type_name, plan in _plans(source, by_type).items()
        }


def _by_type(types: Sequence[str], options: ConversionOptions) -> dict[str, ConversionOptions]:
    """The options of each type's conversion, by its name in small letters. Raises OptionError or UnknownTypeError."""
    by_type: dict[str, ConversionOptions] = {}
    for text in types:
        each = replace(options, types=replace(options.types, type=text))
        name = each.types.weights.name
        if name in by_type:
            raise OptionError(f"the type {name} is named twice; name each once")
        by_type[name] = each
    if not by_type:
        raise OptionError("no type is named; give some, such as eoq3t,eoq4t")
    return by_type


def _recorded(by_type: Mapping[str, ConversionOptions]) -> list[str]:
    """What decides the bytes of the files, each option once."""
    return list(dict.fromkeys(text for options in by_type.values() for text in options.recorded()))


def _local(named: Path | HubModel) -> list[Path]:
    return [named] if isinstance(named, Path) else []


def _check_folder(folder: Path, named: Path | HubModel) -> None:
    if folder.exists() and not folder.is_dir():
        raise TargetError(f"{folder} is a file, and several types go into a folder; give the name of one")
    if folder.suffix.lower() == ".gguf" and not folder.exists():
        raise TargetError(f"several types go into a folder, and {folder.name} names a file; give the name of a folder")
    if not folder.parent.is_dir():
        raise TargetError(f"the folder {folder.parent} of the output does not exist; make it first")
    if isinstance(named, Path) and named.is_dir() and folder.exists() and folder.samefile(named):
        raise TargetError(f"{folder} is the folder of the model, which has a card of its own; give another folder")


def _check_text(text: Path | None, options: ConversionOptions) -> None:
    """Ask for the text and the program of the evaluation before the long steps."""
    if text is None:
        return
    if check_ordinary(text, EvaluationError, "the text") == 0:
        raise EvaluationError(f"the text {text} is empty; give one with words in it")
    find_program(PERPLEXITY, options.calibration.llama_bin)
    digest = digest_of(text)
    for other in options.calibration.texts:
        if other.path != OWN_TEXT and other.path.is_file() and digest_of(other.path) == digest:
            raise OptionError(
                f"the text {text} is one of the calibration, so that a file would be measured on what it was made by; "
                "give --evaluate another one"
            )


def _opened(
    model_path: Path,
    beside: Path,
    by_type: Mapping[str, ConversionOptions],
    options: ConversionOptions,
    progress: ConversionProgress,
    kept: Path | None,
) -> AbstractContextManager[Source]:
    least_bits = sum(each.types.least_bits_per_weight for each in by_type.values())
    folder = statistics_folder(beside, options)
    return open_model(model_path, beside, options.source_access, options.threads, progress, least_bits, folder, kept)


def _plans(source: Source, by_type: Mapping[str, ConversionOptions]) -> dict[str, Plan]:
    plans = {}
    for type_name, options in by_type.items():
        plans[type_name] = resolve_plan(source.tensors, source.architecture, options.types)
        check_readable(plans[type_name], options.source.allow_requantize)
    return plans


def _finished(folder: Path, types: Iterable[str], work: WorkFolder) -> dict[str, ReleasedFile]:
    """The files of an earlier run, by type, that are still as it has left them."""
    found = {}
    for type_name in types:
        facts = work.finished(type_name)
        paths = tuple(folder / name for name in facts)
        if paths and all(path.is_file() for path in paths) and file_facts(paths) == facts:
            found[type_name] = ReleasedFile.of(type_name, paths)
    return found


def _converted(
    source: Source, target: Path, options: ConversionOptions, progress: ConversionProgress
) -> ConversionReport:
    """Go on only with what was begun, so that `--resume` has nothing to say of the others."""
    begun = options.resume and WorkFolder(target, None).path.exists()
    if source.named != source.paths[0]:
        options = replace(options, source=replace(options.source, is_intermediate=True))
    return convert(source.paths[0], target, replace(options, resume=begun, projector="none"), progress)


def _check_space(
    source: Source, pending: Sequence[tuple[Path, Plan]], options: ConversionOptions, work: WorkFolder
) -> None:
    """For all files that are still to be written, and the statistics."""
    needs = [
        (target.parent, plan.nbytes - WorkFolder(target, None).allocated, f"the output {target.name}")
        for target, plan in pending
    ]
    folder = statistics_folder(work.target, options)
    if folder is not None and not work.statistics.exists() and any(plan.eoq_types for _, plan in pending):
        matrices = ((t.name, t.row_length, t.matrices) for t in source.tensors if t.dimensions > 1)
        needs.append((folder, least_size(matrices), "the statistics"))
    check_space(*needs)


def _evaluated(
    source: Source,
    files: Sequence[ReleasedFile],
    text: Path,
    folder: Path,
    options: ConversionOptions,
    progress: EvaluationProgress,
) -> Evaluation:
    evaluation = EvaluationOptions(
        threads=options.threads,
        gpu_layers=options.calibration.gpu_layers or None,
        llama_bin=options.calibration.llama_bin,
        work_dir=options.source.work_dir or folder,
    )
    return evaluate(source.paths[0], [file.paths[0] for file in files], text, evaluation, progress)
