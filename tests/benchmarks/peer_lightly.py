"""lightly-train's DINOv2 method and its loader, in an environment of their own (peers.py) or on a bare GPU machine.

    python -m tests.benchmarks.peer_lightly [--tiny] [--batch 24] [--steps 16]     its steps on a GPU

Needs lightly-train 0.18 in the Python that runs it; this project does not depend on it. On a GPU: ViT-B/14 with random
weights and four register tokens, two views of 518 px and eight of 196 px, 65,536 prototypes, EMA centre, bf16. Views
are cut by CPU processes there, ours on the GPU; so a step is timed with its data ready, too.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

os.environ["LIGHTLY_TRAIN_EVENTS_DISABLED"] = "1"

TINY = {
    "model": "dinov2/vits14-notpretrained", "side": 56, "local": 28, "batch": 2, "steps": 4, "prototypes": 64,
    "accelerator": "cpu", "precision": "32-true", "workers": 0,
}  # fmt: skip
GPU = {
    "model": "dinov2/vitb14-notpretrained", "side": 518, "local": 196, "prototypes": 65536,
    "accelerator": "gpu", "precision": "bf16-mixed", "workers": max(1, (os.cpu_count() or 2) - 2),
}  # fmt: skip


def watch_steps(method: type, clock: Callable[[], float]) -> tuple[list[float], list[float]]:
    """When each training step of `method` begins and ends, the GPU waited for; filled while it trains."""
    begins: list[float] = []
    ends: list[float] = []

    def wrap(name: str, times: list[float], before: bool) -> None:
        original = getattr(method, name)

        def timed(self: Any, *arguments: Any, **named: Any) -> Any:
            if before:
                _note(times, clock)
            result = original(self, *arguments, **named)
            if not before:
                _note(times, clock)
            return result

        setattr(method, name, timed)

    wrap("training_step_impl", begins, True)
    wrap("on_train_batch_end", ends, False)
    return begins, ends


def _note(times: list[float], clock: Callable[[], float]) -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    times.append(clock())


def steps(settings: dict[str, Any]) -> dict[str, Any]:
    """Seconds of a step, data included and data ready: the median of the second half of one epoch's steps.

    Of the processor instead where `processor` is set, which other work on the machine does not count into.
    """
    import lightly_train
    from lightly_train._methods.dinov2.dinov2 import DINOv2

    torch.set_num_threads(settings.get("threads", torch.get_num_threads()))
    begins, ends = watch_steps(DINOv2, time.process_time if settings.get("processor") else time.perf_counter)
    side, local = (settings["side"],) * 2, (settings["local"],) * 2
    with tempfile.TemporaryDirectory() as folder:
        lightly_train.pretrain(
            out=Path(folder) / "out",
            data=settings["images"],
            model=settings["model"],
            model_args={"drop_path_rate": 0.0, "ffn_layer": "mlp"},
            method="dinov2",
            method_args={"output_dim": settings["prototypes"]},
            epochs=1,
            batch_size=settings["batch"],
            num_workers=settings["workers"],
            devices=1,
            accelerator=settings["accelerator"],
            precision=settings["precision"],
            float32_matmul_precision="highest" if settings["precision"] == "32-true" else "auto",
            transform_args={"image_size": side, "local_view": {"num_views": 8, "view_size": local}},
        )
    half = len(begins) // 2
    whole = [b - a for a, b in zip(begins[half:], begins[half + 1 :], strict=False)]
    ready = [e - b for b, e in zip(begins[half:], ends[half:], strict=True)]
    return {
        "batch": settings["batch"],
        "steps": len(begins),
        "step_s": statistics.median(whole),
        "step_data_ready_s": statistics.median(ready),
        "gpu_memory_gb": round(torch.cuda.max_memory_allocated() / 1e9, 2) if torch.cuda.is_available() else None,
    }


def views(settings: dict[str, Any]) -> dict[str, Any]:
    """Images a second of its loader in this one process: a file read, two global and eight local views made."""
    from lightly_train._data.image_dataset import ImageDataset
    from lightly_train._methods.dinov2.dinov2_transform import DINOv2ViTTransform, DINOv2ViTTransformArgs

    torch.set_num_threads(1)
    local = {"num_views": 8, "view_size": (settings["local"],) * 2}
    arguments = DINOv2ViTTransformArgs(image_size=(settings["side"],) * 2, local_view=local, num_channels=3)
    names = sorted(p.name for p in Path(settings["images"]).iterdir())
    data = ImageDataset(Path(settings["images"]), names, DINOv2ViTTransform(arguments), num_channels=3)
    data[0]
    began = time.perf_counter()
    for number in range(len(names)):
        data[number]
    return {"images_per_s": len(names) / (time.perf_counter() - began)}


def write_images(folder: Path, count: int, side: int) -> Path:
    """Smooth random pictures as JPEG files."""
    folder.mkdir()
    draw = np.random.default_rng(0)
    for number in range(count):
        grey = Image.fromarray(draw.integers(0, 256, (32, 32), dtype=np.uint8)).resize((side, side))
        grey.convert("RGB").save(folder / f"{number}.jpg")
    return folder


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--batch", type=int, default=24)
    parser.add_argument("--steps", type=int, default=16)
    arguments = parser.parse_args()
    settings = TINY if arguments.tiny else GPU | {"batch": arguments.batch, "steps": arguments.steps}
    with tempfile.TemporaryDirectory() as folder:
        images = write_images(Path(folder) / "images", settings["batch"] * settings["steps"], settings["side"])
        figures = steps(settings | {"images": str(images)})
    figures["images_per_second"] = round(settings["batch"] / figures["step_s"], 2)
    figures["images_per_second_data_ready"] = round(settings["batch"] / figures["step_data_ready_s"], 2)
    print(f"lightly-train: {json.dumps(figures)}", flush=True)
    (Path(os.environ.get("OUT", ".")) / "lightly.json").write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    if sys.argv[1:2] == ["lightly-train"]:  # as peers.run calls it
        given = json.loads(Path(sys.argv[2]).read_text())
        Path(sys.argv[3]).write_text(json.dumps({"steps": steps, "views": views}[given["what"]](given)))
    else:
        main()
