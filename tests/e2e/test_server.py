"""llama-server answers chat completions from an EOQ file."""

import json
import re
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.command import ROOT, run
from tests.e2e.conftest import Convert
from tests.samples.waiting import LONGEST


@contextmanager
def llama_server(programs: Path, model: Path) -> Iterator[str]:
    """A running server on a free port of the loopback interface; gives its address, and ends it in any case."""
    # port 0: the server takes a free one and says which
    command = [str(programs / "llama-server"), "-m", str(model), "--host", "127.0.0.1", "--port", "0"]
    command += ["-c", "512", "--parallel", "1"]
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        # a server that hangs is killed, which ends its output and so the loop below
        watchdog = threading.Timer(LONGEST, process.kill)
        watchdog.start()
        reader = None
        try:
            assert process.stdout is not None
            lines = []
            for raw in process.stdout:
                lines.append(raw.decode(errors="replace"))
                if found := re.search(r"listening on (http://\S+)", lines[-1]):
                    break
            else:
                raise AssertionError("llama-server ended before it listened:\n" + "".join(lines[-60:]))
            # the pipe must be emptied, or the server would wait for us
            reader = threading.Thread(target=process.stdout.read, daemon=True)
            reader.start()
            yield found[1]
        finally:
            watchdog.cancel()
            process.kill()
            if reader is not None:
                reader.join()


def post(url: str, body: dict[str, Any]) -> dict[str, Any]:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # the address is on this machine
    with opener.open(request, timeout=LONGEST) as response:
        answer: dict[str, Any] = json.load(response)
    return answer


def test_chat_completion(programs: Path, smollm2: Convert) -> None:
    with llama_server(programs, smollm2("eoq4")) as address:
        body = {
            "messages": [{"role": "user", "content": "What is the capital of France?"}],
            "temperature": 0,
            "seed": 1,
            "max_tokens": 48,
        }
        answer = post(f"{address}/v1/chat/completions", body)
    (choice,) = answer["choices"]
    assert choice["message"]["role"] == "assistant"
    assert "Paris" in choice["message"]["content"]
    assert answer["usage"]["completion_tokens"] > 1


def test_mmlu(programs: Path, smollm2: Convert, tmp_path: Path) -> None:
    """Six questions of our own; a model of this size knows some of the answers, so only the form is certain."""
    questions = tmp_path / "general_knowledge_test.csv"
    questions.write_text(
        "What is the capital of France?,Berlin,Paris,Rome,Madrid,B\n"
        "How many legs does a spider have?,2,4,6,8,D\n"
        "Which of these is a fruit?,apple,stone,chair,cloud,A\n"
        "What colour is fresh snow?,black,green,white,red,C\n"
        "Which planet do we live on?,Mars,Venus,Saturn,Earth,D\n"
        '"What is ""cat"" in German?",Hund,Katze,Maus,Vogel,B\n'
    )
    out = tmp_path / "out.json"
    with llama_server(programs, smollm2("eoq4")) as address:
        tool = (sys.executable, ROOT / "tools" / "eval_mmlu.py")
        said = run(*tool, questions, "--server", address, "--json", out, "--quiet")
    assert "| general knowledge | 6 | " in said
    content = json.loads(out.read_text())
    # some letter is among the hundred likeliest tokens after "Answer:"
    assert content["all"]["unanswered"] == 0
    for question in content["questions"]:
        assert sum(question["probabilities"]) == pytest.approx(1)
        assert max(question["probabilities"]) == question["probabilities"][question["picked"]]
    assert content["all"]["perplexity"] > 1
