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
    lines = [
        *("---", front, "---", "", f"# {name}", ""),
        f"A {architecture} whose weights are EOQ codes, {size_text(nbytes)} in all"
        + (f", made from {base}." if base else "."),
        f"{made} codes are those of a GGUF with the same types, bit for bit.",
        "",
        *("| type | bits a weight | block | layers |", "|---|--:|--:|--:|", *rows, ""),
        *("```python", "import eoq_transformers", "from transformers import AutoModelForCausalLM, AutoTokenizer", ""),
        f'folder = "{name}"',
        "model = AutoModelForCausalLM.from_pretrained(folder)",
        "# or with the codes in memory in place of floats:",
        "config = eoq_transformers.model_config(folder, dequantize=False)",
        "model = AutoModelForCausalLM.from_pretrained(folder, config=config)",
        *("tokenizer = AutoTokenizer.from_pretrained(folder)", "```", ""),
    ]
    return "\n".join(lines).encode(errors="replace").decode()
