"""`make demo`: the main job from export to answer, through the REST API as an IT script would.

Starts a control plane and a worker on a data root of its own, and ends by itself. Without an export it makes a practice
hospital. Only an export with an answer key beside it is released without a person: the key proves that it is a test.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from pipelines.contract import BadInput
from server.api.schemas import JobOut
from server.app import prepare
from server.client import ApiError, Client, JobFailed
from server.settings import Settings

ROOT = Path(__file__).resolve().parents[1]
# Small enough that two CPU cores end within minutes; the same job takes a real export of any size.
STUDIES, PIXELS = 120, 640
SIDE = 128
BUDGET, BATCH = 3200, 16
ENCODERS = ("rad-dino-tiny", "mi2-tiny")
console = Console(highlight=False, width=None if sys.stdout.isatty() else 140)


class Clock:
    """How long each part of the demonstration took."""

    def __init__(self) -> None:
        self.times: list[tuple[str, float]] = []

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[None]:
        start = time.monotonic()
        yield
        self.times.append((name, time.monotonic() - start))


def main() -> None:
    """Parse the options, run, and turn every foreseen error into one sentence."""
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--export", type=Path, help="PACS export to take instead of a practice hospital")
    parser.add_argument("--data", type=Path, help="data root; none takes a new folder below .demo")
    arguments = parser.parse_args()
    try:
        _demonstrate(arguments.export, arguments.data or _next_root())
    except (ApiError, JobFailed, BadInput) as error:
        console.print(f"The demonstration stopped: {error}", style="bold")
        sys.exit(1)


def _next_root() -> Path:
    """`.demo/1`, `.demo/2`, ...: what an earlier demonstration left is never touched."""
    folder = ROOT / ".demo"
    taken = [int(p.name) for p in folder.glob("*") if p.name.isdigit()] if folder.exists() else []
    return folder / str(max(taken, default=0) + 1)


def _demonstrate(export: Path | None, data: Path) -> None:
    clock = Clock()
    data = data.resolve()
    if export is not None and not export.is_dir():
        raise BadInput(f"There is no folder {export}; give the folder of a PACS export.")
    if export is None:
        export = data / "practice" / "export"
        with clock.part("practice hospital"):
            _practice(export)
    export = export.resolve()
    key = export.with_name(export.name + ".key.json")
    settings = _settings(data, export.parent)
    with _services(settings) as link:
        people = _people(settings, link)
        console.print(f"Control plane and worker run at {settings.url}, data in {data}.")
        exported = _deidentify(people, settings, export, clock)
        if not key.exists():
            _say_waits(data, exported)
            return
        leaks = _score(settings, exported, export, key, clock)
        _science(people, settings, exported, clock)
    _say_end(data, clock, leaks)


# ---- services --------------------------------------------------------------------------------------------------


def _settings(data: Path, exports: Path) -> Settings:
    """Settings of the embedded form, handed to the services through the environment."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    values = {"DATA": data, "PORT": port, "SLOTS": len(os.sched_getaffinity(0)), "POLL_SECONDS": 2}
    values["EXPORT_ROOTS"] = json.dumps([str(exports)])
    os.environ.update({f"INTRAMURAL_{k}": str(v) for k, v in values.items()})
    return Settings()


@contextlib.contextmanager
def _services(settings: Settings) -> Iterator[str]:
    """The control plane and one worker, stopped at the end however it comes."""
    link = prepare(settings)
    if link is None:
        raise BadInput("This data root is in use already; give another with DATA=DIR.")
    log = (settings.root / "services.log").open("a")
    command = [sys.executable, "-m", "server.cli"]
    children = [subprocess.Popen([*command, name], stdout=log, stderr=log, cwd=ROOT) for name in ("server", "worker")]
    try:
        _wait_ready(settings.url, children)
        yield link
    finally:
        for child in children:
            child.send_signal(signal.SIGTERM)
        for child in children:
            child.wait(120)


def _wait_ready(url: str, children: list[subprocess.Popen[bytes]]) -> None:
    for _ in range(300):
        if any(c.poll() is not None for c in children):
            raise BadInput("A service did not start; services.log in the data root says why.")
        with contextlib.suppress(httpx.HTTPError):
            httpx.get(f"{url}/readyz", timeout=2, trust_env=False).raise_for_status()
            return
        time.sleep(0.2)
    raise BadInput("The control plane did not answer within a minute; services.log in the data root says why.")


