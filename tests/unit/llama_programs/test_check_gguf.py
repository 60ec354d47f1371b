"""What becomes of the words of llama-check-gguf, and of its other ends. A shell script stands in for it."""

from pathlib import Path

import pytest

from llama_programs.check_gguf import Answer, RefusedByLlamaCpp, check_by_llama_cpp
from tests.samples.check_program import LOADS, VALID, check_program

NAMES = {Path("/d/.m.gguf.1.part"): Path("/d/m.gguf"), Path("/d/.n.gguf.2.part"): Path("/d/n.gguf")}
SOURCE = [Path("/d/source.gguf")]


def asked(programs: Path, source: list[Path] | None = None) -> Answer:
    return check_by_llama_cpp(NAMES, source or [], programs, 1)


def test_a_model_that_llama_cpp_loads(tmp_path: Path) -> None:
    answer = asked(check_program(tmp_path, LOADS))
    assert answer == Answer(True, "llama.cpp reads every block, and loads the model")


def test_a_file_that_llama_cpp_refuses_has_its_own_name_in_the_error(tmp_path: Path) -> None:
    said = "error: /d/.n.gguf.2.part: tensor \u202ea: it stands in /d/.m.gguf.1.part"
    programs = check_program(tmp_path, said, status=1)
    with pytest.raises(RefusedByLlamaCpp) as caught:
        asked(programs)
    assert str(caught.value) == r"llama.cpp refuses /d/n.gguf: tensor \u202ea: it stands in /d/m.gguf"


@pytest.mark.parametrize("number", ["ABRT", "SEGV", "BUS", "FPE"])
def test_a_file_that_the_reader_crashes_on_is_refused(number: str, tmp_path: Path) -> None:
    with pytest.raises(RefusedByLlamaCpp, match=rf"refuses /d/m\.gguf: its reader was ended by SIG{number}$"):
        asked(check_program(tmp_path, "", end=f"kill -{number} $$"))


@pytest.mark.parametrize("source", [None, SOURCE])
def test_a_model_that_llama_cpp_does_not_load_is_no_error_where_its_source_is_none(
    source: list[Path] | None, tmp_path: Path
) -> None:
    answer = asked(check_program(tmp_path, f"{VALID}\ndoes not load: unknown architecture"), source)
    expected = "llama.cpp reads every block, but does not load it as a model: unknown architecture"
    assert answer == Answer(True, expected)
    answer = asked(check_program(tmp_path, VALID, end="kill -ABRT $$"), source)
    assert answer.was_asked and answer.text.endswith("a model: its loader was ended by SIGABRT")


@pytest.mark.parametrize("end", ["exit 0", "kill -ABRT $$"])
def test_a_model_that_does_not_load_though_its_source_does_is_refused(end: str, tmp_path: Path) -> None:
    programs = check_program(tmp_path, VALID, end=end, loads_alone=True)
    with pytest.raises(RefusedByLlamaCpp, match=r"^llama\.cpp loads source\.gguf, but not /d/m\.gguf: its loader "):
        asked(programs, SOURCE)


@pytest.mark.parametrize("end", ["kill -KILL $$", "kill -ILL $$", "exit 127", "exit 2", "exit 1", "exit 0"])
def test_a_program_that_fails_for_itself_says_nothing_of_the_file(end: str, tmp_path: Path) -> None:
    answer = asked(check_program(tmp_path, "libgomp.so.1: cannot open shared object file", end=end))
    assert not answer.was_asked and answer.text.startswith(f"llama.cpp has not read it: {tmp_path}")
    assert answer.text.endswith(": libgomp.so.1: cannot open shared object file")


def test_where_there_is_no_program_the_answer_says_how_to_have_one(tmp_path: Path) -> None:
    answer = asked(tmp_path)
    assert not answer.was_asked
    assert f"{tmp_path} has no program llama-check-gguf; build it, or name another folder with" in answer.text
