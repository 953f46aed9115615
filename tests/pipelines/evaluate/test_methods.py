"""Nearest neighbours by hand, few-shot shares, zero-shot texts: what each method gives and of whom it learns."""

import math

import numpy as np
import pytest
import torch

from pipelines.evaluate import methods, zeroshot
from pipelines.evaluate.methods import Lesson
from pipelines.evaluate.spec import Prompts
from pipelines.evaluate.tasks import Images, Question


def lesson(seeds=(0,), train=120, asked=40):
    """Two labels that two directions of the features carry; every ninth target unknown."""
    rng = np.random.default_rng(2)
    total = train + 2 * asked
    x = rng.normal(size=(total, 6)).astype(np.float32)
    target = (x[:, :2] + 0.3 * rng.normal(size=(total, 2)) > 0).astype(np.float32)
    target[::9] = np.nan
    split = np.repeat(["train", "validation", "test"], [train, asked, asked]).astype(object)
    patient = np.array([f"P{i // 2:03d}" for i in range(total)], object)
    images = Images(np.arange(total) + 100, split, patient, np.full(total, "AP", object))
    questions = [Question("findings", name, target[:, i]) for i, name in enumerate("AB")]
    return Lesson(x, images, questions, list(seeds), "test", 5)


def test_a_vote_is_the_weighted_share_of_the_nearest_that_know_and_one_prior_vote():
    target = np.array([1.0, 0.0, np.nan, 1.0])
    near, similarity = np.array([[2, 0, 1, 3]]), np.array([[0.9, 0.8, 0.7, 0.1]], np.float32)
    weights = np.exp((np.array([0.8, 0.7, 0.1]) - 0.9) / methods.TEMPERATURE)
    share = (weights @ [1, 0, 1] + 2 / 3) / (weights.sum() + 1)
    assert methods.vote(target, near, similarity)[0] == pytest.approx(math.log(share / (1 - share)), rel=1e-5)


def test_only_so_many_neighbours_vote():
    target = np.r_[np.ones(methods.NEAREST), np.zeros(50)]
    near = np.arange(len(target))[None]
    odds = methods.vote(target, near, np.ones((1, len(target)), np.float32))
    share = (methods.NEAREST + methods.NEAREST / len(target)) / (methods.NEAREST + 1)
    assert odds[0] == pytest.approx(math.log(share / (1 - share)))


def test_nearest_are_the_largest_cosines_in_any_block(monkeypatch):
    rng = np.random.default_rng(0)
    train, asked = rng.normal(size=(30, 4)).astype(np.float32), rng.normal(size=(11, 4)).astype(np.float32)
    monkeypatch.setattr(methods, "KEPT", 5)
    monkeypatch.setattr(methods, "BLOCK", 4)
    places, found = methods.nearest(train, asked)
    for i, row in enumerate(asked):
        order = np.argsort(-(train @ row))[:5]
        assert places[i].tolist() == order.tolist()
        np.testing.assert_allclose(found[i], (train @ row)[order], rtol=1e-5)


@pytest.mark.parametrize("name", ["linear", "knn", "few-shot-50"])
def test_a_method_learns_what_the_features_carry_and_answers_known_images_only(name):
    of = lesson(seeds=(0, 1))
    answers = list(methods.of(name)(of))
    assert [(a.seed, a.question.label) for a in answers] == [(0, "A"), (0, "B"), (1, "A"), (1, "B")]
    for given in answers:
        truth = given.question.target[given.at]
        assert np.isfinite(truth).all() and len(truth) == np.isfinite(given.question.target[-40:]).sum()
        assert ((given.odds > 0) == (truth == 1)).mean() > 0.75


def test_one_patient_of_few_shot_teaches_nothing_and_counts_as_chance():
    of = lesson(train=4)
    for given in methods.probes(of, share=1):
        learnt = given.question.target[:4]
        if len(set(learnt[np.isfinite(learnt)])) < 2:
            assert (given.odds == 0).all()


def test_few_shot_shares_are_of_patients():
    assert methods.expand(("linear", "few-shot", "knn")) == ["linear", *methods.FEW_SHOT, "knn"]
    assert list(methods.FEW_SHOT.values()) == [1, 5, 10, 50]


VECTORS = {"a tube": [1.0, 0.0], "a line": [0.6, 0.8], "no tube": [0.0, 1.0]}


class Encoder:
    """Knows three texts."""

    def embed_text(self, texts):
        return torch.tensor([VECTORS[t] for t in texts])


def test_zero_shot_is_the_difference_of_cosines_to_the_mean_texts():
    question = Question("lines", "ETT", np.array([1, 0, np.nan], np.float32))
    given = {"ETT": Prompts(positive=("a tube", "a line"), negative=("no tube",))}
    images = np.array([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]], np.float32)
    (found,) = zeroshot.answers(Encoder(), images, np.array([0, 1, 2]), [question], 7, given)
    mean = np.array([0.8, 0.4]) / np.hypot(0.8, 0.4)
    np.testing.assert_allclose(found.odds, 100 * (images[:2] @ mean - images[:2] @ [0, 1]), rtol=1e-5)
    assert found.seed == 7 and found.at.tolist() == [0, 1]


def test_a_label_has_its_own_texts_the_known_ones_or_its_name():
    own = Prompts(positive=("x",), negative=("y",))
    assert zeroshot.prompts("ETT", {"ETT": own}) == own
    assert "endotracheal tube in place" in zeroshot.prompts("ETT", {}).positive
    assert zeroshot.prompts("Sternal wires", {}) == Prompts(positive=("sternal wires",), negative=("no sternal wires",))
