"""Stage `pretrain`: one continual pretraining of an encoder on N samples of a cohort, at a fixed budget.

    python -m pipelines pretrain SPEC.json RUN_DIR                            one process
    torchrun --nproc-per-node G -m pipelines pretrain SPEC.json RUN_DIR       one process per GPU (or gloo on CPUs)

Ends with RUN/model, a model folder (`pipelines.encoders.folder`), and for a tiny form RUN/start, what it began with.
RUN/milestones holds the models of parts of the budget, RUN/pictures and RUN/tensorboard what can be seen meanwhile.
"""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import Any

import torch

from pipelines.cohort import Cohort, Subset
from pipelines.contract import BadInput, Retry, RunFolder
from pipelines.encoders.folder import ModelCard, read_patients
from pipelines.pretrain.board import Board
from pipelines.pretrain.exporter import Exporter
from pipelines.pretrain.fit import too_small
from pipelines.pretrain.insight import Insight
from pipelines.pretrain.loop import Occasion, Plan, train
from pipelines.pretrain.ranks import Ranks
from pipelines.pretrain.recipe import RECIPES
from pipelines.pretrain.sampler import Sampler
from pipelines.pretrain.spec import Spec
from pipelines.pretrain.speed import keep_freed_memory
from pipelines.pretrain.start import START, build_task, prepare_start
from pipelines.scale.hours import measured

MODEL = "model"


def run(spec: Spec, run: RunFolder) -> dict[str, Any]:
    """See the module. BadInput, Retry and Stopped as the contract says."""
    device = use_device(spec.device)
    ranks = Ranks(device)
    try:
        return _run(spec, run, ranks, device)
    except torch.OutOfMemoryError:
        share = spec.batch // ranks.world
        raise BadInput(too_small(share if spec.micro_batch == "auto" else min(spec.micro_batch, share))) from None
    except RuntimeError:
        if works(device):
            raise
        raise Retry(
            "The GPU failed in the middle of a step; look at its state with nvidia-smi, then start the run again: "
            "it goes on from its last checkpoint."
        ) from None
    finally:
        ranks.close()


def works(device: torch.device) -> bool:
    """Whether a GPU still answers. One that failed fails at every call after, and cuBLAS, cuDNN and compiled kernels
    tell of it by a RuntimeError of no particular kind."""
    try:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
    except RuntimeError:
        return False
    return True


def _run(spec: Spec, run: RunFolder, ranks: Ranks, device: torch.device) -> dict[str, Any]:
    cohort = Cohort.open(spec.cohort)
    subset = cohort.subset(spec.samples)
    steps = check_sizes(spec, subset, ranks.world)
    run.log(
        f"{subset.samples} samples of {subset.studies} studies and {len(subset.patients)} patients; "
        f"{steps} steps of {spec.batch}."
    )
    folder, start = prepare_start(spec, cohort, run, ranks)
    run.check_stop()
    recipe = RECIPES[spec.encoder]
    task = build_task(spec, folder, cohort, steps, ranks, device, run)
    sampler = Sampler(subset.rows, spec.batch, spec.seed, ranks.rank, ranks.world)
    gpu = device.type == "cuda"
    peak = spec.learning_rate or recipe.optimiser.peak(spec.batch)
    fit = gpu and spec.micro_batch == "auto"
    plan = Plan(steps, spec.batch, peak, spec.checkpoint_every, cohort.digest, fused=gpu, fit=fit)
    insight = Insight(task, cohort, run)
    patients = read_patients(folder) | set(subset.patients) | insight.patients
    exporter = Exporter(run, task, _card(spec, cohort, subset, start), patients, spec.batch)
    every = spec.insight_every or max(1, steps // 20)
    occasions = [
        Occasion(lambda step: step % every == 0 or step == steps, insight.look),
        Occasion(exporter.milestones(spec.milestones, steps), exporter.milestone),
    ]
    with Board(run) as board:
        insight.show = board.picture
        end = train(task, sampler, recipe.optimiser, plan, ranks, run, device, occasions, board.metric)
    exporter.export(MODEL, steps, end.last)
    ranks.agree(0)  # torchrun must not see rank 1 end while rank 0 still writes
    return {
        "encoder": spec.encoder,
        "steps": steps,
        "samples": subset.samples,
        "studies": subset.studies,
        "patients": len(subset.patients),
        "image_forwards": steps * spec.batch,
        "skipped_batches": end.skipped,
        "final_loss": end.last["loss"],
        "speed": _speed(run, device, ranks.world),
        "model": MODEL,
        "start": None if spec.start else START,
    }


def _speed(run: RunFolder, device: torch.device, world: int) -> dict[str, Any] | None:
    """What other runs can be planned by."""
    gpu = device.type == "cuda"
    name = torch.cuda.get_device_name(device) if gpu else "CPU"
    found = measured(run.root / "events.jsonl", name, world if gpu else 0) if run.rank == 0 else None
    return asdict(found) if found else None


def check_sizes(spec: Spec, subset: Subset, world: int) -> int:
    """Steps of the run; BadInput when budget, batch, ranks and subset do not go together."""
    if spec.budget < spec.batch:
        raise BadInput(f"A budget of {spec.budget} image forwards is less than one batch of {spec.batch}; raise it.")
    if spec.batch % world:
        raise BadInput(f"A batch of {spec.batch} cannot be shared by {world} processes; choose a multiple of {world}.")
    if subset.samples < 2:
        raise BadInput("The cohort has fewer than 2 train images; add exports to it.")
    return spec.budget // spec.batch


def _card(spec: Spec, cohort: Cohort, subset: Subset, start: ModelCard) -> ModelCard:
    return ModelCard(
        name=f"{spec.encoder}, {subset.samples} samples, seed {spec.seed}",
        encoder=spec.encoder,
        kind="run",
        practice=cohort.practice or start.practice,
        cohort=cohort.digest,
        policies=tuple(sorted({*cohort.policies, *start.policies})),
        seen=tuple(dict.fromkeys((*start.seen, *([cohort.public_set] if cohort.public_set else [])))),
        samples=subset.samples,
        studies=subset.studies,
        patients=len(subset.patients),
        seed=spec.seed,
        start=start.weights_sha256,
        spec=spec.model_dump(mode="json", exclude={"cohort", "start"}),
    )


def use_device(asked: str) -> torch.device:
    """The device of this process, with its threads fixed: their number decides how sums are rounded."""
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS") or len(os.sched_getaffinity(0))))
    if asked == "cpu" or (asked == "auto" and not torch.cuda.is_available()):
        keep_freed_memory()
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise BadInput("No GPU can be used on this machine; set device to 'cpu' or 'auto'.")
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    torch.cuda.set_device(device)
    return device
