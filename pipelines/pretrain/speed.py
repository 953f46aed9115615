"""Settings that change how fast a step is and how much memory it takes, but not what it computes."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import nn

# Parameters of glibc's mallopt.
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
FORMS = 64
"""Compiled forms of one function at most."""


def worth_compiling(encoder: str, device: torch.device) -> bool:
    """Whether blocks are compiled when the spec does not say: only where docs/benchmarks.md shows a gain."""
    return device.type == "cuda" and encoder == "rad-dino"


@dataclass(frozen=True)
class Speed:
    """All off by default; `docs/benchmarks.md` shows what each gains."""

    compile: bool = False
    """torch.compile of every block by itself, for the shapes that occur; the first steps take half a minute."""
    packed: bool = False
    """Views of different sizes go through the blocks as one row of tokens."""
    checkpoint: bool = False
    """Activations of the blocks are computed again in the backward pass instead of being kept."""
    warn: Callable[[str], None] = lambda sentence: None
    """Told once when compilation fails; the run goes on without it."""

    def compile_blocks(self, *groups: Iterable[nn.Module]) -> None:
        """Compile blocks in place; names of parameters stay."""
        if self.compile:
            for blocks in groups:
                for block in blocks:
                    # As nn.Module.compile does, with the plain form kept at hand.
                    block._compiled_call_impl = self._compiler.form(block._call_impl, dynamic=False)

    def compiled(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """A compiled form of a function; sizes that turn out to vary are left open."""
        return self._compiler.form(function, dynamic=None) if self.compile else function

    @cached_property
    def _compiler(self) -> _Compiler:
        return _Compiler(self.warn)


class _Compiler:
    """Compiled forms that all go back to the plain ones when one of them cannot be made: there is no compiler on the
    machine, a kernel does not build, an operation is not known. That comes out before anything has run, so the same
    call can be made again."""

    def __init__(self, warn: Callable[[str], None]) -> None:
        self.warn, self.failed = warn, False

    def form(self, plain: Callable[..., Any], dynamic: bool | None) -> Callable[..., Any]:
        from torch._dynamo import config  # late: it takes a second, and most runs compile nothing
        from torch._dynamo.exc import TorchDynamoException

        # All blocks are forms of one function: views, student and teacher, and every micro-batch that is tried. Beyond
        # the limit, 8, dynamo goes back to the plain form without a word.
        config.recompile_limit = FORMS

        made = torch.compile(plain, dynamic=dynamic)

        def call(*arguments: Any, **named: Any) -> Any:
            if not self.failed:
                try:
                    return made(*arguments, **named)
                except TorchDynamoException as error:
                    self.failed = True
                    self.warn(
                        f"Compilation failed ({type(error).__name__}); the run goes on without it, more slowly. "
                        "Set compile to false, or install the compiler that torch needs on this machine."
                    )
            return plain(*arguments, **named)

        return call


def keep_freed_memory() -> None:
    """Let glibc keep a GB of freed memory for the next tensors; other C libraries do as they do.

    It maps every large tensor anew and unmaps it, and a CPU then spends half of a large loss on faulting pages in.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, 1 << 30)
