"""Model folders for the tests: cards and patients without weights, and real tiny ones."""

from collections.abc import Iterable
from pathlib import Path

from pipelines.encoders.folder import WEIGHTS, ModelCard, new_model_folder, read_card


def bare_model(folder: Path, name: str, kind: str = "run", patients: Iterable[str] = (), **card) -> Path:
    """A model folder whose weights nobody opens."""
    values = {"encoder": "rad-dino-tiny", "practice": True} | card
    with new_model_folder(folder, ModelCard(name=name, kind=kind, **values), patients) as part:
        (part / WEIGHTS).write_bytes(name.encode() + kind.encode())
    return folder


def tiny_model(folder: Path, name: str, kind: str, seed: int, patients: Iterable[str] = (), **card) -> Path:
    """A tiny RAD-DINO of random weights that `load_encoder` opens."""
    from pipelines.encoders import export, vit

    values = {"encoder": "rad-dino-tiny", "practice": True, "seed": seed} | card
    tower, head = export.untrained_rad_dino(seed)
    with new_model_folder(folder, ModelCard(name=name, kind=kind, **values), patients) as part:
        export.write_rad_dino(part, tower, vit.RAD_DINO_TINY, head)
    return folder


def tiny_mi2(folder: Path, name: str, kind: str, seed: int, texts: Iterable[str], **card) -> Path:
    """A tiny MI2 of random weights, with a tokenizer of the words of `texts`."""
    from pipelines.encoders import export
    from pipelines.encoders.mi2 import MI2_TINY
    from pipelines.encoders.tokens import Tokenizer, train_tokenizer

    values = {"encoder": "mi2-tiny", "practice": True, "seed": seed} | card
    tokenizer = Tokenizer(train_tokenizer(texts, MI2_TINY.vocabulary), MI2_TINY.context)
    with new_model_folder(folder, ModelCard(name=name, kind=kind, **values), ()) as part:
        export.write_mi2(part, export.untrained_mi2(seed), tokenizer)
    return folder


def digest(folder: Path) -> str:
    return read_card(folder).weights_sha256
