"""The processes of one run: torchrun's ranks, or a single process without a process group.

Every function here is a no-op for a single process. A collective that fails means that another rank is gone: Retry.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from pipelines.contract import EXIT_CODES, Outcome, Retry

BUCKET = 16 << 20
"""Gradient elements reduced at once."""


class Ranks:
    """Rank, world size and the control group (gloo, so that control messages never wait for a GPU)."""

    def __init__(self, device: torch.device) -> None:
        self.rank = int(os.environ.get("RANK", "0"))
        self.world = int(os.environ.get("WORLD_SIZE", "1"))
        self.control: dist.ProcessGroup | None = None
        if self.world > 1:
            watch_parent()
            backend = "nccl" if device.type == "cuda" else "gloo"
            _call(dist.init_process_group, backend, timeout=timedelta(minutes=10))
            self.control = _call(dist.new_group, backend="gloo")

    def any(self, flag: bool) -> bool:
        """Whether any rank says so; all ranks get the same answer at the same step."""
        if self.control is None:
            return flag
        flags = torch.tensor([int(flag)])
        _call(dist.all_reduce, flags, dist.ReduceOp.MAX, self.control)
        return bool(flags.item())

    def agree(self, value: int) -> int:
        """Rank 0's value."""
        if self.control is None:
            return value
        values = torch.tensor([value])
        _call(dist.broadcast, values, 0, self.control)
        return int(values.item())

    def least(self, value: int) -> int:
        """The smallest value of any rank."""
        if self.control is None:
            return value
        values = torch.tensor([value])
        _call(dist.all_reduce, values, dist.ReduceOp.MIN, self.control)
        return int(values.item())

    def close(self) -> None:
        """Leave the process group."""
        if self.control is not None:
            dist.destroy_process_group()


_apart = False


@contextlib.contextmanager
def apart() -> Iterator[None]:
    """Within it the functions below ask no other rank, and stand in for what it would have sent: for a step that may
    fail on one rank alone, where another would wait for it in vain."""
    global _apart
    _apart = True
    try:
        yield
    finally:
        _apart = False


def _together() -> bool:
    return dist.is_initialized() and not _apart


def world_size() -> int:
    """Ranks that take part, 1 without a process group."""
    return dist.get_world_size() if _together() else 1


def all_sum(x: Tensor) -> Tensor:
    """Sum over ranks, in place, without gradients."""
    if _together():
        _call(dist.all_reduce, x)
    return x


def all_max(x: Tensor) -> Tensor:
    """Largest over ranks, in place, without gradients."""
    if _together():
        _call(dist.all_reduce, x, dist.ReduceOp.MAX)
    return x


def all_mean(x: Tensor) -> Tensor:
    """Mean over ranks, in place, without gradients."""
    return all_sum(x).div_(world_size())


def gather(x_ND: Tensor) -> Tensor:
    """Rows of all ranks [world * N, D], in rank order, with gradients. N must be the same everywhere.

    The gradient of a row is the sum over ranks. When each rank computes the whole loss of the gathered rows and
    parameter gradients are averaged over ranks, the result is exactly the gradient of that one loss.
    """
    if not dist.is_initialized():
        return x_ND
    return _Gather.apply(x_ND) if _together() else x_ND.repeat(dist.get_world_size(), 1)


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_ND: Tensor) -> Tensor:
        parts = [torch.empty_like(x_ND) for _ in range(dist.get_world_size())]
        _call(dist.all_gather, parts, x_ND.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, grad_MD: Tensor) -> Tensor:
        grad_MD = all_sum(grad_MD.contiguous().clone())
        return grad_MD.chunk(dist.get_world_size())[dist.get_rank()]


def average_gradients(parameters: Iterable[Tensor]) -> None:
    """Replace every gradient by its mean over ranks.

    Done after the backward pass, in buckets, instead of by DistributedDataParallel: a step has several forward passes
    (views, cached gradients), and the backbones here are small enough that overlap would gain a few percent.
    """
    if not _together():
        return
    bucket: list[Tensor] = []
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        bucket.append(parameter.grad)
        if sum(g.numel() for g in bucket) >= BUCKET:
            _average(bucket)
            bucket = []
    if bucket:
        _average(bucket)


def _average(gradients: list[Tensor]) -> None:
    flat = all_mean(torch.cat([g.flatten() for g in gradients]))
    for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))


def watch_parent(period: float = 1.0) -> None:
    """End this process when its parent dies: torchrun's ranks would go on for ever. Adds to PR_SET_PDEATHSIG, which
    the kernel drops when the parent *thread* ends or an image changes its credentials."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(period)
        os._exit(EXIT_CODES[Outcome.RETRY])

    threading.Thread(target=watch, name="watch-parent", daemon=True).start()


def _call(collective: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    try:
        return collective(*args, **kwargs)
    except RuntimeError:
        raise Retry("Another process of this run was lost; start it again to go on from the last checkpoint.") from None
