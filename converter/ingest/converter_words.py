"""What went wrong in llama.cpp's converter, in one sentence, from what it printed and what lies in the folder."""

import json
import re
import signal
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

from converter.ingest import hf_launcher
from converter.ingest.safetensors_folder import is_lfs_pointer
from llama_programs.run import ending

_UNSUPPORTED = re.compile(r"ERROR:hf-to-gguf:Model (\S+) is not supported")
_TRACEBACK = "Traceback (most recent call last):\n"
_BETWEEN = re.compile(r"^(?:During handling of the above exception|The above exception was the direct cause)", re.M)
_LOGGED = re.compile(r"^ERROR:(?:hf-to-gguf:)?(.*)$", re.M)
_MARKS = re.compile(r"^\s*[\^~]+\s*$")
_MOST_LETTERS = 1000
_IN_TOKENIZER = re.compile(r"^  File \".*\", line \d+, in \w*(?:set_vocab|get_vocab_base|create_vocab)", re.M)
_PLACE = re.compile(r"\bline \d+ column \d+")
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model", "tekken.json")


def converter_error(folder: Path, code: int, said: str) -> str:
    """The sentence for a converter that `said` so much, and ended with a status other than 0."""
    if hf_launcher.REFUSAL in said:
        return (
            f"the model in {folder} brings Python code of its own, or loads another model by its name, and neither is "
            "done here; if you trust it, convert it with llama.cpp's convert_hf_to_gguf.py, and give the GGUF of that"
        )
    unsupported = _UNSUPPORTED.search(said)
    if unsupported:
        return (
            f"llama.cpp's converter does not know the architecture {unsupported[1]} of the model in {folder}; a newer "
            "llama.cpp may: name its folder with --llama-dir"
        )
    if code < 0 and code != -signal.SIGKILL:
        return f"llama.cpp's converter {ending(code)} while it read {folder}; is the disk at fault?"
    if code == -signal.SIGKILL:
        return f"llama.cpp's converter was killed while it read {folder}; was there too little memory?"
    trace = _last_trace(said)
    reason = _last_error(trace) or next(reversed(_LOGGED.findall(said)), "") or _last_line(said)
    what = "tokenizer" if _IN_TOKENIZER.search(trace) else "model"
    if "Quant method" in reason or "Quant format" in reason:
        return (
            f"llama.cpp's converter cannot unpack the quantised weights in {folder} ({_shortened(reason)}); convert "
            "the original model"
        )
    damaged = list(_damaged_files(folder))
    if what == "tokenizer" and not any((folder / name).exists() for name in _TOKENIZER_FILES):
        damaged.append(f"the folder has none of {', '.join(_TOKENIZER_FILES)}: get these files too")
    # what a reader says of a file that is none does not help
    reasons = [] if damaged and what == "tokenizer" else [_shortened(reason).rstrip(".")]
    words = "; ".join([*reasons, *(damaged or _hints(folder, reason, what))])
    return f"llama.cpp's converter could not read the {what} in {folder}: {words}"


def _last_trace(said: str) -> str:
    """The trace of the error that ended the program: of a chain the last, as those before led to other attempts."""
    return said.rpartition(_TRACEBACK)[2] if _TRACEBACK in said else ""


def _last_error(trace: str) -> str:
    """Kind and message of a trace's error, all its lines in one; for one without a message also the code it is of."""
    lines = _BETWEEN.split(trace)[0].rstrip().splitlines()
    start = next((i for i, line in enumerate(lines) if line and not line.startswith(" ")), None)
    if start is None:
        return ""
    message = " ".join(line.strip() for line in lines[start:] if line.strip())
    if ":" not in message and (code := [line.strip() for line in lines[:start] if not _MARKS.match(line)]):
        message = f"{message}: {code[-1]}"
    return message


def _last_line(said: str) -> str:
    return next((line for line in reversed(said.splitlines()) if line.strip()), "it printed nothing")


def _shortened(text: str) -> str:
    return text if len(text) <= _MOST_LETTERS else f"{text[: _MOST_LETTERS // 2]} … {text[-_MOST_LETTERS // 2 :]}"


def _hints(folder: Path, reason: str, what: str) -> Iterator[str]:
    if what == "tokenizer":
        if "pre-tokenizer was not recognized" in reason:
            yield "the converter knows no such tokenizer; a newer llama.cpp may: name its folder with --llama-dir"
            return
        if _PLACE.search(reason) and ".json" not in reason and (folder / "tokenizer.json").exists():
            yield f"that is a place in tokenizer.json, which tokenizers {version('tokenizers')} does not understand"
            return
    saved_by, here = _version_of(folder), version("transformers")
    if saved_by is not None and _numbers(saved_by) > _numbers(here):
        yield (
            f"transformers {saved_by} saved the folder, and {here}, which reads it, may be too old for that; convert "
            "it by llama.cpp's convert_hf_to_gguf.py with the newer one, and give the GGUF of that"
        )


def _damaged_files(folder: Path) -> Iterator[str]:
    """Those that are empty, in place of which Git LFS has a pointer, or that are no JSON by a name that says so."""
    for file in sorted(folder.iterdir()):
        if file.suffix not in (".json", ".model") or not file.is_file():
            continue
        if file.stat().st_size == 0:
            yield f"{file.name} is empty: get it again"
        elif is_lfs_pointer(file):
            yield f"{file.name} is a Git LFS pointer: fetch it with git lfs pull"
        elif file.suffix == ".json":
            try:
                json.loads(file.read_bytes())
            except (ValueError, RecursionError) as error:
                yield f"{file.name} is not JSON ({error}): get it again"


def _version_of(folder: Path) -> str | None:
    try:
        config: Any = json.loads((folder / "config.json").read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    found = config.get("transformers_version") if isinstance(config, dict) else None
    return found if isinstance(found, str) and re.fullmatch(r"[\w.+-]{1,40}", found) else None


def _numbers(version: str) -> tuple[int, ...]:
    """Of `5.0.0rc1`, (5, 0, 0)."""
    return tuple(int(number[0]) for part in version.split(".")[:3] if (number := re.match(r"\d+", part)))
