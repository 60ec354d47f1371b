"""llama.cpp's own reader, by llama-check-gguf: sound files, damaged ones, splits, and conversions that end with it."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from gguf import GGML_QUANT_SIZES, GGUFValueType
from gguf import GGMLQuantizationType as T

from converter import CalibrationOptions, ConversionOptions, RoundingOptions, convert
from eoq.verify import main as verify
from eoq_formats.types import ACTIVATION_TYPES, WEIGHT_TYPES, ActivationType
from gguf_files.header import pack_entry
from gguf_files.tensor_types import is_quantized
from llama_programs.check_gguf import RefusedByLlamaCpp
from tests.integration.converter.command_line import assert_refused, run_tool
from tests.samples.check_program import VALID, check_program
from tests.samples.gguf_bytes import TEXT, Tensor, entry, gguf
from tests.samples.tiny_sources import write_folder_and_gguf
from tests.unit.inspection.finished_files import change_metadata, converted, split

pytestmark = pytest.mark.llama_cpp

Check = Callable[..., tuple[int, str, str]]

ROW, ROWS = 1024, 4
TYPES = [T[t.name] for t in WEIGHT_TYPES] + [T.Q8_0, T.Q4_K, T.F32, T.F16, T.BF16]


@pytest.fixture
def check(programs: Path) -> Check:
    """Runs the program: exit status, standard output, standard error."""

    def run(*words: str | Path) -> tuple[int, str, str]:
        done = subprocess.run([programs / "llama-check-gguf", *words], capture_output=True, text=True)
        return done.returncode, done.stdout, done.stderr

    return run


def refused(answer: tuple[int, str, str]) -> str:
    """The one line of an error."""
    status, out, error = answer
    assert (status, out) == (1, "") and error.startswith("error: ") and error.count("\n") == 1
    return error.removeprefix("error: ").rstrip()


def model(*tensors: Tensor) -> bytes:
    return gguf([entry("general.architecture", TEXT, "llama")], tensors)


def zeros(kind: T, name: str = "a.weight") -> Tensor:
    length, size = GGML_QUANT_SIZES[kind]
    return Tensor(name, (ROW, ROWS), bytes(ROWS * ROW // int(length) * int(size)), type=int(kind))


@pytest.mark.parametrize("threads", ["1", "5"])
def test_every_type_of_ours_is_read(threads: str, check: Check, folder: Path) -> None:
    tensors = [zeros(kind, f"{kind.name}.weight") for kind in TYPES]
    (folder / "m.gguf").write_bytes(model(*tensors))
    status, out, error = check("--threads", threads, folder / "m.gguf")
    size = sum(len(t.bytes) for t in tensors)
    assert (status, error) == (0, "") and out.startswith(f"valid: {len(TYPES)} tensors, {size} bytes\ndoes not load: ")


@pytest.mark.parametrize("kind", TYPES, ids=lambda kind: kind.name)
def test_a_bad_scale_or_number_is_found_and_named(kind: T, check: Check, folder: Path) -> None:
    """In the last block of a row in the middle, where floats have their exponents at their ends."""
    good = zeros(kind)
    size = int(GGML_QUANT_SIZES[kind][1])
    end = len(good.bytes) // ROWS * 3
    at = end - size if is_quantized(kind) else end - 2
    place = f"{len(good.bytes) // ROWS // size - 1} of row 2"
    fault = f"block {place} has a scale that" if is_quantized(kind) else f"number {place}"
    for bad in (0x7F80, 0xFF80, 0x7FC1) if kind in (T.F32, T.BF16) else (0x7C00, 0xFC00, 0x7E01):
        data = good.bytes[:at] + bad.to_bytes(2, "little") + good.bytes[at + 2 :]
        path = folder / "m.gguf"
        path.write_bytes(model(zeros(T.F16, "first"), Tensor(good.name, good.shape, data, good.type)))
        assert refused(check(path)) == f"{path}: tensor a.weight: {fault} is infinite or NaN"


def test_the_first_of_many_faults_is_named_whatever_the_threads(check: Check, folder: Path) -> None:
    """In several pieces of several tensors."""
    bad = Tensor("b", (2**21, 2), b"\0\0\x80\x7f" * 2**22)
    (folder / "m.gguf").write_bytes(model(zeros(T.F32), bad, Tensor("c", bad.shape, bad.data)))
    for threads in "1258":
        said = refused(check("-t", threads, folder / "m.gguf"))
        assert said == f"{folder}/m.gguf: tensor b: number 0 of row 0 is infinite or NaN"


@pytest.mark.parametrize("t", ACTIVATION_TYPES, ids=lambda t: t.name)
def test_types_of_activations_are_none_of_files(t: ActivationType, check: Check, folder: Path) -> None:
    (folder / "m.gguf").write_bytes(model(Tensor("a", (256,), bytes(256 // t.width * t.block_bytes), type=t.id)))
    assert refused(check(folder / "m.gguf")).endswith(f": tensor a: {t.name.lower()} is no type for tensors in files")


def test_files_that_are_no_ggufs_or_end_early(check: Check, folder: Path) -> None:
    path = folder / "m.gguf"
    assert refused(check(path)) == f"{path}: failed to open GGUF file '{path}' (No such file or directory)"
    path.write_bytes(b"nonsense")
    assert refused(check(path)).startswith(f"{path}: invalid magic")
    data = model(zeros(T.F32, "a\nb"), zeros(T.EOQ4))
    path.write_bytes(data[:-1])
    assert refused(check(path)) == f"{path}: tensor a.weight: the file ends before it does"
    path.write_bytes(data[: len(data) // 2])
    assert "tensor a?b: the file ends before it does" in refused(check(path))
    path.write_bytes(data[:100])
    refused(check(path))


def test_a_tensor_of_2_to_the_60_bytes_takes_no_memory(check: Check, folder: Path) -> None:
    (folder / "m.gguf").write_bytes(model(Tensor("a", (2**58,), b"\0" * 64)))
    assert refused(check(folder / "m.gguf")) == f"{folder}/m.gguf: tensor a: the file ends before it does"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "give the files of a model"),
        (["-t"], "-t is a number"),
        (["--threads", "0", "m"], "from 1 to 4096"),
        (["-t", "1x", "m"], "from 1 to 4096"),
        (["--loud", "m"], "there is no option --loud"),
    ],
)
def test_words_that_make_no_sense_are_no_fault_of_the_files(words: list[str], said: str, check: Check) -> None:
    status, out, error = check(*words)
    assert (status, out) == (2, "") and error.startswith("error: ") and said in error and error.count("\n") == 1


def test_what_the_machine_lacks_is_no_fault_of_the_file(programs: Path, folder: Path) -> None:
    """Memory for threads beyond the first, which it can do without, and for the data. How far it comes is chance."""
    path = folder / "m.gguf"
    path.write_bytes(model(Tensor("a", (2**20, 16), bytes(2**26))))
    for kibibytes in (65536, 30000, 24000, 16000):
        command = f"ulimit -v {kibibytes}; exec {programs / 'llama-check-gguf'} -t 8 {path}"
        done = subprocess.run(["sh", "-c", command], capture_output=True, text=True)
        assert (done.returncode, done.stderr) in ((0, ""), (2, "error: std::bad_alloc\n")), done


def test_splits_are_one_model(check: Check, folder: Path) -> None:
    whole, _ = converted(folder)
    status, out, _ = check(whole)
    paths = split(whole, 3)
    assert check(*paths) == (0, out, "") and status == 0
    assert f"{paths[0]}: the model has 3 files, not 2" in refused(check(*paths[:2]))
    assert f"{paths[2]}: split.no is not 1" in refused(check(paths[0], paths[2], paths[1]))


def test_numbers_of_splits_that_are_wrong(check: Check, folder: Path) -> None:
    paths = split(converted(folder)[0], 2)
    first = paths[0].read_bytes()
    for key, kind, value, said in (
        ("split.tensors.count", GGUFValueType.INT32, 8, "split.tensors.count is not the number of all tensors, 7"),
        ("split.tensors.count", GGUFValueType.UINT16, 7, "split.tensors.count is not of type i32"),
        ("split.count", GGUFValueType.UINT32, 2, "split.count is not of type u16"),
        ("split.no", GGUFValueType.UINT16, 1, "split.no is not 0"),
    ):
        change_metadata(paths[0], {key: pack_entry(key, kind, value)})
        assert refused(check(*paths)) == f"{paths[0]}: {said}"
        paths[0].write_bytes(first)
    assert "it stands in" in refused(check(paths[0], paths[0]))


def test_a_real_model_is_loaded_as_far_as_that_needs_no_weights(
    check: Check, llama_source: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = write_folder_and_gguf("llama", folder, llama_source)[1], folder / "out.gguf"
    done = run_tool(source, out)
    assert done.returncode == 0
    assert "read back: the same as what was written; llama.cpp reads every block, and loads the model" in done.stdout
    assert verify([str(out), "--against", str(source)]) == 0
    assert capsys.readouterr().out.endswith("; llama.cpp reads every block, and loads the model\n")
    change_metadata(out, {"llama.block_count": None})
    assert "\ndoes not load: error loading model hyperparameters: key not found in model: llama.b" in check(out)[1]
    assert "llama.block_count" in refused(check("--load-only", out))
    assert verify([str(out), "--against", str(source)]) == 1
    assert f"llama.cpp loads llama.gguf, but not {out}: error loading model hyper" in capsys.readouterr().err


def test_a_conversion_that_llama_cpp_refuses_leaves_nothing(folder: Path, tmp_path: Path) -> None:
    """A shell script says so: what llama.cpp refuses, conversions do not write."""
    source = tmp_path / "source.gguf"
    source.write_bytes(model(zeros(T.F16)))
    programs = check_program(tmp_path, "", end='echo "error: $3: tensor a.weight: something"; exit 1')
    done = run_tool(source, folder / "out.gguf", "--llama-bin", programs)
    assert_refused(done, f"llama.cpp refuses {folder}/out.gguf: tensor a.weight: something")
    assert not list(folder.iterdir())
    options = ConversionOptions(
        rounding=RoundingOptions("nearest", awq=False), calibration=CalibrationOptions(llama_bin=programs)
    )
    check_program(tmp_path, VALID, loads_alone=True)
    with pytest.raises(RefusedByLlamaCpp, match=r"loads source\.gguf, but not .*out\.gguf: its loader"):
        convert(source, folder / "out.gguf", options)
    assert not list(folder.iterdir())


def test_a_conversion_says_that_llama_cpp_was_not_asked(folder: Path, tmp_path: Path) -> None:
    source = tmp_path / "source.gguf"
    source.write_bytes(model(zeros(T.F16)))
    done = run_tool(source, folder / "out.gguf", "--llama-bin", tmp_path)
    said = "read back: the same as what was written; llama.cpp has not read it: "
    assert done.returncode == 0 and f"{said}{tmp_path} has no program llama-check-gguf" in done.stdout
