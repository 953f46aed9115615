"""A scaling study as a person writes it, and the runs it stands for. No heavy import: the server plans by this too."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from pipelines.contract import BadInput, Ref
from pipelines.evaluate.spec import Task
from pipelines.reporting.spec import Reporting
from pipelines.segmentation.spec import Segmentation

SIZES = (10_000, 30_000, 50_000, 100_000, 300_000, 1_000_000)


class Study(BaseModel):
    """One spec for a whole scaling study: every encoder x size x seed at one budget, then one evaluation of all."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    cohort: Annotated[Path, Ref("cohort")]
    encoders: tuple[Literal["rad-dino", "rad-dino-tiny", "mi2", "mi2-tiny"], ...] = Field(min_length=1)
    starts: Annotated[tuple[Path, ...], Ref("model")] = ()
    """Model folders to start from, one an encoder; an encoder is matched by what its card says."""
    sizes: tuple[Annotated[int, Field(ge=2)], ...] = SIZES
    """N, in samples; those that the cohort does not reach are left out."""
    everything: bool = True
    """Also all train samples of the cohort."""
    seeds: tuple[int, ...] = Field((0, 1, 2), min_length=1)
    """Of the runs; fewer than 3 prints 'below protocol'."""
    pretrain: dict[str, Any]
    """What every run has in common: `budget` and `batch`, and any other setting of `pretrain`."""
    baselines: Annotated[tuple[Path, ...], Ref("model")] = ()
    """Open weights to beat. A tiny form is compared with its own untrained start as well."""
    tasks: tuple[Task, ...] = ("findings", "lines", "view")
    probe_seeds: tuple[int, ...] = Field((0, 1, 2), min_length=1)
    resamples: int = Field(2000, ge=100)
    minimum_positives: int = Field(5, ge=1)
    segmentation: Segmentation = Segmentation()
    """As in an evaluation, and so are the next three."""
    reports: Reporting = Reporting()
    language_model: Annotated[Path | None, Ref("weights")] = None
    chexbert: Annotated[Path | None, Ref("weights")] = None
    device: Literal["auto", "cpu", "cuda"] = "auto"


def judgement(study: Study, models: list[str], store: Path) -> dict[str, Any]:
    """The spec of `scale`, as JSON, for these model folders of a study; `store` keeps features and scores."""
    shared = {"cohort", "baselines", "tasks", "resamples", "minimum_positives", "device"}
    shared |= {"segmentation", "reports", "language_model", "chexbert"}
    return study.model_dump(mode="json", include=shared) | {
        "models": models,
        "seeds": list(study.probe_seeds),
        "store": str(store),
    }


@dataclass(frozen=True)
class PlannedRun:
    """One run of a study."""

    name: str
    """Also the name of its folder, such as `mi2-30000-s1`."""
    encoder: str
    samples: int
    seed: int
    settings: dict[str, Any]
    """Fields of a `pretrain` spec other than paths."""


def planned_runs(study: Study, available: int) -> list[PlannedRun]:
    """The runs of a study on a cohort with `available` train samples, small sizes first, so that partial results come
    early. BadInput when no size can be reached or a setting is given twice."""
    own = {"cohort", "encoder", "start", "samples", "seed", "device"} & study.pretrain.keys()
    if own:
        raise BadInput(f"'{sorted(own)[0]}' belongs to the study, not to its table 'pretrain'; move it there.")
    sizes = sorted({n for n in study.sizes if n < available} | ({available} if study.everything else set()))
    sizes += [available] if available in study.sizes and not study.everything else []
    if not sizes:
        raise BadInput(
            f"The cohort has {available:,} train samples, fewer than every size of the study; add a smaller size."
        )
    return [
        PlannedRun(
            f"{encoder}-{n}-s{seed}",
            encoder,
            n,
            seed,
            study.pretrain | {"encoder": encoder, "samples": n, "seed": seed, "device": study.device},
        )
        for n in sizes
        for seed in dict.fromkeys(study.seeds)
        for encoder in dict.fromkeys(study.encoders)
    ]
