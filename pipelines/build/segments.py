"""Masks in DICOM SEG objects of a de-identified folder: which image and structure each frame is of."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO

import numpy as np
import pyarrow.compute as pc
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

from pipelines import tables
from pipelines.build.chunk import inside
from pipelines.build.inputs import Source
from pipelines.contract import BadInput
from pipelines.segmentation.codes import SEG_CLASSES, structure_of


@dataclass(frozen=True)
class SegmentMask:
    """One structure of one image. `pixels`: bool [rows, columns] of the segmentation, which are those of its image."""

    accession: str
    patient: str
    instance: str
    structure: str
    pixels: np.ndarray


def segment_masks(source: Source) -> Iterator[SegmentMask | None]:
    """The masks of every SEG of a folder; None for a segment that cannot be read or names no known structure.

    Frames of one structure and image are joined, left and right lung segments say. BadInput when a file was changed
    after the release.
    """
    manifest = tables.read_table(source.folder / "manifest.parquet", tables.MANIFEST)
    wanted = manifest.filter((pc.field("state") == "written") & pc.field("sop_class").isin(SEG_CLASSES))
    for row in wanted.sort_by("instance").to_pylist():
        try:
            data = inside(source.folder, row["output"]).read_bytes()
        except FileNotFoundError:
            raise BadInput("A file of the manifest is missing; the folder was changed after its release.") from None
        if hashlib.sha256(data).hexdigest() != row["sha256"]:
            raise BadInput(
                f"Instance {row['instance']} was changed after its release; de-identify and review the export again."
            )
        try:
            found = read_segments(dcmread(BytesIO(data)))
        except (InvalidDicomError, ValueError, KeyError, AttributeError, IndexError, NotImplementedError, RuntimeError):
            yield None
            continue
        for (instance, structure), pixels in found.items():
            whole = instance and structure
            yield SegmentMask(row["accession"], row["patient"], instance, structure, pixels) if whole else None


def read_segments(ds: Dataset) -> dict[tuple[str, str], np.ndarray]:
    """(SOPInstanceUID of the image, structure) -> bool [rows, columns]; an empty name where it cannot be told.

    A segment without a frame is a mask known to be empty. Fractional values count from half of their maximum on.
    """
    named = {int(s.SegmentNumber): structure_of(str(s.get("SegmentLabel", "")), _code(s)) for s in ds.SegmentSequence}
    frames = np.atleast_3d(ds.pixel_array) if ds.pixel_array.ndim == 3 else ds.pixel_array[None]
    images = [
        str(r.ReferencedSOPInstanceUID) for s in ds.ReferencedSeriesSequence for r in s.ReferencedInstanceSequence
    ]
    out = {(image, s or ""): np.zeros(frames.shape[1:], bool) for image in images for s in named.values()}
    if str(ds.SegmentationType) == "LABELMAP":
        numbers = [(i, number, frame == number) for i, frame in enumerate(frames) for number in named]
    else:
        least = int(ds.get("MaximumFractionalValue", 1)) / 2
        numbers = [(i, _number(ds, i), frame > 0 if least < 1 else frame >= least) for i, frame in enumerate(frames)]
    for i, number, pixels in numbers:
        key = (_image(ds, i, images), named.get(number) or "")
        out[key] = out[key] | pixels if key in out else pixels
    return out


def _code(segment: Dataset) -> str:
    codes = segment.get("SegmentedPropertyTypeCodeSequence") or [Dataset()]
    return str(codes[0].get("CodeValue", ""))


def _groups(ds: Dataset, frame: int) -> list[Dataset]:
    """Functional groups of a frame, its own before the shared ones."""
    own = ds.get("PerFrameFunctionalGroupsSequence") or []
    return [*own[frame : frame + 1], *(ds.get("SharedFunctionalGroupsSequence") or [])]


def _number(ds: Dataset, frame: int) -> int:
    for group in _groups(ds, frame):
        if "SegmentIdentificationSequence" in group:
            return int(group.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
    raise KeyError("a frame without a segment number")


def _image(ds: Dataset, frame: int, images: list[str]) -> str:
    """The image a frame is of; where its groups do not say, the only one that the object refers to."""
    for group in _groups(ds, frame):
        for derivation in group.get("DerivationImageSequence") or []:
            for image in derivation.get("SourceImageSequence") or []:
                return str(image.ReferencedSOPInstanceUID)
    return images[0] if len(images) == 1 else ""
