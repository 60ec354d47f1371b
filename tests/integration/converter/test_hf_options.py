"""Options of the pinned llama.cpp's converter of Hugging Face folders that are passed on to it."""

import json
from dataclasses import replace
from pathlib import Path

import gguf
import pytest

from converter import ConversionOptions, RoundingOptions, SourceAccess, convert
from converter.checkpoint import conversion_facts
from converter.errors import HfConversionError
from output_files.errors import TargetError
from tests.samples.tiny_hf_model import write_tiny_llama


@pytest.mark.llama_cpp
def test_they_change_what_the_converter_makes(tmp_path: Path, folder: Path, llama_source: Path) -> None:
    model, card = tmp_path / "model", tmp_path / "card.json"
    write_tiny_llama(model)
    card.write_text(json.dumps({"general.author": "Somebody"}))
    access = SourceAccess(llama_dir=llama_source, hf_options=("model-name=A Name", f"metadata={card}", "fuse-qkv"))
    options = ConversionOptions(rounding=RoundingOptions(method="nearest", awq=False), source=access)
    convert(model, folder / "m.gguf", options)
    made = gguf.GGUFReader(folder / "m.gguf")
    assert [made.fields[f"general.{key}"].contents() for key in ("name", "author")] == ["A Name", "Somebody"]
    assert "blk.0.attn_qkv.weight" in {t.name for t in made.tensors}
    assert str(tmp_path) not in str(made.fields["eoq.options"].contents())

    no_mtp = replace(options, source=SourceAccess(llama_dir=llama_source, hf_options=("no-mtp",)))
    with pytest.raises(HfConversionError, match="not supported for LlamaForCausalLM"):
        convert(model, folder / "x.gguf", no_mtp)
    with pytest.raises(TargetError, match=r"card\.json, which is read"):
        convert(model, card, options)
    assert sorted(path.name for path in folder.iterdir()) == ["m.gguf", "m.report.json"]


def test_a_file_that_has_changed_is_another_conversion(tmp_path: Path) -> None:
    card = tmp_path / "card.json"
    card.write_text("{}")
    options = ConversionOptions(source=SourceAccess(hf_options=(f"metadata={card}",)))
    before = conversion_facts([], options.recorded(), options)
    assert conversion_facts([], options.recorded(), options) == before
    card.write_text('{"general.author": "Somebody"}')
    after = conversion_facts([], options.recorded(), options)
    assert [name for name in after if after[name] != before[name]] == ["--hf-option metadata"]
