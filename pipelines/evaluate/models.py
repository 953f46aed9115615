"""The model folders of an evaluation: their cards, their names in tables, and which is compared with which."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

from pipelines.contract import BadInput
from pipelines.encoders.folder import ModelCard, read_card
from pipelines.evaluate.spec import Spec


@dataclass(frozen=True)
class Model:
    """One model folder. `name` is unique in the evaluation and stands in every table."""

    folder: Path
    name: str
    card: ModelCard

    @staticmethod
    def open(folder: Path) -> Model:
        """A model folder by its card; BadInput when it is none."""
        card = read_card(folder)
        return Model(folder, card.name, card)

    @property
    def digest(self) -> str:
        """SHA-256 of the weights: what the model is, whatever it is called and wherever it lies."""
        return self.card.weights_sha256

    @property
    def family(self) -> str:
        """`rad-dino` or `mi2`, whatever the size: what a model's colour follows."""
        return self.card.encoder.removesuffix("-tiny")


@dataclass(frozen=True)
class Contest:
    """Who takes part and who is compared with whom."""

    models: list[Model]
    baselines: list[Model]
    """Given ones, then untrained starts, that are no `models`."""
    pairs: dict[tuple[str, str], str]
    """(model, baseline) by name -> what the baseline is to the model, in words."""

    @property
    def all(self) -> list[Model]:
        """Every model and baseline once."""
        return [*self.models, *self.baselines]


def open_contest(spec: Spec) -> Contest:
    """The models and baselines of a spec; a run of a tiny form brings its own untrained start as a baseline."""
    models = [Model.open(folder) for folder in spec.models]
    given = [Model.open(folder) for folder in spec.baselines]
    digests = [m.digest for m in models]
    twice = [m.name for m in models if digests.count(m.digest) > 1]
    if twice:
        raise BadInput(f"Model {twice[0]} is named more than once; name each model once.")
    starts = {m.digest: start for m in models if (start := own_start(m))}
    named = unique_names([*models, *given, *starts.values()])
    pairs: dict[tuple[str, str], str] = {}
    for model in models:
        for baseline in [*given, *(starts[d] for d in starts if d == model.digest)]:
            if baseline.digest != model.digest:
                pairs[(named[model.digest].name, named[baseline.digest].name)] = _words(model, named[baseline.digest])
    others = [m for digest, m in named.items() if digest not in digests]
    return Contest([named[digest] for digest in digests], others, pairs)


def _words(model: Model, baseline: Model) -> str:
    """What a baseline is called beside a model."""
    if model.card.start == baseline.digest:
        return f"its {baseline.card.kind} start" if baseline.card.kind != "run" else f"its start {baseline.name}"
    return baseline.name


def own_start(model: Model) -> Model | None:
    """The untrained start that a run of a tiny form leaves beside its model."""
    folder = model.folder.parent / "start"
    if model.card.kind != "run" or not model.card.encoder.endswith("-tiny") or not (folder / "card.json").exists():
        return None
    return Model.open(folder)


def unique_names(models: list[Model]) -> dict[str, Model]:
    """Models by digest, each set of weights once; equal names of different weights get the digest behind them."""
    by_digest: dict[str, Model] = {}
    for model in models:
        by_digest.setdefault(model.digest, model)
    count = Counter(m.name for m in by_digest.values())
    return {
        digest: replace(m, name=f"{m.name} ({digest[:8]})") if count[m.name] > 1 else m
        for digest, m in by_digest.items()
    }
