"""The main job through the API, with the stages' folders written by the test; every write leaves an audit row."""

import json
import stat
from pathlib import Path

import httpx
import pytest
from fastapi.routing import iter_route_contexts

from pipelines.build.spec import Spec as BuildSpec
from pipelines.contract import BadInput
from pipelines.deidentify.spec import Spec as DeidentifySpec
from pipelines.evaluate.spec import Spec as EvaluateSpec
from pipelines.keys import DerivationSecret, load_vault_key
from pipelines.pretrain.spec import Spec as PretrainSpec
from pipelines.release import require_release
from server.access import Role
from server.app import prepare
from server.client import ApiError, Client
from server.settings import Settings
from tests.server.house import PASSWORD, House, write_deidentified, write_pack

A, P, R = Role.ADMIN, Role.PRIVACY_OFFICER, Role.RESEARCHER


def refused(status: int, call, *args, **kwargs) -> str:
    with pytest.raises(ApiError) as caught:
        call(*args, **kwargs)
    assert caught.value.status == status, caught.value.problem
    return str(caught.value)


def test_from_registration_to_evaluation(house: House):
    admin, officer, researcher = house.client(A), house.client(P), house.client(R)
    site = admin.create_site("Main", issuer="HOSP")
    folder = house.export_folder()
    export = admin.register(site.id, folder, "spring")
    job = admin.deidentify(export.id, workers=2)
    assert (job.stage, job.state, job.resource_id) == ("deidentify", "queued", export.id)

    row = house.job(job.id)
    spec = DeidentifySpec.model_validate(row.spec)
    assert (spec.export, spec.issuer, spec.workers, spec.policy) == (folder, "HOSP", 2, "longitudinal-research")
    assert DerivationSecret.load(spec.secret).site == site.id
    assert row.folder == f"deid/{export.id}"
    refused(409, admin.deidentify, export.id)

    house.finish(job.id, state="failed")
    again = admin.deidentify(export.id, workers=2)
    assert house.job(again.id).folder == row.folder, "the same spec goes on in the same folder"
    write_deidentified(house.settings.root / row.folder)
    house.finish(again.id, {"practice": False, "counts": {}})

    assert officer.export(export.id).state == "waiting"
    assert officer.quarantine(export.id).counts == {"conflict": 1, "unreadable": 1}
    assert "released" in refused(409, researcher.build, "c", [export.id])
    assert "purpose" in refused(409, officer.release, export.id)
    officer.request("PATCH", f"/exports/{export.id}", {"purpose": "encoder"})
    assert "approval" in refused(409, officer.release, export.id)
    officer.request("PATCH", f"/exports/{export.id}", {"approval": "EK 12/26"})
    assert "reviewed" in refused(409, officer.request, "POST", f"/exports/{export.id}/release", {"digest": "0" * 64})
    review = officer.release(export.id, "looked at 40")
    release = require_release(house.settings.root / row.folder, house.settings.release_public_key)
    assert release["digest"] == review.digest
    assert (release["policy"], release["export"], release["verdict"]) == ("p" * 64, export.id, "released")

    cohort = researcher.build("cohort", [export.id], side=64)
    built = BuildSpec.model_validate(house.job(cohort.job).spec)
    assert built.deid == (house.settings.root / row.folder,)
    assert (built.side, built.release_key) == (64, house.settings.release_public_key)
    assert "ready" in refused(409, researcher.pretrain, "r", cohort.id, "mi2-tiny", budget=8, batch=4)
    house.finish(cohort.job, {"digest": "c" * 64, "practice": False})

    run = researcher.pretrain("run", cohort.id, "mi2-tiny", budget=8, batch=4, processes=2)
    assert PretrainSpec.model_validate(house.job(run.job).spec).cohort == house.settings.root / f"cohorts/{cohort.id}"
    assert house.job(run.job).processes == 2
    (house.settings.root / f"runs/{run.id}/model").mkdir(parents=True)
    (house.settings.root / f"runs/{run.id}/model/card.json").write_text(json.dumps({"weights_sha256": "d" * 64}))
    house.finish(run.job, {"steps": 2})
    (model,) = researcher.models(run=run.id)
    assert (model.kind, model.encoder, model.state) == ("run", "mi2-tiny", "ready")

    evaluation = researcher.evaluate("eval", cohort.id, [model.id])
    assert EvaluateSpec.model_validate(house.job(evaluation.job).spec).models == (
        house.settings.root / f"runs/{run.id}/model",
    )
    house.finish(evaluation.job, {"answer": "no difference"})
    assert researcher.evaluation(evaluation.id).result == {"answer": "no difference"}
    assert house.client(Role.AUDITOR).verify_audit().ok


