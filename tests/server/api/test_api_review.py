"""The review of single instances: who sees what was there before, what is noted, and what a leak stops."""

import json
import re

import pytest

from pipelines import tables
from pipelines.contract import BadInput
from pipelines.deidentify.reports.counts import ReportCounts
from pipelines.deidentify.reports.spans import Span
from pipelines.deidentify.vault import seal
from pipelines.keys import load_vault_key
from pipelines.release import folder_digest, require_release
from server.access import Role
from server.store.models import Audit, Export
from tests.server.house import BEFORE, PNG, House

OFFICER = Role.PRIVACY_OFFICER


@pytest.fixture
def export(house: House) -> str:
    return house.packed(house.client()).id


def path(export: str, rest: str = "") -> str:
    return f"/api/v1/exports/{export}/sample{rest}"


def judge(house: House, export: str, number: int, verdict: str, **more: str):
    return house.http(OFFICER).post(path(export, f"/{number}/verdict"), json={"verdict": verdict, **more})


def folder(house: House, export: str):
    with house.db.reading() as session:
        return house.settings.root / str(session.get_one(Export, export).folder)


def test_a_look_is_decrypted_noted_and_not_kept(house: House, export: str) -> None:
    rows = house.audit_rows()
    answer = house.http(OFFICER).get(path(export, "/2"))
    assert answer.json()["lines"][0]["before"] == BEFORE
    assert answer.json()["frames"] == {"0": PNG}
    assert answer.headers["Cache-Control"] == "no-store"
    with house.db.reading() as session:
        last = session.query(Audit).order_by(Audit.id.desc()).first()
        assert (last.action, last.subject, last.detail["instance"]) == ("review:look", f"export:{export}", 2)
        assert BEFORE not in json.dumps(last.detail)
    assert house.audit_rows() >= rows + 1
    assert house.http(OFFICER).get("/api/v1/audit/verify").json()["ok"] is True


@pytest.mark.parametrize("role", [Role.ADMIN, Role.RESEARCHER, Role.AUDITOR])
def test_nobody_else_sees_before_or_is_told_of_it(house: House, export: str, role: Role) -> None:
    client = house.http(role)
    told = client.get(path(export)).text
    assert json.loads(told)["items"][0]["instance"] == "2.25.1"
    for answer in (client.get(path(export, "/1")), client.get(f"/review/{export}/items/1")):
        assert answer.status_code == 403
        told += answer.text
    told += client.get(f"/review/{export}", headers={"Accept": "text/html"}).text
    assert BEFORE not in told and PNG not in told
    with house.db.reading() as session:
        assert session.query(Audit).filter(Audit.action == "review:look").count() == 0


def test_without_an_audit_row_nothing_is_decrypted(house: House, export: str, monkeypatch) -> None:
    monkeypatch.setattr("server.services.items.record", lambda *_, **__: 1 / 0)
    monkeypatch.setattr("server.services.items.unseal", lambda *_: pytest.fail("decrypted without a note"))
    assert house.http(OFFICER).get(path(export, "/1")).status_code == 500


def test_the_bound_falls_and_the_last_verdict_counts(house: House, export: str) -> None:
    tallies = [judge(house, export, n, "clean").json()["tally"] for n in (1, 2, 3)]
    assert [round(t["bound"], 4) for t in tallies] == [0.95, 0.7764, 0.6316]
    last = judge(house, export, 3, "unsure").json()
    assert (last["tally"]["reviewed"], last["tally"]["unsure"]) == (3, 1)
    assert last["items"][2]["verdict"] == "unsure"
    record = json.loads((folder(house, export) / "verdicts.json").read_text())
    assert [v["number"] for v in record["verdicts"]] == [1, 2, 3, 3]
    assert record["signature"] and record["verdicts"][0]["reviewer"].startswith("service")


