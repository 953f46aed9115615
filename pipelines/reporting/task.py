"""The task `reports` of an evaluation: a writer for each model and seed, beside two simple systems.

`written` is what the writer wrote; `nearest` is the report of the train image whose features are most like; `template`
is one normal report for all. In tables.MEASURES the metrics of the last two carry their name in front.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from pipelines import tables
from pipelines.contract import RunFolder, read_json, write_atomic
from pipelines.deidentify.reports.language import language_of
from pipelines.evaluate import features
from pipelines.evaluate.measured import ALL, Section
from pipelines.evaluate.models import Model
from pipelines.evaluate.run import Bench
from pipelines.evaluate.spec import Spec
from pipelines.reporting import metrics, page, simple
from pipelines.reporting.language import embedded, given
from pipelines.reporting.metrics import FINDINGS, Labeller, Measure
from pipelines.reporting.studies import Study, learnt, prompt, studies
from pipelines.reporting.training import Patches, Training
from pipelines.reporting.writer import Writer

TASK = "reports"
FEWEST = 8  # studies of a split
BATCH = 32  # reports written at once
TEXTS, NOTES = "reports.parquet", "reports.json"
# One row per report. System `radiologist` is the reference: its model is empty and its seed -1.
WRITTEN = pa.schema(
    [
        ("model", pa.string()),
        ("system", pa.string()),  # radiologist | written | nearest | template
        ("seed", pa.int32()),
        ("image", pa.int64()),
        ("patient", pa.string()),
        ("text", pa.string()),
    ]
)
WEIGHTS_ABSENT = ("RadGraph F1", "RadCliQ", "RaTEScore", "GREEN")


@dataclass(frozen=True)
class Material:
    """The studies of each split, and what all models share."""

    train: list[Study]
    validation: list[Study]
    test: list[Study]

    @property
    def references(self) -> list[str]:
        return [s.findings for s in self.test]


def material(bench: Bench, spec: Spec) -> Material:
    """The studies with findings and a frontal image; of the train split at most as many as the settings allow."""
    train, validation, test = (studies(bench.cohort, bench.images, s) for s in ("train", "validation", "test"))
    return Material(learnt(train, spec.reports.studies, 0), validation, test)


def why_not(bench: Bench, spec: Spec) -> list[dict[str, Any]]:
    """All of it when a split has too few studies with findings."""
    found = material(bench, spec)
    sizes = {"train": len(found.train), "validation": len(found.validation), "test": len(found.test)}
    short = [f"{n} {split} studies" for split, n in sizes.items() if n < FEWEST]
    if not short:
        return []
    reason = f"{' and '.join(short)} with a frontal image and findings; it needs {FEWEST} of each split"
    counts = {"images": len(found.test), "positives": 0, "negatives": 0}
    return [{"task": TASK, "label": ALL, **counts, "reason": reason}]


def measure(bench: Bench, models: Sequence[Model], spec: Spec, run: RunFolder, store: Path) -> pa.Table:
    """Write and measure reports; leaves `reports.parquet` (WRITTEN) and `reports.json` for the report."""
    found = material(bench, spec)
    labellers, not_run = _labellers(spec, found)
    normal = _normal(found, labellers)
    written: dict[str, dict[tuple[str, int], list[str]]] = {}
    notes: dict[str, Any] = {"not_run": not_run, "template": simple.template([s.findings for s in found.train], normal)}
    for model in models:
        path = store / TASK / f"{model.digest[:16]}-{_asked(bench, spec)}.json"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(path, json.dumps(_systems(bench, model, spec, found, run, store), ensure_ascii=False))
        stood = read_json(path)
        notes.setdefault("training", {})[model.name] = stood["training"]
        written[model.name] = {(t["system"], t["seed"]): t["texts"] for t in stood["texts"]}
        for seed in _seeds(spec):
            written[model.name]["template", seed] = [notes["template"]] * len(found.test)
    tables.write_table(run.root / TEXTS, _texts(found, written), WRITTEN)
    notes |= {
        "corpus_bleu": _corpus_bleu(found, written),
        "studies": _counts(found),
        "scored": _scored(found, labellers, spec),
    }
    notes |= {"language_model": spec.language_model is not None, "settings": spec.reports.model_dump()}
    write_atomic(run.root / NOTES, json.dumps(notes, ensure_ascii=False, indent=1) + "\n")
    run.artifact(TASK, run.root / TEXTS)
    parts = [
        _measures(found, model, key, texts, labellers, notes, run)
        for model, of in written.items()
        for key, texts in of.items()
    ]
    return pa.concat_tables(parts)


def on_validation(bench: Bench, models: Sequence[Model], spec: Spec, run: RunFolder, store: Path) -> dict[str, float]:
    """See measured.MeasuredTask: minus the writer's loss, mean over seeds; all writers are of one language model."""
    paths = {m.name: store / TASK / f"{m.digest[:16]}-{_asked(bench, spec)}.json" for m in models}
    return {
        name: -float(np.mean([t["validation_loss"] for t in read_json(path)["training"]]))
        for name, path in paths.items()
    }


