"""What is learnt from and written: one frontal image of each study whose report has findings."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter

import numpy as np

from pipelines.cohort import Cohort
from pipelines.evaluate.tasks import Images
from pipelines.pretrain.sampler import generator
from pipelines.reporting.spec import Reporting

VIEWS = ("PA", "AP")
# Words that were removed before the text came here (Open-I writes XXXX): no model shall learn to write them.
REMOVED = re.compile(r"\bX{3,}\b(?:'s)?|\[[^\]]{0,40}\]|_{3,}")
LOOSE = re.compile(r"\s+(?=[.,;:])|(?<=[.,;:])\s*[.,;:]+")  # the punctuation that removed words leave
LIMIT = 17  # stream of random numbers that chooses which train studies are left out


@dataclass(frozen=True)
class Study:
    """One study by its frontal image."""

    place: int
    """Of the image among those that are judged."""
    row: int
    """Of the image in the cohort."""
    patient: str
    findings: str
    indication: str
    prior: str
    """Findings of the patient's last earlier study with a report; empty without one."""


def clean(text: str | None) -> str:
    """One line, without words that stand for removed ones."""
    text = " ".join(REMOVED.sub(" ", text or "").split())
    return LOOSE.sub("", text).lstrip(" .,;:").rstrip(" ,;:")


def studies(cohort: Cohort, images: Images, split: str) -> list[Study]:
    """The studies of a split with findings and a frontal image, by image row. PA is preferred to AP and unknown."""
    columns = ["accession", "indication", "findings"]
    reports = {r["accession"]: r for r in cohort.texts.select(columns).to_pylist()}
    places = images.of(split)
    index = cohort.index.select(["accession", "date"]).take(images.rows[places]).to_pylist()
    best: dict[str, tuple[int, int, str]] = {}
    for place, record in zip(places.tolist(), index, strict=True):
        accession = record["accession"]
        if accession in reports and clean(reports[accession]["findings"]):
            view = images.view[place]
            choice = (VIEWS.index(view) if view in VIEWS else len(VIEWS), place, record["date"] or "")
            best[accession] = min(choice, best.get(accession, choice))
    earlier = _priors(best, images, reports)
    found = [
        Study(
            place,
            int(images.rows[place]),
            str(images.patient[place]),
            clean(reports[accession]["findings"]),
            clean(reports[accession]["indication"]),
            earlier.get(accession, ""),
        )
        for accession, (_, place, _) in best.items()
    ]
    return sorted(found, key=lambda s: s.row)


def _priors(
    best: dict[str, tuple[int, int, str]], images: Images, reports: dict[str, dict[str, str]]
) -> dict[str, str]:
    """accession -> findings of the same patient's last study on an earlier day; undated studies have and are none."""
    dated = sorted((str(images.patient[p]), day, accession) for accession, (_, p, day) in best.items() if day)
    out: dict[str, str] = {}
    for _, of in groupby(dated, key=itemgetter(0)):
        last = ""
        for _, same_day in groupby(of, key=itemgetter(1)):
            accessions = [accession for _, _, accession in same_day]
            out |= dict.fromkeys(accessions, last)
            last = clean(reports[accessions[-1]]["findings"])
    return out


def learnt(found: list[Study], most: int, seed: int) -> list[Study]:
    """At most so many studies, chosen by the seed; in the order they had."""
    if len(found) <= most:
        return found
    chosen = generator(seed, LIMIT).permutation(len(found))[:most]
    return [found[i] for i in np.sort(chosen)]


def prompt(study: Study, settings: Reporting) -> str:
    """What the language model is told beside the image: the sentence of LLaVA-Rad and MAIRA, the prior first."""
    said = []
    if settings.prior and study.prior:
        said.append(f"Findings of the prior study: {study.prior}")
    asked = "Provide a description of the findings in the radiology image"
    if settings.indication and study.indication:
        asked += f" given the following indication: {study.indication}"
    return "\n".join([*said, asked + "."]) + "\n"