def test_a_confirmed_leak_stops_the_release_until_it_is_withdrawn(house: House, export: str) -> None:
    officer, deid = house.http(OFFICER), folder(house, export)
    assert officer.post(path(export, "/2/withdraw")).status_code == 409  # not without a verdict
    assert judge(house, export, 2, "leak").status_code == 422  # of which kind?
    assert judge(house, export, 2, "leak", leak="name").status_code == 201
    refused = officer.post(f"/api/v1/exports/{export}/release", json={})
    assert refused.status_code == 422 and "instance 2" in refused.json()["detail"]
    withdrawn = officer.post(path(export, "/2/withdraw")).json()
    assert withdrawn["tally"]["open_leaks"] == [] and withdrawn["items"][1]["withdrawn"] is True
    assert not (deid / "dicom/P2/2.25.200/2.25.2.dcm").exists()
    assert house.client().export(export).result["counts"]["quarantined"]["review"] == 1
    assert officer.post(f"/api/v1/exports/{export}/release", json={}).status_code == 201
    release = require_release(deid, house.settings.release_public_key)
    assert (release["review"]["leaks"], release["review"]["withdrawn"]) == (1, 1)
    assert (release["review"]["reviewed"], release["review"]["of"]) == (1, 4)
    assert judge(house, export, 1, "clean").status_code == 409  # a release covers what was said


def test_verdicts_that_went_missing_or_back_in_time_stop_the_release(house: House, export: str) -> None:
    judge(house, export, 1, "clean")
    verdicts = folder(house, export) / "verdicts.json"
    older = verdicts.read_text()
    judge(house, export, 2, "leak", leak="date")
    officer = house.http(OFFICER)
    for act in (lambda: verdicts.write_text(older), verdicts.unlink):
        act()
        refused = officer.post(f"/api/v1/exports/{export}/release", json={})
        assert refused.status_code == 409 and "judge one item" in refused.json()["detail"]
    with pytest.raises(BadInput):
        require_release(folder(house, export), house.settings.release_public_key)


def test_what_is_not_in_the_sample_is_not_found(house: House, export: str) -> None:
    officer = house.http(OFFICER)
    rows = house.audit_rows()
    assert officer.get(path(export, "/5")).status_code == 404
    assert judge(house, export, 5, "clean").status_code == 404
    assert judge(house, export, 1, "fine").status_code == 422
    assert house.audit_rows() == rows


def test_a_folder_of_the_first_version_has_no_sample_and_can_be_released(house: House) -> None:
    export = house.deidentified(house.client())
    assert "no review pack" in house.http(OFFICER).get(path(export.id)).json()["detail"]
    assert house.http(OFFICER).post(f"/api/v1/exports/{export.id}/release", json={}).status_code == 201


def test_the_pages_take_verdicts_and_lead_on(house: House, export: str) -> None:
    page = house.http(OFFICER)
    page.headers |= {"Accept": "text/html", "Origin": house.settings.url}
    seen = page.get(f"/review/{export}/items/1").text
    assert "Abernathy^Quill" in seen and f"data:image/png;base64,{PNG}" in seen
    answer = page.post(f"/review/{export}/items/1", data={"verdict": "clean"}, follow_redirects=False)
    assert answer.headers["Location"] == f"/review/{export}/items/2"
    page.post(f"/review/{export}/items/2", data={"verdict": "leak", "leak": "uid"})
    overview = page.get(f"/review/{export}").text
    assert "2 of 4 instances reviewed; 1 leak found" in overview
    assert 'value="released" disabled' in overview.replace("  ", " ")
    answer = page.post(f"/review/{export}/items/2/withdraw", follow_redirects=False)
    assert answer.headers["Location"] == f"/review/{export}/items/3"
    assert "1 withdrawn" in page.get(f"/review/{export}").text


REPORT = "PATIENT: Abernathy, Quill\nHeart failure."
AFTER = "PATIENT: Farnley, Isolde\nHeart failure."
NAME = {"kind": "NAME", "recogniser": "known", "score": 1.0, "left": False}
DOUBT = {"start": 26, "end": 31, "kind": "NAME", "recogniser": "known", "score": 0.3, "left": True}


