"""Every option of convert_eoq.py changes what is written, said, or asked of llama.cpp."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import gguf
import numpy as np
import pytest

from tests.integration.options.conftest import Place, from_folder
from tests.integration.options.tools import HF_OPTIONS, HUB, REVISIONS, Effect, Walk, checks, done, refused
from tests.samples.gguf_samples import as_type, random_weights, write_gguf
from tests.unit.converter.statistics.test_imatrix import write_imatrix

Q, K = "blk.0.attn_q.weight", "blk.0.attn_k.weight"


@dataclass(frozen=True)
class Conversions(Place):
    """Conversions of the small model, each to a file of its own."""

    said: list[str] = field(default_factory=list)
    """By each of them."""

    def new(self) -> Path:
        return self.folder / f"{len(list(self.folder.iterdir()))}.gguf"

    def __call__(self, *words: object) -> Path:
        """Convert by the statistics that lie ready, unless the words name another way."""
        others = {"--rtn", "--stats", "--imatrix", "--llama-bin"}
        ready = () if others.intersection(words) else ("--stats", self.inputs.statistics)
        target = self.new()
        self.said.append(done("convert", self.inputs.model, target, *ready, "--threads", 1, *words))
        return target

    def calls(self, *words: object) -> list[str]:
        """How llama-moments is called for a conversion that calibrates."""
        self("--llama-bin", self.inputs.llama_bin, "--calib", self.inputs.text, *words)
        return self.inputs.calls[-1]


def types(path: Path) -> dict[str, str]:
    return {t.name: t.tensor_type.name.lower() for t in gguf.GGUFReader(path).tensors}


def report(path: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads(path.with_suffix(".report.json").read_text())
    return found


def other_type(tensor: str, type: str, *words: object) -> Callable[[Conversions], None]:
    def check(convert: Conversions) -> None:
        assert types(convert("--rtn"))[tensor] != type
        assert types(convert("--rtn", *words))[tensor] == type

    return check


def other_codes(*words: object, common: Sequence[object] = ()) -> Callable[[Conversions], None]:
    """The same types, and other bytes."""

    def check(convert: Conversions) -> None:
        usual, changed, again = convert(*common), convert(*common, *words), convert(*common, *words)
        assert types(usual) == types(changed)
        assert changed.read_bytes() == again.read_bytes()
        data = [[t.data.tobytes() for t in gguf.GGUFReader(path).tensors] for path in (usual, changed)]
        assert data[0] != data[1]

    return check


def asks(option: str, value: object, *asked: str) -> Callable[[Conversions], None]:
    """llama-moments is asked for it, and for something else without the option."""

    def check(convert: Conversions) -> None:
        words = " ".join(asked)
        assert words not in " ".join(convert.calls())
        assert words in " ".join(convert.calls(option, value))

    return check


def plan(convert: Conversions) -> None:
    file = convert.folder / "plan.json"
    file.write_text('{"format": "eoq-plan", "version": 1, "tensors": {"blk.0.attn_q.weight": "eoq6"}}')
    other_type(Q, "eoq6", "--plan", file)(convert)


def to_size(option: str, small: str, large: str) -> Effect:
    """More bits for more bytes; neither a type for all nor a plan beside it."""

    def check(convert: Conversions) -> None:
        one, other = (report(convert(option, value))["bits_per_weight"] for value in (small, large))
        assert isinstance(one, float) and isinstance(other, float) and one < other
        words = ("convert", convert.inputs.model, convert.new(), option, small)
        assert f"{option} makes a plan, and --plan is one" in refused(*words, "--plan", "p.json")
        assert "leave --type out" in refused(*words, *TRELLIS)

    return check


def codes(convert: Conversions) -> None:
    def found(*words: object) -> set[str]:
        return {name for name in types(convert("--target-bpw", "4.5", *words)).values() if name < "eoq6"}

    assert any("t" in name for name in found()) and found("--codes", "trellis") == found()
    assert not any("t" in name for name in found("--codes", "scalar"))
    assert "--codes is for --target-size" in refused(
        "convert", convert.inputs.model, convert.new(), "--codes", "scalar"
    )


def context(convert: Conversions) -> None:
    words = ("convert", convert.inputs.model, convert.new())
    assert "the F16 cache of 64 tokens" in done(*words, "--dry-run", "--context", 64)
    assert "the F16 cache of 512 tokens" in done(*words, "--dry-run")
    assert "--context is for --fit-memory" in refused(*words, "--context", 64)
    roomy, tight = (report(convert("--fit-memory", "4.1MB", "--context", n))["bits_per_weight"] for n in (64, 110))
    assert isinstance(roomy, float) and isinstance(tight, float) and roomy > tight


def quantized_by(convert: Conversions) -> None:
    key = "general.quantized_by"
    assert key not in gguf.GGUFReader(convert("--rtn")).fields
    assert gguf.GGUFReader(convert("--rtn", "--quantized-by", "Ann")).fields[key].contents() == "Ann"


def dry_run(convert: Conversions) -> None:
    said = done("convert", convert.inputs.model, convert.folder / "m.gguf", "--dry-run")
    assert Q in said and "memory: " in said and not list(convert.folder.iterdir())


def rtn(convert: Conversions) -> None:
    assert (report(convert())["method"], report(convert("--rtn"))["method"]) == ("error-feedback", "rtn")
    other_codes("--rounding", "nearest")(convert)


def awq(convert: Conversions) -> None:
    def folds(*words: object) -> object:
        return report(convert(*words))["folds"]

    assert folds("--awq", "on") and not folds("--awq", "off") and not folds()
    assert folds("--type", "eoq2", "--awq", "auto") and not folds("--type", "eoq2", "--awq", "off")


def stats(convert: Conversions) -> None:
    """Read where it is there, kept where it is not."""
    calls, file = len(convert.inputs.calls), convert.folder / "new.stats"
    ready = convert()
    assert len(convert.inputs.calls) == calls and report(ready)["statistics"] == "made up"
    made = convert("--stats", file, "--llama-bin", convert.inputs.llama_bin)
    assert len(convert.inputs.calls) == calls + 1
    assert file.read_bytes() == convert.inputs.statistics.read_bytes() and made.read_bytes() == ready.read_bytes()


def imatrix(convert: Conversions) -> None:
    made = convert("--imatrix", convert.inputs.imatrix)
    assert "imatrix" in str(report(made)["statistics"]) and made.read_bytes() != convert().read_bytes()


def allow_partial_stats(convert: Conversions) -> None:
    sums = {f"{K}.in_sum2": np.ones((1, 128), np.float32), f"{K}.counts": np.ones((1, 1), np.float32)}
    of_one = write_imatrix(convert.folder / "imatrix.gguf", sums)
    words = ("convert", convert.inputs.model, convert.new(), "--imatrix", of_one)
    assert "pass --allow-partial-stats" in refused(*words)
    done(*words, "--allow-partial-stats")


def calib(convert: Conversions) -> None:
    words = convert.calls("--calib", "self:3")
    place = words.index("-f")
    text = str(convert.inputs.text)
    assert words[place : place + 7] == ["-f", text, "--weight", "1.0", "--self", "--weight", "3.0"]
    convert("--llama-bin", convert.inputs.llama_bin)
    assert sum(word == "-f" for word in convert.inputs.calls[-1]) == 8  # the kinds that come with EOQ


def all_experts(convert: Conversions) -> None:
    assert "--override-kv" not in convert.calls()
    assert "--override-kv llama.expert_used_count=int:6" in " ".join(convert.calls("--all-experts"))


def llama_bin(convert: Conversions) -> None:
    said = refused("convert", convert.inputs.model, convert.new(), "--llama-bin", convert.folder)
    assert f"{convert.folder} has no program llama-moments" in said
    assert convert.calls()


def device(convert: Conversions) -> None:
    """Tensors go there: on PyTorch's `meta` they have no numbers, which comes to light when they are asked for."""
    convert.patch.setattr("converter.torch_settings.check_device", lambda name: None)
    with pytest.raises((NotImplementedError, RuntimeError), match="meta"):
        convert("--device", "meta")


