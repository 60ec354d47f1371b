"""Lines of a journal that are damaged count for nothing, whatever stands in them; the others are read."""

import json
from pathlib import Path
from typing import Any

import pytest
from gguf import GGMLQuantizationType as Q

from converter.checkpoint import TensorJournal
from converter.plan import TensorPlan
from converter.report import TensorRecord
from converter.rounding import WeightedError
from gguf_files.tensors import TensorInfo

SOUND, OTHER = (TensorPlan(TensorInfo(name, (64, 2), Q.F32), Q.Q8_0, "") for name in ("sound", "other"))
FIGURES = TensorRecord(OTHER, 1.5, 0.25, 3.0, weighted=WeightedError(1.0, 2.0, 3.0, 4.0)).figures
NO_NOTES: tuple[object, ...] = ("x", None, [1])
NO_WEIGHTED: tuple[object, ...] = (1, [], {"signal": 1.0})
NO_NUMBERS: tuple[object, ...] = ("x", None, [], {}, 10**400)


def line(plan: TensorPlan, **changes: Any) -> str:
    return json.dumps({"name": plan.tensor.name, "crc32": 7, "figures": FIGURES} | changes)


@pytest.mark.parametrize(
    "damaged",
    [
        "",
        "{",
        "[]",
        "[" * 100_000,
        "9" * 5000,
        line(OTHER, name="unknown"),
        line(OTHER, name=[]),
        *(line(OTHER, crc32=value) for value in (*NO_NUMBERS, -1, 1 << 32, True, 1.0)),
        *(line(OTHER, figures=value) for value in NO_NUMBERS),
        *(
            line(OTHER, figures=FIGURES | {name: value})
            for name in ("signal", "error", "seconds", "damping")
            for value in NO_NUMBERS
        ),
        *(line(OTHER, figures=FIGURES | {"weighted": value}) for value in NO_WEIGHTED),
        *(line(OTHER, figures=FIGURES | {"weighted": FIGURES["weighted"] | {"signal": value}}) for value in NO_NUMBERS),
        *(line(OTHER, figures=FIGURES | {"notes": value}) for value in NO_NOTES),
    ],
    ids=lambda text: text[:20],
)
def test_a_damaged_line_counts_for_nothing(damaged: str, tmp_path: Path) -> None:
    path = tmp_path / "tensors.jsonl"
    path.write_text("\n".join([damaged, line(SOUND), damaged]) + "\n")
    found = TensorJournal(path, lambda: None).read([OTHER, SOUND])
    assert list(found) == [1] and found[1].record.plan is SOUND and found[1].record.figures == FIGURES


def test_a_line_that_is_cut_off_counts_for_nothing(tmp_path: Path) -> None:
    path = tmp_path / "tensors.jsonl"
    whole = line(OTHER)
    for length in range(len(whole)):
        path.write_text(line(SOUND) + "\n" + whole[:length])
        assert list(TensorJournal(path, lambda: None).read([OTHER, SOUND])) == [1]
