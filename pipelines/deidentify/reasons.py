"""Why something is in quarantine: reason codes, what they mean, and the verdict on one file."""

from __future__ import annotations


class Quarantine(Exception):
    """This file cannot be processed safely. `reason` is a code from REASONS, `detail` holds no PHI."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason)
        self.reason, self.detail = reason, detail


def placed(verdict: Quarantine, place: str) -> Quarantine:
    """The verdict on a row or message, with its place in the file; without one as it is."""
    return Quarantine(verdict.reason, ": ".join(p for p in (place, verdict.detail) if p))


# Reason code -> what it means, for the privacy officer.
REASONS: dict[str, str] = {
    "empty": "The file is empty.",
    "not_dicom": "The file is neither DICOM nor a table the export may hold.",
    "unreadable": "The DICOM file is damaged or cut off.",
    "crash": "Reading or cleaning the file crashed the process that did it, twice.",
    "timeout": "Reading or cleaning the file took too long, twice.",
    "conflict": "Two files share one SOPInstanceUID but differ in content; neither is used.",
    "directory": "The file is a directory of other files (DICOMDIR); it names patients and is never copied.",
    "document": "The object is an encapsulated document (PDF, CDA and the like), whose text cannot be cleaned.",
    "private_class": "The object is of a private class, of which the standard says nothing.",
    "unsupported": "Objects of this class (waveforms, raw data and others) cannot be shown to be clean.",
    "structured_content": "The object is a structured document, and the policy does not clean structured content.",
    "no_patient": "The object names no patient.",
    "pixels": "The pixel data cannot be decoded, so they cannot be checked.",
    "text_in_pixels": "Text is still readable in the pixels after cleaning.",
    "face": "A head could be drawn from the object, and the policy asks for quarantine then.",
    "residue": "A value of the source was found again in the output.",
    "review": "A reviewer found a leak and withdrew the instance.",
    "unmatched": "The report, label or mask belongs to no study of the export.",
    "ambiguous": "Two reports or masks claim one study and differ.",
    "malformed": "The row or message is malformed.",
    "withdrawn": "The report was withdrawn or its order canceled.",
    "opted_out": "The patient objected to the use of the data.",
}
