"""One study from plan to files: images, masks, polylines, report, and the truth about all of them."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipelines.contract import write_atomic
from pipelines.practice.anatomy import lateral_of, sample_pose
from pipelines.practice.burn import burn_text, place_markers
from pipelines.practice.devices import STRUCTURES, device_mask
from pipelines.practice.dicom import IMPLICIT, Instance, build_instance
from pipelines.practice.findings import labels_of
from pipelines.practice.people import MACHINES, Person, make_person, make_uid
from pipelines.practice.pixels import Encoding
from pipelines.practice.plan import Patient, Study
from pipelines.practice.radiograph import Radiograph, make_radiograph
from pipelines.practice.reports import age_text, hl7_message, report_text

Array = NDArray[Any]
Truth = dict[str, Any]
GOLDEN = 0.6180339887


@dataclass(frozen=True)
class Task:
    """All a worker needs for one study."""

    study: Study
    prior: Study | None
    patient: Patient
    root: Path
    seed: int
    side: int


def truth_path(root: Path, number: int) -> Path:
    """Where a finished study leaves its truth while the export is being made."""
    return root / ".truth" / f"{number:06d}.json"


def perform(task: Task) -> int:
    """Write all files of a study, its truth last; the same task always writes the same bytes."""
    cv2.setNumThreads(1)
    rng = np.random.default_rng([task.seed, 2, task.study.number])
    study, person = task.study, task.patient.person
    doctor = make_person(rng, 90_000 + 2 * study.number, "FM"[int(rng.integers(2))], 50, study.when)
    tech = make_person(rng, 90_001 + 2 * study.number, "FM"[int(rng.integers(2))], 35, study.when)
    views = render(task, rng)
    frontal = views[0]
    tips = {item.device.structure: item.tip_note for item in frontal.placed}
    truth = _instances(task, views, doctor, tech, rng)
    text, spans = report_text(study, task.prior, tips, person, doctor, rng)
    truth["report"] = {"text": text, "spans": spans}
    if study.number % 2:
        path = task.root / "hl7" / f"{study.accession}.hl7"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(hl7_message(study, person, text))
    truth["lines"] = _masks(task, frontal)
    truth["study"] = _study_truth(task, frontal, truth["lines"])
    write_atomic(truth_path(task.root, study.number), json.dumps(truth, ensure_ascii=False))
    return study.number


def render(task: Task, rng: np.random.Generator) -> list[Radiograph]:
    """The frontal image and, if taken, the lateral one."""
    study, anatomy = task.study, task.patient.anatomy
    poses = [sample_pose(rng, study.view, anatomy)]
    if study.lateral:
        poses.append(lateral_of(poses[0], rng, anatomy))
    short = task.side * rng.uniform(0.96, 1.05)
    views = []
    for pose in poses:
        scale = short / min(pose.width, pose.height)
        shape = (round(pose.height * scale), round(pose.width * scale))
        devices = study.devices if pose.view != "LATERAL" else ()
        views.append(make_radiograph(anatomy, pose, study.findings, devices, shape, rng))
    return views


def _instances(task: Task, views: list[Radiograph], doctor: Person, tech: Person, rng: np.random.Generator) -> Truth:
    """Write the instances of a study; returns their part of the key."""
    study, person = task.study, task.patient.person
    folder = task.root / "DICOM" / folder_name(person) / f"ST{study.number + 1:04d}"
    folder.mkdir(parents=True, exist_ok=True)
    study_uid, machine = make_uid(rng), int(rng.integers(len(MACHINES)))
    burned = (study.number * GOLDEN) % 1 < 0.15
    base = Instance(
        study=study, person=person, doctor=doctor, technologist=tech, machine=machine, number=1, view="", sop="",
        series="", study_uid=study_uid, encoding=Encoding.of(0), name_in_preamble=study.number % 5 == 2,
    )  # fmt: skip
    found: Truth = {"instances": {}}
    for index, view in enumerate(views):
        grey = view.grey
        markers = place_markers(grey, view.projector.pose.view, study.view == "AP", rng)
        boxes = burn_text(grey, _identity_lines(task, rng), rng) if burned and index == 0 else []
        encoding = Encoding.of(study.number + 5 * index)
        opening = {6: "missing", 14: "bare"}.get(study.number % 16, "full") if index == 0 else "full"
        if opening == "bare":
            encoding = replace(encoding, syntax=IMPLICIT)
        what = replace(
            base, number=index + 1, view=view.projector.pose.view, sop=make_uid(rng), series=make_uid(rng),
            encoding=encoding, preamble=opening,
        )  # fmt: skip
        path = folder / f"IM{index + 1:04d}"
        data, planted = build_instance(what, grey, view.spacing, rng)
        path.write_bytes(data)
        found["instances"][what.sop] = _entry(task, path, what, planted, boxes, markers)
    if MACHINES[machine][2] == "DX" and study.number % 12 == 4:
        raw = replace(base, number=9, view=views[0].projector.pose.view, sop=make_uid(rng), series=make_uid(rng),
                      processing=True, encoding=Encoding("1.2.840.10008.1.2.1", 16, "full", True))  # fmt: skip
        data, planted = build_instance(raw, 1 - views[0].raw, views[0].spacing, rng)
        path = folder / "IM0009"
        path.write_bytes(data)
        found["instances"][raw.sop] = _entry(task, path, raw, planted, [], [])
    return found


def _entry(task: Task, path: Path, what: Instance, planted: list[Any], boxes: list[Any], markers: list[Any]) -> Truth:
    return {
        "path": path.relative_to(task.root).as_posix(),
        "accession": task.study.accession,
        "planted": planted,
        "burned_in": boxes,
        "source": "practice",
        "patient": f"practice{task.patient.number + 1:05d}",
        "view": what.view,
        "markers": markers,
        "preamble": what.preamble,
        "for_processing": what.processing,
    }


def folder_name(person: Person) -> str:
    """LAST_FIRST, as many archives name their folders."""
    return f"{person.last}_{person.first}".upper().replace(" ", "_")


def _identity_lines(task: Task, rng: np.random.Generator) -> list[str]:
    person, study = task.patient.person, task.study
    name = f"{person.last.upper()}, {person.first.upper()}"
    rest = [
        f"ID {person.mrn}",
        f"DOB {person.birth:%d.%m.%Y}",
        f"{study.when:%m/%d/%Y} 10:42",
        study.hospital.upper(),
        f"ACC {study.accession}",
    ]
    return [name, *(rest[i] for i in sorted(rng.choice(len(rest), 2, replace=False)))]


def _masks(task: Task, frontal: Radiograph) -> list[Truth]:
    """Write 1-bit PNG masks of lungs, heart and devices; returns the polylines."""
    accession, shape = task.study.accession, frontal.grey.shape
    masks = {"lung": frontal.lung, "heart": frontal.heart}
    lines = []
    for item in frontal.placed:
        structure = item.device.structure
        masks[structure] = device_mask(item, shape, frontal.spacing) > 0
        points = [[round(float(x), 2), round(float(y), 2)] for x, y in item.points[_thin(len(item.points))]]
        lines.append(
            {"accession": accession, "structure": structure, "position": item.device.position, "points": points}
        )
    for structure, mask in masks.items():
        path = task.root / "masks" / structure / f"{accession}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        buffer = io.BytesIO()
        Image.fromarray(mask).save(buffer, "PNG")
        path.write_bytes(buffer.getvalue())
    return lines


def _thin(count: int) -> Array:
    """Every sixth point and both ends: polylines as a person would click them."""
    return np.unique(np.r_[np.arange(0, count, 6), count - 1])


def _study_truth(task: Task, frontal: Radiograph, lines: list[Truth]) -> Truth:
    """What tests and scores may ask about a study."""
    study = task.study
    by_structure = {line["structure"]: line for line in lines}
    placed = {item.device.structure: item for item in frontal.placed}
    devices: Truth = {}
    for structure in STRUCTURES:
        line = by_structure.get(structure)
        devices[structure] = {"present": line is not None}
        if line is not None:
            item = placed[structure]
            devices[structure] |= {"position": line["position"], "points": line["points"], "tip": item.tip_note,
                                   "tip_mm": round(item.tip_mm, 1), "tip_visible": item.tip_visible}  # fmt: skip
    thorax, project = frontal.thorax, frontal.projector
    marks = {"carina": thorax.carina, "right_dome": (-0.5 * thorax.half_width, 0, thorax.dome[0]),
             "left_dome": (0.5 * thorax.half_width, 0, thorax.dome[1])}  # fmt: skip
    return {
        "labels": labels_of(study.findings),
        "findings": [
            {"label": f.label, "side": f.side, "zone": f.zone, "size": round(f.size, 3)} for f in study.findings
        ],
        "lines": devices,
        "unsure": study.unsure,
        "view": study.view,
        "lateral": study.lateral,
        "sex": task.patient.person.sex,
        "age": age_text(task.patient.person.birth, study.when),
        "cardiothoracic_ratio": round(frontal.cardiothoracic_ratio, 4),
        "rows": frontal.grey.shape[0],
        "columns": frontal.grey.shape[1],
        "spacing": round(frontal.spacing, 5),
        "landmarks": {k: [round(float(v), 1) for v in project(np.array([p]))[0]] for k, p in marks.items()},
    }