def _people(settings: Settings, link: str) -> dict[str, Client]:
    """An administrator, a privacy officer and a researcher, each with a token of their role only."""
    admin = Client(settings.url)
    password = secrets.token_urlsafe(18)
    admin.setup(link, "demo", password)
    admin.sign_in("demo", password)
    _keep_password(settings, password)
    people = {}
    for role in ("admin", "privacy_officer", "researcher"):
        name = f"demo-{role.replace('_', '-')}"
        user = admin.create_user(name, [role])
        people[role] = Client(settings.url, admin.create_token("make demo", [role], user=user.id))
    return people


def _keep_password(settings: Settings, password: str) -> None:
    """Where the person who opens the UI afterwards finds it, readable by them alone."""
    path = settings.secrets_dir / "demo-password"
    path.touch(mode=0o600)
    path.write_text(password + "\n")


# ---- the main job ----------------------------------------------------------------------------------------------


def _practice(export: Path) -> None:
    export.parent.mkdir(parents=True, exist_ok=True)
    command = [
        sys.executable,
        "-m",
        "server.cli",
        "practice",
        str(export),
        "--studies",
        str(STUDIES),
        "--side",
        str(PIXELS),
    ]
    subprocess.run(command, check=True, cwd=ROOT)


def _deidentify(people: dict[str, Client], settings: Settings, export: Path, clock: Clock) -> Any:
    admin = people["admin"]
    site = admin.create_site("Demonstration site")
    registered = admin.register(
        site.id,
        export,
        f"Demonstration: {export.name}",
        purpose="Demonstration",
        approval="DEMO-1",
        retain_until="2099-12-31",
    )
    with clock.part("de-identify"):
        _wait(admin, [admin.deidentify(registered.id).id])
    done = admin.export(registered.id)
    counts = (done.result or {})["counts"]
    table = Table("Inputs", "Count", title="De-identified", title_justify="left")
    for word, key in (("files read", "files"), ("images written", "images_written"), ("duplicates", "duplicates")):
        table.add_row(word, f"{counts[key]:,}")
    table.add_row("reports", f"{counts['reports']:,}")
    for reason, number in sorted(counts["quarantined"].items()):
        table.add_row(f"quarantined: {reason}", f"{number:,}")
    console.print(table)
    return done


def _score(settings: Settings, exported: Any, export: Path, key: Path, clock: Clock) -> dict[str, Any]:
    """Leaks and losses against the answer key. A stage like any other, but the key is no resource of the server."""
    folder = settings.root / "score" / exported.id
    spec = {
        "deid": str(settings.root / "deid" / exported.id),
        "export": str(export),
        "key": str(key),
        "secret": str(settings.derivation_secret(exported.site_id)),
    }
    folder.parent.mkdir(parents=True, exist_ok=True)
    path = folder.with_suffix(".spec.json")
    path.write_text(json.dumps(spec))
    with clock.part("score"), console.status("scoring against the answer key"):
        subprocess.run([sys.executable, "-m", "pipelines", "score", path, folder], check=False, cwd=ROOT)
    if not (folder / "result.json").exists():
        raise BadInput(f"The score was not computed; {folder / 'outcome.json'} says why.")
    result: dict[str, Any] = json.loads((folder / "result.json").read_text())
    console.print(
        f"Score: {result['leaks']} leaks and {result['readable_boxes']} readable burned-in boxes "
        f"in {result['instances']} instances."
    )
    return result


