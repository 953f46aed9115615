"""Reports in HL7 v2 result messages: one report an accession number and message."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pipelines.deidentify.identities import Identities
from pipelines.deidentify.reports.dates import parse_any
from pipelines.deidentify.reports.intake import hl7
from pipelines.deidentify.reports.intake.report import Persons, Rejected, SourceReport, Status, problem, stamp

STAFF_FIELDS = {"PV1": (7, 8, 9, 17, 52), "OBR": (10, 16, 28), "ORC": (10, 11, 12, 19), "OBX": (16,)}
READER_FIELDS = (32, 33, 34, 35)  # OBR, composite: name in the subcomponents of the first component
# OBR-25 (table 0123) and, where it says nothing of the report as a whole, OBX-11 (table 0085).
RESULT_STATUS = {
    "P": Status.PRELIMINARY, "R": Status.PRELIMINARY, "I": Status.PRELIMINARY, "S": Status.PRELIMINARY,
    "F": Status.FINAL, "C": Status.CORRECTED, "X": Status.WITHDRAWN,
}  # fmt: skip
OBSERVATION_STATUS = {"F": Status.FINAL, "C": Status.CORRECTED, "P": Status.PRELIMINARY, "R": Status.PRELIMINARY}
WITHDRAWN = frozenset("DXW")  # OBX-11: deleted, cannot be obtained, posted as wrong
ORDER_CANCELED = frozenset({"CA", "OC", "CR"})  # ORC-1, table 0119, and ORC-5, table 0038
ADDENDUM = "ADT"  # suffix of OBX-3.1, as 71045&ADT


@dataclass
class _Result:
    """The OBR of one accession number, with the ORC before them and the OBX behind."""

    accession: str
    orders: list[hl7.Segment]
    requests: list[hl7.Segment]
    observations: list[hl7.Segment] = field(default_factory=list)

    @property
    def request(self) -> hl7.Segment:
        return self.requests[0]


def read_messages(source_id: str, path: Path, columns: Mapping[str, str]) -> Iterator[SourceReport | Rejected]:
    """The reports of a file of messages; a message that was cut off, or a batch without its trailer, is said."""
    data, count = path.read_bytes(), 0
    for count, message in enumerate(hl7.parse(data), 1):
        if not message.whole:
            yield Rejected(source_id, "malformed", f"message {count} is cut off")
            continue
        results = _results(message)
        if not results:
            yield Rejected(source_id, "malformed", f"message {count} holds no result")
        for result in results:
            yield _report(source_id, message, result, f"message {count}")
    if not count:
        yield Rejected(source_id, "malformed", "no HL7 message")
    elif trouble := hl7.batch_trouble(data, count):
        yield Rejected(source_id, "malformed", trouble)


def _results(message: hl7.Message) -> list[_Result]:
    """Each OBR with its OBX; OBR of one accession number are one report."""
    results: list[_Result] = []
    orders: list[hl7.Segment] = []
    for segment in message.segments:
        if segment.name == "ORC":
            orders.append(segment)
        elif segment.name == "OBR":
            accession = _accession(segment, orders)
            same = results and results[-1].accession == accession
            if same and (accession or results[-1].request.field(7) == segment.field(7)):
                results[-1].requests.append(segment)
                results[-1].orders += orders
            else:
                results.append(_Result(accession, orders, [segment]))
            orders = []
        elif segment.name == "OBX" and results:
            results[-1].observations.append(segment)
    return results


def _accession(request: hl7.Segment, orders: list[hl7.Segment]) -> str:
    """Filler order number, else placer order number, of OBR or its ORC; else placer field 1 (IHE RAD TF-2)."""
    places = [(s, n) for n in (3, 2) for s in (request, *orders)] + [(request, 18)]
    values = [(s.repetitions(n) or [[""]])[0][0].strip() for s, n in places]
    return next((v for v in values if v), "")


def _report(source_id: str, message: hl7.Message, result: _Result, where: str) -> SourceReport | Rejected:
    request, observations = result.request, result.observations
    said = [o for o in observations if o.field(hl7.STATUS).strip() not in WITHDRAWN]
    status = _status(result, said)
    if observations and not said:
        status = Status.WITHDRAWN
    study_uid, examined = _study_uid(message), parse_any(request.field(7)[:8])
    pid = next(iter(message.all("PID")), None)
    first = (pid.repetitions(3) if pid else [])[:1] or [[""]]
    patient_id = first[0][0].strip()
    text = hl7.report_text(observations if status is Status.WITHDRAWN else said)
    if trouble := problem((result.accession, study_uid, patient_id if examined else ""), text):
        encapsulated = not text and any(o.field(2).strip().upper() in ("ED", "RP") for o in said)
        return Rejected(source_id, "malformed", f"{where}: {'the report is no text' if encapsulated else trouble}")
    sent = message.all("MSH")[0].field(7)
    return SourceReport(
        source_id,
        result.accession,
        patient_id,
        first[0][3].strip() if len(first[0]) > 3 else "",
        examined or parse_any(sent[:8]),
        text,
        _identities(message, result.accession),
        study_uid=study_uid,
        status=status,
        written=stamp(request.field(22)) or stamp(sent),
        encoding=message.charset,
        place=where,
    )


def _status(result: _Result, observations: list[hl7.Segment]) -> Status:
    canceled = [bool({o.field(1).strip(), o.field(5).strip()} & ORDER_CANCELED) for o in result.orders]
    said = {RESULT_STATUS.get(r.field(25).strip(), Status.UNKNOWN) for r in result.requests}
    if said == {Status.WITHDRAWN} or (canceled and all(canceled)):
        return Status.WITHDRAWN
    if observations and all(hl7.part_of(o) == ADDENDUM for o in observations):
        return Status.ADDENDUM
    lines = {OBSERVATION_STATUS.get(o.field(hl7.STATUS).strip(), Status.UNKNOWN) for o in observations}
    for status in (Status.CORRECTED, Status.PRELIMINARY, Status.FINAL):
        heard = status is Status.CORRECTED or said == {Status.UNKNOWN}
        if status in said or (heard and status in lines):
            return status
    return Status.UNKNOWN


def _study_uid(message: hl7.Message) -> str:
    """The StudyInstanceUID where the message names one: ZDS-1 (IHE RAD TF-2 4.4.4.1.2.5), else IPC-3 (HL7 v2.5.1)."""
    for name, number in (("ZDS", 1), ("IPC", 3)):
        for segment in message.all(name):
            if value := (segment.repetitions(number) or [[""]])[0][0].strip():
                return value
    return ""


def _identities(message: hl7.Message, accession: str) -> Identities:
    who = Persons(ids={accession}, uids={_study_uid(message)})
    for pid in message.all("PID"):
        who.names |= {"^".join(r[:5]) for n in (5, 6, 9) for r in pid.repetitions(n)}
        who.ids |= {r[0].strip() for n in (2, 3, 4, 18, 19) for r in pid.repetitions(n)}
        who.phones |= {r[0].strip() for n in (13, 14) for r in pid.repetitions(n)}
        who.addresses |= {", ".join(c for c in r[:5] if c) for r in pid.repetitions(11)}
        who.dates.add(parse_any(pid.field(7)[:8]))
    for kin in message.all("NK1"):
        who.names |= {"^".join(r[:5]) for r in kin.repetitions(2)}
        who.phones |= {r[0].strip() for r in kin.repetitions(5)}
    for name, numbers in STAFF_FIELDS.items():
        for segment in message.all(name):
            who.names |= {"^".join(r[1:4]) for n in numbers for r in segment.repetitions(n) if len(r) > 1}
    for visit in message.all("PV1"):
        who.ids |= {r[0].strip() for n in (19, 50) for r in visit.repetitions(n)}
    for segment in (*message.all("ORC"), *message.all("OBR")):
        who.ids |= {r[0].strip() for n in (2, 3) for r in segment.repetitions(n)}
    for segment in message.all("OBR"):
        who.dates |= {parse_any(segment.field(n)[:8]) for n in (6, 7, 8, 22)}
        for number in READER_FIELDS:
            parts = segment.field(number).split(message.component)[0].split(message.subcomponent)
            who.names.add("^".join(message.unescape(p) for p in parts[1:4]))
    return who.identities()
