"""General de-identification: letters and notes of any kind, without a paired header, against presidio's default engine.

1,046 invented English sentences with spans (presidio-research, synthetic set v2). They come from 232 templates; the
half whose template hashes even was looked at while the recognisers were written, figures are of the other half, so no
sentence or template of it was seen. F1 counts tokens (runs of letters and digits) by entity type, as presidio-research
does. A place found inside another kind of location (city in an address) is held against neither engine.
"""

import hashlib
import json
import re
import sys
from collections import Counter
from typing import Any

from pipelines.deidentify.reports.general import GeneralAnalyzer
from tests.benchmarks.peer_presidio import Presidio
from tests.benchmarks.planted import SHARED
from tests.benchmarks.record import record

# What an engine calls it -> which entity types of the set it stands for.
OURS = {
    "NAME": "PERSON", "TITLE": "TITLE", "PLACE": "GPE", "ADDRESS": "STREET_ADDRESS", "ZIP": "ZIP_CODE",
    "ORGANIZATION": "ORGANIZATION", "HOSPITAL": "ORGANIZATION", "GROUP": "NRP", "CARD": "CREDIT_CARD",
    "ACCOUNT": "IBAN_CODE", "IP": "IP_ADDRESS", "SSN": "US_SSN", "LICENSE": "US_DRIVER_LICENSE",
    "PHONE": "PHONE_NUMBER", "EMAIL": "EMAIL_ADDRESS", "URL": "DOMAIN_NAME", "AGE": "AGE", "DATE": "DATE_TIME",
}  # fmt: skip
THEIRS = {"LOCATION": "LOCATION", "URL": "DOMAIN_NAME", "ORGANIZATION": "ORGANIZATION"}
LOCATIONS = {"GPE", "STREET_ADDRESS", "ZIP_CODE"}


def sentences(report: bool) -> list[dict[str, Any]]:
    """The half of the set to report on, or the one to develop on."""
    rows = json.loads((SHARED / "data" / "deid_text" / "synthetic_spans.json").read_text(encoding="utf-8"))
    even = [row for row in rows if hashlib.sha256(_template(row).encode()).digest()[0] % 2 == 0]
    seen = {_template(row).lower() for row in even}  # some templates differ in case only
    return [row for row in rows if _template(row).lower() not in seen] if report else even


def _template(row: dict[str, Any]) -> str:
    text = row["text"]
    for span in sorted(row["spans"], key=lambda s: -s["start"]):
        text = f"{text[: span['start']]}<{span['type']}>{text[span['end'] :]}"
    return text


def f1(rows: list[dict[str, Any]], found: list[list[tuple[str, int, int]]]) -> dict[str, float]:
    """F1 over tokens for each entity type of the set."""
    hits, missed, wrong = Counter(), Counter(), Counter()
    types = sorted({s["type"] for row in rows for s in row["spans"]})
    for row, spans in zip(rows, found, strict=True):
        for token in re.finditer(r"[^\W_]+", row["text"]):
            gold = {s["type"] for s in row["spans"] if s["start"] < token.end() and token.start() < s["end"]}
            said = {t for t, a, b in spans if a < token.end() and token.start() < b}
            for kind in types:
                means = said & ({kind, "LOCATION"} | LOCATIONS if kind in LOCATIONS else {kind})
                exact = said & {kind, "LOCATION"} if kind in LOCATIONS else means
                hits[kind] += kind in gold and bool(means)
                missed[kind] += kind in gold and not means
                wrong[kind] += bool(exact) and not gold & (LOCATIONS if kind in LOCATIONS else {kind})
    return {k: 2 * hits[k] / (2 * hits[k] + missed[k] + wrong[k]) for k in types}


def ours(rows: list[dict[str, Any]]) -> list[list[tuple[str, int, int]]]:
    spans = GeneralAnalyzer().spans([row["text"] for row in rows])
    return [[(OURS.get(s.kind, s.kind), s.start, s.end) for s in found] for found in spans]


def main() -> None:
    rows = sentences(report="--development" not in sys.argv)
    presidio = Presidio()
    theirs = [[(THEIRS.get(t, t), a, b) for t, a, b in presidio(row["text"])] for row in rows]
    own, peer = f1(rows, ours(rows)), f1(rows, theirs)
    table = ", ".join(f"{k} {own[k]:.2f}/{peer[k]:.2f}" for k in own)
    if "--development" in sys.argv:
        print(table.replace(", ", "\n"))
        return
    better = sum(own[k] > peer[k] for k in own)
    even = sum(own[k] == peer[k] for k in own)
    name = f"general text, token F1 by entity type, {len(rows)} sentences of unseen templates (ours/peer: {table})"
    mean, theirs_mean = sum(own.values()) / len(own), sum(peer.values()) / len(peer)
    figure = f"{mean:.3f} ({better} of {len(own)} types better, {even} even)"
    record(name, figure, f"presidio default {theirs_mean:.3f}", mean / theirs_mean)


if __name__ == "__main__":
    main()
