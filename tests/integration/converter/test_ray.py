"""Conversions on a Ray cluster of two workers have the bytes of one process, whatever happens to the workers."""

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from converter import ConversionOptions, RoundingOptions, TypeOptions, convert
from converter.errors import ClusterError, OptionError
from converter.remote import ray_rounding
from converter.remote.shared_files import SharedFile
from converter.statistics import fingerprint
from converter.statistics.moments_file import InputLayout, StatisticsHead, StatisticsWriter
from converter.statistics.triangle import pack
from eoq_formats.errors import NonFiniteWeightError
from gguf_files.source import open_gguf
from tests.integration.converter.command_line import TOOL
from tests.samples.gguf_samples import random_weights, tiny_model, write_gguf
from tests.samples.moments_samples import inputs, mean_of_products
from tests.samples.waiting import LONGEST
from tests.unit.converter.test_rounding_method import write_model, write_moments

ray: Any = pytest.importorskip("ray", reason="the package ray is not installed (pip install .[ray])")


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """Runs on this machine; gives its address. This process is connected to it."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in numbers]
    with tempfile.TemporaryDirectory(prefix="ray-") as folder:  # of a short name: sockets lie in it
        ray.init(
            num_cpus=2,
            include_dashboard=False,
            object_store_memory=100 << 20,
            log_to_driver=False,
            logging_level="ERROR",
            _temp_dir=folder,
            _system_config={"worker_niceness": 0},  # other tests are not kinder
        )
        try:
            for number, handler in zip(numbers, before, strict=True):
                signal.signal(number, handler)
            yield ray.get_runtime_context().gcs_address
        finally:
            ray.shutdown()


def assert_same(source: Path, folder: Path, options: ConversionOptions) -> None:
    """Bytes and records, but for times."""
    here = convert(source, folder / "here.gguf", options)
    there = convert(source, folder / "there.gguf", replace(options, ray="auto"))
    assert there.target.read_bytes() == here.target.read_bytes()
    assert [replace(r, seconds=0.0) for r in there.records] == [replace(r, seconds=0.0) for r in here.records]
    assert sorted(path.suffix for path in folder.iterdir()) == [".gguf", ".gguf", ".json", ".json"]


NEAREST = RoundingOptions("nearest", awq=False)


@pytest.mark.usefixtures("cluster")
def test_rounded_to_nearest(tmp_path: Path, folder: Path) -> None:
    source = write_gguf(tmp_path / "source.gguf", tiny_model())
    assert_same(source, folder, ConversionOptions(TypeOptions(tensor_types=("ffn_down=q8_0",)), NEAREST, threads=1))


@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize("rounding", [RoundingOptions(), RoundingOptions("feedback", awq=True, shrinkage=0.2)])
def test_with_feedback_by_saved_statistics(
    rounding: RoundingOptions, tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where files are named from where the tool runs."""
    monkeypatch.chdir(tmp_path)
    source = write_model(tmp_path)
    statistics = write_moments(tmp_path, source).relative_to(tmp_path)
    options = ConversionOptions(TypeOptions("eoq3"), rounding, statistics, threads=1)
    assert_same(source.relative_to(tmp_path), folder, options)


@pytest.mark.usefixtures("cluster")
def test_one_tensor_at_a_time_where_there_is_room_for_no_more(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_rounding, "MOST_BYTES", 1)
    source = write_gguf(tmp_path / "source.gguf", tiny_model())
    assert_same(source, folder, ConversionOptions(rounding=NEAREST, threads=1))