def allow_requantize(convert: Conversions) -> None:
    weights = as_type(random_weights(1, 4, 128), gguf.GGMLQuantizationType.Q8_0)
    quantised = write_gguf(convert.folder / "q.gguf", {"output.weight": weights})
    said = refused("convert", quantised, convert.new(), "--rtn")
    assert "--allow-requantize" in said
    done("convert", quantised, target := convert.new(), "--rtn", "--allow-requantize")
    assert types(target)["output.weight"] == "eoq6"


def threads(convert: Conversions) -> None:
    rows, torch = convert.threads_of("converter.pipeline.RowWorkers", 0), convert.threads_of("torch.set_num_threads", 0)
    called = convert.calls("--threads", 3)
    assert rows == [3] and torch[0] == 3 and called[called.index("-t") + 1] == "3"


def work_dir(convert: Conversions) -> None:
    """Without it all is beside the output."""
    work = convert.folder / "work"
    work.mkdir()
    beside = convert.calls()
    there = convert.calls("--work-dir", work)
    assert [work in Path(call[call.index("-o") + 1]).parents for call in (beside, there)] == [False, True]
    assert not list(work.iterdir())
    from_folder("convert", "{hf}", "{out}/m.gguf", "--rtn")(replace(convert, folder=work))


def table(convert: Conversions) -> None:
    def lines(*words: object) -> int:
        convert(*words)
        return sum(line.startswith(Q) for line in convert.said[-1].splitlines())

    assert lines("--table") == lines() + 1


