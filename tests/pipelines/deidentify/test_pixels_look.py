"""Looks at a part of a picture: repainted, faint, turned; and what the gate lets through."""

import numpy as np
import pytest

from pipelines.deidentify import pixels_marks
from pipelines.deidentify.pixels import PixelCleaner
from pipelines.deidentify.pixels_gate import Region, amplified, stroke_cells
from pipelines.deidentify.pixels_marks import Judge
from pipelines.deidentify.pixels_picture import Display
from tests.pipelines.deidentify.test_pixels import NAME, background, dataset, deep, mask_of, stored_values, written


@pytest.mark.parametrize(("photometric", "dtype"), [("MONOCHROME1", np.uint16), ("MONOCHROME2", np.int16)])
def test_a_picture_repainted_in_part_is_the_picture_of_the_whole(photometric, dtype):
    values = deep(background(), 12, photometric == "MONOCHROME1", dtype)
    ds = dataset(values, photometric, 12, "1.2.840.10008.1.2.1")
    frame = stored_values(ds)
    display = Display(ds, frame, photometric)
    pictures = display.pictures(frame)
    regions = [Region(20, 30, 100, 25), Region(90, 40, 60, 60)]
    blanked = frame.copy()
    for region in regions:
        region.crop(blanked)[...] = frame.min()
    before = pictures[0].copy()
    (repainted,) = display.repaint(pictures, blanked, regions)
    np.testing.assert_array_equal(repainted, display.pictures(blanked)[0])
    assert (repainted != before).any()


def test_the_box_of_a_line_that_runs_up_is_as_tight_as_of_one_that_runs_level():
    level, ink = written(background(), NAME, (20, 300))
    turned, turned_ink = (np.ascontiguousarray(np.rot90(a)) for a in (level, ink))
    shares = []
    for picture, strokes in ((level, ink), (turned, turned_ink)):
        ds = dataset(picture, "MONOCHROME2", 8, "1.2.840.10008.1.2.1")
        mask = mask_of(PixelCleaner().clean(ds).boxes, picture.shape)
        assert mask[strokes].all()
        shares.append(mask.mean())
    assert shares[1] < 1.6 * shares[0]


def test_cells_with_edges_in_one_direction_only_are_not_looked_at():
    picture = background(1)
    assert not stroke_cells(picture).any()
    picture[100:104] = 250  # a wire
    assert not stroke_cells(picture).any()
    assert stroke_cells(written(background(1), NAME, (40, 200))[0]).any()


def test_faint_strokes_count_where_there_is_no_grain_and_grain_does_not():
    faint = np.where(written(np.zeros((64, 192), np.uint8), "WEATHERBY", (20, 20))[1], 250, 240).astype(np.uint8)
    assert not stroke_cells(faint).any() and stroke_cells(amplified(faint)).any()
    grain = np.random.default_rng(0).normal(120, 4, (128, 192)).round().astype(np.uint8)
    assert not stroke_cells(amplified(grain)).any()


@pytest.mark.parametrize(("reading", "stays"), [("R", True), ("一", False), ("①", False)])
def test_a_sign_of_another_script_is_no_mark_that_need_not_be_looked_at_again(monkeypatch, reading, stays):
    picture = written(background(), "R", (300, 40), size=40)[0]
    monkeypatch.setattr(pixels_marks, "read_text", lambda _line: (reading, 0.99))
    text, marks = Judge().readable(picture)
    assert text == [] and bool(marks) == stays


def test_a_mark_that_was_read_without_doubt_stays_when_text_is_looked_for_again(monkeypatch):
    picture = written(background(), "R", (300, 40), size=40)[0]
    _, marks = Judge().readable(picture)
    monkeypatch.setattr(pixels_marks, "read_text", lambda _line: ("", 0.0))
    assert Judge().readable(picture, [Region(20, 50, 200, 24)], marks) == ([], marks)


def test_a_piece_of_a_mark_is_read_with_the_rest_of_its_line_unless_it_is_somebodys_name():
    picture, ink = written(background(2), "SUPINE", (120, 40), size=40)
    rows, columns = np.nonzero(ink)
    length = int(columns.max() - columns.min())
    piece = Region(int(columns.min()), int(rows.min()), length * 2 // 3, int(rows.max() - rows.min()))
    assert Judge()._look(picture, piece).verdict == "stays"
    assert Judge(frozenset({"SUPI"}))._look(picture, piece).verdict == "text"
    other, _ = written(background(2), "SUPIWA", (120, 40), size=40)
    assert Judge()._look(other, piece).verdict == "text"
