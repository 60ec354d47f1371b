"""What decides the bytes of a conversion, as text: of two runs with equal facts one goes on with the other's work."""

import zlib
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from converter.checkpoint.work_folder import WORK_DIR
from converter.ingest import HubRevision
from converter.options import OWN_TEXT, CalibrationOptions, ConversionOptions
from converter.report.metadata import TOOL
from gguf_files.errors import SourceError
from input_files.ordinary import check_ordinary
from output_files.json_text import plain

_WHOLE_BYTES = 1 << 24
"""Files up to this size, such as configurations and tokenizers, are read to their end; of larger ones the beginning
is, which in files of weights is their head."""
_DECIDING = ("numba", "numpy", "torch")
"""Packages whose sums of floats calibrated conversions are made of; rounding to nearest is exact."""


def conversion_facts(
    files: Iterable[Path], recorded: Sequence[str], options: ConversionOptions, hub: HubRevision | None = None
) -> dict[str, str]:
    """Facts of a conversion of a model in these files, by the name that a user knows them by.

    `recorded` are its options as the output has them, `hub` says what the files are of in the hub's cache. Raises
    SourceError for a file that cannot be read.
    """
    facts = {"a converter": TOOL}
    for text in recorded:
        name, _, value = text.partition("=")
        name = f"--{name}"
        facts[name] = f"{facts[name]}, {value}" if name in facts else value
    if options.quantized_by is not None:
        facts["--quantized-by"] = options.quantized_by
    if options.split is not None:
        facts["splits of at most"] = options.split.text
    if options.source.work_dir is not None:
        facts[WORK_DIR] = str(options.source.work_dir.resolve())
    if hub is not None:
        facts |= hub_facts(hub)
    facts |= {file.name: _of_file(file) for file in files}
    facts |= {f"--hf-option {o.name}": _of_file(o.file) for o in options.source.converter_options if o.file is not None}
    if options.rounding.is_calibrated:
        facts |= {"--threads": str(options.threads), "--device": options.rounding.device}
        facts |= library_versions()
        if options.statistics is None:
            facts |= _of_calibration(options.calibration)
    return _writable(facts)


def hub_facts(revision: HubRevision) -> dict[str, str]:
    """Facts of a model of the Hugging Face Hub that are known before it is downloaded."""
    return {f"the commit of {revision.id}": revision.commit}


def library_versions() -> dict[str, str]:
    """Of the packages whose sums of floats decide the bytes of calibrated conversions, by name."""
    return {name: version(name) for name in _DECIDING}


def statistics_facts(path: Path) -> dict[str, str]:
    """Facts of a file of statistics that is the user's. Raises SourceError where it cannot be read."""
    return _writable({f"the statistics {path.name}": _of_file(path)})


def file_facts(paths: Iterable[Path]) -> dict[str, str]:
    """Facts of finished files, by name. Raises SourceError where one cannot be read."""
    return _writable({path.name: _of_file(path) for path in paths})


def _writable(facts: dict[str, str]) -> dict[str, str]:
    """As UTF-8 can have them: the names of files may be in another encoding."""
    return {str(plain(name)): str(plain(value)) for name, value in facts.items()}


def _of_calibration(options: CalibrationOptions) -> dict[str, str]:
    """How much memory it may take makes no difference to its sums."""
    facts = {
        "--calib-tokens": str(options.tokens),
        "--calib-length": str(options.sequence_length),
        "--gpu-layers": str(options.gpu_layers),
        "--all-experts": str(options.all_experts),
        "texts by --calib": str(len(options.texts)),
    }
    for number, text in enumerate(options.texts, 1):
        content = "the model's own" if text.path == OWN_TEXT else _of_file(text.path)
        facts[f"text {number}, {text.path.name}"] = f"{content}, weight {text.weight:g}"
    return facts


def _of_file(path: Path) -> str:
    check_ordinary(path, SourceError)
    try:
        with path.open("rb") as file:
            status = path.stat()
            checksum = zlib.crc32(file.read(_WHOLE_BYTES))
    except OSError as e:
        raise SourceError(f"{path} cannot be read: {e.strerror}") from None
    seconds, nanoseconds = divmod(status.st_mtime_ns, 10**9)
    changed = f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}.{nanoseconds:09}"
    return f"{status.st_size:,} bytes, changed {changed} UTC, CRC-32 {checksum:08x}"
