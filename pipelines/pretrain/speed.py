"""Settings that change how fast a step is and how much memory it takes, but not what it computes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn


@dataclass(frozen=True)
class Speed:
    """All off by default; `docs/benchmarks.md` shows what each gains."""

    compile: bool = False
    """torch.compile of every block by itself, for the shapes that occur; the first steps take half a minute."""
    packed: bool = False
    """Views of different sizes go through the blocks as one row of tokens."""
    checkpoint: bool = False
    """Activations of the blocks are computed again in the backward pass instead of being kept."""

    def compile_blocks(self, *groups: Iterable[nn.Module]) -> None:
        """Compile blocks in place; names of parameters stay."""
        if self.compile:
            for blocks in groups:
                for block in blocks:
                    block.compile(dynamic=False)

    def compiled(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """A compiled form of a function, for any number of rows."""
        return torch.compile(function, dynamic=True) if self.compile else function
