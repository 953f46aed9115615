"""What a radiologist says of a study: findings, lines and tubes, and their change since the prior study."""

from __future__ import annotations

from typing import Any

from pipelines.practice.findings import LABELS, Finding
from pipelines.practice.plan import Study

SIZE = (("small", "minimal", "trace"), ("moderate", "moderate-sized"), ("large", "sizeable"))
NAMES = {"ett": "endotracheal tube", "ngt": "nasogastric tube", "cvc": "central venous catheter",
         "swan-ganz": "Swan-Ganz catheter", "chest-tube": "chest tube"}  # fmt: skip
SHORT = {"Cardiomegaly": "cardiomegaly", "Effusion": "pleural effusion", "Consolidation": "consolidation",
         "Pneumothorax": "pneumothorax", "Nodule": "pulmonary nodule", "Edema": "pulmonary edema"}  # fmt: skip
INDICATIONS = {
    "Cardiomegaly": ("Dyspnea on exertion.", "Known heart failure.", "Ankle swelling."),
    "Effusion": ("Shortness of breath.", "Reduced breath sounds at the base.", "Pleuritic pain."),
    "Consolidation": ("Fever and productive cough.", "Cough for one week, raised CRP.", "Possible pneumonia."),
    "Pneumothorax": ("Sudden chest pain.", "After central line attempt.", "Fall from a ladder, chest pain."),
    "Nodule": ("Weight loss, smoker.", "Follow-up.", "Preoperative."),
    "Edema": ("Increasing oxygen need.", "Acute dyspnea, orthopnea.", "Fluid overload."),
    "": ("Cough.", "Preoperative.", "Routine follow-up.", "Chest pain.", "Positive tuberculin test.", "Dizziness."),
    "bedside": ("Intubated, daily film.", "Check of tubes and lines.", "Respiratory failure.",
                "After surgery, in the ICU.", "Line placement."),
}  # fmt: skip


def indication(study: Study, rng: Any) -> str:
    """Why the study was ordered."""
    if study.devices:
        return str(rng.choice(INDICATIONS["bedside"]))
    first = study.findings[0].label if study.findings else ""
    return str(rng.choice(INDICATIONS[first]))


def technique(study: Study, rng: Any) -> str:
    """How it was taken."""
    if study.view == "AP":
        return str(
            rng.choice(["Portable AP view of the chest.", "Single AP portable radiograph.", "AP chest at the bedside."])
        )
    if study.lateral:
        return str(rng.choice(["PA and lateral views of the chest.", "Two views of the chest."]))
    return str(rng.choice(["PA view of the chest.", "Single frontal upright radiograph."]))


def change(now: Finding, prior: Study | None) -> str:
    """`new`, `unchanged`, `larger` or `smaller` since the prior study; blank without one."""
    if prior is None:
        return ""
    old = prior.finding(now.label)
    if old is None:
        return "new"
    if now.size > 1.2 * old.size:
        return "larger"
    return "smaller" if now.size < old.size / 1.2 else "unchanged"


def findings_text(study: Study, prior: Study | None, tips: dict[str, str], rng: Any) -> list[str]:
    """Sentences of FINDINGS: devices first, then heart, lungs, pleura, bones; `tips` says where each device ends."""
    said = [_device(d.structure, d.route, tips[d.structure], study, prior, rng) for d in study.devices]
    if prior:
        said += [_removed(d.structure, rng) for d in prior.devices if study.device(d.structure) is None]
    by_label = {f.label: f for f in study.findings}
    if "Cardiomegaly" in by_label:
        said.append(
            _pick(rng, "The heart is enlarged.", "The cardiac silhouette is enlarged.", "There is cardiomegaly.")
        )
    else:
        said.append(
            _pick(
                rng,
                "Heart size is normal.",
                "The cardiac silhouette is within normal limits.",
                "Normal cardiomediastinal contours.",
            )
        )
    said += [_finding(f, prior, rng) for f in study.findings if f.label != "Cardiomegaly"]
    if prior:
        said += [
            f"The {SHORT[f.label]} seen previously has resolved." for f in prior.findings if f.label not in by_label
        ]
    said += _negatives(by_label, rng)
    said.append(
        _pick(
            rng,
            "No acute bony abnormality.",
            "The bones are intact.",
            "Degenerative change of the thoracic spine.",
            "Osseous structures are unremarkable.",
        )
    )
    return said


def impression_text(study: Study, prior: Study | None, tips: dict[str, str], rng: Any) -> list[str]:
    """Sentences of IMPRESSION: what matters, worst first."""
    said = []
    for d in study.devices:
        if d.position == "abnormal":
            advice = _pick(rng, "Repositioning is recommended.", "Please reposition.", "The team should adjust it.")
            said.append(f"{NAMES[d.structure].capitalize()} malpositioned, with its tip {tips[d.structure]}. {advice}")
    for f in sorted(study.findings, key=lambda f: ("Pneumothorax", *LABELS).index(f.label)):
        where = "" if f.label == "Cardiomegaly" else f"{_place(f)} "
        trend = {"new": "New ", "larger": "Increasing ", "smaller": "Decreasing ", "unchanged": "Unchanged "}.get(
            change(f, prior), ""
        )
        text = f"{trend}{where}{SHORT[f.label]}."
        said.append(text[0].upper() + text[1:])
    if study.devices and all(d.position != "abnormal" for d in study.devices):
        said.append(_pick(rng, "Lines and tubes as described.", "Support devices in satisfactory position.")
                    if all(d.position == "normal" for d in study.devices) else "Devices as described.")  # fmt: skip
    return said or [
        _pick(
            rng,
            "No acute cardiopulmonary abnormality.",
            "Normal chest.",
            "No acute disease.",
            "No evidence of active disease.",
        )
    ]


