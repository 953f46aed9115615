"""Commands that run one stage on this machine: the same process, spec and run folder that a worker uses."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from pipelines.contract import EXIT_CODES, BadInput, Outcome, load_spec
from pipelines.deidentify.spec import read_columns
from server.cli import keyring

console = Console(stderr=True)
Json = Annotated[bool, typer.Option("--json", help="Print events and the result as JSON lines, for scripts.")]
Workers = Annotated[int, typer.Option(help="Processes; 0 takes one per core.")]


def run(stage: str, values: dict[str, Any], folder: Path, *, as_json: bool, processes: int = 1) -> dict[str, Any]:
    """Run a stage in its own process, show its progress, return its result; exits with its code when it fails."""
    spec = load_spec(stage, values)
    folder = folder.resolve()
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "spec.json"
        path.write_text(spec.model_dump_json())
        launcher = ["-m", "pipelines"]
        if processes > 1:
            launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", *launcher]
        environment = os.environ | {"INTRAMURAL_PARENT_PID": str(os.getpid()), "HF_HUB_OFFLINE": "1"}
        start = (folder / "events.jsonl").stat().st_size if (folder / "events.jsonl").exists() else 0
        child = subprocess.Popen([sys.executable, *launcher, stage, path, folder], env=environment)
        signal.signal(signal.SIGTERM, lambda *_: child.terminate())
        try:
            _show(_events(child, folder / "events.jsonl", start), as_json)
        except KeyboardInterrupt:
            console.print("Stopping at the next safe point; press Ctrl-C again to end at once.")
            child.terminate()
        code = child.wait()
    if not (folder / "result.json").exists():
        raise typer.Exit(code or EXIT_CODES[Outcome.RETRY])
    result: dict[str, Any] = json.loads((folder / "result.json").read_text())
    if as_json:
        print(json.dumps(result))  # noqa: T201
    return result


def _events(child: subprocess.Popen[bytes], path: Path, offset: int) -> Iterator[dict[str, Any]]:
    """Events as the stage writes them, until it ends."""
    ended = False
    while not ended:
        ended = child.poll() is not None
        if path.exists():
            with path.open("rb") as f:
                f.seek(offset)
                for line in f:
                    if line.endswith(b"\n"):
                        offset += len(line)
                        yield json.loads(line)
        time.sleep(0.1)


def _show(events: Iterator[dict[str, Any]], as_json: bool) -> None:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=as_json or not console.is_terminal) as bars:
        tasks: dict[str, Any] = {}
        for event in events:
            if as_json:
                print(json.dumps(event), flush=True)  # noqa: T201
            elif event["kind"] == "progress":
                task = tasks.setdefault(event["what"], None) or bars.add_task(event["what"], total=event["total"])
                tasks[event["what"]] = task
                bars.update(task, completed=event["done"], total=event["total"])
            elif event["kind"] == "log":
                bars.console.print(event["message"], highlight=False)


def read_spec(path: Path) -> dict[str, Any]:
    """A spec from TOML or JSON; relative paths in it start at its own folder."""
    try:
        text = path.read_text(encoding="utf-8")
        values: dict[str, Any] = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except OSError:
        raise BadInput(f"The spec {path.name} cannot be read; check the path.") from None
    except ValueError:
        raise BadInput(f"The spec {path.name} is not valid {'JSON' if path.suffix == '.json' else 'TOML'}.") from None
    base = path.resolve().parent
    for key in ("cohort", "start"):
        if isinstance(values.get(key), str):
            values[key] = str(base / values[key])
    for key in ("models", "baselines", "starts"):
        if isinstance(values.get(key), list):
            values[key] = [str(base / str(v)) for v in values[key]]
    return values


def practice(
    out: Annotated[Path, typer.Argument(help="New folder for the export.")],
    studies: Annotated[int, typer.Option(help="How many studies.")] = 40,
    seed: Annotated[int, typer.Option(help="The same seed gives the same bytes.")] = 1,
    side: Annotated[int, typer.Option(help="Shorter side of the radiographs in pixels.")] = 1024,
    as_json: Json = False,
) -> None:
    """Write a practice hospital: a synthetic PACS export with planted identities, and its answer key."""
    with tempfile.TemporaryDirectory() as scratch:
        values = {"out": str(out.resolve()), "studies": studies, "seed": seed, "side": side}
        run("practice", values, Path(scratch) / "run", as_json=as_json)
    console.print(f"The export is {out}; its answer key is {out}.key.json.")


def deidentify(
    export: Annotated[Path, typer.Argument(help="Folder of the PACS export.")],
    out: Annotated[Path, typer.Argument(help="Folder for the de-identified export; resumes if it was begun.")],
    policy: Annotated[str | None, typer.Option(help="Preset or TOML file.")] = None,
    secret: Annotated[Path | None, typer.Option(help="File of the site's derivation secret.")] = None,
    opt_out: Annotated[Path | None, typer.Option(help="Patient IDs that objected, one a line.")] = None,
    aliases: Annotated[Path | None, typer.Option(help="CSV of merged patients: columns old and current.")] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(help="What a column of the report tables holds, as in 'text=Befund'; may be given again."),
    ] = None,
    issuer: Annotated[str, typer.Option(help="Issuer of patient IDs where none is given.")] = "",
    workers: Workers = 0,
    as_json: Json = False,
) -> None:
    """De-identify an export: DICOM, reports, labels and masks, with quarantine and proof."""
    secret = keyring.derivation_secret(secret)
    values: dict[str, Any] = {
        "export": str(export.resolve()),
        "secret": str(secret),
        "vault_key": str(keyring.vault_key(secret)),
        "workers": workers,
        "opt_out": str(opt_out.resolve()) if opt_out else None,
        "aliases": str(aliases.resolve()) if aliases else None,
        "report_columns": read_columns(column or ()),
        "issuer": issuer,
    }
    if policy:
        values["policy"] = policy if not Path(policy).exists() else str(Path(policy).resolve())
    result = run("deidentify", values, out, as_json=as_json)
    if not as_json:
        _say_counts(result, out)


def _say_counts(result: dict[str, Any], out: Path) -> None:
    counts = result["counts"]
    console.print(
        f"{counts['images_written']} images of {counts['patients']} patients and {counts['reports']} reports written "
        f"to {out}. {sum(counts['quarantined'].values())} inputs are in quarantine: see {out / 'quarantine.csv'}.",
        highlight=False,
    )


def score(
    out: Annotated[Path, typer.Argument(help="De-identified folder.")],
    key: Annotated[Path, typer.Option(help="Answer key, EXPORT.key.json.")],
    secret: Annotated[Path | None, typer.Option(help="File of the site's derivation secret.")] = None,
    workers: Workers = 0,
    as_json: Json = False,
) -> None:
    """Count leaks and losses of a de-identified folder against an answer key."""
    export = key.with_name(key.name.removesuffix(".key.json"))
    values = {
        "deid": str(out.resolve()),
        "export": str(export.resolve()),
        "key": str(key.resolve()),
        "secret": str(keyring.derivation_secret(secret)),
        "workers": workers,
    }
    folder = out.with_name(out.name + ".score")
    (folder / "result.json").unlink(missing_ok=True)  # the folder may have changed since it was last scored
    result = run("score", values, folder, as_json=as_json)
    if not as_json:
        console.print(
            f"{result['leaks']} leaks and {result['readable_boxes']} readable burned-in boxes in "
            f"{result['instances']} instances.",
            highlight=False,
        )
    if result["leaks"] or result["readable_boxes"]:
        raise typer.Exit(1)


def build(
    folders: Annotated[list[Path], typer.Argument(help="Released de-identified folders, then the cohort's folder.")],
    side: Annotated[int, typer.Option(help="Shorter side of the stored images.")] = 518,
    labels: Annotated[
        list[Path] | None, typer.Option(help="Label run of one of the exports; may be given again.")
    ] = None,
    label_source: Annotated[
        list[str] | None,
        typer.Option(help="Source of labels to use, the first to be heard in front: site, rules, model."),
    ] = None,
    release_key: Annotated[Path | None, typer.Option(help="Public key of the releases.")] = None,
    workers: Workers = 0,
    as_json: Json = False,
) -> None:
    """Build a cohort from released exports."""
    if len(folders) < 2:
        raise BadInput("Give at least one released folder and, last, the folder for the cohort.")
    values = {
        "deid": [str(f.resolve()) for f in folders[:-1]],
        "release_key": str((release_key or keyring.folder() / "release.pub").resolve()),
        "side": side,
        "labels": [str(f.resolve()) for f in labels or ()],
        "workers": workers,
    }
    if label_source:
        values["label_sources"] = label_source
    result = run("build", values, folders[-1], as_json=as_json)
    if not as_json:
        for step in result["flow"]:
            console.print(f"{step['images']:>9} images  {step['studies']:>8} studies  {step['step']}", highlight=False)


def external(
    folder: Annotated[Path, typer.Argument(help="Folder with the images and tables of the set.")],
    out: Annotated[Path, typer.Argument(help="Folder for the cohort; resumes if it was begun.")],
    layout: Annotated[
        str, typer.Option("--as", help="chestx-ray14, ranzcr-clip, vindr-cxr, candid-ptx or table; auto looks.")
    ] = "auto",
    name: Annotated[str, typer.Option(help="Name of the set, where its layout has none of its own.")] = "",
    split: Annotated[str, typer.Option(help="published, test (all patients) or divide (by a hash).")] = "published",
    side: Annotated[int, typer.Option(help="Shorter side of the stored images.")] = 518,
    workers: Workers = 0,
    as_json: Json = False,
) -> None:
    """Build a cohort from a labelled folder from outside, to evaluate on: a public set, or a table of your own."""
    values = {"folder": str(folder.resolve()), "layout": layout, "name": name, "split": split, "side": side}
    result = run("external", values | {"workers": workers}, out, as_json=as_json)
    if not as_json:
        counts = result["counts"]
        splits = ", ".join(f"{part['patients']} {split}" for split, part in counts["splits"].items())
        console.print(f"{counts['images']} images of {result['public_set']}; patients: {splits}.", highlight=False)


def pretrain(
    spec: Annotated[Path, typer.Argument(help="TOML or JSON.")],
    folder: Annotated[Path, typer.Argument(help="Run folder; resumes if it was begun.")],
    processes: Annotated[int, typer.Option(help="Ranks on this machine (torchrun).")] = 1,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Train nothing; say what the run would take on this machine.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Continually pretrain an encoder on a cohort."""
    if dry_run:
        found = estimate(read_spec(spec), processes)
        print(json.dumps(found)) if as_json else console.print(_in_words(found), highlight=False)  # noqa: T201
        return
    result = run("pretrain", read_spec(spec), folder, as_json=as_json, processes=processes)
    if not as_json:
        console.print(f"{result['steps']} steps on {result['samples']} samples; the model is {folder / 'model'}.")


