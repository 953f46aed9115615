"""What an encapsulated pixel stream carries beside the picture: comments, application segments, bytes behind its end.

Encoders, viewers and burners put text there (JPEG COM and EXIF, JPEG 2000 COM, boxes of a JP2 file), and no look at
the picture finds it. It is cut out without decoding, so that every sample stays as it is; a stream without such parts
stays byte for byte. An encoder's own signature is no such part.
"""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Iterator
from typing import BinaryIO

from pydicom import Dataset
from pydicom.encaps import encapsulate, generate_fragments, generate_frames, parse_basic_offsets
from pydicom.uid import UID, JPEG2000TransferSyntaxes, JPEGLSTransferSyntaxes, JPEGTransferSyntaxes, RLELossless

from pipelines.deidentify.identities import Quarantine

_SIGNATURE = re.compile(
    rb"(?:Kakadu-v?[\d.]+|OpenJPH Ver [\d.]+|Lavc[\d.]+|Creator: JasPer Version [\d.]+"
    rb"|Created by (?:GDCM/)?(?:OpenJPEG|Grok|JasPer) +version [\d.]+"
    rb"|CREATOR: gd-jpeg v[\d.]+ \(using IJG JPEG v\d+\), (?:default )?quality(?: = \d+)?)[\n\0.]*"
)
_COM_J2K, _SOT, _SOD, _EOC = 0xFF64, 0xFF90, 0xFF93, 0xFFD9
_SIZ, _EOI, _SOS, _COM = 0xFF51, 0xFFD9, 0xFFDA, 0xFFFE
_SOF = frozenset({*range(0xFFC0, 0xFFD0), 0xFFF7} - {0xFFC4, 0xFFC8, 0xFFCC})
_HTJ2K = frozenset(UID(f"1.2.840.10008.1.2.4.{n}") for n in (201, 202, 203))


def clean_stream(ds: Dataset) -> bool:
    """Cut out of encapsulated pixel data what is no picture, in place; whether there was anything.

    Raises Quarantine("pixels") where a stream cannot be followed from its first marker to its last, or is of another
    size than its object says, before a decoder sees it.
    """
    syntax = UID(ds.file_meta.TransferSyntaxUID)
    if not syntax.is_encapsulated:
        return False
    try:
        sound = _is_sound(ds)
        if sound and all(clean_frame(frame, syntax, ds) is frame for frame in _frames(ds, sound)):
            _stream(ds).seek(0)  # where the next reader of a shared stream expects it
            return False
        ds.PixelData = encapsulate([clean_frame(frame, syntax, ds) for frame in _frames(ds, sound)])
    except (IndexError, ValueError, struct.error):
        raise Quarantine("pixels", "a stream that cannot be followed") from None
    ds["PixelData"].is_undefined_length = True
    for name in ("ExtendedOffsetTable", "ExtendedOffsetTableLengths"):
        if name in ds:
            del ds[name]
    return True


def clean_frame(frame: bytes, syntax: UID, ds: Dataset) -> bytes:
    """One frame without what is no picture; the same object when there is nothing to cut.

    Raises Quarantine for another size, IndexError or ValueError where the stream breaks off.
    """
    size = int(ds.Rows), int(ds.Columns)
    if syntax in JPEG2000TransferSyntaxes or syntax in _HTJ2K:
        clean = _jpeg2000(frame, size)
    elif syntax in JPEGTransferSyntaxes or syntax in JPEGLSTransferSyntaxes:
        clean = _jpeg(frame, size)
    elif syntax == RLELossless:
        clean = frame[: _rle_end(frame, size[0] * size[1])]
    else:
        raise Quarantine("pixels", "a stream that cannot be looked through")
    # Zeros, or one byte of FF, fill a fragment up to an even length; they say nothing.
    return frame if frame.rstrip(b"\0\xff") == clean.rstrip(b"\0\xff") else clean


# ---- fragments -----------------------------------------------------------------------------------------------------


def _is_sound(ds: Dataset) -> bool:
    """Whether the Basic Offset Table is empty or points at the fragments where frames begin, and at nothing else."""
    frames, starts, at = int(ds.get("NumberOfFrames") or 1), [], 0
    for fragment in generate_fragments(_behind_table(ds)):
        starts.append(at)
        at += 8 + len(fragment)
    offsets = parse_basic_offsets(_stream(ds))
    return not offsets or (len(offsets) == frames and offsets == sorted(set(offsets)) and set(offsets) <= {*starts})


def _behind_table(ds: Dataset) -> BinaryIO:
    """The pixel data at the first fragment behind the Basic Offset Table."""
    stream = _stream(ds)
    stream.seek(int.from_bytes(stream.read(8)[4:], "little"), io.SEEK_CUR)
    return stream


def _stream(ds: Dataset) -> BinaryIO:
    """The pixel data, from their beginning."""
    value = ds.PixelData
    stream: BinaryIO = io.BytesIO(value) if isinstance(value, bytes) else value
    stream.seek(0)
    return stream


def _frames(ds: Dataset, sound: bool) -> Iterator[bytes]:
    frames = int(ds.get("NumberOfFrames") or 1)
    if sound:
        yield from generate_frames(_stream(ds), number_of_frames=frames)
        return
    fragments = list(generate_fragments(_behind_table(ds)))
    if frames == 1:
        yield b"".join(fragments)
    elif frames == len(fragments):
        yield from fragments
    else:
        raise Quarantine("pixels", "frames that cannot be told apart")


# ---- codestreams ---------------------------------------------------------------------------------------------------