def _pick(rng: Any, *choices: str) -> str:
    return str(choices[int(rng.integers(len(choices)))])


def _place(f: Finding) -> str:
    if f.label == "Edema" or f.side == "both":
        return "bilateral"
    if f.zone:
        lobe = "lingular" if f.side == "left" and f.zone == "middle" else f"{f.side} {f.zone} lobe"
        return lobe if f.label == "Consolidation" else f"{f.side} {f.zone} zone"
    return f.side


def _size(f: Finding, rng: Any) -> str:
    return _pick(rng, *SIZE[0 if f.size < 0.45 else 1 if f.size < 0.75 else 2])


def _finding(f: Finding, prior: Study | None, rng: Any) -> str:
    """One sentence about one finding, with laterality, extent and trend."""
    trend = {"new": "new", "larger": "increased from the prior", "smaller": "decreased from the prior",
             "unchanged": "unchanged"}.get(change(f, prior), "")  # fmt: skip
    tail = f", {trend}" if trend else ""
    place, size = _place(f), _size(f, rng)
    if f.label == "Effusion":
        noun = "pleural effusions" if f.side == "both" else "pleural effusion"
        verb = "are" if f.side == "both" else "is a"
        return _pick(
            rng,
            f"There {verb} {size} {place} {noun}{tail}.",
            f"{place.capitalize()} costophrenic angle blunting with {size} effusion{tail}."
            if f.side != "both" else f"Bilateral {size} effusions blunt the costophrenic angles{tail}.",
        )  # fmt: skip
    if f.label == "Consolidation":
        return _pick(rng, f"Airspace consolidation in the {place}{_region(place)}{tail}.",
                     f"There is {place} consolidation with air bronchograms{tail}.",
                     f"Confluent {place} opacity, consistent with consolidation{tail}.")  # fmt: skip
    if f.label == "Pneumothorax":
        return _pick(
            rng,
            f"There is a {size} {place} pneumothorax{tail}.",
            f"A {place} pleural line is seen, {size} pneumothorax{tail}.",
        )
    if f.label == "Nodule":
        mm = round(2 * (5 + 10 * f.size))
        return _pick(
            rng,
            f"A {mm} mm nodule projects over the {place}{tail}.",
            f"Rounded {mm} mm nodular opacity in the {place}{tail}.",
        )
    grade = ("mild", "moderate", "severe")[0 if f.size < 0.45 else 1 if f.size < 0.75 else 2]
    return _pick(
        rng,
        f"{grade.capitalize()} pulmonary edema with perihilar haze{tail}.",
        f"Vascular engorgement and septal lines, {grade} interstitial edema{tail}.",
    )


def _region(place: str) -> str:
    return " segment" if place == "lingular" else ""


def _device(structure: str, route: str, tip: str, study: Study, prior: Study | None, rng: Any) -> str:
    name = NAMES[structure]
    if structure == "chest-tube":
        name = f"{route} chest tube"
    elif structure == "cvc":
        vein = route.replace("-jugular", " internal jugular").replace("-subclavian", " subclavian")
        name = f"{vein} central venous catheter"
    old = prior.device(structure) if prior else None
    device = study.device(structure)
    trend = (
        ""
        if prior is None
        else " It is new."
        if old is None
        else " Unchanged."
        if old == device
        else " It has been adjusted since the prior."
    )
    verb = _pick(rng, f"ends {tip}", f"has its tip {tip}", f"terminates {tip}", f"is seen with its tip {tip}")
    return f"{_pick(rng, 'The ', 'A ')}{name} {verb}.{trend}"


def _removed(structure: str, rng: Any) -> str:
    gone = _pick(rng, "has been removed", "is no longer present", "was removed in the interval")
    return f"The {NAMES[structure]} {gone}."


def _negatives(by_label: dict[str, Finding], rng: Any) -> list[str]:
    """What is not there, as radiologists list it."""
    if not by_label:
        return [_pick(rng, "The lungs are clear. No pleural effusion or pneumothorax.",
                      "Lungs clear. No focal consolidation, effusion or pneumothorax.",
                      "No consolidation. No pneumothorax. The costophrenic angles are sharp.")]  # fmt: skip
    said = []
    if "Consolidation" not in by_label and "Edema" not in by_label and "Nodule" not in by_label:
        said.append(_pick(rng, "The lungs are otherwise clear.", "No focal airspace disease."))
    absent = [SHORT[k] for k in ("Effusion", "Pneumothorax") if k not in by_label]
    if absent:
        said.append(f"No {' or '.join(absent)}.")
    return said
