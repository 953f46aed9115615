"""Burned-in text is blanked in every encoding, and nothing else is touched."""

import json
import socket

import numpy as np
import pydicom
import pytest
from PIL import Image, ImageDraw, ImageFont
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels import get_decoder
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
)

from pipelines.deidentify import pixels
from pipelines.deidentify.identities import Quarantine
from pipelines.deidentify.pixels import PixelCleaner
from pipelines.deidentify.pixels_marks import Judge
from pipelines.deidentify.pixels_models import read_text
from pipelines.deidentify.pixels_picture import Display
from pipelines.deidentify.pixels_text import find_text

NAME = "WEATHERBY, ULRIKE"
ROWS, COLUMNS = 352, 480


def background(seed: int = 0) -> np.ndarray:
    """A smooth chest-like picture (rows, columns) uint8: two dark fields in a bright one, noise, a rib."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:ROWS, 0:COLUMNS]
    picture = 90 + 60 * np.sin(x / COLUMNS * np.pi) + 20 * np.cos(y / 70)
    for centre in (0.32, 0.68):
        picture -= 70 * np.exp(-(((x / COLUMNS - centre) / 0.13) ** 2) - ((y / ROWS - 0.5) / 0.3) ** 2)
    picture += 14 * np.exp(-(((y - 150 - 0.1 * x) / 9) ** 2)) + rng.normal(0, 1.5, (ROWS, COLUMNS))
    return picture.clip(0, 220).astype(np.uint8)


def written(picture: np.ndarray, text: str, at: tuple[int, int], size: int = 18) -> tuple[np.ndarray, np.ndarray]:
    """The picture with white text at (x, y), and the mask of pixels that the text changed."""
    image = Image.fromarray(picture)
    ImageDraw.Draw(image).text(at, text, fill=255, font=ImageFont.load_default(size))
    out = np.asarray(image)
    return out, out != picture


def dataset(array: np.ndarray, photometric: str, stored: int, syntax: str) -> Dataset:
    """An image object with the frames of `array` ([frames,] rows, columns[, 3]) in a transfer syntax."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.PatientName, ds.Modality = "Weatherby^Ulrike", "DX"
    ds.SOPClassUID, ds.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.1.1", "2.25.1"
    ds.PhotometricInterpretation = photometric
    ds.SamplesPerPixel = 3 if photometric == "RGB" else 1
    frames = array if array.ndim == (4 if photometric == "RGB" else 3) else array[None]
    ds.Rows, ds.Columns = frames.shape[1:3]
    if len(frames) > 1:
        ds.NumberOfFrames = len(frames)
    if photometric == "RGB":
        ds.PlanarConfiguration = 0
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = array.dtype.itemsize * 8, stored, stored - 1
    ds.PixelRepresentation = int(array.dtype.kind == "i")
    if syntax == JPEGBaseline8Bit:
        import io

        buffer = io.BytesIO()
        Image.fromarray(frames[0]).save(buffer, "JPEG", quality=92)
        ds.PixelData = encapsulate([buffer.getvalue()])
        ds["PixelData"].is_undefined_length = True
        ds.LossyImageCompression, ds.LossyImageCompressionMethod = "01", "ISO_10918_1"
        ds.file_meta.TransferSyntaxUID = syntax
    elif syntax in (RLELossless, JPEG2000Lossless, JPEGLSLossless):
        ds.compress(syntax, np.ascontiguousarray(array), generate_instance_uid=False)
    else:
        order = ">" if syntax == ExplicitVRBigEndian else "<"
        ds.PixelData = array.astype(array.dtype.newbyteorder(order)).tobytes()
        ds["PixelData"].VR = "OW" if array.dtype.itemsize > 1 else "OB"
        ds.file_meta.TransferSyntaxUID = syntax
    return ds


def stored_values(ds: Dataset) -> np.ndarray:
    return get_decoder(ds.file_meta.TransferSyntaxUID).as_array(ds)[0].copy()


def mask_of(boxes, shape, frame=0) -> np.ndarray:
    mask = np.zeros(shape, bool)
    for box in boxes:
        if box.frame == frame:
            mask[box.top : box.top + box.height, box.left : box.left + box.width] = True
    return mask


