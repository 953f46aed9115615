"""Print on real radiographs, for the benchmarks of pixels: families, sizes, turns, polarities, identities, marks.

The radiographs lie beside the checkout. Every second of them is for development, the others are for the figures; so
are seeds from FIGURES on. Identities are invented.
"""

from __future__ import annotations

import argparse
import datetime as dt
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian

from pipelines.practice.burn import font
from pipelines.practice.people import HOSPITALS, Person, make_person, make_uid
from tests.benchmarks import peers
from tests.judge.picture import HAVE_READER

SHARED = Path(os.environ.get("INTRAMURAL_SHARED", peers.ROOT.parent / "shared"))
FIGURES = 9000  # seeds from here on are for figures only
LIBERATION = Path("/usr/share/fonts/truetype/liberation")
# Sans, bold, mono and serif of matplotlib, Pillow's own; on most machines Arial's, Arial Narrow's, Courier's and
# Times' metric twins; the stroke letters of older consoles and a bitmap font of one size.
FAMILIES = (
    *("DejaVuSans.ttf", "DejaVuSans-Bold.ttf", "DejaVuSansMono.ttf", "DejaVuSerif.ttf", "STIXGeneral.ttf", ""),
    *(f for f in ("LiberationSans-Regular.ttf", "LiberationSansNarrow-Bold.ttf", "LiberationMono-Regular.ttf",
                  "LiberationSerif-Regular.ttf") if (LIBERATION / f).exists()),
    "strokes",
    "bitmap",
)  # fmt: skip
SIZES = (8, 9, 10, 12, 14, 16, 18, 20, 24, 28)
BITMAP_SIZE = 11
TODAY = dt.date(2026, 3, 11)
LEFT = 0.02  # of a line's ink that may stay as it was: its outermost half-tone pixels


def options(doc: str | None, **counts: int) -> argparse.Namespace:
    """What a benchmark of pixels is called with: its counts, `seed`, `develop`, and the `pictures` that follow.

    Exits with a sentence where tesseract or the radiographs are missing.
    """
    arguments = argparse.ArgumentParser(description=doc)
    for name, count in counts.items():
        arguments.add_argument(f"--{name}", type=int, default=count)
    arguments.add_argument("--seed", type=int, default=FIGURES)
    arguments.add_argument("--develop", action="store_true", help="on the other half of the radiographs, without a row")
    given = arguments.parse_args()
    given.pictures = radiographs(figures=not given.develop)
    if not HAVE_READER or not given.pictures:
        raise SystemExit("This benchmark needs tesseract, and the radiographs of ../shared beside the checkout.")
    return given


@dataclass(frozen=True)
class Print:
    """A line as it stands in a picture: its ink's box, how it is turned, and which pixels are ink."""

    text: str
    family: str
    size: int
    turn: int  # degrees against the clock
    left: int
    top: int
    ink: NDArray[np.bool_]  # of the box

    @property
    def box(self) -> dict[str, Any]:
        rows, columns = self.ink.shape
        return {"text": self.text, "left": self.left, "top": self.top, "width": columns, "height": rows}

    def missed(self, changed: NDArray[np.bool_]) -> float:
        """Share of the ink that a mask of changed pixels does not cover."""
        rows, columns = self.ink.shape
        under = changed[self.top : self.top + rows, self.left : self.left + columns]
        return float(1 - under[self.ink].mean())


def radiographs(*, figures: bool, folder: str = "nih_cxr14") -> list[Path]:
    """Real chest radiographs; those of the figures are no one's in development."""
    return sorted((SHARED / "data" / folder / "images").glob("*.jpg"))[int(figures) :: 2]


def load(path: Path) -> NDArray[np.uint8]:
    return np.asarray(Image.open(path).convert("L"))


