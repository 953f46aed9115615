"""Which instances and reports are reviewed, how many, and what the verdicts say of all the others.

Two samples: a simple random one, which carries the statement about the whole export, and one by risk, which looks
where a leak is likeliest and carries no such statement. Both follow from the new, keyed UIDs and from what was done to
each instance, never from order, number of processes or restarts.
"""

from __future__ import annotations

import hashlib
import heapq
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

CONFIDENCE = 0.95
# Images of an export -> the leak rate that a random sample without a leak must rule out. A rate of 1 % means little in
# a small export, and a person can look at some hundred instances, not at thousands.
AIMS = ((10_000, 0.05), (1_000_000, 0.01), (math.inf, 0.005))

# Why an instance is at risk: code -> (weight, what it means for the officer).
FACTORS: dict[str, tuple[int, str]] = {
    "disagreement": (4, "Header and pixels disagree on burned-in text."),
    "text_blanked": (3, "Text was blanked in the pixels."),
    "private_kept": (3, "Private attributes were kept."),
    "risk_modality": (2, "This kind of image often carries text."),
    "malformed": (2, "Attributes did not follow their VR."),
    "free_text": (2, "Free text was kept."),
    "name_words": (3, "A word that is also a name was left in a text."),
    "unknown": (1, "Attributes unknown to the dictionary were removed."),
    "frames": (1, "The object has many frames."),
    "doubtful_words": (3, "Words were left that are ordinary ones and names of its persons as well."),
    "unmodelled": (3, "No model here reads the language of the report."),
    "unread_bytes": (2, "Some bytes of the report could not be read as text."),
    "weak_finds": (1, "Something was taken out on weak evidence."),
}


@dataclass(frozen=True)
class Plan:
    """A sampling plan for an export of `of` instances, or of as many reports."""

    of: int
    random: int
    """Drawn at random."""
    risk: int
    """Taken from the top of the risk ranking."""
    aim: float
    """Leak rate that the random sample rules out when no leak is found in it."""


@dataclass(frozen=True)
class Chosen:
    """An instance or report in the pack; `row` is its row of the partition's table (images.PART, texts.TOLD)."""

    number: int
    drawn: str
    """random | risk"""
    score: int
    row: dict[str, Any]

    def told(self, what: str) -> dict[str, Any]:
        """What pack.json says of any item: its kind, why it was chosen, and whose it is, by pseudonym."""
        chosen = {"what": what, "number": self.number, "drawn": self.drawn, "score": self.score}
        return chosen | {"factors": self.row["risk"], "patient": self.row["patient"]}


def plan(of: int, random: int = 0) -> Plan:
    """The plan for `of` instances or reports; `random` above 0 overrides the size of the random sample.

    n instances without a leak give an upper bound of 1 - (1 - CONFIDENCE)^(1/n), so n = ln(0.05) / ln(1 - aim).
    """
    aim = next(aim for below, aim in AIMS if of < below)
    wanted = random or math.ceil(math.log(1 - CONFIDENCE) / math.log(1 - aim))
    size = min(wanted, of)
    return Plan(of, size, min((wanted + 1) // 2, of - size), upper_bound(0, size))


def upper_bound(leaks: int, reviewed: int) -> float:
    """Upper end of the exact one-sided 95 % interval on a rate (Clopper and Pearson, 1934): `leaks` in `reviewed`.

    Instances are drawn without replacement, so that the bound errs on the safe side in a small export.
    """
    if not 0 <= leaks <= reviewed:
        raise ValueError("0 <= leaks <= reviewed")
    if leaks == reviewed:
        return 1.0
    from scipy.special import betaincinv  # late: the command line starts without it

    return float(betaincinv(leaks + 1, reviewed - leaks, CONFIDENCE))


def score(row: dict[str, Any]) -> int:
    """Risk: the weights of its factors, and one for each blanked box, or word left in doubt, up to ten."""
    return sum(FACTORS[code][0] for code in row["risk"] or ()) + min(row.get("boxes") or row.get("words") or 0, 10)


def choose(rows: Iterable[dict[str, Any]], plan: Plan, key: str = "instance", first: int = 1) -> list[Chosen]:
    """The instances or reports of the pack, random ones first; one pass, holding no more rows than a pack has.

    `rows` are those of what was written, in any order; `key` names each of them, `first` is the first number.
    """
    random: list[tuple[int, str, dict[str, Any]]] = []
    risk: list[tuple[int, int, str, dict[str, Any]]] = []
    for row in rows:
        # Turned round: heapq keeps the smallest on top, and that one is dropped.
        place, name = -position(row[key]), row[key]
        _keep(random, (place, name, row), plan.random)
        _keep(risk, (score(row), place, name, row), plan.random + plan.risk)
    drawn = [row for _, _, row in sorted(random, key=lambda entry: -entry[0])]
    taken = {row[key] for row in drawn}
    ranked = sorted(risk, key=lambda entry: (-entry[0], -entry[1]))
    rest = [row for _, _, name, row in ranked if name not in taken][: plan.risk]
    chosen = [("random", row) for row in drawn] + [("risk", row) for row in rest]
    return [Chosen(number, drawn, score(row), row) for number, (drawn, row) in enumerate(chosen, first)]


def position(name: str) -> int:
    """Place in the one random order: new UIDs and accession numbers are keyed, so nobody can steer it."""
    return int.from_bytes(hashlib.sha256(b"review " + name.encode()).digest()[:8], "big")


def _keep(heap: list[Any], entry: Any, size: int) -> None:
    if len(heap) < size:
        heapq.heappush(heap, entry)
    elif size:
        heapq.heappushpop(heap, entry)
