"""MMLU: questions, scores, and the tool beside a server that answers what it is told to."""

import json
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from math import exp, inf, log
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.errors import EvaluationError
from evaluation.mmlu import Question, Server, ask_all, prompt, read_questions, score
from evaluation.mmlu.scores import Choice, choose, negative_log_likelihood
from tests.samples.waiting import LONGEST

TOOL = Path(__file__).resolve().parents[4] / "tools" / "eval_mmlu.py"
NO_NUMBERS: tuple[object, ...] = ("x", None, [], 10**400)
CSV = '"Which number is even?",3,5,8,9,C\n"Which is a colour, as in ""a red door""?",red,seven,slowly,under,A\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two subjects of two questions each, and an example of one."""
    (tmp_path / "test").mkdir()
    (tmp_path / "dev").mkdir()
    (tmp_path / "test" / "plain_numbers_test.csv").write_text(CSV)
    (tmp_path / "test" / "words_test.csv").write_text(CSV)
    for subject in ("plain_numbers", "words"):
        (tmp_path / "dev" / f"{subject}_dev.csv").write_text("How many are two and two?,1,2,3,4,D\n")
    return tmp_path


def test_questions_are_read(folder: Path) -> None:
    questions = read_questions(folder / "test")
    assert [q.subject for q in questions] == ["plain numbers"] * 2 + ["words"] * 2
    assert questions[1] == Question(
        "plain numbers", 'Which is a colour, as in "a red door"?', ("red", "seven", "slowly", "under"), 0
    )
    assert read_questions(folder / "test" / "words_test.csv") == questions[2:]


def test_the_prompt(folder: Path) -> None:
    (question, _), examples = read_questions(folder / "test")[:2], read_questions(folder / "dev")[:1]
    assert prompt(question, examples) == (
        "The following are multiple choice questions (with answers) about plain numbers.\n\n"
        "How many are two and two?\nA. 1\nB. 2\nC. 3\nD. 4\nAnswer: D\n\n"
        "Which number is even?\nA. 3\nB. 5\nC. 8\nD. 9\nAnswer:"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b,c,d,e\n", "line 1"),
        (CSV + "question,a,b,c,d,E\n", "line 3"),
        ("", "holds no questions"),
        ('"a,b\n', "not CSV"),
    ],
)
def test_damaged_questions(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "q.csv").write_text(text)
    with pytest.raises(EvaluationError, match=message):
        read_questions(tmp_path / "q.csv")


def test_questions_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="holds no CSV files"):
        read_questions(tmp_path)
    with pytest.raises(EvaluationError, match="cannot be read"):
        read_questions(tmp_path / "none.csv")


def test_computed_by_hand() -> None:
    # B twice: the likelier spelling counts; D is not among the tokens
    choice = choose([(" A", log(0.2)), ("B", log(0.1)), (" B", log(0.4)), ("the", -0.1), ("C", log(0.2))])
    assert choice.picked == 1
    assert choice.probabilities == pytest.approx((0.25, 0.5, 0.25, exp(-100) / 0.8))
    nothing = choose([("the", -0.1)])
    assert nothing == Choice((0.25,) * 4, None)
    found = score([(choice, 1), (choice, 0), (nothing, 0)])
    assert (found.questions, found.accuracy, found.unanswered) == (3, 1 / 3, 1)
    assert found.mean_nll == pytest.approx((log(2) + log(4) + log(4)) / 3)
    assert found.perplexity == pytest.approx(exp(found.mean_nll)) == pytest.approx(32 ** (1 / 3))
    # -100 for the right option, and all the rest for another one
    assert negative_log_likelihood(choose([("A", 0.0)]), 3) == pytest.approx(100)
    with pytest.raises(ValueError, match="nothing to score"):
        score([])


values = st.floats(-90, 0)


@given(st.dictionaries(st.sampled_from("ABCD"), values, min_size=1), st.integers(0, 3))
def test_probabilities(logs: dict[str, float], answer: int) -> None:
    choice = choose([(f" {letter}", value) for letter, value in logs.items()])
    assert sum(choice.probabilities) == pytest.approx(1)
    assert choice.picked is not None and max(choice.probabilities) == choice.probabilities[choice.picked]
    assert 0 <= negative_log_likelihood(choice, answer) < inf
    # a constant added to all of them changes nothing
    if len(logs) == 4:
        again = choose([(letter, value - 5) for letter, value in logs.items()])
        assert again.probabilities == pytest.approx(choice.probabilities, abs=1e-12)


