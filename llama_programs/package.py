"""Pack the programs of a portable build for machines without compilers: a tar.xz, and its SHA-256 beside it."""

import argparse
import json
import lzma
import os
import re
import shutil
import sys
import tarfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from ggml_patch.versions import PINNED
from llama_programs.build import PORTABLE_TARGETS, BuildKind, ensure_programs, package_name, step
from llama_programs.errors import BuildError
from llama_programs.fetch import cache_folder, scratch_folder, sha256_of
from llama_programs.run import output_of
from llama_programs.unpack import CONTENTS
from output_files.claim import claimed
from output_files.target import check_outputs
from output_files.whole import whole_or_not, write_whole
from terminal.tool import run_tool

ROOT = Path(__file__).resolve().parents[1]
_OF_EVERY_SYSTEM = re.compile(r"(linux-vdso|ld-linux-x86-64|libc|libm|libdl|libpthread|librt)\.so")
_OF_GCC = {"libgomp.so.1": "libgomp1", "libstdc++.so.6": "libstdc++6", "libgcc_s.so.1": "libgcc-s1"}
"""Libraries that a compiler brings, and the Debian packages whose licences are theirs."""
_CONVERTER = ("convert_hf_to_gguf.py", "conversion", "gguf-py")
"""Of llama.cpp's tree: what converts Hugging Face folders."""
_LICENCE_IN = {
    "vendor/miniaudio/miniaudio.h": "This software is available as a choice",
    "vendor/stb/stb_image.h": "This software is available under 2 licenses",
    "vendor/sheredom/subprocess.h": "This is free and unencumbered software",
    "vendor/hash/sha1/sha1.c": "SHA-1 in C",
}
"""Sources that carry their licences themselves, and where in them it begins; it ends with the comment."""
_TIME = 1577836800
"""2020-01-01: every file's time, so that the same programs make the same tar."""


def make_parser(prog: str = "tools/package.sh") -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=prog, description=__doc__)
    add = parser.add_argument
    add("--output", type=Path, default=Path(), metavar="DIR", help="folder for the two files (default: .)")
    build = "folder of the programs of a portable build, with the tree that it was made of beside it, as in the cache"
    add("--from-build", type=Path, metavar="DIR", help=f"{build} (default: build them in the cache)")
    add(
        "--jobs", type=int, default=os.cpu_count() or 1, metavar="N", help="parallel compile jobs (default: one a core)"
    )
    add("--print-name", action="store_true", help="only print the name of the tar")
    return parser


def main(words: Sequence[str] | None = None, prog: str = "tools/package.sh") -> int:
    """The command line; returns the exit status."""
    parser = make_parser(prog)
    options = parser.parse_args(words)
    if options.jobs < 1:
        parser.error("--jobs must be at least 1")
    return run_tool(_run, options)


def _run(options: argparse.Namespace) -> None:
    if options.print_name:
        print(tar_name())
        return
    check_outputs([options.output / tar_name()], [])  # before minutes of building
    programs = options.from_build or ensure_programs(cache_folder(), options.jobs, BuildKind(portable=True))
    print(package(programs, programs.parents[1] / "src", options.output))


def tar_name() -> str:
    return f"{package_name()}.tar.xz"


def package(programs: Path, source: Path, output: Path) -> Path:
    """Write the tar of `programs`, made of the tree `source`, and its .sha256 into `output`. Returns the tar's path.

    Raises BuildError for programs that would not run elsewhere, or whose licences are not to be found.
    """
    tar = output / tar_name()
    checksum = output / f"{tar.name}.sha256"
    with claimed([tar, checksum], []), scratch_folder(tar) as folder:
        top = folder.resolve() / package_name()
        libraries = _copy_programs(programs.resolve(), top / "bin")
        _copy_converter(source, top / "src")
        _copy_licences(source, libraries, top / "licenses")
        contents = {"llama.cpp": f"{PINNED.package} {PINNED.version}", "glibc": _glibc(top / "bin")}
        write_whole(top / CONTENTS, json.dumps(contents, indent=1) + "\n")
        step(f"packing {tar.name}")
        with whole_or_not(tar) as partial:
            _write_tar(top, partial)
        write_whole(checksum, f"{sha256_of(tar)}  {tar.name}\n")
    return tar


