"""Metrics against the libraries and against scikit-learn; the simple systems; marked differences."""

import numpy as np
import pytest
import sacrebleu
from rouge_score import rouge_scorer
from sklearn.metrics import f1_score

from pipelines.reporting import metrics, simple
from pipelines.reporting.metrics import FINDINGS, FIVE, REPORT
from pipelines.reporting.studies import Study
from pipelines.reporting.wording import compared

REFERENCES = [
    "The heart is enlarged. There is a pleural effusion.",
    "Heart size is normal. Lungs are clear. No effusion or pneumothorax.",
    "Possible pulmonary edema. Endotracheal tube in place.",
]
WRITTEN = [
    "The heart is enlarged. No pleural effusion.",
    "Heart size is normal. Lungs are clear.",
    "Heart size is normal. Pulmonary edema.",
]


def value(found, metric, label=REPORT):
    (m,) = [m for m in found if (m.metric, m.label) == (metric, label)]
    return m.numerator.sum() / m.denominator.sum()


def test_rouge_and_bleu_are_the_libraries_own():
    found = metrics.text_measures(REFERENCES, WRITTEN)
    pairs = list(zip(REFERENCES, WRITTEN, strict=True))
    rouge = rouge_scorer.RougeScorer(["rougeL"])
    assert value(found, "rouge_l") == pytest.approx(np.mean([rouge.score(a, b)["rougeL"].fmeasure for a, b in pairs]))
    bleu = [sacrebleu.sentence_bleu(b, [a], lowercase=True, use_effective_order=True).score for a, b in pairs]
    assert value(found, "bleu_4") == pytest.approx(np.mean(bleu) / 100)
    corpus = sacrebleu.corpus_bleu(WRITTEN, [REFERENCES], lowercase=True).score / 100
    assert metrics.corpus_bleu(REFERENCES, WRITTEN) == pytest.approx(corpus)
    assert value(metrics.text_measures(REFERENCES, REFERENCES), "bleu_4") == pytest.approx(1)


def test_f1_micro_and_macro_equal_scikit_learn():
    rng = np.random.default_rng(0)
    stated, said = rng.random((2, 60, len(FINDINGS))) < 0.3
    found = metrics.label_measures("label_f1", stated, said, FINDINGS)
    five = [FINDINGS.index(name) for name in FIVE]
    assert value(found, "label_f1_micro") == pytest.approx(f1_score(stated, said, average="micro"))
    assert value(found, "label_f1_micro_5") == pytest.approx(f1_score(stated[:, five], said[:, five], average="micro"))
    macro = np.mean([value(found, "label_f1", name) for name in FINDINGS])
    assert macro == pytest.approx(f1_score(stated, said, average="macro"))
    macro = np.mean([value(found, "label_f1_5", name) for name in FIVE])
    assert macro == pytest.approx(f1_score(stated[:, five], said[:, five], average="macro"))


def test_rules_state_what_a_text_states_and_read_it_once():
    labeller = metrics.RuleFindings()
    stated = labeller(REFERENCES)
    assert [{FINDINGS[i] for i in np.flatnonzero(row)} for row in stated] == [
        {"Cardiomegaly", "Pleural Effusion"},
        {"No Finding"},
        {"Edema", "Support Devices"},  # an uncertain finding counts
    ]
    read = []
    labeller._labeller.label = lambda texts: read.extend(texts) or iter(())
    assert (labeller(REFERENCES[::-1]) == stated[::-1]).all() and not read


def test_the_template_is_the_most_typical_normal_report():
    findings = ["Lungs are clear.", "Lungs are clear. Heart normal.", "Heart normal. Lungs are clear.", "Edema."] + [
        "Edema."
    ] * 9
    assert simple.template(findings, [True, True, True, False] + [False] * 9) in findings[1:3]
    assert simple.template(findings, [False] * 13) == "Edema."  # none is known to be normal
    assert simple.template(findings[::-1], [True] * 13) == "Edema."


def test_the_nearest_image_lends_its_report():
    features = np.array([[0, 0], [9, 1], [0, 8], [8, 0], [1, 9]], np.float32)
    train = [Study(i, i, f"P{i}", f"report {i}", "", "") for i in range(3)]
    wanted = [Study(i, i, f"P{i}", "", "", "") for i in (3, 4)]
    assert simple.retrieve(features, train, wanted) == ["report 1", "report 2"]


def test_marked_is_what_the_other_side_does_not_say():
    runs = compared("The heart is enlarged. No effusion.", "the heart is normal. No effusion.")
    assert "".join(r.text for r in runs) == "The heart is enlarged. No effusion."
    assert [r.text for r in runs if r.marked] == ["enlarged"]
    assert not any(r.marked for r in compared("Clear.", "clear."))
    assert compared("", "clear.")[0].text == ""
