"""Labelled folders as they are published: their tables read into one form."""

from __future__ import annotations

import ast
import csv
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pipelines.contract import BadInput
from pipelines.external import names
from pipelines.label.names import one_name
from pipelines.label.values import NO_FINDING

ENDINGS = (".png", ".jpg", ".jpeg", ".dcm", ".dicom", ".tif", ".tiff", "")
VALUES = {"1": 1, "1.0": 1, "0": 0, "0.0": 0, "-1": -1, "-1.0": -1}
POSITIONS = ("normal", "borderline", "abnormal")  # the worst of several counts


@dataclass
class Entry:
    """One image. A blank label is absent from `labels`; -1 is uncertain."""

    image: str
    """Its name in the set, unique in it."""
    path: Path | None
    """None when the file is not in the folder."""
    patient: str
    labels: dict[str, int]
    split: str | None = None
    view: str = "unknown"
    sex: str | None = None
    age: int | None = None
    text: str = ""
    positions: dict[str, str] = field(default_factory=dict)
    """Of lines and tubes, where said: normal, borderline or abnormal."""
    polylines: dict[str, list[float]] = field(default_factory=dict)
    """By structure: x0 y0 x1 y1 ... in pixels of the image; nan nan between two lines."""


@dataclass(frozen=True)
class Layout:
    """How a set is published: the table that shows it, its own name, and how it is read."""

    table: str
    name: str
    read: Callable[[Path], list[Entry]]


def read_chestx_ray14(folder: Path) -> list[Entry]:
    """Data_Entry_2017*.csv, images anywhere below, test_list.txt and train_val_list.txt where present."""
    files, rows = Files(folder), _rows(_table(folder, "Data_Entry_2017*.csv"))
    named = {one_name(f) for row in rows for f in row["Finding Labels"].split("|")} - {one_name(NO_FINDING)}
    lists = {
        split: set((folder / file).read_text().split()) if (folder / file).is_file() else set()
        for split, file in (("test", "test_list.txt"), ("train", "train_val_list.txt"))
    }
    out = []
    for row in rows:
        image = row["Image Index"]
        present = {one_name(f) for f in row["Finding Labels"].split("|")}
        out.append(
            Entry(
                image,
                files.find(image),
                row["Patient ID"],
                {name: int(name in present) for name in sorted(named)},
                next((split for split, members in lists.items() if image in members), None),
                _view(row.get("View Position", "")),
                _sex(row.get("Patient Gender", row.get("Patient Sex", ""))),
                _age(row.get("Patient Age", "")),
            )
        )
    return out


def read_ranzcr_clip(folder: Path) -> list[Entry]:
    """train.csv with 11 columns of labels, images in train/, polylines in train_annotations.csv."""
    files, lines = Files(folder), _ranzcr_polylines(folder / "train_annotations.csv")
    out = []
    for row in _rows(folder / "train.csv"):
        labels: dict[str, int] = {}
        positions: dict[str, str] = {}
        for column, value in row.items():
            if column in ("StudyInstanceUID", "PatientID"):
                continue
            label, _, how = column.replace(" Catheter Present", "").partition(" - ")
            label = one_name(label)
            labels[label] = max(labels.get(label, 0), int(float(value)))
            how = how.lower()
            if float(value) and how in POSITIONS:
                positions[label] = max(positions.get(label, "normal"), how, key=POSITIONS.index)
        image = row["StudyInstanceUID"]
        entry = Entry(image, files.find(image), row["PatientID"], labels, positions=positions)
        entry.polylines = lines.get(image, {})
        out.append(entry)
    return out


def _ranzcr_polylines(path: Path) -> dict[str, dict[str, list[float]]]:
    """Image -> structure -> points of all its lines."""
    found: dict[str, dict[str, list[float]]] = defaultdict(dict)
    for row in _rows(path) if path.is_file() else ():
        structure = row["label"].replace(" Catheter Present", "").partition(" - ")[0]
        structure = one_name(structure).lower().replace("-", "_").replace(" ", "_")
        try:
            points = [float(v) for point in ast.literal_eval(row["data"]) for v in point]
        except (ValueError, SyntaxError, TypeError):
            raise BadInput(f"{path.name} holds points that are none; get the file again.") from None
        before = found[row["StudyInstanceUID"]].setdefault(structure, [])
        before += [math.nan, math.nan, *points] if before else points
    return found


