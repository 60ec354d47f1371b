"""An evaluation gives the program's numbers, checks what it can beforehand, and leaves nothing behind."""

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path

import pytest

from eoq_formats.errors import EoqError
from evaluation import EvaluationError, EvaluationOptions, EvaluationProgress, Measurement, evaluate
from evaluation.base_logits import logits_bytes
from evaluation.model_file import _bits_per_weight
from gguf_files.errors import SourceError
from llama_programs.errors import NoProgramError
from output_files.errors import TargetError
from tests.unit.evaluation.conftest import MakeModel
from tests.unit.evaluation.fake_perplexity import CHUNKS, KLD, VOCABULARY
from tests.unit.gguf_files.test_source import write_splits


class Heard(EvaluationProgress):
    def __init__(self) -> None:
        self.events: list[tuple[object, ...]] = []

    def base_run(self, base: Path) -> None:
        self.events.append(("base", base.name))

    def base_logits(self, file: Path, size: int) -> None:
        self.events.append(("logits", size))

    def model_run(self, model: Path, number: int, count: int) -> None:
        self.events.append(("run", model.name, number, count))

    def chunks(self, done: int, total: int) -> None:
        self.events.append(("chunks", done, total))

    def measured(self, measurement: Measurement) -> None:
        self.events.append(("measured", measurement.model.path.name))


def test_the_numbers_are_the_programs(
    make_model: MakeModel, text: Path, options: EvaluationOptions, work: Path
) -> None:
    models = [make_model("m-eoq4.gguf", "EOQ4"), make_model("m-iq4.gguf", "Q8_0")]
    heard = Heard()
    result = evaluate(make_model("base.gguf"), models, text, options, heard)
    assert (result.chunks, result.scored, result.context) == (CHUNKS, CHUNKS * 255, 512)
    assert result.base_perplexity.value == 20
    assert [m.divergence.kld.value for m in result.measurements] == [KLD["eoq4"], KLD["iq4"]]
    assert [m.model.has_eoq_types for m in result.measurements] == [True, False]
    assert list(work.iterdir()) == []
    steps = [event for event in heard.events if event[0] != "chunks"]
    assert steps == [
        ("base", "base.gguf"),
        ("logits", logits_bytes(512, CHUNKS, VOCABULARY)),
        ("run", "m-eoq4.gguf", 1, 2),
        ("measured", "m-eoq4.gguf"),
        ("run", "m-iq4.gguf", 2, 2),
        ("measured", "m-iq4.gguf"),
    ]
    assert ("chunks", CHUNKS, CHUNKS) in heard.events


def test_perplexity_is_compared_with_the_bases_own(
    make_model: MakeModel, text: Path, options: EvaluationOptions
) -> None:
    """Not with that of its stored log-probabilities, 19.9 here, which are cut off below."""
    (m,) = evaluate(make_model("base.gguf"), [make_model("m.gguf")], text, options).measurements
    assert m.perplexity_ratio.value == pytest.approx(21 / 20)
    assert m.perplexity_ratio.error / m.perplexity_ratio.value == pytest.approx(0.010553 / 1.055276)


def test_sizes(make_model: MakeModel, text: Path, options: EvaluationOptions) -> None:
    models = [make_model("m-eoq4.gguf", "EOQ4")]
    (m,) = evaluate(make_model("base.gguf"), models, text, options).measurements
    # attn_norm, attn_q, ffn_down, ffn_gate_inp and ffn_up_exps; 2 x 40 rows of embeddings and output besides
    weights = {16: 4 * 256 * 128, 4.125: 128 * 128 + 128 * 256, 32: 128 + 4 * 128}
    bits = sum(bpw * count for bpw, count in weights.items())
    count = sum(weights.values())
    assert m.model.block_bits_per_weight == pytest.approx(bits / count)
    assert m.model.bits_per_weight == pytest.approx((bits + 2 * 40 * 128 * 16) / (count + 2 * 40 * 128))
    assert m.model.bytes == models[0].stat().st_size


