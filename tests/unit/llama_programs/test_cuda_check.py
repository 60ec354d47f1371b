from pathlib import Path

import pytest

from ggml_patch.sources import sources
from llama_programs import cuda_check
from llama_programs.cuda_check import compile_file, known_to, main, parse
from llama_programs.errors import BuildError

PTXAS = """\
ptxas info    : Compiling entry function '{name}' for 'sm_86'
ptxas info    : Function properties for {name}
    0 bytes stack frame, {spilled} bytes spill stores, {spilled} bytes spill loads
ptxas info    : Used 40 registers, used 0 barriers
"""


def ptxas(**spilled: int) -> str:
    return "".join(PTXAS.format(name=name, spilled=n) for name, n in spilled.items())


def test_kernels_of_ours_are_told_from_those_of_llama_cpp() -> None:
    said = ptxas(
        _Z17eoq_quantize_q8_1ILi128EEvPKf=0,
        _Z13mul_mat_vec_qIL9ggml_type164ELi1EEvPKv=8,
        _Z13mul_mat_vec_qIL9ggml_type12ELi1EEvPKv=16,
        _Z9mul_mat_qIL9ggml_type176ELi8EEvPKc=0,
    )
    compiled = parse("mmvq.cu", said)
    assert compiled.kernels == 3
    assert compiled.our_spilling(parse("none.cu", "")) == ["_Z13mul_mat_vec_qIL9ggml_type164ELi1EEvPKv (sm_86)"]


def test_ours_may_spill_where_those_of_q8_0_do() -> None:
    theirs = parse("mmq-instance-q8_0.cu", ptxas(_Z9mul_mat_qIL9ggml_type8ELi64EEvPKc=8))
    ours = parse("x.cu", ptxas(_Z9mul_mat_qIL9ggml_type164ELi64EEvPKc=8, _Z9mul_mat_qIL9ggml_type164ELi8EEvPKc=8))
    assert ours.our_spilling(theirs) == ["_Z9mul_mat_qIL9ggml_type164ELi8EEvPKc (sm_86)"]


def test_only_warnings_in_our_files_count() -> None:
    theirs = "/home/a/.cache/eoq/src/ggml/src/ggml-impl.h:312:15: warning: defined but not used"
    ours = "eoq/eoq-device.cuh(114): warning #20013-D: calling a constexpr function"
    assert parse("x.cu", f"{theirs}\n{ours}\n").our_warnings == [ours]


def fake_nvcc(folder: Path, script: str) -> str:
    program = folder / "nvcc"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return str(program)


def test_an_error_of_the_compiler_is_passed_on(tmp_path: Path) -> None:
    nvcc = fake_nvcc(tmp_path, "echo no such thing >&2; exit 1")
    with pytest.raises(BuildError, match=r"does not compile .*x\.cu:\n.*no such thing"):
        compile_file(nvcc, tmp_path / "ggml-cuda" / "x.cu", [], ["86"])


def test_all_architectures_are_asked_for(tmp_path: Path) -> None:
    nvcc = fake_nvcc(tmp_path, f'echo "$@" >{tmp_path}/said')
    compile_file(nvcc, tmp_path / "ggml-cuda" / "eoq" / "x.cu", ["-I", "cublas"], ["75", "90"])
    said = (tmp_path / "said").read_text()
    assert "arch=compute_75,code=sm_75" in said
    assert "arch=compute_90,code=sm_90" in said
    assert "arch=compute_90,code=compute_90" in said
    assert f"-I {tmp_path}/ggml-cuda " in said
    assert "-I cublas" in said


def test_a_file_is_compiled_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "src"
    for path in ("ggml-cuda/eoq/eoq-a.cu", "ggml-cuda/b.cu", "ggml-eoq.h", f"ggml-cuda/{cuda_check.REFERENCE}"):
        path = f"ggml/src/{path}"
        (source / path).parent.mkdir(parents=True, exist_ok=True)
        (source / path).write_text("//")
    (source / "ggml/src/eoq-format.h").write_text("//")
    monkeypatch.setattr(cuda_check, "EDITED", ("b.cu",))
    monkeypatch.setattr(cuda_check, "ensure_source", lambda cache: source)
    nvcc = fake_nvcc(tmp_path, f'echo "$@" >>{tmp_path}/calls')
    for expected in (3, 3):
        found = cuda_check.check(tmp_path / "cache", nvcc, ["86"], jobs=2)
        assert [one.file for one in found] == ["mmq-instance-q8_0.cu", "b.cu", "eoq-a.cu"]
        calls = (tmp_path / "calls").read_text().splitlines()
        assert sum(" -c " in call for call in calls) == expected
    (source / "ggml/src/ggml-eoq.h").write_text("// changed")
    cuda_check.check(tmp_path / "cache", nvcc, ["86"], jobs=1)
    assert sum(" -c " in call for call in (tmp_path / "calls").read_text().splitlines()) == 6


def test_quick_leaves_out_what_is_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = ("eoq-a.cu", "eoq-mmq-instance-2.cu", cuda_check.QUICK_INSTANCE)
    for path in (*(f"eoq/{name}" for name in ours), cuda_check.REFERENCE):
        (tmp_path / "ggml/src/ggml-cuda" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "ggml/src/ggml-cuda" / path).write_text("//")
    for name in ("ggml-eoq.h", "eoq-format.h"):
        (tmp_path / "ggml/src" / name).write_text("//")
    monkeypatch.setattr(cuda_check, "EDITED", ())
    monkeypatch.setattr(cuda_check, "ensure_source", lambda cache: tmp_path)
    compiled = cuda_check.check(tmp_path / "cache", fake_nvcc(tmp_path, ""), ["86"], jobs=1, is_quick=True)
    assert [one.file for one in compiled[1:]] == ["eoq-a.cu", cuda_check.QUICK_INSTANCE]
    assert any(source.ours.name == cuda_check.QUICK_INSTANCE for source in sources())


def test_without_a_compiler_it_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CUDACXX", "/nowhere/nvcc")
    assert main([]) == 1
    assert "install NVIDIA's CUDA toolkit" in capsys.readouterr().err


def test_an_old_nvcc_is_asked_for_what_it_knows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nvcc = fake_nvcc(tmp_path, "echo compute_75; echo compute_86")
    assert known_to(nvcc, ["75", "86", "89"]) == ["75", "86"]
    said = capsys.readouterr()
    assert "compute capability 89, which is left out" in said.out + said.err


def test_an_nvcc_that_knows_none_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cuda_check, "find_nvcc", lambda: fake_nvcc(tmp_path, "echo compute_30"))
    assert main([]) == 1
    assert "compiles for none of 75, 86, 89, 90; name others with --arch" in capsys.readouterr().err