def test_send_back_takes_a_release_back_and_the_next_round_begins_anew(house: House):
    client = house.client()
    export = house.deidentified(client)
    folder = house.settings.root / export.folder
    client.release(export.id)
    client.send_back(export.id, "a name in the pixels")
    with pytest.raises(BadInput, match="sent back"):
        require_release(folder, house.settings.release_public_key)
    refused(409, client.build, "c", [export.id])
    job = client.deidentify(export.id, policy="basic")
    assert house.job(job.id).folder == f"deid/{export.id}-2"
    assert client.export(export.id).policy == "basic"
    assert [r["verdict"] for r in client.request("GET", f"/exports/{export.id}/reviews")] == ["sent_back", "released"]


def test_a_release_lost_between_commit_and_file_is_written_again(house: House):
    client = house.client()
    export = house.deidentified(client)
    client.release(export.id)
    path = house.settings.root / export.folder / "release.json"
    text = path.read_text()
    path.unlink()
    client.build("c", [export.id])
    assert path.read_text() == text


def test_a_release_that_cannot_be_written_still_counts_once(house: House):
    client = house.client()
    export = house.deidentified(client)
    path = house.settings.root / export.folder / "release.json"
    path.mkdir()  # the rename onto it fails
    client.release(export.id)
    assert client.export(export.id).state == "released"
    path.rmdir()
    client.build("c", [export.id])
    require_release(path.parent, house.settings.release_public_key)


def test_practice_and_real_data_do_not_mix(house: House):
    client = house.client()
    exports = [house.deidentified(client, "real"), house.deidentified(client, "practice", practice=True)]
    for export in exports:
        client.release(export.id)
    assert "mix" in refused(409, client.build, "c", [e.id for e in exports])
    assert client.build("c", [exports[1].id]).practice


def test_files_are_registered_only_below_the_roots(house: House, tmp_path: Path):
    client = house.client()
    site = client.create_site("Main").id
    outside = tmp_path / "outside"
    outside.mkdir()
    (house.folder / "pacs" / "link").symlink_to(outside)
    for path in (outside, house.folder / "pacs" / "link", house.folder / "pacs" / ".." / "outside", "pacs", "/none"):
        assert "roots" in refused(422, client.register, site, path, "x")
    folder = house.export_folder()
    (tmp_path / "opt.csv").write_text("1\n")
    refused(422, client.register, site, folder, "x", opt_out=tmp_path / "opt.csv")
    refused(422, client.register, site, folder, "x", aliases=tmp_path / "aliases.csv")
    refused(422, client.register, site, folder, "x", retain_until="2001-01-01")
    refused(422, client.register, site, folder, "x", policy="../basic")
    refused(404, client.register, "0" * 12, folder, "x")
    client.register(site, folder, "x")
    assert "already" in refused(409, client.register, site, folder, "y")
    refused(422, client.import_weights, "w", outside, "rad-dino")
    (house.folder / "weights" / "rd").mkdir()
    model = client.import_weights("w", house.folder / "weights" / "rd", "rad-dino")
    assert house.job(model.job).folder == f"models/{model.id}"
    assert "source" not in model.spec


def test_what_a_researcher_sees_of_an_export_names_no_folder(house: House):
    export = house.deidentified(house.client())
    assert house.client(R).export(export.id).path is None
    assert house.client(P).export(export.id).path == export.path


