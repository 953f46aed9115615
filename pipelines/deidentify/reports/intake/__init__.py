"""Reports as a hospital hands them over, in any of the usual forms. Nothing is skipped silently, nothing raises."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from pipelines.deidentify.reports.intake import clinical_document, fhir, messages, plain, tables
from pipelines.deidentify.reports.intake.report import Rejected, SourceReport, person

__all__ = ["Rejected", "SourceReport", "form_of", "person", "read_reports"]

# Suffix -> reader(source_id, path, column mapping).
READERS = {
    ".csv": tables.read_csv,
    ".tsv": tables.read_csv,
    ".jsonl": tables.read_json_lines,
    ".parquet": tables.read_parquet,
    ".hl7": messages.read_messages,
    ".txt": plain.read_text,
    ".xml": clinical_document.read_cda,
}
# Suffix -> form, as counts name it; what has no suffix of these is taken for messages.
FORMS = {".csv": "CSV", ".tsv": "TSV", ".jsonl": "JSON lines", ".parquet": "Parquet", ".txt": "text", ".xml": "CDA",
         ".ndjson": "FHIR", ".json": "FHIR"}  # fmt: skip
MESSAGES = "HL7 v2"
_BLANK = b"\0\r\n\t \x0b\x1c"


def form_of(path: str) -> str:
    """The form of a report file by its name."""
    return FORMS.get(Path(path).suffix.lower(), MESSAGES)


def read_reports(
    export: Path, files: Iterable[tuple[str, Path]], columns: Mapping[str, str] | None = None
) -> Iterator[SourceReport | Rejected]:
    """Every report of the files (source_id, path below `export`), in their order, or why there is none.

    `columns` says which column of the site's tables holds what (tables.COLUMNS); what it does not name is found by
    the names in use. FHIR files come last: their resources refer to each other across files. Tables and NDJSON are read
    line by line, however long they are.
    """
    later = []
    for source_id, path in files:
        if path.suffix.lower() in (".ndjson", ".json"):
            later.append((source_id, path))
            continue
        reader = READERS.get(path.suffix.lower(), messages.read_messages)
        try:
            if _is_blank(export / path):
                yield Rejected(source_id, "empty", "")
            else:
                yield from reader(source_id, export / path, columns or {})
        except OSError:
            yield Rejected(source_id, "malformed", "the file cannot be read")
    yield from fhir.read_bundles(export, later)


def _is_blank(path: Path) -> bool:
    with path.open("rb") as file:
        return not any(block.strip(_BLANK) for block in iter(lambda: file.read(1 << 16), b""))