def estimate(values: dict[str, Any], processes: int) -> dict[str, Any]:
    """What a run would take, from a process that may import torch; exits with its code when it fails."""
    checked = load_spec("pretrain", values)
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "spec.json"
        path.write_text(checked.model_dump_json())
        command = [sys.executable, "-m", "pipelines.pretrain.estimate", str(path), str(processes)]
        environment = os.environ | {"HF_HUB_OFFLINE": "1"}
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise typer.Exit(done.returncode)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _in_words(found: dict[str, Any]) -> str:
    """An estimate, a line each."""
    measured = found["measured_memory_gb"]
    took = f"{found['hours']:.1f} hours" if found["hours"] >= 1 else f"{found['hours'] * 60:.1f} minutes"
    lines = {
        "encoder": f"{found['encoder']}, {found['parameters'] / 1e6:,.1f} million parameters are trained",
        "work": f"{found['flops_per_image'] / 1e9:,.2f} billion operations an image",
        "samples": f"{found['samples']:,} of {found['studies']:,} studies and {found['patients']:,} patients",
        "budget": f"{found['image_forwards']:,} image forwards in {found['steps']:,} steps: each image "
        f"{found['passes']:,.1f} times",
        "memory": f"{found['memory_gb']:,.1f} GB a process, estimated"
        + (f"; {measured:,.1f} GB measured" if measured else ""),
        "time": f"{took} on {found['processes']} x {found['device']}, from {found['seconds_per_image']:.3g} s an image",
    }
    if found["gpu_hours"] is not None:
        lines["GPU hours"] = f"{found['gpu_hours']:,.1f}, an estimate"
    return "\n".join(f"{name:<10}{words}" for name, words in lines.items())