def quiet(convert: Conversions) -> None:
    convert()
    convert("--quiet")
    usual, quiet = convert.said
    assert usual and not quiet


RELEASE = "tests/unit/converter/release/test_make_release.py"
COMMAND_LINE = "tests/integration/converter/test_command_line.py"
TRELLIS = ("--type", "eoq3t")
EFFECTS: dict[str, Effect | str] = {
    "--type": other_type(Q, "eoq3", "--type", "eoq3"),
    "--output-type": other_type("output.weight", "q8_0", "--output-type", "q8_0"),
    "--token-embd-type": other_type("token_embd.weight", "f16", "--token-embd-type", "f16"),
    "--tensor-type": other_type(K, "eoq5", "--tensor-type", "attn_q=eoq3", "--tensor-type", "attn_[qk]=eoq5"),
    "--plan": plan,
    "--target-bpw": to_size("--target-bpw", "3.5", "5"),
    "--target-size": to_size("--target-size", "32kB", "42kB"),
    "--fit-memory": to_size("--fit-memory", "6.06MB", "6.08MB"),
    "--codes": codes,
    "--context": context,
    "--dry-run": dry_run,
    "--rtn": rtn,
    "--rounding": other_codes("--rounding", "nearest"),
    "--awq": awq,
    "--stats": stats,
    "--imatrix": imatrix,
    "--allow-partial-stats": allow_partial_stats,
    "--calib": calib,
    "--calib-tokens": asks("--calib-tokens", 1024, "--tokens", "1024"),
    "--calib-length": asks("--calib-length", 64, "-c", "64"),
    "--calib-memory": asks("--calib-memory", 0.5, "--memory", "536"),
    "--gpu-layers": asks("--gpu-layers", 7, "-ngl", "7"),
    "--all-experts": all_experts,
    "--mmproj": "tests/integration/converter/test_projector.py::test_its_type_is_chosen",
    "--resume": f"{COMMAND_LINE}::test_an_interrupted_conversion_is_gone_on_with",
    "--split-max-size": f"{COMMAND_LINE}::test_splits_are_told",
    "--split-max-tensors": f"{COMMAND_LINE}::test_splits_are_told",
    "--max-memory": "tests/unit/converter/test_memory.py::test_the_bound_is_kept_and_makes_no_difference",
    "--ray": "tests/integration/converter/test_ray.py::test_the_tool_connects_to_a_cluster",
    "--llama-bin": llama_bin,
    "--device": device,
    "--damping": other_codes("--damping", "0.5"),
    "--shrinkage": other_codes("--shrinkage", "0"),
    "--effort": other_codes("--effort", "1", common=TRELLIS),
    "--allow-requantize": allow_requantize,
    "--threads": threads,
    "--revision": f"{HUB}::test_every_tool_takes_ids_and_revisions",
    "--hf-option": work_dir,
    "--llama-dir": work_dir,
    "--work-dir": work_dir,
    "--evaluate": f"{RELEASE}::test_files_are_measured_for_their_card",
    "--quantized-by": quantized_by,
    "--table": table,
    "--quiet": quiet,
    "--log-json": "tests/integration/options/test_log_json.py::test_a_conversion",
}
WRONG = {
    "--type": {
        "eoq9": "unknown EOQ type 'eoq9'; choose one of eoq2",
        "q8_0": "unknown EOQ type 'q8_0'",
        "eoq4,eoq9": "unknown EOQ type 'eoq9'",
        "eoq4,eoq4": "named twice",
        "eoq3,eoq4": "several types go into a folder, and m.gguf names a file",
    },
    "--output-type": {"q4_k": "unknown tensor type 'q4_k'; choose one of"},
    "--token-embd-type": {"": "unknown tensor type ''"},
    "--tensor-type": {"attn_q": "not of the form REGEX=TYPE", "none=eoq5": "none=eoq5 matches no tensor"},
    "--plan": {"none.json": "none.json cannot be read"},
    "--target-size": {"8": "'8' is no size", "1kB": "needs --target-size", "9TB": "nothing to quantise"},
    "--fit-memory": {"8": "'8' is no size", "1kB": "needs --fit-memory"},
    "--stats": {"{text}": "is neither a statistics file nor"},
    "--imatrix": {"{text}": "is neither a statistics file nor", "none": "the imatrix none does not exist"},
    "--calib": {"none.txt": "none.txt", "{text}:-1": "must be above 0, not -1"},
    "--llama-bin": {"none": "none has no program llama-moments"},
    "--device": {"nonsense": "nonsense", "": "device"},
    "--revision": REVISIONS,
    "--hf-option": HF_OPTIONS,
    "--llama-dir": {"none": "none is no llama.cpp source tree"},
    "--work-dir": {"none": "the work folder none does not exist"},
    "--split-max-size": {"8": "'8' is no size", "0G": "'0G' is no size", "9999999999G": "is no size"},
    "--max-memory": {"8": "'8' is no size", "1M": "--max-memory 1M is too little"},
    "--evaluate": {"none.txt": "none.txt", "{m}": "llama-perplexity"},
    "--quantized-by": {"": "'' is no name", "a\nb": "is no name", "x" * 201: "more than 200 letters"},
    "--log-json": {"none/log": "none of the output does not exist", "{m}": "is no log of an earlier run"},
    "--ray": {"head": "'head' is no address of a Ray cluster", "ray://head:10001": "give HOST:PORT"},
}
WORDS = ("{m}", "{out}/m.gguf", "--llama-bin", "{bin}", "--calib", "self")
SEVERAL = ("{m}", "{out}/several", "--type", "eoq3,eoq4", "--rtn", "--llama-bin", "{bin}")
WALK = Walk("convert", EFFECTS, WRONG, WORDS, {"--llama-dir": ("{hf}", *WORDS[1:]), "--evaluate": SEVERAL})


@pytest.fixture
def conversions(place: Place) -> Conversions:
    return Conversions(place.inputs, place.folder, place.patch)


@pytest.mark.parametrize("check", checks(EFFECTS))
def test_it_has_an_effect(check: Effect, conversions: Conversions) -> None:
    check(conversions)
