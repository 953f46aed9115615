"""The sentences of the report: what it says beside its numbers."""

from __future__ import annotations

from typing import Any

from pipelines.evaluate import looks
from pipelines.evaluate.answer import with_interval
from pipelines.evaluate.deviation import in_words
from pipelines.evaluate.methods import NEAREST, SHARES, TEMPERATURE
from pipelines.evaluate.probe import DEFAULT_PENALTY, FOLDS, PENALTIES, SHARE
from pipelines.evaluate.spec import Attentive
from pipelines.evaluate.stats import SPECIFICITY
from pipelines.evaluate.tasks import LINEAR, TITLES, ZERO_SHOT

ABOUT = {
    "findings": "Findings named by the labels of the study.",
    "lines": "Presence of lines and tubes. Position is not asked here.",
    "view": "A control, not a clinical task: AP or PA projection. A difference here shows what kind of thing the "
    "training changed; it also warns of a shortcut where findings go with the projection.",
}
READ_BY = {
    LINEAR: "Read from a frozen encoder by one linear probe a label.",
    ZERO_SHOT: "Read by text alone (zero-shot): nothing was learnt from this cohort's labels. Models without a text "
    "tower have no value.",
}
USES = {"train": "training the probes", "validation": "choosing the penalty", "test": "every score in this report"}


def practice(result: dict[str, Any]) -> str:
    """Why the report is marked as practice."""
    named = [m["name"] for m in result["models"] if m["practice"]]
    said = ["The cohort is synthetic."] if result["cohort"]["practice"] else []
    if named:
        said.append(f"Pretrained or started on synthetic radiographs: {'; '.join(named)}.")
    return " ".join([*said, "Nothing here says anything about patients."])


def below(result: dict[str, Any]) -> str:
    """What the protocol misses."""
    seeds = len(set(result["settings"]["seeds"]))
    return f"Measured with {seeds} {'seed' if seeds == 1 else 'seeds'}; the protocol asks for at least 3."


def sure(result: dict[str, Any]) -> str:
    """How sure the answer is, in one line."""
    test = result["cohort"]["splits"]["test"]
    count = len(result["settings"]["seeds"])
    seeds = "" if only_zero_shot(result) else f" and {count} {'seed' if count == 1 else 'seeds'}"
    return (
        f"From {test['images']:,} frontal images of {test['patients']:,} test patients; no model was pretrained on "
        "any of them. "
        f"Square brackets hold 95 % intervals over {result['settings']['resamples']:,} draws of patients{seeds}. "
        f"{looks.in_words(result['looks'])}"
    )


def only_zero_shot(result: dict[str, Any]) -> bool:
    """Whether nothing was learnt at all: every task was answered by text."""
    return set(result["answered_by"].values()) == {ZERO_SHOT}


def about(task: str, result: dict[str, Any]) -> str:
    """What a task asks and how it was read."""
    return f"{ABOUT[task]} {READ_BY[result['answered_by'][task]]}"


def subgroups(result: dict[str, Any]) -> str:
    """Whose scores subgroups are made of."""
    return "zero-shot" if only_zero_shot(result) else "the linear probes (zero-shot where no label could be learnt)"


def small(few: int, labels: int, limit: int) -> str:
    """A warning where labels have few positive patients; empty where none has."""
    if not few:
        return ""
    return (
        f"{few} of {labels} labels have fewer than {limit} positive test patients (marked †). Their intervals are "
        "wide, and chance may have made such a label look good or bad: take it as a hint, not as proof."
    )


def p_value(p: float) -> str:
    """p with two significant digits at most."""
    return "<0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def forest(macro: dict[str, Any], labels: int, clear: list[str], adjusted: list[str]) -> str:
    """The message of a forest plot."""
    if labels == 1:
        return f"The difference is {with_interval(macro)}, p {p_value(macro['p'])}."
    clear_words = f"on {', '.join(clear)}" if clear else "on no label"
    adjusted_words = f"after Holm's adjustment over labels, p < 0.05 on {', '.join(adjusted) or 'none'}"
    return f"Macro {with_interval(macro)}. The interval excludes zero {clear_words}; {adjusted_words}."


