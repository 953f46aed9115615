"""Phases shared by processes that know nothing of one another but the run folder."""

import multiprocessing
import os
import signal
import time
from collections import Counter
from pathlib import Path

import pytest

from pipelines.claims import FOLDER, Claim, Presence, claim, forget
from pipelines.contract import Retry, RunFolder
from pipelines.parallel import Pool
from pipelines.phases import Crew
from pipelines.watch import Watch

UNITS = 12
SPAWN = multiprocessing.get_context("spawn")


def work(unit: tuple[Path, int], watch: Watch) -> None:
    """Leaves a note of each try; unit 3 stalls for ever in the first process that takes it."""
    root, number = unit
    with (root / "tries").open("a") as notes:
        notes.write(f"{number} {os.getpid()}\n")
    for _ in watch.over(range(3), str):
        time.sleep(0.01)
    if number == 3 and not (root / "stalled").exists():
        (root / "stalled").write_text(str(os.getpid()))
        time.sleep(600)
    marker(unit).touch()


def marker(unit: tuple[Path, int]) -> Path:
    return unit[0] / f"done-{unit[1]}"


def perform(root: Path, said: Path, stall: bool) -> None:
    if not stall:
        (root / "stalled").touch()
    run = RunFolder(said)
    with Pool(2, run, isolate=True) as pool:
        crew = Crew(pool, root)
        crew.once("begin", lambda: (root / "begun").open("x").close(), root / "begun")
        crew.perform("work", work, [(root, n) for n in range(UNITS)], marker, total=3 * UNITS, weight=lambda _: 3)
        assert len(list(root.glob("done-*"))) == UNITS, "a phase was left before it was whole"
    run.log(f"performed {crew.done}")


def tries(root: Path) -> Counter[int]:
    return Counter(int(line.split()[0]) for line in (root / "tries").read_text().splitlines())


def until(what) -> None:
    end = time.monotonic() + 60
    while not what():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_crews_share_the_units_and_each_is_performed_once(tmp_path: Path) -> None:
    crews = [SPAWN.Process(target=perform, args=(tmp_path, tmp_path / f"said{n}", False)) for n in range(2)]
    for crew in crews:
        crew.start()
    for crew in crews:
        crew.join(60)
    assert [crew.exitcode for crew in crews] == [0, 0]
    assert tries(tmp_path) == dict.fromkeys(range(UNITS), 1)
    said = [(tmp_path / f"said{n}" / "events.jsonl").read_text() for n in range(2)]
    assert sum(int(text.rpartition("performed ")[2].split('"')[0]) for text in said) == UNITS
    assert all(f'"done": {3 * UNITS}, "total": {3 * UNITS}' in text for text in said), "others' work was not counted"


def test_a_killed_crew_costs_only_what_it_was_at(tmp_path: Path) -> None:
    first = SPAWN.Process(target=perform, args=(tmp_path, tmp_path / "first", True))
    first.start()
    until(lambda: (tmp_path / "stalled").exists() and (tmp_path / "stalled").read_text())
    with claim(tmp_path / FOLDER / "work", 3) as met:
        assert met is Claim.TAKEN
    second = SPAWN.Process(target=perform, args=(tmp_path, tmp_path / "second", True))
    second.start()
    until(lambda: len(list(tmp_path.glob("done-*"))) == UNITS - 1)
    assert second.exitcode is None, "it did not wait for the unit that another is at"
    os.kill(first.pid, signal.SIGKILL)
    second.join(60)
    assert second.exitcode == 0
    first.join()
    done = tries(tmp_path)
    assert done.pop(3) == 2 and set(done.values()) == {1}


def hold(root: Path, kind: str) -> None:
    presence = Presence.begin(root) if kind == "lead" else Presence.join(root, lambda: None)
    if kind == "lead":
        presence.enter(lambda: None)
    (root / kind).touch()
    time.sleep(600)


def test_helpers_join_who_leads_and_who_leads_waits_for_helpers(tmp_path: Path) -> None:
    with pytest.raises(Retry):
        Presence.join(tmp_path, lambda: None)
    lead = SPAWN.Process(target=hold, args=(tmp_path, "lead"), daemon=True)
    lead.start()
    until((tmp_path / "lead").exists)
    with pytest.raises(Retry, match="Another process"):
        Presence.begin(tmp_path)
    helper = SPAWN.Process(target=hold, args=(tmp_path, "helper"), daemon=True)
    helper.start()
    until((tmp_path / "helper").exists)
    lead.kill()
    lead.join()
    again = Presence.begin(tmp_path)
    assert not again.alone()
    again.enter(lambda: None)
    helper.kill()
    helper.join()
    again.wait_alone(lambda: None)
    again.close()
    with pytest.raises(Retry):
        Presence.join(tmp_path, lambda: None)


def test_a_claim_says_what_the_holder_before_did(tmp_path: Path) -> None:
    path = tmp_path / FOLDER / "work"
    path.parent.mkdir()
    (path.parent / "presence").touch()
    with pytest.raises(OSError, match="full"), claim(path, 5) as met:
        assert met is Claim.OURS
        raise OSError("full")
    for expected in (Claim.OURS, Claim.DONE):
        with claim(path, 5) as met:
            assert met is expected
    with claim(path, 4) as met:
        assert met is Claim.OURS
    forget(tmp_path)
    assert [p.name for p in path.parent.iterdir()] == ["presence"]
