"""Markup taken off text: wikitext, reStructuredText, HTML, AIML and gettext become paragraphs as a reader sees them."""

import ast
import html
import re
from collections.abc import Iterator
from html.parser import HTMLParser

_LEFT_OUT = re.compile(
    r"<!--.*?-->|<(ref|math|gallery|timeline|score|syntaxhighlight|nowiki|imagemap)\b[^>]*/>"
    r"|<(ref|math|gallery|timeline|score|syntaxhighlight|imagemap)\b[^>]*>.*?</\2>",
    re.S | re.I,
)
_BACK_MATTER = re.compile(
    r"^==\s*(see also|references|notes?( and references)?|external links|further reading|bibliography|sources|citations"
    r"|footnotes|works cited)\b[^\n]*==\s*$",
    re.M | re.I,
)


def _without(text: str, opening: str, closing: str) -> str:
    """The text outside of brackets, which may stand inside each other."""
    parts, depth = [], 0
    for piece in re.split(f"({re.escape(opening)}|{re.escape(closing)})", text):
        if piece == opening:
            depth += 1
        elif piece == closing:
            depth = max(0, depth - 1)
        elif not depth:
            parts.append(piece)
    return "".join(parts)


def wikitext_paragraphs(source: str) -> list[str]:
    """Headings and prose of a Wikipedia article up to its references; no tables, lists, templates or pictures."""
    if end := _BACK_MATTER.search(source):
        source = source[: end.start()]
    text = _LEFT_OUT.sub("", source)
    text = re.sub(r"\{\{(?:convert|cvt)\|([^|{}]*)\|([^|{}]*)[^{}]*\}\}", r"\1 \2", text, flags=re.I)
    text = _without(_without(text, "{{", "}}"), "{|", "|}")
    # innermost first: the caption of a picture has links of its own
    links = re.compile(r"\[\[(?:(file|image|category|wikt|[a-z]{2,3}):)?[^\[\]]*?([^\[\]|]*)\]\]", re.I)
    while (replaced := links.sub(lambda m: "" if m[1] else m[2], text)) != text:
        text = replaced
    text = re.sub(r"\[(?:https?:)?//\S+\s*([^\]]*)\]", r"\1", text)
    text = html.unescape(re.sub(r"<[^>]+>", "", text)).replace("\N{NO-BREAK SPACE}", " ")
    text = re.sub(r"'{2,}|__[A-Z]+__", "", text)
    paragraphs: list[str] = []
    for line in text.splitlines():
        if heading := re.fullmatch(r"=+\s*(.*?)\s*=+\s*", line):
            # of headings in a row, what is left of sections without prose, the last
            if paragraphs and _is_heading(paragraphs[-1]):
                paragraphs.pop()
            paragraphs.append(heading[1])
        elif line[:1].isalnum() or line[:1] in '"(':
            # what a template left behind: empty brackets, and spaces in front of commas
            line = re.sub(r"\s*\([\s;,]*\)|(?<=\()[\s;,]+", "", line)
            paragraphs.append(re.sub(r"\s+(?=[,.;:] )|\s(?=\s)", "", line).strip())
    return [p for p in paragraphs if p]


def _is_heading(paragraph: str) -> bool:
    return len(paragraph) < 80 and paragraph[-1:] not in '.:;?!")'


def unwrapped(text: str, width: int) -> list[str]:
    """The paragraphs of a text whose lines were broken at `width` characters, with or without empty lines between.

    A line ends a paragraph where the next line's first word would have had room on it.
    """
    paragraphs: list[str] = []
    room = 0
    for line in text.splitlines():
        words = line.split()
        if not words:
            room = width
            continue
        if paragraphs and len(words[0]) + 1 > room:
            paragraphs[-1] += " " + " ".join(words)
        else:
            paragraphs.append(" ".join(words))
        room = width - len(line.rstrip())
    return paragraphs


_ROLES = re.compile(r":(?:\w+:)?\w+:`([^`<]*?)\s*(?:<[^`]*>)?`")


