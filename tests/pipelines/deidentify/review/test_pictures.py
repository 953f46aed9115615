"""The boxes are where the pixels differ; the pictures show both sides, whatever the pixels are."""

import io
from pathlib import Path

import cv2
import numpy as np
import pytest
from pydicom.dataset import FileDataset
from pydicom.uid import RLELossless

from pipelines.deidentify.review.pictures import SIDE, Unseen, differences, pictures
from tests.dicoms import as_bytes, instance, without_preamble


def picture(data: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)


def image(frames: np.ndarray, photometric: str = "MONOCHROME2", bits: int | None = None) -> FileDataset:
    """An object with these pixels, [frames, rows, columns(, 3)]."""
    ds = instance()
    ds.NumberOfFrames, ds.Rows, ds.Columns = frames.shape[:3]
    ds.SamplesPerPixel, ds.PhotometricInterpretation = (3 if frames.ndim == 4 else 1), photometric
    if ds.SamplesPerPixel == 3:
        ds.PlanarConfiguration = 0
    ds.BitsAllocated = frames.itemsize * 8
    ds.BitsStored = bits or ds.BitsAllocated
    ds.HighBit = ds.BitsStored - 1
    ds.PixelData = frames.tobytes()
    return ds


def write(folder: Path, before: bytes, after: bytes) -> tuple[Path, Path]:
    (folder / "before").write_bytes(before)
    (folder / "after").write_bytes(after)
    return folder / "before", folder / "after"


@pytest.mark.parametrize("photometric", ["MONOCHROME2", "MONOCHROME1", "RGB"])
def test_the_box_is_what_was_blanked_in_its_frame(tmp_path: Path, photometric: str) -> None:
    shape = (5, 120, 160) + ((3,) if photometric == "RGB" else ())
    frames = np.random.default_rng(1).integers(60, 200, shape).astype(np.uint8)
    blanked = frames.copy()
    blanked[3, 20:50, 30:90] = 10
    seen = pictures(*write(tmp_path, as_bytes(image(frames, photometric)), as_bytes(image(blanked, photometric))))
    assert (seen.frames, seen.compared, seen.boxes) == (5, 5, [[3, 30, 20, 60, 30]])
    assert [s.frame for s in seen.shown] == [1, 2, 3] and len(seen.shown) == 3
    shown = {s.frame: s for s in seen.shown}
    assert np.array_equal(picture(shown[2].before), picture(shown[2].after))
    assert picture(shown[3].before)[35, 60].tolist() != picture(shown[3].after)[35, 60].tolist()


def test_an_overlay_in_unused_bits_is_no_difference_in_the_picture(tmp_path: Path) -> None:
    values = np.random.default_rng(1).integers(0, 4096, (1, 60, 60)).astype(np.uint16)
    seen = pictures(*write(tmp_path, as_bytes(image(values | 0x8000, bits=12)), as_bytes(image(values, bits=12))))
    assert seen.boxes == []
    assert np.array_equal(picture(seen.shown[0].before), picture(seen.shown[0].after))


def test_a_source_without_file_meta_and_one_compressed_are_read(tmp_path: Path) -> None:
    frames = np.random.default_rng(1).integers(0, 200, (1, 64, 64)).astype(np.uint8)
    packed, buffer = image(frames), io.BytesIO()
    packed.compress(RLELossless, generate_instance_uid=False)
    packed.save_as(buffer, enforce_file_format=True)
    seen = pictures(*write(tmp_path, without_preamble(as_bytes(image(frames))), buffer.getvalue()))
    assert (seen.compared, seen.boxes) == (1, [])


def test_a_large_picture_is_shrunk_and_never_stretched(tmp_path: Path) -> None:
    frames = np.zeros((1, 2000, 1000), np.uint8)
    seen = pictures(*write(tmp_path, as_bytes(image(frames)), as_bytes(image(frames))))
    assert picture(seen.shown[0].after).shape[:2] == (SIDE, SIDE // 2)


@pytest.mark.parametrize("damage", [b"", b"\0" * 200, b"rubbish" * 40])
def test_what_cannot_be_decoded_is_unseen(tmp_path: Path, damage: bytes) -> None:
    with pytest.raises(Unseen):
        pictures(*write(tmp_path, damage, as_bytes(instance())))


def test_another_shape_is_unseen() -> None:
    with pytest.raises(Unseen):
        differences(np.zeros((4, 4), np.uint8), np.zeros((4, 5), np.uint8))
