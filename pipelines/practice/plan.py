"""What the practice hospital did: patients, their studies in time, findings that come and go, lines and tubes."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pipelines.practice.anatomy import Anatomy, sample_anatomy
from pipelines.practice.devices import STRUCTURES, Device
from pipelines.practice.findings import LABELS, ZONES, Finding
from pipelines.practice.people import HOSPITALS, Person, make_person

START = dt.date(2019, 1, 7)
# Chance of each finding at a patient's first study: (ambulatory, intensive care).
FIRST = {
    "Effusion": (0.20, 0.48), "Consolidation": (0.17, 0.26), "Pneumothorax": (0.07, 0.14),
    "Nodule": (0.16, 0.06), "Edema": (0.03, 0.32),
}  # fmt: skip
ROUTES = ("right-jugular", "right-jugular", "left-subclavian", "right-subclavian", "left-jugular")
WRONG = {
    "ett": (0.66, 0.18),
    "ngt": (0.72, 0.12),
    "cvc": (0.66, 0.16),
    "swan-ganz": (0.7, 0.15),
    "chest-tube": (0.74, 0.1),
}


@dataclass(frozen=True)
class Study:
    """One study as it happened. `prior` is the index of the patient's previous study, or -1."""

    number: int
    patient: int
    accession: str
    when: dt.date
    view: str  # AP | PA of the frontal image
    lateral: bool
    findings: tuple[Finding, ...]
    devices: tuple[Device, ...]
    unsure: str  # a structure whose label is U, or blank
    hospital: str
    prior: int

    def finding(self, label: str) -> Finding | None:
        """The finding with this label, if present."""
        return next((f for f in self.findings if f.label == label), None)

    def device(self, structure: str) -> Device | None:
        """The device of this kind, if present."""
        return next((d for d in self.devices if d.structure == structure), None)


@dataclass(frozen=True)
class Patient:
    """Who was examined, and the thorax that every image of them shows."""

    number: int
    person: Person
    anatomy: Anatomy
    age: int


@dataclass(frozen=True)
class Plan:
    """Everything decided before the first pixel. Studies are ordered by patient, then date."""

    patients: tuple[Patient, ...]
    studies: tuple[Study, ...]


def make_plan(count: int, seed: int) -> Plan:
    """A plan of `count` studies. Prevalence is spread evenly (golden-ratio sequence), so small exports have it too."""
    patients: list[Patient] = []
    studies: list[Study] = []
    while len(studies) < count:
        number = len(patients)
        rng = np.random.default_rng([seed, 1, number])
        sex = "FM"[int(rng.integers(2))]
        age = int(rng.choice([*range(19, 90), *range(50, 85), 91, 94]))
        first = START + dt.timedelta(days=int(rng.integers(0, 1700)))
        patient = Patient(number, make_person(rng, number + 1, sex, age, first), sample_anatomy(rng, sex, age), age)
        patients.append(patient)
        history = _history(rng, patient, first, seed, len(studies))
        studies.extend(history[: count - len(studies)])
    return Plan(tuple(patients), tuple(studies))


def _history(rng: np.random.Generator, patient: Patient, first: dt.date, seed: int, begin: int) -> list[Study]:
    """One to four studies of a patient."""
    spread = (seed % 97) * 0.37
    acute = (patient.number * 0.618034 + spread) % 1 < 0.46
    enlarged = (patient.number * 0.414214 + spread + 0.11) % 1 < (0.40 if acute else 0.22)
    length = int(rng.choice([1, 2, 3, 4], p=[0.32, 0.36, 0.2, 0.12] if acute else [0.55, 0.28, 0.12, 0.05]))
    hospital = str(rng.choice(HOSPITALS))
    studies: list[Study] = []
    when = first
    for index in range(length):
        prior = studies[-1] if studies else None
        findings = _findings(rng, acute, enlarged, prior)
        bedside = acute and (index < 2 or rng.random() < 0.7)
        devices = _devices(rng, findings, prior) if bedside else ()
        absent = [s for s in STRUCTURES if all(d.structure != s for d in devices)]
        unsure = str(rng.choice(absent)) if absent and rng.random() < 0.06 else ""
        studies.append(
            Study(
                number=begin + index,
                patient=patient.number,
                accession=_accession(seed, begin + index),
                when=when,
                view="AP" if bedside else "PA",
                lateral=not bedside and bool(rng.random() < 0.5),
                findings=findings,
                devices=devices,
                unsure="" if unsure == "ett" else unsure,
                hospital=hospital,
                prior=begin + index - 1 if index else -1,
            )
        )
        when += dt.timedelta(days=int(rng.integers(1, 6) if acute else rng.integers(20, 500)))
    return studies


