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
from pipelines.scale.plan import PlannedRun, Study, judgement, planned_runs
from server.cli.stages import Json, console, read_spec, run


def scale(
    spec: Annotated[Path, typer.Argument(help="TOML or JSON.")],
    folder: Annotated[Path, typer.Argument(help="Folder of the study; goes on where it was, also with more sizes.")],
    processes: Annotated[int, typer.Option(help="Ranks on this machine (torchrun) for every run.")] = 1,
    as_json: Json = False,
) -> None:
    """Run a scaling study: pretrain at nested sizes, evaluate, fit the law, find the break-even."""
    study = _read(spec)
    folder = folder.resolve()
    runs = planned_runs(study, read_json(study.cohort / "result.json")["counts"]["splits"]["train"]["images"])
    starts = {read_json(start / "card.json")["encoder"]: str(start) for start in study.starts}
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
    for made in ("report.html", "scores.parquet", "results.parquet"):
        shutil.copyfile(folder / "judged" / name / made, folder / f".{made}")
        (folder / f".{made}").replace(folder / made)
    write_atomic(folder / "result.json", json.dumps(result, ensure_ascii=False, indent=1) + "\n")
    return result


def register(app: typer.Typer) -> None:
    """Add the command of this file."""
    app.command()(scale)
