"""Parts of a folder that llama.cpp's converter leaves out are named, with what keeps them."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from converter.ingest.hf_convert import convert_to_gguf
from converter.ingest.hf_folder import HfFolder, read_hf_folder
from converter.ingest.left_out import left_out, not_taken_over
from converter.options import SourceAccess
from terminal.progress import Progress
from tests.samples.gguf_samples import write_gguf

MATRIX = np.zeros((8, 128), dtype=np.float32)
TABLE = 'TEXT_MODEL_MAP = {"TextForCausalLM": "t"}\nMMPROJ_MODEL_MAP = {\n    "SeeingForCausalLM": "seeing",\n}\n'


def write_model(tmp_path: Path, *names: str, architecture: str = "SeeingForCausalLM") -> Path:
    folder = tmp_path / "a model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"architectures": [architecture]}))
    save_file(dict.fromkeys(("model.layers.0.mlp.up_proj.weight", *names), MATRIX), folder / "model.safetensors")
    return folder


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "llama cpp" / "conversion").mkdir(parents=True)
    (tmp_path / "llama cpp" / "conversion" / "__init__.py").write_text(TABLE)
    return tmp_path / "llama cpp"


def notes_of(folder: Path, tree: Path) -> list[str]:
    return list(left_out(read_hf_folder(folder, allow_requantize=False), tree))


def test_nothing_is_said_of_a_plain_model(tmp_path: Path, tree: Path) -> None:
    folder = write_model(tmp_path, "model.embed_tokens.weight")
    for name in ("consolidated.safetensors", "adapter_model.safetensors", "model.fp16.safetensors"):
        save_file({"model.embed_tokens.weight": MATRIX}, folder / name)
    assert notes_of(folder, tree) == []


@pytest.mark.parametrize("name", ["vision_tower.encoder.weight", "model.visual.blocks.0.weight", "audio_tower.weight"])
def test_images_and_sound_come_with_the_way_to_keep_them(name: str, tmp_path: Path, tree: Path) -> None:
    folder = write_model(tmp_path, name, "multi_modal_projector.linear.weight")
    (note,) = notes_of(folder, tree)
    assert note.startswith("2 tensors, such as ")
    assert note.endswith(
        " are for images or sound, left out of the model; convert_eoq.py writes them to a file for --mmproj unless it "
        "is given --mmproj none"
    )
    assert list(left_out(read_hf_folder(folder, allow_requantize=False), tree, tells_of_senses=False)) == []


def test_no_way_for_an_architecture_without_such_files(tmp_path: Path, tree: Path) -> None:
    folder = write_model(tmp_path, "vision_tower.weight", architecture="TextForCausalLM")
    assert notes_of(folder, tree) == [
        "vision_tower.weight is for images or sound, left out of the model; llama.cpp's converter makes no file for "
        "--mmproj of this architecture"
    ]


@pytest.mark.parametrize("has_index", [False, True])
def test_files_that_are_not_read(has_index: bool, tmp_path: Path, tree: Path) -> None:
    folder = write_model(tmp_path)
    save_file({"mtp.layers.0.weight": MATRIX}, folder / "mtp.safetensors")
    if has_index:
        index = {"weight_map": {"model.layers.0.mlp.up_proj.weight": "model.safetensors"}}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    way = "add its tensors to model.safetensors.index.json" if has_index else "rename it to model-mtp.safetensors"
    assert notes_of(folder, tree) == [f"mtp.safetensors is no part of the model that is read; to have it read, {way}"]
    if not has_index:
        (folder / "mtp.safetensors").rename(folder / "model-mtp.safetensors")
        assert notes_of(folder, tree) == []
        assert "mtp.layers.0.weight" in {t.name for t in read_hf_folder(folder, allow_requantize=False).tensors}


def test_multi_token_prediction_that_did_not_come_along(tmp_path: Path) -> None:
    folder = read_hf_folder(write_model(tmp_path, "model.mtp.0.weight"), allow_requantize=False)
    assert list(not_taken_over(folder, ["blk.0.ffn_up.weight", "blk.1.nextn.eh_proj.weight"])) == []
    (note,) = not_taken_over(folder, ["blk.0.ffn_up.weight"])
    assert note.startswith("model.mtp.0.weight is for multi-token prediction")


@pytest.mark.parametrize(("passed_on", "notes"), [((), 1), (("no-mtp",), 0)])
def test_what_was_asked_to_be_left_out_is_not_told(
    passed_on: tuple[str, ...],
    notes: int,
    tmp_path: Path,
    tree: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def converter(folder: HfFolder, target: Path, *rest: object) -> None:
        write_gguf(target, {"blk.0.ffn_up.weight": MATRIX})

    monkeypatch.setattr("converter.ingest.hf_convert.run_converter", converter)
    folder = read_hf_folder(write_model(tmp_path, "model.mtp.0.weight"), allow_requantize=False)
    convert_to_gguf(folder, tmp_path / "m.gguf", tree, 1, Progress(), SourceAccess(hf_options=passed_on))
    assert len(caplog.messages) == notes