def rst_paragraphs(source: str) -> list[str]:
    """Headings, prose and formulas (as LaTeX) of reStructuredText; no code, tables, directives or doctests."""
    paragraphs: list[str] = []
    for block in _rst_blocks(source.expandtabs()):
        first = block[0].strip()
        if first.startswith(".. math::"):
            lines = [line.strip() for line in (first.removeprefix(".. math::"), *block[1:])]
            formula = " ".join(line for line in lines if line and not line.startswith(":"))
            paragraphs.append(f"\\[ {formula} \\]")
        elif not first.startswith((".. ", ">>>", "+-", "==", "|")):
            text = " ".join(line.strip() for line in block if not re.fullmatch(r"\s*([=\-~^*\"])\1{2,}\s*", line))
            text = re.sub(r":math:`([^`]*)`", r"$\1$", text)
            text = re.sub(r":(ref|eq):`([^`<]*)`", lambda m: f"\\{'eqref' if m[1] == 'eq' else 'ref'}{{{m[2]}}}", text)
            text = _ROLES.sub(r"\1", text).replace("``", "`")
            text = re.sub(r"`([^`<]+?)\s*<[^`]*>`_+", r"\1", text)
            text = re.sub(r"\*\*(.+?)\*\*|(?<![\w*])\*([^*\s][^*]*)\*", lambda m: m[1] or m[2], text)
            text = re.sub(r"\s*::$", ":", " ".join(text.split()))
            if text.strip(":"):
                paragraphs.append(text)
    return paragraphs


def _rst_blocks(source: str) -> Iterator[list[str]]:
    """Runs of lines without an empty one; a formula with all that is indented below it, code after `::` left out."""
    block: list[str] = []
    code_indent: int | None = None
    formula_indent: int | None = None
    for line in [*source.splitlines(), ""]:
        indent = len(line) - len(line.lstrip())
        if not line.strip():
            if formula_indent is None and block:
                yield block
                if block[-1].rstrip().endswith("::") or _is_directive(block[0]):
                    code_indent = len(block[-1]) - len(block[-1].lstrip())
                    code_indent = min(code_indent, len(block[0]) - len(block[0].lstrip()))
                block = []
            continue
        if formula_indent is not None and indent <= formula_indent:
            yield block
            block, formula_indent = [], None
        if code_indent is not None:
            if indent > code_indent:
                continue
            code_indent = None
        if line.lstrip().startswith(".. math::"):
            if block:
                yield block
                block = []
            formula_indent = indent
        block.append(line)
    if block:
        yield block


def _is_directive(line: str) -> bool:
    """Whether what is indented below is left out: not that of a function, whose description is prose."""
    return re.match(r"\s*\.\. (?!function|class|method|attribute|seealso|note|versionadded)[\w-]+::", line) is not None


class _Blocks(HTMLParser):
    def __init__(self, blocks: tuple[str, ...]) -> None:
        super().__init__()
        self.blocks = blocks
        self.found: list[str] = []
        self.open = False
        self.skipped = 0

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag in ("pre", "table", "script", "style"):
            self.skipped += 1
        elif tag in self.blocks:
            self.found.append("")
            self.open = True

    def handle_endtag(self, tag: str) -> None:
        if tag in ("pre", "table", "script", "style"):
            self.skipped -= 1
        elif tag in self.blocks:
            self.open = False

    def handle_data(self, data: str) -> None:
        if self.open and not self.skipped:
            self.found[-1] += data


def html_paragraphs(source: str, blocks: tuple[str, ...] = ("p", "li", "h1", "h2", "h3", "h4")) -> list[str]:
    """The text of the elements `blocks`, each on one line; no code and no tables."""
    parser = _Blocks(blocks)
    parser.feed(source)
    parser.close()
    return [text for found in parser.found if (text := " ".join(found.split()))]


def aiml_exchanges(source: str) -> list[tuple[str, str]]:
    """What is said to a chatterbot and its answer, of an AIML file; none that has something to fill in.

    Patterns have no case and no punctuation, so what is said comes in small letters. Of several answers, the first.
    """
    exchanges = []
    for pattern, template in re.findall(
        r"<category>\s*<pattern>([^<*_]*)</pattern>\s*<template>(.*?)</template>", source, re.S
    ):
        answer = re.sub(r"<think>.*?</think>", "", template, flags=re.S)
        answer = re.sub(r"<random>\s*<li>(.*?)</li>.*?</random>", r"\1", answer, flags=re.S)
        answer = re.sub(r"<br ?/>", " ", re.sub(r"</?set\b[^>]*>", "", answer))
        if "<" not in answer:
            exchanges.append((" ".join(pattern.lower().split()), " ".join(html.unescape(answer).split())))
    return exchanges


def gettext_translations(source: str) -> list[str]:
    """The finished translations of a gettext catalogue (.po), without plurals, tags of HTML taken off."""
    translations = []
    for entry in source.split("\n\n"):
        found = re.search(r'^msgstr ((?:"(?:[^"\\]|\\.)*"\n?)+)', entry, re.M)
        if found and "#, fuzzy" not in entry and 'msgid ""\nmsgstr' not in entry:
            # the escapes of C that catalogues use are those of Python
            text = "".join(ast.literal_eval(part) for part in re.findall(r'"(?:[^"\\]|\\.)*"', found[1]))
            translations.append(html.unescape(re.sub(r"<[^>]+>", "", text)).strip())
    return translations
