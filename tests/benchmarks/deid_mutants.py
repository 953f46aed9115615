"""2,000 damaged DICOM files (mutants.py): each is written or quarantined with a reason; none raises, none hangs.

Ours is the stage's own unit of work, the scan and `clean_part`, in this process: what a file raises there would end
the batch, and it is counted as an escape, as is a file without a row or a reason, one that takes longer than SLOW
seconds, and one whose output cannot be read again. Only the look at the pixels is passed by. No two mutants of one
SOPInstanceUID stand in one export, where they would be quarantined as a conflict before anything is cleaned. Peers run
their own API at its defaults; what they raise is counted.
"""

import signal
import tempfile
import traceback
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
from pydicom import dcmread

from pipelines.contract import RunFolder
from pipelines.deidentify import images
from pipelines.deidentify.instance import InstanceCleaner
from pipelines.deidentify.policy import load_policy
from pipelines.deidentify.reasons import REASONS
from pipelines.keys import DerivationSecret
from pipelines.parallel import Pool, Watch
from pipelines.phases import Crew
from pipelines.scan.dicom import configure_pydicom
from pipelines.scan.inventory import Source, scan_export
from tests.benchmarks import peers
from tests.benchmarks.deid_header import NoPixels
from tests.benchmarks.mutants import mutants, sources
from tests.benchmarks.record import record

COUNT, SEED, SLOW = 2_000, 7, 60
SECRET, VAULT_KEY = DerivationSecret("bench", 1, b"b" * 32), b"v" * 32


class Hang(BaseException):
    """No Exception, so that nothing takes it for a verdict on a file."""


class Clock(Watch):
    """Raises Hang in a file that takes too long."""

    def _begin(self, name: str, size: int) -> None:
        super()._begin(name, size)
        signal.alarm(SLOW)

    def _end(self) -> None:
        signal.alarm(0)
        super()._end()


def spread(home: Path) -> list[Path]:
    """The mutants as files of as few exports as it takes for no SOPInstanceUID to stand in one of them twice."""
    seen: Counter[str] = Counter()
    uids = {path: _uid(path) for path in sources()}
    for path, name, data in mutants(COUNT, SEED):
        export = home / f"export{seen[uids[path]]:03d}"
        seen[uids[path]] += 1
        export.mkdir(exist_ok=True)
        (export / name).write_bytes(data)
    return sorted(home.glob("export*"))


def _uid(path: Path) -> str:
    try:
        return str(dcmread(path, force=True, stop_before_pixels=True).get("SOPInstanceUID") or path)
    except Exception:  # noqa: BLE001 - some sources are no DICOM
        return str(path)


def ours(export: Path, root: Path) -> tuple[Counter[str], list[str]]:
    """How often each state and reason came about in one export, and the escapes."""
    (root / "parts").mkdir(parents=True)
    rows, escapes = [], []
    policy = load_policy("longitudinal-research")
    cleaner = InstanceCleaner(policy, SECRET, NoPixels(), "", frozenset())
    images._cleaner = lambda *_: cleaner
    job = images.Job(export, root, SECRET, VAULT_KEY, policy, "", frozenset())
    try:
        signal.alarm(10 * SLOW)
        crew = Crew(Pool(1, RunFolder(root), isolate=False), root)
        listing = scan_export(Source(export, root, SECRET, VAULT_KEY, ""), crew)
        signal.alarm(0)
        for number in range(listing.parts):
            images.clean_part(images.Part(number, job), Clock())
            rows += pq.read_table(images.part_table(root, number)).to_pylist()
    except (Exception, Hang) as error:  # noqa: BLE001 - this is what the benchmark looks for
        traceback.print_exc()
        escapes.append(f"{type(error).__name__} ended {export.name}")
    escapes += ["a file without a row"] * (len(list(export.iterdir())) - len({row["source_id"] for row in rows}))
    states = Counter(row["state"] if row["state"] == "written" else str(row["reason"]) for row in rows)
    escapes += [f"no reason ({state})" for state in states if state not in REASONS and state != "written"]
    for row in rows:
        if row["state"] == "written":
            try:
                str(dcmread(root / row["output"]))
            except Exception as error:  # noqa: BLE001
                escapes.append(f"an output that raises {type(error).__name__}")
    return states, escapes


def main() -> None:
    configure_pydicom()
    signal.signal(signal.SIGALRM, _hang)
    states, escapes = Counter[str](), []
    with tempfile.TemporaryDirectory() as home:
        exports = spread(Path(home))
        for export in exports:
            found, escaped = ours(export, Path(home) / "runs" / export.name)
            states += found
            escapes += escaped
        print(dict(states), Counter(escapes))
        out = Path(home) / "out"
        out.mkdir()
        given = {"clean": [[str(f), str(out / f.name)] for export in exports for f in sorted(export.iterdir())]}
        outcomes = {peer: peers.run(peer, "peer_header.py", given)["outcomes"] for peer in peers.HEADER_PEERS}
    raised = {peer: sum(outcome != "ok" for outcome in found) for peer, found in outcomes.items()}
    told = ", ".join(f"{peer} raises on {value}" for peer, value in raised.items())
    record(f"{COUNT} mutants of {len(sources())} files, escapes ({states['written']} written, the rest quarantined)",
           str(len(escapes)), told, (COUNT - len(escapes)) / (COUNT - min(raised.values())))  # fmt: skip


def _hang(*_: object) -> None:
    raise Hang


if __name__ == "__main__":
    main()
