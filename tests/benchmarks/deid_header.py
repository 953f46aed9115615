"""Header de-identification with proof and audit, one process, against the other tools on the same files.

Ours is the stage's own unit of work, `clean_part`: reading, the check against the inventory (these files are as the
scan left them, so that what the file system says of them spares a second hash of their bytes), identities, cleaning,
encoding, proof, the file on disk with its hash, its row of the manifest and its share of the vault. Only the look at
the pixels is passed by; it is measured by itself. Peers run their own API at its defaults: reading, cleaning, writing.
Rates are files a second of processor time, best round.
"""

import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
import pydicom
from pydicom.data import get_testdata_file
from pydicom.uid import ComputedRadiographyImageStorage

from pipelines.contract import RunFolder
from pipelines.deidentify import images
from pipelines.deidentify.instance import InstanceCleaner
from pipelines.deidentify.pixels import PixelResult
from pipelines.deidentify.policy import load_policy
from pipelines.keys import DerivationSecret
from pipelines.parallel import Pool, Watch
from pipelines.phases import Crew
from pipelines.scan.dicom import configure_pydicom
from pipelines.scan.inventory import Source, scan_export
from tests.benchmarks import peers
from tests.benchmarks.record import record

ROUNDS = 3
SERIES = 60
SECRET, VAULT_KEY = DerivationSecret("bench", 1, b"b" * 32), b"v" * 32


class NoPixels:
    """The pixel path is measured by itself; here every image passes as it is."""

    def clean(self, ds: pydicom.Dataset) -> PixelResult:
        return PixelResult((), changed=False, proved=True)


def write_files(folder: Path, *, count: int, rows: int, columns: int, sop_class: str | None) -> list[Path]:
    """`count` files with the header of a real CT (67 elements, private ones among them), in series of SERIES."""
    source = pydicom.dcmread(get_testdata_file("CT_small.dcm"))
    source.remove_private_tags() if sop_class else None
    rng = np.random.default_rng(0)
    source.Rows, source.Columns = rows, columns
    source.PixelData = rng.integers(0, 4096, (rows, columns), np.uint16).tobytes()
    found = []
    folder.mkdir()
    for number in range(count):
        study = number // SERIES
        source.PatientID, source.PatientName = f"MRN{5_120_377 + study}", f"Kvothensdottir{study}^Zimraana"
        source.AccessionNumber, source.ReferringPhysicianName = f"ACC{88_120 + study}", "Obadinsky^Ferenc"
        source.StudyInstanceUID, source.SeriesInstanceUID = f"1.3.6.1.4.1.5962.1.{study}", f"1.3.6.1.4.1.5962.2.{study}"
        source.SOPInstanceUID = source.file_meta.MediaStorageSOPInstanceUID = f"1.3.6.1.4.1.5962.3.{study}.{number}"
        if sop_class:
            source.SOPClassUID = source.file_meta.MediaStorageSOPClassUID = sop_class
        source.InstanceNumber, source.SliceLocation = number + 1, f"{number * 2.5:.1f}"
        source.ImagePositionPatient = ["-158.1", "-179.0", f"{-75.7 - number * 2.5:.1f}"]
        path = folder / f"IM{number:04d}"
        source.save_as(path, enforce_file_format=True)
        found.append(path)
    return found


def ours(export: Path, root: Path, files: int) -> float:
    """Processor seconds of all partitions, best round."""
    (root / "parts").mkdir(parents=True)
    pool = Pool(1, RunFolder(root), isolate=False)
    listing = scan_export(Source(export, root, SECRET, VAULT_KEY, ""), Crew(pool, root))
    policy = load_policy("longitudinal-research")
    cleaner = InstanceCleaner(policy, SECRET, NoPixels(), "", frozenset())
    images._cleaner = lambda *_: cleaner
    job = images.Job(export, root, SECRET, VAULT_KEY, policy, "", frozenset())
    seconds = []
    for _ in range(ROUNDS + 1):
        shutil.rmtree(root / "dicom", ignore_errors=True)  # writing over a file costs more than writing a new one
        start = time.process_time()
        for number in range(listing.parts):
            images.clean_part(images.Part(number, job), Watch())
        seconds.append(time.process_time() - start)
    written = len(list((root / "dicom").rglob("*.dcm")))
    if written != files:
        raise SystemExit(f"{files - written} of {files} files were quarantined; nothing to compare.")
    return min(seconds[1:])


def copied(files: list[Path], out: Path) -> float:
    """Processor seconds of reading and writing by pydicom: no peer, but what any tool built on it pays."""
    seconds = []
    for _ in range(ROUNDS + 1):
        for path in files:
            (out / path.name).unlink(missing_ok=True)
        start = time.process_time()
        for path in files:
            pydicom.dcmread(path).save_as(out / path.name, enforce_file_format=True)
        seconds.append(time.process_time() - start)
    return min(seconds[1:])


def compare(name: str, **shape) -> None:
    with tempfile.TemporaryDirectory() as home:
        export, out = Path(home) / "export", Path(home) / "out"
        files = write_files(export, **shape)
        out.mkdir()
        pairs = [[str(f), str(out / f.name)] for f in files]
        given = {"clean": pairs, "rounds": ROUNDS}
        rates = {}
        for peer in peers.HEADER_PEERS:
            result = peers.run(peer, "peer_header.py", given)
            if set(result["outcomes"]) != {"ok"}:
                raise SystemExit(f"{peer} raised on these files; nothing to compare.")
            rates[peer] = len(files) / result["seconds"]
        limit = len(files) / copied(files, out)
        rate = len(files) / ours(export, Path(home) / "run", len(files))
        size = files[0].stat().st_size / 1e6
        theirs = ", ".join(f"{peer} {value:.0f}" for peer, value in rates.items())
        record(f"header path with proof and audit, instances/s/core, {len(files)} {name} of {size:.1f} MB",
               f"{rate:.0f}", f"{theirs}; pydicom read and write {limit:.0f}", rate / max(rates.values()))  # fmt: skip


def main() -> None:
    configure_pydicom()
    compare("CT", count=300, rows=512, columns=512, sop_class=None)
    compare("CR", count=60, rows=1024, columns=1280, sop_class=ComputedRadiographyImageStorage)


if __name__ == "__main__":
    main()
