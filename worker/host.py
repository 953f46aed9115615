"""What this host is called in the database, and which GPUs it has."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from pathlib import Path

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from server.jobs.claim import Claimant
from server.store.models import GpuSlot, now


def claimant() -> Claimant:
    """This process as a claimer of jobs.

    Process ids mean something only inside their pid namespace, so containers of one machine are hosts of their own.
    """
    name, pid = socket.gethostname(), os.getpid()
    return Claimant(
        worker=f"{name}:{pid}",
        host=f"{name} {Path('/proc/self/ns/pid').readlink()}",
        boot_id=Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
        pid=pid,
    )


def alive(pid: int | None) -> bool:
    """Whether a process of this host runs; one that has ended and waits for its parent does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def gpus() -> dict[str, str]:
    """UUID -> name of the GPUs that nvidia-smi lists; none without nvidia-smi."""
    if not shutil.which("nvidia-smi"):
        return {}
    command = ["nvidia-smi", "--query-gpu=uuid,name", "--format=csv,noheader"]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    lines = answer.stdout.splitlines() if answer.returncode == 0 else []
    return {uuid.strip(): name.strip() for uuid, _, name in (line.partition(",") for line in lines)}


def register_gpus(session: Session, host: str, found: dict[str, str]) -> None:
    """Make the slots of `host` those that were found; a leased slot stays leased."""
    for uuid, name in found.items():
        slot = session.get(GpuSlot, uuid) or GpuSlot(uuid=uuid)
        slot.host, slot.name, slot.seen_at = host, name, now()
        session.add(slot)
    gone = select(GpuSlot.uuid).where(GpuSlot.host == host, GpuSlot.job_id.is_(None), GpuSlot.uuid.not_in(found))
    session.execute(delete(GpuSlot).where(GpuSlot.uuid.in_(gone.scalar_subquery())))
