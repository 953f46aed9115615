"""Damaged DICOM files, seeded: bytes turned, cut and doubled, and elements with another VR, length, place or value."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pydicom
from pydicom import dcmread

LARGEST = 200_000
_VRS = (b"AE AS AT CS DA DS DT FD FL IS LO LT OB OD OF OL OV OW PN SH SL SQ SS ST SV TM UC UI UL UN UR US UT UV ZZ"
        b" \0\0 ??").split(b" ")  # fmt: skip
_ODD_DATES = (b"20191332", b"99999999", b"2019", b"0000-00-", b"march4th", b"2019.3.4", b"-2019030", b"00010101")
_LENGTHS = (0, 1, 3, 0x7FFF, 0xFFFE, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFE, 0x7FFFFFFF, 0x00FFFFFF)
Mutation = Callable[[random.Random, bytearray], None]


def sources() -> list[Path]:
    """Every file that pydicom brings for its own tests, up to a size; some are damaged or no DICOM to begin with."""
    folder = Path(pydicom.__file__).parent / "data"
    files = (p for name in ("test_files", "charset_files") for p in (folder / name).rglob("*"))
    return sorted(p for p in files if p.is_file() and p.suffix not in (".py", ".pyc") and p.stat().st_size <= LARGEST)


def mutants(count: int, seed: int) -> Iterator[tuple[Path, str, bytes]]:
    """(source, name, bytes) of `count` mutants, the sources in turn, each with one or two mutations."""
    rng, files = random.Random(seed), sources()
    for number in range(count):
        path = files[number % len(files)]
        data = bytearray(path.read_bytes())
        chosen = [rng.choice(MUTATIONS) for _ in range(rng.choice((1, 1, 2)))]
        for mutation in chosen:
            if len(data) > 160:
                mutation(rng, data)
        names = "+".join(m.__name__.strip("_") for m in chosen)
        yield path, f"{number:04d}-{path.stem}-{names}", bytes(data)


# ---- bytes ---------------------------------------------------------------------------------------------------------


def _place(rng: random.Random, data: bytearray) -> int:
    """Somewhere, more often in the first kilobytes, where the header is."""
    return rng.randrange(128, min(len(data), 4096)) if rng.random() < 0.8 else rng.randrange(len(data))


def flip(rng: random.Random, data: bytearray) -> None:
    for _ in range(rng.randint(1, 5)):
        data[_place(rng, data)] ^= 1 << rng.randrange(8)


def overwrite(rng: random.Random, data: bytearray) -> None:
    at = _place(rng, data)
    data[at : at + 8] = rng.randbytes(8)


def cut(rng: random.Random, data: bytearray) -> None:
    del data[_place(rng, data) :]


def remove(rng: random.Random, data: bytearray) -> None:
    at = _place(rng, data)
    del data[at : at + rng.randint(1, 64)]


def double(rng: random.Random, data: bytearray) -> None:
    at = _place(rng, data)
    data[at:at] = data[at : at + rng.randint(1, 512)]


def swap(rng: random.Random, data: bytearray) -> None:
    a, b = _place(rng, data), _place(rng, data)
    data[a : a + 16], data[b : b + 16] = data[b : b + 16], data[a : a + 16]


def append(rng: random.Random, data: bytearray) -> None:
    data += rng.randbytes(rng.randint(1, 600))


# ---- elements ------------------------------------------------------------------------------------------------------


def _element(rng: random.Random, data: bytearray) -> tuple[int, int, bool]:
    """(start of its value, length of its value, whether its VR is written) of an element at the top; (0, 0, False)."""
    try:
        ds = dcmread(pydicom.filebase.DicomBytesIO(bytes(data)), force=True, stop_before_pixels=True)
        raw = [e for e in ds.values() if getattr(e, "value_tell", 0) > 136 and e.is_raw and e.value is not None]
    except Exception:  # noqa: BLE001 - an earlier mutation left nothing that can be read
        return 0, 0, False
    chosen = rng.choice(raw) if raw else None
    return (chosen.value_tell, len(chosen.value), not chosen.is_implicit_VR) if chosen else (0, 0, False)


def change_vr(rng: random.Random, data: bytearray) -> None:
    at, _, explicit = _element(rng, data)
    if explicit:
        data[at - 4 : at - 2] = rng.choice(_VRS).ljust(2)[:2]


def change_length(rng: random.Random, data: bytearray) -> None:
    at, _, explicit = _element(rng, data)
    if at and explicit:
        data[at - 2 : at] = struct.pack("<H", rng.choice(_LENGTHS) & 0xFFFF)
    elif at:
        data[at - 4 : at] = struct.pack("<L", rng.choice(_LENGTHS))


def change_tag(rng: random.Random, data: bytearray) -> None:
    at, _, _ = _element(rng, data)
    if at:
        data[at - 8 : at - 4] = rng.choice(
            (b"\x10\0\x10\0", b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0", rng.randbytes(4))
        )


def odd_value(rng: random.Random, data: bytearray) -> None:
    at, length, _ = _element(rng, data)
    odd = rng.choice((*_ODD_DATES, b"\\" * 8, b"\0" * 8, b"\x1b$B\x1b(J\xff", b"nan", b"1e400", b"\xff\xfe\xfd\xfc"))
    data[at : at + length] = odd[:length].ljust(length) if at else b""


def long_value(rng: random.Random, data: bytearray) -> None:
    at, length, explicit = _element(rng, data)
    if at and explicit and length < 0x4000:
        more = rng.choice((b"A", b"\\", b"^", b"=", b"\0", b"1")) * 0x4000
        data[at:at] = more
        data[at - 2 : at] = struct.pack("<H", length + len(more))


def nest(rng: random.Random, data: bytearray) -> None:
    """Many sequences, one within the other, of undefined length, closed or not."""
    at, _, explicit = _element(rng, data)
    start = at - 8
    vr = b"SQ\0\0" if explicit else b""
    level = b"\x08\0\x18\x22" + vr + b"\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
    ends = b"\xfe\xff\x0d\xe0\0\0\0\0\xfe\xff\xdd\xe0\0\0\0\0" * rng.randint(0, 1)
    depth = rng.choice((3, 20, 60, 200, 5000))
    if at:
        data[start:start] = level * depth + ends * depth


# Values more often than structure: most of what is wrong with structure is found before anything is cleaned.
MUTATIONS: tuple[Mutation, ...] = (
    *(odd_value, long_value, change_tag, change_vr, overwrite) * 3,
    flip, overwrite, cut, remove, double, swap, append, change_length,
    nest,
)  # fmt: skip
