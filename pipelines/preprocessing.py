"""The published scaling of an encoder's images, as data: what `prepare` applies and a row of baselines says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, get_args

from pipelines.contract import BadInput

Fit = Literal["crop", "stretch", "pad"]
Interpolation = Literal["bicubic", "bilinear"]
Triple = tuple[float, float, float]
IMAGENET_MEAN: Triple = (0.485, 0.456, 0.406)
IMAGENET_STD: Triple = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Preprocessing:
    """8 bit grey images to an encoder's input. Mean and deviation are of values in 0..1."""

    size: int
    """Side of the square input in pixels."""
    fit: Fit = "crop"
    """`crop`: shorter side to `resize`; `stretch`: both sides; `pad`: made square with black, then to `resize`."""
    resize: int = 0
    """Side before the centre crop to `size`; 0 is `size`, which crops only what `crop` leaves over."""
    interpolation: Interpolation = "bicubic"
    mean: Triple = IMAGENET_MEAN
    std: Triple = IMAGENET_STD
    min_max: bool = False
    """Stretched to 0..255 by the image's own minimum and maximum first."""
    channels: int = 3

    def at(self, size: int) -> Preprocessing:
        """The same for inputs of another side."""
        return replace(self, size=size, resize=0)

    def words(self) -> str:
        """For a table that people read."""
        side = self.resize or self.size
        how = {
            "crop": f"shorter side to {side}, centre crop {self.size}",
            "stretch": f"stretched to {side}" + (f", centre crop {self.size}" if side != self.size else ""),
            "pad": f"padded to a square, then {side}",
        }[self.fit]
        return f"{'min-max, ' if self.min_max else ''}{how}, {self.interpolation}"

    def to_json(self) -> dict[str, Any]:
        """What `from_json` reads."""
        return asdict(self)

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> Preprocessing:
        """BadInput when the values are not those of a preprocessing."""
        try:
            made = Preprocessing(**{**values, "mean": triple(values["mean"]), "std": triple(values["std"])})
            if made.fit not in get_args(Fit) or made.interpolation not in get_args(Interpolation) or made.size < 1:
                raise ValueError
            return made
        except (KeyError, TypeError, ValueError):
            raise BadInput("The preprocessing beside the weights is damaged; import the weights again.") from None


def triple(values: Any) -> Triple:
    """Three numbers, from three or from one that holds for all."""
    numbers = [float(v) for v in (values if isinstance(values, list | tuple) else [values])]
    one, two, three = numbers * 3 if len(numbers) == 1 else numbers
    return one, two, three


# microsoft/rad-dino preprocessor_config.json; MedImageInsight's config.yaml; DINOv2's and DINOv3's evaluation.
RAD_DINO = Preprocessing(518, mean=triple(0.5307), std=triple(0.2583), min_max=True)
MI2 = Preprocessing(480, "stretch")
DINO = Preprocessing(518)
