"""Statistics and importance matrices that cannot be: none passes for a calibration."""

from pathlib import Path

import pytest

from eoq import convert, plan, stats
from tests.attacks.statistics_files import KEY, imatrix, layout, model, moments, statistics, tensors
from tests.attacks.tool import Main, assert_refused, assert_refused_within_limits
from tests.samples.gguf_bytes import Tensor

DEEP = "[" * 200_000 + "]" * 200_000
INF, NAN = float("inf"), float("nan")

STATISTICS: dict[str, tuple[bytes, str]] = {
    "inputs nest": (statistics(DEEP), "nests lists and tables more than 64 deep"),
    "notes nest": (statistics(notes=DEEP), "nests lists and tables more than 64 deep"),
    "inputs are no JSON": (statistics("{"), "not JSON"),
    "inputs are a number": (statistics("7"), "head cannot be read"),
    "inputs are a text": (statistics('"abc"'), "head cannot be read"),
    "inputs are a table": (statistics('{"key": 1}'), "head cannot be read"),
    "half a surrogate pair": (statistics(notes='["\\ud800"]'), "half of a surrogate pair"),
    "notes are a number": (statistics(notes="7"), "head cannot be read"),
    "notes of numbers": (statistics(notes="[7]"), "head cannot be read"),
    "infinite row": (statistics([layout(row_length=INF)]), "head cannot be read"),
    "row of 1e999": (statistics('[{"key": "a", "row_length": 1e999}]'), "head cannot be read"),
    "row of 0": (statistics([layout(row_length=0)], [Tensor(f"{KEY}.moments", (0, 1), b"")]), "head cannot be read"),
    "row of 300 digits": (statistics([layout(row_length=10**300)]), "is not what its list of inputs says"),
    "row of 5000 digits": (statistics(f'[{{"row_length": {"9" * 5000}}}]'), "not JSON"),
    "row is true": (statistics([layout(row_length=True)]), "head cannot be read"),
    "row is half": (statistics([layout(row_length=0.5)]), "head cannot be read"),
    "no experts": (statistics([layout(experts=0)]), "head cannot be read"),
    "-3 experts": (statistics([layout(experts=-3)]), "head cannot be read"),
    "10^12 experts": (statistics([layout(experts=10**12)]), "head cannot be read"),
    "5e8 experts that share": (statistics([layout(experts=5 * 10**8, shared=True)]), "head cannot be read"),
    "shared is a text": (statistics([layout(shared="no")]), "head cannot be read"),
    "tensors are a text": (statistics([layout(tensors="ab")]), "head cannot be read"),
    "no tensors": (statistics([layout(tensors=[])]), "head cannot be read"),
    "one tensor twice": (statistics([layout(), layout()]), "a tensor stands under two inputs"),
    "2^63 tokens": (statistics(tokens=2**63), "head cannot be read"),
    "NaN in the diagonal": (statistics(parts=tensors(diagonal=NAN)), "no positive numbers"),
    "infinite diagonal": (statistics(parts=tensors(diagonal=INF)), "above 1e+30"),
    "diagonal of 1e35": (statistics(parts=tensors(diagonal=1e35)), "above 1e+30"),
    "negative diagonal": (statistics(parts=tensors(diagonal=-1.0)), "no positive numbers"),
    "NaN tokens": (statistics(parts=tensors(count=NAN)), "counts of tokens"),
    "infinite tokens": (statistics(parts=tensors(count=INF)), "counts of tokens"),
    "negative tokens": (statistics(parts=tensors(count=-1)), "counts of tokens"),
}
IMATRICES: dict[str, tuple[bytes, str]] = {
    "sums (0, k)": (imatrix(shape=(0, 4), counts_shape=(1, 4)), "of shape (0, 4) is empty"),
    "sums (k, 0)": (imatrix(shape=(4, 0), counts_shape=(1, 0)), "of shape (4, 0) is empty"),
    "sums (0,)": (imatrix(shape=(0,)), "of shape (0,) is empty"),
    "counts (0,)": (imatrix(counts_shape=(0,)), "of shape (0,) is empty"),
    "sums (0, 2^62)": (imatrix(shape=(0, 2**62), counts_shape=(0,)), "of shape (0, 4611686018427387904) is empty"),
    "more counts than sums": (imatrix(counts_shape=(1, 2)), "2 counts for 1 rows"),
    "more experts than there are": (imatrix(shape=(1, 5000), counts_shape=(1, 5000)), "5000 experts"),
    "sums of 3e38": (imatrix(value=3e38), "above 1e+30"),
    "NaN": (imatrix(value=NAN), "no positive numbers"),
    "infinity": (imatrix(value=INF), "above 1e+30"),
    "negative sums": (imatrix(value=-1.0), "no positive numbers"),
    "negative counts": (imatrix(count=-1.0), "counts of tokens"),
    "NaN counts": (imatrix(count=NAN), "counts of tokens"),
    "integers": (imatrix(type=26), "type I32 instead of F32"),
}
MOMENTS: dict[str, tuple[bytes, str]] = {
    "NaN": (moments(first=NAN), "a NaN or an infinity"),
    "infinity": (moments(first=INF), "a NaN or an infinity"),
    "negative diagonal": (moments(diagonal=-1.0), "no positive numbers"),
    "diagonal of 1e35": (moments(diagonal=1e35), "above 1e+30"),
}


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with a model, m.gguf."""
    (tmp_path / "m.gguf").write_bytes(model())
    return tmp_path


def users_of(folder: Path, option: str) -> list[tuple[Main, list[object]]]:
    """Main functions and their words, for statistics in s.gguf."""
    m, s = folder / "m.gguf", folder / "s.gguf"
    return [
        (stats.main, ["show", s]),
        (stats.main, ["compare", s, s]),
        (convert.main, [m, folder / "out.gguf", option, s, "--quiet"]),
        (plan.main, [m, "--target-bpw", "5", "--stats", s]),
    ]


@pytest.mark.parametrize(("data", "message"), STATISTICS.values(), ids=STATISTICS.keys())
def test_damaged_statistics(data: bytes, message: str, files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (files / "s.gguf").write_bytes(data)
    merge: tuple[Main, list[object]] = (
        stats.main,
        ["merge", files / "s.gguf", files / "s.gguf", files / "merged.gguf"],
    )
    for main, words in [*users_of(files, "--stats"), merge]:
        assert_refused(main, capsys, message, *words)
    assert sorted(path.name for path in files.iterdir()) == ["m.gguf", "s.gguf"]


@pytest.mark.parametrize(("data", "message"), IMATRICES.values(), ids=IMATRICES.keys())
def test_damaged_importance_matrices(
    data: bytes, message: str, files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (files / "s.gguf").write_bytes(data)
    for main, words in users_of(files, "--imatrix"):
        assert_refused(main, capsys, message, *words)
    assert sorted(path.name for path in files.iterdir()) == ["m.gguf", "s.gguf"]


@pytest.mark.parametrize(("packed", "message"), MOMENTS.values(), ids=MOMENTS.keys())
def test_moments_that_are_no_moments(
    packed: bytes, message: str, files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """They are found where they are read, before anything of the output stands."""
    (files / "s.gguf").write_bytes(statistics(parts=tensors(packed=packed)))
    words = [files / "m.gguf", files / "out.gguf", "--stats", files / "s.gguf", "--quiet"]
    assert_refused(convert.main, capsys, message, *words)
    assert_refused(convert.main, capsys, message, *words, "--awq", "off")
    assert sorted(path.name for path in files.iterdir()) == ["m.gguf", "s.gguf"]


def test_a_nan_is_not_merged(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (files / "s.gguf").write_bytes(statistics(parts=tensors(packed=moments(first=NAN))))
    words = ["merge", files / "s.gguf", files / "s.gguf", files / "merged.gguf"]
    assert_refused(stats.main, capsys, "a NaN or an infinity", *words)
    assert not (files / "merged.gguf").exists()


def test_tokens_beyond_what_can_be_counted_are_not_merged(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (files / "s.gguf").write_bytes(statistics(tokens=2**53))
    words = ["merge", files / "s.gguf", files / "s.gguf", files / "merged.gguf"]
    assert_refused(stats.main, capsys, "more than can be counted", *words)


def test_what_is_right_passes(files: Path) -> None:
    """The samples are damaged by what they change, and by nothing else."""
    for option, data in (("--stats", statistics()), ("--imatrix", imatrix())):
        (files / "s.gguf").write_bytes(data)
        for main, words in users_of(files, option):
            if words[0] == "compare" and option == "--imatrix":
                continue
            assert main([str(word) for word in words]) == 0, words


def test_escapes_in_a_description_are_shown_as_such(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (files / "s.gguf").write_bytes(statistics(text="\x1b[2J\nfingerprint: 0", notes='["\\u001b[1m"]'))
    assert stats.main(["show", str(files / "s.gguf")]) == 0
    said = capsys.readouterr().out
    assert all(line.isprintable() for line in said.splitlines()) and r"from \x1b[2J\nfingerprint" in said


@pytest.mark.parametrize("experts", [10**12, 5 * 10**8])
def test_experts_that_share_take_no_memory(experts: int, files: Path) -> None:
    (files / "s.gguf").write_bytes(statistics([layout(experts=experts, shared=True)]))
    assert_refused_within_limits("head cannot be read", "stats_eoq.py", "show", files / "s.gguf")


def test_weights_and_inputs_near_the_end_of_float32_are_rounded_without_a_crash(files: Path) -> None:
    """Costs overflow to what is no number, which must not become an index."""
    (files / "m.gguf").write_bytes(model(scale=1e3))
    for option, data in (
        ("--imatrix", imatrix(value=6e32)),
        ("--stats", statistics(parts=tensors(diagonal=9e29, packed=moments(diagonal=9e29, first=3e38)))),
    ):
        (files / "s.gguf").write_bytes(data)
        for kind in ("eoq4", "eoq4t"):
            words = [files / "m.gguf", files / "out.gguf", option, files / "s.gguf", "--quiet", "--type", kind]
            assert convert.main([str(word) for word in words]) == 0
            assert "NaN" not in (files / "out.report.json").read_text()