def deep(picture: np.ndarray, bits: int, inverted: bool, dtype: type) -> np.ndarray:
    values = picture.astype(np.int64) * ((1 << bits) - 1) // 255
    if inverted:
        values = (1 << bits) - 1 - values
    if np.dtype(dtype).kind == "i":
        values -= 1 << (bits - 1)
    return values.astype(dtype)


@pytest.mark.parametrize(
    ("syntax", "photometric", "bits", "dtype"),
    [
        (ImplicitVRLittleEndian, "MONOCHROME2", 12, np.uint16),
        (ExplicitVRLittleEndian, "MONOCHROME1", 8, np.uint8),
        (ExplicitVRBigEndian, "MONOCHROME2", 16, np.uint16),
        (ExplicitVRLittleEndian, "MONOCHROME2", 12, np.int16),
        (RLELossless, "MONOCHROME1", 10, np.uint16),
        (JPEG2000Lossless, "MONOCHROME2", 8, np.uint8),
        (JPEGLSLossless, "MONOCHROME2", 12, np.uint16),
        (JPEGBaseline8Bit, "MONOCHROME2", 8, np.uint8),
    ],
)
def test_grey_text_is_blanked_and_all_else_is_equal(syntax, photometric, bits, dtype):
    picture, ink = written(background(), NAME, (20, 300))
    ds = dataset(deep(picture, bits, photometric == "MONOCHROME1", dtype), photometric, bits, syntax)
    before = stored_values(ds)
    result = PixelCleaner().clean(ds)
    after = stored_values(ds)
    assert result.changed and result.proved and result.boxes
    mask = mask_of(result.boxes, before.shape)
    assert mask[ink].all()
    assert mask.mean() < 0.12
    assert after.dtype == before.dtype
    np.testing.assert_array_equal(after[~mask], before[~mask])
    lossy = syntax == JPEGBaseline8Bit
    assert ds.file_meta.TransferSyntaxUID == (ExplicitVRLittleEndian if lossy else syntax)
    assert ds.get("LossyImageCompression") == ("01" if lossy else None)
    assert ds.PhotometricInterpretation == photometric
    # Nothing of the text is left to read in what was written.
    (grey,) = Display(ds, after, photometric).pictures(after)
    assert not any(part in read_text(r.crop(grey))[0] for r in find_text(grey) for part in ("WEATH", "ULRI"))


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, RLELossless, JPEG2000Lossless])
def test_colour_text_is_blanked_in_black(syntax):
    picture, ink = written(background(1), NAME, (30, 20))
    colour = np.stack([picture, picture, np.where(ink, 0, picture)], axis=-1)  # yellow print
    ds = dataset(np.ascontiguousarray(colour), "RGB", 8, syntax)
    before = stored_values(ds)
    result = PixelCleaner().clean(ds)
    after = stored_values(ds)
    mask = mask_of(result.boxes, ink.shape)
    assert mask[ink].all()
    np.testing.assert_array_equal(after[~mask], before[~mask])
    assert not after[mask].any()
    assert ds.PhotometricInterpretation == "RGB" and ds.file_meta.TransferSyntaxUID == syntax


def test_palette_text_is_blanked_with_the_darkest_entry():
    picture, ink = written(background(2), NAME, (30, 20))
    ds = dataset(255 - picture, "PALETTE COLOR", 8, ExplicitVRLittleEndian)
    ramp = ((255 - np.arange(256)) * 257).astype("<u2").tobytes()  # entry 255 is black
    for colour in ("Red", "Green", "Blue"):
        setattr(ds, f"{colour}PaletteColorLookupTableDescriptor", [256, 0, 16])
        setattr(ds, f"{colour}PaletteColorLookupTableData", ramp)
    before = stored_values(ds)
    result = PixelCleaner().clean(ds)
    after = stored_values(ds)
    mask = mask_of(result.boxes, ink.shape)
    assert mask[ink].all() and (after[mask] == 255).all()
    np.testing.assert_array_equal(after[~mask], before[~mask])


