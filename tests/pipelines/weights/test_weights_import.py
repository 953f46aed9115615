"""Importing published layouts: files made exactly so, at reduced width."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from pipelines.contract import BadInput, Outcome, run_stage
from pipelines.encoders import export, load_encoder, mi2, vit
from pipelines.encoders.folder import ModelCard, read_card, read_patients
from pipelines.encoders.tokens import END, START
from pipelines.weights.run import import_mi2, import_rad_dino

SMALL_VIT = vit.VitDims(image=56, dim=48, depth=2, heads=3, prototypes=32, head_hidden=24, head_bottleneck=8)
SMALL_MI2 = dataclasses.replace(mi2.MI2_TINY, image=64, vocabulary=60)
CARD = {name: ModelCard(name=name, encoder=name, kind="open-weight") for name in ("rad-dino", "mi2")}


def rad_dino_download(folder: Path) -> vit.Vit:
    """The files of microsoft/rad-dino that matter: both layouts of the same backbone, the head, the configs."""
    tower, head = export.untrained_rad_dino(1, SMALL_VIT)
    folder.mkdir()
    export.write_rad_dino(folder, tower, SMALL_VIT, head)
    save_file({k: v.clone() for k, v in tower.state_dict().items()}, folder / "backbone_compatible.safetensors")
    (folder / "README.md").write_text("RAD-DINO")
    return tower


def mi2_release(folder: Path) -> mi2.Mi2:
    """The tree of 2024.09.27: safetensors despite the name, under published keys, and CLIP's tokenizer folder."""
    towers = export.untrained_mi2(1, SMALL_MI2)
    tokenizer = folder / "language_model" / "clip_tokenizer_4.16.2"
    (folder / "vision_model").mkdir(parents=True)
    tokenizer.mkdir(parents=True)
    weights = {k: v.clone().contiguous() for k, v in mi2.to_published(towers.state_dict()).items()}
    save_file(weights, folder / "vision_model" / "medimageinsigt-v1.0.0.pt")
    letters = [*"abcdefgh", *(f"{c}</w>" for c in "abcdefgh"), "ab</w>", START, END]
    (tokenizer / "vocab.json").write_text(json.dumps({t: i for i, t in enumerate(letters)}))
    (tokenizer / "merges.txt").write_text("#version: 0.2\na b</w>\n")
    return towers


@pytest.mark.parametrize("layout", ["transformers folder", "hub file"])
def test_rad_dino_comes_in_from_both_layouts(tmp_path: Path, layout: str) -> None:
    tower = rad_dino_download(tmp_path / "rad-dino")
    source = tmp_path / "rad-dino"
    if layout == "hub file":
        source = source / "backbone_compatible.safetensors"
    assert import_rad_dino(source, tmp_path / "model", CARD["rad-dino"], SMALL_VIT)
    encoder = load_encoder(tmp_path / "model")
    x = encoder.prepare([np.random.default_rng(0).integers(0, 255, (60, 70), dtype=np.uint8)])
    with torch.no_grad():
        torch.testing.assert_close(encoder.features(x)[0], tower.eval()(x)[0])
    assert read_card(tmp_path / "model").kind == "open-weight" and read_patients(tmp_path / "model") == set()
    original = load_file(tmp_path / "rad-dino" / "dino_head.safetensors")
    copied = load_file(tmp_path / "model" / "dino_head.safetensors")
    assert original.keys() == copied.keys() and all(torch.equal(original[k], copied[k]) for k in original)


def test_rad_dino_without_its_head_says_so(tmp_path: Path) -> None:
    rad_dino_download(tmp_path / "rad-dino")
    (tmp_path / "rad-dino" / "dino_head.safetensors").unlink()
    assert not import_rad_dino(tmp_path / "rad-dino", tmp_path / "model", CARD["rad-dino"], SMALL_VIT)


def test_mi2_comes_in_and_its_weights_stay_bit_equal(tmp_path: Path) -> None:
    towers = mi2_release(tmp_path / "2024.09.27")
    import_mi2(tmp_path / "2024.09.27", tmp_path / "model", CARD["mi2"], SMALL_MI2)
    released = load_file(tmp_path / "2024.09.27" / "vision_model" / "medimageinsigt-v1.0.0.pt")
    copied = load_file(tmp_path / "model" / "model.safetensors")
    assert released.keys() == copied.keys() and all(torch.equal(released[k], copied[k]) for k in released)
    encoder = load_encoder(tmp_path / "model")
    ids, mask = encoder.tokenizer(["ab", "abcab h"])
    assert ids.tolist() == [[17, 16, 18, 18, 18, 18, 18], [17, 0, 1, 2, 16, 15, 18]] or ids[0, :3].tolist() == [
        17,
        16,
        18,
    ]
    with torch.no_grad():
        torch.testing.assert_close(encoder.embed_text(["ab", "abcab h"]), towers.eval().embed_text(ids, mask))


