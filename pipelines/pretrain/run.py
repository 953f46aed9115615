"""Stage `pretrain`: one continual pretraining of an encoder on N samples of a cohort, at a fixed budget.

    python -m pipelines pretrain SPEC.json RUN_DIR                            one process
    torchrun --nproc-per-node G -m pipelines pretrain SPEC.json RUN_DIR       one process per GPU (or gloo on CPUs)

Ends with RUN/model, a model folder (`pipelines.encoders.folder`), and for a tiny form RUN/start, what it began with.
"""

from __future__ import annotations

import os
from typing import Any

import torch

from pipelines.cohort import Cohort, Subset
from pipelines.contract import BadInput, RunFolder
from pipelines.encoders.folder import ModelCard, new_model_folder, read_patients
from pipelines.pretrain.loop import Plan, train
from pipelines.pretrain.ranks import Ranks
from pipelines.pretrain.recipe import RECIPES
from pipelines.pretrain.sampler import Sampler
from pipelines.pretrain.spec import Spec
from pipelines.pretrain.start import START, build_task, prepare_start
from pipelines.pretrain.task import Task

MODEL = "model"


def run(spec: Spec, run: RunFolder) -> dict[str, Any]:
    """See the module. BadInput, Retry and Stopped as the contract says."""
    device = _device(spec.device)
    ranks = Ranks(device)
    try:
        return _run(spec, run, ranks, device)
    except torch.OutOfMemoryError:
        micro = spec.micro_batch or spec.batch // ranks.world
        hint = f"set micro_batch to {micro // 2}" if micro > 1 else "use a GPU with more memory or precision bf16"
        raise BadInput(f"The GPU's memory is too small for {micro} samples at once; {hint}.") from None
    finally:
        ranks.close()


def _run(spec: Spec, run: RunFolder, ranks: Ranks, device: torch.device) -> dict[str, Any]:
    cohort = Cohort.open(spec.cohort)
    subset = cohort.subset(spec.samples)
    steps = _check(spec, subset, ranks.world)
    run.log(f"{subset.samples} samples of {len(subset.patients)} patients; {steps} steps of {spec.batch}.")
    folder, start = prepare_start(spec, cohort, run, ranks)
    run.check_stop()
    recipe = RECIPES[spec.encoder]
    task = build_task(spec, folder, cohort, steps, ranks, device, run)
    sampler = Sampler(subset.rows, spec.batch, spec.seed, ranks.rank, ranks.world)
    plan = Plan(
        steps, spec.batch, spec.learning_rate or recipe.optimiser.peak(spec.batch), spec.checkpoint_every, cohort.digest
    )
    last = train(task, sampler, recipe.optimiser, plan, ranks, run, device)
    if ranks.rank == 0:
        patients = read_patients(folder) | set(subset.patients)
        _export(spec, run, task, _card(spec, cohort, subset, start, steps, last), patients)
    ranks.agree(0)  # torchrun must not see rank 1 end while rank 0 still writes
    return {
        "encoder": spec.encoder,
        "steps": steps,
        "samples": subset.samples,
        "studies": subset.studies,
        "patients": len(subset.patients),
        "image_forwards": steps * spec.batch,
        "final_loss": last["loss"],
        "model": MODEL,
        "start": None if spec.start else START,
    }


def _check(spec: Spec, subset: Subset, world: int) -> int:
    """Steps of the run; BadInput when budget, batch, ranks and subset do not go together."""
    if spec.budget < spec.batch:
        raise BadInput(f"A budget of {spec.budget} image forwards is less than one batch of {spec.batch}; raise it.")
    if spec.batch % world:
        raise BadInput(f"A batch of {spec.batch} cannot be shared by {world} processes; choose a multiple of {world}.")
    if subset.samples < 2:
        raise BadInput("The cohort has fewer than 2 train images; add exports to it.")
    return spec.budget // spec.batch


def _card(
    spec: Spec, cohort: Cohort, subset: Subset, start: ModelCard, steps: int, last: dict[str, float]
) -> ModelCard:
    return ModelCard(
        name=f"{spec.encoder}, {subset.samples} samples, seed {spec.seed}",
        encoder=spec.encoder,
        kind="run",
        practice=cohort.practice or start.practice,
        cohort=cohort.digest,
        policies=tuple(sorted({*cohort.policies, *start.policies})),
        seen=start.seen,
        samples=subset.samples,
        studies=subset.studies,
        patients=len(subset.patients),
        budget=steps * spec.batch,
        seed=spec.seed,
        start=start.weights_sha256,
        spec=spec.model_dump(mode="json", exclude={"cohort", "start"}),
        metrics=last,
    )


def _export(spec: Spec, run: RunFolder, task: Task, card: ModelCard, patients: set[str]) -> None:
    with new_model_folder(run.root / MODEL, card, patients) as part:
        task.write(part)
    run.artifact(MODEL, run.root / MODEL)


def _device(asked: str) -> torch.device:
    """The device of this process, with its threads fixed: their number decides how sums are rounded."""
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS") or len(os.sched_getaffinity(0))))
    if asked == "cpu" or (asked == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise BadInput("No GPU can be used on this machine; set device to 'cpu' or 'auto'.")
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    torch.cuda.set_device(device)
    return device
