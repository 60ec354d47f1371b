"""The ablation makes every file once, goes on where it stopped, and its tables compare the right ones."""

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.errors import BenchError
from bench.quality import ablation_calibration, ablation_variants, texts
from bench.quality.ablation import Ablation, tables
from bench.quality.ablation_calibration import Calibration, write_imatrix
from bench.quality.ablation_tables import (
    Result,
    against_peers,
    all_files,
    by_kind,
    by_method,
    order,
    ratios_by_kind,
)
from bench.quality.ablation_variants import METHODS, PEERS, VARIANTS, Variant, Workshop
from converter.statistics import open_statistics
from tests.unit.converter.statistics.test_imatrix import write_imatrix as write_small_imatrix

EOQ4, EOQ3, IQ4, IQ3 = Variant("EOQ4", "both"), Variant("EOQ3", "both"), Variant("IQ4_XS"), Variant("IQ3_S")


def result(megabytes: float, kld: float, error: float = 0.001) -> Result:
    return Result(int(megabytes * 1e6), megabytes / 200, kld, error, 1 + kld, 0.9)


RESULTS = {
    EOQ4: {"news": result(820, 0.025), "code": result(820, 0.02)},
    EOQ3: {"news": result(620, 0.11), "code": result(620, 0.09)},
    IQ4: {"news": result(850, 0.05), "code": result(850, 0.05)},
    IQ3: {"news": result(840, 0.1), "code": result(840, 0.08)},
}


def cells(table: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]


def test_names_are_unique_and_complete() -> None:
    names = [variant.name for variant in VARIANTS]
    assert len(set(names)) == len(names) == (5 + 4) * len(METHODS) + 2 * len(PEERS)
    assert {"EOQ2-plain", "Q5_K_S", "EOQT-as-IQ3_S-feedback"} < set(names)


def test_all_files_by_size() -> None:
    rows = cells(all_files(RESULTS, ["news", "code"]))
    assert [row[0] for row in rows[2:]] == ["EOQ3-both", "EOQ4-both", "IQ3_S", "IQ4_XS"]
    assert rows[3] == ["EOQ4-both", "820.0", "4.100", "0.0250 ± 0.0010", "1.0250", "90.0", *rows[3][6:]]
    assert rows[3][6] == "0.0200 ± 0.0010"


def test_by_method() -> None:
    rows = cells(by_method(RESULTS, "news"))
    assert rows[0] == ["type", *METHODS]
    assert rows[2] == ["EOQ3", "", "", "", "0.1100 ± 0.0010"]


def test_peers_meet_the_type_of_their_name_and_the_largest_that_is_no_larger() -> None:
    table = against_peers(RESULTS, ["news", "code"], "both")
    assert table is not None
    rows = cells(table)[2:]
    assert rows == [
        ["IQ3_S", "840.0", "EOQ3", "620.0", "1.100", "1.125", "0.40 / -"],
        ["IQ3_S", "840.0", "EOQ4", "820.0", "0.250", "0.250", ""],
        ["IQ4_XS", "850.0", "EOQ4", "820.0", "0.500", "0.400", "0.45 / -"],
    ]


def test_a_peer_meets_scalar_and_trellis() -> None:
    trellis = {Variant("EOQ4T", "both"): {"news": result(815, 0.02), "code": result(815, 0.025)}}
    table = against_peers({**RESULTS, **trellis}, ["news", "code"], "both")
    assert table is not None
    beside_iq4 = [row for row in cells(table) if row[0] == "IQ4_XS"]
    assert [row[2] for row in beside_iq4] == ["EOQ4", "EOQ4T"]
    assert beside_iq4[1][4:] == ["0.400", "0.500", "0.36 / 0.70"]


def test_a_peer_meets_what_is_planned_to_its_size() -> None:
    planned = Variant("EOQT", "both", size_of="IQ4_XS")
    table = against_peers(
        {**RESULTS, planned: {"news": result(850, 0.01), "code": result(850, 0.02)}}, ["news"], "both"
    )
    assert table is not None
    assert [row[2:5] for row in cells(table) if row[0] == "IQ4_XS"] == [
        ["EOQ4", "820.0", "0.500"],
        ["planned", "850.0", "0.200"],
    ]
    assert [row[2] for row in cells(table) if row[0] == "IQ3_S"] == ["EOQ3", "EOQ4"]


def test_no_pairs_no_table() -> None:
    assert against_peers(RESULTS, ["news", "code"], "plain") is None
    assert "Beside" not in tables(RESULTS, ["news", "code"], "plain")


KINDS = ["news", "chat", "german"]
BY_KIND = {
    EOQ4: {"news": result(820, 0.02), "chat": result(820, 0.04), "german": result(820, 0.03)},
    IQ4: {"news": result(850, 0.04), "chat": result(850, 0.04), "german": result(850, 0.06)},
}


