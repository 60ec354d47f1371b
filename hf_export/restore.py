"""The way back from end to end: the codes of a folder in the GGUF that llama.cpp makes of its floats."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType
from numpy.typing import NDArray

from converter import ConversionOptions, ConversionProgress
from converter.ingest import hub_revision, open_model
from converter.ingest.hub.names import model_name
from converter.ingest.projector import MadeProjector, find_projector, make_projector, projector_path
from converter.options import check_threads
from converter.pipeline import check_splits
from converter.plan import Plan, TensorPlan
from converter.report import ConversionReport, StageClock, TensorRecord, report_path
from converter.report.as_json import write_report
from converter.rounding import copy_rows, row_chunks
from eoq_formats.errors import EoqError
from gguf_files.output import GgufOutput
from gguf_files.source import Source
from gguf_files.weights import RowWorkers, SourceWeights
from hf_export.coded_folder import CodedFolder, CodedLayer, read_coded_folder
from hf_export.numbered_rows import FoundRows, RowNumbers, find_rows
from hf_export.plain_folder import BYTES, dtype_of, write_plain
from hf_export.recorded import CALIBRATION, METHOD, OPTIONS, file_type_of, restored_metadata, value_of
from llama_programs.check_gguf import Answer, check_by_llama_cpp
from output_files.claim import claimed
from output_files.leftovers import scratch_folder
from output_files.target import check_space, resolve_target


def restore(
    folder: Path,
    target: Path | str,
    options: ConversionOptions | None = None,
    progress: ConversionProgress | None = None,
) -> ConversionReport:
    """Write a folder of codes as a GGUF: the same codes, bit for bit, and all else as llama.cpp's converter has it.

    Of `options` count those on access to the model, threads, splits, the projector, who quantised it, and where
    llama.cpp's programs are. The file, and a report beside it, appear once they are whole and checked, as those of
    `convert`. Raises EoqError, for folders that are not sound before anything is written.
    """
    clock = StageClock()
    options, progress = options or ConversionOptions(), progress or ConversionProgress()
    access, threads, target = options.source_access, options.threads, resolve_target(Path(target))
    check_threads(threads)
    work_dir = access.work_dir or target.parent
    inputs = [folder, *(option.file for option in access.converter_options if option.file is not None)]
    with ExitStack() as stack:
        stack.enter_context(claimed([target, report_path(target)], inputs))
        coded = read_coded_folder(folder)
        dtype = dtype_of(coded)
        numbered = sum(layer.rows * layer.row_length for layer in coded.layers) * BYTES[dtype]
        others = sum(t.nbytes for t in coded.others)
        codes = sum(layer.packed.nbytes + layer.norms.nbytes for layer in coded.layers)
        check_space(
            (work_dir, numbered + others, "a folder without codes"),
            (work_dir, numbered + others, "the intermediate GGUF"),
            (target.parent, codes + others, f"the output {target.name}"),
        )
        plain = stack.enter_context(scratch_folder(work_dir)) / model_name(folder)
        stack.enter_context(_called(plain, folder))
        numbers = RowNumbers(coded.layers)
        with clock.stage("reading the folder"):
            write_plain(coded, numbers, dtype, plain, progress)
            made = _projector(plain, target, options, inputs, stack, progress)
            access = replace(access, tells_of_senses=made is None)
            source = stack.enter_context(open_model(plain, target, access, threads, progress))
        workers = stack.enter_context(RowWorkers(threads))
        with clock.stage("finding the rows"):
            found = find_rows(coded.layers, numbers, source, SourceWeights(source, workers), progress)
        plan = _plan(source, found, coded)
        check_splits(target, plan, options, inputs)
        check_space((target.parent, plan.nbytes, f"the output {target.name}"))
        hub = hub_revision(folder)
        origin = hub.url if hub else options.source.origin
        output = GgufOutput(
            target,
            restored_metadata(source, plan, coded.recorded, options.quantized_by, origin),
            plan.outputs,
            source.alignment,
            with_checksums=METHOD in coded.recorded,
            split=options.split,
        )
        answers: list[Answer] = []

        def show(files: Mapping[Path, Path]) -> None:
            answers.append(check_by_llama_cpp(files, source.paths, options.calibration.llama_bin, threads))

        with output, clock.stage("writing"):
            records = _write(plan, found, coded.layers, source, output, progress)
            progress.stage("checking the output", 0)
            output.commit(show)
            if made is not None:
                made.put_in_place()
        report = ConversionReport(
            target,
            tuple(records),
            source.nbytes,
            output.size,
            clock.total,
            clock.stages,
            value_of(coded.recorded, METHOD, str) or "",
            value_of(coded.recorded, OPTIONS, tuple) or (),
            value_of(coded.recorded, CALIBRATION, str),
            notes=(made.note,) if made is not None and made.note else (),
            files=output.paths,
            read_back=answers[0].text,
            projector=made,
        )
        write_report(report)
        return report


@contextmanager
def _called(path: Path, folder: Path) -> Iterator[None]:
    """Errors on the folder that stands for the user's are on that."""
    try:
        yield
    except EoqError as error:
        if str(path) not in str(error):
            raise
        raise type(error)(str(error).replace(str(path), str(folder))) from None


def _projector(
    plain: Path,
    target: Path,
    options: ConversionOptions,
    inputs: Sequence[Path],
    stack: ExitStack,
    progress: ConversionProgress,
) -> MadeProjector | None:
    found = find_projector(plain, options.source_access, options.projector)
    if found is None:
        return None
    stack.enter_context(claimed([projector_path(target, found.type)], inputs))
    # it gets its name by a rename, so it is made on the same disk
    return make_projector(found, target, stack.enter_context(scratch_folder(target.parent)), options, progress)


def _plan(source: Source, found: Mapping[str, FoundRows], coded: CodedFolder) -> Plan:
    tensors = []
    for t in source.tensors:
        if (rows := found.get(t.name)) is None:
            tensors.append(TensorPlan(t, t.type, "no codes"))
        else:
            tensors.append(TensorPlan(t, GGMLQuantizationType(rows.type.id), "codes of the folder"))
    return Plan(tuple(tensors), file_type_of(coded.recorded, tensors))


def _write(
    plan: Plan,
    found: Mapping[str, FoundRows],
    layers: Sequence[CodedLayer],
    source: Source,
    output: GgufOutput,
    progress: ConversionProgress,
) -> list[TensorRecord]:
    progress.stage("writing", sum(t.tensor.weights for t in plan.tensors))
    records: list[TensorRecord] = []
    for number, t in enumerate(plan.tensors):
        started, rows = time.perf_counter(), found.get(t.tensor.name)
        pieces = (part.data for part in copy_rows(t.tensor, source)) if rows is None else _codes(rows, layers)
        output.write_tensor(pieces, number)
        records.append(TensorRecord(t, 0.0, 0.0, time.perf_counter() - started, "copy"))
        progress.advance(t.tensor.weights)
        progress.tensor_done(records[-1], len(records), len(plan.tensors))
    return records


def _codes(rows: FoundRows, layers: Sequence[CodedLayer]) -> Iterator[NDArray[np.uint8]]:
    for start, stop in row_chunks(rows.tensor):
        yield rows.codes(layers, start, stop)
