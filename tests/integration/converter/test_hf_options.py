"""Options of the pinned llama.cpp's converter of Hugging Face folders that are passed on to it."""

import json
from dataclasses import replace
from pathlib import Path

import gguf
import pytest

from converter import ConversionOptions, RoundingOptions, SourceAccess, convert
from converter.checkpoint import conversion_facts
from converter.errors import HfConversionError
from eoq_formats import kernels
from eoq_formats.gguf_registration import register
from eoq_formats.types import weight_type
from gguf_files.errors import SourceError
from output_files.errors import TargetError
from tests.integration.converter.test_hf_folders import stand_in
from tests.samples.tiny_hf_model import write_tiny_llama, write_tiny_mistral

register()


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


@pytest.mark.llama_cpp
def test_mistral_format(tmp_path: Path, folder: Path, llama_source: Path) -> None:
    """Where mistral-common is installed: pip install '.[mistral]'."""
    pytest.importorskip("mistral_common")
    model = tmp_path / "model"
    weights = write_tiny_mistral(model)
    access = SourceAccess(llama_dir=llama_source, hf_options=("mistral-format",))
    options = ConversionOptions(rounding=RoundingOptions(method="nearest", awq=False), source=access)
    convert(model, folder / "m.gguf", options)
    tensors = {t.name: t for t in gguf.GGUFReader(folder / "m.gguf").tensors}
    packed = kernels.quantize(weights["model.layers.0.mlp.up_proj.weight"], weight_type("eoq4"))
    assert tensors["blk.0.ffn_up.weight"].data.tobytes() == packed.data.tobytes()
    with pytest.raises(SourceError, match=r"it has no config\.json"):
        convert(model, folder / "x.gguf", replace(options, source=SourceAccess(llama_dir=llama_source)))


def test_mistral_format_reads_no_other(tmp_path: Path, folder: Path) -> None:
    tree = stand_in(tmp_path, "import sys\nraise SystemExit('--mistral-format' in sys.argv and 'asked for it')")
    model = tmp_path / "model"
    write_tiny_mistral(model)
    (model / "model.safetensors").write_bytes(b"no weights")
    access = SourceAccess(llama_dir=tree, hf_options=("mistral-format",))
    options = ConversionOptions(rounding=RoundingOptions(method="nearest", awq=False), source=access)
    with pytest.raises(HfConversionError, match="asked for it"):
        convert(model, folder / "m.gguf", options)
    (model / "consolidated.safetensors").unlink()
    with pytest.raises(SourceError, match=r"no weights in Mistral's format, consolidated\*\.safetensors"):
        convert(model, folder / "m.gguf", options)
    assert not list(folder.iterdir())
