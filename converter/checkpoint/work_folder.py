"""The folder in which a conversion keeps its unfinished work beside the output: OUT.gguf.work."""

import hashlib
import logging
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from converter.errors import OptionError, ResumeError, StatisticsError
from eoq_formats.errors import NonFiniteWeightError, ScaleOverflowError
from gguf_files.errors import ChangedSourceError, QuantizedSourceError
from input_files.structured import read_json
from llama_programs.check_gguf import RefusedByLlamaCpp
from output_files.claim import keep
from output_files.errors import TargetError
from output_files.json_text import json_text
from output_files.sizes import size_text
from output_files.whole import explained, write_whole

_log = logging.getLogger("eoq")
_FACTS, _JOURNAL, _PLAN = "facts.json", "tensors.jsonl", "plan.json"
_SOURCE, _STATISTICS = "source.gguf", "statistics.gguf"
_FINISHED = "finished "
WORK_DIR = "--work-dir"
"""The fact that says where the other folder is."""
_OURS = re.compile(
    r"\.?(facts\.json|tensors\.jsonl|plan\.json|statistics\.gguf)(\..*\.part)?|source\.(gguf|part)|output-\d{5}\.gguf"
    r"|mmproj-\w+\.(gguf|part)"
    r"|calibration-\d+"
)
_LONGEST = 200
"""Bytes of an output's name that stand in those of its folders."""
_NAMED = 3
"""Differences that an error names one by one."""
_IN_VAIN = (
    OptionError,
    StatisticsError,
    NonFiniteWeightError,
    ScaleOverflowError,
    ChangedSourceError,
    QuantizedSourceError,
    RefusedByLlamaCpp,
)
"""Errors that the same command meets again, so that there is nothing to go on with."""


class WorkFolder:
    """Where the files of the work are: beside the output, and what is large and no part of it in `--work-dir`."""

    def __init__(self, target: Path, work_dir: Path | None) -> None:
        if work_dir is not None and not work_dir.is_dir():
            raise OptionError(f"the work folder {work_dir} does not exist")
        self.target = target
        self.path = target.with_name(_folder_name(target, unique=False))
        """On the disk of the output."""
        self.large = self.path if work_dir is None else work_dir.resolve() / _folder_name(target, unique=True)
        """For intermediate GGUF and statistics."""
        self.journal = self.path / _JOURNAL
        self.plan = self.path / _PLAN
        """What was planned for a size, as a plan file."""
        self.source = self.large / _SOURCE
        self.statistics = self.large / _STATISTICS
        self._facts: dict[str, dict[str, str]] = {}

    @property
    def allocated(self) -> int:
        """Bytes that the unfinished output takes on the disk."""
        return sum(path.stat().st_blocks * 512 for path in self.path.glob("output-*.gguf"))

    def pin(self, group: str, facts: Mapping[str, str]) -> None:
        """Hold on to facts that the bytes depend on. Raises ResumeError where they are others than before."""
        earlier = self._facts.get(group)
        if earlier is None:
            self._facts[group] = dict(facts)
            write_whole(self.path / _FACTS, json_text(self._facts, indent=1) + "\n")
        elif change := _difference(earlier, facts):
            raise self._other(change)

    def finish(self, name: str, facts: Mapping[str, str]) -> None:
        """Remember a whole output of several, by the facts of its files. Raises TargetError."""
        self._facts[_FINISHED + name] = dict(facts)
        write_whole(self.path / _FACTS, json_text(self._facts, indent=1) + "\n")

    def finished(self, name: str) -> Mapping[str, str]:
        """The facts of that output; none where no earlier run has finished it."""
        return self._facts.get(_FINISHED + name, {})

    def begin(self, facts: Mapping[str, str], *, resume: bool) -> None:
        """Go on with an earlier run, or make way for this one. Raises ResumeError or TargetError."""
        self._check_ours(self.path)
        self._check_ours(self.large)
        self._facts = read_facts(self.path / _FACTS)
        change = _difference(self._facts.get("conversion", {}), facts)
        worth = self.contents()
        if resume and worth:
            if change:  # also where there are no facts any more
                raise self._other(change)
            _log.warning("note: going on with %s of %s", worth, self.path)
            return
        if resume:
            _log.warning("note: there is no unfinished work in %s to go on with", self.path)
        self._remove_earlier("" if change or not worth or resume else "; --resume would have gone on with it")
        try:
            with explained(f"cannot make the folder {self.path}"):
                self.path.mkdir(exist_ok=True)
                self.large.mkdir(exist_ok=True)
            self.pin("conversion", facts)
        except BaseException:
            self.remove()
            raise

    def _other(self, change: str) -> ResumeError:
        return ResumeError(
            f"{self.path} is of a conversion with {change}; start it as it was, or leave --resume out to start anew"
        )

    def contents(self) -> str:
        """What there is to go on with, in words; empty if it is nothing."""
        found = ["the projector"] * any(self.path.glob("mmproj-*.gguf"))
        found += ["the intermediate GGUF"] * self.source.exists()
        if self.statistics.exists():
            found.append("the calibration")
        elif any(self.large.glob("calibration-*/*.checkpoint")):
            found.append("a checkpoint of the calibration")
        if files := sum(group.startswith(_FINISHED) for group in self._facts):
            found.append(f"{files} finished type{'s' * (files > 1)}")
        if self.journal.exists() and (tensors := self.journal.read_bytes().count(b"\n")):
            found.append(f"{tensors} finished tensor{'s' * (tensors > 1)}")
        return " and ".join([", ".join(found[:-1]), found[-1]]) if len(found) > 1 else "".join(found)

    def remove(self) -> None:
        for folder in {self.path, self.large}:
            shutil.rmtree(folder, ignore_errors=True)

    def keep_calibration(self) -> None:
        """Move a finished calibration out, for the user to use."""
        if self.statistics.exists():
            folder = self.large.parent
            file = folder / f"{self.target.name}.{secrets.token_hex(4)}.stats"
            self.statistics.rename(file)
            keep(f"the calibration is kept in {file}: go on with --stats {file}")

    def _check_ours(self, folder: Path) -> None:
        """Raises TargetError for anything that no conversion has made."""
        if not os.path.lexists(folder):
            return
        status = folder.lstat()
        strange = None
        if not folder.is_symlink() and folder.is_dir() and status.st_uid == os.geteuid():
            strange = next((path.name for path in folder.iterdir() if not _OURS.fullmatch(path.name)), None)
            if strange is None:
                return
        what = f"it holds {strange}" if strange else "it is a link, a file, or another user's"
        raise TargetError(f"{folder} is in the way of unfinished work: {what}; move it elsewhere")

    def _remove_earlier(self, hint: str) -> None:
        folders = {self.path, self.large}
        if (other := self._facts.get("conversion", {}).get(WORK_DIR)) is not None:
            folders.add(Path(other) / _folder_name(self.target, unique=True))
        size = 0
        for folder in folders:
            if os.path.lexists(folder):
                self._check_ours(folder)
                size += sum(path.lstat().st_size for path in folder.rglob("*") if path.name != _FACTS)
                shutil.rmtree(folder, ignore_errors=True)
        self._facts = {}
        if size:
            _log.warning("note: removed what an unfinished run left in %s (%s)%s", self.path, size_text(size), hint)


