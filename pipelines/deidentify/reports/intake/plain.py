"""Reports as a folder of text files, each named by the accession number or the StudyInstanceUID of its study."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from pipelines.deidentify.identities import Identities
from pipelines.deidentify.reports.intake.report import Rejected, SourceReport, decode_text, named, problem

_UID = re.compile(r"\d+(?:\.\d+){3,}")


def read_text(source_id: str, path: Path, columns: Mapping[str, str]) -> Iterator[SourceReport | Rejected]:
    """The one report of a text file."""
    text, charsets = decode_text(path.read_bytes())
    key = path.stem.strip()
    study_uid = key if _UID.fullmatch(key) else ""
    accession = "" if study_uid else key
    if trouble := problem((key,), text):
        yield Rejected(source_id, "malformed", trouble)
        return
    identities = Identities(ids=frozenset({accession} - {""}), uids=frozenset({study_uid} - {""}))
    yield SourceReport(
        source_id, accession, "", "", None, text.strip(), identities, study_uid=study_uid, encoding=named(charsets)
    )