def glyphs(text: str, family: str, size: int) -> NDArray[np.float32]:
    """Coverage in [0, 1] of a line, cropped to its ink; `size` is the height of the font in pixels."""
    if family == "strokes":
        scale = size / 30
        (width, height), base = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
        layer = np.zeros((height + base + 8, width + 8), np.uint8)
        cv2.putText(layer, text, (4, height + 4), cv2.FONT_HERSHEY_SIMPLEX, scale, 255, 1, cv2.LINE_AA)
    else:
        face: Any = ImageFont.load_default_imagefont() if family == "bitmap" else None
        if face is None and family.startswith("Liberation"):
            face = ImageFont.truetype(LIBERATION / family, size)
        face = face or font(family, size)
        left, top, right, bottom = (int(v) for v in face.getbbox(text))
        image = Image.new("L", (right - left + 4, bottom - top + 4))
        ImageDraw.Draw(image).text((2 - left, 2 - top), text, fill=255, font=face)
        layer = np.asarray(image)
    rows, columns = (np.flatnonzero((layer > 60).any(axis)) for axis in (1, 0))
    inked = layer[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return inked.astype(np.float32) / 255


def stamp(
    picture: NDArray[np.uint8], text: str, family: str, size: int, turn: int, at: tuple[int, int], style: str
) -> Print:
    """Draw a line into `picture` with its corner near `at` (x, y). Style: light | dark | plate (on a black one) |
    label (dark on a white one)."""
    cover = np.rot90(glyphs(text, family, size), turn // 90)
    rows, columns = cover.shape
    x = int(np.clip(at[0], 6, picture.shape[1] - columns - 6))
    y = int(np.clip(at[1], 6, picture.shape[0] - rows - 6))
    if style in ("plate", "label"):
        picture[y - 4 : y + rows + 4, x - 4 : x + columns + 4] = 8 if style == "plate" else 244
    under = picture[y : y + rows, x : x + columns]
    level = 250.0 if style in ("light", "plate") else 6.0
    under[...] = (under + (level - under) * cover).round().astype(np.uint8)
    return Print(text, family, BITMAP_SIZE if family == "bitmap" else size, turn, x, y, cover > 0.35)


def readable_style(picture: NDArray[np.uint8], rng: np.random.Generator, at: tuple[int, int], reach: int) -> str:
    """A style in which print stands out at a place."""
    if rng.random() < 0.25:
        return str(rng.choice(["plate", "label"]))
    around = picture[max(at[1] - reach, 0) : at[1] + reach, max(at[0] - reach, 0) : at[0] + reach]
    return "light" if around.mean() < 130 else "dark"


def person(rng: np.random.Generator) -> Person:
    return make_person(rng, int(rng.integers(1, 90_000)), str(rng.choice(["F", "M"])), int(rng.integers(20, 95)), TODAY)


def identity_lines(who: Person, rng: np.random.Generator) -> list[str]:
    """Lines as modalities and PACS clients print them, in random order."""
    last, first, born = who.last.upper(), who.first.upper(), who.birth
    doctor = person(rng)
    lines = [
        str(rng.choice([f"{last}, {first}", f"{last}^{first}", f"{who.first} {who.last}", f"{last} {first[0]}."])),
        str(rng.choice([f"ID {who.mrn}", f"MRN: {who.mrn}", who.mrn, f"PID {who.mrn} {who.sex}"])),
        str(rng.choice([f"DOB {born:%d.%m.%Y}", f"{born:%Y-%m-%d}", f"BORN {born:%d-%b-%Y}".upper()])),
        str(rng.choice([f"{TODAY:%m/%d/%Y} 10:42", f"{TODAY:%d %b %Y} 16:05:11", f"ACC {rng.integers(10**7)}"])),
        str(rng.choice([h.upper() if rng.random() < 0.5 else h for h in HOSPITALS])),
        str(rng.choice([f"DR {doctor.last.upper()}", f"REF: {doctor.last} {doctor.first}", f"TECH {doctor.first}"])),
        str(rng.choice([who.phone, who.street])),
    ]
    return [lines[int(i)] for i in rng.permutation(len(lines))]


def as_dicom(picture: NDArray[np.uint8], who: Person, rng: np.random.Generator, bits: int = 12) -> Dataset:
    """A CR of a picture, the print's person in its header: 8 bits as they are, or `bits` stored of 16 with a detector's
    noise below the levels of the picture."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = ComputedRadiographyImageStorage
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID = make_uid(rng)
    ds.StudyInstanceUID, ds.SeriesInstanceUID = make_uid(rng), make_uid(rng)
    ds.PatientName, ds.PatientID, ds.PatientSex = who.pn, who.mrn, who.sex
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.PatientBirthDate, ds.StudyDate, ds.Modality = f"{who.birth:%Y%m%d}", f"{TODAY:%Y%m%d}", "CR"
    ds.Rows, ds.Columns = picture.shape
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PixelRepresentation = 1, "MONOCHROME2", 0
    allocated, step = 8 if bits == 8 else 16, 1 << bits - 8
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = allocated, bits, bits - 1
    values = picture.astype(np.int32) * step + rng.integers(0, step, picture.shape, np.int32)
    ds.PixelData = values.astype(f"<u{allocated // 8}").tobytes() + b"\0" * (picture.size % 2)
    ds["PixelData"].VR = "OW"
    return ds