class Answers(BaseHTTPRequestHandler):
    """Knows that 8 is even, and picks B for all else."""

    seen: list[dict[str, Any]] = []  # noqa: RUF012
    status = 200
    answer: Any = None

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        Answers.seen.append(body)
        right = " C" if "is even" in body["prompt"].rpartition("\n\n")[2] else " B"
        tokens = [{"id": 1, "token": right, "logprob": -0.1}, {"id": 2, "token": " A", "logprob": -3.0}]
        answer = Answers.answer or {"completion_probabilities": [{"token": right, "top_logprobs": tokens}]}
        self.send_response(Answers.status)
        self.end_headers()
        self.wfile.write(answer if isinstance(answer, bytes) else json.dumps(answer).encode())

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture
def address() -> Iterator[str]:
    Answers.seen, Answers.status, Answers.answer = [], 200, None
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_a_server_is_asked(folder: Path, address: str) -> None:
    questions, examples = read_questions(folder / "test"), read_questions(folder / "dev")
    one, many = (ask_all(Server(address + "/"), questions, examples, 1, parallel=n) for n in (1, 3))
    assert one == many
    assert [a.choice.picked for a in one] == [2, 1, 2, 1]
    body = Answers.seen[0]
    assert body["n_probs"] == 100 and body["n_predict"] == 1
    assert body["prompt"] == prompt(questions[0], examples[:1])
    with pytest.raises(EvaluationError, match="fewer than 2 examples of plain numbers"):
        ask_all(Server(address), questions, examples, 2)


@pytest.mark.parametrize(
    ("status", "answer", "message"),
    [
        (200, {"content": "x"}, "does not answer like llama-server"),
        (200, {"completion_probabilities": []}, "does not answer like llama-server"),
        *(
            (200, {"completion_probabilities": [{"top_logprobs": [{"token": "A", "logprob": value}]}]}, "answer like")
            for value in NO_NUMBERS
        ),
        (200, b"<html>", "does not answer in JSON"),
        (400, {"error": {"message": "the request exceeds the available context size"}}, "larger -c"),
        (503, {"error": {"message": "Loading model"}}, "refuses a prompt: Loading model"),
        (500, b"oh", "refuses a prompt: oh"),
    ],
)
def test_servers_that_do_not_do(folder: Path, address: str, status: int, answer: Any, message: str) -> None:
    Answers.status, Answers.answer = status, answer
    with pytest.raises(EvaluationError, match=message):
        ask_all(Server(address), read_questions(folder / "test"), parallel=2)


def test_no_server(folder: Path) -> None:
    with pytest.raises(EvaluationError, match="nothing answers at"):
        Server("http://127.0.0.1:9").top_tokens("x")
    for text in ("localhost:8080", "ftp://a", "http://"):
        with pytest.raises(EvaluationError, match="is no address"):
            Server(text)


def run_tool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(TOOL), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=LONGEST)


def test_the_tool(folder: Path, address: str) -> None:
    options = ("--dev", folder / "dev", "--shots", "1", "--server", address, "--parallel", "2")
    done = run_tool(folder / "test", *options, "--json", folder / "out.json")
    assert done.returncode == 0, done.stderr
    nll = (-log(1 / (1 + exp(-2.9) + 2 * exp(-99.9))) - log(exp(-2.9) / (1 + exp(-2.9)))) / 2
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in done.stdout.splitlines()[2:]]
    names = {"plain numbers": "2", "words": "2", "**all**": "4"}
    assert rows == [[name, count, "0.5000", f"{exp(nll):.4f}", "0"] for name, count in names.items()]
    content = json.loads((folder / "out.json").read_text())
    assert content["all"]["accuracy"] == 0.5 and [q["picked"] for q in content["questions"]] == [2, 1, 2, 1]
    limited = run_tool(folder / "test", "--server", address, "--limit", "1")
    assert "| plain numbers | 1 | 1.0000 |" in limited.stdout


def test_the_tool_s_errors_are_one_sentence(folder: Path) -> None:
    questions = next((folder / "test").glob("*.csv"))
    for arguments, message in (
        ((folder / "none.csv",), "cannot be read"),
        ((questions, "--json", questions), "which is read; give another name"),
        ((folder / "test", "--server", "http://127.0.0.1:9"), "nothing answers at"),
        ((folder / "test", "--json", folder / "none" / "x.json"), "none of the output does not exist; make it first"),
    ):
        done = run_tool(*arguments)
        assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
        assert done.stderr.startswith("error: ") and message in done.stderr
    assert run_tool(folder / "test", "--shots", "1").returncode == 2


def test_nobody_waits_for_a_server_that_does_not_answer(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        command = [sys.executable, str(TOOL), str(folder / "test"), "--parallel", "2"]
        command += ["--server", f"http://127.0.0.1:{mute.getsockname()[1]}"]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
            connection, _ = mute.accept()
            process.send_signal(signal.SIGTERM)
            _, said = process.communicate(timeout=LONGEST)
        connection.close()
    assert (process.returncode, said) == (143, "error: interrupted; nothing was written\n")