def test_by_kind() -> None:
    assert cells(by_kind(BY_KIND, KINDS))[0] == ["file", "MB", *KINDS, "mean", "worst"]
    assert cells(by_kind(BY_KIND, KINDS))[2:] == [
        ["EOQ4-both", "820.0", "0.0200", "0.0400", "0.0300", "0.0300", "0.0400 (chat)"],
        ["IQ4_XS", "850.0", "0.0400", "0.0400", "0.0600", "0.0467", "0.0600 (german)"],
    ]
    # a mean over other texts than those of the other files is none
    assert cells(by_kind({EOQ4: {"news": result(820, 0.02)}}, KINDS))[2][2:] == ["0.0200", "", "", "", ""]


def test_ratios_by_kind() -> None:
    table = ratios_by_kind(BY_KIND, KINDS, "both")
    assert table is not None
    head, _, row = cells(table)
    assert head == ["peer", "EOQ type", "size over the peer's", *KINDS, "geometric mean", "worst"]
    # (0.5 * 1 * 0.5) ** (1 / 3)
    assert row == ["IQ4_XS", "EOQ4", "0.965", "0.500", "1.000", "0.500", "0.630", "1.000 (chat)"]
    assert ratios_by_kind(BY_KIND, KINDS, "plain") is None


@pytest.mark.parametrize(
    ("peer", "eoq"),
    [
        ("IQ2_XXS", "EOQ2T"),
        ("IQ2_S", "EOQ2T"),
        ("IQ3_XXS", "EOQ3T"),
        ("IQ3_S", "EOQ3T"),
        ("IQ4_XS", "EOQ4T"),
        ("Q5_K_S", "EOQ5T"),
    ],
)
def test_trellis_types_have_peers(peer: str, eoq: str) -> None:
    # larger than the peer, so that it is there by name
    results = {Variant(eoq, "both"): {"news": result(900, 0.1)}, Variant(peer): {"news": result(800, 0.2)}}
    table = ratios_by_kind(results, ["news"], "both")
    assert table is not None
    assert [row[:2] for row in cells(table)[2:]] == [[peer, eoq]]


def test_tables_by_kind_for_more_than_two_texts() -> None:
    printed = tables(BY_KIND, KINDS, "both")
    assert "## By kind of text: KL divergence\n" in printed and "over the peer's (EOQ by `both`)" in printed
    # of these texts, news alone has an aim
    assert "| aim, news |" in printed
    assert "on chat or german than on news." in printed
    assert "By kind" not in tables(RESULTS, ["news", "code"], "both")
    assert "## Beside" not in tables(BY_KIND, ["chat", "german", "python"], "both")


