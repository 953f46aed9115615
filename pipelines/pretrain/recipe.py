"""Training defaults of each encoder, with their sources. What no source gives is ours and says so.

RAD-DINO: dinov2 `ssl_default_config.yaml`; crop scales, learning rate and "no solarisation" as a third-party
repository reports them of the released `vitb14_cxr.yaml`; local crops of 196 px are from memory.
MI2: the training block of the public `2024.09.27/config.yaml`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Optimiser:
    """AdamW, its schedule and its parameter groups."""

    learning_rate: float
    """Peak, at `reference_batch`; scaled by the square root of batch / reference_batch when that is given."""
    reference_batch: int | None
    final_rate: float
    """Where the cosine ends, and where the warm-up starts."""
    warmup: float
    """Share of the steps (below 1) or number of steps."""
    weight_decay: tuple[float, float]
    """From, to; cosine."""
    clip: float
    """Largest global gradient norm."""
    betas: tuple[float, float] = (0.9, 0.999)
    layer_decay: float = 1.0
    """Learning rate of block i is multiplied by layer_decay ** (blocks + 1 - i)."""
    patch_embed_scale: float = 1.0
    """Extra factor on the learning rate of the patch embedding."""

    def peak(self, batch: int) -> float:
        """Peak learning rate at a global batch."""
        return self.learning_rate * (math.sqrt(batch / self.reference_batch) if self.reference_batch else 1.0)


@dataclass(frozen=True)
class Photometry:
    """Grey-value augmentation; each strength is drawn per view."""

    jitter: float = 0.8
    """Probability of brightness, contrast and gamma."""
    brightness: float = 0.4
    contrast: float = 0.4
    gamma: float = 0.2
    blur: tuple[float, ...] = (0.5, 0.1, 0.5)
    """Probability for global view 1, global view 2 and the local views."""
    sigma: tuple[float, float] = (0.1, 2.0)
    """Gaussian blur in pixels of a 224 px view; scaled with the view."""


@dataclass(frozen=True)
class Dino:
    """DINO + iBOT + KoLeo (arXiv 2304.07193)."""

    global_side: int
    local_side: int
    locals: int
    global_scale: tuple[float, float] = (0.5, 1.0)
    local_scale: tuple[float, float] = (0.2, 0.5)
    photometry: Photometry = Photometry()
    dino_weight: float = 1.0
    ibot_weight: float = 1.0
    koleo_weight: float = 0.1
    mask_probability: float = 0.5
    """Share of the global views that are masked."""
    mask_ratio: tuple[float, float] = (0.1, 0.5)
    momentum: float = 0.992
    """Of the EMA teacher at the start; cosine to 1."""
    temperature: tuple[float, float] = (0.04, 0.07)
    """Of the teacher, from, to; linear over `temperature_warmup`, then flat."""
    temperature_warmup: float = 0.3
    student_temperature: float = 0.1
    centring: str = "centre"
    """`centre` (EMA) or `sinkhorn`; the EMA is the better at small batches."""
    centre_momentum: float = 0.9
    drop_path: float = 0.0
    freeze_last_layer: float = 0.01
    """Share of the steps in which the prototypes stand still."""
    head_warmup: float = 0.02
    """Share of the steps in which only a head that did not come with the start model is trained."""


@dataclass(frozen=True)
class Unicl:
    """UniCL over reports and labels (arXiv 2204.03610)."""

    side: int
    scale: tuple[float, float] = (0.8, 1.0)
    photometry: Photometry = Photometry(brightness=0.2, contrast=0.2, blur=(0.1, 0.1, 0.1))
    drop_path: float = 0.0
    largest_scale: float = 100.0
    """Cap of exp(logit_scale), as CLIP's."""


@dataclass(frozen=True)
class Recipe:
    optimiser: Optimiser
    objective: Dino | Unicl


RECIPES: dict[str, Recipe] = {
    "rad-dino": Recipe(
        Optimiser(1e-3, 1024, 1e-6, 0.1, (0.04, 0.4), 3.0, layer_decay=0.9, patch_embed_scale=0.2),
        Dino(global_side=518, local_side=196, locals=8),
    ),
    # Ours: a model this small, trained for hundreds of steps from nothing, needs a quick teacher and a high rate; at
    # 1e-3 and a teacher of 0.98 it was no better than its start. With the EMA centre and a warmer teacher it
    # collapses to uniform assignments within a hundred steps (teacher entropy near log K); Sinkhorn and a teacher at
    # 0.02 do not. Patches weigh less than images, and grey values stay: what they tell is learnt first.
    "rad-dino-tiny": Recipe(
        Optimiser(4e-3, None, 1e-5, 0.1, (0.04, 0.1), 3.0),
        Dino(
            global_side=112,
            local_side=56,
            locals=4,
            photometry=Photometry(jitter=0.0, blur=(0.0, 0.0, 0.0)),
            ibot_weight=0.2,
            momentum=0.9,
            temperature=(0.02, 0.02),
            centring="sinkhorn",
            freeze_last_layer=0.0,
        ),
    ),
    "mi2": Recipe(Optimiser(1e-5, None, 1e-9, 5, (0.2, 0.2), 1.0), Unicl(side=480)),
    # Ours: CLIP's rate for small towers; at 2e-3 the features of a few hundred steps fall into six dimensions.
    "mi2-tiny": Recipe(Optimiser(4e-4, None, 1e-5, 0.1, (0.05, 0.05), 1.0), Unicl(side=128)),
}
