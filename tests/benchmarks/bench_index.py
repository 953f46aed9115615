"""A cohort of 3.5 million images: time and memory to open it and to draw samples from it.

The index, the reports and the labels are synthetic Parquet tables of a cohort's own form; the shards are sparse files
of the right size, so that an image is read as it would be, but for the disk. Each figure comes from a process of its
own. The peer is the list of (path, class) that torchvision's ImageFolder keeps for as many images.
"""

from __future__ import annotations

import gc
import json
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipelines import tables
from pipelines.cohort import Cohort, writer
from pipelines.cohort.layout import shard_name
from pipelines.pretrain.sampler import Sampler
from tests.benchmarks.record import record

IMAGES, STUDIES, PATIENTS = 3_500_000, 2_600_000, 1_000_000
LABELS = ("Atelectasis", "Cardiomegaly", "Edema", "Effusion")
HEIGHT, WIDTH, BATCH, BATCHES = 518, 626, 256, 40
MEBI = 1 << 20


def make_cohort(folder: Path) -> Path:
    """A finished cohort folder of that size, its rows in the keyed order."""
    draw = np.random.default_rng(0)
    patient_of_study = np.sort(draw.integers(0, PATIENTS, STUDIES))
    study = np.sort(draw.integers(0, STUDIES, IMAGES))
    order = np.sort(draw.random(PATIENTS))
    split = np.array(["train", "validation", "test"])[np.digitize(draw.random(PATIENTS), [0.7, 0.8])]
    sizes = np.full(IMAGES, HEIGHT * WIDTH)
    shards, offsets = writer.place_images(sizes)
    patient = patient_of_study[study]
    fixed = {"site": "s", "view": "AP", "modality": "DX", "sex": "F", "age": 60, "date": "2011-01-15"}
    fixed |= {"rows": HEIGHT, "columns": WIDTH, "source_rows": 2048, "source_columns": 2475}
    fixed |= {"spacing_row": 0.14, "spacing_column": 0.14, "affine": [0.25, 0.0, 0.0, 0.0, 0.25, 0.0]}
    columns = {
        name: pa.repeat(pa.scalar(value, tables.INDEX.field(name).type), IMAGES) for name, value in fixed.items()
    }
    columns |= {
        "image": np.arange(IMAGES),
        "instance": pseudonyms("2.25.1000000000000000000000000000000", np.arange(IMAGES)),
        "study": pseudonyms("2.25.2000000000000000000000000000000", study),
        "accession": pseudonyms("A", study),
        "patient": pseudonyms("P", patient),
        "split": pa.array(split[patient]),
        "order": order[patient],
        "shard": shards,
        "offset": offsets,
    }
    content = {"index": pa.table({n: columns[n] for n in tables.INDEX.names}, schema=tables.INDEX)}
    content["texts"] = make_texts(patient_of_study)
    content["labels"] = make_labels(patient_of_study, draw)
    content["masks"] = writer.SCHEMAS["masks"].empty_table()
    (folder / "images").mkdir(parents=True)
    for shard in range(int(shards[-1]) + 1):
        with (folder / shard_name(shard)).open("wb") as f:
            f.truncate(int((shards == shard).sum()) * HEIGHT * WIDTH)
    facts = {"practice": True, "side": HEIGHT, "policies": ["p"], "sites": ["s"], "counts": {}, "flow": []}
    result = writer.seal_cohort(folder, content, ["0"] * (int(shards[-1]) + 1), facts)
    (folder / "result.json").write_text(json.dumps(result))
    return folder


def pseudonyms(prefix: str, numbers: np.ndarray) -> pa.Array:
    """Strings of a prefix and the number in 16 digits."""
    digits = pa.array(numbers + 10**15).cast(pa.string())
    return pa.compute.binary_join_element_wise(prefix, digits, "")


