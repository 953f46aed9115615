"""What identifies a person in one source: collected from its header, searched in its pixels, report and output."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date


@dataclass(frozen=True)
class Identities:
    """Identifying values of one source (an instance, or a study's report with its paired header). Never logged."""

    names: frozenset[str] = frozenset()
    """Persons as PN strings (`Family^Given^Middle^Prefix^Suffix`), patient and staff alike."""
    ids: frozenset[str] = frozenset()
    """MRN, other patient IDs, accession, study ID, serial numbers, station and AE titles."""
    dates: frozenset[date] = frozenset()
    phones: frozenset[str] = frozenset()
    addresses: frozenset[str] = frozenset()
    institutions: frozenset[str] = frozenset()
    uids: frozenset[str] = frozenset()

    def __or__(self, other: Identities) -> Identities:
        return Identities(**{f: getattr(self, f) | getattr(other, f) for f in self.__dataclass_fields__})


class Quarantine(Exception):
    """This file cannot be processed safely. `reason` is a code from REASONS, `detail` holds no PHI."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason)
        self.reason, self.detail = reason, detail


# Reason code -> what it means, for the privacy officer.
REASONS: dict[str, str] = {
    "empty": "The file is empty.",
    "not_dicom": "The file is neither DICOM nor a table the export may hold.",
    "unreadable": "The DICOM file is damaged or cut off.",
    "conflict": "Two files share one SOPInstanceUID but differ in content; neither is used.",
    "not_image": "The object is not an image this policy can clean.",
    "no_patient": "The object names no patient.",
    "pixels": "The pixel data cannot be decoded, so they cannot be checked.",
    "text_in_pixels": "Text is still readable in the pixels after cleaning.",
    "residue": "A value of the source was found again in the output.",
    "unmatched": "The report, label or mask belongs to no study of the export.",
    "ambiguous": "Two reports or masks claim one study and differ.",
    "malformed": "The row or message is malformed.",
    "opted_out": "The patient objected to the use of the data.",
}