def _accession(seed: int, number: int) -> str:
    return f"ACC{1_000_000 + (number * 4_827_187 + seed * 104_729) % 9_000_000}"


def _new(rng: np.random.Generator, label: str, acute: bool) -> Finding:
    """A finding at its first appearance."""
    side = str(rng.choice(["right", "left"]))
    if label == "Edema" or (label == "Effusion" and rng.random() < 0.3):
        side = "both"
    zones = list(ZONES) if label == "Nodule" else ["upper", "middle", "lower", "lower"]
    return Finding(
        label=label,
        side=side,
        zone=str(rng.choice(zones)) if label in ("Consolidation", "Nodule") else "",
        size=float(rng.beta(2.2, 2.0)) * 0.8 + 0.2,
        seed=int(rng.integers(2**31)),
    )


def _findings(rng: np.random.Generator, acute: bool, enlarged: bool, prior: Study | None) -> tuple[Finding, ...]:
    """Findings of the next study: hearts and nodules stay, the rest grows, shrinks, resolves or appears."""
    found: dict[str, Finding] = {}
    if enlarged:
        old = prior.finding("Cardiomegaly") if prior else None
        found["Cardiomegaly"] = old or Finding("Cardiomegaly", size=float(rng.uniform(0.1, 1)))
    for label, chances in FIRST.items():
        chance = chances[acute] * (1.6 if label in ("Edema", "Effusion") and enlarged else 1.0)
        old = prior.finding(label) if prior else None
        if old is None:
            if rng.random() < (chance if prior is None else 0.35 * chance):
                found[label] = _new(rng, label, acute)
        elif label == "Nodule" or rng.random() < 0.68:
            steady = label == "Nodule" or rng.random() < 0.4
            found[label] = replace(
                old, size=float(np.clip(old.size * (1 if steady else rng.uniform(0.5, 1.5)), 0.15, 1))
            )
    # A pneumothorax and fluid on one side would need an air-fluid level: keep them apart.
    air, fluid = found.get("Pneumothorax"), found.get("Effusion")
    if air and fluid and fluid.side in (air.side, "both"):
        other = "left" if air.side == "right" else "right"
        found["Effusion"] = replace(fluid, side=other)
    return tuple(found[label] for label in LABELS if label in found)


def _devices(rng: np.random.Generator, findings: tuple[Finding, ...], prior: Study | None) -> tuple[Device, ...]:
    """Lines and tubes at the bedside; what was in place mostly stays, wrong positions are mostly corrected."""
    ventilated = rng.random() < 0.66
    chances: dict[str, float] = {"ett": ventilated, "ngt": 0.78 if ventilated else 0.2, "cvc": 0.62, "swan-ganz": 0.13}
    sides = [f.side for f in findings if f.label == "Pneumothorax"]
    sides += [f.side for f in findings if f.label == "Effusion" and f.size > 0.6 and f.side != "both"]
    chances["chest-tube"] = 0.72 if sides else 0.05
    devices = []
    for structure in STRUCTURES:
        old = prior.device(structure) if prior else None
        if old is not None and rng.random() < 0.8:
            corrected = old.position != "normal" and rng.random() < 0.8
            devices.append(replace(old, position="normal", offset=float(rng.uniform())) if corrected else old)
        elif rng.random() < (chances[structure] if prior is None else 0.6 * chances[structure]):
            devices.append(_new_device(rng, structure, sides))
    return tuple(devices)


def _new_device(rng: np.random.Generator, structure: str, sides: list[str]) -> Device:
    normal, borderline = WRONG[structure]
    draw: Any = rng.random()
    position = "normal" if draw < normal else "borderline" if draw < normal + borderline else "abnormal"
    route = str(rng.choice(ROUTES)) if structure == "cvc" else "right-jugular" if structure == "swan-ganz" else ""
    if structure == "chest-tube":
        route = sides[0] if sides else str(rng.choice(["right", "left"]))
    return Device(structure, position, route, float(rng.uniform()), int(rng.integers(2**31)))