def make_texts(patient_of_study: np.ndarray) -> pa.Table:
    findings = "The heart is of normal size. The lungs are clear. There is no effusion and no pneumothorax. " * 4
    studies = np.arange(STUDIES)
    columns = {n: pa.repeat("", STUDIES) for n in tables.TEXTS.names}
    columns |= {"accession": pseudonyms("A", studies), "patient": pseudonyms("P", patient_of_study)}
    # Every report another text, as real ones are: no encoding may take them for one.
    columns["findings"] = pseudonyms(findings, studies)
    columns["impression"] = pseudonyms("No acute finding. ", studies)
    columns["text"] = pa.compute.binary_join_element_wise(columns["findings"], columns["impression"], "\n")
    return pa.table(columns, schema=tables.TEXTS)


def make_labels(patient_of_study: np.ndarray, draw: np.random.Generator) -> pa.Table:
    studies = np.repeat(np.arange(STUDIES), len(LABELS))
    n = len(studies)
    columns = {
        "accession": pseudonyms("A", studies),
        "patient": pseudonyms("P", patient_of_study[studies]),
        "label": pa.array(np.tile(np.array(LABELS), STUDIES)),
        "value": draw.integers(-1, 2, n).astype(np.int8),
        "position": pa.nulls(n, pa.string()),
        "source": pa.repeat("rules", n),
        "version": pa.repeat("1", n),
    }
    return pa.table(columns, schema=tables.COHORT_LABELS)


def open_and_draw(folder: Path, texts: bool) -> dict[str, float]:
    """Open the cohort, take a subset, draw batches of it; with `texts`, their reports and labels too."""
    began, objects = time.perf_counter(), len(gc.get_objects())
    cohort = Cohort.open(folder)
    opened = time.perf_counter()
    subset = cohort.subset(1_000_000)
    sampler = Sampler(cohort.rows("train"), BATCH, 0)
    cohort.image(int(sampler.batch(0).rows_B[0]))
    labels = cohort.label_matrix(list(LABELS)) if texts else None
    if texts:
        cohort.text(int(subset.rows[0]))
    ready, tracked = time.perf_counter(), len(gc.get_objects()) - objects
    for step in range(BATCHES):
        batch = sampler.batch(step)
        for row in batch.rows_B:
            cohort.image(int(row))
            if texts:
                cohort.text(int(row))
        if labels is not None:
            labels[batch.rows_B]
    drawn = time.perf_counter()
    return {
        "open_s": opened - began,
        "ready_s": ready - opened,
        "images_per_s": BATCH * BATCHES / (drawn - ready),
        "objects": tracked,
    }


def keep_a_list(folder: Path, texts: bool) -> dict[str, float]:
    """What ImageFolder keeps: a tuple of a path and a class for every image."""
    began = time.perf_counter()
    samples = [(f"{folder}/class/2.25.{10**33 + n}.png", n % 2) for n in range(IMAGES)]
    return {"ready_s": time.perf_counter() - began, "objects": len(samples)}


def alone(work: Callable[..., dict[str, float]], *arguments: Any) -> dict[str, float]:
    """Figures of `work` in a fresh process, and what its memory grew by at the most (`peak_mib`)."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_measured, (work, *arguments))


def _measured(work: Callable[..., dict[str, float]], *arguments: Any) -> dict[str, float]:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    figures = work(*arguments)
    return figures | {"peak_mib": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024}


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "cohort"
        maker = multiprocessing.get_context("spawn").Process(target=make_cohort, args=(folder,))
        maker.start()
        maker.join()
        peer = alone(keep_a_list, folder, False)
        for what, texts in (("images", False), ("images, reports and labels", True)):
            ours = alone(open_and_draw, folder, texts)
            record(
                f"memory that an index of 3.5 million images takes, to open it (checksums) and draw {what}",
                f"{ours['peak_mib']:.0f} MiB; opened in {ours['open_s']:.1f} s, ready in {ours['ready_s']:.1f} s more, "
                f"then {ours['images_per_s']:,.0f} images/s; {ours['objects']} Python objects more",
                f"ImageFolder's list {peer['peak_mib']:.0f} MiB, {peer['objects']} tuples",
                peer["peak_mib"] / ours["peak_mib"],
            )


if __name__ == "__main__":
    main()
