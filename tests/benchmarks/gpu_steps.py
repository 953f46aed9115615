"""Whole training steps on a GPU: the stage itself, each switch alone, both encoders, the profiler."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from pipelines.contract import run_stage
from pipelines.encoders import export, vit
from pipelines.encoders.folder import ModelCard, new_model_folder
from pipelines.pretrain.speed import Speed
from tests.benchmarks.gpu_world import World, dino_task, mi2_task, reset_peak, run_loop

BATCH = 24
STEPS = 8


def stage(world: World) -> dict[str, Any]:
    """The stage from a model folder, stopped after its first checkpoint and started again."""
    start = world.folder / "open"
    with world.device:
        tower, head = vit.Vit(world.dino), vit.DinoHead(world.dino)
    card = ModelCard(name="random weights", encoder=f"rad-dino{world.suffix}", kind="open-weight", practice=True)
    with new_model_folder(start, card, ()) as part:
        export.write_rad_dino(part, tower.cpu(), world.dino, head.cpu())
    del tower, head
    batch, half = world.batch(BATCH), world.steps(5)
    values = {
        "cohort": str(world.folder / "cohort"), "encoder": f"rad-dino{world.suffix}", "start": str(start),
        "budget": 2 * half * batch, "batch": batch, "precision": world.precision, "checkpoint_every": half,
    }  # fmt: skip

    def stop(event: dict[str, Any]) -> None:
        if event["kind"] == "checkpoint" and event["step"] == half:
            os.kill(os.getpid(), signal.SIGTERM)

    out = Path(tempfile.mkdtemp(dir=world.folder)) / "run"
    outcomes = [run_stage("pretrain", values, out, listener=stop).value, run_stage("pretrain", values, out).value]
    events = [json.loads(line) for line in (out / "events.jsonl").read_text().splitlines()]
    metrics = {e["step"]: e["values"] for e in events if e["kind"] == "metric"}
    logs = [e["message"] for e in events if e["kind"] == "log"]
    return {"outcomes": outcomes, "resumed": [m for m in logs if "Resumed" in m], "batch": batch,
            "metrics": {s: {k: round(v, 4) for k, v in m.items()} for s, m in metrics.items()}}  # fmt: skip


@contextlib.contextmanager
def attention(world: World, name: str | None) -> Iterator[None]:
    """Attention by one kernel only; None leaves the choice to torch."""
    backends = {
        "flash": SDPBackend.FLASH_ATTENTION, "cudnn": SDPBackend.CUDNN_ATTENTION,
    }  # fmt: skip
    with sdpa_kernel(backends[name]) if name and not world.tiny else contextlib.nullcontext():
        yield


def measure(
    world: World, full_batch: int, speed: Speed, kernel: str | None = None, steps: int = STEPS, **more: Any
) -> dict[str, Any]:
    """Figures of the loop with one setting, or why it did not run."""
    batch = world.batch(full_batch)
    fused, steps = more.pop("fused", True), world.steps(steps)
    torch.compiler.reset()  # forms compiled for other settings count against dynamo's limit
    try:
        with attention(world, kernel):
            task = dino_task(world, batch, steps, speed, **more)
            figures = run_loop(world, task, batch, steps, every=max(1, steps // 2), fused=fused)
    except (RuntimeError, torch.OutOfMemoryError) as error:
        figures = {"failed": f"{type(error).__name__}: {str(error)[:200]}"}
    task = None
    if world.device.type == "cuda":
        torch.cuda.empty_cache()
    print(f"  {full_batch=} {speed=} {kernel=} {fused=} {more=}: {figures}", flush=True)
    return {"batch": batch, **figures}


def switches(world: World) -> dict[str, Any]:
    """Each switch by itself, against the plain form of the same run."""
    plain = Speed()
    return {
        "plain": measure(world, BATCH, plain),
        "adamw_foreach": measure(world, BATCH, plain, fused=False),
        "sdpa_flash": measure(world, BATCH, plain, "flash"),
        "sdpa_cudnn": measure(world, BATCH, plain, "cudnn"),
        "packed": measure(world, BATCH, Speed(packed=True)),
        "checkpoint": measure(world, BATCH, Speed(checkpoint=True)),
        "micro_8": measure(world, BATCH, plain, micro=world.batch(8) // 2 if world.tiny else 8),
        "sinkhorn": measure(world, BATCH, plain, centring="sinkhorn"),
        "locals_98": measure(world, BATCH, plain, local_side=28 if world.tiny else 98),
        "plain_again": measure(world, BATCH, plain),
    }


def compiled(world: World) -> dict[str, Any]:
    """torch.compile of blocks and of the loss, alone and with the other switches; the first figure has warmed up."""
    began = time.monotonic()
    found: dict[str, Any] = {"compile": measure(world, BATCH, Speed(compile=True), steps=12)}
    found["seconds_with_compilation"] = round(time.monotonic() - began, 1)
    found["compile_cudnn"] = measure(world, BATCH, Speed(compile=True), "cudnn", steps=12)
    found["compile_packed"] = measure(world, BATCH, Speed(compile=True, packed=True), steps=12)
    return found


def best(world: World) -> dict[str, Any]:
    """The fast settings at the batches that fit."""
    fast = Speed(compile=True)
    return {f"compile_cudnn_{b}": measure(world, b, fast, "cudnn", steps=12) for b in (40,)} | {
        "compile_checkpoint_64": measure(world, 64, Speed(compile=True, checkpoint=True), "cudnn", steps=12)
    }


def profile_compiled(world: World) -> dict[str, Any]:
    """The same of a step with compiled blocks."""
    return profile(world, Speed(compile=True))


def profile(world: World, speed: Speed | None = None) -> dict[str, Any]:
    """Where the time of a plain step goes: kernels, and the share of the time in which the GPU does nothing."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as record

    batch = world.batch(BATCH)
    task = dino_task(world, batch, 20, speed or Speed())
    run_loop(world, task, batch, 4)
    activities = [ProfilerActivity.CPU] if world.tiny else [ProfilerActivity.CPU, ProfilerActivity.CUDA]
    with record(activities=activities, acc_events=True) as trace:
        began = time.monotonic()
        run_loop(world, task, batch, 4, every=4)
        wall = time.monotonic() - began
    rows = trace.key_averages()
    key = "self_cpu_time_total" if world.tiny else "self_device_time_total"
    name = "compiled" if speed else "plain"
    (world.out / f"profile_{name}.txt").write_text(rows.table(sort_by=key, row_limit=60, max_name_column_width=90))
    kernels = [e for e in trace.events() if "CUDA" in str(e.device_type)]
    top: dict[str, list[float]] = {}
    for event in kernels:
        top.setdefault(event.name, []).append(event.time_range.elapsed_us() / 4e3)
    busy, spans = 0.0, sorted((e.time_range.start, e.time_range.end) for e in kernels)
    if spans:
        first, reached = spans[0][0], spans[0][0]
        for began_us, ended_us in spans:
            busy += max(0.0, ended_us - max(began_us, reached))
            reached = max(reached, ended_us)
        span = reached - first
    largest = sorted(top.items(), key=lambda kv: -sum(kv[1]))[:80]
    lines = [f"{sum(ms):9.3f} ms in {len(ms) / 4:5.1f} calls a step  {kernel[:140]}" for kernel, ms in largest]
    (world.out / f"kernels_{name}.txt").write_text("\n".join(lines) + "\n")
    print("\n".join(lines[:16]), flush=True)
    return {"steps": 4, "wall_s": round(wall, 3)} | (
        {"gpu_idle_share": round(1 - busy / span, 4), "kernels_ms_a_step": round(busy / 4e3, 2)} if spans else {}
    )


