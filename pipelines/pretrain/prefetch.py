"""Inputs of the next steps, made ready in a thread while the GPU works on this one."""

from __future__ import annotations

import dataclasses
import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

AHEAD = 2


class Prefetch:
    """Iterates over `make(step)` for steps from `first` to `last`, moved to the device.

    On a CPU everything happens in turn, unless `ahead` says otherwise: a thread would take the cores from the step
    before. An error of `make` is raised where its result is asked for.
    """

    def __init__(
        self, make: Callable[[int], Any], first: int, last: int, device: torch.device, ahead: bool | None = None
    ) -> None:
        self.make, self.first, self.last, self.device = make, first, last, device
        self.pinned = device.type == "cuda"
        self.ahead = self.pinned if ahead is None else ahead
        self.waited = 0.0
        """Seconds that the loop has waited for inputs."""
        self._ready: queue.Queue[Any] = queue.Queue(AHEAD)
        self._over = threading.Event()

    def __iter__(self) -> Iterator[Any]:
        if not self.ahead:
            for step in range(self.first, self.last):
                began = time.monotonic()
                inputs = self.make(step)
                self.waited += time.monotonic() - began
                yield inputs
            return
        thread = threading.Thread(target=self._work, name="prefetch", daemon=True)
        thread.start()
        try:
            for _ in range(self.first, self.last):
                began = time.monotonic()
                inputs = self._ready.get()
                self.waited += time.monotonic() - began
                if isinstance(inputs, BaseException):
                    raise inputs
                yield map_tensors(inputs, lambda t: t.to(self.device, non_blocking=True))
        finally:
            self._over.set()
            thread.join()

    def _work(self) -> None:
        for step in range(self.first, self.last):
            try:
                inputs = self.make(step)
                inputs = map_tensors(inputs, Tensor.pin_memory) if self.pinned else inputs
            except BaseException as error:  # noqa: BLE001 - handed to the loop, which raises it
                inputs = error
            while not self._over.is_set():
                try:
                    self._ready.put(inputs, timeout=0.1)
                    break
                except queue.Full:
                    continue
            if self._over.is_set() or isinstance(inputs, BaseException):
                return


def map_tensors(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """`value` with every tensor in it changed, through tuples, lists and dataclasses."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, (list, tuple)):
        return type(value)(map_tensors(v, change) for v in value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: map_tensors(getattr(value, f.name), change) for f in dataclasses.fields(value)}
        return dataclasses.replace(value, **fields)
    return value
