"""Windowing and geometry of single images, against values worked out by hand from PS3.3 C.11."""

from __future__ import annotations

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileDataset
from pydicom.sequence import Sequence

from pipelines.build.decode import Undecodable, affine, render, shrink
from tests.pipelines.build.folders import dataset


def image(pixels: np.ndarray, **header: object) -> FileDataset:
    ds = dataset(pixels, SOPInstanceUID="1.2.3", StudyInstanceUID="1.2.4")
    for keyword, value in header.items():
        setattr(ds, keyword, value)
    return ds


RAMP = np.arange(4096, dtype=np.uint16).reshape(64, 64)
TWELVE = {"BitsStored": 12, "HighBit": 11}


def test_a_linear_window_maps_its_ends_to_black_and_white() -> None:
    grey, how = render(image(RAMP, **TWELVE, WindowCenter=2048, WindowWidth=1000))
    flat = grey.ravel()
    assert how == "window"
    # PS3.3 C.11.2.1.2.1: black at and below c - 0.5 - (w - 1) / 2, white above c - 0.5 + (w - 1) / 2.
    assert flat[1548] == 0 and flat[1549] > 0
    assert flat[2547] == 255 and flat[2546] < 255
    assert flat[2047] == pytest.approx(127.5, abs=0.3)


def test_a_window_acts_after_the_modality_lut() -> None:
    header = TWELVE | {"RescaleSlope": 2, "RescaleIntercept": -1000, "WindowCenter": 1000, "WindowWidth": 1000}
    grey, _ = render(image(RAMP, **header))
    # Stored 1000 is 1000 after rescale: the middle of the window.
    assert grey.ravel()[1000] == pytest.approx(127.5, abs=0.5)
    assert grey.ravel()[749] == 0 and grey.ravel()[1251] == 255


def test_monochrome1_is_inverted_after_the_window() -> None:
    one, _ = render(image(RAMP, **TWELVE, WindowCenter=1000, WindowWidth=800))
    two, _ = render(image(RAMP, **TWELVE, WindowCenter=1000, WindowWidth=800, PhotometricInterpretation="MONOCHROME1"))
    assert np.array_equal(two, 255 - one)


def test_a_voi_lut_comes_before_the_window() -> None:
    item = Dataset()
    item.LUTDescriptor = [4096, 0, 16]
    item.add_new("LUTData", "OW", (np.arange(4096, dtype="<u2")[::-1] // 2).tobytes())
    ds = image(RAMP, **TWELVE, WindowCenter=1, WindowWidth=2)
    ds.VOILUTSequence = Sequence([item])
    grey, how = render(ds)
    assert how == "voi_lut"
    # A 16 bit descriptor over 11 bit data must not leave a nearly black picture.
    assert grey.ravel()[0] == 255 and grey.ravel()[4095] == 0


def test_without_a_window_deep_images_stretch_and_shallow_ones_stay() -> None:
    pixels = RAMP.copy()
    pixels[0, 0] = 60000
    grey, how = render(image(pixels))
    assert how == "percentile"
    assert grey.ravel()[2048] == pytest.approx(127.5, abs=2)
    shallow = np.arange(256, dtype=np.uint8).reshape(16, 16)
    grey, how = render(image(shallow))
    assert how == "full" and np.array_equal(grey, shallow)


def test_padding_does_not_enter_the_percentiles() -> None:
    pixels = RAMP + 1000
    pixels[:40] = 65535
    grey, _ = render(image(pixels, PixelPaddingValue=65535))
    inside = grey[45]
    assert inside.min() > 10 and inside.max() < 100


def test_a_window_that_breaks_the_standard_is_as_good_as_none() -> None:
    assert render(image(RAMP, **TWELVE, WindowCenter=100, WindowWidth=0))[1] == "percentile"


def test_bits_above_those_stored_are_no_grey_values() -> None:
    overlaid = RAMP.copy()
    overlaid[::2] |= 1 << 14
    clean, _ = render(image(RAMP, **TWELVE, WindowCenter=2048, WindowWidth=4096))
    grey, _ = render(image(overlaid, **TWELVE, WindowCenter=2048, WindowWidth=4096))
    assert np.array_equal(grey, clean)


def test_pixels_that_cannot_be_decoded_say_so_without_the_header() -> None:
    with pytest.raises(Undecodable) as error:
        render(image(RAMP, PixelData=b"\0" * 7, PatientName="Heart^Will"))
    assert "Heart" not in str(error.value)


def test_the_affine_maps_pixel_centres() -> None:
    """A point in the middle of a picture stays in the middle; corners of pixels map to corners."""
    a, b, c, d, e, f = affine((200, 100), (50, 25))
    assert (b, d) == (0, 0)
    assert a * 49.5 + c == 12 and e * 99.5 + f == 24.5
    assert a * -0.5 + c == -0.5


def test_a_bright_dot_lands_where_the_affine_says() -> None:
    grey = np.zeros((400, 300), np.float32)
    grey[300:308, 100:108] = 255
    small, six = shrink(grey, 75)
    assert small.shape == (100, 75)
    rows, columns = np.nonzero(small)
    assert six[0] * 103.5 + six[2] == pytest.approx(columns.mean())
    assert six[4] * 303.5 + six[5] == pytest.approx(rows.mean())


def test_fine_stripes_average_out() -> None:
    stripes = np.tile(np.array([0, 255], np.float32), (512, 256))
    small, _ = shrink(stripes, 64)
    assert np.all(np.abs(small.astype(int) - 128) <= 1)


def test_a_small_image_is_enlarged_to_the_side() -> None:
    small, _ = shrink(np.full((30, 45), 100, np.float32), 60)
    assert small.shape == (60, 90) and np.all(small == 100)
