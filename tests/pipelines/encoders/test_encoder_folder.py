"""Model folders: opening, preparing images, features, and damage that is found."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from pipelines import preprocessing
from pipelines.contract import BadInput
from pipelines.encoders import export, load_encoder, prepare, vit
from pipelines.encoders.folder import ModelCard, new_model_folder, read_card, read_patients
from pipelines.encoders.mi2 import MI2_TINY
from pipelines.encoders.tokens import Tokenizer, train_tokenizer
from pipelines.preprocessing import MI2, RAD_DINO


@pytest.fixture(scope="module")
def rad_dino(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "rad"
    card = ModelCard(name="r", encoder="rad-dino-tiny", kind="untrained")
    with new_model_folder(folder, card, ["P2", "P1", "P2"]) as part:
        tower, head = export.untrained_rad_dino(0)
        export.write_rad_dino(part, tower, vit.RAD_DINO_TINY, head)
    return folder


@pytest.fixture(scope="module")
def mi2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "mi2"
    with new_model_folder(folder, ModelCard(name="m", encoder="mi2-tiny", kind="untrained"), []) as part:
        tokenizer = Tokenizer(train_tokenizer(["no effusion"] * 2, 2048), MI2_TINY.context)
        export.write_mi2(part, export.untrained_mi2(0), tokenizer)
    return folder


def images() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(20, 200, shape, dtype=np.uint8) for shape in ((150, 170), (64, 80), (112, 112))]


def test_features_of_a_rad_dino_folder(rad_dino: Path) -> None:
    encoder = load_encoder(rad_dino)
    pooled, patches = encoder.features(encoder.prepare(images()))
    assert (encoder.name, pooled.shape, patches.shape) == ("rad-dino-tiny", (3, 64), (3, 8, 8, 64))
    assert (encoder.pooled_dim, encoder.patch_dim) == (64, 64)
    assert not encoder.training and not any(p.requires_grad for p in encoder.parameters())
    with pytest.raises(BadInput, match="no text tower"):
        encoder.embed_text(["effusion"])


def test_features_of_an_mi2_folder(mi2: Path) -> None:
    encoder = load_encoder(mi2)
    x = encoder.prepare(images())
    pooled, patches = encoder.features(x)
    assert (x.shape, pooled.shape, patches.shape) == ((3, 3, 128, 128), (3, 128), (3, 4, 4, 128))
    both = torch.cat([encoder.embed_images(x), encoder.embed_text(["effusion", "no effusion"])])
    torch.testing.assert_close(both.norm(dim=1), torch.ones(5))


def test_features_do_not_depend_on_the_batch(rad_dino: Path, mi2: Path) -> None:
    for folder in (rad_dino, mi2):
        encoder = load_encoder(folder)
        whole = encoder.features(encoder.prepare(images()))[0]
        alone = torch.cat([encoder.features(encoder.prepare([i]))[0] for i in images()])
        torch.testing.assert_close(whole, alone, atol=1e-5, rtol=1e-4)


def test_prepare_equals_the_published_processors() -> None:
    """PIL's bicubic on 8 bits, as both published processors use; a grey level of rounding is allowed."""
    # Smooth, because PIL clips to 8 bits between its two passes where noise overshoots.
    image = cv2.GaussianBlur(images()[0], (0, 0), 2.0)
    stretched = np.asarray(Image.fromarray(image).resize((128, 128), Image.Resampling.BICUBIC), np.float32) / 255
    expected = (stretched[None] - np.reshape(preprocessing.IMAGENET_MEAN, (3, 1, 1))) / np.reshape(
        preprocessing.IMAGENET_STD, (3, 1, 1)
    )
    assert np.abs(prepare.prepare([image], MI2.at(128))[0].numpy() - expected).max() < 1.5 / 255 / min(
        preprocessing.IMAGENET_STD
    )

    full = ((image.astype(float) - image.min()) * 255 / (int(image.max()) - image.min())).round().astype(np.uint8)
    resized = np.asarray(Image.fromarray(full).resize((126, 112), Image.Resampling.BICUBIC), np.float32)
    expected = (resized[:, 7 : 7 + 112] / 255 - 0.5307) / 0.2583
    got = prepare.prepare([image], RAD_DINO.at(112))[0].numpy()
    assert got.shape == (3, 112, 112) and np.abs(got - expected).max() < 1.5 / 255 / 0.2583