def test_order() -> None:
    assert order(RESULTS, ["news", "code"]) == (
        "No two files that differ clearly come in another order on code than on news."
    )
    swapped = RESULTS | {IQ4: {"news": result(850, 0.05), "code": result(850, 0.2)}}
    assert order(swapped, ["news", "code"]) == (
        "Not in the same order: EOQ3-both and IQ4_XS (news, code); IQ4_XS and IQ3_S (news, code)."
    )
    unclear = RESULTS | {IQ4: {"news": result(850, 0.05), "code": result(850, 0.2, error=0.1)}}
    assert order(unclear, ["news", "code"]).startswith("No two files")


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What is run; each command just writes the file that it should."""
    seen: list[list[str]] = []

    def run(command: Sequence[str]) -> tuple[float, int]:
        seen.append([str(word) for word in command])
        outputs = [word for word in seen[-1] if re.search(r"work/[^/]*\.(part\.gguf|gguf|stats|plan\.json)$", word)]
        target = next(Path(word) for word in outputs if not Path(word).exists())
        target.write_bytes(b"made")
        return 1.5, 1000

    monkeypatch.setattr(ablation_variants, "timed_run", run)
    monkeypatch.setattr(ablation_calibration, "timed_run", run)
    return seen


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    for name in ("F16.gguf", "calibration.txt"):
        (tmp_path / name).write_text(name)
    folder = tmp_path / "work"
    folder.mkdir()
    source = tmp_path / "F16.gguf"
    calibration = Calibration(source, folder, 2, (f"{tmp_path / 'calibration.txt'}:2",), 4096)
    return Workshop(source, calibration, folder, tmp_path / "bin", threads=2, shrinkage=0.25, damping=0.125)


def test_peers_are_made_with_an_importance_matrix_of_the_same_statistics(
    workshop: Workshop, commands: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ablation_calibration, "open_statistics", lambda path: path)
    monkeypatch.setattr(
        ablation_calibration, "write_imatrix", lambda statistics, target: target.write_text(statistics.name)
    )
    assert workshop.make(IQ4) == (workshop.folder / "IQ4_XS.gguf", 1.5, 1000)
    assert workshop.make(IQ3)[0].read_bytes() == b"made"
    collect, first, second = commands
    assert "collect" in collect and collect[collect.index("--calib") + 1].endswith("calibration.txt:2")
    assert collect[collect.index("--calib-tokens") + 1] == "4096"
    assert workshop.calibration.imatrix().read_text() == "moments.stats"
    for command in (first, second):
        assert command[1:3] == ["--imatrix", str(workshop.folder / "imatrix.gguf")]
        assert command[3:7] == ["--token-embedding-type", "f16", "--output-tensor-type", "f16"]
    assert workshop.make(IQ4) == (workshop.folder / "IQ4_XS.gguf", None, None)
    assert len(commands) == 3


def test_the_importance_matrix_has_the_diagonals_of_the_statistics(tmp_path: Path) -> None:
    tensors = {
        f"{name}.{part}": values
        for name in ("blk.0.ffn_down.weight", "output.weight")
        for part, values in (("in_sum2", np.full((2, 64), 6, np.float32)), ("counts", np.array([[3], [0]], np.float32)))
    }
    known = open_statistics(write_small_imatrix(tmp_path / "known.gguf", tensors))
    write_imatrix(known, tmp_path / "written.gguf")
    found = open_statistics(tmp_path / "written.gguf")
    assert list(found.tensor_names) == ["blk.0.ffn_down.weight"]
    assert found.counts("blk.0.ffn_down.weight").tolist() == [3, 0]
    assert found.diagonal("blk.0.ffn_down.weight")[0].tolist() == [2] * 64


def test_eoq_files_are_made_by_the_converter(workshop: Workshop, commands: list[list[str]]) -> None:
    for method in METHODS:
        workshop.make(Variant("EOQ3", method))
    plain, collect, *others = commands
    assert "collect" in collect
    assert "--rtn" in plain and "--stats" not in plain
    for command in (plain, *others):
        assert command[4:10] == ["--type", "eoq3", "--output-type", "f16", "--token-embd-type", "f16"]
    for command, method in zip(others, ("awq", "feedback", "both"), strict=True):
        options = " ".join(command)
        assert " ".join(METHODS[method]) in options
        assert f"--stats {workshop.folder / 'moments.stats'} --shrinkage 0.25" in options
        assert ("--damping 0.125" in options) == (method != "awq")
    assert "--shrinkage" not in plain


def test_types_are_planned_to_the_size_of_a_peer(workshop: Workshop, commands: list[list[str]]) -> None:
    (workshop.folder / "imatrix.gguf").touch()
    planned = Variant("EOQT", "feedback", size_of="IQ4_XS")
    workshop.make(planned)
    collect, quantize, plan, convert = commands
    assert "IQ4_XS" in quantize and "collect" in collect
    statistics = str(workshop.folder / "moments.stats")
    assert plan[1].endswith("plan_eoq.py")
    assert plan[plan.index("--target-size") : plan.index("--tensor-type")] == [
        *("--target-size", str(len("made")), "--codes", "trellis", "--stats", statistics),
    ]
    assert convert[convert.index("--plan") + 1] == plan[plan.index("--json") + 1]
    assert "--type" not in convert and "--stats" in convert
    # the peer was made for its size alone; one that is there to be measured stays
    assert not (workshop.folder / "IQ4_XS.gguf").exists()
    workshop.make(IQ3)
    workshop.make(replace(planned, size_of="IQ3_S"))
    assert (workshop.folder / "IQ3_S.gguf").exists()


def evaluation(kld: float) -> dict[str, Any]:
    both = {"value": kld, "error": 0.001}
    model = {"bytes": 10, "block_bits_per_weight": 4.1, "kld": both, "perplexity_ratio": both, "same_top": both}
    return {"models": [model]}


def test_what_is_measured_is_not_measured_again(
    workshop: Workshop, commands: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluated: list[str] = []

    def evaluate(base: Path, models: list[Path], text: Path, *rest: object) -> str:
        assert models[0].read_bytes() == b"made"
        if evaluated == ["news"]:
            evaluated.append("stopped")
            raise KeyboardInterrupt
        evaluated.append(text.name)
        return text.name

    monkeypatch.setattr(texts, "evaluate", evaluate)
    monkeypatch.setattr(texts, "as_json", lambda name: evaluation(0.5) | {"text": name})
    paths = {"news": Path("news"), "code": Path("code")}
    with pytest.raises(KeyboardInterrupt):
        Ablation(workshop, paths, 4, keep_models=False).measure(EOQ4)
    assert (workshop.folder / "EOQ4-both-s0.25-d0.125.gguf").exists()
    record = Ablation(workshop, paths, 4, keep_models=False).measure(EOQ4)
    assert evaluated == ["news", "stopped", "code"]
    assert record["made"] == {"seconds": 1.5, "peak_bytes": 1000}
    assert Result.of(record["evaluations"]["code, 4 chunks"]).kld == 0.5
    assert not (workshop.folder / "EOQ4-both-s0.25-d0.125.gguf").exists()
    assert Ablation(workshop, paths, 4, keep_models=False).measure(EOQ4) == record
    assert len(commands) == 2  # statistics, and the conversion
    assert json.loads((workshop.folder / "results" / "EOQ4-both-s0.25-d0.125.json").read_text()) == record


def test_a_folder_of_another_calibration_is_refused(workshop: Workshop) -> None:
    Ablation(workshop, {}, 4, keep_models=False)
    (workshop.source.parent / "calibration.txt").write_text("another text")
    other = replace(workshop, calibration=replace(workshop.calibration))
    with pytest.raises(BenchError, match="--work-dir"):
        Ablation(other, {}, 4, keep_models=False)
