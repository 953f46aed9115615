"""What a privacy officer and an administrator do at the command line with keys: each asks for a reason and is noted."""

import csv
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipelines.contract import BadInput
from pipelines.deidentify.vault import CROSSWALK, SOURCES, seal, unseal
from pipelines.keys import DerivationSecret, create_vault_key, load_vault_key
from pipelines.release import require_release
from server.access import Role
from server.cli import command_line
from server.store.models import Job
from tests.server.house import BEFORE, House, write_pack

ORIGINAL = {"id": "MRN7700123", "issuer": "ACME", "names": [BEFORE], "shift_days": -21}


@pytest.fixture
def keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The key folder of the command line, with a secret, its vault key and no control plane."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "config" / "intramural"
    DerivationSecret.create(folder / "derivation.key", "main")
    create_vault_key(folder / "derivation.key.vault")
    return folder


@pytest.fixture
def deid(tmp_path: Path, keys: Path) -> Path:
    folder = tmp_path / "deid"
    fill(folder, load_vault_key(keys / "derivation.key.vault"))
    return folder


def fill(folder: Path, key: bytes) -> None:
    write_pack(folder, key)
    result = json.loads((folder / "result.json").read_text())
    result["counts"] |= {"files": 6, "duplicates": 0}
    (folder / "result.json").write_text(json.dumps(result))
    seal(folder / "vault" / SOURCES / "part-00000.vault", {"f" * 32: f"{BEFORE}/IM1", "e" * 32: "x/y"}, key)
    for part, uids in enumerate(({"2.25.1": "1.2.3"}, {"2.25.2": "1.2.4"})):
        patient = ORIGINAL | {"names": [BEFORE, "Abernathy^Q"][part : part + 1]}
        value = {"patients": {"PQ": patient}, "accessions": {"AQ": "ACC9"}, "uids": uids}
        seal(folder / "vault" / CROSSWALK / f"part-{part:05d}.vault", value, key)


def intramural(*arguments: object):
    """(standard output, the sentence of a refusal or None)"""
    done = CliRunner().invoke(command_line(), [str(a) for a in arguments])
    if done.exception and not isinstance(done.exception, BadInput | SystemExit):
        raise done.exception
    refusal = done.exception if isinstance(done.exception, BadInput) else None
    return done.stdout, str(refusal) if refusal else None


def noted(keys: Path) -> list[dict]:
    path = keys / "audit.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_reidentify_resolves_each_kind_and_notes_who_asked_why(deid: Path, keys: Path) -> None:
    said, refusal = intramural("reidentify", deid, "PQ", "AQ", "2.25.2", "--reason", "Incidental finding")
    assert refusal is None
    patient, accession, uid = map(json.loads, said.splitlines())
    assert patient == {"pseudonym": "PQ", "kind": "patient", **ORIGINAL, "names": sorted([BEFORE, "Abernathy^Q"])}
    assert (accession["original"], uid["original"]) == ("ACC9", "1.2.4")
    (line,) = noted(keys)
    assert (line["action"], line["reason"]) == ("vault:reidentify", "Incidental finding")
    assert line["pseudonyms"] == ["PQ", "AQ", "2.25.2"] and line["who"]
    assert BEFORE not in json.dumps(line) and "MRN" not in json.dumps(line)
    assert (keys / "audit.jsonl").stat().st_mode & 0o777 == 0o600


def test_an_unknown_pseudonym_is_told_after_the_known_ones(deid: Path) -> None:
    said, refusal = intramural("reidentify", deid, "2.25.1", "PNONE", "--reason", "x")
    assert json.loads(said)["original"] == "1.2.3"
    assert refusal == "PNONE is not in the crosswalk of deid; check pseudonym and folder."


@pytest.mark.parametrize(
    "command",
    [("reidentify", "DEID", "PQ"), ("quarantine", "list", "DEID"), ("review", "DEID", "--export", "open")],
)
def test_without_a_reason_or_the_key_nothing_opens_and_nothing_is_noted(
    deid: Path, keys: Path, command: tuple[str, ...]
) -> None:
    line = [deid if word == "DEID" else word for word in command]
    said, refusal = intramural(*line, "--reason", "  ")
    assert refusal == "Give a reason: it is recorded with your name." and not said
    (keys / "derivation.key.vault").rename(keys / "kept")
    said, refusal = intramural(*line, "--reason", "why")
    assert "is not there" in str(refusal) and not said
    create_vault_key(keys / "derivation.key.vault")  # another one
    said, refusal = intramural(*line, "--reason", "why")
    assert "another vault key" in str(refusal) and not said
    (keys / "derivation.key.vault").chmod(0o644)
    assert "chmod 600" in str(intramural(*line, "--reason", "why")[1])
    assert noted(keys) == [] and not Path("open").exists()
    assert sorted(p.name for p in keys.iterdir()) == ["derivation.key", "derivation.key.vault", "kept"]