def check_resumable(target: Path, work_dir: Path | None, facts: Mapping[str, str]) -> None:
    """Refuse what `work_folder` would refuse for these facts alone, before the others are known.

    Raises ResumeError where there is work to go on with, and it has others.
    """
    work = WorkFolder(target, work_dir)
    earlier = read_facts(work.path / _FACTS).get("conversion", {})
    if work.contents() and (change := _difference({key: earlier[key] for key in facts if key in earlier}, facts)):
        raise work._other(change)


@contextmanager
def work_folder(target: Path, work_dir: Path | None, facts: Mapping[str, str], *, resume: bool) -> Iterator[WorkFolder]:
    """The folder for the work on `target`, which the caller has claimed. It is gone after the context.

    Where the work breaks off, what another run can go on with stays, and `output_files.claim.kept` tells of it. Raises
    ResumeError for an earlier run with other facts, and TargetError.
    """
    work = WorkFolder(target, work_dir)
    work.begin(facts, resume=resume)
    try:
        yield work
    except ResumeError:
        raise
    except BaseException as error:
        if isinstance(error, _IN_VAIN):
            work.keep_calibration()
        elif worth := work.contents():
            keep(f"kept in {work.path}: {worth}; the same command with --resume goes on with it")
            raise
        work.remove()
        raise
    work.remove()


def _folder_name(target: Path, unique: bool) -> str:
    """`unique` among all outputs, for a folder that is not beside the output."""
    name = os.fsencode(target.name)
    digest = hashlib.sha256(os.fsencode(target)).hexdigest()[:16]
    short = name[:_LONGEST].decode(errors="ignore")
    return f"{short}.{digest}.work" if unique or len(name) > _LONGEST else f"{target.name}.work"


def read_facts(path: Path) -> dict[str, dict[str, str]]:
    """The facts of a run by their groups; empty where there are none, or none that can be read."""
    try:
        content: Any = read_json(path, ResumeError)
    except ResumeError:
        return {}
    groups = content if isinstance(content, dict) else {}
    return {
        name: {key: value for key, value in facts.items() if isinstance(value, str)}
        for name, facts in groups.items()
        if isinstance(facts, dict)
    }


def _difference(earlier: Mapping[str, str], now: Mapping[str, str]) -> str:
    """In words that follow "a conversion with"; empty if there is none."""
    changed = [
        f"{name} {earlier.get(name, 'not given')} and not {now.get(name, 'left out')}"
        for name in dict.fromkeys((*earlier, *now))
        if earlier.get(name) != now.get(name)
    ]
    more = [f"{len(changed) - _NAMED} more differences"] if len(changed) > _NAMED else []
    return ", ".join(changed[:_NAMED] + more)
