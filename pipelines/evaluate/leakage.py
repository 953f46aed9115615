"""No test patient may have been pretrained on, by any model or any of its ancestors."""

from __future__ import annotations

import pyarrow.compute as pc

from pipelines.cohort import Cohort
from pipelines.contract import BadInput
from pipelines.encoders.folder import read_patients
from pipelines.evaluate.models import Model
from pipelines.external.names import share_images


def check_leakage(cohort: Cohort, models: list[Model]) -> None:
    """BadInput when a model saw test patients, or when a patient of the cohort stands in more than one split.

    `patients.parquet` of a model folder lists everyone the model or an ancestor was pretrained on.
    """
    check_splits(cohort)
    test = set(cohort.index.filter(pc.field("split") == "test")["patient"].to_pylist())
    if not test:
        raise BadInput("The cohort has no test patient; build it from more studies.")
    leaks = []
    for model in models:
        overlap = len(test & read_patients(model.folder))
        if overlap:
            leaks.append(f"{overlap:,} test patients of this cohort were pretrained on by model {model.name}")
    if leaks:
        raise BadInput(
            f"{'; '.join(leaks)}; their scores would say nothing of new patients. "
            "Evaluate models that were pretrained on the train split of this site's cohorts only."
        )


def check_splits(cohort: Cohort) -> None:
    """BadInput when a patient stands in more than one split."""
    pairs = cohort.index.select(["patient", "split"]).group_by(["patient", "split"]).aggregate([])
    torn = len(pairs) - len(pc.unique(pairs["patient"]))
    if torn:
        raise BadInput(f"{torn:,} patients of this cohort stand in more than one split; build the cohort again.")


def contaminated(cohort: Cohort, model: Model) -> list[str]:
    """Public sets that the model or an ancestor was pretrained on and that share images with this cohort."""
    return [seen for seen in model.card.seen if cohort.public_set and share_images(seen, cohort.public_set)]
