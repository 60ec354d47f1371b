"""The model card of a release: README.md, with the fields that the Hugging Face Hub reads."""

import re
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import yaml

from converter.release.files import Release
from converter.report.metadata import TOOL
from evaluation import Evaluation
from gguf_files.source import Source
from gguf_files.tensor_types import type_name
from input_files.ordinary import read_text
from output_files.errors import TargetError
from terminal.table import markdown_table
from terminal.text import printable

_MARK = re.compile(r"<!-- written by EOQ, CRC-32 ([0-9a-f]{8}); once edited, it is not replaced -->\n\Z")
_MOST_BYTES = 1 << 24
_PIPELINE_TAGS = (
    *("text-generation", "image-text-to-text", "any-to-any", "audio-text-to-text", "feature-extraction"),
    *("sentence-similarity", "text-ranking", "text-classification", "fill-mask", "translation"),
)
"""Tasks of the hub that models in GGUF are for. llama.cpp's converter puts a model's among its tags."""
_REPOSITORY = re.compile(r"https?://(?:huggingface\.co|hf\.co)/(?P<id>[\w.-]+/[\w.-]+?)(?:/tree/.*)?/?")
_KNOWN_LICENSE = re.compile(r"[a-z0-9][a-z0-9.-]*")
_TAGS = ("gguf", "llama.cpp", "eoq", "quantized")


def check_replaceable(card: Path) -> None:
    """Raise TargetError for a card that is somebody's own, or was edited since it was written."""
    if not card.exists():
        return
    text = read_text(card, TargetError, "the model card", most=_MOST_BYTES)
    mark = _MARK.search(text)
    if mark is None or int(mark[1], 16) != _checksum(text[: mark.start()]):
        raise TargetError(
            f"{card} is there and was not written by EOQ, or was edited since; rename it, or give another folder: a "
            "model card goes beside the files"
        )


def repository_of(source: Source) -> str | None:
    """`org/name` on the hub, as the metadata of a GGUF tells where it was made from."""
    for key in ("general.source.repo_url", "general.source.url", "general.repo_url"):
        value = source.value(key)
        if isinstance(value, str) and (found := _REPOSITORY.fullmatch(value)):
            return found["id"]
    return None


def card_text(release: Release, source: Source) -> str:
    """Markdown. It ends in a mark by which `check_replaceable` knows it again."""
    lines = ["---", _front_matter(release, source), "---", "", *_body(release, source), ""]
    text = "\n".join(lines).encode(errors="replace").decode()
    return f"{text}<!-- written by EOQ, CRC-32 {_checksum(text):08x}; once edited, it is not replaced -->\n"


def _checksum(text: str) -> int:
    return zlib.crc32(text.encode())


def _front_matter(release: Release, source: Source) -> str:
    own = _list(source, "general.tags")
    task = next((tag for tag in own if tag in _PIPELINE_TAGS), None)
    fields: dict[str, object] = {}
    if release.repository:
        fields |= {"base_model": release.repository, "base_model_relation": "quantized"}
    fields |= _license(source)
    if languages := _list(source, "general.languages"):
        fields["language"] = list(languages)
    fields["library_name"] = "gguf"
    if task:
        fields["pipeline_tag"] = task
    if release.quantized_by:
        fields["quantized_by"] = release.quantized_by
    fields["tags"] = list(dict.fromkeys([*_TAGS, *(tag for tag in own if tag != task)]))
    dumped: str = yaml.safe_dump(fields, sort_keys=False, allow_unicode=True)
    return dumped.rstrip("\n")


def _license(source: Source) -> dict[str, object]:
    """As the source says. The hub knows the names of licences in small letters, and `other` with a name of its own."""
    texts = {key: source.value(f"general.{key}") for key in ("license", "license.name", "license.link")}
    license, name, link = (value if isinstance(value, str) and value.strip() else None for value in texts.values())
    if license is None:
        return {}
    fields: dict[str, object] = {"license": license}
    if not _KNOWN_LICENSE.fullmatch(license):
        fields, name = {"license": "other"}, name or license
    return fields | ({"license_name": name} if name else {}) | ({"license_link": link} if link else {})


