"""FHIR R4 DiagnosticReport: NDJSON of a bulk export, bundles, single resources. References are looked up in the files
of the same export and nowhere else; a link is never followed."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from pipelines.deidentify.reports.dates import parse_any
from pipelines.deidentify.reports.intake.report import (
    Persons,
    Rejected,
    SourceReport,
    Status,
    decode_text,
    named,
    problem,
    stamp,
    text_lines,
)

# http://hl7.org/fhir/R4/valueset-diagnostic-report-status.html
STATUS = {
    "registered": Status.PRELIMINARY, "partial": Status.PRELIMINARY, "preliminary": Status.PRELIMINARY,
    "final": Status.FINAL, "amended": Status.CORRECTED, "corrected": Status.CORRECTED, "appended": Status.CORRECTED,
    "cancelled": Status.WITHDRAWN, "entered-in-error": Status.WITHDRAWN,
}  # fmt: skip
REFERRED = frozenset({"Patient", "Practitioner", "PractitionerRole", "Organization", "ImagingStudy", "ServiceRequest"})
MAX_BUNDLE = 1 << 28  # bytes of a file that is one JSON value over many lines
_BLOCKS = frozenset({"p", "div", "br", "tr", "li", "h1", "h2", "h3", "h4", "table", "ul", "ol"})
Resource = dict[str, Any]


def read_bundles(export: Path, files: list[tuple[str, Path]]) -> Iterator[SourceReport | Rejected]:
    """The reports of all FHIR files, and what of them could not be read."""
    known: dict[str, Resource] = {}
    for _, path in files:
        for resource in _resources(export / path):
            if isinstance(resource, dict) and resource.get("resourceType") in REFERRED:
                known[f"{resource['resourceType']}/{resource.get('id')}"] = resource
    for source_id, path in files:
        count = 0
        for number, resource in enumerate(_resources(export / path), 1):
            count += 1
            if isinstance(resource, str):
                yield Rejected(
                    source_id, resource, f"entry {number} is no FHIR resource" if resource != "empty" else ""
                )
            elif resource.get("resourceType") == "DiagnosticReport":
                yield _safely(source_id, resource, known, f"entry {number}")
        if not count:
            yield Rejected(source_id, "malformed", "no FHIR resource")


def _resources(path: Path) -> Iterator[Resource | str]:
    """Resources of a file, a reason code in the place of what is none."""
    found = False
    try:
        for value in _values(path):
            found = True
            for item in value if isinstance(value, list) else [value]:
                yield from _unpacked(item)
    except OSError:
        yield "malformed"
        return
    if not found:
        yield "empty"


def _values(path: Path) -> Iterator[Any]:
    """The JSON values of a file: one a line, or the file as one where its first line is none by itself."""
    for number, (line, _) in enumerate(text_lines(path)):
        if not line.strip("\0\r\n\t "):
            continue
        value = _parsed(line)
        if value is None and number == 0 and path.stat().st_size <= MAX_BUNDLE:
            whole = _parsed(decode_text(path.read_bytes())[0])
            if whole is not None:
                yield whole
                return
        yield value


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _unpacked(value: Any) -> Iterator[Resource | str]:
    if not isinstance(value, dict) or not isinstance(value.get("resourceType"), str):
        yield "malformed"
    elif value["resourceType"] == "Bundle":
        for entry in _list(value, "entry"):
            yield from _unpacked(entry.get("resource"))
    else:
        yield value


def _safely(source_id: str, resource: Resource, known: dict[str, Resource], where: str) -> SourceReport | Rejected:
    """JSON of any shape may call itself a DiagnosticReport; one of a wrong shape is malformed."""
    try:
        return _report(source_id, resource, known, where)
    except (AttributeError, TypeError, KeyError, IndexError):
        return Rejected(source_id, "malformed", f"{where}: a value is not of the type that FHIR asks for")


def _report(source_id: str, resource: Resource, known: dict[str, Resource], where: str) -> SourceReport | Rejected:
    look = _Lookup(resource, known)
    subject = look.resource(resource.get("subject"))
    studies = [r for key in ("imagingStudy", "study") for ref in _list(resource, key) if (r := look.resource(ref))]
    requests = [r for ref in _list(resource, "basedOn") if (r := look.resource(ref))]
    patient_id, issuer = _patient_id(subject)
    accession, study_uid = _accession([resource, *requests, *studies]), _study_uid(studies)
    day = str(resource.get("effectiveDateTime") or (resource.get("effectivePeriod") or {}).get("start") or "")[:10]
    text, encoding, unread = _text(resource)
    by_date = patient_id if parse_any(day) else ""
    if not text and unread:
        return Rejected(source_id, "malformed", f"{where}: {unread}")
    if trouble := problem((accession, study_uid, by_date), text):
        return Rejected(source_id, "malformed", f"{where}: {trouble}")
    who = Persons(ids={accession, patient_id}, uids={study_uid}, dates={parse_any(day)})
    for owner in (resource, *requests, *studies):
        who.ids |= {str(i.get("value") or "") for i in _list(owner, "identifier")}
    for keys in ("subject", "performer", "resultsInterpreter", "requester", "encounter"):
        for owner in (resource, *requests):
            for reference in _list(owner, keys):
                _collect(look, reference, who)
    return SourceReport(
        source_id,
        accession,
        patient_id,
        issuer,
        parse_any(day),
        text,
        who.identities(),
        study_uid=study_uid,
        status=STATUS.get(str(resource.get("status")), Status.UNKNOWN),
        written=stamp(str(resource.get("issued") or "")),
        encoding=encoding,
        place=where,
    )


class _Lookup:
    """Finds what a reference of one resource means: contained, or a resource of the same export."""

    def __init__(self, owner: Resource, known: dict[str, Resource]) -> None:
        self.known = known
        self.contained = {f"#{r.get('id')}": r for r in _list(owner, "contained")}

    def resource(self, reference: Any) -> Resource:
        """The resource, empty where it is not at hand."""
        target = str((reference or {}).get("reference") or "")
        return self.contained.get(target) or self.known.get("/".join(target.split("/")[-2:])) or {}


def _collect(look: _Lookup, reference: Resource, who: Persons, depth: int = 0) -> None:
    resource = look.resource(reference)
    if display := str(reference.get("display") or ""):
        who.names.add(_spoken(display))
    if resource.get("resourceType") == "PractitionerRole" and depth == 0:
        for key in ("practitioner", "organization"):
            for inner in _list(resource, key):
                _collect(look, inner, who, depth + 1)
    if resource.get("resourceType") == "Organization":
        who.institutions.add(str(resource.get("name") or ""))
    else:
        who.names |= {_pn(n) for n in _list(resource, "name")}
    for contact in _list(resource, "contact"):
        who.names |= {_pn(n) for n in _list(contact, "name")}
        who.phones |= {str(t.get("value") or "") for t in _list(contact, "telecom")}
    who.ids |= {str(i.get("value") or "") for i in _list(resource, "identifier")}
    who.dates.add(parse_any(str(resource.get("birthDate") or "")[:10]))
    for telecom in _list(resource, "telecom"):
        (who.ids if telecom.get("system") == "email" else who.phones).add(str(telecom.get("value") or ""))
    for address in _list(resource, "address"):
        parts = [*map(str, address.get("line") or ()), *(str(address.get(k) or "") for k in ("city", "postalCode"))]
        who.addresses.add(str(address.get("text") or ", ".join(p for p in parts if p)))


# ---- keys --------------------------------------------------------------------------------------------------------


def _accession(owners: list[Resource]) -> str:
    """An identifier of type ACSN (HL7 table 0203) of the report, its order or its study; else the report's first."""
    identifiers = [i for owner in owners for i in _list(owner, "identifier")]
    typed = [str(i.get("value") or "") for i in identifiers if "ACSN" in _codes(i)]
    plain = [str(i.get("value") or "") for i in identifiers if i.get("system") != "urn:dicom:uid"]
    return next((v.strip() for v in (*typed, *plain) if v.strip()), "")