def test_text_on_one_frame_of_several_is_blanked_there_only():
    plain = [background(i) for i in range(3)]
    second, ink = written(plain[1], NAME, (40, 200))
    ds = dataset(np.stack([plain[0], second, plain[2]]), "MONOCHROME2", 8, RLELossless)
    result = PixelCleaner().clean(ds)
    after = stored_values(ds)
    assert {b.frame for b in result.boxes} == {1}
    np.testing.assert_array_equal(after[0], plain[0])
    np.testing.assert_array_equal(after[2], plain[2])
    assert mask_of(result.boxes, ink.shape, 1)[ink].all()


def test_text_that_the_window_saturates_is_found_in_the_full_range():
    # White anatomy under the window; the print is brighter still and invisible on a workstation's first look.
    values = background(3).astype(np.uint16) + 2000
    ink = written(np.zeros((ROWS, COLUMNS), np.uint8), NAME, (40, 200))[1]
    values[ink] = 4095
    ds = dataset(values, "MONOCHROME2", 12, ExplicitVRLittleEndian)
    ds.WindowCenter, ds.WindowWidth = 1000, 800
    result = PixelCleaner().clean(ds)
    assert mask_of(result.boxes, ink.shape)[ink].all()


@pytest.mark.parametrize("text", ["L", "AP", "PORTABLE", "AP SUPINE"])
def test_side_and_position_marks_stay(text):
    picture, _ = written(background(4), text, (400 - 8 * len(text), 30), size=30)
    ds = dataset(picture, "MONOCHROME2", 8, ExplicitVRLittleEndian)
    before = bytes(ds.PixelData)
    result = PixelCleaner().clean(ds)
    assert result.boxes == () and not result.changed and result.proved
    assert ds.PixelData == before


def test_lone_letters_are_a_mark_unless_they_are_somebodys_name():
    picture, ink = written(background(5), "XU", (400, 30), size=30)
    ds = dataset(picture, "MONOCHROME2", 8, ExplicitVRLittleEndian)
    assert PixelCleaner().clean(ds).boxes == ()
    ds.PatientName = "Xu^Mei"
    assert mask_of(PixelCleaner().clean(ds).boxes, ink.shape)[ink].all()


def test_initials_beside_a_line_of_print_go_with_it():
    picture, ink = written(background(6), f"{NAME}    M  57", (12, 20), size=16)
    ds = dataset(picture, "MONOCHROME2", 8, ExplicitVRLittleEndian)
    assert mask_of(PixelCleaner().clean(ds).boxes, ink.shape)[ink].all()


def test_a_line_that_fades_into_bright_ground_goes_to_its_end():
    ground = np.linspace(40, 236, COLUMNS)[None].repeat(ROWS, 0).astype(np.uint8)
    picture, ink = written(ground, f"{NAME} 83920173", (150, 100), size=24)
    ds = dataset(picture, "MONOCHROME2", 8, ExplicitVRLittleEndian)
    assert mask_of(PixelCleaner().clean(ds).boxes, ink.shape)[ink].all()


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, JPEGBaseline8Bit, ExplicitVRLittleEndian])
def test_without_text_not_a_byte_is_changed(syntax):
    ds = dataset(background(7), "MONOCHROME2", 8, syntax)
    before = bytes(ds.PixelData)
    result = PixelCleaner().clean(ds)
    assert (result.boxes, result.changed) == ((), False)
    assert ds.PixelData == before and ds.file_meta.TransferSyntaxUID == syntax


def test_data_hidden_in_unused_bits_or_behind_the_pixels_is_removed():
    values = background(8).astype(np.uint16) * 16
    hidden = values.copy()
    hidden[10:40, 10:200] |= 0x8000  # an overlay plane of old (PS3.5 8.1.2, retired)
    ds = dataset(hidden, "MONOCHROME2", 12, ExplicitVRLittleEndian)
    assert PixelCleaner().clean(ds).changed
    np.testing.assert_array_equal(np.frombuffer(ds.PixelData, "<u2").reshape(ROWS, COLUMNS), values)
    ds.PixelData += b"WEATHERBY^ULRIKE"
    assert PixelCleaner().clean(ds).changed
    assert b"WEATHERBY" not in ds.PixelData


def test_the_quarantine_policy_refuses_instead_of_blanking():
    ds = dataset(written(background(), NAME, (20, 300))[0], "MONOCHROME2", 8, ExplicitVRLittleEndian)
    before = bytes(ds.PixelData)
    with pytest.raises(Quarantine) as refused:
        PixelCleaner("quarantine").clean(ds)
    assert refused.value.reason == "text_in_pixels" and ds.PixelData == before


