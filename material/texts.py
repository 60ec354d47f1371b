"""The texts that models are calibrated with and measured on. All come from PyPI and stay in the cache.

Each function returns at once if the cache has the file already, and raises FetchError if it cannot be had.
"""

import tarfile
from pathlib import Path

from ggml_patch.versions import PINNED
from llama_programs.errors import FetchError
from llama_programs.fetch import cache_folder, download_sdist, scratch_folder
from material.packages import extract_from_wheel, require_sha256


def _folder() -> Path:
    return cache_folder() / "models"


def _news_documents() -> list[str]:
    target = _folder() / "lee_background.cor"
    if not target.exists():
        requirement = "gensim==4.4.0"
        with scratch_folder(target) as folder:
            extract_from_wheel(requirement, {f"gensim/test/test_data/{target.name}": target.name}, folder / "text")
            text = folder / "text" / target.name
            require_sha256(text, "5d78d6dafd953bbf65797bef09a9ffb9ec430583381be705f8fd460000f370fb", requirement)
            text.replace(target)
    return target.read_text(encoding="utf-8").splitlines()


def _write(target: Path, parts: list[str], sha256: str | None = None) -> None:
    """One file of all parts, an empty line between them; never half-written, nor of another hash than given."""
    with scratch_folder(target) as folder:
        text = folder / target.name
        text.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
        if sha256 is not None:
            require_sha256(text, sha256, "the pieces")
        text.replace(target)


def evaluation_text() -> Path:
    """English news: the last third of the 300 documents of the Lee corpus. Never calibrate on it."""
    target = _folder() / "news-evaluation.txt"
    if not target.exists():
        documents = _news_documents()
        _write(target, documents[len(documents) * 2 // 3 :])
    return target


def calibration_text() -> Path:
    """English news for calibration: the first half of the Lee corpus, no document of which is in `evaluation_text`."""
    target = _folder() / "news-calibration.txt"
    if not target.exists():
        documents = _news_documents()
        _write(target, [document.strip() for document in documents[: len(documents) // 2]])
    return target


BUNDLED = Path(__file__).parent / "mixed"
"""The first text that came with the converter, which is now a part of a broader one; results were measured with it."""
MIXED_PIECE = 4000
"""Characters of a piece of it, the line with the last one whole."""
MIXED_SHA256 = "8995d2b97f9e8488ec14090e3a0e68d4d014b5d39c009cb82b814e8a23e7cf89"


def mixed_text() -> Path:
    """Calibration text of several kinds: `calibration_text`, and pieces of the first text that came with the converter.

    Every third piece of the latter, so that all kinds are there: prose, code, mathematics, chat, languages.
    """
    target = _folder() / "mixed-calibration.txt"
    if not target.exists():
        files = sorted(BUNDLED.glob("*.txt"))
        kinds = [part for file in files for part in pieces(file.read_text(encoding="utf-8"), MIXED_PIECE)[::3]]
        _write(target, [calibration_text().read_text(encoding="utf-8").strip(), *kinds], MIXED_SHA256)
    return target


CODE_FILES = (
    "vendor/llama.cpp/common/jinja/parser.cpp",
    "llama_cpp/llama_grammar.py",
    "vendor/llama.cpp/ggml/src/ggml-alloc.c",
    "vendor/llama.cpp/examples/llama.android/lib/src/main/java/com/arm/aichat/internal/gguf/GgufMetadataReaderImpl.kt",
    "vendor/llama.cpp/gguf-py/gguf/metadata.py",
    "vendor/llama.cpp/ggml/src/ggml-cuda/softmax.cu",
    "vendor/llama.cpp/ci/run.sh",
    "vendor/llama.cpp/examples/llama.swiftui/llama.cpp.swift/LibLlama.swift",
    "vendor/llama.cpp/scripts/compare-llama-bench.py",
    "vendor/llama.cpp/common/console.cpp",
    "vendor/llama.cpp/ggml/src/ggml-vulkan/vulkan-shaders/mul_mm.comp",
    "vendor/llama.cpp/scripts/server-bench.py",
)
"""Files of several languages in the sdist of the pinned llama.cpp, none of which the patch changes."""
CODE_SKIPPED = 1500
"""Characters at the start of a file, mostly licence and imports, that are left out."""
CODE_TAKEN = 10_000
"""Characters of each file."""
CODE_SHA256 = "2bc04ea2d069b01d6d054e51420b71b6e3d9d5ba9d6fadce29fd97c3bb474aa1"


def code_text() -> Path:
    """Program code: a piece of each of CODE_FILES (MIT licence), cut at the ends of lines. Never calibrate on it."""
    target = _folder() / "code-evaluation.txt"
    if not target.exists():
        sdist = download_sdist(PINNED, cache_folder())
        root = f"{PINNED.sdist.removesuffix('.tar.gz')}/"
        texts: dict[str, str] = {}
        # one pass: a compressed archive cannot be searched backwards
        with tarfile.open(sdist) as archive:
            for member in archive:
                if (name := member.name.removeprefix(root)) in CODE_FILES:
                    content = archive.extractfile(member)
                    assert content is not None
                    texts[name] = content.read().decode()
        missing = [name for name in CODE_FILES if name not in texts]
        if missing:
            raise FetchError(f"{sdist} lacks {missing[0]}")
        _write(target, [piece(texts[name]) for name in CODE_FILES], CODE_SHA256)
    return target


def piece(code: str, skipped: int = CODE_SKIPPED, taken: int = CODE_TAKEN) -> str:
    """The whole lines of `code` that lie within the `taken` characters after the first `skipped` ones."""
    lines = code[skipped : skipped + taken].splitlines()
    return "\n".join(lines[1:-1]).strip("\n")


def pieces(text: str, letters: int) -> list[str]:
    """The text's lines in pieces, each ended by the first line's end after `letters` characters."""
    parts, start = [], 0
    while start < len(text):
        end = text.find("\n", start + letters)
        end = len(text) if end < 0 else end + 1
        parts.append(text[start:end].strip("\n"))
        start = end
    return parts
