"""The verdict file of a review: what a person said of each item of the pack, and what follows for the export.

`verdicts.json` is signed like a release, by the control plane's key. It holds every verdict in the order given; the
last one on an item counts. An export with a confirmed leak cannot be released until the item is withdrawn
(withdraw.py) or the export is de-identified again. Nothing in it may name a person: it is not sealed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from pipelines.contract import BadInput, read_json
from pipelines.deidentify.review.sampling import upper_bound
from pipelines.release import folder_digest, require_signed

FILE = "verdicts.json"
VERDICTS = ("clean", "leak", "unsure")
# What was found, for a verdict of `leak`. Kinds, never values.
LEAKS = {
    "name": "A person's name",
    "number": "A patient, accession or other number",
    "date": "A date that was not shifted",
    "contact": "An address, phone number or e-mail",
    "institution": "A hospital, department or device that should not be named",
    "uid": "An original UID",
    "face": "A recognisable face",
    "other": "Something else",
}
Sign = Callable[[dict[str, Any]], dict[str, Any]]
"""Returns the record with its signature."""


@dataclass(frozen=True)
class Verdict:
    """What one person said of one item."""

    number: int
    verdict: Literal["clean", "leak", "unsure"]
    leak: str = ""
    comment: str = ""
    reviewer: str = ""
    time: str = ""
    """UTC, ISO 8601."""

    def __post_init__(self) -> None:
        if self.verdict not in VERDICTS:
            raise BadInput(f"A verdict is {', '.join(VERDICTS[:-1])} or {VERDICTS[-1]}; '{self.verdict[:20]}' is none.")
        if (self.verdict == "leak") != bool(self.leak) or (self.leak and self.leak not in LEAKS):
            raise BadInput(f"A leak, and only a leak, needs its kind: one of {', '.join(LEAKS)}.")


@dataclass(frozen=True)
class Tally:
    """Where a review stands. Bounds are about the random samples only; unsure counts as a leak in them."""

    reviewed: int
    of: int
    random_reviewed: int
    """Of the instances."""
    random_of: int
    leaks: int
    """Instances and reports judged to leak, withdrawn ones among them."""
    unsure: int
    withdrawn: int
    open_leaks: tuple[int, ...]
    """Numbers of those that leak and are still in the folder."""
    bound: float
    """Upper 95 % bound on the leak rate of the instances (Clopper-Pearson)."""
    reports_random_reviewed: int
    reports_random_of: int
    reports_bound: float
    """The same of the reports."""


@dataclass(frozen=True)
class Review:
    """A pack and what was said of it."""

    pack: dict[str, Any]
    verdicts: tuple[Verdict, ...]
    withdrawn: frozenset[int]

    @property
    def last(self) -> dict[int, Verdict]:
        """The verdict that counts, by number of the item."""
        return {v.number: v for v in self.verdicts}

    def item(self, number: int) -> dict[str, Any] | None:
        return next((i for i in self.pack["items"] if i["number"] == number), None)

    def next_open(self, after: int = 0) -> int | None:
        """The next item without a verdict, beginning anew at the end; in order, so that nobody picks."""
        left = [i["number"] for i in self.pack["items"] if i["number"] not in self.last]
        return next((n for n in left if n > after), left[0] if left else None)

    def tally(self) -> Tally:
        last = self.last
        instances, reports = self._random("instance"), self._random("report")
        leaks = [v for v in last.values() if v.verdict == "leak"]
        return Tally(
            reviewed=len(last),
            of=len(self.pack["items"]),
            random_reviewed=len(instances.given),
            random_of=instances.of,
            leaks=len(leaks),
            unsure=sum(v.verdict == "unsure" for v in last.values()),
            withdrawn=len(self.withdrawn),
            open_leaks=tuple(sorted(v.number for v in leaks if v.number not in self.withdrawn)),
            bound=instances.bound,
            reports_random_reviewed=len(reports.given),
            reports_random_of=reports.of,
            reports_bound=reports.bound,
        )

    def _random(self, what: str) -> _Random:
        """The random sample of the instances or of the reports."""
        drawn = {i["number"] for i in self.pack["items"] if i["drawn"] == "random" and kind_of_item(i) == what}
        return _Random(len(drawn), [v for n, v in self.last.items() if n in drawn])


@dataclass(frozen=True)
class _Random:
    of: int
    given: list[Verdict]

    @property
    def bound(self) -> float:
        return upper_bound(sum(v.verdict != "clean" for v in self.given), len(self.given))


def kind_of_item(item: dict[str, Any]) -> str:
    """instance | report, of an entry of pack.json; the first packs held instances only."""
    return str(item.get("what", "instance"))


def numbered(item: dict[str, Any]) -> dict[str, int]:
    """The number of an item under its kind, as an audit log names it."""
    return {kind_of_item(item): item["number"]}


def read_review(folder: Path, public_key: Path) -> Review:
    """The review of a de-identified folder; BadInput without a pack, or when the verdicts are forged or of another."""
    pack = read_pack(folder)
    path = folder / FILE
    if not path.exists():
        return Review(pack, (), frozenset())
    record = require_signed(path, public_key)
    if record.get("pack") != pack_digest(folder):
        raise BadInput("The verdicts are about another review pack; give them again.")
    return Review(pack, tuple(Verdict(**v) for v in record["verdicts"]), frozenset(record["withdrawn"]))


def read_pack(folder: Path) -> dict[str, Any]:
    """`review/pack.json`; BadInput where the folder has none."""
    path = folder / "review" / "pack.json"
    if not path.exists():
        raise BadInput("The folder holds no review pack; de-identify the export again, with this version.")
    return read_json(path)


def pack_digest(folder: Path) -> str:
    """SHA-256 of pack.json: ties verdicts to what was looked at."""
    return hashlib.sha256((folder / "review" / "pack.json").read_bytes()).hexdigest()


def signed_record(folder: Path, review: Review, sign: Sign) -> dict[str, Any]:
    """What `verdicts.json` holds: all verdicts, where they leave the review, and which state of the folder it was."""
    body = {
        "kind": "review",
        "digest": folder_digest(folder),
        "pack": pack_digest(folder),
        "verdicts": [asdict(v) for v in review.verdicts],
        "withdrawn": sorted(review.withdrawn),
        "tally": asdict(review.tally()) | {"open_leaks": list(review.tally().open_leaks)},
    }
    return sign(body)


def summary(folder: Path, review: Review) -> dict[str, Any]:
    """What a release says of the review behind it."""
    path, tally = folder / FILE, review.tally()
    return {
        "pack": pack_digest(folder),
        "verdicts": hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else None,
        "reviewed": tally.reviewed,
        "of": tally.of,
        "random_reviewed": tally.random_reviewed,
        "leaks": tally.leaks,
        "unsure": tally.unsure,
        "withdrawn": tally.withdrawn,
        "bound": round(tally.bound, 6),
        "reports_bound": round(tally.reports_bound, 6),
    }


def require_no_leak(review: Review) -> None:
    """BadInput while an item that was found to leak is in the folder."""
    if open_leaks := review.tally().open_leaks:
        named = [f"{kind_of_item(review.item(n) or {})} {n}" for n in open_leaks[:5]]
        which = ", ".join(named) + (" and others" if len(open_leaks) > 5 else "")
        raise BadInput(
            f"A leak was confirmed ({which} of the review); withdraw what leaks or de-identify the export "
            "again before it is released."
        )
