"""Commands that run the services: the control plane, a worker, the migration, or all of it on one machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated

import httpx
import typer
from rich.console import Console

from server.settings import Settings

console = Console(stderr=True)
Data = Annotated[Path | None, typer.Option(help="Data root; none takes INTRAMURAL_DATA or ./data.")]
GRACE_SECONDS = 90


def _use(data: Path | None) -> Settings:
    """Settings, with the data root handed to child processes through the environment."""
    if data is not None:
        os.environ["INTRAMURAL_DATA"] = str(data.resolve())
    return Settings()


def migrate(data: Data = None) -> None:
    """Bring the database to this version's schema."""
    from server.store.migrate import upgrade

    settings = _use(data)
    settings.root.mkdir(parents=True, exist_ok=True)
    upgrade(settings.database)
    console.print("The database is up to date.")


def server(data: Data = None) -> None:
    """Run the control plane: REST API and web UI."""
    import uvicorn

    settings = _use(data)
    # Open event streams would hold the process for ever without a bound on the graceful shutdown.
    uvicorn.run(
        "server.app:create_app",
        factory=True,
        host=settings.host,
        port=settings.port,
        timeout_graceful_shutdown=5,
        log_level="warning",
        proxy_headers=bool(settings.public_url),
    )


def worker(
    data: Data = None,
    slots: Annotated[int | None, typer.Option(help="Jobs at once; none takes INTRAMURAL_SLOTS.")] = None,
) -> None:
    """Run a worker: takes jobs, supervises their processes."""
    _use(data)
    arguments = [] if slots is None else ["--slots", str(slots)]
    os.execv(sys.executable, [sys.executable, "-m", "worker", *arguments])  # noqa: S606 - becomes the worker


def up(
    data: Data = None,
    export_root: Annotated[list[Path] | None, typer.Option(help="Exports may be registered below it.")] = None,
) -> None:
    """Run everything on this machine: SQLite, filesystem broker, the control plane and one worker."""
    settings = _use(data)
    if export_root:
        os.environ["INTRAMURAL_EXPORT_ROOTS"] = "[" + ",".join(f'"{p.resolve()}"' for p in export_root) + "]"
    from server.app import prepare

    link = prepare(Settings())
    start = [sys.executable, "-m", "server.cli"]
    children = [subprocess.Popen([*start, command]) for command in ("server", "worker")]
    stop = {"asked": False}
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.update(asked=True))
    _wait_ready(settings.url, children)
    console.print(f"Intramural runs at {settings.url} with its data in {settings.root}. Ctrl-C stops it.")
    if link:
        console.print(f"First start: open {link} to create the administrator. The link works once.")
    while not stop["asked"] and all(c.poll() is None for c in children):
        time.sleep(0.2)
    for child in children:
        child.terminate()
    for child in children:
        child.wait(GRACE_SECONDS)
    if not stop["asked"]:
        console.print("A service ended by itself; the others were stopped. See the messages above.")
        raise typer.Exit(1)


def _wait_ready(url: str, children: list[subprocess.Popen[bytes]]) -> None:
    """Until the control plane answers, or a service ended."""
    while all(c.poll() is None for c in children):
        try:
            httpx.get(f"{url}/readyz", timeout=2).raise_for_status()
            return
        except httpx.HTTPError:
            time.sleep(0.2)


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    for command in (up, server, worker, migrate):
        app.command()(command)
