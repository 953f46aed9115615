"""The largest micro-batch whose step fits the GPU's memory. The global batch and every statistic over it stay."""

from __future__ import annotations

import gc
from collections.abc import Callable

import torch

from pipelines.contract import BadInput, RunFolder
from pipelines.pretrain.ranks import Ranks, apart
from pipelines.pretrain.task import Task


def fit_micro_batch(task: Task, step: Callable[[], None], ranks: Ranks, run: RunFolder) -> None:
    """Try whole steps, each rank for itself, and halve the micro-batch until one goes; then all take the smallest.

    `step` changes models and optimiser: load a checkpoint afterwards. BadInput when a single sample is too much.
    """
    asked = micro = task.micro
    while micro and not _goes(step):
        _forget()
        micro //= 2
        task.micro = max(1, micro)
    smallest = ranks.least(micro)
    if not smallest:
        raise BadInput(too_small(1))
    task.micro = smallest
    if smallest < asked:
        run.log(f"{asked} samples at once do not fit the GPU's memory: each process takes {smallest} at a time.")


def too_small(micro: int) -> str:
    """The sentence for a GPU whose memory does not hold `micro` samples."""
    hint = f"set micro_batch to {micro // 2}" if micro > 1 else "use a GPU with more memory or precision bf16"
    return f"The GPU's memory is too small for {micro} samples at once; {hint}."


def _goes(step: Callable[[], None]) -> bool:
    try:
        with apart():
            step()
    except torch.OutOfMemoryError:
        return False  # only here do the failed step's tensors lose their last holder, the traceback
    return True


def _forget() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