def test_the_quarantine_is_listed_with_real_paths(deid: Path, keys: Path) -> None:
    said, _ = intramural("quarantine", "list", deid, "--reason", "PACS team", "--secret", keys / "derivation.key")
    assert f"{BEFORE}/IM1\tunreadable" in said
    assert [n["action"] for n in noted(keys)] == ["quarantine:resolve"]


def test_a_review_without_a_server(deid: Path, keys: Path, tmp_path: Path) -> None:
    """Exported, filled in, signed; a leak stops the release until it is withdrawn."""
    assert intramural("review", deid, "--export", tmp_path / "open", "--reason", "Review")[1] is None
    page = (tmp_path / "open" / "index.html").read_text()
    assert BEFORE in page and "0004-0-before.png" in page
    modes = {p.stat().st_mode & 0o777 for p in (tmp_path / "open").iterdir()}
    assert modes == {0o600} and (tmp_path / "open").stat().st_mode & 0o777 == 0o700
    form = tmp_path / "open" / "verdicts.csv"
    rows = list(csv.DictReader(form.open()))
    assert [r["number"] for r in rows] == ["1", "2", "3", "4"]
    form.write_text("number,verdict,leak,comment\n1,Clean,,\n2,leak,name,corner\n3,,,\n")
    assert intramural("review", deid, "--verdicts", form, "--reviewer", "A. Officer")[1] is None
    signature = ("--release", "--reviewer", "A. Officer", "--purpose", "p", "--approval", "1")
    assert "instance 2" in str(intramural("review", deid, *signature)[1])
    assert not (deid / "release.json").exists()
    assert intramural("review", deid, "--withdraw", 2, *signature)[1] is None
    release = require_release(deid, keys / "release.pub")
    assert {k: release["review"][k] for k in ("reviewed", "of", "leaks", "withdrawn")} == {
        "reviewed": 2, "of": 4, "leaks": 1, "withdrawn": 1,
    }  # fmt: skip
    acts = ["review:export", "review:verdict", "review:withdraw", "export:release"]
    assert [n["action"] for n in noted(keys)] == acts


def test_a_wrong_form_is_one_sentence_and_signs_nothing(deid: Path, tmp_path: Path) -> None:
    for text, told in (("9,clean,,", "this review has not"), ("1,leak,,", "needs its kind"), ("1,good,,", "is none")):
        (tmp_path / "v.csv").write_text("number,verdict,leak,comment\n" + text + "\n")
        assert told in str(intramural("review", deid, "--verdicts", tmp_path / "v.csv")[1])
    assert "cannot be read" in str(intramural("review", deid, "--verdicts", tmp_path / "no.csv")[1])
    assert "no verdict of a leak" in str(intramural("review", deid, "--withdraw", 1)[1])
    assert "lie in the clear" in str(intramural("review", deid, "--export", deid / "open", "--reason", "x")[1])
    assert "exists already" in str(intramural("review", deid, "--export", tmp_path, "--reason", "x")[1])
    assert not (deid / "verdicts.json").exists() and not (deid / "open").exists()


def test_rewrap_leaves_nothing_to_the_old_key(deid: Path, keys: Path) -> None:
    old, new = keys / "derivation.key.vault", keys / "new.vault"
    assert intramural("vault", "rewrap", deid, "--old", old, "--new", new, "--reason", "Rotation")[1] is None
    files = sorted((deid / "vault").rglob("*.vault"))
    assert {p.parent.name for p in files} == {"sources", "crosswalk", "review"} and len(files) == 7
    for path in files:
        assert unseal(path, load_vault_key(new))
        with pytest.raises(BadInput):
            unseal(path, load_vault_key(old))
    assert intramural("vault", "rewrap", deid, "--old", old, "--new", new, "--reason", "again")[1] is None
    assert "no vault" in str(intramural("vault", "rewrap", keys, "--old", old, "--new", new, "--reason", "x")[1])
    assert "Nothing" in str(intramural("vault", "rewrap", "--old", old, "--new", new, "--reason", "x")[1])
    assert [n["action"] for n in noted(keys)] == ["vault:rewrap"] * 2


