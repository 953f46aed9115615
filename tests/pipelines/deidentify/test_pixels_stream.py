"""Text beside the picture in encapsulated pixel data: gone, and every sample as it was."""

import contextlib
import io
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom import Dataset, dcmread
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import UID, JPEG2000Lossless, JPEGBaseline8Bit, JPEGLSLossless, RLELossless

from pipelines.deidentify.identities import Quarantine
from pipelines.deidentify.pixels_stream import clean_frame, clean_stream
from pipelines.scan.dicom import configure_pydicom
from tests.dicoms import instance

NOTE = b"Wolfhagenroth^Petra MRN7700123"


def jpeg(ds: Dataset, **more: object) -> bytes:
    return _saved(ds, "JPEG", quality=95, **more)


def jpeg2000(ds: Dataset, **more: object) -> bytes:
    return _saved(ds, "JPEG2000", irreversible=False, **{"no_jp2": True, **more})


def _saved(ds: Dataset, form: str, **more: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(ds.pixel_array).save(buffer, form, **more)
    return buffer.getvalue()


def with_exif(data: bytes) -> bytes:
    content = b"Exif\0\0" + NOTE
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(content) + 2) + content + data[2:]


def put(ds: Dataset, frames: list[bytes], syntax: UID) -> Dataset:
    ds.file_meta.TransferSyntaxUID = syntax
    ds.PixelData = encapsulate(frames)
    ds["PixelData"].is_undefined_length = True
    return ds


CARRIERS: dict[str, tuple[UID, Callable[[Dataset], bytes], Callable[[Dataset], bytes]]] = {
    "JPEG comment": (JPEGBaseline8Bit, jpeg, lambda ds: jpeg(ds, comment=NOTE)),
    "JPEG EXIF": (JPEGBaseline8Bit, jpeg, lambda ds: with_exif(jpeg(ds))),
    "behind a JPEG": (JPEGBaseline8Bit, jpeg, lambda ds: jpeg(ds) + NOTE),
    "progressive JPEG": (JPEGBaseline8Bit, jpeg, lambda ds: jpeg(ds, progressive=True, comment=NOTE)),
    "JPEG 2000 comment": (JPEG2000Lossless, jpeg2000, lambda ds: jpeg2000(ds, comment=NOTE)),
    "behind JPEG 2000": (JPEG2000Lossless, jpeg2000, lambda ds: jpeg2000(ds) + NOTE),
    "JP2 boxes": (JPEG2000Lossless, jpeg2000, lambda ds: jpeg2000(ds, no_jp2=False, comment=NOTE)),
}


@pytest.mark.parametrize("name", CARRIERS)
def test_text_beside_the_picture_is_cut_out(name: str) -> None:
    syntax, plain, dirty = CARRIERS[name]
    ds = instance()
    expected, carried = plain(ds), dirty(ds)
    assert NOTE in carried
    before = np.asarray(Image.open(io.BytesIO(carried)))
    put(ds, [carried], syntax)
    assert clean_stream(ds)
    assert NOTE not in ds.PixelData
    (frame,) = generate_frames(ds.PixelData, number_of_frames=1)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(frame))), before)
    put(ds, [expected], syntax)
    data = ds.PixelData
    assert not clean_stream(ds)
    assert ds.PixelData is data


def test_rle_ends_with_its_last_segment() -> None:
    ds = instance()
    before = ds.pixel_array.copy()
    ds.compress(RLELossless, generate_instance_uid=False)
    assert not clean_stream(ds)
    (frame,) = generate_frames(ds.PixelData, number_of_frames=1)
    put(ds, [frame + NOTE], RLELossless)
    assert clean_stream(ds)
    assert NOTE not in ds.PixelData
    assert np.array_equal(ds.pixel_array, before)


def test_jpeg_ls_stays_as_it_is() -> None:
    ds = instance()
    ds.compress(JPEGLSLossless, generate_instance_uid=False)
    data = ds.PixelData
    assert not clean_stream(ds)
    assert ds.PixelData is data


def test_fragments_and_offsets_that_are_no_frames_go() -> None:
    ds = instance()
    data = jpeg(ds)
    fragment = struct.pack("<HHI", 0xFFFE, 0xE000, len(NOTE)) + NOTE
    put(ds, [data], JPEGBaseline8Bit)
    ds.PixelData += fragment
    assert clean_stream(ds)
    assert NOTE not in ds.PixelData
    table = struct.pack("<HHI", 0xFFFE, 0xE000, 32) + (NOTE + b"  ")[:32]
    put(ds, [data], JPEGBaseline8Bit)
    bare = encapsulate([data], has_bot=False)[8:]
    ds.PixelData = table + bare
    assert clean_stream(ds)
    assert NOTE[:28] not in ds.PixelData
    assert len(list(generate_frames(ds.PixelData, number_of_frames=1))) == 1


def test_every_frame_is_looked_through() -> None:
    ds = instance()
    frames = [jpeg2000(ds), jpeg2000(ds, comment=NOTE), jpeg2000(ds)]
    ds.NumberOfFrames = 3
    put(ds, frames, JPEG2000Lossless)
    assert clean_stream(ds)
    assert NOTE not in ds.PixelData
    assert len(list(generate_frames(ds.PixelData, number_of_frames=3))) == 3


def test_a_stream_that_cannot_be_followed_is_quarantined() -> None:
    ds = instance()
    streams = [(JPEGBaseline8Bit, jpeg(ds)), (JPEG2000Lossless, jpeg2000(ds))]
    for syntax, data in streams:
        for cut in (2, 40, len(data) - 3):
            with pytest.raises(Quarantine):
                clean_stream(put(ds, [data[:cut]], syntax))
    with pytest.raises(Quarantine):
        clean_stream(put(ds, [b"\x01\0\0\0\x40" + b"\0" * 70], RLELossless))


@pytest.mark.parametrize("name", ["JPEG comment", "JPEG 2000 comment"])
def test_a_stream_of_another_size_reaches_no_decoder(name: str) -> None:
    syntax, plain, _ = CARRIERS[name]
    ds = instance()
    frame = plain(ds)
    assert clean_frame(frame, syntax, ds) is frame
    ds.Rows += 1
    with pytest.raises(Quarantine):
        clean_frame(frame, syntax, ds)


def encapsulated() -> Iterator[tuple[str, Dataset, np.ndarray]]:
    """The files that pydicom brings with encapsulated pixel data that it can decode."""
    for path in sorted((Path(pydicom.__file__).parent / "data" / "test_files").glob("*.dcm")):
        with contextlib.suppress(Exception):  # files without pixels, and broken ones
            ds = dcmread(path)
            if UID(ds.file_meta.TransferSyntaxUID).is_encapsulated:
                yield path.name, ds, ds.pixel_array


def test_streams_of_other_encoders_decode_to_the_same() -> None:
    configure_pydicom()
    looked_at = 0
    for name, ds, before in list(encapsulated()):
        clean_stream(ds)
        assert np.array_equal(ds.pixel_array, before), name
        looked_at += 1
    assert looked_at >= 15