def _study_uid(studies: list[Resource]) -> str:
    values = [
        str(i.get("value") or "") for s in studies for i in _list(s, "identifier") if i.get("system") == "urn:dicom:uid"
    ]
    return next((v.removeprefix("urn:oid:").strip() for v in values if v), "")


def _patient_id(patient: Resource) -> tuple[str, str]:
    identifiers = _list(patient, "identifier")
    records = [i for i in identifiers if "MR" in _codes(i)] or identifiers
    if not records:
        return "", ""
    return str(records[0].get("value") or "").strip(), str((records[0].get("assigner") or {}).get("display") or "")


def _codes(identifier: Resource) -> set[str]:
    return {str(c.get("code")) for c in _list(identifier.get("type") or {}, "coding")}


# ---- text --------------------------------------------------------------------------------------------------------


def _text(resource: Resource) -> tuple[str, str, str]:
    """(text, character set, why there is none): the presented form, else conclusion, else the narrative."""
    unread = ""
    for form in _list(resource, "presentedForm"):
        kind = str(form.get("contentType") or "text/plain").split(";")[0].strip().lower()
        if "data" not in form:
            unread = "the report lies behind a link, which is not followed"
            continue
        try:
            data = base64.b64decode(form["data"], validate=False)
        except (binascii.Error, ValueError, TypeError):
            unread = "the report is no base64"
            continue
        if kind not in ("text/plain", "text/html", "application/xhtml+xml"):
            unread = "the report is a document that holds no plain text"
            continue
        text, charsets = decode_text(data)
        text = text.strip() if kind == "text/plain" else plain_text(text)
        if text:
            return text, named(charsets), ""
    conclusion = str(resource.get("conclusion") or "").strip()
    if conclusion:
        return f"IMPRESSION: {conclusion}", "utf-8", ""
    return plain_text(str((resource.get("text") or {}).get("div") or "")), "utf-8", unread


class _Plain(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self.silent = 0

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.silent += tag in ("script", "style")
        if tag in _BLOCKS:
            self.parts.append("\n")

    def handle_endtag(self, tag: str) -> None:
        self.silent -= tag in ("script", "style") and self.silent > 0
        if tag in _BLOCKS:
            self.parts.append("\n")

    def handle_data(self, data: str) -> None:
        if not self.silent:
            self.parts.append(data)


def plain_text(html: str) -> str:
    """The text of a page, its blocks on lines of their own."""
    parser = _Plain()
    parser.feed(html)
    parser.close()
    lines = (" ".join(line.split()) for line in "".join(parser.parts).split("\n"))
    return "\n".join(line for line in lines if line)


def _pn(name: Resource) -> str:
    family, given = str(name.get("family") or ""), " ".join(map(str, name.get("given") or ()))
    return f"{family}^{given}" if family or given else _spoken(str(name.get("text") or ""))


def _spoken(name: str) -> str:
    """`Dr. Jane Q. Doe, MD` as PN, without its titles."""
    words = [
        w for w in name.split(",")[0].split() if w.rstrip(".").lower() not in ("dr", "prof", "md", "mr", "mrs", "ms")
    ]
    return f"{words[-1]}^{' '.join(words[:-1])}".rstrip("^") if words else ""


def _list(owner: Resource, key: str) -> list[Resource]:
    value = owner.get(key)
    values = value if isinstance(value, list) else [value]
    return [v for v in values if isinstance(v, dict)]