def test_options_reach_the_program(
    make_model: MakeModel, text: Path, options: EvaluationOptions, fake_bin: Path
) -> None:
    chosen = dataclasses.replace(options, chunks=1, context=256, threads=3, gpu_layers=5)
    assert evaluate(make_model("base.gguf"), [make_model("m.gguf")], text, chosen).scored == 127
    calls = (fake_bin / "calls.txt").read_text().splitlines()
    assert len(calls) == 2
    assert all("-c 256 -t 3" in call and "-ngl 5" in call for call in calls)
    assert f"-f {text} --chunks 1" in calls[0]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("m-fails.gguf", r"failed \(status 1\) on .*m-fails.gguf: .*tensor 'a' is missing; .*unable to load model"),
        ("m-dies.gguf", r"SIGKILL \(out of memory\?\) on .*m-dies.gguf"),
        ("m-nan.gguf", "m-nan.gguf could not be evaluated: .* nan for Mean KLD"),
        ("m-mute.gguf", "m-mute.gguf could not be evaluated: .*failed reading log-probs for chunk 1"),
    ],
)
def test_a_model_that_fails_is_named(
    make_model: MakeModel, text: Path, options: EvaluationOptions, work: Path, name: str, message: str
) -> None:
    with pytest.raises(EvaluationError, match=message):
        evaluate(make_model("base.gguf"), [make_model(name)], text, options)
    assert list(work.iterdir()) == []


def test_a_base_whose_logits_are_cut_off(
    make_model: MakeModel, text: Path, options: EvaluationOptions, work: Path
) -> None:
    with pytest.raises(EvaluationError, match="is the disk full"):
        evaluate(make_model("base-mute.gguf"), [make_model("m.gguf")], text, options)
    assert list(work.iterdir()) == []


def test_too_little_room(
    make_model: MakeModel, text: Path, options: EvaluationOptions, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("evaluation.base_logits.shutil.disk_usage", lambda folder: type("Usage", (), {"free": 10})())
    # the run is ended, not waited for: it would take a minute
    with pytest.raises(EvaluationError, match="--work-dir"):
        evaluate(make_model("base-slow.gguf"), [make_model("m.gguf")], text, options)
    assert list(work.iterdir()) == []


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        (["a", "b"], r"2 tokens against 40"),
        ([f"t{i}" for i in range(VOCABULARY)], "other texts"),
        ([], "no vocabulary"),
    ],
)
def test_another_vocabulary_is_refused_before_any_run(
    make_model: MakeModel, text: Path, options: EvaluationOptions, tokens: list[str], message: str
) -> None:
    other = make_model("other.gguf", tokens=tokens)
    heard = Heard()
    with pytest.raises(EvaluationError, match=message):
        evaluate(make_model("base.gguf"), [make_model("m.gguf"), other], text, options, heard)
    assert heard.events == []


def test_damaged_and_missing_files(make_model: MakeModel, text: Path, options: EvaluationOptions) -> None:
    base, model = make_model("base.gguf"), make_model("m.gguf")
    with pytest.raises(SourceError, match=r"absent.gguf cannot be read: No such file"):
        evaluate(base, [model.with_name("absent.gguf")], text, options)
    with pytest.raises(EvaluationError, match="text"):
        evaluate(base, [model], text.with_name("absent.txt"), options)
    with pytest.raises(EvaluationError, match="work folder"):
        evaluate(base, [model], text, dataclasses.replace(options, work_dir=text.with_name("absent")))
    with pytest.raises(NoProgramError, match=r"has no program llama-perplexity; .* --llama-bin"):
        evaluate(base, [model], text, dataclasses.replace(options, llama_bin=text.parent))
    model.write_bytes(model.read_bytes()[:-100])
    with pytest.raises(SourceError, match="truncated"):
        evaluate(base, [model], text, options)


def test_a_text_that_is_too_short(make_model: MakeModel, text: Path, options: EvaluationOptions) -> None:
    base = make_model("base.gguf")
    text.write_text("a few words")
    with pytest.raises(EvaluationError, match="you need at least 1024 tokens"):
        evaluate(base, [], text, options)
    text.write_text("word " * 100)
    with pytest.raises(EvaluationError, match="statistics need at least 100"):
        evaluate(base, [], text, dataclasses.replace(options, context=32))


@pytest.mark.parametrize("link", ["itself", "symbolic", "hard"])
@pytest.mark.parametrize("name", ["base.gguf", "m.gguf", "text.txt"])
def test_outputs_that_are_inputs_are_refused_before_any_run(
    make_model: MakeModel, text: Path, options: EvaluationOptions, name: str, link: str
) -> None:
    base, model = make_model("base.gguf"), make_model("m.gguf")
    read = output = text.with_name(name)
    before = read.read_bytes()
    if link != "itself":
        output = text.with_name("out.json")
        (output.symlink_to if link == "symbolic" else output.hardlink_to)(read)
    heard = Heard()
    with pytest.raises(TargetError, match=f"^the output {output} would write over {read}, which is read; give another"):
        evaluate(base, [model], text, options, heard, [text.with_name("fine.png"), output])
    assert heard.events == [] and read.read_bytes() == before


