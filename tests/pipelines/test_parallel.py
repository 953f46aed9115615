"""The pool: a process that dies costs the item it was at; what works on cannot be told from what never died."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.contract import Retry, RunFolder, Stopped
from pipelines.parallel import CRASH, TIMEOUT, Pool, Progress, Watch, map_unordered

ITEMS = 6


def work(unit: tuple[Path, int, dict[str, str]], watch: Watch) -> tuple[int, list[tuple[str, str | None]]]:
    """Items of unit n are named n.0 to n.5; `bad` says how which of them misbehave."""
    notes, number, bad = unit
    told = []
    for name, fate in watch.over([f"{number}.{i}" for i in range(ITEMS)], str):
        if fate is None:
            with (notes / name).open("a") as f:
                f.write("tried\n")
            misbehave(bad.get(name, ""), len((notes / name).read_text().splitlines()))
        told.append((name, fate))
    return number, sorted(told)


def misbehave(how: str, attempt: int) -> None:
    match how:
        case "segfault":
            os.kill(os.getpid(), signal.SIGSEGV)
        case "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        case "killed once" if attempt == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        case "memory":
            [bytes(1 << 30) for _ in range(4096)]  # never touched: asked for, not used
        case "hang":
            time.sleep(600)
        case "error":
            raise OSError(28, "No space left on device")


def perform(tmp_path: Path, bad: dict[str, str], workers: int = 2, units: int = 4, **more: float) -> dict[int, list]:
    notes = tmp_path / "notes"
    notes.mkdir()
    run = RunFolder(tmp_path / "run")
    progress = Progress(run, units * ITEMS, "items")
    with Pool(workers, run, isolate=True, **more) as pool:
        found = dict(pool.map(work, ((notes, n, bad) for n in range(units)), progress))
    assert progress.done == units * ITEMS
    return found


def fates(found: dict[int, list]) -> dict[str, str]:
    return {name: fate for told in found.values() for name, fate in told if fate}


@pytest.mark.parametrize("workers", [1, 3])
def test_items_that_crash_their_process_are_condemned_and_nothing_else_is(tmp_path: Path, workers: int) -> None:
    bad = {"0.2": "segfault", "0.4": "memory", "2.5": "killed", "3.0": "killed once"}
    found = perform(tmp_path, bad, workers)
    assert fates(found) == dict.fromkeys(["0.2", "0.4", "2.5"], CRASH)
    assert {n: [name for name, _ in told] for n, told in found.items()} == {
        n: [f"{n}.{i}" for i in range(ITEMS)] for n in range(4)
    }
    tried = {p.name: len(p.read_text().splitlines()) for p in (tmp_path / "notes").iterdir()}
    assert (tried["0.2"], tried["2.5"], tried["3.0"], tried["1.3"]) == (2, 3, 2, 1)


def test_an_item_that_never_ends_is_condemned(tmp_path: Path) -> None:
    assert fates(perform(tmp_path, {"1.1": "hang"}, item_seconds=1.0)) == {"1.1": TIMEOUT}


def test_what_a_unit_raises_is_raised(tmp_path: Path) -> None:
    with pytest.raises(OSError) as error:
        perform(tmp_path, {"2.0": "error"})
    assert error.value.errno == 28


def die(_: int) -> None:
    os._exit(3)


def test_processes_that_die_outside_any_item_end_in_retry(tmp_path: Path) -> None:
    with pytest.raises(Retry):
        list(map_unordered(die, [1, 2, 3], 2, RunFolder(tmp_path)))


def test_units_are_drawn_as_they_are_needed(tmp_path: Path) -> None:
    drawn = 0

    def units() -> Iterator[int | None]:
        nonlocal drawn
        for number in range(50):
            drawn += 1
            yield None if number == 7 else number

    with Pool(2, RunFolder(tmp_path), isolate=True) as pool:
        results = pool.map(identity, units())
        first = [next(results) for _ in range(3)]
        assert drawn <= 3 + 2 + 1
        assert sorted([*first, *results]) == [n for n in range(50) if n != 7]


def identity(unit: int, _: Watch) -> int:
    return unit


def slow(unit: int, watch: Watch) -> None:
    for _ in watch.over(range(1000), str):
        time.sleep(0.02)


def test_a_stop_ends_between_items_and_no_process_is_left(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    before = time.monotonic()
    with pytest.raises(Stopped), Pool(2, run, isolate=True) as pool:
        threading.Timer(1.5, run.on_sigterm).start()
        list(pool.map(slow, range(5)))
    assert time.monotonic() - before < 15
    assert not [p for p in Path("/proc").glob("[0-9]*") if parent(p) == os.getpid() and b"spawn_main" in command(p)]


def parent(folder: Path) -> int:
    try:
        return int((folder / "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def command(folder: Path) -> bytes:
    try:
        return (folder / "cmdline").read_bytes()
    except OSError:
        return b""