def _list(source: Source, key: str) -> tuple[str, ...]:
    return next((entry.texts for entry in source.metadata if entry.key == key), ())


def _about_projector(release: Release) -> list[str]:
    if release.projector is None:
        return []
    name, first = release.projector.target.name, release.files[0].paths[0].name
    return [
        f"`{name}` is for {release.projector.senses}, with each of the types:",
        "",
        "```",
        f"llama-server -m {first} --mmproj {name}",
        "```",
        "",
    ]


def _body(release: Release, source: Source) -> Iterator[str]:
    first = release.files[0]
    made_from = f"[{release.repository}](https://huggingface.co/{release.repository})" if release.repository else None
    yield from (f"# {release.name} in EOQ types", "")
    yield (
        f"GGUF files of {made_from or release.name} at {_bits(release)} bits a weight, in tensor types of EOQ: blocks "
        "of weights are rotated, and stored as codes of Lloyd-Max or trellis tables."
    )
    yield from ("", _table(release), "")
    if release.evaluation is not None:
        yield _measured(release.evaluation, source) + (
            " The text is none of those of the calibration." if release.text_is_other else ""
        )
        yield ""
    yield from (
        "## How to run",
        "",
        "**A stock llama.cpp refuses these files**: it does not know their tensor types. It takes the llama.cpp that "
        "EOQ patches; `eoq setup` fetches, patches and builds it. Then:",
        "",
        "```",
        f"llama-cli -hf {release.hub_name}:{first.type.upper()}",
        f"llama-cli -m {first.paths[0].name}",
        "```",
        "",
        *_about_projector(release),
        "## How they were made",
        "",
        f"With {TOOL}:",
        "",
        "```",
        f"eoq convert MODEL FOLDER --type {','.join(file.type for file in release.files)}",
        "```",
        "",
        f"Options: {', '.join(f'`{option}`' for option in release.options) or 'none'}. "
        + (
            f"Calibration: {printable(release.calibration)}."
            if release.calibration
            else "No calibration: rounded to nearest."
        ),
        "",
    )


def _measured(evaluation: Evaluation, source: Source) -> str:
    weights: Counter[str] = Counter()
    for t in source.tensors:
        weights[type_name(t.type).upper()] += t.weights
    return (
        f"Measured by llama-perplexity on {printable(evaluation.text.name)} (sha256 {evaluation.text_sha256[:12]}), "
        f"{evaluation.chunks} x {evaluation.context} tokens, {evaluation.scored} of which are scored. The base is the "
        f"model in {weights.most_common(1)[0][0]}. KLD is the mean Kullback-Leibler divergence of the distributions of "
        "the next token from the base's; ± is one standard error."
    )


def _bits(release: Release) -> str:
    bits = sorted(file.bits_per_weight for file in release.files)
    return f"{bits[0]:.2f}" if len(bits) == 1 else f"{bits[0]:.2f} to {bits[-1]:.2f}"


def _table(release: Release) -> str:
    head, rows = ["file", "type", "MB", "bits a weight"], []
    if release.evaluation is not None:
        head += ["KLD", "perplexity", "over base"]
        base = release.evaluation.base_perplexity
        rows.append(["the base", "", "", "", "0", f"{base.value:.4f} ± {base.error:.4f}", "1"])
    for file in release.files:
        splits = f" and {len(file.paths) - 1} more" if len(file.paths) > 1 else ""
        row = [f"{file.paths[0].name}{splits}", file.type.upper(), f"{file.nbytes / 1e6:.1f}"]
        row.append(f"{file.bits_per_weight:.3f}")
        if (m := release.measurement(file)) is not None:
            pairs = ((m.divergence.kld, 5), (m.divergence.perplexity, 4), (m.perplexity_ratio, 4))
            row += [f"{e.value:.{digits}f} ± {e.error:.{digits}f}" for e, digits in pairs]
        rows.append(row)
    return markdown_table(head, rows)
