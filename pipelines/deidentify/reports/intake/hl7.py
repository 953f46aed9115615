"""HL7 v2 result messages (ORU^R01, chapter 7 of HL7 v2.5.1): from bytes to segments to texts. Nothing here raises."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

# MSH-18 (table 0211) to Python's codecs; a message that names none is read by what its bytes are.
CHARSETS = {
    "ASCII": "latin-1",
    "8859/1": "latin-1",
    "8859/2": "iso8859_2",
    "8859/9": "iso8859_9",
    "8859/15": "iso8859_15",
    "8859/5": "iso8859_5",
    "8859/6": "iso8859_6",
    "8859/7": "iso8859_7",
    "8859/8": "iso8859_8",
    "GB 18030-2000": "gb18030",
    "BIG-5": "big5",
    "KS X 1001": "euc_kr",
    "ISO IR87": "iso2022_jp",
    "UNICODE": "utf-8",
    "UNICODE UTF-8": "utf-8",
    "UNICODE UTF-16": "utf-16",
}
TEXT_TYPES = frozenset({"", "TX", "FT", "ST", "CWE", "CE", "CF"})
STATUS = 11  # OBX-11, required: a last OBX without it and without a terminator was cut off
_ESCAPE = re.compile(r"\\([^\\\r\n]*)\\")


@dataclass
class Segment:
    """One segment; `field(n)` counts as HL7 does, MSH-1 being the separator itself."""

    name: str
    fields: list[str]
    message: Message

    def field(self, number: int) -> str:
        """Field `number` as written, escapes and all; empty where absent."""
        index = number - 1 if self.name == "MSH" else number
        return self.fields[index] if 0 < index < len(self.fields) else ""

    def repetitions(self, number: int) -> list[list[str]]:
        """Repetitions of a field, each a list of its unescaped components."""
        m = self.message
        return [
            [m.unescape(c.split(m.subcomponent)[0]) for c in r.split(m.component)]
            for r in self.field(number).split(m.repetition)
            if r
        ]


@dataclass
class Message:
    """One message with the separators that its MSH declares."""

    charset: str = "utf-8"
    separators: str = "|^~\\&"
    segments: list[Segment] = field(default_factory=list)
    whole: bool = True

    @property
    def component(self) -> str:
        return self.separators[1]

    @property
    def repetition(self) -> str:
        return self.separators[2]

    @property
    def subcomponent(self) -> str:
        return self.separators[4]

    def all(self, name: str) -> list[Segment]:
        return [s for s in self.segments if s.name == name]

    def unescape(self, text: str) -> str:
        """Escape sequences of chapter 2.7: separators, line breaks, hexadecimal bytes; highlighting is dropped."""
        escape = self.separators[3]
        if escape not in text:
            return text
        if escape != "\\":
            text = text.replace("\\", "\0").replace(escape, "\\")
        return _ESCAPE.sub(self._expand, text).replace("\0", "\\")

    def _expand(self, match: re.Match[str]) -> str:
        code = match[1]
        plain = dict(zip("FSRET", (self.separators[i] for i in (0, 1, 2, 3, 4)), strict=True))
        if code in plain:
            return plain[code]
        if code.startswith(".br"):
            return "\n"
        if code.startswith((".sp", ".ce", ".sk", ".in", ".ti", ".fi", ".nf")):
            return "\n" if code.startswith((".sp", ".ce")) else " "
        if re.fullmatch(r"X(?:[0-9A-Fa-f]{2})+", code):
            return bytes.fromhex(code[1:]).decode(self.charset, "replace")
        return ""


def parse(data: bytes) -> Iterator[Message]:
    """The messages of a file: one, a batch (FHS/BHS) or a stream with MLLP framing. Never raises."""
    for part in _split(data):
        terminated = part.endswith((b"\r", b"\n"))
        charset = _charset(part)
        text = part.decode(charset, "replace")
        lines = [line for line in re.split(r"[\r\n]+", text) if line.strip()]
        header = lines[0]
        separators = header[3] + (header[4:8] if len(header) >= 8 else "^~\\&")
        message = Message(charset, separators)
        for line in lines:
            if not re.match(r"[A-Z][A-Z0-9]{2}(?:\W|$)", line) and message.segments:
                message.segments[-1].fields[-1] += "\n" + line  # a line break that its writer did not escape
            elif line[:3] not in ("BHS", "BTS", "FHS", "FTS"):
                message.segments.append(Segment(line[:3], line.split(separators[0]), message))
        message.whole = _whole(message, terminated)
        yield message


def report_text(observations: list[Segment]) -> str:
    """The text of several OBX joined line by line; empty when none of them holds text."""
    lines = []
    for obx in observations:
        if obx.field(2).strip().upper() in TEXT_TYPES:
            repetitions = obx.field(5).split(obx.message.repetition)
            lines += [obx.message.unescape(r) for r in repetitions]
    return "\n".join(lines).strip()


def batch_trouble(data: bytes, messages: int) -> str:
    """What is wrong with the envelope of a batch (HL7 v2.5.1, 2.10.3); empty when nothing is, or there is none."""
    names = re.findall(rb"(?:^|[\r\n])(BHS|BTS)(\W[^\r\n]*)?", data.replace(b"\x0b", b"").removeprefix(b"\xef\xbb\xbf"))
    opened = sum(name == b"BHS" for name, _ in names)
    trailers = [rest for name, rest in names if name == b"BTS"]
    if opened != len(trailers):
        return f"the batch ends without its trailer; {messages} messages were found in it"
    counts = [m[1] for rest in trailers if (m := re.match(rb"\W(\d+)", rest))]
    if counts and len(counts) == len(trailers) and sum(map(int, counts)) != messages:
        return f"the batch says it holds {sum(map(int, counts))} messages; {messages} were found"
    return ""


def _split(data: bytes) -> list[bytes]:
    """The bytes of each message, from its MSH to the next."""
    data = data.replace(b"\x0b", b"").replace(b"\x1c\r", b"").replace(b"\x1c", b"").removeprefix(b"\xef\xbb\xbf")
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        data = data.decode("utf-16", "replace").encode()
    starts = [m.start(1) for m in re.finditer(rb"(?:^|[\r\n])(MSH[^\w\s])", data)]
    return [data[a:b] for a, b in pairwise([*starts, len(data)])]


def _charset(part: bytes) -> str:
    separator = part[3:4]
    fields = re.split(rb"[\r\n]", part, maxsplit=1)[0].split(separator)
    declared = fields[17].split(b"~")[0].decode("latin-1").strip().upper() if len(fields) > 17 else ""
    candidates = [CHARSETS.get(declared, ""), "utf-8", "cp1252"]
    for charset in candidates:
        if charset and charset != "utf-16":
            try:
                part.decode(charset)
            except UnicodeDecodeError:
                continue
            return charset
    return "latin-1"


def _whole(message: Message, terminated: bool) -> bool:
    last = message.segments[-1]
    if last.name == "MSH":
        return False
    return terminated or (last.name == "OBX" and len(last.fields) > STATUS and bool(last.field(STATUS).strip()))
