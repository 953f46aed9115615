"""Starting a stage: its command, environment, spec file and log."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from functools import partial

from pipelines.contract import die_with_parent, write_atomic
from server.settings import Settings
from server.store.models import Job
from worker import process


def start(job: Job, gpus: list[str], settings: Settings) -> subprocess.Popen[bytes]:
    """Start the stage of `job`; it dies with this process and sees the GPUs `gpus` only."""
    folder = settings.root / job.folder
    folder.mkdir(parents=True, exist_ok=True)
    # Spec and log lie beside the run folder: paths in them name the export, what a run folder may not.
    spec = folder.with_name(f"{folder.name}.spec.json")
    write_atomic(spec, json.dumps(job.spec, indent=1) + "\n")
    spec.chmod(0o600)
    log = os.open(folder.with_name(f"{folder.name}.log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        return subprocess.Popen(
            [*command(job.processes), job.stage, str(spec), str(folder)],
            env=environment(os.environ, job, gpus, settings),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            preexec_fn=partial(die_with_parent, os.getpid()),
        )
    finally:
        os.close(log)


def command(processes: int) -> list[str]:
    """The contract's command, under torchrun for more than one process."""
    python = [sys.executable]
    if processes > 1:
        python += ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    return [*python, "-m", "pipelines"]


def environment(own: Mapping[str, str], job: Job, gpus: list[str], settings: Settings) -> dict[str, str]:
    """The stage's environment: no setting of the control plane, which may hold a password, and no way out."""
    kept = {key: value for key, value in own.items() if not key.startswith("INTRAMURAL_")}
    threads = max(1, len(os.sched_getaffinity(0)) // (job.processes * settings.slots))
    kept.setdefault("OMP_NUM_THREADS", str(threads))
    return kept | {
        **process.marks(job.id, job.lease_token or "", settings.root),
        "INTRAMURAL_PARENT_PID": str(os.getpid()),
        "CUDA_VISIBLE_DEVICES": ",".join(gpus),
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
    }