def evaluate(
    spec: Annotated[Path | None, typer.Argument(help="TOML or JSON.")] = None,
    folder: Annotated[Path | None, typer.Argument(help="Run folder; resumes if it was begun.")] = None,
    from_scores: Annotated[
        Path | None,
        typer.Option(help="Folder of a finished evaluation: results and report once more from its scores alone."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Evaluate models on a cohort's test split."""
    if from_scores is not None and spec is None:
        folder, result = from_scores, _from_scores(from_scores)
    elif spec is None or folder is None or from_scores is not None:
        raise BadInput("Give a spec and a run folder, or --from-scores and the folder of a finished evaluation.")
    else:
        result = run("evaluate", read_spec(spec), folder, as_json=as_json)
    if not as_json:
        console.print(result["answer"], highlight=False)
        console.print(f"The report is {folder / 'report.html'}.", highlight=False)


def similarity(
    spec: Annotated[Path, typer.Argument(help="TOML or JSON: cohort, models, places.")],
    folder: Annotated[Path, typer.Argument(help="New run folder.")],
    as_json: Json = False,
) -> None:
    """Draw which patches of an image each model finds alike to a chosen one, at four depths."""
    result = run("similarity", read_spec(spec), folder, as_json=as_json)
    if not as_json:
        count = sum(len(image["points"]) for image in result["images"])
        lie = "1 picture lies" if count == 1 else f"{count} pictures lie"
        console.print(f"{lie} in {folder / 'panels'}.", highlight=False)


def _from_scores(folder: Path) -> dict[str, Any]:
    """The result of a folder, made again by a process that may import the science; exits with its code on failure."""
    done = subprocess.run([sys.executable, "-m", "pipelines.evaluate", str(folder.resolve())], check=False)
    if done.returncode:
        raise typer.Exit(done.returncode)
    result: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return result


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    for command in (practice, deidentify, score, build, external, pretrain, evaluate, similarity):
        app.command()(command)
