"""Memory against size: cleaning an object of a gigabyte against its file.

Each measurement is a process of its own; its peak is what the kernel says (VmHWM), with libraries and models and what
loading them takes. The limit is the file, which a tool that reads it whole must hold at least once.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from pipelines.keys import DerivationSecret
from tests.benchmarks.record import record
from tests.dicoms import instance

SIDE, FRAMES = 2048, 128
SECRET, VAULT_KEY = DerivationSecret("bench", 1, b"b" * 32), b"v" * 32


def peak() -> int:
    """Most bytes this process has held at once."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024


def measure(script: str, *arguments: object) -> dict[str, int]:
    """A script in a process of its own; what it prints last."""
    command = [sys.executable, script, *map(str, arguments)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout.splitlines()[-1])


# ---- one object ------------------------------------------------------------------------------------------------------


def write_object(path: Path, *, coded: bool, printed: bool) -> None:
    """FRAMES frames of 16 bits, native or RLE; `printed` ones have a name in their last frame."""
    from PIL import Image, ImageDraw, ImageFont
    from pydicom.encaps import encapsulate
    from pydicom.pixels.encoders import RLELosslessEncoder
    from pydicom.uid import ExplicitVRLittleEndian, RLELossless

    ds = instance(1)
    ds.Rows = ds.Columns = SIDE
    ds.BitsAllocated = ds.BitsStored = 16
    ds.HighBit, ds.NumberOfFrames, ds.WindowCenter, ds.WindowWidth = 15, FRAMES, 30000, 60000
    rng = np.random.default_rng(0)
    plain = (rng.normal(20000, 300, (SIDE, SIDE)) + np.linspace(-8000, 8000, SIDE)).astype(np.uint16)
    picture = Image.new("L", (SIDE, SIDE))
    if printed:
        ImageDraw.Draw(picture).text((200, 200), "KVOTHENSDOTTIR ZIMRAANA", 255, ImageFont.load_default(48))
    last = np.where(np.asarray(picture) > 100, np.uint16(60000), plain)
    described = {
        "rows": SIDE, "columns": SIDE, "samples_per_pixel": 1, "number_of_frames": 1, "bits_allocated": 16,
        "bits_stored": 16, "pixel_representation": 0, "photometric_interpretation": "MONOCHROME2",
    }  # fmt: skip

    def stored(frame: np.ndarray) -> bytes:
        return RLELosslessEncoder.encode(frame, encoding_plugin="pylibjpeg", **described) if coded else frame.tobytes()

    frames = [stored(plain)] * (FRAMES - 1) + [stored(last)]
    ds.PixelData = encapsulate(frames) if coded else b"".join(frames)
    ds["PixelData"].VR, ds["PixelData"].is_undefined_length = "OB" if coded else "OW", coded
    ds.file_meta.TransferSyntaxUID = RLELossless if coded else ExplicitVRLittleEndian
    ds.save_as(path, enforce_file_format=True)


def clean_object(path: str) -> None:
    """Clean one object as the stage does."""
    from pipelines.deidentify.instance import InstanceCleaner
    from pipelines.deidentify.pixels import PixelCleaner
    from pipelines.deidentify.policy import load_policy
    from pipelines.scan.dicom import configure_pydicom

    configure_pydicom()
    cleaner = InstanceCleaner(load_policy("longitudinal-research"), SECRET, PixelCleaner(), "", frozenset())
    with Path(path).open("rb") as file, tempfile.TemporaryFile() as out:
        written = cleaner.clean(*cleaner.read(file))
        written.store(out)
    print(json.dumps({"peak": peak(), "boxes": written.boxes}))


def objects() -> None:
    with tempfile.TemporaryDirectory() as home:
        path = Path(home) / "object"
        for coded in (False, True):
            for printed in (False, True):
                write_object(path, coded=coded, printed=printed)
                size = path.stat().st_size
                found = measure(__file__, path)
                if bool(found["boxes"]) != printed:
                    raise SystemExit(f"{found['boxes']} boxes were blanked; nothing to compare.")
                name = f"{'RLE' if coded else 'native'}, {'text in one frame' if printed else 'no text'}"
                record(
                    f"peak memory of the whole process, {FRAMES} frames of {SIDE} x {SIDE} x 16 bits ({name})",
                    f"{found['peak'] / 1e6:.0f} MB",
                    f"size of the file {size / 1e6:.0f} MB",
                    size / found["peak"],
                )


if __name__ == "__main__":
    clean_object(sys.argv[1]) if sys.argv[1:] else objects()
