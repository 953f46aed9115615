"""Pixel data left where they are: a window on the source file instead of bytes in memory.

`read_object` puts a `PixelStream` into the dataset as the value of (7FE0,0010). pydicom takes it as it takes any
buffered value: `get_decoder(syntax).iter_array(ds)` reads one frame at a time, and writers copy it block by block. Who
changes the pixels sets `ds.PixelData` to bytes, or to another stream that can be read, sought and measured by `len`.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any, BinaryIO

from pipelines.deidentify.reasons import Quarantine

BLOCK = 1 << 20
_ITEM, _DELIMITER = 0xFFFEE000, 0xFFFEE0DD
UNDEFINED = 0xFFFFFFFF


class PixelStream(io.BufferedIOBase):
    """`length` bytes of `file` from `offset` on, read only. It is valid as long as `file` is open.

    The value of the element as stored, without the delimiter that ends encapsulated pixel data.
    """

    def __init__(self, file: BinaryIO, offset: int, length: int) -> None:
        super().__init__()
        self._file, self._offset, self._length, self._at = file, offset, length, 0

    def __len__(self) -> int:
        return self._length

    def __bool__(self) -> bool:
        return self._length > 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._length}[whence]
        self._at = max(0, base + offset)
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        left = max(0, self._length - self._at)
        size = left if size is None or size < 0 else min(size, left)
        self._file.seek(self._offset + self._at)
        data = self._file.read(size)
        self._at += len(data)
        return data

    def read1(self, size: int = -1) -> bytes:
        return self.read(size)


def blocks(value: bytes | Any, size: int = BLOCK) -> Iterator[bytes]:
    """The bytes of a pixel element's value, in blocks: of `bytes`, or of a stream from its beginning."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        for start in range(0, len(value), size):
            yield bytes(value[start : start + size])
        return
    value.seek(0)
    while block := value.read(size):
        yield block
    value.seek(0)


def encapsulated_length(file: BinaryIO, little: bool = True) -> int:
    """Bytes from the position of `file` to the delimiter of undefined-length pixel data (PS3.5 A.4).

    Leaves `file` behind the delimiter. Raises Quarantine when the items do not follow each other to a delimiter.
    """
    order = "little" if little else "big"
    start = file.tell()
    while len(header := file.read(8)) == 8:
        group, element = int.from_bytes(header[:2], order), int.from_bytes(header[2:4], order)  # type: ignore[arg-type]
        tag, length = group << 16 | element, int.from_bytes(header[4:], order)  # type: ignore[arg-type]
        if tag == _DELIMITER:
            return file.tell() - 8 - start
        if tag != _ITEM or length == UNDEFINED:
            break
        file.seek(length, io.SEEK_CUR)
    raise Quarantine("unreadable", "encapsulated pixel data without an end")