def read_vindr_cxr(folder: Path) -> list[Entry]:
    """image_labels_{train,test}.csv, one row an image or an image and reader.

    No patient is named, so that each image counts as one. A finding is present where most readers of the image marked
    it, uncertain where just half did.
    """
    files = Files(folder)
    out = []
    for split in ("train", "test"):
        tables = sorted(folder.rglob(f"image_labels_{split}.csv"))
        marks: dict[str, list[dict[str, str]]] = defaultdict(list)
        for row in _rows(tables[0]) if tables else ():
            marks[row["image_id"]].append(row)
        for image, readers in marks.items():
            columns = [c for c in readers[0] if c not in ("image_id", "rad_id", "rad_ID") and c.lower() != "no finding"]
            share = {one_name(c): sum(float(r[c]) for r in readers) / len(readers) for c in columns}
            labels = {name: -1 if s == 0.5 else int(s > 0.5) for name, s in share.items()}
            out.append(Entry(image, files.find(image), image, labels, split))
    return out


def read_candid_ptx(folder: Path) -> list[Entry]:
    """Pneumothorax_reports.csv, chest_tube.csv and acute_rib_fracture.csv; images are named by their SOPInstanceUID.

    The patient is the part of `filename` before the first underscore, or the image itself where there is no such
    column. The masks, whose run lengths circulate in more than one order, are not read.
    """
    files = Files(folder)
    listed = {
        label: {row.get("anon_SOPUID") or row.get("SOPInstanceUID", "") for row in _rows(folder / file)}
        for label, file in (("Chest tube", "chest_tube.csv"), ("Fracture", "acute_rib_fracture.csv"))
        if (folder / file).is_file()
    }
    entries: dict[str, Entry] = {}
    for row in _rows(folder / "Pneumothorax_reports.csv"):
        image = row["SOPInstanceUID"]
        labels = {"Pneumothorax": int(row["EncodedPixels"].strip() != "-1")}
        labels |= {label: int(image in members) for label, members in listed.items()}
        if image in entries:  # one row a mask
            entries[image].labels["Pneumothorax"] |= labels["Pneumothorax"]
            continue
        patient = row.get("filename", "").partition("_")[0] or image
        entries[image] = Entry(image, files.find(image), patient, labels, text=row.get("Report", ""))
    return list(entries.values())


# Columns of a plain table that are no labels, with other spellings.
FACTS = {
    "image": ("image", "path", "file"),
    "patient": ("patient", "patient_id"),
    "split": ("split",),
    "view": ("view",),
    "sex": ("sex",),
    "age": ("age",),
    "text": ("text", "report"),
    "findings": ("findings",),
}
NO_LABEL = {"follow_up", "boxes", "width", "height"}


def read_table(folder: Path) -> list[Entry]:
    """labels.csv or the folder's only CSV: columns image and patient; split, view, sex, age and text where known;
    `findings` joined by | where labels stand in one column; every other column is a label of 1, 0, -1 or blank."""
    path = _table(folder, "labels.csv" if (folder / "labels.csv").is_file() else "*.csv")
    rows = _rows(path)
    columns = {fact: next((c for c in spellings if c in rows[0]), None) for fact, spellings in FACTS.items()}
    if columns["image"] is None or columns["patient"] is None:
        raise BadInput(f"{path.name} needs the columns 'image' and 'patient'; add them.")
    labels = [c for c in rows[0] if c not in columns.values() and c not in NO_LABEL]
    listed = {one_name(f) for row in rows for f in _listed(row, columns["findings"])} - {one_name(NO_FINDING)}
    files = Files(folder)

    def say(row: dict[str, str], fact: str) -> str:
        column = columns[fact]
        return row[column].strip() if column else ""

    out = []
    for row in rows:
        known = {one_name(c): _value(row[c], c) for c in labels if row[c].strip()}
        present = {one_name(f) for f in _listed(row, columns["findings"])}
        known |= {name: int(name in present) for name in sorted(listed)} if present else {}
        image, split = say(row, "image"), say(row, "split") or None
        if split not in (None, "train", "validation", "test"):
            raise BadInput(f"{path.name} has a split that is none of train, validation and test; correct it.")
        facts = (_view(say(row, "view")), _sex(say(row, "sex")), _age(say(row, "age")), say(row, "text"))
        out.append(Entry(image, files.find(image), say(row, "patient"), known, split, *facts))
    return out


