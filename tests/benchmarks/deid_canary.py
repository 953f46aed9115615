"""A canary with an identity in every corner (canaries.py): how many are left, here and in the other tools' outputs.

Ours is the whole stage, under three policies, the last of which keeps all that can be cleaned; every file of the run
folder is searched, tables and vault too, and the canary must be written, not quarantined. Peers run their own API at
its defaults on the same file, and only the file they write is searched. The search (tests/judge) shares nothing with
the engine.
"""

import json
import os
import tempfile
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
from pydicom import dcmread

from tests.benchmarks import peers
from tests.benchmarks.canaries import Canary, Plant
from tests.benchmarks.record import record
from tests.judge.own import own_values
from tests.judge.search import planted_in, residues, shifts
from tests.judge.stage import deidentify, make_keys, pairs

CLEANED = """
name = "all-that-can-be-cleaned"
edition = "2024e"
[options]
patient_characteristics = true
dates = "shift"
descriptors = "clean"
graphics = "clean"
structured_content = "clean"
[private]
standard = true
"""


def readable(path: Path) -> bytes:
    """The bytes of a file; of a table, also its values, which the file compresses."""
    data = path.read_bytes()
    if path.suffix == ".parquet":
        data += b"\n" + json.dumps(pq.read_table(path).to_pylist(), default=str, ensure_ascii=False).encode()
    return data


def ours(home: Path, export: Path, plants: list[Plant]) -> list[Plant]:
    """The plants that are left under any policy; SystemExit where the canary is not written."""
    policy = home / "cleaned.toml"
    policy.write_text(CLEANED)
    keys, left = make_keys(home / "keys"), []
    for name in ("basic", "longitudinal-research", str(policy)):
        out = home / Path(name).stem
        deidentify(export, out, keys, policy=name)
        (pair,) = pairs(export, out, keys)
        if pair.output is None:
            raise SystemExit(f"under {name} the canary is quarantined: {pair.row['reason']}, {pair.row['detail']}")
        source = dcmread(pair.source)
        moved = shifts(source, dcmread(pair.output)) - {None}
        found = residues(own_values(source), pair.output, next(iter(moved), None))
        print(f"{name}: {dict(Counter((r.kind, r.where) for r in found))} beside the plants")
        left += [Plant("found by the judge", r.value) for r in found]
        files = [p for p in out.rglob("*") if p.is_file()]
        names = "\n".join(p.relative_to(out).as_posix() for p in files).encode()
        texts = planted_in(b"\n".join([names, *map(readable, files)]), [p.text for p in plants])
        left += [p for p in plants if p.text in texts]
    return list(dict.fromkeys(left))


def theirs(home: Path, file: Path, plants: list[Plant]) -> dict[str, list[Plant] | str]:
    """By peer, the plants that are left in its output, or what it raised."""
    found: dict[str, list[Plant] | str] = {}
    for peer in peers.HEADER_PEERS:
        out = home / f"{peer}.dcm"
        (outcome,) = peers.run(peer, "peer_header.py", {"clean": [[str(file), str(out)]]})["outcomes"]
        texts = planted_in(out.read_bytes(), [p.text for p in plants]) if outcome == "ok" else set()
        found[peer] = [p for p in plants if p.text in texts] if outcome == "ok" else f"raises {outcome}"
    return found


def main() -> None:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    canary = Canary()
    data, plants = canary.bytes(), canary.plants
    unseen = {p.text for p in plants} - planted_in(data, [p.text for p in plants])
    if unseen or len({p.text for p in plants}) < len(plants):
        raise SystemExit(f"{len(unseen)} plants cannot be found in the source; nothing to measure.")
    with tempfile.TemporaryDirectory() as home:
        file = Path(home) / "export" / "IM0001.dcm"
        file.parent.mkdir()
        file.write_bytes(data)
        left, peers_left = ours(Path(home), file.parent, plants), theirs(Path(home), file, plants)
    for name, found in {"here": left, **peers_left}.items():
        print(name, dict(Counter(p.kind for p in found)) if isinstance(found, list) else found)
    told = ", ".join(f"{peer} {len(v) if isinstance(v, list) else v}" for peer, v in peers_left.items())
    fewest = min((len(v) for v in peers_left.values() if isinstance(v, list)), default=len(plants))
    record(f"canary, planted values left of {len(plants)} (ratio: share removed, ours over the best peer's)",
           str(len(left)), told, (len(plants) - len(left)) / (len(plants) - fewest))  # fmt: skip


if __name__ == "__main__":
    main()
