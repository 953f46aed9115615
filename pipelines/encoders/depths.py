"""What an encoder makes of an image on the way, not its last map alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from torch import Tensor, nn

DEPTHS = 4


def spread(blocks: int, count: int = DEPTHS) -> list[int]:
    """Places, from 0, of `count` evenly spaced blocks, the last included; every block where there are fewer."""
    count = min(count, blocks)
    return [-(-blocks * k // count) - 1 for k in range(1, count + 1)]


@contextmanager
def watch(modules: Iterable[nn.Module]) -> Iterator[list[Tensor]]:
    """The outputs of modules, in the order they are called in the forward pass inside this context."""
    seen: list[Tensor] = []
    handles = [module.register_forward_hook(lambda _module, _given, made: seen.append(made)) for module in modules]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()
