"""Real report texts with planted identifiers, for the benchmarks of reports: from whole exports, or composed in bulk.

Texts are real (Open-I, Cohen's notes), identities invented by `../shared/make_pacs_export.py`. Nothing of a text or an
identity is printed.
"""

import csv
import importlib.util
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import pydicom
from PIL import Image

from pipelines.deidentify.identities import Identities, from_dataset
from pipelines.deidentify.reports.dates import parse_any
from pipelines.deidentify.reports.intake import SourceReport, read_reports
from pipelines.deidentify.reports.scrub import ScrubItem
from pipelines.keys import DerivationSecret

ROOT = Path(__file__).resolve().parents[2]
SHARED = Path(os.environ.get("INTRAMURAL_SHARED", ROOT.parent / "shared"))
SECRET = DerivationSecret("bench", 1, b"b" * 32)
SHIFT = -70


@dataclass(frozen=True)
class Planted:
    """A report with its paired header's identities and what was planted: (type, start, end) in `item.text`."""

    item: ScrubItem
    spans: list[tuple[str, int, int]]


def from_export(seed: int, studies: int = 10_000) -> list[Planted]:
    """Every report of the export that `seed` gives, read by our own intake and paired with its DICOM header."""
    with tempfile.TemporaryDirectory() as home:
        out = Path(home) / "export"
        command = [sys.executable, SHARED / "make_pacs_export.py", out, "--studies", str(studies), "--seed", str(seed)]
        subprocess.run(command, check=True, capture_output=True)
        key = json.loads(Path(f"{out}.key.json").read_text(encoding="utf-8"))
        headers = {v["accession"]: out / v["path"] for v in key["instances"].values()}
        files = [Path("reports.csv"), *sorted(p.relative_to(out) for p in (out / "hl7").iterdir())]
        found = []
        for report in read_reports(out, [(str(f), f) for f in files]):
            if not isinstance(report, SourceReport):
                raise SystemExit("a report of the export could not be read")
            header = pydicom.dcmread(headers[report.accession], stop_before_pixels=True)
            planted = key["reports"][report.accession]
            if planted["text"].rstrip() != report.text.rstrip():
                raise SystemExit("the text read is not the text planted")
            item = ScrubItem(report.text, report.identities | from_dataset(header), "P", SHIFT)
            found.append(Planted(item, [(s["type"], s["start"], s["end"]) for s in planted["spans"]]))
        if len(found) != len(key["reports"]):
            raise SystemExit("reports are missing")
        return found


def composed(count: int, seed: int) -> list[Planted]:
    """`count` reports made of Open-I texts in turn, each with new invented persons and a header of its own."""
    maker, rng = _maker(), random.Random(seed)
    image, openi, found = Image.new("L", (8, 8)), open_i(), []
    rng.shuffle(openi)
    for n in range(count):
        row = openi[n % len(openi)]
        person, doctor, tech = (maker.Person(rng, i) for i in (n, 0, 1))
        when = date(2019, 1, 1) + timedelta(days=rng.randint(0, 1400))
        hospital, root = rng.choice(maker.HOSPITALS), f"1.2.826.0.1.3680043.10.{rng.randint(1000, 9999)}.{n}"
        context = {
            "sop": root + ".3", "series": root + ".2", "study": root + ".1", "acc": f"ACC{n + 10**6}",
            "when": when, "sex": "O", "view": "PA", "doctor": doctor, "tech": tech, "hospital": hospital,
            "aet": "CXR_BENCH", "preamble": b"\0" * 128,
        }  # fmt: skip
        header, _, _ = maker.instance(rng, image, person, context)
        parts = (row["indication"], row["findings"], row["impression"])
        text, spans = maker.report_text(rng, person, doctor, hospital, when, *parts)
        item = ScrubItem(text, from_dataset(header), "P", SHIFT)
        found.append(Planted(item, [(s["type"], s["start"], s["end"]) for s in spans]))
    return found


def open_i() -> list[dict[str, str]]:
    """The Open-I reports as they are."""
    with (SHARED / "data" / "openi_reports" / "reports.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def open_i_texts() -> list[str]:
    """Each Open-I report as one text with the usual headings."""
    parts = ("indication", "comparison", "findings", "impression")
    return ["\n".join(f"{p.upper()}: {row[p]}" for p in parts if row[p]) for row in open_i()]


@dataclass
class Tally:
    """What became of planted spans and of the tokens around them."""

    planted: Counter[str]
    removed: Counter[str]
    in_header: int = 0
    header_removed: int = 0
    tokens: int = 0
    changed: int = 0
    dates: int = 0
    """Of the changed: moved only because a date stands there that was not planted (the notes' own)."""

    @property
    def recall(self) -> float:
        return sum(self.removed.values()) / sum(self.planted.values())

    @property
    def loss(self) -> float:
        return self.changed / self.tokens


def tally(reports: list[Planted], found: list[list[tuple[str, int, int]]]) -> Tally:
    """Compare what was planted with what was `found`, (kind, start, end) for each report. A planted span counts as
    removed when every letter and digit of it is covered."""
    total = Tally(Counter(), Counter())
    for report, spans in zip(reports, found, strict=True):
        text = report.item.text
        covered = {i for _, a, b in spans for i in range(a, b)}
        dates = {i for kind, a, b in spans if kind == "DATE" for i in range(a, b)}
        planted = {i for _, a, b in report.spans for i in range(a, b)}
        for kind, a, b in report.spans:
            gone = all(i in covered for i in range(a, b) if text[i].isalnum())
            total.planted[kind] += 1
            total.removed[kind] += gone
            if stands_in_header(kind, text[a:b], report.item.identities):
                total.in_header += 1
                total.header_removed += gone
        for word in re.finditer(r"\S+", text):
            at = set(range(*word.span()))
            if not at & planted:
                total.tokens += 1
                total.changed += bool(at & covered)
                total.dates += bool(at & covered) and not at & (covered - dates)
    return total


def stands_in_header(kind: str, value: str, who: Identities) -> bool:
    """Whether the value, normalised in case, order, punctuation and date format, is one of the paired header's."""
    if kind == "DATE":
        return parse_any(value) in who.dates
    if kind == "NAME":
        return any(_words(value) <= _words(group) for name in who.names for group in name.split("="))
    theirs = who.ids | who.phones | who.addresses | who.institutions
    return _plain(value) in {_plain(v) for v in theirs}


def _plain(value: str) -> str:
    return "".join(c for c in unicodedata.normalize("NFKD", value).casefold() if c.isalnum())


def _words(value: str) -> set[str]:
    return {w for part in re.split(r"[\s,^]+", value) if (w := _plain(part))}


def _maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_pacs_export", SHARED / "make_pacs_export.py")
    if spec is None or spec.loader is None:
        raise SystemExit("the export maker is not beside this checkout")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def span_lists(results: list[Any]) -> Iterator[list[tuple[str, int, int]]]:
    """The spans of Scrubbed results as `tally` wants them."""
    for result in results:
        yield [(s.kind, s.start, s.end) for s in result.spans]