LAYOUTS = {
    "chestx-ray14": Layout("Data_Entry_2017*.csv", names.NIH, read_chestx_ray14),
    "ranzcr-clip": Layout("train.csv", names.RANZCR, read_ranzcr_clip),
    "vindr-cxr": Layout("**/image_labels_*.csv", names.VINDR, read_vindr_cxr),
    "candid-ptx": Layout("Pneumothorax_reports.csv", names.CANDID, read_candid_ptx),
    "table": Layout("*.csv", "", read_table),
}


def read_set(folder: Path, layout: str, name: str) -> tuple[str, list[Entry]]:
    """Name and images of a set. BadInput when it is of no known layout, lacks a column, or names an image twice."""
    if not folder.is_dir():
        raise BadInput("The folder of the set does not exist; check the path.")
    if layout == "auto":
        layout = next((key for key, known in LAYOUTS.items() if next(folder.glob(known.table), None)), "")
    if not layout:
        raise BadInput("The folder holds no table (CSV) of labels; see the page on baselines for the layouts.")
    try:
        entries = LAYOUTS[layout].read(folder)
    except KeyError as error:
        raise BadInput(f"A table of the set has no column {error}; is it of the layout '{layout}'?") from None
    except FileNotFoundError as error:
        raise BadInput(f"{Path(str(error.filename)).name} is not in the folder of the set; get it whole.") from None
    twice = [image for image, count in Counter(e.image for e in entries).items() if count > 1]
    if twice:
        raise BadInput(f"{len(twice):,} images stand in the table more than once; name each once.")
    if not all(e.image and e.patient for e in entries):
        raise BadInput("A row of the table names no image or no patient; fill it or take the row out.")
    name = name or LAYOUTS[layout].name
    if not name:
        raise BadInput("Give the set a name, by which models that were trained on it are known.")
    return name, entries


class Files:
    """The images below a folder, by relative path and by file name, with or without an ending."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.by_name: dict[str, Path] = {}
        for path in sorted(self.folder.rglob("*")):
            if path.suffix.lower() in ENDINGS[:-1]:
                self.by_name.setdefault(path.name, path)
                self.by_name.setdefault(path.stem, path)
            elif path.suffix.lower() not in (".csv", ".txt", ".json", ".md") and path.is_file():
                self.by_name.setdefault(path.name, path)  # a UID without an ending

    def find(self, name: str) -> Path | None:
        """The file of an image; None when the folder has none, and for a name that points out of it."""
        path = (self.folder / name).resolve()
        if path.is_relative_to(self.folder) and path.is_file():
            return path
        return self.by_name.get(Path(name).name)


def _table(folder: Path, pattern: str) -> Path:
    found = sorted(folder.glob(pattern))
    if len(found) != 1:
        raise BadInput(f"The folder holds {len(found)} tables {pattern}, not one; give a folder with one.")
    return found[0]


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as f:
        try:
            rows = [{k: v or "" for k, v in row.items() if k is not None} for row in csv.DictReader(f)]
        except (csv.Error, UnicodeDecodeError):
            raise BadInput(f"{path.name} is no CSV in UTF-8; save it as one.") from None
    if not rows:
        raise BadInput(f"{path.name} has no rows; get it again.")
    return rows


def _listed(row: dict[str, str], column: str | None) -> Iterator[str]:
    yield from (f.strip() for f in row[column].split("|") if f.strip()) if column else ()


def _value(text: str, column: str) -> int:
    if text.strip() not in VALUES:
        raise BadInput(f"The column '{column}' holds values other than 1, 0, -1 and blank; leave it out or correct it.")
    return VALUES[text.strip()]


def _view(text: str) -> str:
    word = (text.upper().split() or [""])[0]
    return word if word in ("AP", "PA") else "LATERAL" if word in ("L", "LL", "LATERAL") else "unknown"


def _sex(text: str) -> str | None:
    return text.strip().upper() if text.strip().upper() in ("F", "M", "O") else None


def _age(text: str) -> int | None:
    digits = text.strip().rstrip("Yy").split(".")[0]
    return min(90, int(digits)) if digits.isdigit() and int(digits) < 150 else None
