"""The pinned llama.cpp, fetched, patched and built in the cache.

The folder is `<cache>/llama.cpp-<version>-<key>/` with `src/` (patched tree) and `build/`. The key covers the patch and
everything that shapes the binaries, so a change of either builds in a new folder and never disturbs a finished one.
"""

import fcntl
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ggml_patch.apply import apply, content_key
from ggml_patch.versions import PINNED
from llama_programs.errors import BuildError
from llama_programs.fetch import download_sdist, extract_tree, scratch_folder
from output_files.whole import write_whole

OPTIONS = {
    "CMAKE_BUILD_TYPE": "Release",
    "BUILD_SHARED_LIBS": "OFF",
    "GGML_RPC": "ON",
    "LLAMA_BUILD_APP": "OFF",
    "LLAMA_BUILD_EXAMPLES": "ON",
    "LLAMA_OPENSSL": "OFF",
    "LLAMA_USE_PREBUILT_UI": "OFF",
    "LLAMA_BUILD_NUMBER": "0",
    "LLAMA_BUILD_COMMIT": f"{PINNED.package}-{PINNED.version}-eoq",
}
"""CMake options. The last two stand in for what the tree would ask git for."""

PORTABLE_OPTIONS = {
    "BUILD_SHARED_LIBS": "ON",
    "GGML_NATIVE": "OFF",
    "GGML_BACKEND_DL": "ON",
    "GGML_CPU_ALL_VARIANTS": "ON",
    "CMAKE_BUILD_WITH_INSTALL_RPATH": "ON",
    "CMAKE_INSTALL_RPATH": "$ORIGIN",
}
"""For other machines: a library for each kind of CPU, loaded at the start; all libraries lie beside the programs."""

TARGETS = (
    "llama-cli",
    "llama-server",
    "llama-quantize",
    "llama-perplexity",
    "llama-imatrix",
    "llama-moments",
    "llama-check-gguf",
    "llama-bench",
    "llama-embedding",
    "llama-debug",
    "llama-gguf-split",
    "ggml-rpc-server",
    "test-backend-ops",
    "test-quantize-fns",
    "eoq-lab",
)
"""All programs: those that users run, and those that tests run."""

VULKAN_PACKAGES = "glslc libvulkan-dev spirv-headers"
"""Debian's, for a build with Vulkan."""

PORTABLE_TARGETS = (
    "llama-cli",
    "llama-server",
    "llama-quantize",
    "llama-perplexity",
    "llama-imatrix",
    "llama-moments",
    "llama-check-gguf",
    "llama-bench",
    "llama-gguf-split",
    "ggml-rpc-server",
)
"""The programs of a portable build. llama.cpp's tests and eoq-lab are linked with the one CPU of a native build."""

ALIASES = {"rpc-server": "ggml-rpc-server"}
"""Other names under which users know a program."""


@dataclass(frozen=True)
class Layout:
    """Where the pinned llama.cpp lives in the cache."""

    folder: Path

    @property
    def source(self) -> Path:
        return self.folder / "src"

    @property
    def build(self) -> Path:
        return self.folder / "build"

    @property
    def programs(self) -> Path:
        return self.build / "bin"

    @property
    def stamp(self) -> Path:
        """Written last: names the targets that were built."""
        return self.folder / "built.json"

    @property
    def log(self) -> Path:
        return self.folder / "build.log"


def native_target() -> str:
    """What the C compiler takes this machine for, as its predefined macros: the build is for this CPU."""
    compiler = os.environ.get("CC") or "cc"
    command = [compiler, "-march=native", "-dM", "-E", "-x", "c", os.devnull]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return platform.machine()


@dataclass(frozen=True)
class BuildKind:
    """Which backends a build has beside the CPU, and whom it is for."""

    cuda: str | None = None
    """CUDA architectures as CMake names them: `native`, `86;89`."""
    vulkan: bool = False
    portable: bool = False
    """For other machines."""

    @property
    def options(self) -> dict[str, str]:
        """CMake's options."""
        options = OPTIONS | PORTABLE_OPTIONS if self.portable else dict(OPTIONS)
        if self.cuda is not None:
            options |= {"GGML_CUDA": "ON", "CMAKE_CUDA_ARCHITECTURES": self.cuda}
        if self.vulkan:
            options |= {"GGML_VULKAN": "ON"}
        return options


