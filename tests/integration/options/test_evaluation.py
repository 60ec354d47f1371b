"""Every option of eval_eoq.py and eval_mmlu.py changes what llama-perplexity or the server is asked, or what comes."""

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.integration.options.tools import Effect, Walk, checks, done, run
from tests.unit.evaluation.conftest import MakeModel, fake_bin, make_model, text
from tests.unit.evaluation.mmlu.test_comparison import A, B, write_answers
from tests.unit.evaluation.mmlu.test_mmlu import Answers, address
from tests.unit.evaluation.mmlu.test_mmlu import folder as questions

__all__ = ["address", "fake_bin", "make_model", "questions", "text"]


@dataclass(frozen=True)
class Evaluations:
    """Evaluations of one model by a program that writes down how it is called."""

    folder: Path
    base: Path
    model: Path
    text: Path
    bin: Path

    def __call__(self, *words: object) -> str:
        """How the program is called: for the base, and for the model."""
        calls = self.bin / "calls.txt"
        calls.unlink(missing_ok=True)
        common = ("--llama-bin", self.bin, "--base", self.base, "--text", self.text)
        done("eval", self.model, *common, "--threads", 1, *words)
        return calls.read_text()


def asks(*words: object, asked: str) -> Callable[[Evaluations], None]:
    def check(evaluate: Evaluations) -> None:
        assert asked not in evaluate()
        assert evaluate(*words).count(asked) == 2

    return check


def base(evaluate: Evaluations) -> None:
    assert f"-m {evaluate.base} " in evaluate() and f"-m {evaluate.model} " in evaluate("--base", evaluate.model)


def text_file(evaluate: Evaluations) -> None:
    other = evaluate.folder / "other.txt"
    other.write_text("word " * 4000)
    assert f"-f {evaluate.text}" in evaluate() and f"-f {other}" in evaluate("--text", other)


def chunks(evaluate: Evaluations) -> None:
    assert "--chunks" not in evaluate() and "--chunks 3" in evaluate("--chunks", 3)


def json_file(evaluate: Evaluations) -> None:
    evaluate("--json", evaluate.folder / "e.json")
    assert json.loads((evaluate.folder / "e.json").read_text())["models"]


def plot(evaluate: Evaluations) -> None:
    evaluate("--plot", evaluate.folder / "e.png")
    assert (evaluate.folder / "e.png").read_bytes().startswith(b"\x89PNG")


def llama_bin(evaluate: Evaluations) -> None:
    assert evaluate()
    ended = run(
        "eval", evaluate.model, "--base", evaluate.base, "--text", evaluate.text, "--llama-bin", evaluate.folder
    )
    assert f"{evaluate.folder} has no program llama-perplexity" in ended.err


def work_dir(evaluate: Evaluations) -> None:
    assert str(evaluate.folder) not in evaluate()
    assert f"--save-all-logits {evaluate.folder}" in evaluate("--work-dir", evaluate.folder)
    assert not list(evaluate.folder.iterdir())


def base_logits(evaluate: Evaluations) -> None:
    kept = ("--base-logits", evaluate.folder / "kept")
    assert [evaluate(*kept).count("--save-all-logits") for _ in range(2)] == [1, 0]


def quiet(evaluate: Evaluations) -> None:
    words = ("--llama-bin", evaluate.bin, "--base", evaluate.base, "--text", evaluate.text)
    loud, quiet = (run("eval", evaluate.model, *words, *more) for more in ((), ("--quiet",)))
    assert loud.err and not quiet.err and quiet.out == loud.out


EVAL = Walk(
    "eval",
    {
        "--base": base,
        "--text": text_file,
        "--context": asks("--context", 256, asked=" -c 256 "),
        "--chunks": chunks,
        "--threads": asks("--threads", 3, asked=" -t 3"),
        "--gpu-layers": asks("--gpu-layers", 7, asked=" -ngl 7"),
        "--llama-bin": llama_bin,
        "--json": json_file,
        "--plot": plot,
        "--work-dir": work_dir,
        "--base-logits": base_logits,
        "--quiet": quiet,
        "--log-json": "tests/integration/options/test_log_json.py::test_an_evaluation",
    },
    {
        "--log-json": {"none/log": "none of the output does not exist", "{text}": "is no log of an earlier run"},
        "--base": {"none.gguf": "none.gguf", "{text}": "cannot be read as GGUF"},
        "--text": {"none.txt": "none.txt"},
        "--llama-bin": {"none": "none has no program llama-perplexity"},
        "--json": {"none/e.json": "none of the output does not exist"},
        "--plot": {"none/e.png": "none of the output does not exist"},
        "--work-dir": {"none": "the work folder none does not exist"},
        "--base-logits": {"none/kept": "none of the output does not exist"},
    },
    ("{eval_model}", "--base", "{eval_base}", "--text", "{text}", "--quiet", "--llama-bin", "{perplexity_bin}"),
)