def _science(people: dict[str, Client], settings: Settings, exported: Any, clock: Clock) -> None:
    people["privacy_officer"].release(exported.id, comment="Demonstration with an answer key")
    researcher = people["researcher"]
    with clock.part("build"):
        cohort = researcher.build("Demonstration cohort", [exported.id], side=SIDE)
        _wait(researcher, [cohort.job])
    _say_flow(researcher.cohort(cohort.id).result or {})
    with clock.part("pretrain both encoders"):
        runs = [
            researcher.pretrain(f"{e} on all samples", cohort.id, e, budget=BUDGET, batch=BATCH, checkpoint_every=50)
            for e in ENCODERS
        ]
        _wait(researcher, [r.job for r in runs])
    models = [m.id for r in runs for m in researcher.models(run=r.id, kind="run")]
    with clock.part("evaluate"):
        # Tiny forms are compared with their own untrained start by themselves.
        evaluation = researcher.evaluate("Trained against untrained", cohort.id, models)
        _wait(researcher, [evaluation.job])
    _say_results(settings.root / "evaluations" / evaluation.id, researcher.evaluation(evaluation.id).result or {})


def _wait(client: Client, jobs: list[str | None]) -> None:
    """Progress of several jobs at once; raises JobFailed with the sentence of the first that failed."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    waiting = [j for j in jobs if j]
    said: dict[str, str] = {}
    with Progress(*columns, console=console, disable=not console.is_terminal) as bars:
        tasks: dict[str, TaskID] = {j: bars.add_task("queued", total=None) for j in waiting}
        while waiting:
            for id_ in list(waiting):
                job = client.job(id_)
                _show(bars, tasks[id_], job, said)
                if job.state == "succeeded":
                    waiting.remove(id_)
                elif job.state in ("failed", "canceled"):
                    raise JobFailed(job)
            time.sleep(0.5)


def _show(bars: Progress, task: TaskID, job: JobOut, said: dict[str, str]) -> None:
    progress = job.progress or {}
    what = f"{job.title}: {progress.get('what') or job.state}"
    bars.update(task, description=what, completed=progress.get("done") or 0, total=progress.get("total"))
    if not console.is_terminal and said.get(job.id) != what:
        said[job.id] = what
        console.print(f"  {what}")


# ---- what it says ----------------------------------------------------------------------------------------------


def _say_flow(result: dict[str, Any]) -> None:
    table = Table("Who entered the cohort", "Images", "Studies", "Patients")
    for step in result["flow"]:
        table.add_row(step["step"], *(f"{step[k]:,}" for k in ("images", "studies", "patients")))
    console.print(table)


def _say_results(folder: Path, result: dict[str, Any]) -> None:
    from pipelines.evaluate.results import answering
    from pipelines.tables import RESULTS, read_table

    table = Table("Task", "Label", "Model", "AUROC", "Against its start", "n", title="Results", title_justify="left")
    rows = read_table(folder / "results.parquet", RESULTS).to_pylist()
    rows = [r for r in answering(rows) if r["metric"] == "auroc"]
    differences = {(r["task"], r["label"], r["model"]): r for r in rows if r["baseline"]}
    for r in sorted(rows, key=lambda r: (r["task"], r["label"] == "macro", r["label"], r["model"])):
        against = differences.get((r["task"], r["label"], r["model"]))
        if r["baseline"] or against is None:
            continue
        counted = f"{r['images']:,} images, {r['patients']:,} patients"
        table.add_row(r["task"], r["label"], r["model"], _interval(r), _interval(against, sign="+"), counted)
    console.print(table)
    console.print(result["answer"], style="bold")
    console.print(f"Report: {folder / 'report.html'}")


def _interval(row: dict[str, Any], sign: str = "") -> str:
    return f"{row['value']:{sign}.3f} [{row['low']:{sign}.3f}, {row['high']:{sign}.3f}]"


def _say_waits(data: Path, exported: Any) -> None:
    console.print(
        f"The export waits for release: it has no answer key, so a privacy officer has to decide.\n"
        f"Open the web UI with: make up DATA={data}\n"
        f"Sign in as demo (the password is in {data / 'secrets' / 'demo-password'}), add a person with the role "
        "privacy officer, and let them release it under Review."
    )


def _say_end(data: Path, clock: Clock, leaks: dict[str, Any]) -> None:
    table = Table("Part", "Seconds", title="Time", title_justify="left")
    for name, seconds in clock.times:
        table.add_row(name, f"{seconds:.0f}")
    console.print(table)
    console.print(
        f"Done. Leaks found: {leaks['leaks']}. Open the web UI with: make up DATA={data}\n"
        f"Sign in as demo; the password is in {data / 'secrets' / 'demo-password'}."
    )


if __name__ == "__main__":
    main()
