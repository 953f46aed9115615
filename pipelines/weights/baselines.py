"""The table of encoders whose published weights can be brought in: `intramural weights import PATH --as NAME`.

Adding a baseline is one entry of BASELINES. Light: the server reads it for its list of choices. Facts are those of the
publishers' model cards and papers; nothing here is fetched.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from pipelines import preprocessing
from pipelines.contract import BadInput
from pipelines.external.names import BRAX, CHEXPERT, MIMIC, NIH, PADCHEST, RSNA, VINDR
from pipelines.preprocessing import Preprocessing, triple

# Layouts: the files a download consists of, and who reads them.
LAYOUTS = {
    "rad-dino": "transformers folder or dinov2 hub file, with dino_head.safetensors if present",
    "mi2": "release folder: vision_model/*.pt (safetensors), language_model/clip_tokenizer",
    "dinov2": "transformers folder: config.json, model.safetensors",
    "dinov3": "transformers folder: config.json, model.safetensors",
    "transformers": "transformers folder: config.json, preprocessor_config.json, model.safetensors, tokenizer",
    "timm": "timm hub folder: config.json, model.safetensors or pytorch_model.bin",
    "open_clip": "open_clip folder: open_clip_config.json, open_clip_model.safetensors or open_clip_pytorch_model.bin, "
    "tokenizer",
    "openai-clip": "one file: state dict of OpenAI's CLIP",
    "torchxrayvision": "one file: the state dict of the DenseNet-121, saved from torchxrayvision",
}
CLS_AND_PATCHES = ("CLS token after the last norm", "patch tokens after the last norm")
CLIP_FEATURES = ("pooled output of the image tower, before the projection", "patch tokens of the last block")
DENSENET_FEATURES = ("mean of the last map after ReLU", "last map after ReLU")
OWN_CONFIG = None
"""The preprocessing stands in a file of the download."""

RAD_DINO_SETS = (MIMIC, CHEXPERT, NIH, PADCHEST, BRAX)


@dataclass(frozen=True)
class Baseline:
    """One row."""

    name: str
    title: str
    layout: str
    """Key of LAYOUTS."""
    features: tuple[str, str]
    """What the pooled and the patch features are."""
    licence: str
    seen: tuple[str, ...] = ()
    """Public sets the weights are known to have been trained on."""
    preprocessing: Preprocessing | None = OWN_CONFIG
    encoder: str = ""
    """The encoder whose layout and size these weights have, where that is another row."""
    verified: bool = False
    """The layout is held by a test to the forward pass of the library it comes from. Others wait for a site's try."""
    sha256: dict[str, str] = field(default_factory=dict)
    """Published checksums by file name, where they are known."""

    @property
    def starts_as(self) -> str:
        """What the card calls its encoder: a run of that encoder may start from it."""
        return self.encoder or self.name

    @property
    def family(self) -> str:
        """The library or model the weights are read by."""
        return "open_clip" if self.layout == "openai-clip" else self.layout


XRV = Preprocessing(
    224, interpolation="bilinear", mean=triple(0.5), std=triple(0.5 / 1024), channels=1
)  # xrv.datasets.normalize: -1024..1024
CHEXZERO = Preprocessing(224, "pad", mean=triple(101.48761 / 255), std=triple(83.43944 / 255))


def _xrv(name: str, sets: str, *seen: str) -> Baseline:
    return Baseline(
        f"xrv-densenet121-{name}",
        f"torchxrayvision DenseNet-121, {sets}",
        "torchxrayvision",
        DENSENET_FEATURES,
        "Apache-2.0",
        seen,
        XRV,
        verified=True,
    )


