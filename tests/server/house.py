"""A control plane with users of every role, and what stands in for the stages: their finished folders."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from pipelines import tables
from pipelines.deidentify.vault import seal
from pipelines.keys import load_vault_key
from pipelines.release import folder_digest
from server.access import COMMAND_LINE, Role
from server.app import create_app
from server.client import ApiError, Client
from server.jobs import finish
from server.services import people
from server.settings import Settings
from server.store.db import Database
from server.store.models import Audit, Export, Job, User

PASSWORD = "a long enough password"


class House:
    """Everything below `folder`: data root, export root `pacs`, weights root `weights`."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.folder = folder
        for name in ("pacs", "weights"):
            (folder / name).mkdir()
        values: dict[str, Any] = {
            "data": folder / "data",
            "export_roots": [folder / "pacs"],
            "weights_roots": [folder / "weights"],
        }
        self.settings = Settings(**(values | settings))
        self.app: FastAPI = create_app(self.settings)
        self.db: Database = self.app.state.database
        self._tokens: dict[tuple[str, ...], str] = {}

    def close(self) -> None:
        self.db.engine.dispose()

    def token(self, *roles: Role) -> str:
        """A token of a service account with these roles."""
        key = tuple(sorted(roles))
        if key not in self._tokens:
            with self.db.session() as session:
                name = "service " + " ".join(key)
                user = people.create_user(session, COMMAND_LINE, name=name, roles=list(key))
                self._tokens[key] = people.create_token(session, COMMAND_LINE, name="t", roles=list(key), user=user)[1]
        return self._tokens[key]

    def http(self, *roles: Role) -> TestClient:
        """A client by token; anonymous without roles."""
        headers = {"Authorization": f"Bearer {self.token(*roles)}"} if roles else {}
        return TestClient(self.app, base_url=self.settings.url, headers=headers, raise_server_exceptions=False)

    def client(self, *roles: Role) -> Client:
        """The typed client by token; all roles when none is named."""
        return Client(self.settings.url, http=self.http(*(roles or tuple(Role))))

    def person(self, name: str = "ada", *roles: Role) -> User:
        """A user with PASSWORD."""
        with self.db.session() as session:
            roles_ = list(roles) or [Role.RESEARCHER]
            return people.create_user(session, COMMAND_LINE, name=name, roles=roles_, password=PASSWORD)

    def export_folder(self, name: str = "export") -> Path:
        folder = self.folder / "pacs" / name
        folder.mkdir()
        return folder

    def audit_rows(self) -> int:
        with self.db.reading() as session:
            return session.query(Audit).count()

    def job(self, id_: str) -> Job:
        with self.db.reading() as session:
            return session.get_one(Job, id_)

    def finish(self, job_id: str, result: dict[str, Any] | None = None, state: str = "succeeded") -> None:
        """What a worker does at the end of a job, by way of the same function."""
        with self.db.session() as session:
            job = session.get_one(Job, job_id)
            job.state = state
            if state == "succeeded":
                finish.apply(session, job, result or {}, self.settings.root)
            else:
                finish.fail(session, job)

    def deidentified(self, client: Client, name: str = "export", practice: bool = False, **given: Any) -> Export:
        """An export that waits for review."""
        sites = client.request("GET", "/sites")["items"]
        site = sites[0]["id"] if sites else client.create_site("Main").id
        given = {"purpose": "study", "approval": "EK-1"} | given
        export = client.register(site, self.export_folder(name), name, **given)
        job = client.deidentify(export.id)
        write_deidentified(self.settings.root / self.job(job.id).folder)
        self.finish(job.id, {"practice": practice, "counts": {"images_written": 2}})
        with self.db.reading() as session:
            return session.get_one(Export, export.id)

    def packed(self, client: Client, name: str = "export") -> Export:
        """An export that waits for review, with a review pack."""
        export = self.deidentified(client, name)
        folder = self.settings.root / str(export.folder)
        write_pack(folder, load_vault_key(self.settings.vault_key))
        with self.db.session() as session:
            row = session.get_one(Export, export.id)
            row.result = json.loads((folder / "result.json").read_text())
            return row

    def cohort(self, client: Client, *exports: str) -> str:
        """A cohort that is ready."""
        cohort = client.build("cohort", list(exports))
        self.finish(cohort.job or "", {"digest": "c" * 64, "practice": False})
        return cohort.id

    def run_models(self, client: Client, cohort: str) -> str:
        """A finished run with a model folder; returns its id."""
        run = client.pretrain("run", cohort, "mi2-tiny", budget=8, batch=4)
        for name in ("model", "start"):
            folder = self.settings.root / f"runs/{run.id}/{name}"
            folder.mkdir(parents=True)
            (folder / "card.json").write_text(json.dumps({"weights_sha256": "d" * 64}))
        self.finish(run.job or "", {"steps": 2})
        return run.id


