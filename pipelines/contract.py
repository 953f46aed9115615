"""One contract for every stage: spec in, run folder out (docs/architecture.md, "A stage").

    python -m pipelines STAGE SPEC.json RUN_DIR

A run folder holds `spec.json` (resolved), `events.jsonl`, the artifacts, `outcome.json` and, last and atomically,
`result.json`. No `result.json` means not finished; a stage started again on the same folder resumes. The supervisor
decides by `outcome.json`; exit codes are a hint, because torchrun answers 1 whatever its ranks said.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import hashlib
import importlib
import json
import os
import platform
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, ClassVar, Protocol, cast

from pydantic import BaseModel, ConfigDict, ValidationError

from pipelines import __version__

# Stage name -> package. A stage is `spec.py` (class Spec) and `run.py` (function run) plus its own parts.
STAGES: dict[str, str] = {
    "practice": "pipelines.practice",
    "scan": "pipelines.scan",
    "deidentify": "pipelines.deidentify",
    "score": "pipelines.score",
    "label": "pipelines.label",
    "build": "pipelines.build",
    "external": "pipelines.external",
    "import": "pipelines.weights",
    "pretrain": "pipelines.pretrain",
    "evaluate": "pipelines.evaluate",
    "scale": "pipelines.scale",
    "similarity": "pipelines.similarity",
}

NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class Outcome(StrEnum):
    """How a stage ended, for the supervisor. Values of `outcome.json`'s `outcome`."""

    DONE = "done"
    BAD_INPUT = "bad_input"
    RETRY = "retry"
    STOPPED = "stopped"


EXIT_CODES = {Outcome.DONE: 0, Outcome.BAD_INPUT: 2, Outcome.RETRY: 75, Outcome.STOPPED: 143}


class BadInput(Exception):
    """The input cannot be used. The message is one sentence for a person, says what to do and holds no PHI."""


class Retry(Exception):
    """The environment failed (disk, GPU, a lost rank); the same stage on the same folder may succeed later."""


class Stopped(Exception):
    """SIGTERM was received and the stage saved what it had."""


