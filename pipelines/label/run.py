"""Stage `label`: structured labels of a released export, from each source that is asked, and how far they agree.

Writes `labels.parquet` (tables.LABELS), `studies.parquet` (tables.LABELLED) and `comparison.parquet`
(tables.COMPARED). Every label carries its source and the version of what made it; `build` chooses among them.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from pipelines import tables
from pipelines.contract import BadInput, RunFolder, read_json, sha256_file, write_atomic
from pipelines.label.compare import compare
from pipelines.label.names import site_labels
from pipelines.label.parts import RulesPart, label_by_rules, read_part
from pipelines.label.phrases import load_phrases
from pipelines.label.reports import read_parts
from pipelines.label.spec import Spec
from pipelines.label.values import WORDS
from pipelines.parallel import map_unordered
from pipelines.release import require_release

if TYPE_CHECKING:
    from pipelines.label.model import ModelLabeller

LABELS, STUDIES, COMPARISON = "labels.parquet", "studies.parquet", "comparison.parquet"


def run(spec: Spec, run: RunFolder) -> dict[str, Any]:
    """Label one released export. BadInput when it is not released, or when a phrase file, prompt or model is wrong."""
    release = require_release(spec.deid, spec.release_key)
    deid = read_json(spec.deid / "result.json")
    parts = read_parts(spec.deid)
    versions: dict[str, str] = {}
    if "rules" in spec.sources:
        phrases = load_phrases(spec.phrases)
        versions["rules"] = f"{phrases.version}-{phrases.digest}"
    model = _open_model(spec)
    if model is not None:
        versions["model"] = model.version
    _begin_or_resume(run.root, {"digest": release["digest"], "versions": versions})
    if "rules" in spec.sources:
        _by_rules(spec, run, parts)
    if model is not None:
        _by_model(model, run, parts)
    counts = _gather(spec, run.root, len(parts))
    compared = _compare(run.root)
    for name in (LABELS, STUDIES, COMPARISON):
        run.artifact(name.removesuffix(".parquet"), run.root / name)
    return {
        "digest": release["digest"],
        "labels_sha256": sha256_file(run.root / LABELS),
        "practice": deid["practice"],
        "reports": sum(len(part) for part in parts),
        "sources": counts,
        "versions": versions,
        "comparison": compared,
    }


def _open_model(spec: Spec) -> ModelLabeller | None:
    if spec.model is None:
        return None
    # Late: torch and transformers are wanted by this source only.
    from pipelines.label.model import ModelLabeller

    return ModelLabeller(spec)


def _begin_or_resume(root: Path, begun: dict[str, Any]) -> None:
    """Hold a resumed run to the export, phrases, model and prompt that it was begun with: files change under names."""
    (root / "parts").mkdir(exist_ok=True)
    path = root / "begun.json"
    if path.exists() and read_json(path) != begun:
        raise BadInput("The export, phrases, model or prompt changed since this run began; give a new run folder.")
    write_atomic(path, json.dumps(begun) + "\n")


def _by_rules(spec: Spec, run: RunFolder, parts: list[pa.Table]) -> None:
    tasks = [RulesPart(_part(run.root, "rules", n), spec.phrases, part) for n, part in enumerate(parts)]
    left = [task for task in tasks if not task.path.exists()]
    total = sum(len(part) for part in parts)
    done = total - sum(len(task.reports) for task in left)
    for count in map_unordered(label_by_rules, left, spec.workers if len(left) > 1 else 1, run):
        done += count
        run.progress(done, total, "reports by rules")


def _by_model(model: ModelLabeller, run: RunFolder, parts: list[pa.Table]) -> None:
    total, done = sum(len(part) for part in parts), 0
    for number, part in enumerate(parts):
        path = _part(run.root, "model", number)
        if not path.exists():
            model.label_part(part, path, run, done, total)
        done += len(part)
        run.progress(done, total, "reports by the language model")


def _part(root: Path, source: str, number: int) -> Path:
    return root / "parts" / f"{source}-{number:06d}.parquet"


def _gather(spec: Spec, root: Path, parts: int) -> dict[str, Any]:
    """Write all labels and studies, source after source; what each source read and found."""
    counts: dict[str, Any] = {}
    with ExitStack() as stack:
        labels = stack.enter_context(tables.table_writer(root / LABELS, tables.LABELS))
        studies = stack.enter_context(tables.table_writer(root / STUDIES, tables.LABELLED))
        for source in spec.sources:
            read, unread, found = 0, Counter[str](), Counter[tuple[str, int]]()
            for mine, state in _labelled(spec, root, source, parts):
                labels.add(mine)
                studies.add(state)
                reasons = Counter(state["reason"].to_pylist())
                read += reasons.pop(None, 0)
                unread += reasons
                found += Counter(zip(mine["label"].to_pylist(), mine["value"].to_pylist(), strict=True))
            counts[source] = {"read": read, "not_read": dict(sorted(unread.items())), "labels": _by_label(found, read)}
    return counts


def _labelled(spec: Spec, root: Path, source: str, parts: int) -> Iterator[tuple[pa.Table, pa.Table]]:
    """(tables.LABELS, tables.LABELLED) of a source, piece by piece."""
    if source != "site":
        yield from (read_part(_part(root, source, number)) for number in range(parts))
        return
    mine = site_labels(tables.read_table(spec.deid / "labels.parquet", tables.LABELS))
    mine = mine.sort_by([("accession", "ascending"), ("label", "ascending")])
    accessions = pc.unique(mine["accession"])
    state = {"accession": accessions, "source": pa.array(["site"] * len(accessions), pa.string())}
    yield mine, pa.table(state | {"reason": pa.nulls(len(accessions), pa.string())}).cast(tables.LABELLED)


def _by_label(found: Counter[tuple[str, int]], read: int) -> dict[str, dict[str, int]]:
    counts: dict[str, dict[str, int]] = {}
    for (label, value), n in sorted(found.items()):
        counts.setdefault(label, dict.fromkeys((*WORDS.values(), "blank"), 0))[WORDS[value]] = n
    for mine in counts.values():
        mine["blank"] = read - sum(mine.values())
    return counts


def _compare(root: Path) -> list[dict[str, Any]]:
    labels = tables.read_table(root / LABELS, tables.LABELS)
    rows = compare(labels, tables.read_table(root / STUDIES, tables.LABELLED))
    tables.write_table(root / COMPARISON, rows, tables.COMPARED)
    return rows
