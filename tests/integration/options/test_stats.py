"""Every option of stats_eoq.py collect changes what llama-moments is asked for, or what is kept and said."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.options.conftest import Place, from_folder
from tests.integration.options.tools import HF_OPTIONS, HUB, REVISIONS, Effect, Walk, checks, done, refused


def collect(place: Place, *words: object) -> list[str]:
    """How llama-moments is called."""
    common = ("--llama-bin", place.inputs.llama_bin, "--calib", place.inputs.text)
    done("stats", "collect", place.inputs.model, place.folder / "s.stats", *common, *words)
    return place.inputs.calls[-1]


def asks(*words: object, asked: str) -> Callable[[Place], None]:
    """It is asked for that, and for something else without the option."""

    def check(place: Place) -> None:
        assert asked not in " ".join(collect(place))
        assert asked in " ".join(collect(place, *words))

    return check


def by_text(place: Place) -> None:
    kinds = place.folder / "kinds"
    calls = len(place.inputs.calls)
    words = ("--calib", place.inputs.text, "--calib", "self:2", "--by-text", "--llama-bin", place.inputs.llama_bin)
    done("stats", "collect", place.inputs.model, kinds, *words)
    assert sorted(file.name for file in kinds.iterdir()) == ["self.stats", "text.stats"]
    assert len(place.inputs.calls) == calls + 2


def llama_bin(place: Place) -> None:
    words = ("stats", "collect", place.inputs.model, place.folder / "s.stats", "--llama-bin")
    assert f"{place.folder} has no program llama-moments" in refused(*words, place.folder)
    done(*words, place.inputs.llama_bin)


def quiet(place: Place) -> None:
    words = ("stats", "collect", place.inputs.model, place.folder / "s.stats", "--llama-bin", place.inputs.llama_bin)
    assert "3 tensors" in done(*words) and done(*words, "--quiet") == ""


from_hf_folder = from_folder("stats", "collect", "{hf}", "{out}/s.stats", "--llama-bin", "{bin}", "--calib", "self")
EFFECTS: dict[str, Effect | str] = {
    "collect --by-text": by_text,
    "collect --calib": asks("--calib", "self:3", asked="--self --weight 3.0"),
    "collect --calib-tokens": asks("--calib-tokens", 1024, asked="--tokens 1024"),
    "collect --calib-length": asks("--calib-length", 64, asked="-c 64"),
    "collect --calib-memory": asks("--calib-memory", 0.5, asked="--memory 536"),
    "collect --gpu-layers": asks("--gpu-layers", 7, asked="-ngl 7"),
    "collect --all-experts": asks("--all-experts", asked="--override-kv llama.expert_used_count=int:6"),
    "collect --resume": asks("--resume", asked="--resume"),
    "collect --llama-bin": llama_bin,
    "collect --threads": asks("--threads", 3, asked="-t 3"),
    "collect --revision": f"{HUB}::test_every_tool_takes_ids_and_revisions",
    "collect --hf-option": from_hf_folder,
    "collect --llama-dir": from_hf_folder,
    "collect --work-dir": from_hf_folder,
    "collect --quiet": quiet,
    "collect --log-json": "tests/integration/options/test_log_json.py::test_a_calibration_counts_tokens",
}
WRONG = {
    "collect --calib": {"none.txt": "none.txt", "{text}:0": "must be above 0, not 0"},
    "collect --llama-bin": {"none": "none has no program llama-moments"},
    "collect --revision": REVISIONS,
    "collect --hf-option": HF_OPTIONS,
    "collect --llama-dir": {"none": "none is no llama.cpp source tree"},
    "collect --log-json": {"none/log": "none of the output does not exist", "{m}": "is no log of an earlier run"},
    "collect --work-dir": {"none": "the work folder none does not exist"},
}
WORDS = ("{out}/s.stats", "--llama-bin", "{bin}", "--calib", "self")
WALK = Walk("stats", EFFECTS, WRONG, ("collect", "{m}", *WORDS), {"collect --llama-dir": ("collect", "{hf}", *WORDS)})


@pytest.mark.parametrize("check", checks(EFFECTS))
def test_it_has_an_effect(check: Effect, place: Place) -> None:
    check(place)


def test_what_is_kept_is_what_llama_moments_gave(place: Place) -> None:
    collect(place)
    assert Path(place.folder / "s.stats").read_bytes() == place.inputs.statistics.read_bytes()
