"""The attentive probe: what it sees that a mean cannot, that it repeats itself, and whom it does not learn from."""

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from pipelines.evaluate import attentive, methods
from pipelines.evaluate.attentive import Material, answers, attend, masked_loss, whole_patients
from pipelines.evaluate.spec import Attentive
from pipelines.evaluate.tasks import Images, Question

SETTINGS = Attentive(steps=150)
SPLITS = {"train": 200, "validation": 80, "test": 120}


class Run:
    def check_stop(self):
        pass

    def progress(self, *_):
        pass


@pytest.fixture(scope="module")
def planted():
    """A sign of two patches among 25 that leaves their mean as it was, and a label that nothing shows."""
    rng = np.random.default_rng(1)
    total = sum(SPLITS.values())
    patches = rng.normal(size=(total, 5, 5, 12)).astype(np.float32)
    sign = rng.integers(0, 2, total).astype(np.float32)
    for image in np.flatnonzero(sign):
        here, there = rng.permutation(25)[:2]
        flat = patches[image].reshape(25, 12)
        flat[here, 3], flat[there, 3] = flat[here, 3] + 5, flat[there, 3] - 5
    split = np.repeat(list(SPLITS), list(SPLITS.values())).astype(object)
    patient = np.array([f"P{i // 2:03d}" for i in range(total)], object)
    images = Images(np.arange(total), split, patient, np.full(total, "AP", object))
    shown = Question("findings", "Sign", sign)
    noise = Question("findings", "Noise", rng.integers(0, 2, total).astype(np.float32))
    pooled = patches.mean((1, 2))
    lesson = methods.Lesson(pooled, images, [shown, noise], [0], "test", 5)
    return lesson, Material(patches.astype(np.float16), np.arange(total))


def ask(planted, questions=None, **changed):
    lesson, found = planted
    values = vars(lesson) | {"questions": questions or lesson.questions} | changed
    return list(answers(methods.Lesson(**values), found, SETTINGS, "cpu", Run(), "attentive"))


@pytest.fixture(scope="module")
def first(planted):
    return ask(planted)


def area(given):
    return roc_auc_score(given.question.target[given.at], given.odds)


def test_it_learns_a_local_sign_that_the_mean_of_the_patches_does_not_show(planted, first):
    sign, noise = first
    linear = next(methods.probes(planted[0]))
    assert area(sign) > 0.7 and abs(area(linear) - 0.5) < 0.12 and abs(area(noise) - 0.5) < 0.15


def test_the_same_seed_gives_the_same_odds_and_another_seed_others(planted, first):
    again = ask(planted, seeds=[0, 1])
    for one, other in zip(first, again[:2], strict=True):
        np.testing.assert_array_equal(one.odds, other.odds)
    assert [a.seed for a in again] == [0, 0, 1, 1] and not np.array_equal(again[0].odds, again[2].odds)


def test_uncertain_labels_teach_nothing_and_are_not_asked(planted):
    lesson, _ = planted
    sign = lesson.questions[0].target
    unsure = np.arange(len(sign)) % 3 == 0
    masked = np.where(unsure, np.nan, sign).astype(np.float32)
    (given,) = ask(planted, [Question("findings", "Sign", masked)])
    assert not unsure[given.at].any() and len(given.at) == np.isfinite(masked[-SPLITS["test"] :]).sum()
    odds = torch.randn(6, 2, 1)
    target = torch.tensor([1, 0, torch.nan, 1, torch.nan, 0]).reshape(6, 1)
    known = [0, 1, 3, 5]
    plain = torch.nn.functional.binary_cross_entropy_with_logits
    expected = [plain(odds[known, c, 0], target[known, 0]) for c in (0, 1)]
    assert torch.allclose(masked_loss(odds, target)[:, 0], torch.stack(expected))


def test_a_train_part_of_one_class_counts_as_chance(planted):
    lesson, _ = planted
    target = lesson.questions[0].target.copy()
    target[: SPLITS["train"]] = 1
    (given,) = ask(planted, [Question("findings", "Sign", target)])
    assert (given.odds == 0).all()


def test_attention_is_the_plain_sum_over_queries_and_patches():
    tokens, bias = torch.randn(2, 7, 4), torch.randn(1, 3)
    query, weight = torch.randn(2, 1, 3, 2, 4).unbind(0)
    found = attend(tokens, query, weight, bias)
    for b in range(2):
        for label in range(3):
            total = bias[0, label].clone()
            for h in range(2):
                looked = torch.softmax(tokens[b] @ query[0, label, h] / 2, 0)
                total += weight[0, label, h] @ (looked @ tokens[b])
            assert torch.allclose(found[b, 0, label], total, atol=1e-5)


def test_images_are_taken_by_whole_patients():
    patient = np.array(list("aabbbcc"), object)
    at = np.arange(7)
    assert whole_patients(patient, at, 7).tolist() == list(range(7))
    assert whole_patients(patient, at, 5).tolist() == [0, 1, 2, 3, 4]
    assert whole_patients(patient, at, 4).tolist() == [0, 1]
    assert whole_patients(patient, at, 1).tolist() == [0], "of one patient alone a part is better than nothing"


def test_without_enough_validation_patients_the_stated_default_is_kept(planted, monkeypatch):
    monkeypatch.setattr(attentive.Fit, "_look", lambda *_: pytest.fail("validation cannot be judged on"))
    sign, _ = ask(planted, minimum=1000)
    assert len(sign.odds) == SPLITS["test"] and np.isfinite(sign.odds).all()