class Spec(BaseModel):
    """Base of every stage's spec. Unknown keys are errors; paths are resolved by whoever writes the spec."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    FREE: ClassVar[frozenset[str]] = frozenset({"workers"})
    """Fields that change no byte of the product, so that a run may be resumed with other values."""


@dataclass(frozen=True)
class Ref:
    """Marks a spec field that is a path here and a resource id in the REST body.

    `kind` names the resource (`export`, `deid`, `cohort`, `model`). Kind `internal` marks a field that only the
    server fills (key files, say) and that a REST body may not carry at all.
    """

    kind: str


class Stage(Protocol):
    """`run.py` of every stage: does the work, returns what `result.json` shall say."""

    def __call__(self, spec: Any, run: RunFolder) -> dict[str, Any]: ...


# ---- files -----------------------------------------------------------------------------------------------------


def write_atomic(path: Path, data: bytes | str) -> None:
    """Write `path` whole or not at all: temporary name, fsync, rename, fsync of the folder."""
    with atomic(path) as temporary:
        temporary.write_bytes(data.encode() if isinstance(data, str) else data)


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside `path`; on success it is synced and becomes `path`, on error it is removed."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield temporary
        _fsync(temporary)
        temporary.replace(path)
        _fsync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sha256_file(path: Path) -> str:
    """Hex SHA-256 of a file, read in blocks."""
    with path.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from `path`; BadInput when it is missing or is not one."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BadInput(f"{path.name} does not exist; check the path you gave.") from None
    except (ValueError, UnicodeDecodeError):
        raise BadInput(f"{path.name} is not valid JSON; write it again.") from None
    if not isinstance(value, dict):
        raise BadInput(f"{path.name} must hold one JSON object.")
    return value


# ---- the run folder --------------------------------------------------------------------------------------------


class RunFolder:
    """What a stage may say while it works. Only rank 0 of a torchrun job writes; other ranks are silent.

    `root` is the folder. All text given to these methods is shown to people without PHI clearance: pass counts,
    pseudonyms and reason codes, never a value read from a header, a report or an input path.
    """

    def __init__(self, root: Path, *, listener: Callable[[dict[str, Any]], None] | None = None) -> None:
        self.root = root
        self.rank = int(os.environ.get("RANK", "0"))
        self.stopping = False
        self._listener = listener
        self._last_progress = 0.0
        self._checkpoint: str | None = None
        root.mkdir(parents=True, exist_ok=True)

    def event(self, kind: str, **fields: Any) -> None:
        """Append one event (one JSON line, flushed)."""
        if self.rank != 0:
            return
        record = {"time": round(time.time(), 3), "kind": kind, **fields}
        with (self.root / "events.jsonl").open("a", encoding="utf-8") as f:
            f.write(json.dumps(record, ensure_ascii=False) + "\n")
        if self._listener:
            self._listener(record)

    def progress(self, done: int, total: int | None, what: str) -> None:
        """How far the step called `what` is. At most five a second are written; the last always is."""
        now = time.monotonic()
        if done != total and now - self._last_progress < 0.2:
            return
        self._last_progress = now
        self.event("progress", done=done, total=total, what=what)

    def metric(self, step: int, **values: float) -> None:
        """Numbers at a training step (or another counter)."""
        self.event("metric", step=step, values=values)

    def log(self, message: str, level: str = "info") -> None:
        """One sentence for a person."""
        self.event("log", level=level, message=message)

    def artifact(self, name: str, path: Path) -> None:
        """A finished file or folder of the run, by its path inside the run folder."""
        self.event("artifact", name=name, path=path.relative_to(self.root).as_posix())

    def checkpoint(self, path: Path, step: int) -> None:
        """A checkpoint that is whole on disk."""
        self._checkpoint = path.relative_to(self.root).as_posix()
        self.event("checkpoint", path=self._checkpoint, step=step)

    def check_stop(self) -> None:
        """Call between units of work: raises Stopped after SIGTERM."""
        if self.stopping:
            raise Stopped

    def on_sigterm(self, *_: object) -> None:
        """Signal handler: the stage stops at its next `check_stop`."""
        self.stopping = True

    def finish(self, outcome: Outcome, message: str, result: dict[str, Any] | None = None) -> None:
        """Write `outcome.json`, and `result.json` last when there is one. Rank 0 only."""
        if self.rank != 0:
            return
        record = {"outcome": outcome, "message": message, "checkpoint": self._checkpoint}
        write_atomic(self.root / "outcome.json", json.dumps(record, ensure_ascii=False) + "\n")
        if result is not None:
            write_atomic(self.root / "result.json", json.dumps(result, ensure_ascii=False, indent=1) + "\n")


# ---- processes -------------------------------------------------------------------------------------------------

PR_SET_PDEATHSIG = 1


def die_with_parent(parent: int | None = None) -> None:
    """Ask the kernel to SIGKILL this process when its parent dies (prctl(2), PR_SET_PDEATHSIG).

    torchrun's ranks and pool workers live in sessions or groups of their own and would outlive a killed parent.
    `parent` is the pid that started us; if it is already gone, exit at once.
    """
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if parent is not None and os.getppid() != parent:
        os._exit(EXIT_CODES[Outcome.RETRY])


# ---- the one runner --------------------------------------------------------------------------------------------


def load_spec(stage: str, values: dict[str, Any]) -> Spec:
    """The validated spec of a stage; BadInput names every wrong key in one sentence."""
    if stage not in STAGES:
        raise BadInput(f"There is no stage '{stage}'; choose one of {', '.join(STAGES)}.")
    model = importlib.import_module(STAGES[stage] + ".spec").Spec
    try:
        return cast(Spec, model.model_validate(values))
    except ValidationError as error:
        wrong = "; ".join(
            f"'{'.'.join(map(str, e['loc'])) or stage}': {e['msg'].lower()}" for e in error.errors(include_url=False)
        )
        raise BadInput(f"The {stage} spec is not valid: {wrong}.") from None


def run_stage(
    stage: str, values: dict[str, Any], root: Path, *, listener: Callable[[dict[str, Any]], None] | None = None
) -> Outcome:
    """Run `stage` on its run folder to an outcome; every error of a person's making becomes one sentence."""
    run = RunFolder(root, listener=listener)
    if (root / "result.json").exists():
        run.log("This run is already finished; nothing was done.")
        return Outcome.DONE
    signal.signal(signal.SIGTERM, run.on_sigterm)
    result: dict[str, Any] | None = None
    try:
        spec = load_spec(stage, values)
        _write_resolved(stage, spec, run)
        result = importlib.import_module(STAGES[stage] + ".run").run(spec, run)
        outcome, message = Outcome.DONE, "Finished."
    except BadInput as error:
        outcome, message = Outcome.BAD_INPUT, str(error)
    except (Stopped, KeyboardInterrupt):
        outcome, message = Outcome.STOPPED, "Stopped on request; start it again to go on from here."
    except Retry as error:
        outcome, message = Outcome.RETRY, str(error)
    except Exception as error:  # noqa: BLE001 - the runner is the boundary: no traceback may reach a log with PHI in it
        outcome, message = _unexpected(error, run)
    try:
        run.finish(outcome, message, result)
    except OSError as error:
        outcome, message = _unexpected(error, run)
    if outcome is not Outcome.DONE and run.rank == 0:
        print(message, file=sys.stderr)  # noqa: T201 - the one sentence for whoever runs this by hand
    return outcome