def _copy_programs(programs: Path, target: Path) -> set[str]:
    """Copy the programs and all libraries that not every system has. Returns the compiler's among them."""
    if missing := [name for name in PORTABLE_TARGETS if not (programs / name).is_file()]:
        raise BuildError(f"{programs} lacks {', '.join(missing)}; leave --from-build out, and they are built")
    # each is one kind of CPU's, or a backend, and loaded by its name
    modules = sorted(programs.glob("libggml-cpu-*.so")) + sorted(programs.glob("libggml-rpc.so"))
    if not modules:
        raise BuildError(
            f"{programs} is a build for this machine's CPU alone; leave --from-build out for a portable one"
        )
    target.mkdir(parents=True)
    found: dict[str, Path] = {}
    for file in [*(programs / name for name in PORTABLE_TARGETS), *modules]:
        shutil.copyfile(file, target / file.name)
        (target / file.name).chmod(0o755)
        found |= _libraries(file)
    for name, path in found.items():
        if path.parent != programs and name not in _OF_GCC:
            raise BuildError(f"{programs} needs {path}, which other machines may lack; build without it")
        shutil.copyfile(path, target / name)
    for name in sorted(found.keys() | {file.name for file in target.iterdir()}):
        for needed, path in _libraries(target / name).items():
            # the compiler's libraries have no search path of their own, and find what a program has loaded already
            if path.parent != target and name not in _OF_GCC:
                raise BuildError(f"{name} of {programs} looks for {needed} elsewhere than beside itself; build it anew")
    return found.keys() & _OF_GCC.keys()


def _libraries(file: Path) -> dict[str, Path]:
    """What a program or library is loaded with, by name: all but what every system has. Raises BuildError."""
    found = {}
    for line in output_of(["ldd", str(file)]).splitlines():
        name, _, rest = line.strip().partition(" => ")
        path = Path((rest or name).rpartition(" (")[0])
        if _OF_EVERY_SYSTEM.match(path.name or name) or line.strip() == "statically linked":
            continue
        if rest.startswith("not found"):
            raise BuildError(f"{file} needs {name}, which is not here; build it anew")
        found[name if rest else path.name] = path
    return found


def _glibc(programs: Path) -> str:
    """The newest version of the C library's symbols that these files ask for, such as 2.36."""
    versions = {
        tuple(map(int, found.split(b".")))
        for file in programs.iterdir()
        for found in re.findall(rb"\0GLIBC_(\d+\.\d+)(?:\.\d+)?(?=\0)", file.read_bytes())
    }
    return ".".join(map(str, max(versions, default=(2, 0))))


def _copy_converter(source: Path, target: Path) -> None:
    """Raises BuildError."""
    target.mkdir(parents=True)
    for name in _CONVERTER:
        if (source / name).is_dir():
            shutil.copytree(source / name, target / name, ignore=shutil.ignore_patterns("__pycache__", "tests"))
        elif (source / name).is_file():
            shutil.copyfile(source / name, target / name)
        else:
            raise BuildError(f"{source} has no {name}; name a build in the cache with --from-build")


def _copy_licences(source: Path, libraries: Iterable[str], target: Path) -> None:
    """llama.cpp's, of what comes with it, of this project, and of the compiler's libraries. Raises BuildError."""
    target.mkdir()
    texts = {"llama.cpp": source / "LICENSE", "EOQ": ROOT / "LICENSE", "gguf-py": source / "gguf-py" / "LICENSE"}
    texts |= {file.name.removeprefix("LICENSE-"): file for file in (source / "licenses").iterdir()}
    texts |= {file.parent.name: file for file in (source / "vendor").rglob("LICENSE*")}
    texts |= {name: Path("/usr/share/doc") / _OF_GCC[name] / "copyright" for name in libraries}
    try:
        for name, file in texts.items():
            shutil.copyfile(file, target / f"{name}.txt")
        for path, beginning in _LICENCE_IN.items():
            _, found, rest = (source / path).read_text(encoding="utf-8", errors="replace").partition(beginning)
            if not found:
                raise BuildError(f"{source / path} does not carry its licence where it was; see {__name__}")
            text = f"{Path(path).name}\n\n{found}{rest.partition('*/')[0].rstrip()}\n"
            (target / f"{Path(path).stem}.txt").write_text(text, encoding="utf-8")
    except OSError as error:
        raise BuildError(f"a licence is not to be found, and nothing is packed without: {error}") from None


def _write_tar(top: Path, target: Path) -> None:
    """The folder `top` as a tar.xz: sorted, of one time and owner."""

    def plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.mtime, member.uid, member.gid, member.uname, member.gname = _TIME, 0, 0, "", ""
        member.mode = 0o755 if member.isdir() or member.name.startswith(f"{top.name}/bin/") else 0o644
        return member

    with (
        lzma.open(target, "wb", preset=6) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        archive.add(top, top.name, filter=plain)  # in the order of the names


if __name__ == "__main__":
    sys.exit(main())
