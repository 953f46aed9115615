"""CDA documents (HL7 CDA R2): the narrative of their sections, as a file beside the images or encapsulated in DICOM."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from xml.etree import ElementTree

from pipelines.deidentify.reports.dates import parse_any
from pipelines.deidentify.reports.intake.report import (
    Persons,
    Rejected,
    SourceReport,
    decode_text,
    named,
    problem,
    stamp,
)

CDA = "{urn:hl7-org:v3}"
_BREAKS = frozenset({"br", "paragraph", "item", "tr", "list", "table", "caption"})


def read_cda(source_id: str, path: Path, columns: Mapping[str, str]) -> Iterator[SourceReport | Rejected]:
    """The one report of a CDA file, joined by the order number or StudyInstanceUID that it documents."""
    try:
        yield parse_cda(source_id, path.read_bytes())
    except ValueError as error:
        yield Rejected(source_id, "malformed", str(error))


def parse_cda(source_id: str, data: bytes, accession: str = "", study_uid: str = "") -> SourceReport | Rejected:
    """A report from the XML of a ClinicalDocument; its study may be known. ValueError (without PHI) when it is none."""
    root, charset = _root(data)
    body = "\n\n".join(_section(s) for s in root.iter(f"{CDA}section"))
    order = root.find(f".//{CDA}inFulfillmentOf/{CDA}order/{CDA}id")
    event = root.find(f".//{CDA}documentationOf/{CDA}serviceEvent")
    study = event.find(f"{CDA}id") if event is not None else None
    target = root.find(f"{CDA}recordTarget/{CDA}patientRole")
    patient = target.find(f"{CDA}id") if target is not None else None
    accession = accession or (order.get("extension", "") if order is not None else "")
    study_uid = study_uid or (study.get("root", "") if study is not None else "")
    patient_id = patient.get("extension", "") if patient is not None else ""
    when = event.find(f"{CDA}effectiveTime") if event is not None else None
    day = parse_any((when.get("value") or "")[:8]) if when is not None else None
    if trouble := problem((accession, study_uid, patient_id if day else ""), body):
        return Rejected(source_id, "malformed", trouble)
    who = Persons(ids={accession, patient_id}, uids={study_uid}, dates={day})
    who.names |= {_name(n) for n in root.iter(f"{CDA}name") if len(n)}
    who.institutions |= {(n.text or "").strip() for n in root.iter(f"{CDA}name") if not len(n)}
    who.phones |= {t.get("value", "").removeprefix("tel:") for t in root.iter(f"{CDA}telecom")}
    who.addresses |= {", ".join(p.text.strip() for p in a if p.text) for a in root.iter(f"{CDA}addr")}
    who.dates |= {parse_any((b.get("value") or "")[:8]) for b in root.iter(f"{CDA}birthTime")}
    made = root.find(f"{CDA}effectiveTime")
    written = stamp(made.get("value", "")) if made is not None else ""
    return SourceReport(
        source_id,
        accession,
        patient_id,
        "",
        day,
        body.strip(),
        who.identities(),
        study_uid=study_uid,
        written=written,
        encoding=charset,
    )


def _root(data: bytes) -> tuple[ElementTree.Element, str]:
    """The document and the character set that it was read as."""
    # Entities are how XML is turned against its reader; a CDA document has none.
    if b"<!DOCTYPE" in data or b"<!ENTITY" in data or data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise ValueError("the XML declares a document type or entities")
    try:
        root, charset = ElementTree.fromstring(data), _declared(data)  # noqa: S314 - no entity is left to expand
    except (ElementTree.ParseError, ValueError, LookupError):
        try:
            text, charsets = decode_text(data)
            root, charset = ElementTree.fromstring(text), named(charsets)  # noqa: S314
        except (ElementTree.ParseError, ValueError, LookupError):
            raise ValueError("the XML is damaged") from None
    if root.tag != f"{CDA}ClinicalDocument":
        raise ValueError("the XML is no CDA document")
    return root, charset


def _declared(data: bytes) -> str:
    """The encoding of the XML declaration by Python's name; UTF-8 where it says none (XML 1.0, 4.3.3)."""
    declared = re.match(rb"<\?xml[^>]*\bencoding\s*=\s*[\"']([A-Za-z0-9._-]+)", data.lstrip(b"\xef\xbb\xbf"))
    return codecs.lookup(declared[1].decode()).name if declared else "utf-8"


def _section(section: ElementTree.Element) -> str:
    title, text = section.find(f"{CDA}title"), section.find(f"{CDA}text")
    heading = "".join(title.itertext()).strip() if title is not None else ""
    lines = (" ".join(line.split()) for line in _narrative(text).split("\n")) if text is not None else ()
    body = "\n".join(line for line in lines if line)
    return f"{heading}: {body}" if heading and body else body


def _narrative(element: ElementTree.Element) -> str:
    parts = [element.text or ""]
    for child in element:
        name = child.tag.removeprefix(CDA)
        parts += ["\n" if name in _BREAKS else "", _narrative(child), child.tail or ""]
    return "".join(parts)


def _name(name: ElementTree.Element) -> str:
    family = " ".join((e.text or "").strip() for e in name.iter(f"{CDA}family"))
    given = " ".join((e.text or "").strip() for e in name.iter(f"{CDA}given"))
    return f"{family}^{given}".strip("^ ")
