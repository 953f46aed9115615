"""The map, the patch of a point, and the picture."""

import io

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics.pairwise import cosine_similarity

from pipelines.preprocessing import MI2, RAD_DINO, Preprocessing
from pipelines.similarity import maps, panel
from pipelines.similarity.maps import Map, ModelMaps, Point, Seen
from pipelines.similarity.vectors import seen_part

WHOLE = Seen(0, 0, 1, 1)


def test_similarity_is_scikit_learns():
    patches = np.random.default_rng(0).normal(0, 30, (5, 7, 96))
    found = maps.similarity(maps.unit_vectors(patches), (3, 2))
    expected = cosine_similarity(patches[3, 2][None], patches.reshape(-1, 96)).reshape(5, 7)
    np.testing.assert_allclose(found, expected, atol=2e-3)  # half precision
    assert found[3, 2] == pytest.approx(1, abs=1e-3) and found.max() <= 1


def test_huge_and_empty_vectors_stay_finite():
    patches = np.stack([np.full((2, 8), 1e6), np.zeros((2, 8))])  # beyond half precision
    found = maps.similarity(maps.unit_vectors(patches), (0, 0))
    np.testing.assert_allclose(found, [[1, 1], [0, 0]], atol=2e-3)


def test_the_patch_of_a_point_follows_what_the_encoder_sees():
    assert maps.patch_at(Point(0.0, 0.0), WHOLE, 4, 8) == (0, 0)
    assert maps.patch_at(Point(1.0, 1.0), WHOLE, 4, 8) == (3, 7)
    assert maps.patch_at(Point(0.49, 0.51), WHOLE, 4, 8) == (2, 3)
    crop = Seen(0.25, 0, 0.75, 1)
    assert maps.patch_at(Point(0.26, 0.9), crop, 10, 10) == (9, 0)
    assert maps.patch_at(Point(0.2, 0.5), crop, 10, 10) is None
    assert maps.at_point("m", [(1, 1, np.ones((2, 2, 3), np.float16))], crop, Point(0.8, 0.5)).maps == []


def test_what_an_encoder_sees():
    wide = np.zeros((100, 200), np.uint8)
    assert seen_part(wide, RAD_DINO) == (0.25, 0, 0.75, 1)
    assert seen_part(wide, MI2) == WHOLE
    assert seen_part(wide, Preprocessing(50, "pad")) == (0, -0.5, 1, 1.5)


def read_picture(models: list[ModelMaps], point: Point = Point(0.5, 0.5)) -> np.ndarray:
    png = panel.draw(np.full((40, 50), 90, np.uint8), models, point)
    assert png == panel.draw(np.full((40, 50), 90, np.uint8), models, point)
    picture = Image.open(io.BytesIO(png))
    assert not picture.info.keys() - {"dpi"}  # no text beside the pixels
    return np.asarray(picture.convert("RGB")).astype(int)


def count(picture: np.ndarray, colour: tuple[int, int, int]) -> int:
    return int((np.abs(picture - colour).max(-1) <= 2).sum())


def test_colours_mean_the_same_whatever_the_map_holds():
    """A half is the same colour in a map of halves and in one from -1 to 1."""
    half = (125, 124, 120)  # cividis at 0.5
    flat = Map(1, 1, (0, 0), np.full((4, 4), 0.5, np.float32))
    mixed = Map(1, 1, (0, 0), np.where(np.eye(4) > 0, 0.5, -1).astype(np.float32))
    one, other = (count(read_picture([ModelMaps("a", WHOLE, [m])]), half) for m in (flat, mixed))
    assert one > 20_000 and 0.15 * one < other < 0.35 * one


def test_every_model_has_a_row_and_what_it_does_not_see_is_said():
    flat = Map(1, 1, (0, 0), np.ones((4, 4), np.float32))
    seen, unseen = ModelMaps("a", WHOLE, [flat]), ModelMaps("b", Seen(0.6, 0, 1, 1), [])
    one, two = read_picture([seen]), read_picture([seen, unseen])
    assert two.shape[0] > 1.6 * one.shape[0] and two.shape[1] == one.shape[1]
    yellow = (253, 231, 55)
    assert count(two, yellow) == pytest.approx(count(one, yellow), rel=0.05)