def _write_resolved(stage: str, spec: Spec, run: RunFolder) -> None:
    """`spec.json`: the spec as run. A folder begun with another spec is refused, so that a resume is a resume."""
    if run.rank != 0:
        return
    path = run.root / "spec.json"
    values = spec.model_dump(mode="json")
    old = values
    if path.exists():
        # Read as a spec of today: what a later version added stands at its default, as it did when the run was begun.
        old = load_spec(stage, read_json(path).get("spec", {})).model_dump(mode="json")
    if changed := sorted(k for k in (values | old).keys() - spec.FREE if values.get(k) != old.get(k)):
        raise BadInput(
            f"This run folder was begun with another spec ({', '.join(changed)} differ); "
            "use the same spec to resume it or give a new folder."
        )
    versions = {"intramural": __version__, "python": platform.python_version()}
    write_atomic(path, json.dumps({"stage": stage, "spec": values, "versions": versions}, indent=1) + "\n")


def _unexpected(error: Exception, run: RunFolder) -> tuple[Outcome, str]:
    """An outcome for what nobody foresaw. Exception texts may quote PHI, so only type and code places are kept."""
    if isinstance(error, OSError) and error.errno in NO_SPACE:
        return Outcome.RETRY, (
            "No space is left where the run folder lies; free some space and start again: "
            "what was finished is kept, what was half-written was removed."
        )
    frames = [f"{f.filename}:{f.lineno} in {f.name}" for f in traceback.extract_tb(error.__traceback__)]
    with contextlib.suppress(OSError):
        write_atomic(run.root / "crash.txt", "\n".join([*frames, type(error).__name__]) + "\n")
    return Outcome.RETRY, f"The stage failed unexpectedly ({type(error).__name__}); crash.txt says where in the code."


def main(argv: list[str]) -> int:
    """Entry of `python -m pipelines STAGE SPEC.json RUN_DIR`."""
    if len(argv) != 3:
        print("usage: python -m pipelines STAGE SPEC.json RUN_DIR", file=sys.stderr)  # noqa: T201
        return EXIT_CODES[Outcome.BAD_INPUT]
    if parent := os.environ.get("INTRAMURAL_PARENT_PID"):
        # A rank's parent is torchrun, not the supervisor, so ranks only ask the kernel.
        die_with_parent(None if "RANK" in os.environ else int(parent))
    try:
        values = read_json(Path(argv[1]))
    except BadInput as error:
        print(error, file=sys.stderr)  # noqa: T201
        return EXIT_CODES[Outcome.BAD_INPUT]
    return EXIT_CODES[run_stage(argv[0], values, Path(argv[2]))]