def workers_at_work() -> list[int]:
    """Process ids of the workers that round a tensor now, by the names that Ray gives them."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if (place / "cmdline").read_bytes().startswith(b"ray::eoq "):
                found.append(int(place.name))
        except OSError:
            continue
    return found


WIDE = ("blk.0.attn_q.weight", "blk.0.attn_k.weight", "blk.0.attn_v.weight")


def write_wide(folder: Path, size: int) -> tuple[Path, Path]:
    """A model that takes seconds to round, and statistics of its one input."""
    source = write_gguf(folder / "wide.gguf", {name: random_weights(i, size, size) for i, name in enumerate(WIDE)})
    head = StatisticsHead(
        fingerprint(open_gguf(source)), 2 * size, "made up", (), (InputLayout("in", size, 1, False, WIDE),)
    )
    moments = mean_of_products(inputs(1, 2 * size, size))
    with StatisticsWriter(folder / "wide.stats", head) as writer:
        writer.write(pack(moments), np.diag(moments)[None], np.array([2 * size]))
        writer.commit()
    return source, folder / "wide.stats"


@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize("method", ["nearest", "feedback"])
def test_the_tensor_of_a_worker_that_is_killed_is_rounded_by_another(method: str, tmp_path: Path, folder: Path) -> None:
    source, statistics = write_wide(tmp_path, 1024 if method == "nearest" else 512)
    rounding = NEAREST if method == "nearest" else RoundingOptions()
    chosen = statistics if rounding.is_calibrated else None
    killed: list[int] = []

    def kill() -> None:
        deadline = time.monotonic() + LONGEST
        while not killed and time.monotonic() < deadline:
            for worker in workers_at_work():
                os.kill(worker, signal.SIGKILL)
                killed.append(worker)
            time.sleep(0.005)

    thread = threading.Thread(target=kill)
    thread.start()
    assert_same(source, folder, ConversionOptions(TypeOptions("eoq4t"), rounding, chosen, threads=1))
    thread.join()
    assert killed


@pytest.mark.usefixtures("cluster")
def test_errors_of_a_worker_are_those_of_one_process(tmp_path: Path, folder: Path) -> None:
    tensors = tiny_model()
    tensors["blk.0.attn_q.weight"][3, 7] = np.inf
    source = write_gguf(tmp_path / "source.gguf", tensors)
    said = []
    for address in (None, "auto"):
        with pytest.raises(NonFiniteWeightError) as error:
            convert(source, folder / "m.gguf", ConversionOptions(rounding=NEAREST, threads=1, ray=address))
        said.append(str(error.value))
    assert said[0] == said[1] and "row 3" in said[0]
    assert not list(folder.iterdir())


@pytest.mark.usefixtures("cluster")
def test_a_worker_that_sees_another_file_refuses(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_gguf(tmp_path / "source.gguf", tiny_model())

    class Elsewhere(SharedFile):
        @classmethod
        def of(cls, path: Path) -> "SharedFile":  # type: ignore[override]
            return replace(SharedFile.of(path), modified=1)

    monkeypatch.setattr(ray_rounding, "SharedFile", Elsewhere)
    with pytest.raises(ClusterError, match=f"^the node .* sees another {source} than the machine that converts"):
        convert(source, folder / "m.gguf", ConversionOptions(rounding=NEAREST, threads=1, ray="auto"))
    assert not (folder / "m.gguf").exists()


@pytest.mark.usefixtures("cluster")
def test_what_no_node_has_is_refused_before_the_work(tmp_path: Path, folder: Path) -> None:
    source = write_gguf(tmp_path / "source.gguf", tiny_model())
    with pytest.raises(ClusterError, match=r"no node of the Ray cluster has 3 CPU .* the largest has 2 CPU"):
        convert(source, folder / "m.gguf", ConversionOptions(rounding=NEAREST, threads=3, ray="auto"))
    with pytest.raises(OptionError, match="the device is cpu or cuda, not cuda:1"):
        ray_rounding._needs(ConversionOptions(rounding=RoundingOptions(device="cuda:1"), threads=1))
    assert ray_rounding._needs(ConversionOptions(rounding=RoundingOptions(device="cuda"), threads=2)) == {
        "CPU": 2,
        "GPU": 1,
    }
    assert not list(folder.iterdir())


def test_the_tool_connects_to_a_cluster(cluster: str, tmp_path: Path, folder: Path) -> None:
    source = write_gguf(tmp_path / "source.gguf", tiny_model())
    convert(source, folder / "here.gguf", ConversionOptions(rounding=NEAREST, threads=1))
    words = [
        sys.executable,
        TOOL,
        source,
        folder / "there.gguf",
        "--rtn",
        "--threads",
        "1",
        "--quiet",
        "--ray",
        cluster,
    ]
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True, timeout=LONGEST)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (folder / "there.gguf").read_bytes() == (folder / "here.gguf").read_bytes()


def test_an_interrupted_tool_ends_its_tasks_and_goes_on_later(cluster: str, tmp_path: Path, folder: Path) -> None:
    source, _ = write_wide(tmp_path, 1024)
    target = folder / "m.gguf"
    words = [str(w) for w in (source, target, "--rtn", "--type", "eoq4t", "--threads", "1", "--ray", cluster)]
    with subprocess.Popen(
        [sys.executable, TOOL, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as p:
        deadline = time.monotonic() + LONGEST
        while not workers_at_work():
            assert p.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)
        p.send_signal(signal.SIGTERM)
        _, said = p.communicate(timeout=LONGEST)
    assert p.returncode == 128 + signal.SIGTERM and said.startswith("error: interrupted; "), said
    assert said.count("\n") == 1 and not target.exists()
    while workers_at_work():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    convert(source, target, ConversionOptions(TypeOptions("eoq4t"), NEAREST, threads=1, resume=True))
    assert [path.name for path in sorted(folder.iterdir())] == ["m.gguf", "m.report.json"]
