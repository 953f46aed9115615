"""The reports that came for one study, made into one: preliminary gives way to final, a correction replaces, addenda
follow in the order they were written, what was withdrawn is gone (HL7 v2.5.1, 4.5.3.25 and 7.4.2.11)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pipelines.deidentify.identities import Identities
from pipelines.deidentify.reasons import Quarantine
from pipelines.deidentify.reports.intake.report import SourceReport, Status

_HEADED = re.compile(r"\s*addend(?:um|a)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Assembled:
    """The one report of a study, what it is made of, and what was left out of it."""

    report: SourceReport
    used: tuple[SourceReport, ...]
    replaced: tuple[SourceReport, ...]


def assemble(reports: Sequence[SourceReport]) -> Assembled:
    """One report of several of a study, with the identities of all: a replaced text may name whom the new one does.

    Raises Quarantine: `withdrawn` when nothing valid is left, `ambiguous` when two texts differ and neither status nor
    time says which holds.
    """
    ordered = sorted(reports, key=lambda r: (r.written, r.source_id, r.text))
    kinds = {id(r): _kind(r) for r in ordered}
    bodies = [r for r in ordered if kinds[id(r)] not in (Status.ADDENDUM, Status.WITHDRAWN)]
    withdrawn = [r for r in ordered if kinds[id(r)] is Status.WITHDRAWN]
    for gone in withdrawn:
        bodies = [b for b in bodies if b.text != gone.text and not (gone.written and b.written < gone.written)]
    if not bodies:
        raise Quarantine(
            "withdrawn" if withdrawn else "ambiguous", "" if withdrawn else "an addendum without its report"
        )
    body = _holding(bodies, kinds)
    text, used, seen = body.text, [body], {body.text}
    for addendum in (r for r in ordered if kinds[id(r)] is Status.ADDENDUM):
        if addendum.text in seen:
            continue
        seen.add(addendum.text)
        own = addendum.text.strip()
        # Some systems send the whole report again with its addendum.
        if own.startswith(text.strip()):
            text = own
        elif own not in text:
            text = f"{text}\n\n{own if _HEADED.match(own) else f'ADDENDUM: {own}'}"
        used.append(addendum)
    known = Identities()
    for report in ordered:
        known |= report.identities
    whole = replace(body, text=text, identities=known)
    return Assembled(whole, tuple(used), tuple(r for r in ordered if not any(r is u for u in used)))


def _holding(bodies: Sequence[SourceReport], kinds: dict[int, Status]) -> SourceReport:
    """Of several reports the one that holds: a correction before a final one before a preliminary, then the latest."""
    rank = {Status.CORRECTED: 2, Status.FINAL: 1, Status.UNKNOWN: 1, Status.PRELIMINARY: 0}
    best = max(rank[kinds[id(b)]] for b in bodies)
    same = [b for b in bodies if rank[kinds[id(b)]] == best]
    latest = max(b.written for b in same)
    texts = {" ".join(b.text.split()): b for b in reversed(same) if b.written == latest}
    if len(texts) > 1 or (len({b.text for b in same}) > 1 and not all(b.written for b in same)):
        raise Quarantine("ambiguous", "two reports of one study differ")
    return next(b for b in same if b.written == latest)


def _kind(report: SourceReport) -> Status:
    if report.status in (Status.UNKNOWN, Status.FINAL) and _HEADED.match(report.text):
        return Status.ADDENDUM
    return report.status
