"""The page on which a person points at a patch: where a click lands, what is drawn, who may look."""

import base64
import io
import re

import numpy as np
from PIL import Image

from server.store.models import Job, Similarity

PAGE = "/similarities/600000000002"


def patches(text: str) -> list[tuple[float, ...]]:
    """x, y, width and height of the outlined patch of every map, in pixels of the shown image (320 x 256)."""
    found = re.findall(r'<rect class="patch" x="(\S+)" y="(\S+)" width="(\S+)" height="(\S+)"', text)
    return [tuple(map(float, one)) for one in found]


def maps(text: str) -> list[np.ndarray]:
    """The maps as they are drawn, in grey (the palette of the folder that the test wrote)."""
    found = re.findall(r'<image href="data:image/png;base64,([^"]+)"', text)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(one))).convert("RGB"))[..., 0] for one in found]


def test_a_click_chooses_the_patch_under_it(browse):
    text = browse().get(PAGE, params={"image": 9, "at.x": 300, "at.y": 250}).text
    # The first model sees the middle 192 of 320 pixels and not this point; the second all of it in 4 x 4, then 2 x 2.
    assert patches(text) == [(240, 192, 80, 64), (160, 128, 160, 128)]
    assert "does not see the point" in text and "depth 6 of 12, median 0.00" in text
    one, two = maps(text)
    assert one[3, 3] == 255 and one.sum() == 255 and two.shape == (2, 2)
    text = browse().get(PAGE, params={"image": 9, "at.x": 65, "at.y": 10}).text
    assert patches(text)[:2] == [(64, 0, 48, 64), (64, 0, 96, 128)]


def test_a_point_may_be_typed_and_the_first_is_the_tip(browse):
    typed = browse().get(PAGE, params={"image": 9, "x": 93.75, "y": 97.6}).text
    assert patches(typed) == [(240, 192, 80, 64), (160, 128, 160, 128)]
    first = browse().get(PAGE).text
    assert "Image 4, tip of ETT" in first and "50.0 % from the left and 25.0 % from the top" in first
    assert "panels/0.png" in first and "panels/0.png" not in typed
    assert browse().get(PAGE, params={"image": 5}).status_code == 404
    assert browse().get(PAGE, params={"image": 9, "x": 120, "y": 0}).status_code == 422


def test_a_researcher_makes_maps_and_an_auditor_sees_none(browse, furnished):
    client = browse("researcher")
    form = {"name": "Walked maps", "cohort": "c00000000002", "models": ["b00000000002"], "images": "12, 40"}
    answer = client.post("/similarities", data=form)
    assert answer.status_code == 200 and "Walked maps" in answer.text
    with furnished.state.database.reading() as session:
        row = session.get_one(Similarity, answer.url.path.rsplit("/", 1)[-1])
        assert [p["image"] for p in row.spec["places"]] == [12, 40] and row.practice
        job = session.query(Job).filter_by(resource_id=row.id).one()
    assert job.stage == "similarity" and f'href="/similarities/{row.id}"' in client.get(f"/jobs/{job.id}").text
    again = client.post("/similarities", data=form | {"images": "some"})
    assert again.status_code == 422 and 'value="Walked maps"' in again.text
    auditor = browse("auditor")
    assert auditor.get(PAGE).status_code == 403 and "/similarities" not in auditor.get("/").text
