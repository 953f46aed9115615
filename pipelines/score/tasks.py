"""The units of work of `score`, each written to a part of its own so that a killed run goes on."""

from __future__ import annotations

import functools
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from pipelines.contract import write_atomic
from pipelines.keys import DerivationSecret
from pipelines.score.judge import Finding, judge_instance, judge_report
from pipelines.score.key import Key, Planted, load_key
from pipelines.score.retained import Retained
from pipelines.score.search import Matcher, contents
from pipelines.score.values import strong_values


@dataclass(frozen=True)
class Place:
    """Where everything lies."""

    deid: Path
    export: Path
    key: Path
    secret: Path
    parts: Path


@dataclass(frozen=True)
class Task:
    """`kind` is instances (items are original UID, output), files (output) or reports (accession, shift)."""

    kind: str
    number: int
    place: Place
    items: tuple[Any, ...]

    @property
    def part(self) -> Path:
        """Where the task's result is kept."""
        return self.place.parts / f"{self.kind}-{self.number:06d}.json"


def perform(task: Task) -> int:
    """Do a task unless its part is there; returns the number of its items."""
    if not task.part.exists():
        result = {"instances": _instances, "files": _files, "reports": _reports}[task.kind](task)
        write_atomic(task.part, json.dumps({"results": result}))
    return len(task.items)


@dataclass(frozen=True)
class Known:
    """The key as every process of the pool needs it, loaded once in each."""

    key: Key
    secret: DerivationSecret
    matcher: Matcher
    values: list[tuple[str, str]]
    """Source (its source_id) and own output's source of each owner number of the matcher."""


@functools.cache
def known(place: Place) -> Known:
    """The key, the secret and one pattern table over all strong values."""
    key, secret = Retained.of(place.deid).without(load_key(place.key)), DerivationSecret.load(place.secret)
    owners, patterns = [], set()
    spans = {a: report.values() for a, report in key.reports.items()}
    for number, item in enumerate(key.instances):
        owners.append((secret.source_id(item.path), secret.uid(item.uid)))
        planted = [*item.planted, *spans.get(item.accession, [])]
        patterns |= {(kind, text, number) for kind, text in strong_values(planted)}
    return Known(key, secret, Matcher(patterns), owners)


def _instances(task: Task) -> list[dict[str, Any]]:
    state = known(task.place)
    items = {item.uid: item for item in state.key.instances}
    return [
        asdict(judge_instance(items[uid], task.place.export / items[uid].path, task.place.deid, output, state.secret))
        for uid, output in task.items
    ]


def _files(task: Task) -> list[dict[str, Any]]:
    """Strong values in whole files and in their names; an instance's own output was judged by itself."""
    state = known(task.place)
    findings: dict[tuple[str, str, str, int], dict[str, Any]] = {}
    for output in task.items:
        path = task.place.deid / output
        hits = [("file name", hit) for hit in state.matcher.find(output.encode("utf-8", "surrogateescape"))]
        hits += [("content", hit) for text in contents(path) for hit in state.matcher.find(text)]
        for where, (kind, owner, pattern) in hits:
            source_id, instance = state.values[owner]
            if where == "content" and path.stem == instance:
                continue
            token = state.secret.surrogate("score value", pattern.hex())
            shown = None if where == "file name" or any(w == "file name" for w, _ in hits) else output
            finding = Finding(source_id, "leak", kind, where, shown, token)
            # Every spelling and every instance that shares a value are one finding in a file.
            findings.setdefault((output, where, kind, token), asdict(finding))
    return list(findings.values())


def _reports(task: Task) -> list[dict[str, Any]]:
    """Own values in each scrubbed report: [{accession, found, planted, removed, findings}]."""
    state = known(task.place)
    pseudonyms = {state.secret.accession(accession): (accession, shift) for accession, shift in task.items}
    planted: dict[str, list[Planted]] = {}
    sources: dict[str, str] = {}
    for item in state.key.instances:
        planted.setdefault(item.accession, []).extend(item.planted)
        sources.setdefault(item.accession, state.secret.source_id(item.path))
    table = pq.read_table(task.place.deid / "reports.parquet", columns=["accession", "text"])
    texts = {row["accession"]: row["text"] for row in table.to_pylist() if row["accession"] in pseudonyms}
    results = []
    for pseudonym, (accession, shift) in pseudonyms.items():
        report = state.key.reports[accession]
        own = list(dict.fromkeys(report.values()))
        result: dict[str, Any] = {"found": pseudonym in texts, "planted": len(own), "removed": 0, "findings": []}
        result["source_id"] = sources.get(accession, "")
        if result["found"]:
            every = [*own, *planted.get(accession, [])]
            leaks, doubtful = judge_report(texts[pseudonym] or "", report, every, shift)
            result["removed"] = len(own) - len(set(own) & set(leaks))
            for verdict, values in (("leak", leaks), ("review", doubtful)):
                for value in values:
                    token = state.secret.surrogate("score value", value.value)
                    finding = Finding(result["source_id"], verdict, value.kind, "report", "reports.parquet", token)
                    result["findings"].append(asdict(finding))
        results.append(result)
    return results