def test_mi2_comes_in_from_the_weights_file_alone_with_its_tree_around(tmp_path: Path) -> None:
    mi2_release(tmp_path / "r")
    weights = tmp_path / "r" / "vision_model" / "medimageinsigt-v1.0.0.pt"
    import_mi2(weights, tmp_path / "model", CARD["mi2"], SMALL_MI2)
    assert (tmp_path / "model" / "tokenizer.json").exists()


def test_the_stage_wants_the_full_size(tmp_path: Path) -> None:
    """Through the stage itself a small file is refused: it is not RAD-DINO, whatever its keys say."""
    rad_dino_download(tmp_path / "rad-dino")
    values = {"source": str(tmp_path / "rad-dino"), "family": "rad-dino"}
    assert run_stage("import", values, tmp_path / "run") is Outcome.BAD_INPUT
    message = json.loads((tmp_path / "run" / "outcome.json").read_text())["message"]
    assert "another size" in message and not (tmp_path / "run" / "model").exists()


def test_damaged_and_foreign_files_are_named(tmp_path: Path) -> None:
    source = tmp_path / "rad-dino"
    rad_dino_download(source)
    whole = (source / "model.safetensors").read_bytes()
    (source / "model.safetensors").write_bytes(whole[:-50])
    with pytest.raises(BadInput, match="not a whole safetensors file"):
        import_rad_dino(source, tmp_path / "m", CARD["rad-dino"], SMALL_VIT)

    (source / "model.safetensors").write_bytes(whole)
    state = load_file(source / "model.safetensors")
    state["encoder.layer.0.norm1.weight"][3] = float("inf")
    save_file(state, source / "model.safetensors")
    with pytest.raises(BadInput, match=r"no numbers \(encoder\.layer\.0\.norm1\.weight\)"):
        import_rad_dino(source, tmp_path / "m", CARD["rad-dino"], SMALL_VIT)

    for name in ("model.safetensors", "backbone_compatible.safetensors"):
        (source / name).unlink()
    torch.save({"a": torch.zeros(1)}, source / "pytorch_model.bin")
    with pytest.raises(BadInput, match="pickled"):
        import_rad_dino(source, tmp_path / "m", CARD["rad-dino"], SMALL_VIT)
    with pytest.raises(BadInput, match="does not exist"):
        import_rad_dino(tmp_path / "nowhere", tmp_path / "m", CARD["rad-dino"], SMALL_VIT)
    assert not (tmp_path / "m").exists()


def test_a_pickle_called_pt_is_never_opened(tmp_path: Path) -> None:
    mi2_release(tmp_path / "r")
    torch.save({"a": torch.zeros(1)}, tmp_path / "r" / "vision_model" / "medimageinsigt-v1.0.0.pt")
    with pytest.raises(BadInput, match="never opened"):
        import_mi2(tmp_path / "r", tmp_path / "m", CARD["mi2"], SMALL_MI2)


def test_mi2_with_wrong_keys_or_without_tokenizer_is_refused(tmp_path: Path) -> None:
    mi2_release(tmp_path / "r")
    weights = tmp_path / "r" / "vision_model" / "medimageinsigt-v1.0.0.pt"
    state = load_file(weights)
    del state["lang_encoder.ln_final.bias"]
    save_file(state | {"image_encoder.extra": torch.zeros(1)}, weights)
    with pytest.raises(
        BadInput, match=r"1 missing \(lang_encoder\.ln_final\.bias\); 1 surplus \(image_encoder\.extra\)"
    ):
        import_mi2(tmp_path / "r", tmp_path / "m", CARD["mi2"], SMALL_MI2)
    shutil.rmtree(tmp_path / "r" / "language_model")
    with pytest.raises(BadInput, match="tokenizer"):
        import_mi2(tmp_path / "r", tmp_path / "m", CARD["mi2"], SMALL_MI2)
