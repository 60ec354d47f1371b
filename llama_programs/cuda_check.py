"""Compile the patched CUDA sources with nvcc: no warnings in EOQ's files, no kernel spills registers. No GPU is needed.

python -m llama_programs.cuda_check            # everything, for four architectures: a quarter of an hour on two cores
python -m llama_programs.cuda_check --quick    # for one, with one of the nine alike instances: two minutes

What was compiled is noted in the cache folder by the sources, nvcc and the architectures, so a second run is quick.
"""

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from ggml_patch.sources import CUDA_FOLDER
from llama_programs.build import ensure_source, step
from llama_programs.errors import BuildError
from llama_programs.fetch import cache_folder, pip_download, scratch_folder
from output_files.whole import write_whole
from terminal.tool import run_tool

ARCHITECTURES = ("75", "86", "89", "90")
"""Turing, Ampere, Ada, Hopper; and PTX of the last for what comes after."""

QUICK_ARCHITECTURES = ("86",)
QUICK_INSTANCE = "eoq-mmq-instance-5t.cu"
"""Of the products with many columns the one that decodes in most steps; the others differ in these steps alone."""

EDITED = ("mmvq.cu", "mmq.cu", "quantize.cu", "convert.cu", "getrows.cu", "cpy.cu", "ggml-cuda.cu")
"""Files of llama.cpp that EOQ's edits change, in ggml-cuda."""

REFERENCE = "template-instances/mmq-instance-q8_0.cu"
"""llama.cpp's own products with the tiles that ours share. Some spill on Turing; ours may where these do."""

CUBLAS = "nvidia-cublas==13.1.2.11"
"""Its headers, where the toolkit comes without."""

_FLAGS = ("-std=c++17", "-O3", "-use_fast_math", "-extended-lambda", "-Xptxas", "-v")
_DEFINES = ("-DGGML_CUDA_PEER_MAX_BATCH_SIZE=128", "-DGGML_SCHED_MAX_COPIES=4", "-DGGML_CUDA_USE_GRAPHS")
_KERNEL = re.compile(
    r"Compiling entry function '(?P<name>\S+)' for '(?P<arch>\S+)'.*?"
    r"(?P<stores>\d+) bytes spill stores, (?P<loads>\d+) bytes spill loads",
    re.DOTALL,
)
_OURS = re.compile(r"eoq|ggml_type1(6[2-6]|7[2-6]|8\d|9[01])E")
"""In the mangled name of a kernel: our functions, or a template of llama.cpp for one of our types."""
_TYPE = re.compile(r"ggml_type\d+E")

_OUR_FILE = re.compile(r"(^|/)(eoq-[\w-]+\.cuh?|eoq-format\.h|ggml-eoq\.h)[:(]")
"""At the start of a message of nvcc."""


@dataclass(frozen=True)
class Compiled:
    """What nvcc said about one file."""

    file: str
    kernels: int
    """Number of EOQ's kernels, in all architectures."""
    spilling: tuple[str, ...]
    """Names and architectures of kernels, llama.cpp's too, that spill registers."""
    warnings: tuple[str, ...]

    def our_spilling(self, reference: "Compiled") -> list[str]:
        """Kernels of EOQ that spill where those of REFERENCE with the same tiles do not."""
        excused = {_TYPE.sub("", name) for name in reference.spilling}
        return [name for name in self.spilling if _OURS.search(name) and _TYPE.sub("", name) not in excused]

    @property
    def our_warnings(self) -> list[str]:
        """Warnings in files of EOQ."""
        return [line for line in self.warnings if _OUR_FILE.search(line)]


def parse(file: str, said: str) -> Compiled:
    """What matters of nvcc's messages."""
    kernels = list(_KERNEL.finditer(said))
    spilling = [f"{k['name']} ({k['arch']})" for k in kernels if int(k["stores"]) or int(k["loads"])]
    warnings = [line for line in said.splitlines() if "warning" in line]
    return Compiled(file, sum(bool(_OURS.search(k["name"])) for k in kernels), tuple(spilling), tuple(warnings))


def find_nvcc() -> str | None:
    return shutil.which(os.environ.get("CUDACXX") or "nvcc")


def known_to(nvcc: str, architectures: Sequence[str]) -> list[str]:
    """The architectures that this nvcc compiles for; the newest are not known to an old one."""
    listed = subprocess.run([nvcc, "--list-gpu-arch"], stdin=subprocess.DEVNULL, capture_output=True, text=True).stdout
    known = set(re.findall(r"compute_(\w+)", listed))
    for missing in (a for a in architectures if a not in known):
        step(f"CUDA: {nvcc} knows nothing of compute capability {missing}, which is left out")
    return [a for a in architectures if a in known]