def lineage(model: dict[str, Any], models: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """One line of the lineage table."""
    names = {m["weights_sha256"]: m["name"] for m in models.values()}
    start = model["start"]
    trained = model["kind"] == "run"
    return {
        "name": model["name"],
        "encoder": model["encoder"],
        "kind": model["kind"],
        "practice": model["practice"],
        "start": names.get(start, start[:12]) if start else "–",
        "samples": f"{model['samples']:,}" if trained else "–",
        "patients": f"{model['patients']:,}" if trained else "–",
        "budget": f"{model['budget']:,}" if trained else "–",
        "seed": str(model["seed"]) if model["kind"] != "open-weight" else "–",
        "cohort": model["cohort"][:12] if model["cohort"] else "–",
        "weights": model["weights_sha256"][:12],
    }


def lineage_notes(models: list[dict[str, Any]]) -> list[str]:
    """What a reader must know of the models' pasts."""
    notes = [
        f"Contaminated: {m['name']} was pretrained on {', '.join(m['contaminated'])}, whose images this cohort holds; "
        "its scores here say nothing of new patients."
        for m in models
        if m.get("contaminated")
    ]
    notes += [
        f"{m['name']} is known to have been pretrained on {', '.join(m['seen'])}: its scores on images of these sets "
        "are contaminated."
        for m in models
        if m["seen"]
    ]
    if any(m["kind"] == "open-weight" for m in models):
        notes.append(
            "Open weights were trained outside this system; whether they saw images of this cohort can only be known "
            "from what their authors published."
        )
    if any(m["kind"] == "untrained" for m in models):
        notes.append("“Untrained” is the seeded start of a tiny encoder; it is not a published model.")
    return notes


def method(result: dict[str, Any]) -> list[str]:
    """How it was measured, a sentence each."""
    settings = result["settings"]
    learnt = not only_zero_shot(result)
    return [
        "Encoders are frozen. Each image is prepared by its encoder's own published scaling; its feature is the pooled "
        "output followed by the mean of the patch tokens, computed once.",
        "Images: all but lateral ones; images of unknown view are kept. Labels are those of the study; blank and "
        "uncertain ones are left out, label by label.",
        *(_probes(settings) if learnt else ()),
        "Intervals: bootstrap over patients, since images of one patient are not independent. Every model and label is "
        "measured on the same draws, so a difference is paired. The macro is the mean over scored labels. A value has "
        "Student's interval on the log-odds scale, a difference the expanded percentile interval; both reach further "
        "where fewer patients are in the rarer class. A value of exactly 1 has the exact bound of no error.",
        "p values are two-sided, from the same draws; those of labels are adjusted by Holm's method within a task and "
        f"comparison, that of the macro stands apart. With {settings['resamples']:,} draws no p is smaller than "
        f"{2 / (settings['resamples'] + 1):.4f} before adjustment.",
        "DeLong's p, for independent images, stands beside in results.parquet where every patient has one image.",
        f"Sensitivity is the largest at a specificity of at least {SPECIFICITY:.0%} on the test images themselves. The "
        "Brier score is the mean squared error of the probability.",
        f"A label is scored when at least {settings['minimum_positives']} test patients are positive and both classes "
        f"occur in test{' and train' if learnt else ''}.",
        "AUPRC is average precision. Its chance level is the prevalence of the label, so compare it between models, "
        "not between labels.",
        *_methods(settings),
        f"Subgroups: a group has a value where at least {settings['minimum_positives']} patients of either class are "
        "in it; intervals and gaps come from the same draws of patients as everything else.",
        "Before anything was measured, the test patients were compared with the patients of every model and of its "
        "ancestors; one in common would have stopped the evaluation.",
        *(in_words(name, found) for name, found in result.get("deviations", {}).items()),
    ]


def _probes(settings: dict[str, Any]) -> tuple[str, str]:
    return (
        f"Probe: L2-penalised logistic regression on standardised features, one a label, C from {PENALTIES[0]:.5f} to "
        f"{PENALTIES[-1]:g} in tenfold steps, chosen by log loss on the validation split, or by {FOLDS} folds of train "
        f"patients where validation has fewer than {settings['minimum_positives']} patients of either class.",
        f"Seeds {', '.join(map(str, settings['seeds']))}: each takes {SHARE:.0%} of the train patients, the same for "
        "every model. A value is the mean over seeds; every bootstrap draw takes one seed.",
    )


def _methods(settings: dict[str, Any]) -> list[str]:
    """How the ways beside the linear probe work, of those that were asked for."""
    attentive = settings.get("attentive") or Attentive().model_dump()  # an evaluation may be older than the method
    said = {
        "attentive": "Attentive probe: for each label four learnt queries look at the encoder's patch tokens, and a "
        f"linear layer reads what they see; {attentive['steps']:,} steps of {attentive['batch']} images, learning from "
        f"{attentive['images']:,} train images at the most. Learning rate, weight decay and length are chosen for each "
        "label by log loss on the validation split.",
        "knn": f"Nearest neighbours: the {NEAREST} train images of a known label whose standardised features have the "
        f"largest cosine vote, weighted by their similarity at temperature {TEMPERATURE:g}; nothing is tuned.",
        "few-shot": "Few-shot: the linear probe on "
        f"{', '.join(map(str, SHARES))} % of the train patients, drawn anew for each seed; its penalty is chosen on as "
        f"large a share of the validation patients, and C is {DEFAULT_PENALTY:g} where these are too few.",
        "zero-shot": "Zero-shot: the image's vector is compared with those of texts that say the label is present and "
        "of texts that say it is not, for encoders with a text tower. The texts can be changed (prompts in the spec).",
    }
    return [said[name] for name in settings["methods"] if name in said]


def limits(result: dict[str, Any]) -> list[str]:
    """What was not measured, a sentence each."""
    asked, found = result["settings"]["tasks"], {*result["tasks"], *(n["task"] for n in result["not_scored"])}
    unlabelled = [TITLES[task] for task in asked if task not in found]
    left_out = [title for task, title in TITLES.items() if task not in asked]
    lines = [f"{', '.join(unlabelled)}: this cohort has no such label."] if unlabelled else []
    lines += [f"Not asked for in this evaluation: {', '.join(left_out)}."] if left_out else []
    return [
        *lines,
        "The position of lines and tubes.",
        "How another pretraining seed or another order of the data would have come out: each model is one run.",
        "Other hospitals: test patients come from the sites of this cohort.",
        "Errors of the labels themselves: they are taken as given.",
        "Benefit to patients. A better score is no clinical claim.",
    ]


def cohort(result: dict[str, Any]) -> dict[str, Any]:
    """The cohort's facts as text."""
    facts = result["cohort"]
    unused = {"train", "validation"} if only_zero_shot(result) else set()
    splits = [
        {
            "name": name,
            "use": "nothing" if name in unused else USES[name],
            "images": f"{n['images']:,}",
            "patients": f"{n['patients']:,}",
        }
        for name, n in facts["splits"].items()
    ]
    teacher = facts.get("teacher")
    taught = f"Probes learnt from another cohort, digest {teacher[:12]}, and were asked here." if teacher else ""
    return {"digest": facts["digest"], "policies": facts["policies"], "splits": splits, "taught": taught}
