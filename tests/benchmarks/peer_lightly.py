"""lightly-train's DINOv2 method on a GPU: images a second, with the views, batch and precision of `gpu_pretrain`.

    python -m tests.benchmarks.peer_lightly [--tiny]

Needs lightly-train 0.18 in the Python that runs it; this project does not depend on it. ViT-B/14 with random weights
(theirs has four register tokens more), two views of 518 px and eight of 196 px, 65,536 prototypes, EMA centre, bf16.
Its views are cut by CPU processes, ours on the GPU; so a step is timed with its data ready, too.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image


def watch_steps(method: type) -> tuple[list[float], list[float]]:
    """When each training step of `method` begins and ends, the GPU waited for; filled while it trains."""
    begins: list[float] = []
    ends: list[float] = []

    def wrap(name: str, times: list[float], before: bool) -> None:
        original = getattr(method, name)

        def timed(self: Any, *arguments: Any, **named: Any) -> Any:
            if before:
                _note(times)
            result = original(self, *arguments, **named)
            if not before:
                _note(times)
            return result

        setattr(method, name, timed)

    wrap("training_step_impl", begins, True)
    wrap("on_train_batch_end", ends, False)
    return begins, ends


def _note(times: list[float]) -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    times.append(time.perf_counter())


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--batch", type=int, default=24)
    parser.add_argument("--steps", type=int, default=16)
    arguments = parser.parse_args()
    import lightly_train
    from lightly_train._methods.dinov2.dinov2 import DINOv2

    tiny = arguments.tiny
    side, local, batch, steps = (56, 28, 2, 4) if tiny else (518, 196, arguments.batch, arguments.steps)
    begins, ends = watch_steps(DINOv2)
    with tempfile.TemporaryDirectory() as folder:
        images = Path(folder) / "images"
        images.mkdir()
        draw = np.random.default_rng(0)
        for number in range(batch * steps):
            grey = Image.fromarray(draw.integers(0, 256, (32, 32), dtype=np.uint8)).resize((side, side))
            grey.convert("RGB").save(images / f"{number}.jpg")
        lightly_train.pretrain(
            out=Path(folder) / "out",
            data=images,
            model="dinov2/vits14-notpretrained" if tiny else "dinov2/vitb14-notpretrained",
            model_args={"drop_path_rate": 0.0, "ffn_layer": "mlp"},
            method="dinov2",
            method_args={"output_dim": 64} if tiny else None,
            epochs=1,
            batch_size=batch,
            num_workers=0 if tiny else max(1, (os.cpu_count() or 2) - 2),
            devices=1,
            accelerator="cpu" if tiny else "gpu",
            precision="32-true" if tiny else "bf16-mixed",
            float32_matmul_precision="highest" if tiny else "auto",
            transform_args={"image_size": (side, side), "local_view": {"num_views": 8, "view_size": (local, local)}},
        )
    half = len(begins) // 2
    whole = [b - a for a, b in zip(begins[half:], begins[half + 1 :], strict=False)]
    ready = [e - b for b, e in zip(begins[half:], ends[half:], strict=True)]
    figures = {
        "batch": batch,
        "steps": len(begins),
        "images_per_second": round(batch / statistics.mean(whole), 2),
        "images_per_second_data_ready": round(batch / statistics.median(ready), 2),
        "gpu_memory_gb": round(torch.cuda.max_memory_allocated() / 1e9, 2) if torch.cuda.is_available() else None,
    }
    print(f"lightly-train: {json.dumps(figures)}", flush=True)
    out = Path(os.environ.get("OUT", "."))
    (out / "lightly.json").write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
