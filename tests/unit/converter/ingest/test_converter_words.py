"""What is made of what llama.cpp's converter printed."""

import json
from pathlib import Path
from typing import Any

import pytest

from converter.ingest.converter_words import converter_error

TRIED = """\
INFO:hf-to-gguf:Loading model: model
Traceback (most recent call last):
  File "/llama.cpp/conversion/llama.py", line 136, in set_vocab
    self._set_vocab_sentencepiece()
FileNotFoundError: File not found: tokenizer.model

During handling of the above exception, another exception occurred:

"""
IN_TOKENIZER = """\
Traceback (most recent call last):
  File "/llama.cpp/conversion/base.py", line 1586, in get_vocab_base
    tokenizer = AutoTokenizer.from_pretrained(self.dir_model)
                ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
"""
ELSEWHERE = """\
Traceback (most recent call last):
  File "/llama.cpp/conversion/base.py", line 300, in index_tensors
    raise ValueError("Mismatch")
"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "tokenizer.json").write_text("{}")
    write_config(folder)
    return folder


def write_config(folder: Path, **more: Any) -> None:
    (folder / "config.json").write_text(json.dumps({"architectures": ["LlamaForCausalLM"], **more}))


def test_of_a_chain_the_last_error_is_told(model: Path) -> None:
    said = converter_error(model, 1, TRIED + IN_TOKENIZER + "ValueError: the last of it\n")
    assert said == f"llama.cpp's converter could not read the tokenizer in {model}: ValueError: the last of it"


def test_all_lines_of_an_error_are_told(model: Path) -> None:
    lines = "ValueError: Mismatch for tensor names:\nMissing tensors: ['a']\n\nExtra tensors: ['b']\n"
    said = converter_error(model, 1, ELSEWHERE + lines)
    assert said.endswith(f"the model in {model}: ValueError: Mismatch for tensor names: "
                         "Missing tensors: ['a'] Extra tensors: ['b']")  # fmt: skip
    long = converter_error(model, 1, ELSEWHERE + f"ValueError: begin {'x' * 100_000} end\n")
    assert len(long) < 1300 and "begin" in long and long.endswith("end")


@pytest.mark.parametrize("error", ["AssertionError", "KeyError"])
def test_an_error_without_words_comes_with_its_code(error: str, model: Path) -> None:
    trace = (
        'Traceback (most recent call last):\n  File "/llama.cpp/x.py", line 1, in f\n    assert a == b\n'
        f"           ^^^^^^\n{error}\n"
    )
    assert converter_error(model, 1, trace).endswith(f": {error}: assert a == b")


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("ERROR:hf-to-gguf:too many\nINFO: x\n", "too many"),
        ("usage\nx: error: no\n", "error: no"),
        ("", "it printed nothing"),
    ],
)
def test_without_a_trace_what_was_logged_or_printed_last_is_told(said: str, message: str, model: Path) -> None:
    assert converter_error(model, 1, said).endswith(message)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("tokenizer.json", "", "tokenizer.json is empty: get it again"),
        ("tokenizer.json", '{"a": [1', "tokenizer.json is not JSON (Expecting"),
        (
            "tokenizer.model",
            "version https://git-lfs.github.com/spec/v1\n",
            "tokenizer.model is a Git LFS pointer: fetch",
        ),
    ],
)
def test_a_damaged_file_of_the_tokenizer_is_named(name: str, content: str, words: str, model: Path) -> None:
    (model / name).write_text(content)
    said = converter_error(model, 1, TRIED + IN_TOKENIZER + "JSONDecodeError: Expecting: line 7 column 7\n")
    assert said.startswith(f"llama.cpp's converter could not read the tokenizer in {model}: {words}")
    assert "line 7" not in said
    assert words in converter_error(model, 1, ELSEWHERE + "ValueError: x\n")


def test_a_folder_without_tokenizer(model: Path) -> None:
    (model / "tokenizer.json").unlink()
    said = converter_error(model, 1, TRIED + IN_TOKENIZER + "TypeError: not a string\n")
    assert said.endswith("the folder has none of tokenizer.json, tokenizer.model, vocab.json, vocab.txt, spiece.model, "
                         "tekken.json: get these files too")  # fmt: skip


def test_a_place_in_a_file_comes_with_the_files_name(model: Path) -> None:
    said = converter_error(model, 1, IN_TOKENIZER + "Exception: untagged enum at line 1 column 91\n")
    assert "at line 1 column 91; that is a place in tokenizer.json, which tokenizers " in said


@pytest.mark.parametrize(("version", "told"), [("99.0.0.dev0", True), ("4.0.0", False), ("99;\n", False), (5, False)])
def test_that_a_newer_transformers_saved_the_folder_is_told(version: object, told: bool, model: Path) -> None:
    write_config(model, transformers_version=version)
    said = converter_error(model, 1, IN_TOKENIZER + "AttributeError: 'list' object has no attribute 'keys'\n")
    assert (f"transformers {version} saved the folder" in said) == told


def test_ways_out_of_what_the_converter_does_not_know(model: Path) -> None:
    unknown = converter_error(model, 1, "ERROR:hf-to-gguf:Model NewForCausalLM is not supported\n")
    assert "does not know the architecture NewForCausalLM" in unknown and "--llama-dir" in unknown
    tokenizer = converter_error(model, 1, IN_TOKENIZER + "NotImplementedError: BPE pre-tokenizer was not recognized\n")
    assert tokenizer.endswith("knows no such tokenizer; a newer llama.cpp may: name its folder with --llama-dir")
    packed = converter_error(model, 1, ELSEWHERE + "NotImplementedError: Quant method is not yet supported: 'awq'\n")
    assert "cannot unpack the quantised weights" in packed and packed.endswith("; convert the original model")
