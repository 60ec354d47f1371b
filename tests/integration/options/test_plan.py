"""Every option of plan_eoq.py changes the plan, or what is said of it."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from converter.plan.planners.fastewq import DATASET
from gguf_files.source import open_gguf
from tests.integration.converter.test_plan_command import LLAMA_8B, model
from tests.integration.options.conftest import Place, from_folder
from tests.integration.options.tools import HF_OPTIONS, HUB, REVISIONS, Effect, Walk, checks, done, refused
from tests.unit.converter.statistics.test_imatrix import write_imatrix

__all__ = ["model"]

Q = "blk.0.attn_q.weight"
BUDGET, EWQ, PRESET = ("--target-bpw", "4.5"), ("--planner", "ewq"), ("--planner", "preset")


@dataclass(frozen=True)
class Plans(Place):
    """Plans for a model of four blocks."""

    model: Path

    def said(self, *words: object) -> str:
        return done("plan", self.model, *words)

    def __call__(self, *words: object) -> dict[str, Any]:
        file = self.folder / "plan.json"
        self.said(*words, "--json", file)
        found: dict[str, Any] = json.loads(file.read_text())
        file.unlink()
        return found

    def types(self, *words: object) -> dict[str, str]:
        """Of the weights of the blocks, by tensor."""
        plan = self(*words)
        entries = [*((f"^{name}$", entry) for name, entry in plan["tensors"].items())]
        entries += [(rule["match"], rule) for rule in plan["rules"]]
        names = [t.name for t in open_gguf(self.model).tensors if t.name.startswith("blk.")]
        found = {name: next(entry for pattern, entry in entries if re.search(pattern, name)) for name in names}
        return {name: entry["type"] if isinstance(entry, dict) else entry for name, entry in found.items()}

    def decisions(self, *words: object) -> list[str]:
        """Of EWQ, by block."""
        return [block["decision"] for block in self(*EWQ, *words)["blocks"]]

    def guesses(self, *words: object) -> list[str]:
        """Of FastEWQ from a configuration: the level of each block."""
        config = self.folder / "config.json"
        config.write_text(json.dumps(LLAMA_8B))
        lines = done("plan", config, "--planner", "fastewq", *words).splitlines()[1:]
        return [line.split()[-1] for line in lines]


def planner(plan: Plans) -> None:
    assert [plan(*words)["planner"] for words in (BUDGET, EWQ, PRESET)] == ["budget", "ewq", "preset uniform"]
    assert plan("--planner", "fastewq")["planner"] == "fastewq"


def json_file(plan: Plans) -> None:
    file = plan.folder / "p.json"
    assert str(file) not in plan.said(*EWQ)
    plan.said(*EWQ, "--json", file)
    assert json.loads(file.read_text())["format"] == "eoq-plan"


def plot(plan: Plans) -> None:
    file = plan.folder / "p.png"
    plan.said(*EWQ, "--plot", file)
    assert file.read_bytes().startswith(b"\x89PNG")


def table(plan: Plans) -> None:
    assert Q not in plan.said(*PRESET) and Q in plan.said(*PRESET, "--table")


def context(plan: Plans) -> None:
    assert "the F16 cache of 4096 tokens" in plan.said(*PRESET)
    assert "the F16 cache of 64 tokens" in plan.said(*PRESET, "--context", 64)
    words = ("--fit-memory", "4.16MB", "--context")
    assert plan.types(*words, 64) != plan.types(*words, 96)


def tensor_type(plan: Plans) -> None:
    assert plan.types(*PRESET, "--tensor-type", "attn_q=f16")[Q] == "f16" != plan.types(*PRESET)[Q]


def size(option: str, small: str, large: str) -> Effect:
    def check(plan: Plans) -> None:
        words = (option, small, "--context", 64), (option, large, "--context", 64)
        one, other = (sum(float(name[3]) for name in plan.types(*w).values() if name[:3] == "eoq") for w in words)
        assert one < other

    return check


def codes(plan: Plans) -> None:
    assert "eoq4t" in plan.types(*BUDGET).values()
    assert plan.types(*BUDGET, "--codes", "trellis") == plan.types(*BUDGET)
    assert not any(name.endswith("t") for name in plan.types(*BUDGET, "--codes", "scalar").values())


def stats(plan: Plans) -> None:
    files = [plan.folder / name for name in ("without.json", "with.json")]
    for file, words in zip(files, ([], ["--stats", plan.inputs.statistics]), strict=True):
        done("plan", plan.inputs.model, *BUDGET, "--json", file, *words)
    one, other = (json.loads(file.read_text())["tensors"][Q]["why"] for file in files)
    assert "loss" in one and one != other


def allow_partial_stats(plan: Plans) -> None:
    sums = {f"{Q}.in_sum2": np.ones((1, 128), np.float32), f"{Q}.counts": np.ones((1, 1), np.float32)}
    words = ("plan", plan.inputs.model, *BUDGET, "--stats", write_imatrix(plan.folder / "imatrix.gguf", sums))
    assert "pass --allow-partial-stats" in refused(*words)
    done(*words, "--allow-partial-stats")


def variant(plan: Plans) -> None:
    assert plan.decisions("--variant", "3bit/4bit") == ["3bit", "4bit", "4bit", "4bit"] != plan.decisions()
    assert {"4bit", "8bit"} <= set(plan.guesses("--variant", "4bit/8bit")) and "4bit" not in plan.guesses()


def x(plan: Plans) -> None:
    assert plan.decisions("--x", 0) != plan.decisions("--x", 1) == plan.decisions()


def epsilon(plan: Plans) -> None:
    usual, other = (plan(*EWQ, *words)["blocks"][0]["entropy"] for words in ([], ["--epsilon", "0.001"]))
    assert (usual, other) == (pytest.approx(4.605, abs=0.01), pytest.approx(6.908, abs=0.1))


def level(plan: Plans) -> None:
    assert plan.types(*EWQ)["blk.3.attn_q.weight"] == "raw"
    assert plan.types(*EWQ, "--level", "raw=eoq6")["blk.3.attn_q.weight"] == "eoq6"


def four_bit(plan: Plans) -> None:
    numbers = ((), ("--four-bit", 0), ("--four-bit", 3), ("--four-bit", 99))
    counts = [plan.guesses("--variant", "4bit/8bit", *words).count("4bit") for words in numbers]
    assert counts == [1, 0, 3, plan.guesses().count("8bit")]


def dataset(plan: Plans) -> None:
    """Of one in which every block is left as it is."""
    header, *rows = DATASET.read_text().splitlines()
    file = plan.folder / "blocks.csv"
    parts = [row.split(",") for row in rows]
    none = [",".join([*part[:4], "raw", "0", *part[6:]]) for part in parts[:-1]]
    file.write_text("\n".join([header, *none, rows[0]]) + "\n")
    assert set(plan.guesses()) == {"raw", "8bit"} and set(plan.guesses("--dataset", file)) == {"raw"}


def machine(plan: Plans) -> None:
    assert "cluster" not in plan(*PRESET)
    cluster = plan(*PRESET, "--machine", "localhost=1GB", "--machine", "nas=1GB,disk=1GB")["cluster"]
    assert [m["address"] for m in cluster["machines"]] == ["localhost:50052", "nas:50052"]


def preset(plan: Plans) -> None:
    assert plan.types(*PRESET, "--preset", "progressive") != plan.types(*PRESET)
    assert "progressive: " in plan.said(*PRESET, "--preset", "list")


def base_type(plan: Plans) -> None:
    assert (plan.types(*PRESET)[Q], plan.types(*PRESET, "--type", "eoq3")[Q]) == ("eoq4", "eoq3")


def threads(plan: Plans) -> None:
    entropies = plan.threads_of("converter.plan.planners.ewq.matrix_entropy", 3)
    plan(*EWQ, "--threads", 3)
    assert set(entropies) == {3}


from_hf_folder = from_folder("plan", "{hf}", *PRESET, "--json", "{out}/p.json")
EFFECTS: dict[str, Effect | str] = {
    "--planner": planner,
    "--json": json_file,
    "--plot": plot,
    "--table": table,
    "--context": context,
    "--tensor-type": tensor_type,
    "--target-bpw": size("--target-bpw", "3.5", "5"),
    "--target-size": size("--target-size", "110kB", "150kB"),
    "--fit-memory": size("--fit-memory", "4.11MB", "4.16MB"),
    "--codes": codes,
    "--stats": stats,
    "--allow-partial-stats": allow_partial_stats,
    "--variant": variant,
    "--x": x,
    "--epsilon": epsilon,
    "--level": level,
    "--four-bit": four_bit,
    "--dataset": dataset,
    "--machine": machine,
    "--preset": preset,
    "--type": base_type,
    "--threads": threads,
    "--revision": f"{HUB}::test_every_tool_takes_ids_and_revisions",
    "--hf-option": from_hf_folder,
    "--llama-dir": from_hf_folder,
    "--work-dir": from_hf_folder,
    "--log-json": "tests/integration/options/test_log_json.py::test_a_plan",
}
WRONG = {
    "--log-json": {"none/log": "none of the output does not exist", "{m}": "is no log of an earlier run"},
    "--json": {"none/plan.json": "none of the output does not exist"},
    "--plot": {"none/plan.png": "none of the output does not exist"},
    "--tensor-type": {"attn_q": "not of the form REGEX=TYPE", "attn_q=q4_k": "unknown tensor type 'q4_k'"},
    "--target-size": {
        "big": "'big' is no size",
        "1ib": "'1ib' is no size",
        "9" * 400: "is no size",
    },
    "--fit-memory": {"-1": "'-1' is no size", "1e9": "'1e9' is no size", "9" * 400: "is no size"},
    "--stats": {"none.stats": "the statistics none.stats do not exist", "{text}": "is neither a statistics file nor"},
    "--variant": {"2bit": "no EWQ variant '2bit'"},
    "--level": {"5bit=eoq5": "LEVEL=TYPE", "raw": "LEVEL=TYPE", "raw=eoq9": "eoq9"},
    "--dataset": {"none.csv": "none.csv"},
    "--machine": {
        "nas": "write a machine like",
        "nas=x": "is no size",
        "nas=1GB,disk=": "is no size",
        "nas=9999999999G": "is no size",
    },
    "--preset": {"best": "no preset 'best'"},
    "--type": {"eoq9": "eoq9"},
    "--revision": REVISIONS,
    "--hf-option": HF_OPTIONS,
    "--llama-dir": {"none": "none is no llama.cpp source tree"},
    "--work-dir": {"none": "the work folder none does not exist"},
}
WALK = Walk(
    "plan",
    EFFECTS,
    WRONG,
    ("{m}", *PRESET),
    {
        "--llama-dir": ("{hf}", *PRESET),
        **dict.fromkeys(("--target-bpw", "--target-size", "--fit-memory"), ("{m}",)),
        **dict.fromkeys(("--stats", "--tensor-type"), ("{m}", *BUDGET)),
        **dict.fromkeys(("--variant", "--x", "--epsilon", "--level"), ("{m}", *EWQ)),
        **dict.fromkeys(("--four-bit", "--dataset"), ("{m}", "--planner", "fastewq")),
    },
)


@pytest.fixture
def plans(place: Place, model: Path) -> Plans:
    return Plans(place.inputs, place.folder, place.patch, model)


@pytest.mark.parametrize("check", checks(EFFECTS))
def test_it_has_an_effect(check: Effect, plans: Plans) -> None:
    check(plans)
