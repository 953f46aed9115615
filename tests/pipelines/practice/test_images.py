"""The radiographs: findings can be measured, masks and polylines lie where they say, burned-in boxes hold ink."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import binary_dilation

from pipelines.practice.anatomy import lateral_of, sample_anatomy, sample_pose
from pipelines.practice.contact_sheet import contact_sheet, practice_sheet, windowed
from pipelines.practice.devices import POSITIONS, Device, device_mask
from pipelines.practice.findings import Finding
from pipelines.practice.plan import make_plan
from pipelines.practice.radiograph import make_radiograph

CASES = range(3)


def radiograph(case: int, view: str = "PA", findings: tuple = (), devices: tuple = ()):
    rng = np.random.default_rng([77, case])
    anatomy = replace(sample_anatomy(rng, "FM"[case % 2], 35 + 20 * case), breast=0.0)
    pose = replace(sample_pose(rng, view, anatomy), tilt=0.0, rotation=0.0)
    if view == "LATERAL":
        pose = lateral_of(pose, rng, anatomy)
    scale = 360 / min(pose.width, pose.height)
    shape = (round(pose.height * scale), round(pose.width * scale))
    return make_radiograph(anatomy, pose, findings, devices, shape, np.random.default_rng(case))


def half(image, side: str, low: float, high: float):
    """Lung field of one side between two heights (shares of the lung), as grey values."""
    project = image.projector
    right, left = project(np.array([[-1.0, 0, 0], [1.0, 0, 0]]))[:, 0]
    middle = (right + left) / 2
    rows = [project(np.array([[0.0, 0, t * image.thorax.lung_height]]))[0, 1] for t in (low, high)]
    y, x = np.nonzero(image.lung)
    keep = (x < middle) if side == "right" else (x > middle)
    keep &= (y > rows[0]) & (y < rows[1])
    return image.grey[y[keep], x[keep]]


@pytest.mark.parametrize("case", CASES)
def test_lungs_are_dark_heart_and_belly_bright_air_black(case):
    image = radiograph(case)
    lung, heart = image.grey[image.lung].mean(), image.grey[image.heart].mean()
    assert heart - lung > 0.25
    below = image.grey[int(image.grey.shape[0] * 0.97), image.grey.shape[1] // 2 - 20 : image.grey.shape[1] // 2 + 20]
    assert below.mean() > lung + 0.1
    assert 0.08 < image.lung.mean() < 0.45


@pytest.mark.parametrize("case", CASES)
def test_cardiomegaly_widens_the_heart_beyond_half_of_the_chest(case):
    normal = radiograph(case).cardiothoracic_ratio
    large = radiograph(case, findings=(Finding("Cardiomegaly", size=0.5),)).cardiothoracic_ratio
    assert normal < 0.5 < 0.52 < large
    # The mask follows the picture: just inside the heart's left border is brighter than just outside.
    image = radiograph(case, findings=(Finding("Cardiomegaly", size=0.5),))
    row = np.flatnonzero(image.heart.any(1))[-1] - int(30 / image.spacing)
    edge = np.flatnonzero(image.heart[row])[-1]
    step = int(8 / image.spacing)
    assert image.grey[row - 2 : row + 3, edge - step].mean() > image.grey[row - 2 : row + 3, edge + step].mean() + 0.1


def test_the_heart_looks_larger_in_a_portable_view():
    ratios = [[radiograph(case, view).cardiothoracic_ratio for case in CASES] for view in ("PA", "AP")]
    assert np.mean(ratios[1]) > np.mean(ratios[0])


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize(
    ("label", "zone", "low", "high", "sign"),
    [("Effusion", "", 0.75, 0.95, 1), ("Consolidation", "lower", 0.62, 0.9, 1), ("Pneumothorax", "", 0.03, 0.25, -1)],
)
def test_a_finding_changes_its_own_side_only(label, zone, low, high, sign, side):
    finding = Finding(label, side, zone, 0.8, seed=4)
    before, after = radiograph(0), radiograph(0, findings=(finding,))
    other = "left" if side == "right" else "right"
    # Grey scale is anchored per image, so sides are compared with each other.
    shift = {s: after_mean(after, before, s, low, high) for s in (side, other)}
    assert sign * (shift[side] - shift[other]) > 0.04


def after_mean(after, before, side: str, low: float, high: float) -> float:
    """Mean change of grey in the lung field that the healthy image shows."""
    return float(half(replace_lung(after, before), side, low, high).mean() - half(before, side, low, high).mean())


def replace_lung(image, source):
    return replace(image, lung=source.lung)


def test_edema_brightens_the_hila_of_both_lungs():
    before, after = radiograph(1, "AP"), radiograph(1, "AP", (Finding("Edema", "both", size=0.9, seed=2),))
    for side in ("right", "left"):
        centre = after_mean(after, before, side, 0.4, 0.6)
        apex = after_mean(after, before, side, 0.05, 0.15)
        assert centre > apex


def test_a_nodule_is_a_local_bright_spot():
    finding = Finding("Nodule", "right", "middle", 0.9, seed=9)
    before, after = radiograph(2), radiograph(2, findings=(finding,))
    change = after.raw - before.raw
    change = np.where(before.lung, change - np.median(change[before.lung]), 0)
    dark = change < 0.5 * change.min()  # less signal behind the nodule
    y, x = np.nonzero(dark)
    size = 20 / after.spacing
    assert np.median(np.hypot(y - np.median(y), x - np.median(x))) < size
    assert np.median(x) < after.grey.shape[1] / 2


def test_a_lateral_view_shows_lung_and_spine_but_has_no_frontal_masks():
    image = radiograph(0, "LATERAL")
    assert not image.lung.any() and not image.heart.any()
    assert 0.2 < image.grey.mean() < 0.8 and image.grey.std() > 0.15


def tip_of(structure: str, position: str, offset: float, route: str = "right-jugular", seed: int = 2):
    image = radiograph(1, "AP", devices=(Device(structure, position, route, offset, seed),))
    return image, image.placed[0]


@pytest.mark.parametrize("offset", [0.0, 0.5, 1.0])
def test_ett_tips_lie_where_their_position_says(offset):
    for position in POSITIONS:
        image, item = tip_of("ett", position, offset)
        carina = image.projector(np.array([image.thorax.carina]))[0]
        above = (carina[1] - item.points[-1][1]) * image.spacing
        if position == "normal":
            assert 28 < above < 52
        elif position == "abnormal":
            assert above < -5 and item.points[-1][0] < carina[0]  # in the right main bronchus, left in the image
        else:
            assert not 25 < above < 55


@pytest.mark.parametrize("offset", [0.0, 1.0])
def test_ngt_tips_lie_below_the_diaphragm_unless_abnormal(offset):
    for position, low, high in (("normal", 50, 110), ("borderline", 10, 45), ("abnormal", -95, -10)):
        image, item = tip_of("ngt", position, offset)
        depth = item.path[-1][2] - image.thorax.dome[1]
        assert low < depth < high


@pytest.mark.parametrize("route", ["right-jugular", "left-jugular", "right-subclavian", "left-subclavian"])
def test_normal_cvc_tips_lie_in_the_lower_vena_cava(route):
    image, item = tip_of("cvc", "normal", 0.5, route)
    carina = image.projector(np.array([image.thorax.carina]))[0]
    x, y = item.points[-1]
    assert 0 < (y - carina[1]) * image.spacing < 45
    assert 8 < (carina[0] - x) * image.spacing < 45


def test_chest_tubes_end_inside_the_chest_unless_abnormal():
    for side in ("right", "left"):
        for position in POSITIONS:
            image, item = tip_of("chest-tube", position, 0.5, side)
            x, _, z = item.path[-1]
            inside = abs(x) < float(image.thorax.outer(np.array(z)))
            assert inside == (position != "abnormal")
            assert (x < 0) == (side == "right")


@pytest.mark.parametrize("structure", ["ett", "ngt", "cvc", "swan-ganz", "chest-tube"])
def test_devices_are_brighter_than_their_surroundings(structure):
    route = "right" if structure == "chest-tube" else "right-jugular"
    with_it, item = tip_of(structure, "normal", 0.5, route)
    bare = radiograph(1, "AP")
    mask = device_mask(item, bare.grey.shape, bare.spacing) > 0
    assert with_it.raw[mask].mean() < 0.985 * bare.raw[mask].mean()  # less signal behind a radio-opaque line
    far = ~binary_dilation(mask, iterations=6) & bare.lung
    other = with_it.raw[far].mean() / bare.raw[far].mean()
    assert with_it.raw[mask].mean() / bare.raw[mask].mean() < other - 0.01


def test_lines_and_masks_belong_together(practice):
    lines = [json.loads(line) for line in (practice.root / "lines.jsonl").read_text(encoding="utf-8").splitlines()]
    assert lines
    for line in lines:
        study = practice.key["studies"][line["accession"]]
        mask = np.asarray(Image.open(practice.root / "masks" / line["structure"] / f"{line['accession']}.png"))
        assert mask.dtype == bool and mask.shape == (study["rows"], study["columns"])
        assert line["position"] == study["lines"][line["structure"]]["position"]
        points = np.array(line["points"])
        assert (points >= 0).all() and (points < [mask.shape[1], mask.shape[0]]).all()
        x, y = np.round(points).astype(int).T
        assert mask[y, x].mean() > 0.95  # the polyline runs inside its mask, both ends too
        assert mask[y[0], x[0]] and mask[y[-1], x[-1]]
        y, x = np.nonzero(mask)
        ends = np.array([[x[y.argmin()], y.min()], [x[y.argmax()], y.max()]])
        assert np.abs(ends[:, 1] - [points[:, 1].min(), points[:, 1].max()]).max() < 10 / study["spacing"]


def test_masks_have_the_geometry_of_the_first_frontal_image(practice):
    frontal = {e["accession"]: e for e in practice.key["instances"].values() if e["path"].endswith("IM0001")}
    for accession, study in practice.key["studies"].items():
        assert windowed(practice.root / frontal[accession]["path"]).shape == (study["rows"], study["columns"])
        for structure in ("lung", "heart"):
            mask = np.asarray(Image.open(practice.root / f"masks/{structure}/{accession}.png"))
            assert mask.shape == (study["rows"], study["columns"]) and mask.any()
    widths = [min(s["rows"], s["columns"]) for s in practice.key["studies"].values()]
    assert all(0.9 * 320 < w < 1.1 * 320 for w in widths)
    assert all(s["rows"] != s["columns"] for s in practice.key["studies"].values())


def test_the_key_s_cardiothoracic_ratio_tells_cardiomegaly(practice):
    for study in practice.key["studies"].values():
        if "Cardiomegaly" in study["labels"]:
            assert study["cardiothoracic_ratio"] > 0.52
        elif study["view"] == "PA":
            assert study["cardiothoracic_ratio"] < 0.52


def test_burned_in_boxes_hold_ink(practice):
    boxes = [(e, box) for e in practice.key["instances"].values() for box in e["burned_in"]]
    assert len(boxes) >= 3
    for entry, box in boxes:
        image = windowed(practice.root / entry["path"])
        region = image[box["top"] : box["top"] + box["height"], box["left"] : box["left"] + box["width"]]
        assert region.shape == (box["height"], box["width"])
        ink = region > 150
        assert 0.08 < ink.mean() < 0.9
        # Ink reaches every side of the box: it is tight.
        assert ink[:3].any() and ink[-3:].any() and ink[:, :3].any() and ink[:, -3:].any()


def test_prevalence_suffices_for_a_linear_probe():
    for seed in (1, 2):
        studies = make_plan(200, seed).studies
        for label in ("Cardiomegaly", "Effusion"):
            assert 0.15 < np.mean([s.finding(label) is not None for s in studies]) < 0.6
        assert 0.15 < np.mean([s.device("ett") is not None for s in studies]) < 0.6
        assert all(s.view == "AP" for s in studies if s.devices)


def test_contact_sheet_shows_every_image(practice, tmp_path):
    files = [practice.root / e["path"] for e in practice.key["instances"].values()][:5]
    assert contact_sheet(files, tmp_path / "sheet.png", columns=3, tile=100) == (200, 300)
    sheet = np.asarray(Image.open(tmp_path / "sheet.png"))
    tiles = [sheet[r : r + 100, c : c + 100] for r in (0, 100) for c in (0, 100, 200)]
    assert all(tile.std() > 20 for tile in tiles[:5]) and tiles[5].max() == 0
    assert practice_sheet(practice.root, tmp_path / "all.png", count=4, columns=4, tile=64) == (64, 256)
