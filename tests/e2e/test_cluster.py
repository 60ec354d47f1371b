"""A planned model on two machines, both on the loopback interface, by llama.cpp's own rpc-server."""

import json
import re
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.e2e.command import ROOT, convert, run
from tests.samples.waiting import LONGEST

PLAN = (sys.executable, ROOT / "tools" / "plan_eoq.py")
PROMPT = "The quick brown fox jumps over the lazy dog, and then it"


def free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


@contextmanager
def server(command: list[str], log: Path) -> Iterator[None]:
    """An rpc-server that accepts connections; ended in any case."""
    port = int(command[command.index("-p") + 1])
    with (
        log.open("wb") as output,
        subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT) as process,
    ):
        try:
            deadline = time.monotonic() + LONGEST
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port), timeout=1).close()
                    break
                except OSError:
                    assert process.poll() is None and time.monotonic() < deadline, log.read_text(errors="replace")
                    time.sleep(0.05)
            yield
        finally:
            process.kill()


def buffers(log: str, first: str) -> dict[str, float]:
    """Bytes of weights, cache and computing that llama.cpp has reserved, by the address of the machine."""
    pattern = r"(?:RPC\d*\[(127\.0\.0\.1:\d+)\]|CPU|CPU_Mapped) +(\w+) buffer size += +([\d.]+) MiB"
    # llama.cpp says all of it twice, for it looks at the memory first: what comes last counts
    last = {(where, kind): float(size) for where, kind, size in re.findall(pattern, log)}
    found: dict[str, float] = {}
    for (where, _), size in last.items():
        found[where or first] = found.get(where or first, 0) + size * (1 << 20)
    return found


@pytest.fixture
def cluster(smollm2_f16: Path, tmp_path: Path) -> tuple[Path, list[list[str]]]:
    """The plan, and the command lines that it prints."""
    plan = tmp_path / "plan.json"
    one, two = (f"127.0.0.1:{port}" for port in free_ports(2))
    machines = ("--machine", f"{one}=175MB", "--machine", f"{two}=95MB")
    said = run(*PLAN, smollm2_f16, "--planner", "ewq", "--context", "512", "--json", plan, *machines)
    return plan, [shlex.split(line) for line in said.splitlines() if line.startswith("  ")]


@pytest.mark.llama_cpp
def test_two_servers_give_the_logits_of_one_machine(
    programs: Path, smollm2_f16: Path, cluster: tuple[Path, list[list[str]]], tmp_path: Path
) -> None:
    plan, commands = cluster
    content = json.loads(plan.read_text())["cluster"]
    assert {"4bit", "8bit"} == set(content["levels"])
    _, *servers, program = commands
    assert [words[0] for words in servers] == ["rpc-server"] * 2 and program[:2] == ["llama-cli", "-m"]
    model = tmp_path / program[2]
    convert(smollm2_f16, model, "--plan", plan, "--rtn", "--quiet")

    options = ["-p", PROMPT, "--save-logits", "-v"]
    alone, spread = tmp_path / "alone", tmp_path / "spread"
    run(programs / "llama-debug", "-m", model, "-c", "512", *options, "--logits-output-dir", alone)
    with ExitStack() as stack:
        for i, words in enumerate(servers):
            stack.enter_context(server([str(programs / words[0]), *words[1:]], tmp_path / f"server-{i}.log"))
        split = [str(model) if word == program[2] else word for word in program[1:]]
        log = run(programs / "llama-debug", *split, *options, "--logits-output-dir", spread)
        # the plan's own last line, with something to say and an end
        answer = run(programs / program[0], *split, "-p", "Hello", "-n", "8", "--single-turn", "--simple-io")
    assert "Hello" in answer

    logits = f"llamacpp-{model.stem}.bin"
    assert (alone / logits).stat().st_size == 4 * 49152
    assert (spread / logits).read_bytes() == (alone / logits).read_bytes()

    planned = {machine["address"]: machine["memory"] for machine in content["machines"]}
    used = buffers(log, first=content["machines"][0]["address"])
    assert used.keys() == planned.keys()
    for address, size in used.items():
        assert 0.9 * planned[address] < size <= planned[address]
