"""An export from end to end: the codes of a GGUF under the names of the folder that it was made of."""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from converter import ConversionOptions, ConversionProgress, convert
from converter.ingest import local_path, named_model, open_model
from converter.ingest.hf_folder import HfFolder, read_hf_folder
from converter.ingest.safetensors_folder import StoredTensor
from converter.pipeline import check_needs
from eoq_formats import kernels
from eoq_formats.tensors import split
from eoq_formats.types import WeightType
from eoq_transformers.description import NORMS, PACKED, describe
from gguf_files.source import Source, open_gguf
from gguf_files.tensor_types import eoq_type
from gguf_files.weights import RowWorkers, SourceWeights
from hf_export.card import card_text
from hf_export.errors import ExportError
from hf_export.name_map import Placed, check_complete, place_tensors
from hf_export.recorded import recorded_of
from hf_export.shards import ShardWriter, Tensor
from hf_export.stored_rows import as_rounded, as_stored, read_bytes
from inspection.against import compare
from output_files.leftovers import scratch_folder
from output_files.target import check_outputs, check_space
from output_files.whole_folder import check_new_folder, whole_folder

_COPIED = (
    *("tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab*", "merges.txt", "*.model", "*.tiktoken"),
    *("tekken.json", "chat_template*", "generation_config.json", "*processor_config.json", "LICENSE*", "NOTICE*"),
)
"""Files beside the weights that a model is used with."""
_HEAD = "lm_head.weight"


@dataclass(frozen=True)
class ExportOptions:
    """Options of `export`."""

    conversion: ConversionOptions = field(default_factory=ConversionOptions)
    """How the GGUF is made, where there is none yet; and how the model is opened, and with how many threads."""
    gguf: Path | None = None
    """The GGUF whose codes are exported, made from the same model."""
    shard_bytes: int = 5 * 10**9
    """Most bytes of tensors in a file."""
    floats: bool = False
    """Write the floats that the codes stand for, in the dtype of the model's own weights, in place of the codes."""


@dataclass(frozen=True)
class Exported:
    """A folder that is written."""

    folder: Path
    types: Mapping[str, WeightType]
    """By layer: of its codes, also where their floats are written."""
    nbytes: int
    """Of all tensors."""
    notes: tuple[str, ...]


def export(
    model: Path | str, target: Path, options: ExportOptions | None = None, progress: ConversionProgress | None = None
) -> Exported:
    """Write the folder `target`, which transformers loads with `eoq_transformers`: the codes of a GGUF of EOQ types.

    With `options.floats` it is an ordinary folder, which whatever loads the model itself loads.

    `model` is a Hugging Face folder, or text that names one or a model of the hub. The codes are those of
    `options.gguf`, or of the GGUF that `convert` makes with `options.conversion`, bit for bit; what is not in codes
    there is as the model has it, unless the conversion changed it. The GGUF is held against the model before anything
    is written. The folder appears once it is whole. Raises EoqError.
    """
    options, progress = options or ExportOptions(), progress or ConversionProgress()
    access, threads = options.conversion.source_access, options.conversion.threads
    named = named_model(model, access.revision)
    target = check_new_folder(target)
    with ExitStack() as stack:
        model_path = local_path(named, access, target.parent, progress)
        if not model_path.is_dir():
            raise ExportError(
                f"{model_path} is no folder: names, tokenizer and configuration of an export come from a Hugging Face "
                "folder; give that, and the GGUF with --from"
            )
        folder = read_hf_folder(model_path, allow_requantize=False)
        if not folder.tensors:
            raise ExportError(
                f"the folder {model_path} has no safetensors files; save the model anew with transformers"
            )
        if options.gguf is None:
            _check_needs(model_path, target, options.conversion)
        given = None if options.gguf is None else open_gguf(options.gguf)
        source = stack.enter_context(open_model(model_path, target, access, threads, progress))
        scratch = stack.enter_context(scratch_folder(access.work_dir or target.parent))
        file = given or _converted(source, scratch / "model.gguf", options.conversion, progress)
        compared = compare(file, source, threads, progress)
        if compared.faults:
            fault = compared.faults[0]
            raise ExportError(
                f"{file.named} was not made from {model_path}: {fault.tensor}: {fault.text}; give the folder that it "
                "was made from"
            )
        codes = [t for t in file.tensors if eoq_type(t.type) is not None]
        if not codes:
            raise ExportError(f"{file.named} has no tensors of EOQ types, so there are no codes to export")
        size = sum(t.nbytes for t in (folder.tensors if options.floats else file.tensors))
        check_space((target.parent, size, "the folder"))
        kernels.set_threads(threads)
        with RowWorkers(threads) as workers:
            placed = place_tensors(folder.tensors, source, SourceWeights(source, workers), progress)
            check_complete(placed, codes)
            made = stack.enter_context(whole_folder(target))
            shards = ShardWriter(made, options.shard_bytes)
            write_codes = _floats if options.floats else _codes
            read_file = SourceWeights(file, workers)
            types = _write_tensors(folder, placed, file, source, read_file, write_codes, shards, progress)
        shards.finish()
        _copy_files(model_path, made)
        config = dict(folder.config)
        if not options.floats:
            bare = {t.name for t in folder.tensors if t.name in types}
            config["quantization_config"] = describe(types, bare, recorded_of(file))
        (made / "config.json").write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        (made / "README.md").write_text(card_text(file, config, types, target.name, shards.nbytes))
    return Exported(target, types, shards.nbytes, compared.notes)


