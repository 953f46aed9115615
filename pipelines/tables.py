"""The tables that stages hand to each other, as Arrow schemas. One place, so that two stages cannot disagree.

Every text column holds pseudonyms only; nothing here names a person, a path of the hospital or an original UID.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.contract import BadInput, atomic

# ---- a de-identified folder (deidentify -> build, score, review) -------------------------------------------------

# One row per input file of the export, whatever became of it.
MANIFEST = pa.schema(
    [
        ("source_id", pa.string()),  # keyed hash of the input path
        ("kind", pa.string()),  # image | object (DICOM without pictures) | report | label | mask | other
        ("state", pa.string()),  # written | duplicate | quarantined | opted_out | read (tables, not written as files)
        ("reason", pa.string()),  # reason code of quarantine, else null
        ("output", pa.string()),  # path inside the folder, null when nothing was written
        ("sha256", pa.string()),  # of the output
        ("patient", pa.string()),
        ("accession", pa.string()),  # pseudonym, also in the output's AccessionNumber
        ("study", pa.string()),  # new UIDs
        ("series", pa.string()),
        ("instance", pa.string()),
        ("sop_class", pa.string()),
        ("transfer_syntax", pa.string()),
        ("boxes", pa.int32()),  # text boxes blanked in the pixels
        ("policy", pa.string()),  # policy digest
    ]
)
PATIENTS = pa.schema([("patient", pa.string()), ("split", pa.string()), ("order", pa.float64())])
REPORTS = pa.schema(
    [
        ("accession", pa.string()),
        ("patient", pa.string()),
        ("study", pa.string()),
        ("date", pa.string()),  # shifted, ISO, null when unknown
        ("text", pa.string()),
    ]
)
# Long form. No row: blank. Names as the site gives them; lines and tubes by LINES below.
LABELS = pa.schema(
    [
        ("accession", pa.string()),
        ("patient", pa.string()),
        ("label", pa.string()),
        ("value", pa.int8()),  # 1 present, 0 absent, -1 uncertain
        ("source", pa.string()),  # site | rules | model
        ("position", pa.string()),  # of a line or tube, where said: normal | borderline | abnormal
        ("version", pa.string()),  # of what made the label: a mapping, phrase lists, a model with its prompt
    ]
)
MASKS = pa.schema(
    [
        ("accession", pa.string()),
        ("patient", pa.string()),
        ("structure", pa.string()),  # lung, ett, ...
        ("output", pa.string()),  # masks/<structure>/<accession>.png, in the geometry of the frontal image
        ("sha256", pa.string()),
        ("points", pa.list_(pa.float32())),  # optional polyline x0 y0 x1 y1 ... in image pixels; nan nan between two
        ("position", pa.string()),  # optional: normal | borderline | abnormal
    ]
)

# ---- structured labels (label -> build); the labels themselves are LABELS ----------------------------------------

# What became of each study under each source.
LABELLED = pa.schema(
    [
        ("accession", pa.string()),
        ("source", pa.string()),
        ("reason", pa.string()),  # why it could not be labelled; null when it was read
    ]
)
# Two sources, label by label. Blank is neither present nor absent; agreement is over studies where both spoke.
COMPARED = pa.schema(
    [
        ("label", pa.string()),
        ("first", pa.string()),  # source
        ("second", pa.string()),
        ("studies", pa.int64()),  # that both sources read
        ("spoken", pa.int64()),  # of them, where both gave a value
        ("agreement", pa.float64()),  # share of spoken with the same value; null without any
        ("kappa", pa.float64()),  # Cohen's, over present, absent and uncertain
        ("first_present", pa.int64()),  # over all studies that both read, here and below
        ("second_present", pa.int64()),
        ("both_present", pa.int64()),
        ("kappa_present", pa.float64()),  # Cohen's, present against all else
    ]
)

# ---- a cohort (build -> pretrain, evaluate) ----------------------------------------------------------------------

# One row per image, sorted by (order, patient, study, instance): a subset of whole patients is a run of rows.
INDEX = pa.schema(
    [
        ("image", pa.int64()),  # row number
        ("instance", pa.string()),
        ("series", pa.string()),
        ("study", pa.string()),
        ("sop_class", pa.string()),
        ("accession", pa.string()),
        ("patient", pa.string()),
        ("site", pa.string()),  # fingerprint of the derivation secret
        ("split", pa.string()),
        ("order", pa.float64()),
        ("view", pa.string()),  # AP | PA | LATERAL | unknown
        ("modality", pa.string()),
        ("sex", pa.string()),
        ("age", pa.int16()),  # years, null when unknown; 90 stands for 90 and over
        ("date", pa.string()),  # shifted
        ("shard", pa.int32()),
        ("offset", pa.int64()),  # byte offset in the shard
        ("rows", pa.int32()),  # as stored
        ("columns", pa.int32()),
        ("source_rows", pa.int32()),
        ("source_columns", pa.int32()),
        ("spacing_row", pa.float64()),  # mm of the source pixel, null when unknown
        ("spacing_column", pa.float64()),
        ("affine", pa.list_(pa.float64(), 6)),  # source (x, y) -> store: x' = a x + b y + c, y' = d x + e y + f
    ]
)
TEXTS = pa.schema(
    [
        ("accession", pa.string()),
        ("patient", pa.string()),
        ("text", pa.string()),  # whole scrubbed report
        ("indication", pa.string()),
        ("comparison", pa.string()),
        ("technique", pa.string()),
        ("findings", pa.string()),
        ("impression", pa.string()),
    ]
)
COHORT_LABELS = pa.schema(
    [
        ("accession", pa.string()),
        ("patient", pa.string()),
        ("label", pa.string()),
        ("value", pa.int8()),
        ("position", pa.string()),
        ("source", pa.string()),  # which of the sources that were asked spoke first
        ("version", pa.string()),
    ]
)
COHORT_MASKS = pa.schema(
    [
        ("image", pa.int64()),
        ("accession", pa.string()),
        ("patient", pa.string()),
        ("structure", pa.string()),
        ("path", pa.string()),  # inside the cohort, in the geometry of the store
        ("points", pa.list_(pa.float32())),  # through the affine
        ("position", pa.string()),
    ]
)

# ---- an evaluation -----------------------------------------------------------------------------------------------

SCORES = pa.schema(
    [
        ("model", pa.string()),
        ("task", pa.string()),  # findings | lines | view
        ("method", pa.string()),  # linear | knn | few-shot-N (% of the train patients) | attentive | zero-shot
        ("label", pa.string()),
        ("seed", pa.int32()),
        ("image", pa.int64()),
        ("patient", pa.string()),
        ("target", pa.int8()),
        ("score", pa.float32()),  # log-odds
    ]
)
# What subgroups are made of: one row per image that was scored.
SCORED_IMAGES = pa.schema(
    [
        ("image", pa.int64()),
        ("patient", pa.string()),
        ("view", pa.string()),
        ("sex", pa.string()),
        ("age", pa.int16()),
        ("modality", pa.string()),
        ("site", pa.string()),
    ]
)
# What tasks other than probes found, image by image. The metric of a model on a label is the sum of numerators over the
# sum of denominators: a mean has denominators of 1, a micro F1 has 2 tp over 2 tp + fp + fn.
MEASURES = pa.schema(
    [
        ("model", pa.string()),
        ("task", pa.string()),  # segmentation | reports
        ("label", pa.string()),
        ("seed", pa.int32()),
        ("metric", pa.string()),
        ("image", pa.int64()),
        ("patient", pa.string()),
        ("numerator", pa.float64()),
        ("denominator", pa.float64()),  # 0 where the image says nothing of this metric
    ]
)
RESULTS = pa.schema(
    [
        ("model", pa.string()),
        ("baseline", pa.string()),  # null: the model's own value; else a paired difference model - baseline
        ("task", pa.string()),
        ("method", pa.string()),  # as in SCORES; null for tasks of MEASURES
        ("label", pa.string()),  # "macro" for the mean over labels
        ("metric", pa.string()),  # auroc | auprc | sensitivity | brier, or a metric of MEASURES
        ("value", pa.float64()),
        ("low", pa.float64()),
        ("high", pa.float64()),
        ("p", pa.float64()),  # Holm-adjusted, null where none
        ("p_delong", pa.float64()),  # DeLong's, Holm-adjusted; null where a patient has more than one image
        ("images", pa.int32()),
        ("patients", pa.int32()),
        ("positives", pa.int32()),
    ]
)

SUBGROUPS = pa.schema(
    [
        ("model", pa.string()),
        ("task", pa.string()),
        ("attribute", pa.string()),  # sex | age | view | modality | site
        ("group", pa.string()),  # "gap": the best group minus the worst
        ("label", pa.string()),
        ("value", pa.float64()),  # AUROC; null where a group has too few patients of either class
        ("low", pa.float64()),
        ("high", pa.float64()),
        ("images", pa.int32()),
        ("patients", pa.int32()),
        ("positives", pa.int32()),
        ("between", pa.string()),  # of a gap: which two groups
    ]
)

# Lines and tubes by the names the product uses; every other label is a finding.
LINES = ("ETT", "NGT", "CVC", "Swan-Ganz", "Chest tube", "Pacemaker")
# What masks may be of; the names reach paths, so that no other is taken from an export. Lines and tubes by structure.
LINE_STRUCTURES = {label.lower().replace("-", "_").replace(" ", "_"): label for label in LINES}
STRUCTURES = frozenset(
    {"lung", "lungs", "left_lung", "right_lung", "heart", "clavicle", "rib", "rib_fracture", "pneumothorax"}
    | LINE_STRUCTURES.keys()
)


def write_table(path: Path, rows: list[dict[str, Any]] | pa.Table, schema: pa.Schema) -> None:
    """Write rows under a schema, atomically. The same rows give the same bytes."""
    table = rows if isinstance(rows, pa.Table) else pa.Table.from_pylist(rows, schema=schema)
    with atomic(path) as temporary:
        pq.write_table(table.cast(schema), temporary, compression="zstd")


class TableWriter:
    """A table written piece by piece: the same rows give the same bytes, in whatever pieces they come."""

    ROW_GROUP = 65536

    def __init__(self, writer: pq.ParquetWriter, schema: pa.Schema) -> None:
        self.schema, self.rows = schema, 0
        self._writer, self._waiting, self._held = writer, [schema.empty_table()], 0

    def add(self, rows: list[dict[str, Any]] | pa.Table) -> None:
        """Append rows."""
        table = rows if isinstance(rows, pa.Table) else pa.Table.from_pylist(rows, schema=self.schema)
        self._waiting.append(table.cast(self.schema))
        self._held += table.num_rows
        self.rows += table.num_rows
        self.flush(self.ROW_GROUP)

    def flush(self, least: int = 1) -> None:
        """Write row groups as long as so many rows wait."""
        while self._held >= least:
            table = pa.concat_tables(self._waiting)
            self._writer.write_table(table.slice(0, self.ROW_GROUP).combine_chunks(), self.ROW_GROUP)
            rest = table.slice(self.ROW_GROUP)
            self._waiting, self._held = [rest], rest.num_rows


@contextlib.contextmanager
def table_writer(path: Path, schema: pa.Schema) -> Iterator[TableWriter]:
    """Write a table too large to be held, atomically."""
    with atomic(path) as temporary, pq.ParquetWriter(temporary, schema, compression="zstd") as file:
        writer = TableWriter(file, schema)
        yield writer
        writer.flush()


def read_table(path: Path, schema: pa.Schema, columns: list[str] | None = None) -> pa.Table:
    """Read a table and hold it to its schema; BadInput names the file that is missing or of another form."""
    try:
        return pq.read_table(path, columns=columns, schema=None if columns else schema)
    except FileNotFoundError:
        raise BadInput(f"{path.name} is missing in {path.parent.name}; is the folder a finished one?") from None
    except (pa.ArrowInvalid, pa.ArrowTypeError, OSError):
        raise BadInput(f"{path.name} in {path.parent.name} is damaged or of another version.") from None
