"""A small typed client of the REST API, for IT scripts, the demo and the tests.

    with Client("http://127.0.0.1:8471", token="imu_...") as intramural:
        job = intramural.deidentify(export_id)
        intramural.wait(job.id, on_event=print)

Errors of the API are raised as `ApiError`, whose text is the one sentence of the problem.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self, TypeVar

import httpx
from pydantic import BaseModel

from server.api import schemas
from server.api.jobs import Events
from server.api.people import Verified

M = TypeVar("M", bound=BaseModel)
PREFIX = "/api/v1"
ENDED = ("succeeded", "failed", "canceled")


class ApiError(Exception):
    """The API answered with a problem."""

    def __init__(self, problem: dict[str, Any]) -> None:
        super().__init__(problem.get("detail", "The server answered with an error."))
        self.status: int = problem.get("status", 0)
        self.code: str = problem.get("code", "")
        self.problem = problem


class JobFailed(Exception):
    """A job that was waited for failed or was canceled; the text is its message."""

    def __init__(self, job: schemas.JobOut) -> None:
        super().__init__(f"{job.title}: {job.message}")
        self.job = job


class Client:
    """One connection to a control plane, by token or, after `sign_in`, by session."""

    def __init__(self, url: str, token: str | None = None, *, http: httpx.Client | None = None) -> None:
        self._http = http or httpx.Client(base_url=url, timeout=60, trust_env=False)
        # The Origin is what a browser would send with a write; without it a session cookie is refused.
        self._http.headers["Origin"] = url
        if token:
            self._http.headers["Authorization"] = f"Bearer {token}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def request(self, method: str, path: str, body: Any = None, **query: Any) -> Any:
        """The JSON answer of a call below /api/v1, or ApiError."""
        parameters = {k: v for k, v in query.items() if v is not None}
        response = self._http.request(method, PREFIX + path, json=body, params=parameters)
        if response.is_success:
            return response.json() if response.content else None
        try:
            problem = response.json()
        except ValueError:
            problem = {"status": response.status_code, "detail": f"The server answered {response.status_code}."}
        raise ApiError(problem)

    # people

    def setup(self, link: str, name: str, password: str) -> schemas.UserOut:
        """Create the first administrator with the set-up link (or its secret alone)."""
        body = {"secret": link.rsplit("/", 1)[-1], "name": name, "password": password}
        return self._call(schemas.UserOut, "POST", "/setup", body)

    def sign_in(self, name: str, password: str) -> schemas.UserOut:
        return self._call(schemas.UserOut, "POST", "/session", {"name": name, "password": password})

    def me(self) -> schemas.Me:
        return self._call(schemas.Me, "GET", "/me")

    def create_user(self, name: str, roles: list[str], password: str | None = None) -> schemas.UserOut:
        """A person, or without a password a service account."""
        return self._call(schemas.UserOut, "POST", "/users", {"name": name, "roles": roles, "password": password})

    def create_token(self, name: str, roles: list[str], user: str | None = None) -> str:
        """A bearer token, shown this once."""
        body = {"name": name, "roles": roles, "user": user}
        return self._call(schemas.NewTokenOut, "POST", "/tokens", body).token

    def verify_audit(self) -> Verified:
        return self._call(Verified, "GET", "/audit/verify")

    # data

    def create_site(self, name: str, issuer: str = "", policy: str | None = None) -> schemas.SiteOut:
        return self._call(schemas.SiteOut, "POST", "/sites", {"name": name, "issuer": issuer, "policy": policy})

    def register(
        self,
        site: str,
        path: Path | str,
        name: str,
        *,
        purpose: str = "",
        approval: str = "",
        retain_until: str | None = None,
        opt_out: Path | str | None = None,
        aliases: Path | str | None = None,
        report_columns: dict[str, str] | None = None,
        policy: str | None = None,
    ) -> schemas.ExportOut:
        """Register a PACS export. `retain_until` is an ISO date."""
        body = {
            "site": site,
            "path": str(path),
            "name": name,
            "purpose": purpose,
            "approval": approval,
            "retain_until": retain_until,
            "opt_out": str(opt_out) if opt_out else None,
            "aliases": str(aliases) if aliases else None,
            "report_columns": report_columns or {},
            "policy": policy,
        }
        return self._call(schemas.ExportOut, "POST", "/exports", body)

    def export(self, id_: str) -> schemas.ExportOut:
        return self._call(schemas.ExportOut, "GET", f"/exports/{id_}")

    def deidentify(self, export: str, **spec: Any) -> schemas.JobOut:
        """Queue the de-identification. `spec`: policy, workers."""
        return self._call(schemas.JobOut, "POST", f"/exports/{export}/deidentify", spec)

    def quarantine(self, export: str) -> schemas.QuarantineOut:
        return self._call(schemas.QuarantineOut, "GET", f"/exports/{export}/quarantine")

    def release(self, export: str, comment: str = "") -> schemas.ReviewOut:
        return self._call(schemas.ReviewOut, "POST", f"/exports/{export}/release", {"comment": comment})

    def send_back(self, export: str, comment: str) -> schemas.ReviewOut:
        return self._call(schemas.ReviewOut, "POST", f"/exports/{export}/send-back", {"comment": comment})

    def label(self, name: str, export: str, **spec: Any) -> schemas.LabelRunOut:
        """Queue labels of a released export. `spec`: sources, gpus, model (a folder below a weights root)."""
        return self._call(schemas.LabelRunOut, "POST", "/labels", {"name": name, "deid": export} | spec)

    def labels(self, id_: str) -> schemas.LabelRunOut:
        return self._call(schemas.LabelRunOut, "GET", f"/labels/{id_}")

    def build(self, name: str, exports: list[str], **spec: Any) -> schemas.CohortOut:
        """Queue a cohort; the answer's `job` is the one to wait for. `spec`: the build spec (side, views, ...)."""
        return self._call(schemas.CohortOut, "POST", "/cohorts", {"name": name, "deid": exports} | spec)

    def external_set(self, name: str, path: Path | str, public_set: str = "", **spec: Any) -> schemas.CohortOut:
        """Queue the cohort of a labelled folder below an external root. `spec`: layout, split, side."""
        body = {"name": name, "path": str(path), "public_set": public_set} | spec
        return self._call(schemas.CohortOut, "POST", "/cohorts/external", body)

    def cohort(self, id_: str) -> schemas.CohortOut:
        return self._call(schemas.CohortOut, "GET", f"/cohorts/{id_}")

    # models

    def import_weights(self, name: str, source: Path | str, family: str) -> schemas.ModelOut:
        body = {"name": name, "source": str(source), "family": family}
        return self._call(schemas.ModelOut, "POST", "/models", body)

    def pretrain(self, name: str, cohort: str, encoder: str, **spec: Any) -> schemas.RunOut:
        """Queue a run. `spec`: the pretrain spec (budget, batch, samples, start, ...), gpus and processes."""
        return self._call(schemas.RunOut, "POST", "/runs", {"name": name, "cohort": cohort, "encoder": encoder} | spec)

    def run(self, id_: str) -> schemas.RunOut:
        return self._call(schemas.RunOut, "GET", f"/runs/{id_}")

    def models(self, *, run: str | None = None, kind: str | None = None) -> list[schemas.ModelOut]:
        """Models newest first; `run` gives those that a run made, `kind` is run, untrained or open-weight."""
        return list(self._pages(schemas.ModelOut, "/models", run=run, kind=kind))

    def model(self, id_: str) -> schemas.ModelOut:
        return self._call(schemas.ModelOut, "GET", f"/models/{id_}")

    def evaluate(self, name: str, cohort: str, models: list[str], **spec: Any) -> schemas.EvaluationOut:
        """Queue an evaluation. `spec`: the evaluate spec (baselines, tasks, seeds, ...)."""
        body = {"name": name, "cohort": cohort, "models": models} | spec
        return self._call(schemas.EvaluationOut, "POST", "/evaluations", body)

    def evaluation(self, id_: str) -> schemas.EvaluationOut:
        return self._call(schemas.EvaluationOut, "GET", f"/evaluations/{id_}")

    def map_similarity(self, name: str, cohort: str, models: list[str], **spec: Any) -> schemas.SimilarityOut:
        """Queue similarity maps. `spec`: places (image, x, y), device, gpus."""
        body = {"name": name, "cohort": cohort, "models": models} | spec
        return self._call(schemas.SimilarityOut, "POST", "/similarities", body)

    def similarity(self, id_: str) -> schemas.SimilarityOut:
        return self._call(schemas.SimilarityOut, "GET", f"/similarities/{id_}")

    def maps(self, id_: str, image: int, x: float, y: float) -> schemas.MapsOut:
        """The maps of every model around a point: shares of the image's width and height."""
        return self._call(schemas.MapsOut, "GET", f"/similarities/{id_}/maps", image=image, x=x, y=y)

    def study(self, name: str, cohort: str, encoders: list[str], **spec: Any) -> schemas.StudyOut:
        """Queue a scaling study. `spec`: sizes, seeds, pretrain (budget, batch, ...), starts, baselines, gpus, ..."""
        body = {"name": name, "cohort": cohort, "encoders": encoders} | spec
        return self._call(schemas.StudyOut, "POST", "/studies", body)

    def study_now(self, id_: str) -> schemas.StudyOut:
        return self._call(schemas.StudyOut, "GET", f"/studies/{id_}")

    def promote(self, site: str, task: str, model: str, evaluation: str, comment: str = "") -> schemas.ChampionOut:
        """Name the champion of a task of a site."""
        body = {"task": task, "model": model, "evaluation": evaluation, "comment": comment}
        return self._call(schemas.ChampionOut, "POST", f"/sites/{site}/champions", body)

    def champions(self, site: str, task: str | None = None) -> list[schemas.ChampionOut]:
        """Newest first: the first of a task is the one in use."""
        return list(self._pages(schemas.ChampionOut, f"/sites/{site}/champions", task=task))

    # jobs

    def job(self, id_: str) -> schemas.JobOut:
        return self._call(schemas.JobOut, "GET", f"/jobs/{id_}")

    def jobs(self, *, state: str | None = None, resource: str | None = None) -> list[schemas.JobOut]:
        return list(self._pages(schemas.JobOut, "/jobs", state=state, resource=resource))

    def events(self, job: str, after: int = 0) -> Events:
        return self._call(Events, "GET", f"/jobs/{job}/events", after=after)

    def cancel(self, job: str) -> schemas.JobOut:
        return self._call(schemas.JobOut, "POST", f"/jobs/{job}/cancel")

    def resume(self, job: str) -> schemas.JobOut:
        return self._call(schemas.JobOut, "POST", f"/jobs/{job}/resume")

    def wait(
        self,
        job: str | None,
        *,
        on_event: Callable[[schemas.EventOut], None] | None = None,
        on_job: Callable[[schemas.JobOut], None] | None = None,
        timeout: float | None = None,
        poll: float = 0.5,
    ) -> schemas.JobOut:
        """Until the job has ended; raises JobFailed when it did not succeed, TimeoutError after `timeout` seconds.

        `on_event` is called once for each event, `on_job` at every look, for its state and progress.
        """
        if job is None:
            raise ValueError("There is no job to wait for.")
        end = None if timeout is None else time.monotonic() + timeout
        after = 0
        while True:
            now = self.job(job)  # before the events, so that those of its end are not missed
            after = self._show(job, after, on_event)
            if on_job:
                on_job(now)
            if now.state in ENDED:
                break
            if end is not None and time.monotonic() > end:
                raise TimeoutError(f"{now.title}: still {now.state} after {timeout:.0f} s.")
            time.sleep(poll)
        if now.state != "succeeded":
            raise JobFailed(now)
        return now

    def _show(self, job: str, after: int, on_event: Callable[[schemas.EventOut], None] | None) -> int:
        while on_event:
            found = self.events(job, after)
            if not found.items:
                break
            for event in found.items:
                on_event(event)
            after = found.next
        return after

    def _call(self, shape: type[M], method: str, path: str, body: Any = None, **query: Any) -> M:
        return shape.model_validate(self.request(method, path, body, **query))

    def _pages(self, shape: type[M], path: str, **query: Any) -> Iterator[M]:
        after = None
        while True:
            page = self.request("GET", path, after=after, **query)
            yield from (shape.model_validate(item) for item in page["items"])
            after = page["next"]
            if after is None:
                return
