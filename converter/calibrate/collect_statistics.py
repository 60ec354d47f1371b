"""Calibration alone: a model in, a statistics file out."""

from dataclasses import replace
from pathlib import Path

from converter.calibrate.calibrate import PROGRAM, calibrate, checkpoint_named
from converter.calibrate.texts import check_texts, text_files
from converter.errors import CalibrationError
from converter.ingest import HubModel, local_path, named_model, open_model
from converter.options import CalibrationOptions, CalibrationText, SourceAccess
from converter.statistics import Statistics
from llama_programs.find import find_program
from output_files.claim import claimed
from output_files.target import check_not_input, check_outputs, made_folder, resolve_target
from terminal.progress import Progress


def collect_statistics(
    model: Path | str,
    target: Path,
    options: CalibrationOptions,
    access: SourceAccess,
    threads: int,
    progress: Progress | None = None,
) -> Statistics:
    """Calibrate a Hugging Face folder or GGUF and keep the statistics of all its matrices.

    Text may name a model of the Hugging Face Hub (`converter.ingest.named_model`). Raises EoqError.
    """
    progress = progress or Progress()
    target, named = resolve_target(target), named_model(model, access.revision)
    with claimed([target], [_if_local(named), *(text.path for text in options.texts)]):
        check_texts(options.texts)
        find_program(PROGRAM, options.llama_bin)  # a folder takes long to open
        model_path = local_path(named, access, target.parent, progress)
        check_outputs([target], [model_path])
        with open_model(model_path, target, access, threads, progress) as source, checkpoint_named(target):
            return calibrate(source, target, options, threads, progress)


def collect_by_text(
    model: Path | str,
    folder: Path,
    options: CalibrationOptions,
    access: SourceAccess,
    threads: int,
    progress: Progress | None = None,
) -> list[Statistics]:
    """Calibrate on each text by itself, with as many tokens each, and keep `folder`/NAME.stats of each.

    So they can be mixed by other weights (`mix_statistics`) without running the model again. Raises EoqError.
    """
    progress = progress or Progress()
    named = named_model(model, access.revision)
    find_program(PROGRAM, options.llama_bin)
    with text_files(options) as texts:
        targets = [folder / f"{text.path.stem}.stats" for text in texts]
        twice = [target.name for target in targets if targets.count(target) > 1]
        if twice:
            raise CalibrationError(f"two of the texts would be kept in {twice[0]}; rename one of them")
        found = []
        tokens = max(options.tokens // len(texts), options.sequence_length)
        with (
            made_folder(folder),
            claimed(targets, [_if_local(named), *(text.path for text in options.texts)]),
            open_model(
                local_path(named, access, folder, progress), folder / "model", access, threads, progress
            ) as source,
        ):
            for target in targets:
                check_not_input(target, source.paths)
            for text, target in zip(texts, targets, strict=True):
                alone = replace(options, texts=(CalibrationText(text.path),), tokens=tokens)
                with checkpoint_named(target):
                    found.append(calibrate(source, target, alone, threads, progress))
        return found


def _if_local(named: Path | HubModel) -> Path | None:
    return named if isinstance(named, Path) else None
