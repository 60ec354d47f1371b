"""A text file as lines that can be put together again byte for byte."""

from dataclasses import dataclass

ENDINGS = ("\r\n", "\n")


@dataclass
class TextFile:
    """Lines without their ends, and the ends: "\\n", "\\r\\n", or "" for a last line that has none."""

    lines: list[str]
    ends: list[str]

    @classmethod
    def parse(cls, data: bytes) -> "TextFile":
        """Split bytes of any encoding that keeps ASCII; only "\\n" and "\\r\\n" end a line."""
        lines: list[str] = []
        ends: list[str] = []
        for raw in data.decode("utf-8", "surrogateescape").split("\n"):
            lines.append(raw)
            ends.append("\n")
        ends[-1] = ""
        if lines[-1] == "":
            lines.pop()
            ends.pop()
        for i, line in enumerate(lines):
            if ends[i] and line.endswith("\r"):
                lines[i], ends[i] = line[:-1], "\r\n"
        return cls(lines, ends)

    def serialize(self) -> bytes:
        """The bytes of the file."""
        text = "".join(line + end for line, end in zip(self.lines, self.ends, strict=True))
        return text.encode("utf-8", "surrogateescape")

    def line_end(self, near: int) -> str:
        """The line end to use beside line `near`: its own, else the file's first, else "\\n"."""
        candidates = [*self.ends[near : near + 1], *self.ends[:1], "\n"]
        return next(end for end in candidates if end)