def cublas_headers(nvcc: str, cache: Path) -> list[str]:
    """Options that make nvcc find cublas_v2.h: none if it does by itself. Raises FetchError."""
    with tempfile.NamedTemporaryFile("w", suffix=".cu") as file:
        file.write("#include <cublas_v2.h>\n")
        file.flush()
        if subprocess.run([nvcc, "-E", file.name], stdin=subprocess.DEVNULL, capture_output=True).returncode == 0:
            return []
    target = cache / CUBLAS.replace("==", "-")
    if not target.is_dir():
        step(f"CUDA: fetching the headers of {CUBLAS} from PyPI (420 MB)")
        with scratch_folder(target) as folder:
            wheel = pip_download(CUBLAS, folder)
            (folder / "include").mkdir()
            with zipfile.ZipFile(wheel) as archive:
                for name in archive.namelist():
                    if "/include/" in name and not name.endswith("/"):
                        (folder / "include" / name.rpartition("/")[2]).write_bytes(archive.read(name))
            (folder / "include").rename(target)
    return ["-I", str(target)]


def compile_file(nvcc: str, file: Path, include: Sequence[str], architectures: Sequence[str]) -> Compiled:
    """Compile one file for all architectures. Raises BuildError with nvcc's words."""
    codes = [word for a in architectures for word in ("-gencode", f"arch=compute_{a},code=sm_{a}")]
    codes += ["-gencode", f"arch=compute_{architectures[-1]},code=compute_{architectures[-1]}"]
    folder = file.parent if file.parent.name == "ggml-cuda" else file.parent.parent
    paths = ["-I", str(folder), "-I", str(folder.parent), "-I", str(folder.parent.parent / "include"), *include]
    command = [nvcc, *_FLAGS, *_DEFINES, *codes, *paths, "-Xcompiler", "-Wall", "-c", str(file), "-o", os.devnull]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace")
    if done.returncode:
        raise BuildError(f"nvcc does not compile {file}:\n{(done.stdout + done.stderr)[-4000:]}")
    return parse(file.name, done.stdout + done.stderr)


def _key(source: Path, settings: Sequence[str]) -> str:
    """12 hexadecimal digits for the CUDA sources, patched, and how they are compiled."""
    digest = hashlib.sha256("\n".join([*settings, *EDITED]).encode())
    ggml = source / "ggml/src"
    for file in sorted([*(ggml / "ggml-cuda").rglob("*.cu*"), ggml / "ggml-eoq.h", ggml / "eoq-format.h"]):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


def check(cache: Path, nvcc: str, architectures: Sequence[str], jobs: int, is_quick: bool = False) -> list[Compiled]:
    """All files, compiled or known; REFERENCE first. Quick: one instance alone. Raises EoqError."""
    source = ensure_source(cache)
    version = subprocess.run([nvcc, "--version"], capture_output=True, text=True, check=True).stdout
    folder = cache / f"cuda-check-{_key(source, [version, *architectures, *_FLAGS, *_DEFINES])}"
    folder.mkdir(parents=True, exist_ok=True)
    include = cublas_headers(nvcc, cache)
    ours = source / CUDA_FOLDER
    own = sorted(ours.glob("*.cu"))
    if is_quick:
        own = [file for file in own if "-instance-" not in file.name or file.name == QUICK_INSTANCE]
    files = [ours.parent / REFERENCE, *(ours.parent / name for name in EDITED), *own]

    def one(file: Path) -> Compiled:
        note = folder / f"{file.name}.json"
        if not note.exists():
            step(f"CUDA: compiling {file.name}")
            compiled = compile_file(nvcc, file, include, architectures)
            write_whole(note, json.dumps(asdict(compiled)))
        known = json.loads(note.read_text())
        return Compiled(known["file"], known["kernels"], tuple(known["spilling"]), tuple(known["warnings"]))

    with ThreadPoolExecutor(jobs) as pool:
        return list(pool.map(one, files))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m llama_programs.cuda_check", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="files at a time (default: one a core)")
    parser.add_argument("--arch", nargs="+", metavar="ARCH", help="compute capabilities (default: 75 86 89 90)")
    parser.add_argument("--quick", action="store_true", help="for compute capability 86 alone, one instance of nine")
    options = parser.parse_args(arguments)
    if options.quick and options.arch:
        parser.error("--quick chooses the architecture; leave --arch out")
    if options.jobs < 1:
        parser.error("--jobs must be at least 1")
    return run_tool(_run, options, lambda options: "what was compiled is known to the next run")


def _run(options: argparse.Namespace) -> None:
    nvcc = find_nvcc()
    if nvcc is None:
        raise BuildError("nvcc is needed to compile CUDA; install NVIDIA's CUDA toolkit, or name it in CUDACXX")
    usual = QUICK_ARCHITECTURES if options.quick else ARCHITECTURES
    architectures = options.arch or known_to(nvcc, usual)
    if not architectures:
        raise BuildError(f"{nvcc} compiles for none of {', '.join(usual)}; name others with --arch")
    compiled = check(cache_folder(), nvcc, architectures, options.jobs, options.quick)
    failed = []
    for one in compiled:
        spilling, warnings = one.our_spilling(compiled[0]), one.our_warnings
        print(f"{one.file}: {one.kernels} kernels of EOQ, {len(spilling)} spill, {len(warnings)} warnings")
        for line in (*spilling, *warnings):
            print(f"    {line}")
        if spilling or warnings:
            failed.append(one.file)
    if failed:
        raise BuildError(f"kernels spill registers, or nvcc warns, in {', '.join(failed)}: see above")


if __name__ == "__main__":
    sys.exit(main())