NATIVE = BuildKind()
"""For this machine's CPU."""


def build_name(kind: BuildKind = NATIVE) -> str:
    """Names version, patch, options, and this machine unless the build is portable."""
    options = [f"{name}={value}" for name, value in sorted(kind.options.items())]
    return f"llama.cpp-{PINNED.version}-{content_key(options if kind.portable else [*options, native_target()])}"


def layout(cache: Path, kind: BuildKind = NATIVE) -> Layout:
    """The folder of a build."""
    return Layout(cache / build_name(kind))


def step(text: str) -> None:
    """Tell the user what is being done. Standard output is for the answer alone."""
    print(f"==> {text}", file=sys.stderr, flush=True)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of `folder`; waits for another process that builds there."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            step(f"waiting for another process that works in {folder}")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def remove_leftovers(target: Path) -> None:
    """Delete scratch folders of `target` that an interrupted run left behind. Call under the lock."""
    for leftover in target.parent.glob(f".{target.name}.*"):
        shutil.rmtree(leftover, ignore_errors=True)


def ensure_source(cache: Path, kind: BuildKind = NATIVE) -> Path:
    """The patched source tree in the cache; fetched and patched unless it is there. Raises EoqError."""
    place = layout(cache, kind)
    if place.source.is_dir():
        return place.source
    with locked(place.folder):
        if place.source.is_dir():
            return place.source
        remove_leftovers(place.source)
        if not (cache / "downloads" / PINNED.sdist).exists():
            step(f"llama.cpp: fetching {PINNED.package} {PINNED.version} from PyPI (77 MB)")
        sdist = download_sdist(PINNED, cache)
        with scratch_folder(place.source) as folder:
            step("llama.cpp: unpacking and patching")
            extract_tree(sdist, PINNED, folder / "tree")
            apply(folder / "tree")
            (folder / "tree").rename(place.source)
    return place.source


def built_targets(place: Layout) -> set[str]:
    """The programs that have been built there, as far as they are still there."""
    try:
        built = set(json.loads(place.stamp.read_text())["targets"])
    except (OSError, ValueError, KeyError, TypeError):
        return set()
    aliases = [alias for alias, name in ALIASES.items() if name in built]
    return {name for name in built if all((place.programs / one).exists() for one in (name, *aliases))}


def package_name() -> str:
    """Names a portable build as others get it: the tar, and the folder in it and in the cache (`package.py`)."""
    return f"eoq-{build_name(BuildKind(portable=True))}-linux-x86_64"


def built_programs(cache: Path, wanted: Sequence[str] | None = None) -> Path:
    """The folder of the programs, which holds those `wanted` (default: all of TARGETS): built for this machine, or
    unpacked from a tar. Raises BuildError."""
    wanted = TARGETS if wanted is None else wanted
    place = layout(cache)
    if built_targets(place).issuperset(wanted):
        return place.programs
    unpacked = cache / package_name() / "bin"
    if all((unpacked / name).is_file() for name in wanted):
        return unpacked
    raise BuildError(f"llama.cpp with this version of the patch is not built in {cache}; run eoq setup")


def ensure_programs(cache: Path, jobs: int, kind: BuildKind = NATIVE, wanted: Sequence[str] | None = None) -> Path:
    """The folder of built programs; fetches, patches and builds what is missing of it. Raises EoqError.

    An interrupted build goes on where it stopped.
    """
    place = layout(cache, kind)
    if wanted is None:
        wanted = PORTABLE_TARGETS if kind.portable else TARGETS
    if built_targets(place).issuperset(wanted):
        step(f"llama.cpp: already built in {place.folder}")
        return place.programs
    source = ensure_source(cache, kind)
    with locked(place.folder):
        built = built_targets(place)
        if missing := [name for name in wanted if name not in built]:
            configure(source, place, kind.options)
            compile_targets(place, missing, jobs)
            for alias, name in ALIASES.items():
                link = place.programs / alias
                if (place.programs / name).exists():
                    link.unlink(missing_ok=True)
                    link.symlink_to(name)
            write_whole(place.stamp, json.dumps({"targets": sorted(built.union(missing))}))
            step(f"llama.cpp: built in {place.folder}")
    return place.programs