def mi2(world: World, speed: Speed | None = None, batches: tuple[int, ...] = (24, 40)) -> dict[str, Any]:
    """MI2 at full size; and a large batch by cached gradients."""
    found: dict[str, Any] = {}
    speed = speed or Speed()
    for full, micro in [(b, b) for b in batches] + [(128, 32)]:
        batch, micro = (4, 4 if full == micro else 2) if world.tiny else (full, micro)
        try:
            reset_peak(world.device)
            figures = run_loop(world, mi2_task(world, micro, speed), batch, world.steps(8), every=2)
        except (RuntimeError, torch.OutOfMemoryError) as error:
            figures = {"failed": f"{type(error).__name__}: {str(error)[:200]}"}
        found[f"batch_{full}_micro_{micro}"] = figures
        print(f"  mi2 {batch} {micro} {speed}: {figures}", flush=True)
        if world.device.type == "cuda":
            torch.cuda.empty_cache()
    return found


def mi2_compiled(world: World) -> dict[str, Any]:
    """The same with compiled blocks."""
    return mi2(world, Speed(compile=True), (24,))


def out_of_memory(world: World) -> dict[str, Any]:
    """What the stage says when the GPU is too small for the spec."""
    batch = world.batch(400)
    values = {
        "cohort": str(world.folder / "cohort"), "encoder": f"rad-dino{world.suffix}", "micro_batch": batch,
        "start": str(world.folder / "open"), "budget": batch, "batch": batch, "precision": world.precision,
    }  # fmt: skip
    out = Path(tempfile.mkdtemp(dir=world.folder)) / "run"
    outcome = run_stage("pretrain", values, out)
    return {"outcome": outcome.value, "message": json.loads((out / "outcome.json").read_text())["message"]}