@pytest.fixture
def evaluations(folder: Path, make_model: MakeModel, text: Path, fake_bin: Path) -> Evaluations:
    return Evaluations(folder, make_model("base.gguf"), make_model("m-eoq4.gguf", "EOQ4"), text, fake_bin)


@pytest.mark.parametrize("check", checks(EVAL.effects))
def test_it_has_an_effect_on_an_evaluation(check: Effect, evaluations: Evaluations) -> None:
    check(evaluations)


@dataclass(frozen=True)
class Asking:
    """Questions put to a server that answers by rule."""

    folder: Path
    server: str
    patch: pytest.MonkeyPatch

    def __call__(self, *words: object) -> list[str]:
        """The prompts that the server gets."""
        Answers.seen = []
        done("mmlu", self.folder / "test", "--server", self.server, *words)
        return [body["prompt"] for body in Answers.seen]


def server(ask: Asking) -> None:
    assert len(ask()) == 4
    assert "nothing answers at" in run("mmlu", ask.folder / "test", "--server", "http://127.0.0.1:9").err


def shots(ask: Asking) -> None:
    example = "How many are two and two?"
    assert not any(example in prompt for prompt in ask("--dev", ask.folder / "dev"))
    assert all(example in prompt for prompt in ask("--dev", ask.folder / "dev", "--shots", 1))


def limit(ask: Asking) -> None:
    assert (len(ask()), len(ask("--limit", 1))) == (4, 2)


def parallel(ask: Asking) -> None:
    started: list[str] = []

    class Thread(threading.Thread):
        def start(self) -> None:
            started.append(self.name)
            super().start()

    ask.patch.setattr("evaluation.mmlu.ask.Thread", Thread)
    ask()
    assert len(started) == 1
    ask("--parallel", 3)
    assert len(started) == 1 + 3


def mmlu_json(ask: Asking) -> None:
    ask("--json", ask.folder / "out.json")
    assert json.loads((ask.folder / "out.json").read_text())["all"]["questions"] == 4


def mmlu_quiet(ask: Asking) -> None:
    """On a terminal, where there is a bar."""
    ask.patch.setenv("FORCE_COLOR", "1")
    loud, quiet = (run("mmlu", ask.folder / "test", "--server", ask.server, *more) for more in ((), ("--quiet",)))
    assert "asking" in loud.err and not quiet.err and quiet.out == loud.out


def results(ask: Asking) -> list[Path]:
    """Of two models, on the same questions in two subjects."""
    return [write_answers(ask.folder / f"{number}.json", answers) for number, answers in enumerate((A, B))]


def pairs(ask: Asking) -> None:
    usual, changed = (done("mmlu", "compare", *results(ask), *words) for words in ((), ("--pairs", "questions")))
    assert "pairs of subjects" in usual and "pairs of questions" in changed


def weights(ask: Asking) -> None:
    words = (("--perplexity-weight", 2), ("--accuracy-weight", 3))
    assert len({done("mmlu", "compare", *results(ask), *more) for more in ((), *words)}) == 3


def comparison_json(ask: Asking) -> None:
    done("mmlu", "compare", *results(ask), "--json", ask.folder / "out.json")
    assert json.loads((ask.folder / "out.json").read_text())["comparisons"][0]["pairs"] == 2


MMLU = Walk(
    "mmlu",
    {
        "ask --server": server,
        "ask --dev": shots,
        "ask --shots": shots,
        "ask --limit": limit,
        "ask --parallel": parallel,
        "ask --json": mmlu_json,
        "ask --quiet": mmlu_quiet,
        "compare --pairs": pairs,
        "compare --perplexity-weight": weights,
        "compare --accuracy-weight": weights,
        "compare --json": comparison_json,
    },
    {
        "ask --limit": {"0": "must be at least 1"},
        "ask --server": {
            "localhost:8080": "is no address",
            "http://[": "is no address",
            "http://127.0.0.1:x": "is no address",
            "http://127.0.0.1:99999": "is no address",
        },
        "ask --dev": {"none": "none cannot be read"},
        "ask --json": {"none/out.json": "none of the output does not exist"},
        "compare --perplexity-weight": {"-1": "the weights must be from 0"},
        "compare --accuracy-weight": {"nan": "the weights must be from 0"},
        "compare --json": {"none/out.json": "none of the output does not exist"},
    },
    ("{questions}", "--server", "http://127.0.0.1:9"),
    {
        f"compare {name}": ("compare", "{answers}", "{answers}")
        for name in ("--perplexity-weight", "--accuracy-weight", "--json")
    },
)


@pytest.fixture
def asking(questions: Path, address: str, monkeypatch: pytest.MonkeyPatch) -> Asking:
    return Asking(questions, address, monkeypatch)


@pytest.mark.parametrize("check", checks(MMLU.effects))
def test_it_has_an_effect_on_what_a_server_is_asked(check: Effect, asking: Asking) -> None:
    check(asking)