def sections(rows: list[dict[str, Any]], result: dict[str, Any], root: Path) -> list[Section]:
    """One part: the values of every system, what beats what, examples, how it was done and what was not run."""
    written = tables.read_table(root / TEXTS, WRITTEN)
    measured = tables.read_table(root / "measures.parquet", tables.MEASURES)
    return [page.section(rows, result, read_json(root / NOTES), written, measured)]


# ---- systems -----------------------------------------------------------------------------------------------------


def _seeds(spec: Spec) -> list[int]:
    return sorted(set(spec.seeds))[: spec.reports.seeds]


def _asked(bench: Bench, spec: Spec) -> str:
    """Names what texts follow from besides the model."""
    language = None
    if spec.language_model is not None:
        # Late: transformers comes with it.
        from pipelines.label.causal import folder_digest

        language = folder_digest(spec.language_model)
    said = [bench.cohort.digest, spec.reports.model_dump(exclude={"examples"}), _seeds(spec), language]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:16]


def _systems(bench: Bench, model: Model, spec: Spec, found: Material, run: RunFolder, store: Path) -> dict[str, Any]:
    """Texts of the test studies by system and seed, and how training went, of one model."""
    every = [*found.train, *found.validation, *found.test]
    rows = np.array(sorted({s.row for s in every}))
    places = [s.place for s in sorted(every, key=lambda s: s.row)]
    pooled = features.extract(model, bench.cohort, bench.images.rows, spec.device, run, store)
    nearest = simple.retrieve(pooled, found.train, found.test)
    stored = features.extract(model, bench.cohort, rows, spec.device, run, store, kind="patches")
    out: dict[str, Any] = {"training": [], "texts": []}
    for seed in _seeds(spec):
        texts, course = _write(model, spec, found, stored, places, seed, run)
        out["texts"] += [{"system": "written", "seed": seed, "texts": texts}]
        out["texts"] += [{"system": "nearest", "seed": seed, "texts": nearest}]
        out["training"].append({"seed": seed, **course})
    return out


def _write(
    model: Model, spec: Spec, found: Material, stored: np.ndarray, places: list[int], seed: int, run: RunFolder
) -> tuple[list[str], dict[str, Any]]:
    """Train a writer under a seed and let it write the test studies."""
    settings, device = spec.reports, _device(spec.device)
    patches = Patches(stored, places, settings.grid, device)
    if spec.language_model is None:
        said = [text for s in found.train for text in (s.findings, prompt(s, settings))]
        language = embedded(said, seed)
    else:
        language = given(spec.language_model, settings.adapt, seed, device)
    writer = Writer(language, patches.dim, settings.projector_layers, seed).to(device)
    checkpoint = run.root / "checkpoints" / f"reports-{model.digest[:16]}-{seed}.pt"
    training = Training(writer, patches, found.train, found.validation, settings, seed)
    course = training.run(language.rate, run, checkpoint, f"report writer on {model.name}, seed {seed}")
    texts: list[str] = []
    for begin in range(0, len(found.test), BATCH):
        asked = found.test[begin : begin + BATCH]
        with torch.autocast("cuda", torch.bfloat16, enabled=device.type == "cuda"):
            texts += writer.write(
                patches(asked), [prompt(s, settings) for s in asked], settings.tokens, lambda: run.stopping
            )
        run.check_stop()
        run.progress(len(texts), len(found.test), f"reports written on {model.name}, seed {seed}")
    checkpoint.unlink(missing_ok=True)
    return texts, {
        "steps": course.step,
        "best_step": course.best_step,
        "validation_loss": course.best,
        "losses": course.losses,
    }


def _device(wanted: str) -> torch.device:
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(wanted)


# ---- measuring ---------------------------------------------------------------------------------------------------