def test_a_new_epoch_shares_no_pseudonym_with_the_old(keys: Path) -> None:
    path = keys / "derivation.key"
    old = DerivationSecret.load(path)
    assert intramural("secret", "new-epoch", "--reason", "Laptop stolen")[1] is None
    new, kept = DerivationSecret.load(path), DerivationSecret.load(keys / "derivation.key.epoch-1")
    assert (new.site, new.epoch, kept) == (old.site, 2, old)
    assert new.fingerprint != old.fingerprint and new.patient("", "7") != old.patient("", "7")
    assert path.stat().st_mode & 0o777 == 0o600
    assert [n["reason"] for n in noted(keys)] == ["Laptop stolen"]


# ---- folders of a control plane --------------------------------------------------------------------------------


def test_a_control_plane_s_folder_is_noted_in_its_audit_log(house: House, keys: Path, monkeypatch) -> None:
    export = house.packed(house.client())
    folder = house.settings.root / str(export.folder)
    fill(folder, load_vault_key(house.settings.vault_key))
    monkeypatch.setenv("INTRAMURAL_DATA", str(house.settings.root))
    assert intramural("reidentify", folder, "PQ", "--reason", "Finding")[1] is None
    rows = house.http(Role.AUDITOR).get("/api/v1/audit").json()["items"]
    (last,) = (r for r in rows if r["action"] == "vault:reidentify")
    assert last["subject"] == f"folder:{export.folder}"
    assert last["detail"]["reason"] == "Finding" and last["actor"].startswith("command line: ")
    assert intramural("audit", "verify")[1] is None
    assert noted(keys) == []
    refused = intramural("review", folder, "--release", "--reviewer", "x", "--purpose", "p", "--approval", "1")[1]
    assert "review and release it there" in str(refused) and not (folder / "release.json").exists()


def test_the_vaults_of_a_data_root_are_rewrapped_when_no_job_is_at_work(house: House, keys: Path, monkeypatch) -> None:
    client = house.client()
    export = house.packed(client)
    monkeypatch.setenv("INTRAMURAL_DATA", str(house.settings.root))
    line = ("vault", "rewrap", "--data", house.settings.root, "--old", house.settings.vault_key, "--new", keys / "n")
    other = client.register(client.request("GET", "/sites")["items"][0]["id"], house.export_folder("b"), "b")
    job = client.deidentify(other.id)
    with house.db.session() as session:
        session.get_one(Job, job.id).state = "running"
    assert "at work" in str(intramural(*line, "--reason", "Rotation")[1]) and not (keys / "n").exists()
    house.finish(job.id, state="failed")
    assert intramural(*line, "--reason", "Rotation")[1] is None
    sealed = house.settings.root / str(export.folder) / "vault" / "review" / "0001.vault"
    assert unseal(sealed, load_vault_key(keys / "n"))
    house.settings.vault_key.write_text((keys / "n").read_text())
    look = house.http(Role.PRIVACY_OFFICER).get(f"/api/v1/exports/{export.id}/sample/1")
    assert look.json()["lines"][0]["before"] == BEFORE


def test_a_site_begins_a_new_epoch(house: House, monkeypatch) -> None:
    site = house.client().create_site("Main")
    monkeypatch.setenv("INTRAMURAL_DATA", str(house.settings.root))
    assert "no site named" in str(intramural("secret", "new-epoch", "--site", "Mine", "--reason", "x")[1])
    assert intramural("secret", "new-epoch", "--site", "Main", "--reason", "Exposed")[1] is None
    assert house.client().request("GET", f"/sites/{site.id}")["epoch"] == 2
    first, second = (DerivationSecret.load(house.settings.derivation_secret(site.id, n)) for n in (1, 2))
    assert (first.site, first.epoch, second.epoch) == (second.site, 1, 2) and first.fingerprint != second.fingerprint
    last = house.http(Role.AUDITOR).get("/api/v1/audit").json()["items"]
    assert any(r["action"] == "site:new_epoch" and r["detail"]["reason"] == "Exposed" for r in last)
