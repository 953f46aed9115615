"""From the models of a study to its curves: which runs belong together, and whether their compute was equal."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from pipelines.contract import BadInput
from pipelines.evaluate.models import Contest, Model
from pipelines.evaluate.results import MACRO, Measured

Grid = dict[int, dict[int, Model]]


@dataclass(frozen=True)
class Group:
    """The runs of one encoder: every size under the same seeds."""

    encoder: str
    sizes: list[int]
    """Rising; N as really taken."""
    seeds: list[int]
    runs: list[list[Model]]
    """[sizes][seeds]"""
    left_out: list[str]
    """Names of runs that no full row of the grid holds yet."""
    baselines: list[list[Model]]
    """Candidates: each is one open-weight model, or the untrained starts of a tiny form, one a seed."""


def group(contest: Contest) -> list[Group]:
    """Groups by encoder. BadInput when runs that shall be compared had unequal budgets or a model is no run."""
    grids: dict[str, Grid] = defaultdict(lambda: defaultdict(dict))
    for model in contest.models:
        card = model.card
        if card.kind != "run":
            raise BadInput(f"{model.name} is no run of this site; give it as a baseline.")
        if card.seed in grids[card.encoder][card.samples]:
            raise BadInput(f"Two runs of {card.encoder} have {card.samples:,} samples and seed {card.seed}; give one.")
        grids[card.encoder][card.samples][card.seed] = model
    for encoder, grid in grids.items():
        budgets = {model.card.budget for row in grid.values() for model in row.values()}
        if len(budgets) > 1:
            raise BadInput(
                f"Runs of {encoder} had budgets of {' and '.join(f'{b:,}' for b in sorted(budgets))} image forwards; a "
                "scaling study compares runs of one budget."
            )
    return [_of_encoder(encoder, grid, contest) for encoder, grid in grids.items()]


def _of_encoder(encoder: str, grid: Grid, contest: Contest) -> Group:
    """The largest full grid: sizes that lack a seed which most have wait until it is there."""
    count = max(len(row) for row in grid.values())
    sizes = sorted(n for n, row in grid.items() if len(row) == count)
    seeds = sorted(set.intersection(*(set(grid[n]) for n in sizes))) or sorted(grid[sizes[-1]])
    sizes = [n for n in sizes if set(seeds) <= set(grid[n])]
    runs = [[grid[n][seed] for seed in seeds] for n in sizes]
    kept = {model.name for row in runs for model in row}
    left_out = [model.name for row in grid.values() for model in row.values() if model.name not in kept]
    digests = {model.card.start for row in runs for model in row}
    starts = [m for m in contest.baselines if m.card.kind == "untrained" and m.digest in digests]
    given = [[m] for m in contest.baselines if m.card.kind != "untrained"]
    return Group(encoder, sizes, seeds, runs, left_out, given + ([starts] if starts else []))


def values(models: list[Model], measured: dict[str, dict[str, Measured]]) -> tuple[np.ndarray, np.ndarray]:
    """Macro [K] of the headline metric and its draws [K, R] of models; every model under the same draws."""
    macro = [measured[m.name][MACRO] for m in models]
    return np.array([m.value[0] for m in macro]), np.stack([m.draws[0] for m in macro])
