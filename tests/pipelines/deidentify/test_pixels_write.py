"""What is written where text was blanked: the same stored values outside the boxes, truthfully described."""

import tracemalloc

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.pixels import convert_color_space, get_decoder
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless, JPEGBaseline8Bit, JPEGLSLossless, RLELossless

from pipelines.deidentify import pixels_write
from pipelines.deidentify.pixels import PixelCleaner
from pipelines.deidentify.pixels_codec import decode
from pipelines.scan.pixelstream import blocks
from tests.pipelines.deidentify.test_pixels import COLUMNS, NAME, ROWS, background, dataset, mask_of, written

INK_AT = (30, 20)


def frames_of(ds: Dataset, raw: bool = True) -> np.ndarray:
    return np.stack([f for f, _ in get_decoder(ds.file_meta.TransferSyntaxUID).iter_array(ds, raw=raw)])


def coloured(seed: int) -> np.ndarray:
    picture, ink = written(background(seed), NAME, INK_AT)
    return np.ascontiguousarray(np.stack([picture, np.where(ink, 255, picture // 2), picture // 3], axis=-1))


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, RLELossless])
def test_luminance_and_chrominance_stay_as_coded(syntax):
    # Turned into RGB and back, about half of the samples outside the boxes would change by one.
    ybr = np.asarray(convert_color_space(coloured(1), "RGB", "YBR_FULL"), dtype=np.uint8)
    ds = dataset(ybr, "RGB", 8, ExplicitVRLittleEndian)
    ds.PhotometricInterpretation = "YBR_FULL"
    if syntax == RLELossless:
        ds.compress(RLELossless, generate_instance_uid=False)
    (before,) = frames_of(ds)
    result = PixelCleaner().clean(ds)
    (after,), mask = frames_of(ds), mask_of(result.boxes, (ROWS, COLUMNS))
    assert ds.PhotometricInterpretation == "YBR_FULL" and ds.file_meta.TransferSyntaxUID == syntax
    np.testing.assert_array_equal(after[~mask], before[~mask])
    assert mask.any() and (after[mask] == (0, 128, 128)).all()


def test_a_lossy_colour_source_is_written_losslessly_and_stays_marked():
    picture = coloured(2)
    ds = dataset(picture, "RGB", 8, JPEGBaseline8Bit)
    ds.LossyImageCompressionRatio = 9.5
    ds.PhotometricInterpretation = "YBR_FULL_422"
    (before,) = frames_of(ds, raw=False)
    result = PixelCleaner().clean(ds)
    (after,), mask = frames_of(ds, raw=False), mask_of(result.boxes, (ROWS, COLUMNS))
    np.testing.assert_array_equal(after[~mask], before[~mask])
    assert mask.any() and ds.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    marks = (ds.LossyImageCompression, ds.LossyImageCompressionMethod, ds.LossyImageCompressionRatio)
    assert marks == ("01", "ISO_10918_1", 9.5)
    assert ds.PlanarConfiguration == 0 and ds.PhotometricInterpretation in ("RGB", "YBR_FULL")


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless, JPEGLSLossless, ExplicitVRLittleEndian])
def test_all_sixteen_bits_of_every_frame_stay(syntax):
    rng = np.random.default_rng(3)
    picture, ink = written(background(3), NAME, INK_AT)
    deep = picture.astype(np.uint16) * 256 + rng.integers(0, 16, picture.shape, dtype=np.uint16)
    plain = background(4).astype(np.uint16) * 256
    ds = dataset(np.stack([plain, deep, plain]), "MONOCHROME2", 16, syntax)
    before = frames_of(ds)
    result = PixelCleaner().clean(ds)
    after = frames_of(ds)
    assert {b.frame for b in result.boxes} == {1} and len(after) == 3
    mask = mask_of(result.boxes, ink.shape, 1)
    assert mask[ink].all()
    np.testing.assert_array_equal(after[1][~mask], before[1][~mask])
    np.testing.assert_array_equal(after[[0, 2]], before[[0, 2]])


def test_print_is_found_between_far_padding_and_the_fill_is_no_padding():
    # Half of the frame is padding, 32,000 below the picture: a display over all values shows no print at all.
    values = background(5).astype(np.int16)
    picture, ink = written(background(5), NAME, (20, 200), size=14)
    values = np.where(ink, picture, values).astype(np.int16)
    values[:150] = -32000
    ds = dataset(values, "MONOCHROME2", 16, ExplicitVRLittleEndian)
    ds.PixelPaddingValue = -32000
    result = PixelCleaner().clean(ds)
    (after,), mask = frames_of(ds), mask_of(result.boxes, ink.shape)
    assert mask[ink].all() and (after[mask] > -100).all() and (after[:150] == -32000).all()


def test_one_frame_of_many_is_in_memory_at_a_time(monkeypatch):
    frames = 40
    monkeypatch.setattr(pixels_write, "IN_MEMORY", 1 << 20)
    picture, _ = written(background(6), NAME, INK_AT)
    ds = dataset(np.stack([background(6)] * (frames - 1) + [picture]), "MONOCHROME2", 8, ExplicitVRLittleEndian)
    PixelCleaner().clean(dataset(picture, "MONOCHROME2", 8, ExplicitVRLittleEndian))  # models
    tracemalloc.start()
    assert PixelCleaner().clean(ds).boxes
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(ds.PixelData) == frames * ROWS * COLUMNS and not isinstance(ds.PixelData, bytes)
    assert peak < frames * ROWS * COLUMNS
    assert sum(map(len, blocks(ds.PixelData))) == len(ds.PixelData)
    np.testing.assert_array_equal(next(decode(ds))[0], background(6))
