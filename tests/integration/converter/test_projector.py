"""The file for --mmproj that is written beside a model with parts for images, by the pinned llama.cpp's converter."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from safetensors.numpy import load_file

from converter import ConversionOptions, ConversionReport, RoundingOptions, SourceAccess, convert, dry_run
from converter.errors import HfConversionError, OptionError
from converter.options import PROJECTOR_TYPES
from converter.release import make_release, plan_release
from converter.release.display import release_lines
from converter.report.display import summary_lines
from output_files.claim import kept
from output_files.errors import TargetError
from tests.integration.converter.test_hf_folders import stand_in
from tests.integration.options.tools import options_of
from tests.samples.tiny_hf_model import write_tiny_llama
from tests.samples.tiny_vision_model import write_tiny_smolvlm

pytestmark = pytest.mark.llama_cpp


@pytest.fixture
def model(tmp_path: Path) -> Path:
    write_tiny_smolvlm(tmp_path / "model")
    return tmp_path / "model"


def options(tree: Path, projector: str | None = None, **more: Any) -> ConversionOptions:
    rounding = RoundingOptions(method="nearest", awq=False)
    return ConversionOptions(rounding=rounding, source=SourceAccess(llama_dir=tree), projector=projector, **more)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def summary(report: ConversionReport) -> str:
    return "\n".join(summary_lines(report))


def test_it_is_written_beside_the_model(
    model: Path, folder: Path, llama_source: Path, caplog: pytest.LogCaptureFixture
) -> None:
    planned = dry_run(model, folder / "m.gguf", options(llama_source))
    assert planned.projector == folder / "mmproj-m-F16.gguf" and not names(folder)
    report = convert(model, folder / "m.gguf", options(llama_source))
    assert names(folder) == ["m.gguf", "m.report.json", "mmproj-m-F16.gguf"]
    assert not caplog.messages
    made = gguf.GGUFReader(folder / "mmproj-m-F16.gguf")
    assert made.fields["general.architecture"].contents() == "clip"
    tensors = {t.name: t for t in made.tensors}
    weights = load_file(model / "model.safetensors")
    down = weights["model.vision_model.encoder.layers.0.mlp.fc2.weight"]
    (found,) = [t for name, t in tensors.items() if "ffn_down" in name]
    assert (np.asarray(found.data) == down.astype(np.float16)).all()
    assert len(tensors) == 12 and not any("token_embd" in name or "vision" in name for name in tensors)
    assert not [t.name for t in gguf.GGUFReader(folder / "m.gguf").tensors if t.name.startswith(("v.", "mm."))]
    line = f"projector: {folder}/mmproj-m-F16.gguf: 12 tensors for images, 0.1 MiB; give it with --mmproj"
    assert line in summary(report).splitlines()
    assert json.loads((folder / "m.report.json").read_text())["projector"] == "mmproj-m-F16.gguf"


def test_its_type_is_chosen(model: Path, folder: Path, llama_source: Path, caplog: pytest.LogCaptureFixture) -> None:
    """By --mmproj."""
    choices = options_of("convert")["--mmproj"].action.choices
    assert choices is not None and tuple(choices) == PROJECTOR_TYPES
    convert(model, folder / "m.gguf", options(llama_source, "q8_0"))
    types = {t.tensor_type.name for t in gguf.GGUFReader(folder / "mmproj-m-Q8_0.gguf").tensors}
    assert "Q8_0" in types and "F16" not in types
    caplog.clear()
    convert(model, folder / "n.gguf", options(llama_source, "none"))
    assert names(folder) == ["m.gguf", "m.report.json", "mmproj-m-Q8_0.gguf", "n.gguf", "n.report.json"]
    (note,) = caplog.messages
    assert note.endswith("left out of the model; convert_eoq.py writes them to a file for --mmproj unless it is given "
                         "--mmproj none")  # fmt: skip


def test_a_finished_one_is_kept_for_a_later_run(
    model: Path, folder: Path, llama_source: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def stop(*arguments: object) -> None:
        raise TargetError("stopped")

    kept()
    with monkeypatch.context() as patch:
        patch.setattr("converter.pipeline._write", stop)
        with pytest.raises(TargetError, match="stopped"):
            convert(model, folder / "m.gguf", options(llama_source))
    assert names(folder) == ["m.gguf.work"]
    work = folder / "m.gguf.work"
    assert kept() == [
        f"kept in {work}: the projector and the intermediate GGUF; the same command with --resume goes on with it"
    ]
    inode = (work / "mmproj-f16.gguf").stat().st_ino
    caplog.clear()
    convert(model, folder / "m.gguf", options(llama_source, resume=True))
    assert caplog.messages == [f"note: going on with the projector and the intermediate GGUF of {work}"]
    assert (folder / "mmproj-m-F16.gguf").stat().st_ino == inode
    assert names(folder) == ["m.gguf", "m.report.json", "mmproj-m-F16.gguf"]


def test_a_model_whose_projector_cannot_be_made(
    model: Path, folder: Path, llama_source: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It becomes one for text, unless a projector is asked for."""
    (model / "preprocessor_config.json").unlink()
    with pytest.raises(HfConversionError, match="image_mean"):
        convert(model, folder / "m.gguf", options(llama_source, "f16"))
    assert not names(folder)
    caplog.clear()
    convert(model, folder / "m.gguf", options(llama_source))
    assert names(folder) == ["m.gguf", "m.report.json"]
    first, second = caplog.messages
    assert first.startswith("note: there will be no file for --mmproj, only the model for text: llama.cpp's converter")
    assert "are for images or sound, left out of the model" in second