def _marker(data: bytes, at: int) -> int:
    return data[at] << 8 | data[at + 1]


def _jpeg(data: bytes, size: tuple[int, int]) -> bytes:
    """ITU-T T.81 and T.87: from SOI to EOI, without COM and without APPn that no decoder needs."""
    if _marker(data, 0) != 0xFFD8:
        raise ValueError
    kept, at = [data[:2]], 2
    while True:
        while _marker(data, at) == 0xFFFF:
            at += 1
        marker = _marker(data, at)
        if marker == _EOI:
            kept.append(data[at : at + 2])
            return b"".join(kept)
        if marker < 0xFFC0 and marker != 0xFF01:
            raise ValueError
        end = at + 2 + _marker(data, at + 2)
        if marker == _SOS:
            end = _scan_end(data, end)
        elif marker in _SOF:
            _require_size((_number(data, at + 5, 2), _number(data, at + 7, 2)), size)
        if not _is_beside(marker, data[at + 4 : end]):
            kept.append(data[at:end])
        at = end


def _scan_end(data: bytes, at: int) -> int:
    """Where entropy-coded data end: at the next marker that is neither stuffing nor a restart."""
    while True:
        at = data.index(b"\xff", at)
        following = data[at + 1]
        if following >= 0x80 and following != 0xFF and not 0xD0 <= following <= 0xD7:
            return at
        at += 1 if following == 0xFF else 2


def _require_size(coded: tuple[int, int], size: tuple[int, int]) -> None:
    """Raise Quarantine where a stream has other rows and columns than its object: a decoder would believe it."""
    if coded != size:
        raise Quarantine("pixels", "a stream of another size than the image")


def _number(data: bytes, at: int, width: int = 4) -> int:
    return int.from_bytes(data[at : at + width], "big")


def _is_beside(marker: int, content: bytes) -> bool:
    """Whether a segment is no part of the picture: comments and application data but for what decoders need."""
    if marker == _COM:
        return not _SIGNATURE.fullmatch(content)
    if not 0xFFE0 <= marker <= 0xFFEF:
        return False
    plain_jfif = content.startswith(b"JFIF\0") and len(content) == 14 and content[12:14] == b"\0\0"
    adobe = content.startswith(b"Adobe") and len(content) in (10, 12)
    colour = content.startswith(b"mrfx") and len(content) == 5
    return not (plain_jfif or adobe or colour)


def _jpeg2000(data: bytes, size: tuple[int, int]) -> bytes:
    """ISO/IEC 15444-1 Annex A: the bare codestream from SOC to EOC, without comments in its main header."""
    if data[4:8] == b"jP  ":
        data = _codestream(data)
    if _marker(data, 0) != 0xFF4F:
        raise ValueError
    kept, at = [data[:2]], 2
    while (marker := _marker(data, at)) != _SOT:
        end = at + 2 + _marker(data, at + 2)
        if marker < 0xFF30 or end <= at + 2:
            raise ValueError
        if marker == _SIZ:
            right, bottom, left, top = (_number(data, at + place) for place in (6, 10, 14, 18))
            _require_size((bottom - top, right - left), size)
        # Two bytes before a comment's text say whether it is one.
        if marker != _COM_J2K or _SIGNATURE.fullmatch(data[at + 6 : end]):
            kept.append(data[at:end])
        at = end
    start = at
    while _marker(data, at) == _SOT:
        length = int.from_bytes(data[at + 6 : at + 10], "big")
        _require_no_comment(data, at)
        # Length 0: up to the end of the codestream. No marker above FF8F occurs in packets (A.1).
        at = at + length if length else data.index(b"\xff\xd9", at)
    if _marker(data, at) != _EOC:
        raise ValueError
    return b"".join([*kept, data[start : at + 2]])


def _require_no_comment(data: bytes, at: int) -> None:
    """Raise Quarantine for a comment in the header of a tile-part: cutting it would change lengths elsewhere."""
    at += 12
    while (marker := _marker(data, at)) != _SOD:
        end = at + 2 + _marker(data, at + 2)
        if marker == _COM_J2K and not _SIGNATURE.fullmatch(data[at + 6 : end]):
            raise Quarantine("pixels", "a comment within the stream")
        at = end


def _codestream(data: bytes) -> bytes:
    """The contiguous codestream of a JP2 file (15444-1 Annex I)."""
    at = 0
    while at + 8 <= len(data):
        length, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        start = at + 8
        if length == 1:
            length, start = int.from_bytes(data[at + 8 : at + 16], "big"), at + 16
        end = at + length if length else len(data)
        if kind == b"jp2c":
            return data[start:end]
        if end <= at:
            break
        at = end
    raise ValueError


def _rle_end(data: bytes, samples: int) -> int:
    """Where the last segment of an RLE frame ends (PS3.5 Annex G); raises where bytes lie between segments."""
    segments = int.from_bytes(data[:4], "little")
    offsets = [int.from_bytes(data[i : i + 4], "little") for i in range(4, 64, 4)]
    if not 0 < segments <= 15 or offsets[0] != 64 or any(offsets[segments:]):
        raise ValueError
    at = 0
    for number, start in enumerate(offsets[:segments]):
        if number and (not at <= start <= at + 1 or data[at:start].strip(b"\0")):
            raise ValueError
        at, made = start, 0
        while made < samples:
            control = data[at]
            if control < 128:
                at, made = at + control + 2, made + control + 1
            elif control > 128:
                at, made = at + 2, made + 257 - control
            else:
                at += 1
        if made > samples or at > len(data):
            raise ValueError
    return at
