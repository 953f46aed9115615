"""The rule-based labeller against human tags: F1 for each finding that both name, on Open-I's reports.

The tags are the Problems and MeSH terms that Open-I's indexers gave each report. They say what a report affirms, so a
label counts as given when it is present; what we call uncertain does not count. Reports marked "No Indexing" were not
tagged and are left out. The phrase lists were developed on one half of the reports (by a hash of the uid); the figure
is that of the other half. Peers are two baselines on the same texts: key words, and key words with a NegEx-like window
(a key word is denied by a negation within five words before it).
"""

import csv
import hashlib
import os
import re
import time
from collections.abc import Callable
from pathlib import Path

from pipelines.label.phrases import load_phrases
from pipelines.label.rules import RuleLabeller
from tests.benchmarks.record import record

SHARED = Path(os.environ.get("INTRAMURAL_SHARED", Path(__file__).resolve().parents[3] / "shared"))
NO_FINDING = "No Finding"
# Finding -> how the indexers write it: a heading, or (heading, one of these qualifiers).
TAGS: dict[str, tuple] = {
    NO_FINDING: ("normal",),
    "Enlarged Cardiomediastinum": (("mediastinum", {"prominent", "enlarged"}),),
    "Cardiomegaly": ("cardiomegaly", ("cardiac shadow", {"enlarged"})),
    "Lung Opacity": ("opacity", "infiltrate", "airspace disease", ("density", {"lung"})),
    "Lung Lesion": ("nodule", "mass"),
    "Edema": ("pulmonary edema", "pulmonary congestion", "heart failure"),
    "Consolidation": ("consolidation",),
    "Pneumonia": ("pneumonia",),
    "Atelectasis": ("pulmonary atelectasis",),
    "Pneumothorax": ("pneumothorax", "hydropneumothorax"),
    "Pleural Effusion": ("pleural effusion", "hydropneumothorax", "hemothorax"),
    "Pleural Other": (
        "pleura", ("thickening", {"pleura"}), ("cicatrix", {"pleura"}), ("calcinosis", {"pleura"}),
    ),
    "Fracture": ("fractures, bone",),
    "Support Devices": (
        "catheters, indwelling", "tube, inserted", "implanted medical device", "medical device", "stents",
    ),
}  # fmt: skip
KEY_WORDS = {
    "Enlarged Cardiomediastinum": r"widened mediastinum|mediastinal widening|widening of the mediastinum"
    r"|prominent mediastinum|mediastinal prominence",
    "Cardiomegaly": r"cardiomegaly|enlarged heart|heart is enlarged|cardiac enlargement|enlarged cardiac silhouette",
    "Lung Opacity": r"opacit\w+|opacification|infiltrates?|airspace disease",
    "Lung Lesion": r"nodules?|mass(?:es)?|lesions?",
    "Edema": r"edema|congestion|heart failure|chf",
    "Consolidation": r"consolidations?",
    "Pneumonia": r"pneumonia",
    "Atelectasis": r"atelecta\w+",
    "Pneumothorax": r"pneumothora\w+",
    "Pleural Effusion": r"effusions?",
    "Pleural Other": r"pleural thickening|pleural scarring|pleural plaques?",
    "Fracture": r"fractures?",
    "Support Devices": r"catheter|tube|pacemaker|picc|port|line|defibrillator|stent|device|hardware",
}
NEGATIONS = {"no", "not", "without", "negative", "free", "clear", "absent", "resolved", "denies", "removal"}
WINDOW = 5


def human(mesh: str) -> set[str]:
    """The findings that the indexers' terms name."""
    found = set()
    for term in mesh.split(";"):
        heading, *qualifiers = (part.strip().lower() for part in term.strip().split("/"))
        for finding, wanted in TAGS.items():
            for entry in wanted:
                name, needed = entry if isinstance(entry, tuple) else (entry, None)
                if heading == name and (needed is None or needed & set(qualifiers)) and "lymph nodes" not in qualifiers:
                    found.add(finding)
    return found


def key_words(text: str, negated: bool) -> set[str]:
    """A baseline: what its key words name; with `negated`, unless one of NEGATIONS stands closely before."""
    found = set()
    for finding, pattern in KEY_WORDS.items():
        for match in re.finditer(rf"\b(?:{pattern})\b", text, re.I):
            before = re.findall(r"[a-z]+", re.split(r"[.;:]", text[: match.start()])[-1].lower())[-WINDOW:]
            if not negated or not NEGATIONS & set(before):
                found.add(finding)
    return found or {NO_FINDING}


def f1(given: list[set[str]], wanted: list[set[str]]) -> dict[str, tuple[float, int, int, int]]:
    """Finding -> F1, true positives, false positives, false negatives."""
    out = {}
    for finding in TAGS:
        pairs = [(finding in g, finding in w) for g, w in zip(given, wanted, strict=True)]
        hit, false, missed = (pairs.count(kind) for kind in ((True, True), (True, False), (False, True)))
        out[finding] = (2 * hit / (2 * hit + false + missed) if hit else 0.0, hit, false, missed)
    return out


def macro(scores: dict[str, tuple[float, int, int, int]]) -> float:
    return sum(score[0] for score in scores.values()) / len(scores)


def main() -> None:
    with (SHARED / "data/openi_reports/reports.csv").open(encoding="utf-8", newline="") as f:
        rows = [row for row in csv.DictReader(f) if row["Problems"] != "No Indexing"]
    labeller = RuleLabeller(load_phrases())
    started = time.process_time()
    texts = [f"{row['findings']}\n{row['impression']}" for row in rows]
    ours = [{x.name for x in labels if x.value == 1} for labels in labeller.label(texts)]
    rate = len(rows) / (time.process_time() - started)
    wanted = [human(row["MeSH"]) for row in rows]
    baselines: dict[str, Callable[[str], set[str]]] = {
        "key words": lambda text: key_words(text, False),
        "key words with negation window": lambda text: key_words(text, True),
    }
    given = {"rules": ours} | {name: [method(text) for text in texts] for name, method in baselines.items()}
    half = [hashlib.sha256(row["uid"].encode()).digest()[0] % 2 for row in rows]
    for what, keep in (("held-out half", {1}), ("all", {0, 1}), ("development half", {0})):
        scores = {
            name: f1(*([v for v, h in zip(values, half, strict=True) if h in keep] for values in (mine, wanted)))
            for name, mine in given.items()
        }
        count = sum(h in keep for h in half)
        print(f"\n{what}: {count} reports; F1 (hits, false, missed)")
        for finding in TAGS:
            cells = [f"{name} {s[finding][0]:.3f} {s[finding][1:]}" for name, s in scores.items()]
            print(f"  {finding:28}" + "   ".join(cells))
        values = {name: macro(s) for name, s in scores.items()}
        best = max(baselines, key=lambda name: values[name])
        if keep != {0}:
            record(
                f"labeller, macro F1 over {len(TAGS)} findings against Open-I's human tags, {what}, {count} reports",
                f"{values['rules']:.3f}", ", ".join(f"{name} {values[name]:.3f}" for name in baselines),
                values["rules"] / values[best],
            )  # fmt: skip
    print(f"\n{rate:.0f} reports a second of processor time, one process")


if __name__ == "__main__":
    main()