def test_runs_are_checked_before_they_are_queued(house: House):
    client = house.client()
    export = house.deidentified(client)
    client.release(export.id)
    cohort = house.cohort(client, export.id)
    run = house.run_models(client, cohort)
    model = client.models(run=run, kind="run")[0].id
    assert "open weights" in refused(422, client.pretrain, "r", cohort, "rad-dino", budget=8, batch=4)
    assert "mi2-tiny" in refused(409, client.pretrain, "r", cohort, "rad-dino-tiny", budget=8, batch=4, start=model)
    refused(422, client.pretrain, "r", cohort, "mi2-tiny", budget=8, batch=4, gpus=2, processes=3)
    refused(422, client.evaluate, "e", cohort, [model], processes=2)
    refused(422, client.evaluate, "e", cohort, [model, model])
    refused(404, client.evaluate, "e", cohort, ["0" * 12])


def test_jobs_are_canceled_and_resumed_by_who_may_make_the_resource(house: House):
    admin, researcher = house.client(A), house.client(R)
    site = admin.create_site("Main").id
    export = admin.register(site, house.export_folder(), "x")
    job = admin.deidentify(export.id)
    refused(403, researcher.cancel, job.id)
    assert admin.cancel(job.id).state == "canceled"
    assert admin.resume(job.id).state == "queued"
    refused(409, admin.resume, job.id)
    assert "at work" in refused(409, admin.deidentify, export.id)