def test_an_output_that_is_a_later_split_of_a_model_is_refused(
    make_model: MakeModel, text: Path, options: EvaluationOptions, tmp_path: Path
) -> None:
    first, second, _ = write_splits(tmp_path)
    with pytest.raises(TargetError, match=f"would write over {second}, which is read"):
        evaluate(make_model("base.gguf"), [first], text, options, outputs=[second])


def test_outputs_that_are_no_inputs_are_left_to_the_caller(
    make_model: MakeModel, text: Path, options: EvaluationOptions
) -> None:
    output = text.with_name("out.json")
    assert evaluate(make_model("base.gguf"), [make_model("m.gguf")], text, options, outputs=[output]).measurements
    assert not output.exists()


@pytest.mark.parametrize(
    "make",
    [
        lambda: EvaluationOptions(context=8),
        lambda: EvaluationOptions(chunks=0),
        lambda: EvaluationOptions(threads=0),
        lambda: EvaluationOptions(gpu_layers=-1),
    ],
    ids=["context", "chunks", "threads", "gpu_layers"],
)
def test_options_without_meaning(make: Callable[[], EvaluationOptions]) -> None:
    with pytest.raises(EvaluationError, match="must be at least"):
        make()


class TestKeptLogits:
    def test_they_are_used_again(self, make_model: MakeModel, text: Path, options: EvaluationOptions) -> None:
        kept = dataclasses.replace(options, base_logits=text.with_name("base.logits"))
        base, model = make_model("base.gguf"), make_model("m-eoq4.gguf")
        first, second = Heard(), Heard()
        results = [evaluate(base, [model], text, kept, heard) for heard in (first, second)]
        assert first.events[0] == ("base", "base.gguf")
        assert second.events[0] == ("run", "m-eoq4.gguf", 1, 1)
        assert results[0].base_perplexity == results[1].base_perplexity
        assert results[0].scored == results[1].scored

    @pytest.mark.parametrize("change", ["text", "chunks", "base", "file"])
    def test_they_are_made_anew_when_something_changed(
        self, make_model: MakeModel, text: Path, options: EvaluationOptions, change: str
    ) -> None:
        kept = dataclasses.replace(options, base_logits=text.with_name("base.logits"))
        base = make_model("base.gguf")
        evaluate(base, [], text, kept)
        if change == "text":
            text.write_text("other " * 4000)
        elif change == "chunks":
            kept = dataclasses.replace(kept, chunks=2)
        elif change == "base":
            base = make_model("another-base.gguf")
        else:
            text.with_name("base.logits").write_bytes(b"_logits_")
        heard = Heard()
        evaluate(base, [], text, kept, heard)
        assert heard.events[0] == ("base", base.name)

    def test_another_file_is_not_overwritten(
        self, make_model: MakeModel, text: Path, options: EvaluationOptions
    ) -> None:
        base, other = make_model("base.gguf"), make_model("other.gguf")
        before = base.read_bytes()
        for file, message in ((base, "would write over"), (text, "would write over"), (other, "not overwritten")):
            with pytest.raises(EoqError, match=message):
                evaluate(base, [], text, dataclasses.replace(options, base_logits=file))
        note = text.rename(text.with_name("kept.json"))
        with pytest.raises(EoqError, match=f"would write over {note}, which is read"):
            evaluate(base, [], note, dataclasses.replace(options, base_logits=text.with_name("kept")))
        assert base.read_bytes() == before and note.read_text().startswith("word")

    def test_a_failed_run_leaves_none(self, make_model: MakeModel, text: Path, options: EvaluationOptions) -> None:
        folder = text.with_name("kept")
        folder.mkdir()
        kept = dataclasses.replace(options, base_logits=folder / "base.logits")
        with pytest.raises(EvaluationError):
            evaluate(make_model("base-fails.gguf"), [], text, kept)
        assert list(folder.iterdir()) == []


def test_no_blocks_no_bits() -> None:
    assert math.isnan(_bits_per_weight([]))