def test_text_that_outlasts_the_passes_is_quarantined(monkeypatch):
    monkeypatch.setattr(pixels, "_blank", lambda frame, *_: frame)
    ds = dataset(written(background(), NAME, (20, 300))[0], "MONOCHROME2", 8, ExplicitVRLittleEndian)
    with pytest.raises(Quarantine) as refused:
        PixelCleaner().clean(ds)
    assert refused.value.reason == "text_in_pixels" and "WEATH" not in refused.value.detail


def _damaged(change) -> Dataset:
    ds = dataset(background(), "MONOCHROME2", 8, ExplicitVRLittleEndian)
    change(ds)
    return ds


def _cut_stream(ds: Dataset) -> None:
    ds.compress(JPEG2000Lossless, generate_instance_uid=False)
    ds.PixelData = encapsulate([b"\xff\x4f\xff\x51 this is no codestream"])


@pytest.mark.parametrize(
    "change",
    [
        lambda ds: setattr(ds, "PixelData", ds.PixelData[:-100]),
        lambda ds: delattr(ds, "Rows"),
        lambda ds: delattr(ds, "PixelData"),
        lambda ds: setattr(ds, "Rows", 65535),
        lambda ds: setattr(ds, "HighBit", 15),
        lambda ds: setattr(ds, "NumberOfFrames", 1000),
        lambda ds: setattr(ds.file_meta, "TransferSyntaxUID", "1.2.840.10008.1.2.4.100"),
        lambda ds: delattr(ds.file_meta, "TransferSyntaxUID"),
        _cut_stream,
    ],
)
def test_what_cannot_be_decoded_is_quarantined(change):
    with pytest.raises(Quarantine) as refused:
        PixelCleaner().clean(_damaged(change))
    assert refused.value.reason == "pixels"


def test_the_models_come_from_the_wheel_and_nothing_is_fetched(monkeypatch):
    def refuse(*_args, **_kwargs):
        raise AssertionError("a connection was opened")

    from pipelines.deidentify import pixels_models

    pixels_models.detector.cache_clear()
    pixels_models.recogniser.cache_clear()
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    ds = dataset(written(background(), NAME, (20, 300))[0], "MONOCHROME2", 8, ExplicitVRLittleEndian)
    assert PixelCleaner().clean(ds).boxes


@pytest.mark.shared
def test_real_burned_in_files(shared):
    folder = shared / "data" / "dicom_samples"
    for name, truth in json.loads((folder / "burned_in_boxes.json").read_text()).items():
        ds = pydicom.dcmread(folder / name)
        before = stored_values(ds)
        mask = mask_of(PixelCleaner().clean(ds).boxes, before.shape)
        for b in truth:
            assert mask[b["top"] : b["top"] + b["height"], b["left"] : b["left"] + b["width"]].all()
        np.testing.assert_array_equal(stored_values(ds)[~mask], before[~mask])
        assert mask.mean() < 0.05


@pytest.mark.shared
def test_real_radiographs_with_lead_marks_are_left_as_they_are(shared):
    folder = shared / "data" / "nih_cxr14" / "images"
    names = ["00001634_008", "00006991_012", "00002679_000", "00003353_003", "00001689_012", "00006713_001"]
    for name in names:
        assert Judge().readable(np.asarray(Image.open(folder / f"{name}.jpg").convert("L")))[0] == []


@pytest.mark.shared
def test_every_planted_line_of_a_real_export_is_covered(real_export):
    key = json.loads(real_export.with_suffix(".key.json").read_text())
    burned = [v for v in key["instances"].values() if v["burned_in"]][:2]
    for instance in burned:
        ds = pydicom.dcmread(real_export / instance["path"])
        boxes = PixelCleaner().clean(ds).boxes
        mask = mask_of(boxes, (ds.Rows, ds.Columns))
        for b in instance["burned_in"]:
            line = mask[max(b["top"], 0) : b["top"] + b["height"], max(b["left"], 0) : b["left"] + b["width"]]
            assert line.mean() > 0.98