def test_min_max_undoes_a_change_of_window() -> None:
    image = images()[2]
    darker = ((image.astype(int) - 20) // 2 + 30).astype(np.uint8)
    same = prepare.scale_min_max(image)
    assert same.min() == 0 and same.max() == 255
    assert np.abs(same.astype(int) - prepare.scale_min_max(darker)).max() <= 3
    assert not prepare.scale_min_max(np.full((4, 4), 9, np.uint8)).any()


def test_patients_and_card(rad_dino: Path) -> None:
    assert read_patients(rad_dino) == {"P1", "P2"}
    card = read_card(rad_dino)
    assert len(card.weights_sha256) == 64 and card.kind == "untrained"


def copy_of(folder: Path, to: Path) -> Path:
    to.mkdir()
    for path in folder.iterdir():
        (to / path.name).write_bytes(path.read_bytes())
    return to


def test_one_changed_byte_of_the_weights_is_found(rad_dino: Path, tmp_path: Path) -> None:
    folder = copy_of(rad_dino, tmp_path / "m")
    data = bytearray((folder / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (folder / "model.safetensors").write_bytes(data)
    with pytest.raises(BadInput, match="checksum"):
        load_encoder(folder)


@pytest.mark.parametrize("name", ["dino_head.safetensors", "config.json", "patients.parquet"])
def test_any_other_changed_file_is_found_and_named(rad_dino: Path, tmp_path: Path, name: str) -> None:
    folder = copy_of(rad_dino, tmp_path / "m")
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / name).write_bytes(data)
    with pytest.raises(BadInput, match=f"{name} in m.*checksum"):
        load_encoder(folder)


def test_the_card_for_people_tells_the_lineage(tmp_path: Path) -> None:
    card = ModelCard(
        name="A run",
        encoder="rad-dino",
        kind="run",
        practice=True,
        cohort="c0ffee",
        policies=("p01",),
        seen=("MIMIC-CXR",),
        samples=30,
        studies=20,
        patients=10,
        budget=640,
        start="5a5a",
        spec={"batch": 16, "micro_batch": None},
        metrics={"loss": 1.5},
    )
    with new_model_folder(tmp_path / "m", card, ["P1"]) as part:
        (part / "model.safetensors").write_bytes(b"weights")
    text = (tmp_path / "m" / "README.md").read_text()
    for said in ("# A run", "c0ffee", "p01", "MIMIC-CXR", "30, 20, 10", "640", "5a5a", "`batch`: 16", "`loss`: 1.5"):
        assert said in text
    assert "Practice data" in text and "micro_batch" not in text and "P1" not in text
    assert set(read_card(tmp_path / "m").files) == {"patients.parquet"}


def test_what_is_no_model_folder_is_refused_in_a_sentence(rad_dino: Path, mi2: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"no card\.json"):
        load_encoder(tmp_path)
    folder = copy_of(rad_dino, tmp_path / "a")
    (folder / "config.json").unlink()
    with pytest.raises(BadInput, match=r"config\.json"):
        load_encoder(folder)
    folder = copy_of(rad_dino, tmp_path / "b")
    card = json.loads((folder / "card.json").read_text()) | {"encoder": "resnet"}
    (folder / "card.json").write_text(json.dumps(card))
    with pytest.raises(BadInput, match="unknown encoder 'resnet'"):
        load_encoder(folder)
    folder = copy_of(mi2, tmp_path / "c")
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(BadInput, match="tokenizer"):
        load_encoder(folder)


def test_a_folder_is_never_half_written(tmp_path: Path) -> None:
    card = ModelCard(name="x", encoder="rad-dino-tiny", kind="untrained")
    with pytest.raises(RuntimeError), new_model_folder(tmp_path / "m", card, []):
        raise RuntimeError
    assert not list(tmp_path.iterdir())
