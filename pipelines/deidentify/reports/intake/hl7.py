"""HL7 v2 result messages (ORU^R01, chapter 7 of HL7 v2.5.1): from bytes to segments to texts. Nothing here raises."""

from __future__ import annotations

import codecs
import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby, pairwise

# MSH-18 (table 0211) to Python's codecs, where Python does not know the term itself; a message that names none is read
# by what its bytes are.
CHARSETS = {
    "8859/1": "cp1252",  # its superset: quotation marks and dashes of Windows come under this name
    "ISO-8859-1": "cp1252",
    "UNICODE": "utf-8",
    "BIG-5": "big5",
    "GB 18030-2000": "gb18030",
    "ISO IR14": "shift_jis",
    "ISO IR87": "iso2022_jp",
    "ISO IR159": "iso2022_jp_1",
    "KS X 1001": "euc_kr",
}
TEXT_TYPES = frozenset({"", "TX", "FT", "ST", "CWE", "CE", "CF"})
STATUS = 11  # OBX-11, required: a last OBX without it and without a terminator was cut off
# Parts of a report as the suffix of OBX-3.1 names them (7.2.4), and the headings they stand under.
HEADINGS = {"GDT": "FINDINGS", "IMP": "IMPRESSION", "ADT": "ADDENDUM"}
_HEADED = re.compile(r"\s*[^\W\d_][^\n:]{2,40}:")
_ENVELOPE = frozenset({"BHS", "BTS", "FHS", "FTS"})
# Bytes of one character may come in escapes of their own, one behind the other.
_ESCAPE = re.compile(r"(?:\\X(?:[0-9A-Fa-f]{2})+\\)+|\\([^\\\r\n]*)\\")


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
        if code is None:
            return bytes.fromhex(re.sub(r"[\\X]", "", match[0])).decode(self.charset, "replace")
        plain = dict(zip("FSRET", (self.separators[i] for i in (0, 1, 2, 3, 4)), strict=True))
        if code in plain:
            return plain[code]
        if code.startswith(".br"):
            return "\n"
        if code.startswith((".sp", ".ce", ".sk", ".in", ".ti", ".fi", ".nf")):
            return "\n" if code.startswith((".sp", ".ce")) else " "
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
        written: list[str] = []
        for line in lines:
            if line[:3] in _ENVELOPE and not line[3:4].isalnum():
                continue
            if written and not re.match(rf"[A-Z][A-Z0-9]{{2}}{re.escape(separators[0])}", line):
                written[-1] += "\n" + line  # a line break that its writer did not escape
            else:
                written.append(line)
        message.segments = [Segment(line[:3], line.split(separators[0]), message) for line in written]
        message.whole = _whole(message, terminated)
        yield message


def report_text(observations: list[Segment]) -> str:
    """The text of several OBX joined line by line; empty when none of them holds text.

    Parts that OBX-3 names come under their heading, unless their text begins with one.
    """
    texts = [o for o in observations if o.field(2).strip().upper() in TEXT_TYPES]
    parts = []
    for name, group in groupby(texts, part_of):
        lines = [o.message.unescape(r) for o in group for r in o.field(5).split(o.message.repetition)]
        text = "\n".join(lines)
        # The body needs its heading only to be told from the rest.
        headed = _HEADED.match(text) or not text.strip() or (name == "GDT" and len({*map(part_of, texts)}) == 1)
        parts.append(text if name not in HEADINGS or headed else f"{HEADINGS[name]}: {text.lstrip()}")
    return "\n".join(parts).strip()


def part_of(observation: Segment) -> str:
    """Which part of a report an OBX holds: the suffix of OBX-3.1, as in 71045&IMP; empty where there is none."""
    identifier = observation.field(3).split(observation.message.component)[0]
    return identifier.partition(observation.message.subcomponent)[2].strip().upper()


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
    terms = fields[17].decode("latin-1").upper().split("~") if len(fields) > 17 else []
    declared = [c for term in terms if (c := _codec(term.strip()))]
    # Of several sets one of several bytes holds the others: `~ISO IR87` is ASCII with kanji.
    declared.sort(key=_is_single)
    first = ["utf-8"] if all(map(_is_single, declared)) else []
    for charset in [*first, *declared[:1], "utf-8", "cp1252"]:
        try:
            part.decode(charset)
        except UnicodeDecodeError:
            continue
        return charset
    return "latin-1"


def _codec(term: str) -> str:
    """Python's name of a character set; empty for none, and for UTF-16, which was turned into UTF-8 before."""
    for name in (CHARSETS.get(term, term.removeprefix("UNICODE ")), f"ISO-{term}"):
        with contextlib.suppress(LookupError, ValueError):
            found = codecs.lookup(name).name
            return "" if found.startswith("utf-16") else found
    return ""


def _is_single(charset: str) -> bool:
    """Whether a set has one byte a character: under the name of one UTF-8 comes as often as not."""
    return charset.startswith(("ascii", "iso8859", "cp125"))


def _whole(message: Message, terminated: bool) -> bool:
    last = message.segments[-1]
    if last.name == "MSH":
        return False
    return terminated or (last.name == "OBX" and len(last.fields) > STATUS and bool(last.field(STATUS).strip()))
