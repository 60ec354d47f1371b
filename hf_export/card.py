"""The model card of an exported folder."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import yaml

from converter.release.model_card import repository_of
from eoq_formats.types import WeightType
from gguf_files.source import Source
from output_files.sizes import size_text

_TAGS = ("eoq", "quantized")


def card_text(file: Source, config: Mapping[str, Any], types: Mapping[str, WeightType], name: str, nbytes: int) -> str:
    """Markdown with the fields that the Hugging Face Hub reads, for codes of a GGUF `file`."""
    fields: dict[str, object] = {}
    base = repository_of(file)
    if base:
        fields |= {"base_model": base, "base_model_relation": "quantized"}
    license = file.value("general.license")
    if isinstance(license, str) and license:
        fields["license"] = license
    fields |= {"library_name": "transformers", "tags": list(_TAGS)}
    front = yaml.safe_dump(fields, sort_keys=False, allow_unicode=True).rstrip("\n")
    counts = Counter(types.values())
    rows = [
        f"| {t.name} | {t.bits_per_weight:g} | {t.width} | {counts[t]} |" for t in sorted(counts, key=lambda t: t.id)
    ]
    method = file.value("eoq.method")
    architecture = next(iter(config.get("architectures") or ()), "model")
    made = f"Rounded by `{method}`; the" if isinstance(method, str) else "The"
    is_packed = "quantization_config" in config
    if is_packed:
        what, equal = "EOQ codes", "codes are those of a GGUF with the same types, bit for bit."
    else:
        what, equal = "what EOQ codes stand for", "weights are those of a GGUF with these types, rounded to the dtype."
    lines = [
        *("---", front, "---", "", f"# {name}", ""),
        f"A {architecture} whose weights are {what}, {size_text(nbytes)} in all"
        + (f", made from {base}." if base else "."),
        f"{made} {equal}",
        "",
        *("| type | bits a weight | block | layers |", "|---|--:|--:|--:|", *rows, ""),
        *_usage(name, is_packed),
    ]
    return "\n".join(lines).encode(errors="replace").decode()


def _usage(name: str, is_packed: bool) -> list[str]:
    lines = ["```python", *(["import eoq_transformers"] if is_packed else [])]
    lines += ["from transformers import AutoModelForCausalLM, AutoTokenizer", "", f'folder = "{name}"']
    lines += ["model = AutoModelForCausalLM.from_pretrained(folder)"]
    if is_packed:
        lines += [
            "# or with the codes in memory in place of floats:",
            "config = eoq_transformers.model_config(folder, dequantize=False)",
            "model = AutoModelForCausalLM.from_pretrained(folder, config=config)",
        ]
    return [*lines, "tokenizer = AutoTokenizer.from_pretrained(folder)", "```", ""]