BASELINES: dict[str, Baseline] = {
    row.name: row
    for row in (
        Baseline(
            "rad-dino",
            "RAD-DINO open weights",
            "rad-dino",
            CLS_AND_PATCHES,
            "MIT (older revisions: MSRLA, research only)",
            RAD_DINO_SETS,
            preprocessing.RAD_DINO,
            verified=True,
            sha256={
                "backbone_compatible.safetensors": "1eac0464b2a00d368aa3eea1dc029964b10320fbabc59a8a4e768c43a23d26f4",
                "dino_head.safetensors": "5b3599663464ed1054f7777f547db02f518581acc5becdd3eddffc8c507f3778",
            },
        ),
        Baseline(
            "rad-dino-maira-2",
            "RAD-DINO-MAIRA-2 open weights",
            "rad-dino",
            CLS_AND_PATCHES,
            "MSRLA, research only",
            RAD_DINO_SETS,
            preprocessing.RAD_DINO,
            encoder="rad-dino",
            verified=True,
        ),
        Baseline(
            "mi2",
            "MedImageInsight open weights",
            "mi2",
            ("mean of the last DaViT map after the norm, before the projection", "last DaViT map"),
            "MIT by the public copy; ask its publisher",
            (MIMIC, NIH, CHEXPERT, "IRMA 2009", "RSNA Bone Age", "MURA"),
            preprocessing.MI2,
            verified=True,
        ),
        Baseline(
            "dinov2", "DINOv2 open weights", "dinov2", CLS_AND_PATCHES, "Apache-2.0", ("LVD-142M",),
            preprocessing.DINO, verified=True,
        ),
        Baseline(
            "dinov3", "DINOv3 open weights", "dinov3", CLS_AND_PATCHES, "DINOv3 licence", ("LVD-1689M",),
            preprocessing.DINO, verified=True,
        ),
        Baseline("siglip2", "SigLIP 2", "transformers", CLIP_FEATURES, "Apache-2.0", ("WebLI",), verified=True),
        Baseline("siglip", "SigLIP", "transformers", CLIP_FEATURES, "Apache-2.0", ("WebLI",), verified=True),
        Baseline("clip", "CLIP, transformers form", "transformers", CLIP_FEATURES, "as published", verified=True),
        Baseline("vit", "ViT, transformers form", "transformers", CLS_AND_PATCHES, "as published", verified=True),
        Baseline(
            "timm", "timm", "timm", ("pooled output before the classifier", "tokens or map before pooling"),
            "as published", verified=True,
        ),
        Baseline("open-clip", "open_clip", "open_clip", CLIP_FEATURES, "as published", verified=True),
        Baseline("biomedclip", "BiomedCLIP", "open_clip", CLIP_FEATURES, "MIT", ("PMC-15M",), verified=True),
        Baseline("chexzero", "CheXzero", "openai-clip", CLIP_FEATURES, "MIT", (MIMIC,), CHEXZERO, verified=True),
        _xrv("all", "seven sets", NIH, PADCHEST, CHEXPERT, MIMIC, "Open-I", RSNA),
        _xrv("nih", NIH, NIH),
        _xrv("pc", PADCHEST, PADCHEST),
        _xrv("chex", CHEXPERT, CHEXPERT),
        _xrv("mimic", MIMIC, MIMIC),
        _xrv("rsna", RSNA, RSNA),
        # ---- rows that no one here has had the files of ------------------------------------------------------------
        Baseline("medsiglip", "MedSigLIP", "transformers", CLIP_FEATURES, "HAI-DEF terms", ("WebLI", MIMIC)),
        Baseline(
            "xraysiglip", "XraySigLIP", "transformers", CLIP_FEATURES, "as published",
            ("WebLI", MIMIC, CHEXPERT, NIH, PADCHEST, BRAX, VINDR),
        ),
        Baseline("pubmedclip", "PubMedCLIP", "transformers", CLIP_FEATURES, "MIT", ("ROCO",)),
        Baseline("unimedclip", "UniMed-CLIP", "open_clip", CLIP_FEATURES, "as published", (MIMIC, CHEXPERT)),
    )
}  # fmt: skip
NAMES = tuple(BASELINES)


def find_baseline(name: str) -> Baseline:
    """The row of a name; BadInput lists the names there are."""
    if name not in BASELINES:
        raise BadInput(f"There is no baseline '{name}'; choose one of {', '.join(NAMES)}.")
    return BASELINES[name]
