"""Predicted masks as DICOM SEG (PS3.3 A.51), referring to the de-identified image they are of."""

from __future__ import annotations

import hashlib
import uuid
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import UID, ComputedRadiographyImageStorage, DigitalXRayImageStorageForPresentation

from pipelines import __version__
from pipelines.contract import atomic
from pipelines.segmentation.codes import category, property_type

SERIES_NUMBER = 9001
"""Above what modalities number, so that viewers list predictions last."""


def source_of(row: dict[str, Any]) -> Dataset:
    """The header that a SEG needs of its image, from a row of tables.INDEX."""
    ds = Dataset()
    by_modality = ComputedRadiographyImageStorage if row["modality"] == "CR" else DigitalXRayImageStorageForPresentation
    ds.SOPClassUID, ds.SOPInstanceUID = row["sop_class"] or by_modality, row["instance"]
    # Cohorts of earlier versions do not know the series; a viewer then finds the image by its own UID.
    ds.StudyInstanceUID, ds.SeriesInstanceUID = row["study"], row["series"] or make_uid("series", row["instance"])
    ds.PatientID = ds.PatientName = row["patient"]
    ds.PatientBirthDate, ds.PatientSex = None, row["sex"] or ""
    ds.AccessionNumber, ds.StudyID, ds.StudyTime = row["accession"], None, None
    ds.StudyDate = (row["date"] or "").replace("-", "") or None
    ds.Modality, ds.Rows, ds.Columns = row["modality"], row["source_rows"], row["source_columns"]
    ds.SpecificCharacterSet = "ISO_IR 192"
    return ds


def make_uid(*parts: str) -> UID:
    """A UID under 2.25 that is the same whenever the same masks are written."""
    digest = hashlib.sha256("\n".join(parts).encode()).digest()
    return UID(f"2.25.{uuid.UUID(bytes=digest[:16], version=4).int}")


def write(
    path: Path, row: dict[str, Any], masks: Sequence[tuple[str, str, np.ndarray]], model: str, digest: str
) -> None:
    """Write the masks of an image: (structure, label, bool [source rows, source columns]).

    An empty mask is written as a segment without a frame, which says that it was looked for and not found; `model` and
    `digest` name the algorithm.
    """
    algorithm = hd.AlgorithmIdentificationSequence(
        name=model[:64], family=codes.cid7162.ArtificialIntelligence, version=digest[:16]
    )
    segments = [
        hd.seg.SegmentDescription(number, label, category(structure), property_type(structure), "AUTOMATIC", algorithm)
        for number, (structure, label, _) in enumerate(masks, 1)
    ]
    pixels = np.stack([mask for *_, mask in masks], -1).astype(np.uint8)[None]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The string .* is unlikely to represent", UserWarning)  # pseudonyms
        seg = _segmentation(row, pixels, segments, model, digest)
    seg.PatientOrientation = None  # type 2C where nothing says how the image lies in space
    seg.PatientIdentityRemoved = "YES"
    seg.DeidentificationMethod = "Masks predicted on a de-identified image"
    seg.BurnedInAnnotation = "NO"
    with atomic(path) as temporary:
        seg.save_as(temporary)


def _segmentation(
    row: dict[str, Any], pixels: np.ndarray, segments: list[hd.seg.SegmentDescription], model: str, digest: str
) -> hd.seg.Segmentation:
    return hd.seg.Segmentation(
        source_images=[source_of(row)],
        pixel_array=pixels,
        segmentation_type="BINARY",
        segment_descriptions=segments,
        series_instance_uid=make_uid("series", digest, row["study"]),
        series_number=SERIES_NUMBER,
        sop_instance_uid=make_uid("instance", digest, row["instance"], *(s.SegmentLabel for s in segments)),
        instance_number=1,
        manufacturer="Intramural",
        manufacturer_model_name="Segmentation head on a frozen encoder",
        software_versions=__version__,
        device_serial_number="0",
        content_label="PREDICTION",
        content_description=f"Predicted by {model}"[:64],
        content_creator_name="Intramural",
        omit_empty_frames=bool(pixels.any()),
    )