def _check_needs(model: Path, target: Path, options: ConversionOptions) -> None:
    """Of the conversion, before the model is opened for it."""
    check_needs(model, target, options)
    statistics = options.statistics
    if statistics is not None and not statistics.exists():
        check_outputs([statistics], [model])


def _converted(source: Source, target: Path, options: ConversionOptions, progress: ConversionProgress) -> Source:
    access = replace(options.source, is_intermediate=True)
    convert(source.paths[0], target, replace(options, source=access, projector="none"), progress)
    return open_gguf(target)


def _write_tensors(
    folder: HfFolder,
    placed: Sequence[Placed],
    file: Source,
    source: Source,
    read_file: SourceWeights,
    write_codes: Callable[[Placed, WeightType, Source], Iterator[Tensor]],
    shards: ShardWriter,
    progress: ConversionProgress,
) -> dict[str, WeightType]:
    """Returns the types by layer."""
    places = {one.stored.name: one for one in placed}
    has_head = any(t.name == "output.weight" for t in source.tensors)
    written = {t.name: t for t in file.tensors}
    types: dict[str, WeightType] = {}
    progress.stage("writing the folder", sum(t.weights for t in folder.tensors))
    for t in folder.tensors:
        place = places.get(t.name)
        if place is not None:
            place = replace(place, tensor=written[place.tensor.name])
            eoq = eoq_type(place.tensor.type)
            if eoq is not None:
                types[_layer_of(t)] = eoq
                shards.add(write_codes(place, eoq, file))
            elif _is_unchanged(place, file, source):
                shards.add([_copied(t)])
            else:
                shards.add([_changed(place, read_file)])
        elif has_head or not t.name.endswith(_HEAD):  # else the embeddings serve for it
            shards.add([_copied(t)])
        progress.advance(t.weights)
    return types


def _layer_of(t: StoredTensor) -> str:
    return t.name.removesuffix(".weight")


def _codes(place: Placed, t: WeightType, file: Source) -> Iterator[Tensor]:
    rows = file.rows(place.tensor, place.first, place.first + place.rows)
    packed, norms = split(place.to_folder(rows), t)  # type: ignore[arg-type]
    layer, lead = _layer_of(place.stored), place.stored.shape[:-1]
    yield Tensor(f"{layer}.{PACKED}", "U8", (*lead, packed.shape[-1]), packed.tobytes())
    yield Tensor(f"{layer}.{NORMS}", "F16", (*lead, norms.shape[-1]), norms.tobytes())


def _floats(place: Placed, t: WeightType, file: Source) -> Iterator[Tensor]:
    rows = file.rows(place.tensor, place.first, place.first + place.rows)
    dtype, data = as_rounded(kernels.dequantize(place.to_folder(rows), t), place.stored.dtype)  # type: ignore[arg-type]
    yield Tensor(place.stored.name, dtype, place.stored.shape, data)


def _copied(t: StoredTensor) -> Tensor:
    return Tensor(t.name, t.dtype, t.shape, read_bytes(t))


def _is_unchanged(place: Placed, file: Source, source: Source) -> bool:
    """Whether the conversion left the rows as they were."""
    before = next(t for t in source.tensors if t.name == place.tensor.name)
    rows = place.first, place.first + place.rows
    return before.type == place.tensor.type and np.array_equal(
        file.rows(place.tensor, *rows), source.rows(before, *rows)
    )


def _changed(place: Placed, read_file: SourceWeights) -> Tensor:
    """What the conversion folded scales into, or gave another type, in floats."""
    floats = read_file.read(place.tensor, place.first, place.first + place.rows) - np.float32(place.added)
    t = place.stored
    dtype, data = as_stored(place.to_folder(floats), t.dtype)  # type: ignore[arg-type]
    return Tensor(t.name, dtype, t.shape, data)


def _copy_files(source: Path, target: Path) -> None:
    names = {path for pattern in _COPIED for path in source.glob(pattern) if path.is_file()}
    for path in sorted(names):
        shutil.copyfile(path, target / path.name)