def test_every_write_leaves_an_audit_row(house: House):
    """Drives every state-changing route once and looks at the log around each call."""
    link = house.settings.setup_secret.read_text().strip()
    calls: list[tuple[str, str]] = []
    http = house.http()
    http.headers["Origin"] = house.settings.url

    def call(
        method: str, path: str, body: object = None, status: int = 201, route: str | None = None
    ) -> httpx.Response:
        before = house.audit_rows()
        response = http.request(method, path, json=body)
        assert response.status_code == status, response.text
        assert house.audit_rows() > before, path
        calls.append((method, route or path))
        return response

    v1 = "/api/v1"
    call("POST", f"{v1}/setup", {"secret": link, "name": "ada", "password": PASSWORD})
    call("POST", f"{v1}/session", {"name": "ada", "password": PASSWORD})
    user = call("POST", f"{v1}/users", {"name": "all", "roles": list(Role)}).json()["id"]
    call("PATCH", f"{v1}/users/{user}", {"active": True}, 200, f"{v1}/users/{{user_id}}")
    body = {"name": "t", "roles": list(Role), "user": user}
    token = call("POST", f"{v1}/tokens", body).json()
    call("PUT", f"{v1}/me/password", {"old": PASSWORD, "new": PASSWORD + "!"}, 204)
    call(
        "DELETE",
        f"{v1}/tokens/{call('POST', f'{v1}/tokens', body).json()['id']}",
        None,
        204,
        f"{v1}/tokens/{{token_id}}",
    )
    call("DELETE", f"{v1}/session", None, 204)
    http.headers["Authorization"] = f"Bearer {token['token']}"

    client = Client(house.settings.url, token["token"], http=http)
    site = call("POST", f"{v1}/sites", {"name": "Main"}).json()["id"]
    body = {"site": site, "path": str(house.export_folder()), "name": "x", "purpose": "p", "approval": "1"}
    export = call("POST", f"{v1}/exports", body).json()["id"]
    one = f"{v1}/exports/{export}"
    any_ = f"{v1}/exports/{{export_id}}"
    call("PATCH", one, {"purpose": "q"}, 200, any_)
    job = call("POST", f"{one}/deidentify", {}, 202, f"{any_}/deidentify").json()["id"]
    call("POST", f"{v1}/jobs/{job}/cancel", None, 200, f"{v1}/jobs/{{job_id}}/cancel")
    call("POST", f"{v1}/jobs/{job}/resume", None, 200, f"{v1}/jobs/{{job_id}}/resume")
    write_pack(house.settings.root / house.job(job).folder, load_vault_key(house.settings.vault_key))
    house.finish(job, {})
    leak = {"verdict": "leak", "leak": "name"}
    call("POST", f"{one}/sample/1/verdict", leak, 201, f"{any_}/sample/{{number}}/verdict")
    call("POST", f"{one}/sample/1/withdraw", None, 201, f"{any_}/sample/{{number}}/withdraw")
    call("POST", f"{one}/release", {}, 201, f"{any_}/release")
    call("POST", f"{v1}/labels", {"name": "l", "deid": export}, 202)
    cohort = call("POST", f"{v1}/cohorts", {"name": "c", "deid": [export]}, 202).json()
    house.finish(cohort["job"], {"digest": "c" * 64, "counts": {"splits": {"train": {"images": 40}}}})
    body = {"name": "r", "cohort": cohort["id"], "encoder": "mi2-tiny", "budget": 8, "batch": 4}
    call("POST", f"{v1}/runs", body, 202)
    run = house.run_models(client, cohort["id"])
    model = client.models(run=run)[0].id
    body = {"name": "e", "cohort": cohort["id"], "models": [model]}
    evaluation = call("POST", f"{v1}/evaluations", body, 202).json()
    told = {"models": [{"name": "m", "weights_sha256": "d" * 64}], "tasks": {"findings": {"m": {}}}, "verdicts": []}
    house.finish(evaluation["job"], told | {"protocol": "full", "looks": 1})
    body = {"task": "findings", "model": model, "evaluation": evaluation["id"]}
    call("POST", f"{v1}/sites/{site}/champions", body, 201, f"{v1}/sites/{{site_id}}/champions")
    body = {"name": "m", "cohort": cohort["id"], "models": [model], "places": [{"image": 0, "x": 0.5, "y": 0.5}]}
    call("POST", f"{v1}/similarities", body, 202)
    body = {"name": "s", "cohort": cohort["id"], "encoders": ["mi2-tiny"], "sizes": [10], "everything": False}
    study = call("POST", f"{v1}/studies", body | {"seeds": [0, 1], "pretrain": {"budget": 8, "batch": 4}}, 202).json()
    of_study = f"{v1}/studies/{study['id']}"
    house.finish(study["runs"][0]["job"], {"steps": 2})
    for word, body, status in (
        ("judge", None, 202), ("extend", {"sizes": [20]}, 202), ("cancel", None, 200), ("resume", None, 202),
    ):  # fmt: skip
        call("POST", f"{of_study}/{word}", body, status, f"{v1}/studies/{{study_id}}/{word}")
    house.settings.external_roots.append(house.folder / "weights")
    (house.folder / "weights" / "set").mkdir()
    call("POST", f"{v1}/cohorts/external", {"name": "x", "path": str(house.folder / "weights/set")}, 202)
    (house.folder / "weights" / "rd").mkdir()
    call("POST", f"{v1}/models", {"name": "m", "source": str(house.folder / "weights/rd"), "family": "rad-dino"}, 202)
    call("POST", f"{one}/send-back", {"comment": "why"}, 201, f"{any_}/send-back")

    writes = {
        (method, r.path)
        for r in iter_route_contexts(house.app.routes)
        for method in (r.methods or set()) - {"GET", "HEAD"}
        if r.path.startswith(v1)
    }
    assert set(calls) == writes


def test_keys_of_the_first_start_are_private_and_kept(house: House):
    settings = house.settings
    files = [settings.signing_key, settings.release_public_key, settings.vault_key, settings.setup_secret]
    before = [f.read_bytes() for f in files]
    assert all(stat.S_IMODE(f.stat().st_mode) == 0o600 for f in files)
    assert stat.S_IMODE(settings.secrets_dir.stat().st_mode) == 0o700
    prepare(settings)
    assert [f.read_bytes() for f in files] == before


def test_a_data_root_that_cannot_be_written_is_one_sentence(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="INTRAMURAL_DATA"):
        prepare(Settings(data=tmp_path / "file" / "data"))
