"""Every unit leaves the same bytes, whoever performs it, and a note of who did."""

import hashlib
import os
import time
from contextlib import closing

from pipelines.claims import Presence, forget
from pipelines.contract import RunFolder, write_atomic
from pipelines.parallel import Pool
from pipelines.phases import Crew


def pick(unit, watch):
    root, number, pause, together = unit
    with (root / "tries").open("a") as notes:
        notes.write(f"{number} {os.environ['INTRAMURAL_JOB']}\n")
    while len({line.split()[1] for line in (root / "tries").read_text().splitlines()}) < together:
        time.sleep(0.05)
    for _ in watch.over(range(5), str):
        time.sleep(pause / 5)
    write_atomic(picked(unit), hashlib.sha256(str(number).encode()).hexdigest())


def picked(unit):
    root, number, *_ = unit
    return root / f"unit-{number:03d}"


def run(spec, run: RunFolder) -> dict:
    root = spec.share_of or run.root
    with closing(Presence.join(root, run.check_stop) if spec.share_of else Presence.begin(root)) as presence:
        if not spec.share_of:
            if presence.alone():
                forget(root)
            presence.enter(run.check_stop)
        with Pool(1, run, isolate=True) as pool:
            crew = Crew(pool, root)
            crew.perform("picking", pick, [(root, n, spec.pause, spec.together) for n in range(spec.units)], picked)
        if not spec.share_of:
            presence.wait_alone(run.check_stop)
    return {"units": crew.done}
