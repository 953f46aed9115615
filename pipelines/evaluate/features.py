"""Frozen features, once per model: every task reads these and never the model.

`pooled` is the pooled output of the encoder followed by the mean of its patch tokens, as in the linear evaluation of
DINOv2 (arXiv 2304.07193): a pooled token alone would favour encoders that were trained through it. `patches` are the
patch tokens themselves, in half precision, for tasks that ask where something is. `joint` are unit vectors in
the space of the encoder's text tower.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import math
import os
from pathlib import Path
from typing import Any, BinaryIO, Literal, Protocol

import numpy as np

from pipelines.cohort import Cohort
from pipelines.contract import RunFolder, read_json, write_atomic
from pipelines.evaluate.models import Model
from pipelines.preprocessing import Preprocessing

BATCH = 16  # fixed, so that a resumed extraction sees the same batches
SAVE_EVERY = 32  # batches
Kind = Literal["pooled", "patches", "joint"]
WORDS = {"pooled": "features", "patches": "patch features", "joint": "image vectors"}


class FrozenEncoder(Protocol):
    """What extraction asks of an encoder (pipelines.encoders.Encoder)."""

    how: Preprocessing

    def prepare(self, images: list[np.ndarray]) -> Any:
        """uint8 grey images [H, W] to a batch, each encoder's own published way."""

    def features(self, x: Any) -> tuple[Any, Any]:
        """Pooled [B, D] and patches [B, h, w, E], torch tensors."""

    def embed_images(self, x: Any) -> Any:
        """Unit vectors [B, P], of encoders with a text tower."""


def load(model: Model, device: str) -> FrozenEncoder:
    """The model's encoder; torch comes in here."""
    from pipelines.encoders import load_encoder

    return load_encoder(model.folder, choose_device(device))


def choose_device(asked: str) -> str:
    """`cpu` or `cuda`; `auto` takes a GPU where there is one."""
    import torch

    return ("cuda" if torch.cuda.is_available() else "cpu") if asked == "auto" else asked


def extract(
    model: Model, cohort: Cohort, rows: np.ndarray, device: str, run: RunFolder, store: Path, kind: Kind = "pooled"
) -> np.ndarray:
    """Features of cohort rows: float32 [images, D] or, of patches, float16 [images, h, w, E].

    Memory-mapped from `features/<kind>-<model>-<cohort and rows>.npy` of the store. On a GPU the encoder runs in
    bfloat16.

    Progress lies beside the file, so extraction goes on where it was killed; a finished file is only opened. Two
    evaluations that want the same features take turns: the second finds them made.
    """
    which = hashlib.sha256(cohort.digest.encode() + np.ascontiguousarray(rows, "<i8").tobytes()).hexdigest()
    path = store / "features" / f"{kind}-{model.digest[:16]}-{which[:16]}.npy"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _complete(path, model, cohort, rows, device, run, kind)
    stored: np.ndarray = np.load(path, mmap_mode="r")
    return stored


def _complete(
    path: Path, model: Model, cohort: Cohort, rows: np.ndarray, device: str, run: RunFolder, kind: Kind
) -> None:
    """Make what is missing of a feature file."""
    key = {"weights": model.digest, "cohort": cohort.digest, "images": len(rows), "kind": kind}
    done = _done(path, key)
    if done < len(rows):
        encoder = load(model, device)
        if not done:
            _note(path).unlink(missing_ok=True)
        # Written, not mapped: on a full disk a write fails with a sentence, a mapped page with SIGBUS.
        with path.open("r+b" if done else "w+b") as f:
            for begin in range(_seek(f, done), len(rows), BATCH):
                run.check_stop()
                batch = embed(encoder, [cohort.image(row) for row in rows[begin : begin + BATCH]], kind)
                if begin == 0:
                    _write_header(f, batch.dtype, (len(rows), *batch.shape[1:]))
                f.write(batch.tobytes())
                end = begin + len(batch)
                if end == len(rows) or (begin // BATCH) % SAVE_EVERY == SAVE_EVERY - 1:
                    f.flush()
                    os.fsync(f.fileno())
                    write_atomic(_note(path), json.dumps(key | {"done": end}))
                run.progress(end, len(rows), f"{WORDS[kind]} of {model.name}")


def embed(encoder: FrozenEncoder, images: list[np.ndarray], kind: Kind = "pooled") -> np.ndarray:
    """float32 [B, D + E], pooled output and then mean patch token; float16 [B, h, w, E], the patch tokens; or float32
    [B, P], unit vectors comparable with texts."""
    import torch

    x_BCHW = encoder.prepare(images)
    if kind == "joint":
        vectors: np.ndarray = encoder.embed_images(x_BCHW).float().cpu().numpy()
        return vectors
    with torch.autocast("cuda", torch.bfloat16, enabled=getattr(x_BCHW, "is_cuda", False)):
        pooled_BD, patches_BHWE = encoder.features(x_BCHW)
    if kind == "patches":
        limit = float(np.finfo(np.float16).max)  # one outlying token must not become infinite
        half: np.ndarray = patches_BHWE.float().clamp(-limit, limit).cpu().numpy().astype(np.float16)
        return half
    both = [pooled_BD.float(), patches_BHWE.float().mean((1, 2))]
    return np.concatenate([part.cpu().numpy() for part in both], 1)


def _write_header(f: BinaryIO, dtype: np.dtype, shape: tuple[int, ...]) -> None:
    np.lib.format.write_array_header_1_0(
        f, {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    )


def _seek(f: BinaryIO, done: int) -> int:
    """Go behind the first `done` rows of a begun file; returns `done`."""
    if done:
        np.lib.format.read_magic(f)
        shape, _, dtype = np.lib.format.read_array_header_1_0(f)
        f.seek(f.tell() + done * math.prod(shape[1:]) * dtype.itemsize)
    return done


def _note(path: Path) -> Path:
    return path.with_suffix(".json")


def _done(path: Path, key: dict[str, Any]) -> int:
    """How many rows of the file are whole; 0 when it is missing or of other weights or another cohort."""
    if not path.exists() or not _note(path).exists():
        return 0
    note = read_json(_note(path))
    return int(note["done"]) if key.items() <= note.items() else 0