@pytest.fixture
def with_report(house: House, export: str) -> str:
    """The export with one report in its folder and, as number 5, in its pack; its counts in the result."""
    deid, key = folder(house, export), load_vault_key(house.settings.vault_key)
    row = {"accession": "A1", "patient": "P1", "study": "2.25.100", "date": None, "text": AFTER}
    tables.write_table(deid / "reports.parquet", [row], tables.REPORTS)
    item = {"what": "report", "number": 5, "drawn": "random", "score": 4, "factors": ["doubtful_words"]}
    item |= {
        "accession": "A1",
        "patient": "P1",
        "source_id": "5" * 32,
        "language": "",
        "finds": {"known": 1},
        "words": 1,
    }
    marks = {"before": [{"start": 9, "end": 25, **NAME}, DOUBT], "after": [{"start": 9, "end": 24, **NAME}]}
    text = {"place": "line 2", "before": REPORT, "after": AFTER, "marks": marks}
    seal(deid / "vault" / "review" / "0005.vault", {"entry": item, "text": text}, key)
    pack = json.loads((deid / "review" / "pack.json").read_text())
    pack |= {"reports": {"of": 9, "random": 1, "risk": 0, "aim": 0.95}, "items": [*pack["items"], item]}
    (deid / "review" / "pack.json").write_text(json.dumps(pack))
    counts = ReportCounts()
    for _ in range(9):
        counts.came("HL7 v2", "cp1252")
    counts.lost("CSV", "unmatched")
    counts.scrubbed([Span("NAME", 9, 25, "known")], "de", True)
    counts.fates["written"] += 9
    result = json.loads((deid / "result.json").read_text()) | {"reports": counts.told(), "digest": folder_digest(deid)}
    result["counts"]["reports"] = 1
    (deid / "result.json").write_text(json.dumps(result))
    with house.db.session() as session:
        session.get_one(Export, export).result = result
    return export


def test_a_report_is_seen_before_and_after_by_the_officer_alone(house: House, with_report: str) -> None:
    looked = house.http(OFFICER).get(path(with_report, "/5")).json()
    assert (looked["item"]["what"], looked["item"]["finds"], looked["item"]["words"]) == ("report", {"known": 1}, 1)
    assert (looked["text"]["before"], looked["text"]["after"]) == (REPORT, AFTER)
    assert looked["text"]["marks"]["before"][1]["left"] is True
    with house.db.reading() as session:
        (noted,) = session.query(Audit).filter(Audit.action == "review:look")
        assert (
            noted.detail["report"] == 5
            and "instance" not in noted.detail
            and "Abernathy" not in json.dumps(noted.detail)
        )
    page = house.http(OFFICER).get(f"/review/{with_report}/items/5", headers={"Accept": "text/html"}).text
    assert '<mark class="took" title="name, by known, 100 % sure">Abernathy, Quill</mark>' in page
    assert '<mark class="left" title="name, left in doubt, 30 % sure">Heart</mark>' in page
    assert '<mark class="took" title="name, by known, 100 % sure">Farnley, Isolde</mark>' in page
    assert "Report 5 of 5" in page and "1 word was left" in page
    for role in (Role.ADMIN, Role.RESEARCHER, Role.AUDITOR):
        client = house.http(role)
        answers = [client.get(p) for p in (path(with_report, "/5"), f"/review/{with_report}/items/5")]
        assert [a.status_code for a in answers] == [403, 403]
        overview = client.get(f"/review/{with_report}", headers={"Accept": "text/html"}).text
        assert AFTER.split("\n")[0] in overview and "Abernathy" not in overview


def test_the_overview_says_how_reports_came_and_where_they_went(house: House, with_report: str) -> None:
    page = house.http(OFFICER).get(f"/review/{with_report}", headers={"Accept": "text/html"}).text
    for said in (
        "10: CSV 1, HL7 v2 9", "cp1252 9", "unmatched 1, written 9", "0 of 5 instances and reports reviewed",
        "No model here reads the language of some reports (de 1)", "1 of 9 reports were drawn at random",
        "doubtful words",
    ):  # fmt: skip
        assert said in page, said
    told = re.search(r"<td>known <span[^>]*>a value of the header or message</span></td>(.*?)</tr>", page)
    assert told and re.findall(r"<td class=\"num\">(.*?)</td>", told[1]) == ["1", "1", "100 %"]


def test_a_report_that_leaks_is_withdrawn(house: House, with_report: str) -> None:
    told = judge(house, with_report, 5, "leak", leak="name").json()
    assert (told["tally"]["reports_bound"], told["tally"]["random_reviewed"]) == (1.0, 0)
    assert told["reports"] == {"of": 9, "random": 1, "risk": 0, "aim": 0.95}
    officer = house.http(OFFICER)
    refused = officer.post(f"/api/v1/exports/{with_report}/release", json={})
    assert refused.status_code == 422 and "report 5" in refused.json()["detail"]
    assert officer.post(path(with_report, "/5/withdraw")).status_code == 201
    deid = folder(house, with_report)
    assert tables.read_table(deid / "reports.parquet", tables.REPORTS).num_rows == 0
    assert (deid / "dicom/P1/2.25.100/2.25.1.dcm").exists()
    assert house.client().export(with_report).result["reports"]["fates"]["review"] == 9
    assert officer.post(f"/api/v1/exports/{with_report}/release", json={}).status_code == 201