def environment() -> dict[str, str]:
    """Environment of the build: pip's ninja is found, and ccache, where installed, serves every key's folder."""
    paths = [str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]
    return {**os.environ, "PATH": os.pathsep.join(paths), "CCACHE_NOHASHDIR": "1"}


def configure(source: Path, place: Layout, options: Mapping[str, str]) -> None:
    """Run CMake's configuration. A folder that was configured before keeps its generator."""
    env = environment()
    tools = [("cmake", "cmake"), (env.get("CC") or "cc", "gcc"), (env.get("CXX") or "c++", "g++")]
    if "GGML_CUDA" in options:
        tools.append((env.get("CUDACXX") or "nvcc", "nvidia-cuda-toolkit, or NVIDIA's own packages"))
    if "GGML_VULKAN" in options:
        tools.append(("glslc", VULKAN_PACKAGES))
    for tool, advice in tools:
        if shutil.which(tool, path=env["PATH"]) is None:
            raise BuildError(f"{tool} is needed to build llama.cpp; install it (Debian: apt-get install {advice})")
    generator = []
    if not (place.build / "CMakeCache.txt").exists() and shutil.which("ninja", path=env["PATH"]):
        generator = ["-G", "Ninja"]
    if options.get("GGML_NATIVE") == "OFF":
        # no path of this machine in what others get, and the same bytes from any folder
        flags = f"-ffile-prefix-map={place.folder}=."
        options = {**options, "CMAKE_C_FLAGS": flags, "CMAKE_CXX_FLAGS": flags}
    definitions = [f"-D{name}={value}" for name, value in options.items()]
    step("llama.cpp: configuring")
    env["CCACHE_BASEDIR"] = str(place.folder)
    with place.log.open("w") as log:
        command = ["cmake", "-S", str(source), "-B", str(place.build), *generator, *definitions]
        done = subprocess.run(command, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
    if done.returncode:
        raise BuildError(failure("cmake cannot configure llama.cpp", place.log))


def compile_targets(place: Layout, targets: Sequence[str], jobs: int) -> None:
    """Build the targets; the compiler's words go to the log, and every tenth of the work to the user."""
    env = environment() | {"CCACHE_BASEDIR": str(place.folder)}
    command = ["cmake", "--build", str(place.build), "--parallel", str(jobs), "--target", *targets]
    step(f"llama.cpp: building {len(targets)} programs with {jobs} jobs (minutes: all take 10 on 2 cores)")
    tenth = 0
    with (
        place.log.open("a") as log,
        subprocess.Popen(
            command, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process,
    ):
        assert process.stdout is not None
        for line in process.stdout:
            log.write(line)
            if (now := progress(line)) is not None and int(10 * now) > tenth:
                tenth = int(10 * now)
                print(f"    {10 * tenth} %", file=sys.stderr, flush=True)
    if process.returncode:
        raise BuildError(failure("llama.cpp does not build", place.log))


def progress(line: str) -> float | None:
    """The share of the work done, from a line of ninja (`[12/345] ...`) or of make (`[ 12%] ...`)."""
    if counted := re.match(r"\[(\d+)/(\d+)\]", line):
        return int(counted[1]) / int(counted[2])
    if counted := re.match(r"\[ *(\d+)%\]", line):
        return int(counted[1]) / 100
    return None


def failure(sentence: str, log: Path) -> str:
    """An error message with the end of the log."""
    tail = "\n".join(log.read_text(errors="replace").splitlines()[-30:])
    return f"{sentence}; the end of {log}:\n{tail}"
