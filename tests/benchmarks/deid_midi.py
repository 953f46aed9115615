"""The ten MIDI-B actions on practice and real exports: ours by the whole stage, other tools on the same files.

`python tests/benchmarks/deid_midi.py [--studies 40] [--seeds 5 17 23 42]`; needs tesseract. Real exports are made of
the radiographs beside the checkout where they are; else the practice hospital alone is judged.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from hashlib import sha256
from pathlib import Path
from typing import Any

from pipelines.contract import Outcome, run_stage
from pipelines.deidentify.vault import crosswalk
from pipelines.keys import load_vault_key
from pipelines.scan.dicom import configure_pydicom
from tests.benchmarks import peers
from tests.benchmarks.record import record
from tests.judge.actions import ACTIONS, REMOVALS, Check, Mapping, header_checks, read
from tests.judge.picture import HAVE_READER, pixel_checks
from tests.judge.stage import Pair, deidentify, make_keys, pairs

SHARED = Path(os.environ.get("INTRAMURAL_SHARED", peers.ROOT.parent / "shared"))
HEADER_ONLY = frozenset({"pixels_hidden", "pixels_retained"})


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--studies", type=int, default=40)
    arguments.add_argument("--seeds", type=int, nargs="*", default=[5, 17, 23, 42])
    given = arguments.parse_args()
    if not HAVE_READER:
        raise SystemExit("tesseract is missing; install tesseract-ocr.")
    configure_pydicom()
    tallies: dict[str, Counter[tuple[str, bool]]] = {}
    with tempfile.TemporaryDirectory() as home:
        for export in exports(Path(home), given.seeds, given.studies):
            judge(export, Path(home), tallies)
    for name, tally in tallies.items():
        print(f"\n{name}\n{table(tally)}")
    write(tallies)


def exports(home: Path, seeds: list[int], studies: int) -> list[Path]:
    """Exports with answer keys beside them."""
    practice = home / "practice"
    spec = {"out": str(practice), "studies": studies, "seed": 3}
    assert run_stage("practice", spec, home / "practice-run") is Outcome.DONE
    found, maker = [practice], SHARED / "make_pacs_export.py"
    for seed in seeds if maker.exists() else ():
        found.append(home / f"real{seed}")
        command = [sys.executable, maker, found[-1], "--studies", str(studies), "--seed", str(seed)]
        subprocess.run(command, check=True, capture_output=True)
    return found


def judge(export: Path, home: Path, tallies: dict[str, Counter[tuple[str, bool]]]) -> None:
    """Add the checks of ours and of every peer on one export."""
    key = json.loads(export.with_name(export.name + ".key.json").read_text())["instances"]
    keys, out = make_keys(home / "keys"), home / f"{export.name}-ours"
    deidentify(export, out, keys)
    found = pairs(export, out, keys)
    written = made_of(found)
    merged = crosswalk(out, load_vault_key(keys / "vault.key"))
    known = Mapping({old: new for new, old in merged.uids.items()}, {}, whole_weeks=True)
    entries = expected(key, export, found)
    kept = Counter(pair.row["reason"] for pair in found if pair.row["state"] == "quarantined")
    print(f"{export.name}: {len(entries)} instances; quarantined: {dict(kept)}", flush=True)
    for path, entry in entries.items():
        tally(tallies, "ours", failures(checks(entry, path, written.get(path), known), export.name))
    for peer in peers.HEADER_PEERS:
        target = home / f"{export.name}-{peer}"
        target.mkdir()
        outputs = {path: target / f"{i}.dcm" for i, path in enumerate(entries)}
        pairs_of_peer = {"clean": [[str(a), str(b)] for a, b in outputs.items()]}
        peers.run(peer, "peer_header.py", pairs_of_peer)
        learnt = Mapping({}, {})
        for path, entry in entries.items():
            output = outputs[path] if outputs[path].exists() else None
            tally(tallies, peer, checks(entry, path, output, learnt, pixels=False))


def made_of(found: list[Pair]) -> dict[Path, Path | None]:
    """What became of each file. Of copies of one file any one is written, by the site's key; it stands for all."""
    contents = {pair.source: sha256(pair.source.read_bytes()).digest() for pair in found}
    made = {contents[pair.source]: pair.output for pair in found if pair.output}
    return {pair.source: pair.output or made.get(contents[pair.source]) for pair in found}


def expected(key: dict[str, Any], export: Path, found: list[Pair]) -> dict[Path, dict[str, Any]]:
    """Instances that have to be written: those in conflict with another file are in quarantine by design."""
    conflict = {pair.source for pair in found if pair.row["reason"] == "conflict"}
    return {export / entry["path"]: entry for entry in key.values() if export / entry["path"] not in conflict}


def checks(
    entry: dict[str, Any], path: Path, output: Path | None, known: Mapping, *, pixels: bool = True
) -> list[Check]:
    source = read(path)
    found = list(header_checks(entry, source, output, known))
    if pixels:
        found += pixel_checks(entry, source, read(output) if output else None)
    return found


def failures(found: list[Check], name: str) -> list[Check]:
    for check in found:
        if not check.passed:
            print(f"  failed in {name}: {check.action} {check.where}")
    return found


def tally(tallies: dict[str, Counter[tuple[str, bool]]], name: str, found: list[Check]) -> None:
    tallies.setdefault(name, Counter()).update((check.action, check.passed) for check in found)


def share(tally: Counter[tuple[str, bool]], actions: Any) -> tuple[int, int]:
    """(passed, total) over some actions."""
    passed = sum(tally[action, True] for action in actions)
    return passed, passed + sum(tally[action, False] for action in actions)


def table(tally: Counter[tuple[str, bool]]) -> str:
    rows = [(action, *share(tally, [action])) for action in ACTIONS]
    rows += [("removals", *share(tally, REMOVALS)), ("all", *share(tally, ACTIONS))]
    return "\n".join(f"  {name:17}{a:>7} of {b:>7}  {100 * a / max(1, b):7.3f} %" for name, a, b in rows)


def write(tallies: dict[str, Counter[tuple[str, bool]]]) -> None:
    header = [action for action in ACTIONS if action not in HEADER_ONLY]
    scores = {name: share(tally, header) for name, tally in tallies.items()}
    best = max((n for n in scores if n != "ours"), key=lambda n: scores[n][0] / scores[n][1])
    removed, everything = share(tallies["ours"], REMOVALS), share(tallies["ours"], ACTIONS)
    rates = {name: 100 * a / b for name, (a, b) in scores.items()}
    record(
        "MIDI-B, ten actions, practice and real exports",
        f"all {100 * everything[0] / everything[1]:.2f} % of {everything[1]}, removals "
        f"{100 * removed[0] / removed[1]:.2f} % of {removed[1]}; eight header actions {rates['ours']:.2f} %",
        f"best peer on the eight header actions: {best} {rates[best]:.2f} %",
        (100 - rates[best]) / max(100 - rates["ours"], 100 / scores["ours"][1]),
    )


if __name__ == "__main__":
    main()
