"""The pack of a real de-identification: whole, sealed where it must be, and judged until a leak is withdrawn."""

import base64
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from pipelines.contract import BadInput, Outcome, run_stage, write_atomic
from pipelines.deidentify.review import pack as pack_module
from pipelines.deidentify.review.marks import reading
from pipelines.deidentify.review.verdicts import (
    FILE,
    Review,
    Verdict,
    read_review,
    require_no_leak,
    signed_record,
    summary,
)
from pipelines.deidentify.review.withdraw import withdraw
from pipelines.deidentify.vault import unseal
from pipelines.keys import DerivationSecret, create_vault_key, load_vault_key
from pipelines.release import folder_digest, signed_bytes
from tests.dicoms import write_export

SIGNER = Ed25519PrivateKey.generate()


def sign(record: dict) -> dict:
    return record | {"signature": base64.b64encode(SIGNER.sign(signed_bytes(record))).decode()}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("review")
    write_export(folder / "export")
    DerivationSecret.create(folder / "secret.json")
    create_vault_key(folder / "vault.key")
    (folder / "release.pub").write_bytes(
        SIGNER.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    assert run_stage("deidentify", spec(folder), folder / "deid") is Outcome.DONE
    return folder


def spec(folder: Path) -> dict:
    keys = {"secret": str(folder / "secret.json"), "vault_key": str(folder / "vault.key")}
    return keys | {"export": str(folder / "export"), "workers": 1, "review": 3}


@pytest.fixture
def deid(made: Path, tmp_path: Path) -> Path:
    """A copy that a test may change, beside the key it is judged with."""
    shutil.copy(made / "release.pub", tmp_path)
    return Path(shutil.copytree(made / "deid", tmp_path / "deid"))


def read(deid: Path) -> Review:
    return read_review(deid, deid.parent / "release.pub")


def judge(deid: Path, *verdicts: Verdict) -> Review:
    review = read(deid)
    review = replace(review, verdicts=(*review.verdicts, *verdicts))
    write_atomic(deid / FILE, json.dumps(signed_record(deid, review, sign)))
    return read(deid)


def test_the_pack_holds_what_the_plan_says(made: Path) -> None:
    pack = json.loads((made / "deid" / "review" / "pack.json").read_text())
    assert (pack["images"], pack["random"], pack["risk"]) == (6, 3, 2)
    assert pack["reports"] == {"of": 6, "random": 3, "risk": 2, "aim": pack["aim"]}
    assert [i["what"] for i in pack["items"]] == ["instance"] * 5 + ["report"] * 5
    assert [i["drawn"] for i in pack["items"]] == (["random"] * 3 + ["risk"] * 2) * 2
    assert [i["number"] for i in pack["items"]] == list(range(1, 11))
    written = {r["instance"] for r in pq.read_table(made / "deid" / "manifest.parquet").to_pylist() if r["output"]}
    instances, reports = pack["items"][:5], pack["items"][5:]
    assert {i["instance"] for i in instances} <= written
    released = {r["accession"] for r in pq.read_table(made / "deid" / "reports.parquet").to_pylist()}
    assert {i["accession"] for i in reports} <= released and len({i["accession"] for i in reports}) == 5
    for item in instances:
        assert (made / "deid" / item["output"]).exists()
        assert item["shown"] == [0] and item["actions"]["changed"] > 0
        assert (made / "deid" / "preview" / f"{item['number']:04d}-0.png").exists()


def test_before_values_and_pictures_are_in_the_vault_alone(made: Path) -> None:
    sealed = unseal(made / "deid" / "vault" / "review" / "0001.vault", load_vault_key(made / "vault.key"))
    name = next(line for line in sealed["lines"] if line["path"] == "(0010,0010)")
    assert "^" in name["before"] and name["after"].startswith("P")
    assert base64.b64decode(sealed["frames"]["0"]).startswith(b"\x89PNG")
    assert sealed["source"] in {p.relative_to(made / "export").as_posix() for p in (made / "export").rglob("*")}
    plain = b"".join(p.read_bytes() for p in (made / "deid" / "review").iterdir())
    assert name["before"].split("^")[0].encode() not in plain


def test_a_report_is_sealed_before_and_after_with_its_marks(made: Path) -> None:
    key = load_vault_key(made / "vault.key")
    pack = json.loads((made / "deid" / "review" / "pack.json").read_text())
    released = {r["accession"]: r["text"] for r in pq.read_table(made / "deid" / "reports.parquet").to_pylist()}
    for item in pack["items"][5:]:
        sealed = unseal(made / "deid" / "vault" / "review" / f"{item['number']:04d}.vault", key)
        text, shown = sealed["text"], reading(sealed["text"])
        assert sealed["entry"] == item and text["after"] == released[item["accession"]]
        assert text["before"].startswith("PATIENT: ") and text["place"].startswith("line ")
        for side, cut in (("before", shown.before), ("after", shown.after)):
            assert "".join(piece for piece, _ in cut) == text[side]
        (name, new_name, mark), (number, new_number, _) = shown.rows
        assert (mark.kind, mark.recogniser, mark.score) == ("NAME", "known", 1.0)
        assert "," in name and number.isdigit() and name not in text["after"] and number not in text["after"]
        assert text["before"].replace(name, new_name).replace(number, new_number) == text["after"]
        assert item["finds"] == {"known": 2}
        plain = (made / "deid" / "review" / "pack.json").read_bytes() + (made / "deid" / "events.jsonl").read_bytes()
        assert name.split(",")[0].encode() not in plain and number.encode() not in plain


def test_a_pack_that_was_cut_off_is_finished_to_the_same_bytes(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, compared = [], pack_module._compared

    def fails(*arguments: object) -> list:
        calls.append(1)
        if len(calls) == 3:
            raise OSError(28, "full")
        return compared(*arguments)

    monkeypatch.setattr(pack_module, "_compared", fails)
    assert run_stage("deidentify", spec(made), tmp_path / "deid") is Outcome.RETRY
    assert not (tmp_path / "deid" / "review" / "pack.json").exists()
    assert run_stage("deidentify", spec(made), tmp_path / "deid") is Outcome.DONE
    assert len(calls) == 6  # two were kept, one was tried twice
    assert not (tmp_path / "deid" / "vault" / "tables").exists()
    for name in ("review/pack.json", "preview/0001-0.png", "preview/0005-0.png"):
        assert (tmp_path / "deid" / name).read_bytes() == (made / "deid" / name).read_bytes()


def test_the_bound_falls_with_each_clean_random_instance_and_rises_with_doubt(deid: Path) -> None:
    assert read(deid).tally().bound == 1.0
    bounds = [judge(deid, Verdict(n, "clean")).tally().bound for n in (1, 2, 3)]
    assert bounds == sorted(bounds, reverse=True) and bounds[-1] == pytest.approx(1 - 0.05 ** (1 / 3))
    assert judge(deid, Verdict(4, "clean")).tally().bound == bounds[-1]  # chosen by risk: says nothing of the rest
    doubtful = judge(deid, Verdict(3, "unsure")).tally()
    assert doubtful.bound > bounds[1] and (doubtful.reviewed, doubtful.unsure) == (4, 1)
    assert read(deid).next_open() == 5


def test_a_confirmed_leak_stops_the_release_until_it_is_withdrawn(deid: Path) -> None:
    before = folder_digest(deid)
    review = judge(deid, Verdict(1, "clean"), Verdict(2, "leak", "name"))
    with pytest.raises(BadInput, match="instance 2"):
        require_no_leak(review)
    item = review.item(2)
    accession = next(r for r in rows(deid, "manifest") if r["instance"] == item["instance"])["accession"]
    for _ in range(2):  # one that was cut off is done again
        result = withdraw(deid, [item])
    write_atomic(deid / FILE, json.dumps(signed_record(deid, replace(review, withdrawn=frozenset({2})), sign)))
    require_no_leak(read(deid))
    assert read(deid).tally().leaks == 1 == summary(deid, read(deid))["leaks"]
    assert result["digest"] == folder_digest(deid) != before
    assert not (deid / item["output"]).exists() and not (deid / "preview" / "0002-0.png").exists()
    states = {r["reason"]: r for r in rows(deid, "manifest") if r["state"] == "quarantined"}
    assert states["review"]["instance"] is None and states["review"]["source_id"]
    assert (result["counts"]["images_written"], result["counts"]["quarantined"]["review"]) == (5, 1)
    assert result["counts"]["files"] == len(rows(deid, "manifest"))
    assert (deid / "quarantine.csv").read_text().count(",review,") == 1
    assert accession not in {r["accession"] for name in ("reports", "labels", "masks") for r in rows(deid, name)}
    assert result["counts"]["reports"] == len(rows(deid, "reports")) == 5
    assert {r["patient"] for r in rows(deid, "patients")} == {
        r["patient"] for r in rows(deid, "manifest") if r["state"] == "written"
    }


def test_a_report_that_leaks_is_withdrawn_alone(deid: Path) -> None:
    review = judge(deid, Verdict(6, "leak", "name"))
    with pytest.raises(BadInput, match="report 6"):
        require_no_leak(review)
    assert (review.tally().bound, review.tally().reports_random_reviewed) == (1.0, 1)
    item = review.item(6)
    for _ in range(2):
        result = withdraw(deid, [item])
    assert item["accession"] not in {r["accession"] for r in rows(deid, "reports")}
    assert item["accession"] in {r["accession"] for r in rows(deid, "manifest")}  # its images stay
    assert (result["counts"]["reports"], result["counts"]["quarantined"]["review"]) == (5, 1)
    assert result["counts"]["images_written"] == 6 and result["digest"] == folder_digest(deid)
    fates = result["reports"]["fates"]
    assert (fates["written"], fates["review"]) == (5, 1) and sum(fates.values()) == result["reports"]["read"]
    assert f"{item['source_id']},review,the report of {item['accession']}" in (deid / "quarantine.csv").read_text()


def rows(deid: Path, name: str) -> list[dict]:
    return pq.read_table(deid / f"{name}.parquet").to_pylist()


def test_forged_verdicts_and_those_of_another_pack_are_refused(deid: Path) -> None:
    judge(deid, Verdict(2, "leak", "name"))
    record = json.loads((deid / FILE).read_text())
    record["verdicts"][0] |= {"verdict": "clean", "leak": ""}
    (deid / FILE).write_text(json.dumps(record))
    with pytest.raises(BadInput, match="not signed"):
        read(deid)
    (deid / FILE).write_text(json.dumps(sign({**record, "pack": "0" * 64})))
    with pytest.raises(BadInput, match="another review pack"):
        read(deid)
    (deid / "review" / "pack.json").unlink()
    with pytest.raises(BadInput, match="no review pack"):
        read(deid)


@pytest.mark.parametrize(("verdict", "leak"), [("clean", "name"), ("leak", ""), ("leak", "nose"), ("fine", "")])
def test_a_verdict_that_means_nothing_is_refused(verdict: str, leak: str) -> None:
    with pytest.raises(BadInput):
        Verdict(1, verdict, leak)


def test_a_pack_that_points_outside_the_folder_deletes_nothing(deid: Path) -> None:
    outside = deid.parent / "precious"
    outside.write_text("x")
    with pytest.raises(BadInput, match="outside"):
        withdraw(deid, [read(deid).item(1) | {"output": "../precious"}])
    assert outside.exists()