def _labellers(spec: Spec, found: Material) -> tuple[dict[str, Labeller], list[dict[str, str]]]:
    """Metric -> labeller of those that can be used here; what cannot, and why."""
    not_run = [{"metric": name, "why": "its weights are not present"} for name in WEIGHTS_ABSENT]
    labellers: dict[str, Labeller] = {}
    foreign = sum(language_of(text) not in ("", "en") for text in found.references)
    if 2 * foreign > len(found.test):
        not_run += [{"metric": name, "why": "it reads English only"} for name in ("label F1", "CheXbert F1")]
        return labellers, not_run
    labellers["label_f1"] = metrics.RuleFindings()
    if spec.chexbert is None:
        not_run.insert(0, {"metric": "CheXbert F1", "why": "its weights are not present"})
    else:
        from pipelines.reporting.chexbert import ChexbertFindings

        labellers["chexbert_f1"] = ChexbertFindings(spec.chexbert, _device(spec.device))
    return labellers, not_run


def _normal(found: Material, labellers: dict[str, Labeller]) -> list[bool]:
    """Which train findings are those of a normal chest; none where nobody can tell."""
    if "label_f1" not in labellers:
        return [False] * len(found.train)
    stated = labellers["label_f1"]([s.findings for s in found.train])
    return list(stated[:, FINDINGS.index("No Finding")])


def _scored(found: Material, labellers: dict[str, Labeller], spec: Spec) -> dict[str, dict[str, int]]:
    """Labeller -> finding -> test patients whose reference states it, of those with enough."""
    out: dict[str, dict[str, int]] = {}
    for kind, labeller in labellers.items():
        stated = labeller(found.references)
        patients = {
            f: len({s.patient for s, is_stated in zip(found.test, stated[:, i], strict=True) if is_stated})
            for i, f in enumerate(FINDINGS)
        }
        out[kind] = {f: n for f, n in patients.items() if n >= spec.minimum_positives}
    return out


def _measures(
    found: Material,
    model: str,
    key: tuple[str, int],
    written: list[str],
    labellers: dict[str, Labeller],
    notes: dict[str, Any],
    run: RunFolder,
) -> pa.Table:
    """Rows of tables.MEASURES of one model, system and seed."""
    run.check_stop()
    system, seed = key
    measured = metrics.text_measures(found.references, written)
    for kind, labeller in labellers.items():
        stated, said = labeller(found.references), labeller(written)
        measured += metrics.label_measures(kind, stated, said, list(notes["scored"][kind]))
    prefix = "" if system == "written" else f"{system}:"
    return pa.concat_tables([_rows(found, model, seed, prefix, m) for m in measured])


def _rows(found: Material, model: str, seed: int, prefix: str, m: Measure) -> pa.Table:
    n = len(found.test)
    columns = {
        "model": pa.repeat(model, n),
        "task": pa.repeat(TASK, n),
        "label": pa.repeat(m.label, n),
        "seed": pa.repeat(pa.scalar(seed, pa.int32()), n),
        "metric": pa.repeat(prefix + m.metric, n),
        "image": pa.array([s.row for s in found.test], pa.int64()),
        "patient": pa.array([s.patient for s in found.test], pa.string()),
        "numerator": m.numerator.astype(np.float64),
        "denominator": m.denominator.astype(np.float64),
    }
    return pa.table(columns, schema=tables.MEASURES)


def _texts(found: Material, written: dict[str, dict[tuple[str, int], list[str]]]) -> list[dict[str, Any]]:
    """Rows of WRITTEN, the references first."""
    systems = {("", "radiologist", -1): found.references}
    systems |= {(model, *key): texts for model, of in written.items() for key, texts in of.items()}
    return [
        {"model": model, "system": system, "seed": seed, "image": s.row, "patient": s.patient, "text": text}
        for (model, system, seed), texts in systems.items()
        for s, text in zip(found.test, texts, strict=True)
    ]


def _corpus_bleu(found: Material, written: dict[str, dict[tuple[str, int], list[str]]]) -> dict[str, dict[str, float]]:
    """Model -> system -> corpus BLEU-4, mean over seeds."""
    out: dict[str, dict[str, list[float]]] = {}
    for model, of in written.items():
        for (system, _), texts in of.items():
            out.setdefault(model, {}).setdefault(system, []).append(metrics.corpus_bleu(found.references, texts))
    return {model: {system: float(np.mean(v)) for system, v in of.items()} for model, of in out.items()}


def _counts(found: Material) -> dict[str, dict[str, int]]:
    splits = {"train": found.train, "validation": found.validation, "test": found.test}
    return {name: {"studies": len(s), "patients": len({x.patient for x in s})} for name, s in splits.items()}