def refused(status: int, call: Any, *args: Any, **kwargs: Any) -> str:
    """The problem that a call of the client is refused with."""
    with pytest.raises(ApiError) as caught:
        call(*args, **kwargs)
    assert caught.value.status == status, caught.value.problem
    return json.dumps(caught.value.problem)


def write_deidentified(folder: Path, policy: str = "p" * 64) -> None:
    """A finished de-identified folder, as far as the control plane reads one."""
    folder.mkdir(parents=True, exist_ok=True)
    blank = dict.fromkeys(tables.MANIFEST.names)
    rows = [blank | {"source_id": f"{n:032x}", "kind": "image", "state": "written", "policy": policy} for n in range(2)]
    rows.append(blank | {"source_id": "f" * 32, "kind": "image", "state": "quarantined", "reason": "unreadable"})
    tables.write_table(folder / "manifest.parquet", rows, tables.MANIFEST)
    tables.write_table(folder / "patients.parquet", [], tables.PATIENTS)
    (folder / "quarantine.csv").write_text(
        "source_id,reason,detail\n" + "f" * 32 + ",unreadable,not a DICOM file\n" + "e" * 32 + ",conflict,\n"
    )


def write_pack(folder: Path, vault_key: bytes, images: int = 4) -> None:
    """A de-identified folder of `images` instances with a review pack; the last one is there by risk."""
    write_deidentified(folder)
    blank = dict.fromkeys(tables.MANIFEST.names)
    rows, items = [], []
    for n in range(1, images + 1):
        who = {"patient": f"P{n}", "accession": f"A{n}", "study": f"2.25.{n}00", "instance": f"2.25.{n}"}
        output = f"dicom/P{n}/2.25.{n}00/2.25.{n}.dcm"
        (folder / output).parent.mkdir(parents=True, exist_ok=True)
        (folder / output).write_bytes(b"dicom")
        state = {"source_id": f"{n:032x}", "kind": "image", "state": "written", "policy": "p" * 64, "boxes": 1}
        rows.append(blank | state | who | {"output": output})
        item = {"number": n, "drawn": "random" if n < images else "risk", "score": 3, "factors": ["text_blanked"]}
        item |= {"instance": f"2.25.{n}", "patient": f"P{n}", "output": output, "sop_class": "1.2", "actions": {}}
        items.append(item | {"frames": 1, "compared": 1, "boxes": [[0, 1, 2, 3, 4]], "shown": [0]})
        line = {"path": "(0010,0010)", "name": "Patient's Name", "before": BEFORE, "action": "changed"}
        lines = [line | {"after": f"P{n}", "rule": "Table E.1-1"}]
        value = {"entry": items[-1], "source": "x", "lines": lines, "frames": {"0": PNG}}
        seal(folder / "vault" / "review" / f"{n:04d}.vault", value, vault_key)
        (folder / "preview").mkdir(exist_ok=True)
        (folder / "preview" / f"{n:04d}-0.png").write_bytes(base64.b64decode(PNG))
    tables.write_table(folder / "manifest.parquet", rows, tables.MANIFEST)
    patients = [{"patient": f"P{n}", "split": "train", "order": 0.5} for n in range(1, images + 1)]
    tables.write_table(folder / "patients.parquet", patients, tables.PATIENTS)
    for name, schema in (("reports", tables.REPORTS), ("labels", tables.LABELS), ("masks", tables.MASKS)):
        tables.write_table(folder / f"{name}.parquet", [], schema)
    pack = {"images": images, "random": images - 1, "risk": 1, "aim": 0.6, "policy": "p" * 64, "items": items}
    (folder / "review").mkdir(exist_ok=True)
    (folder / "review" / "pack.json").write_text(json.dumps(pack))
    counts = {"images_written": images, "quarantined": {}, "reports": 0, "patients": images, "boxes": images}
    result = {"counts": counts, "digest": folder_digest(folder), "policy": "p" * 64, "practice": False}
    (folder / "result.json").write_text(json.dumps(result))


BEFORE = "Abernathy^Quill"
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="  # one black pixel
