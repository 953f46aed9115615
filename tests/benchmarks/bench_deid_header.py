"""Header de-identification with proof, one process, against plain pydicom read and write of the same files."""

import io
import time

import pydicom

from pipelines.deidentify.instance import InstanceCleaner
from pipelines.deidentify.pixels import PixelResult
from pipelines.deidentify.policy import load_policy
from pipelines.keys import DerivationSecret
from pipelines.scan.dicom import configure_pydicom
from tests.benchmarks.record import record
from tests.dicoms import instance

FILES, ROUNDS = 300, 3


class NoPixels:
    """The pixel path is measured by itself; here every image passes as it is."""

    def clean(self, ds: pydicom.Dataset) -> PixelResult:
        return PixelResult((), changed=False, proved=True)


def best(function) -> float:
    """Files a second of processor time, best of ROUNDS."""
    rates = []
    for _ in range(ROUNDS):
        start = time.process_time()
        function()
        rates.append(FILES / (time.process_time() - start))
    return max(rates)


def main() -> None:
    configure_pydicom()
    files = []
    for number in range(FILES):
        buffer = io.BytesIO()
        instance(number + 1, side=512).save_as(buffer, enforce_file_format=True)
        files.append(buffer.getvalue())
    cleaner = InstanceCleaner(
        load_policy("longitudinal-research"), DerivationSecret("bench", 1, b"b" * 32), NoPixels(), "", frozenset()
    )

    def ours() -> None:
        for raw in files:
            ds, source = cleaner.read(raw)
            cleaner.clean(ds, source)

    def copy() -> None:
        for raw in files:
            pydicom.dcmread(io.BytesIO(raw)).save_as(io.BytesIO(), enforce_file_format=True)

    rate, limit = best(ours), best(copy)
    record("header de-identification with proof, instances/s/core (pixels passed by)", f"{rate:.0f}",
           f"pydicom read and write {limit:.0f}", rate / limit)  # fmt: skip


if __name__ == "__main__":
    main()
