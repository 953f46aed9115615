"""One instance against its source: header, pixels, markers. And one report against its planted spans."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import ImplicitVRLittleEndian

from pipelines.keys import DerivationSecret
from pipelines.score import values
from pipelines.score.attributes import PRESENT, Header, compare_headers
from pipelines.score.key import Instance, Planted, Report
from pipelines.score.pixels import Verdict, compare_pixels
from pipelines.score.search import Matcher, elements, without_pixels

# VRs and elements whose words are clinical terms by definition: coded strings and the meanings of codes.
CLINICAL_VRS = ("CS",)
CLINICAL_ELEMENTS = ("CodeMeaning", "CodingSchemeDesignator")


@dataclass
class Finding:
    """Something to report. `token` is a keyed hash of the value, to count a value once a place; it is not written."""

    source_id: str
    verdict: str
    """leak | review | readable | loss"""
    kind: str
    where: str
    output: str | None
    token: int = 0


@dataclass
class Judgement:
    """All that one instance contributes; tokens stand for old UIDs and patients, so no PHI reaches the run folder."""

    findings: list[dict[str, Any]] = field(default_factory=list)
    planted: int = 0
    removed: int = 0
    boxes: int = 0
    readable: int = 0
    readable_before: int = 0
    kept: tuple[int, int] = (0, 0)
    equal: tuple[int, int] = (0, 0)
    present: tuple[int, int] = (0, 0)
    uids: list[tuple[int, str | None, bool]] = field(default_factory=list)
    shifts: list[int | None] = field(default_factory=list)
    patient: int = 0
    new_patient: str = ""
    changed: float = 0.0
    strayed: float | None = None


def judge_instance(item: Instance, source: Path, folder: Path, output: str, secret: DerivationSecret) -> Judgement:
    """Compare the output of an instance with its source; what cannot be read counts as a loss."""
    source_id = secret.source_id(item.path)
    result = Judgement(patient=secret.surrogate("score patient", item.patient), boxes=len(item.boxes))

    def report(verdict: str, kind: str, where: str, value: str = "") -> None:
        token = secret.surrogate("score value", value)
        result.findings.append(asdict(Finding(source_id, verdict, kind, where, output, token)))

    old, new = dcmread(source, force=True), dcmread(folder / output)
    if "TransferSyntaxUID" not in old.file_meta:
        old.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian  # PS3.10 7.5: what a bare dataset is written in
    header = compare_headers(old, new)
    _add_header(result, header, new, secret)
    losses = {"attribute_lost": header.lost, "attribute_altered": header.altered, "attribute_empty": header.empty}
    for kind, names in losses.items():
        for name in names:
            report("loss", kind, name)
    shift = next((s for s in header.shifts if s is not None), None)
    leaks, doubtful = search_header(item.planted, (folder / output).read_bytes(), new, shift)
    for planted, where in leaks:
        report("leak", planted.kind, where, planted.value)
    for planted, where in doubtful:
        report("review", planted.kind, where, planted.value)
    result.planted = len(set(item.planted))
    result.removed = result.planted - len({planted for planted, _ in leaks})
    verdict = _pixels(old, new, item)
    if verdict is None:
        report("loss", "pixels_incomparable", "PixelData")
        return result
    result.readable, result.readable_before = verdict.readable, verdict.readable_before
    result.changed, result.strayed = verdict.changed, verdict.strayed
    for i in range(verdict.readable):
        report("readable", "burned_in", "PixelData", str(i))
    if verdict.strayed:
        report("loss", "pixels_altered", "PixelData")
    return result


def search_header(
    planted: tuple[Planted, ...], data: bytes, ds: Dataset, shift: int | None
) -> tuple[list[tuple[Planted, str]], list[tuple[Planted, str]]]:
    """Planted values in an output's own header: (leaks, doubtful), each with the path of keywords.

    Strong values and the source's dates match as text and as bytes; name parts as whole words outside coded terms.
    """
    parts = [(where, text, values.words(text), vr) for where, vr, text in elements(ds)]
    raw = without_pixels(data, ds)
    leaks: list[tuple[Planted, str]] = []
    doubtful: list[tuple[Planted, str]] = []
    certain, chance = values.own_dates(planted, shift)
    for value in dict.fromkeys(planted):
        if value.kind == "NAME":
            own = values.name_words([value])
            found = [w for w, _, there, vr in parts if own & there and not _is_clinical(w, vr)]
        elif value.kind == "DATE" and (day := values.read_date(value.value)):
            spelt = values.date_spellings(day)
            found = [w for w, text, _, _ in parts if any(_holds_number(text, s) for s in spelt)]
            if day in chance and day not in certain:
                doubtful += [(value, where) for where in found]
                continue
            found = found or ["bytes"] * any(_holds_number(raw.decode("latin-1"), s) for s in spelt)
        else:
            matcher = Matcher((kind, text, 0) for kind, text in values.strong_values([value]))
            found = [w for w, text, _, _ in parts if matcher.find(text.encode())]
            found = found or ["bytes"] * bool(matcher.find(raw))
        leaks += [(value, where) for where in found]
    return leaks, doubtful


def judge_report(
    text: str, source: Report, planted: list[Planted], shift: int | None
) -> tuple[list[Planted], list[Planted]]:
    """(leaks, doubtful) of a scrubbed report. `planted` are its spans and the header values of its instances.

    A word that is also in the clinical text of the source, no more often in the output than there and each time
    beside a word that it stood beside there, is an ordinary word: listed for review, no leak.
    """
    leaks, doubtful = [], []
    # The month of a whole date ("16 May 2016") is nobody's name.
    before, after = _contexts(source.clinical()), _contexts(values.without_months(text))
    folded = values.fold(text)
    _, chance = values.own_dates(planted, shift)
    for value in dict.fromkeys(planted):
        if value.kind in ("NAME", "HOSPITAL", "ADDRESS"):
            own = values.name_words([value]) | values.place_words([value])
            stay = own & after.keys()
            if any(not _is_ordinary(after[word], before.get(word, [])) for word in stay):
                leaks.append(value)
            elif stay:
                doubtful.append(value)
        elif value.kind == "DATE" and (day := values.read_date(value.value)):
            if any(_holds_number(folded, s) for s in values.date_spellings(day)):
                (doubtful if day in chance else leaks).append(value)
        elif _holds_number(folded, values.fold(value.value)):
            leaks.append(value)
    return leaks, doubtful


def _add_header(result: Judgement, header: Header, new: Dataset, secret: DerivationSecret) -> None:
    expected = header.kept + len(header.lost)
    result.kept, result.equal = (header.kept, expected), (header.equal, expected)
    result.present = (len(PRESENT) - len(header.empty), len(PRESENT))
    result.uids = [(secret.surrogate("score uid", old), made, made != old) for old, made in header.uids]
    result.shifts = header.shifts
    result.new_patient = str(new.get("PatientID") or "")


def _pixels(old: Dataset, new: Dataset, item: Instance) -> Verdict | None:
    try:
        return compare_pixels(old, new, item.boxes)
    except Exception:  # noqa: BLE001 - decoders raise anything, and what cannot be compared is a loss whatever it was
        return None


def _is_clinical(where: str, vr: str) -> bool:
    return vr in CLINICAL_VRS or where.rsplit(".", 1)[-1] in CLINICAL_ELEMENTS


def _holds_number(text: str, value: str) -> bool:
    """Whether a value stands in a text and is no piece of a longer run of digits."""
    pattern = re.escape(value)
    if value[:1].isdigit():
        pattern = r"(?<!\d)" + pattern
    if value[-1:].isdigit():
        pattern += r"(?!\d)"
    return re.search(pattern, values.fold(text)) is not None


def _contexts(text: str) -> dict[str, list[tuple[str, str]]]:
    """The words before and after every occurrence of each word."""
    found: dict[str, list[tuple[str, str]]] = {}
    every = ["", *(match[0] for match in values.WORD.finditer(values.fold(text))), ""]
    for before, word, after in zip(every, every[1:], every[2:], strict=False):
        found.setdefault(word, []).append((before, after))
    return found


def _is_ordinary(output: list[tuple[str, str]], clinical: list[tuple[str, str]]) -> bool:
    known = all(any(a == c or b == d for c, d in clinical) for a, b in output)
    return known and len(output) <= len(clinical)
