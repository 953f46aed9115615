"""`intramural scale`: the runs of a scaling study one after the other, judged together after every size."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from pipelines.contract import BadInput, read_json, write_atomic
from pipelines.scale.hours import Speed, duration, words
from pipelines.scale.plan import PlannedRun, Study, judgement, planned_runs
from server.cli.stages import Json, console, estimate, read_spec, run


def scale(
    spec: Annotated[Path, typer.Argument(help="TOML or JSON.")],
    folder: Annotated[Path, typer.Argument(help="Folder of the study; goes on where it was, also with more sizes.")],
    processes: Annotated[int, typer.Option(help="Ranks on this machine (torchrun) for every run.")] = 1,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Run nothing; say which runs are left and what they would take here.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Run a scaling study: pretrain at nested sizes, evaluate, fit the law, find the break-even."""
    study = _read(spec)
    folder = folder.resolve()
    runs = planned_runs(study, read_json(study.cohort / "result.json")["counts"]["splits"]["train"]["images"])
    starts = {read_json(start / "card.json")["encoder"]: str(start) for start in study.starts}
    if dry_run:
        _say_cost(study, runs, starts, folder, processes, as_json)
        return
    done: list[Path] = []
    result: dict[str, Any] = {}
    for number, planned in enumerate(runs, 1):
        if not as_json:
            console.print(f"Run {number} of {len(runs)}: {planned.name}", highlight=False)
        values = planned.settings | {"cohort": str(study.cohort), "start": starts.get(planned.encoder)}
        run("pretrain", values, folder / "runs" / planned.name, as_json=as_json, processes=processes)
        done.append(folder / "runs" / planned.name / "model")
        if _last_of_size(runs, number):
            result = _judge(study, done, folder, as_json)
    if not as_json:
        console.print(result["answer"], highlight=False)
        console.print(f"The report is {folder / 'report.html'}.", highlight=False)


def _say_cost(
    study: Study, runs: list[PlannedRun], starts: dict[str, str], folder: Path, processes: int, as_json: bool
) -> None:
    """What the runs that are left would take: by the speed of runs that stand, else of some steps taken now."""
    found = []
    for encoder in dict.fromkeys(study.encoders):
        own = [r for r in runs if r.encoder == encoder]
        told = [path for r in own if (path := folder / "runs" / r.name / "result.json").exists()]
        speed = next((s for path in told if (s := Speed.read(read_json(path)))), None)
        if speed is None:
            tried = own[-1].settings | {"cohort": str(study.cohort), "start": starts.get(encoder)}
            speed = _tried(estimate(tried, processes), processes)
        cost = speed.cost(study.pretrain["budget"], len(own) - len(told))
        found.append({"encoder": encoder, "left": len(own) - len(told), "planned": len(own), **cost})
    if as_json:
        print(json.dumps({"encoders": found}))  # noqa: T201
        return
    for row in found:
        left = f"{words(row)}, {duration(row['hours'])} in all" if row["left"] else "nothing more to run"
        console.print(f"{row['encoder']}: {row['left']} of {row['planned']} runs are left: {left}.", highlight=False)


def _tried(found: dict[str, Any], processes: int) -> Speed:
    """The speed in an estimate."""
    gpus = processes if found["gpu_hours"] is not None else 0
    return Speed(found["device"] if gpus else "CPU", gpus, processes / found["seconds_per_image"])


def _read(spec: Path) -> Study:
    try:
        return Study.model_validate(read_spec(spec))
    except ValidationError as error:
        wrong = "; ".join(f"'{'.'.join(map(str, e['loc']))}': {e['msg'].lower()}" for e in error.errors())
        raise BadInput(f"The scaling study is not valid: {wrong}.") from None


def _last_of_size(runs: list[PlannedRun], number: int) -> bool:
    """Whether the next run is of another size, so that what stands can be judged."""
    return number == len(runs) or runs[number].samples != runs[number - 1].samples


def _judge(study: Study, models: list[Path], folder: Path, as_json: bool) -> dict[str, Any]:
    """The stage `scale` on the runs that stand; its report and result become those of the study."""
    values = judgement(study, [str(m) for m in models], folder / "store")
    asked = {key: value for key, value in values.items() if key not in ("models", "store", "device")}
    weights = [read_json(m / "card.json")["weights_sha256"] for m in models]
    name = hashlib.sha256(json.dumps([asked, weights]).encode()).hexdigest()[:12]
    result = run("scale", values, folder / "judged" / name, as_json=as_json)
    for made in ("report.html", "scores.parquet", "measures.parquet", "results.parquet"):
        shutil.copyfile(folder / "judged" / name / made, folder / f".{made}")
        (folder / f".{made}").replace(folder / made)
    write_atomic(folder / "result.json", json.dumps(result, ensure_ascii=False, indent=1) + "\n")
    return result


def register(app: typer.Typer) -> None:
    """Add the command of this file."""
    app.command()(scale)