def test_what_has_none(tmp_path: Path, folder: Path) -> None:
    write_tiny_llama(tmp_path / "llama")
    tree = stand_in(tmp_path, "raise SystemExit('must not run')")
    with pytest.raises(OptionError, match="--mmproj f16 is of what a Hugging Face folder has for images or sound"):
        convert(tmp_path / "llama", folder / "m.gguf", options(tree, "f16"))
    with pytest.raises(OptionError, match="--mmproj is one of f16, bf16, f32, q8_0, none, not q4_0"):
        options(tree, "q4_0")
    assert not names(folder)


def test_it_is_written_over_no_input(model: Path, llama_source: Path) -> None:
    name = "mmproj-m-F16.gguf"
    (model / name).write_bytes(b"mine")
    with pytest.raises(TargetError, match=f"would write over .*{name}, which is read"):
        convert(model, model / "m.gguf", options(llama_source))
    assert (model / name).read_bytes() == b"mine"


def test_several_types_have_one(model: Path, folder: Path, llama_source: Path) -> None:
    types = ("eoq3", "eoq4")
    wanted = options(llama_source, "bf16")
    wanted = replace(wanted, source=replace(wanted.source, hf_options=("model-name=Seer",)))
    planned = plan_release(model, folder / "r", types, wanted)
    assert {file.projector for file in planned.values()} == {folder / "r" / "mmproj-Seer-199K-BF16.gguf"}
    release = make_release(model, folder / "r", types, wanted)
    assert [name for name in names(folder / "r") if name.endswith(".gguf")] == [
        *("Seer-199K-EOQ3.gguf", "Seer-199K-EOQ4.gguf", "mmproj-Seer-199K-BF16.gguf")
    ]
    card = (folder / "r" / "README.md").read_text()
    assert "llama-server -m Seer-199K-EOQ3.gguf --mmproj mmproj-Seer-199K-BF16.gguf\n" in card
    assert sum("mmproj-Seer-199K-BF16.gguf" in line for line in release_lines(release)) == 1
    recorded = gguf.GGUFReader(folder / "r" / "Seer-199K-EOQ3.gguf").fields["eoq.options"].contents()
    assert "hf-option=model-name=Seer" in recorded
