"""The stage: images of a cohort by several models, pictures, and the folder that answers for any point."""

import json
from pathlib import Path

import numpy as np
import pytest

from pipelines.cohort import Cohort
from pipelines.contract import BadInput, Outcome, run_stage
from pipelines.encoders import export, load_encoder, mi2
from pipelines.encoders.folder import ModelCard, new_model_folder
from pipelines.encoders.tokens import Tokenizer, train_tokenizer
from pipelines.similarity import folder, picture
from pipelines.similarity.maps import Point
from tests.cohorts import add_masks, make_cohort, tubes
from tests.pipelines.evaluate.folders import tiny_model


def tiny_mi2(path: Path, cohort: Cohort) -> Path:
    words = [t for t in cohort.texts["findings"].to_pylist() if t]
    tokenizer = Tokenizer(train_tokenizer(words, mi2.MI2_TINY.vocabulary), mi2.MI2_TINY.context)
    with new_model_folder(path, ModelCard(name="mi2", encoder="mi2-tiny", kind="untrained", practice=True), []) as part:
        export.write_mi2(part, export.untrained_mi2(0, mi2.MI2_TINY), tokenizer)
    return path


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("similarity")
    make_cohort(root / "cohort", patients=30, side=56)
    add_masks(root / "cohort", tubes(Cohort.open(root / "cohort")))
    tiny_model(root / "one", "one", "run", 1)
    tiny_mi2(root / "two", Cohort.open(root / "cohort"))
    return root


def ask(root: Path, name: str, **spec) -> tuple[Outcome, dict, str]:
    values = {"cohort": str(root / "cohort"), "models": [str(root / "one"), str(root / "two")], "device": "cpu"} | spec
    outcome = run_stage("similarity", values, root / name)
    said = json.loads((root / name / "outcome.json").read_text())["message"]
    done = outcome is Outcome.DONE
    return outcome, json.loads((root / name / "result.json").read_text()) if done else {}, said


def test_any_point_of_an_image_is_answered_from_the_folder(world: Path) -> None:
    places = [{"image": 3, "x": 0.4, "y": 0.6}, {"image": 0}, {"image": 3, "x": 0.5, "y": 0.1}]
    _, result, _ = ask(world, "places", places=places)
    assert [(i["image"], len(i["points"])) for i in result["images"]] == [(0, 0), (3, 2)] and result["practice"]
    assert sorted(p.name for p in (world / "places" / "panels").iterdir()) == ["3-0.png", "3-1.png"]
    assert [len(m["depths"]) for m in result["models"]] == [3, 4]
    cohort, point = Cohort.open(world / "cohort"), Point(0.3, 0.7)
    for number, found in enumerate(folder.at_point(world / "places", result, 3, point)):
        encoder = load_encoder(world / ("one", "two")[number])
        patches = encoder.maps(encoder.prepare([cohort.image(3)]))[-1][0].numpy()
        last = found.maps[-1]
        chosen = patches[last.patch] / np.linalg.norm(patches[last.patch])
        expected = patches @ chosen / np.linalg.norm(patches, axis=-1)
        np.testing.assert_allclose(last.values, expected, atol=3e-3)
    with pytest.raises(BadInput, match="0, 3"):
        folder.at_point(world / "places", result, 1, point)
    colours = folder.palette(world / "places")
    assert len(colours) == 768 and sum(colours[:3]) < 120 and sum(colours[-3:]) > 520  # dark blue to yellow


def test_without_places_it_takes_the_tips(world: Path) -> None:
    _, result, _ = ask(world, "tips")
    (image,) = result["images"]
    assert image["split"] == "test" and image["points"][0]["words"] == "tip of ETT"
    everything = json.dumps(result) + (world / "tips" / "events.jsonl").read_text()
    index = Cohort.open(world / "cohort").index
    for column in ("patient", "accession", "instance", "study"):
        assert not any(value in everything for value in index[column].to_pylist())


def test_a_label_takes_the_first_test_images_that_have_it(world: Path) -> None:
    _, result, _ = ask(world, "label", label="Effusion")
    cohort = Cohort.open(world / "cohort")
    test = cohort.rows("test")
    positive = test[cohort.label_matrix(["Effusion"])[test, 0] == 1]
    assert [i["image"] for i in result["images"]] == positive[:4].tolist()
    assert all(i["points"] == [] for i in result["images"])


def test_what_is_wrong_is_said_in_a_sentence(world: Path) -> None:
    outcome, _, said = ask(world, "beyond", places=[{"image": 60}])
    assert outcome is Outcome.BAD_INPUT and said == "The cohort has images 0 to 59; choose one of these."
    plain = make_cohort(world / "plain", patients=6, side=56)
    outcome, _, said = ask(world, "no-label", label="Nodule")
    assert outcome is Outcome.BAD_INPUT and "labels are Cardiomegaly, ETT, Effusion" in said
    outcome, _, said = ask(world, "no-tips", cohort=str(plain))
    assert outcome is Outcome.BAD_INPUT and "name images in 'places'" in said


def test_a_map_in_colours_has_a_pixel_for_every_patch() -> None:
    import io

    from PIL import Image

    palette = [v for n in range(256) for v in (n, 0, 255 - n)]
    values = np.array([[-0.5, 0.0, 0.5], [1.0, 1.2, 0.25]])
    png = picture.map_png(values, palette)
    shown = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))
    assert shown[..., 0].tolist() == [[0, 0, 128], [255, 255, 64]]
    assert picture.read_palette(png) == palette
