"""Full-size pretraining steps on a GPU: what each switch gains. Made for a bare machine with a few minutes to spare.

    python -m tests.benchmarks.gpu_pretrain [--tiny] [--sections a,b] [--out FOLDER]

Everything it needs is made on the spot: an image store, and random weights in the published layout. Prints as it goes
and writes FOLDER/NAME.json. Each section has a time limit and may fail without the others. `--tiny` goes the same ways
at toy size on a CPU. Not part of `make bench`; figures go to docs/benchmarks.md by hand.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import signal
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from tests.benchmarks import gpu_parts, gpu_paths, gpu_steps
from tests.benchmarks.gpu_world import World, make_world

Section = Callable[[World], dict[str, Any]]
SECTIONS: dict[str, tuple[Section, int]] = {
    "machine": (gpu_parts.machine, 20),
    "switches": (gpu_steps.switches, 100),
    "head": (gpu_parts.head, 30),
    "optimiser": (gpu_parts.optimiser, 20),
    "views": (gpu_parts.views, 20),
    "compile": (gpu_steps.compiled, 120),
    "head_compiled": (gpu_parts.head_compiled, 40),
    "best": (gpu_steps.best, 60),
    "profile": (gpu_steps.profile, 40),
    "profile_compiled": (gpu_steps.profile_compiled, 60),
    "stage": (gpu_steps.stage, 70),
    "memory": (gpu_steps.out_of_memory, 30),
    "fit": (gpu_paths.fit, 90),
    "resume": (gpu_paths.resume, 90),
    "lost": (gpu_paths.lost, 150),
    "mi2": (gpu_steps.mi2, 70),
    "mi2_compile": (gpu_steps.mi2_compiled, 100),
}


class TooLong(BaseException):
    """A section ran past its limit; no stage may take it for an error of its own."""


def run_section(name: str, world: World) -> dict[str, Any]:
    """The section's figures, or why there are none."""
    section, limit = SECTIONS[name]

    def stop(signum: int, frame: FrameType | None) -> None:
        raise TooLong(f"over {limit} s")

    signal.signal(signal.SIGALRM, stop)
    signal.alarm(limit)
    began = time.monotonic()
    try:
        figures = section(world)
    except (Exception, TooLong) as error:  # noqa: BLE001 - one failed section must not cost the others
        traceback.print_exc()
        figures = {"failed": f"{type(error).__name__}: {str(error)[:300]}"}
    finally:
        signal.alarm(0)
    figures["section_s"] = round(time.monotonic() - began, 1)
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return figures


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--sections", default=",".join(SECTIONS))
    parser.add_argument("--out", type=Path, default=Path(os.environ.get("OUT", ".")))
    parser.add_argument("--name", default="gpu_pretrain")
    arguments = parser.parse_args()
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        world = make_world(Path(folder), arguments.tiny, arguments.out)
        for name in arguments.sections.split(","):
            found[name] = run_section(name, world)
            print(f"{name}: {json.dumps(found[name])}", flush=True)
            (arguments.out / f"{arguments.name}.json").write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
