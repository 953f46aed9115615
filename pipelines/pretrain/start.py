"""What a run starts from: a model folder, given or, for a tiny form, the seeded untrained one written beforehand."""

from __future__ import annotations

from pathlib import Path

import torch

from pipelines.cohort import Cohort
from pipelines.contract import BadInput, RunFolder
from pipelines.encoders import export, vit
from pipelines.encoders.encoder import RAD_DINO_KINDS, load_mi2, load_rad_dino
from pipelines.encoders.folder import ModelCard, check_weights, new_model_folder, read_card
from pipelines.encoders.mi2 import MI2_TINY
from pipelines.encoders.tokens import Tokenizer, normalise_text, train_tokenizer
from pipelines.pretrain.dino_task import DinoTask
from pipelines.pretrain.images import Images
from pipelines.pretrain.ranks import Ranks
from pipelines.pretrain.recipe import RECIPES, Dino
from pipelines.pretrain.spec import Spec
from pipelines.pretrain.speed import Speed, worth_compiling
from pipelines.pretrain.task import Task
from pipelines.pretrain.unicl_task import UniclTask

START = "start"
TEXTS_LOOKED_AT = 2000
# RAD-DINO itself began with DINOv2's ViT-B/14.
RAD_DINOS_OWN_START = ("dinov2", "rad-dino")


def prepare_start(spec: Spec, cohort: Cohort, run: RunFolder, ranks: Ranks) -> tuple[Path, ModelCard]:
    """Folder and card of the start model, checked; BadInput when it is missing, damaged or of another encoder."""
    folder = spec.start or run.root / START
    if spec.start is None:
        if not spec.encoder.endswith("-tiny"):
            raise BadInput(f"{spec.encoder} is trained from open weights; import them and give them as 'start'.")
        if ranks.rank == 0 and not (folder / "card.json").exists():
            write_untrained(folder, spec.encoder, spec.seed, cohort)
            run.artifact(START, folder)
        ranks.agree(0)  # nobody reads before rank 0 has written
    card = read_card(folder)
    if card.encoder != spec.encoder and (card.encoder, spec.encoder) != RAD_DINOS_OWN_START:
        raise BadInput(f"The start model is a {card.encoder}, not a {spec.encoder}; choose the one or the other.")
    if spec.start is not None and card.practice and not cohort.practice:
        raise BadInput(
            "The start model was trained on practice data, which never mixes with patients'; choose another."
        )
    check_weights(folder, card)
    return folder, card


def write_untrained(folder: Path, encoder: str, seed: int, cohort: Cohort) -> None:
    """The seeded start of a tiny form as a model folder of kind `untrained`.

    A tiny MI2 needs a tokenizer: trained on all train reports of the cohort, so that runs of every N start alike. Its
    patients therefore count as seen.
    """
    card = ModelCard(
        name=f"{encoder} untrained, seed {seed}",
        encoder=encoder,
        kind="untrained",
        practice=cohort.practice,
        policies=cohort.policies,
        seed=seed,
    )
    if encoder in RAD_DINO_KINDS:
        with new_model_folder(folder, card, ()) as part:
            tower, head = export.untrained_rad_dino(seed)
            export.write_rad_dino(part, tower, vit.RAD_DINO_TINY, head)
        return
    train = cohort.index.take(cohort.rows("train"))
    seen = set(train["accession"].to_pylist())
    texts = [t for a, t in zip(*(cohort.texts[c].to_pylist() for c in ("accession", "text")), strict=True) if a in seen]
    with new_model_folder(folder, card, train["patient"].to_pylist()) as part:
        tokenizer = Tokenizer(train_tokenizer(texts, MI2_TINY.vocabulary), MI2_TINY.context)
        export.write_mi2(part, export.untrained_mi2(seed), tokenizer)


def build_task(
    spec: Spec, folder: Path, cohort: Cohort, steps: int, ranks: Ranks, device: torch.device, run: RunFolder
) -> Task:
    """The objective of the spec's encoder, on the weights of the start folder."""
    settings = RECIPES[spec.encoder].objective
    images = Images(cohort, spec.seed, device)
    compiled = worth_compiling(spec.encoder, device) if spec.compile is None else spec.compile
    speed = Speed(compiled, spec.packed, spec.checkpoint_activations, lambda sentence: run.log(sentence, "warning"))
    share = spec.batch // ranks.world
    micro = share if spec.micro_batch == "auto" else min(spec.micro_batch, share)
    if isinstance(settings, Dino):
        tower, dims, head = load_rad_dino(folder, settings.drop_path)
        if spec.encoder == "rad-dino" and head is None and dims != vit.RAD_DINO:
            raise BadInput("Only DINOv2's ViT-B/14 without registers can become a RAD-DINO; choose it as 'start'.")
        if head is None:
            run.log("The start model has no DINO head; a new one is trained alone first.")
        return DinoTask(spec.encoder, tower, head, dims, images, settings, steps, micro, spec.precision, speed)
    towers, tokenizer = load_mi2(folder, settings.drop_path)
    _log_truncated(tokenizer, cohort, run)
    places = (ranks.rank, ranks.world)
    return UniclTask(
        spec.encoder, towers, tokenizer, images, settings, spec.supervision, places, micro, spec.precision, speed
    )


def _log_truncated(tokenizer: Tokenizer, cohort: Cohort, run: RunFolder) -> None:
    """Say how many reports are longer than the context: what is beyond it teaches nothing."""
    texts = [t for row in cohort.rows("train")[:TEXTS_LOOKED_AT] if (t := cohort.text(int(row)))]
    if texts and (cut := tokenizer.truncated([normalise_text(t) for t in texts])):
        run.log(f"{cut} of {len(texts)} reports looked at are longer than the text tower takes and are cut.")
