"""Each family from a checkpoint in its published layout: features equal to the library's own forward pass."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from pipelines.contract import BadInput, Outcome, run_stage
from pipelines.encoders import load_encoder
from pipelines.encoders.encoder import Encoder
from pipelines.encoders.folder import read_card
from pipelines.weights.baselines import BASELINES, LAYOUTS
from pipelines.weights.layouts import READERS
from tests.pipelines.weights.checkpoints import (
    TEXTS,
    Forward,
    biomedclip_folder,
    chexzero_file,
    hf_clip_folder,
    hf_vit_folder,
    open_clip_folder,
    save,
    siglip_folder,
    timm_folder,
    xrv_file,
)

CASES = {
    "timm": timm_folder,
    "timm, convolutions": lambda folder: timm_folder(folder, "resnet18"),
    "timm, pickled": lambda folder: timm_folder(folder, pickled=True),
    "siglip2": siglip_folder,
    "clip": hf_clip_folder,
    "vit": hf_vit_folder,
    "open-clip": open_clip_folder,
    "biomedclip": biomedclip_folder,
    "chexzero": chexzero_file,
    "xrv-densenet121-all": xrv_file,
}

# Where the blocks of an image tower are; a tower cut behind its first ends with the first map.
BLOCKS = {
    "timm": "model.blocks",
    "siglip2": "model.vision_model.encoder.layers",
    "clip": "model.vision_model.encoder.layers",
    "vit": "model.vit.layers",
    "open-clip": "model.visual.transformer.resblocks",
    "biomedclip": "model.visual.trunk.blocks",
    "chexzero": "model.visual.transformer.resblocks",
}


def bring_in(source: Path, name: str, out: Path) -> tuple[Outcome, str]:
    """The stage's outcome and, when it failed, its sentence."""
    outcome = run_stage("import", {"source": str(source), "family": name}, out)
    return outcome, json.loads((out / "outcome.json").read_text())["message"]


def images() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 255, shape, dtype=np.uint8) for shape in ((300, 260), (240, 280))]


def check_dense_blocks(encoder: Encoder, x_BCHW: torch.Tensor, maps: list[torch.Tensor]) -> None:
    """The maps after each dense block, norm and ReLU, as torchvision's own feature extractor gives them."""
    from torchvision.models.feature_extraction import create_feature_extractor

    nodes = [*(f"features.transition{n}.relu" for n in (1, 2, 3)), "relu"]
    with torch.no_grad():
        expected = create_feature_extractor(encoder.tower.model, nodes)(x_BCHW).values()
    assert [m.shape[1] for m in maps] == [56, 28, 14, 7]
    for found, wanted in zip(maps, expected, strict=True):
        torch.testing.assert_close(found, wanted.permute(0, 2, 3, 1))


@pytest.mark.parametrize("case", CASES)
def test_features_are_those_of_the_library(tmp_path: Path, case: str) -> None:
    forward: Forward = CASES[case](tmp_path / "download")
    name = case.split(",")[0]
    assert bring_in(tmp_path / "download", name, tmp_path / "run") == (Outcome.DONE, "Finished.")
    encoder: Encoder = load_encoder(tmp_path / "run" / "model")
    x_BCHW = encoder.prepare(images())
    pooled_BD, patches_BHWD = encoder.features(x_BCHW)
    with torch.no_grad():
        expected = forward(x_BCHW)
    torch.testing.assert_close(pooled_BD, expected[0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(patches_BHWD, expected[1], atol=1e-5, rtol=1e-5)
    assert (encoder.pooled_dim, encoder.patch_dim) == (pooled_BD.shape[1], patches_BHWD.shape[3])
    maps = encoder.maps(x_BCHW)
    torch.testing.assert_close(maps[-1], patches_BHWD)
    if case in BLOCKS:
        del encoder.tower.get_submodule(BLOCKS[case])[1:]
        torch.testing.assert_close(maps[0], encoder.features(x_BCHW)[1])
    elif name.startswith("xrv"):
        check_dense_blocks(encoder, x_BCHW, maps)
    card = read_card(tmp_path / "run" / "model")
    row = BASELINES[name]
    assert (card.baseline, card.seen, card.licence, card.kind) == (name, row.seen, row.licence, "open-weight")


def test_texts_are_embedded_as_the_libraries_do(tmp_path: Path) -> None:
    import open_clip
    import transformers

    for name, make in (("siglip2", siglip_folder), ("clip", hf_clip_folder)):
        make(tmp_path / name)
        assert bring_in(tmp_path / name, name, tmp_path / "run" / name)[0] is Outcome.DONE
        encoder = load_encoder(tmp_path / "run" / name / "model")
        model = transformers.AutoModel.from_pretrained(tmp_path / name).eval()
        tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / name)
        ids = tokenizer(TEXTS, padding="max_length", max_length=16, return_tensors="pt")
        mask = {"attention_mask": ids["attention_mask"]} if name == "clip" else {}
        x_BCHW = encoder.prepare(images())
        with torch.no_grad():
            out = model(input_ids=ids["input_ids"], pixel_values=x_BCHW, **mask)
        torch.testing.assert_close(encoder.embed_text(TEXTS), out.text_embeds, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(encoder.embed_images(x_BCHW), out.image_embeds, atol=1e-5, rtol=1e-5)

    open_clip_folder(tmp_path / "open")
    assert bring_in(tmp_path / "open", "open-clip", tmp_path / "run" / "open")[0] is Outcome.DONE
    model, _, how = open_clip.create_model_and_transforms(f"local-dir:{tmp_path / 'open'}")
    with torch.no_grad():
        expected = model.eval().encode_text(open_clip.tokenize(TEXTS), normalize=True)
    encoder = load_encoder(tmp_path / "run" / "open" / "model")
    torch.testing.assert_close(encoder.embed_text(TEXTS), expected, atol=1e-5, rtol=1e-5)
    assert (encoder.how.mean, encoder.how.std) == tuple(
        tuple(values) for values in (how.transforms[-1].mean, how.transforms[-1].std)
    )


def test_the_text_tower_of_biomedclip_needs_no_network_and_no_config_of_its_own(tmp_path: Path) -> None:
    biomedclip_folder(tmp_path / "d")
    assert bring_in(tmp_path / "d", "biomedclip", tmp_path / "run")[0] is Outcome.DONE
    encoder = load_encoder(tmp_path / "run" / "model")
    vectors = encoder.embed_text(TEXTS)
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(2))
    assert not torch.allclose(vectors[0], vectors[1])
    ids = encoder.tower.tokenizer(TEXTS)
    assert ids.shape == (2, 24) and ids[0, :4].tolist() == [2, 5, 6, 3]


def test_preparation_is_that_of_the_published_processors(tmp_path: Path) -> None:
    """PIL's resizing on 8 bits by the libraries' own transforms; two grey levels of rounding are allowed."""
    import cv2
    import timm
    import torchxrayvision as xrv
    from PIL import Image
    from transformers import AutoImageProcessor

    grey = cv2.GaussianBlur(images()[0], (0, 0), 3.0)
    colour = Image.fromarray(grey).convert("RGB")
    timm_folder(tmp_path / "timm")
    siglip_folder(tmp_path / "siglip2")
    hf_clip_folder(tmp_path / "clip")
    xrv_file(tmp_path / "xrv-densenet121-all")
    config = timm.data.resolve_data_config({}, model=timm.create_model(f"local-dir:{tmp_path / 'timm'}"))
    square = xrv.datasets.XRayResizer(224, engine="cv2")(
        xrv.datasets.XRayCenterCrop()(xrv.datasets.normalize(grey, 255)[None])
    )
    expected = {
        "timm": timm.data.create_transform(**config, is_training=False)(colour),
        **{
            name: AutoImageProcessor.from_pretrained(tmp_path / name, use_fast=False)(colour, return_tensors="pt")[
                "pixel_values"
            ][0]
            for name in ("siglip2", "clip")
        },
        "xrv-densenet121-all": torch.from_numpy(square),
    }
    for name, wanted in expected.items():
        assert bring_in(tmp_path / name, name, tmp_path / "run" / name)[0] is Outcome.DONE
        encoder = load_encoder(tmp_path / "run" / name / "model")
        got = encoder.prepare([grey])[0]
        assert got.shape == wanted.shape, name
        levels = (got - wanted).abs() * torch.tensor(encoder.how.std)[: len(got)].view(-1, 1, 1) * 255
        assert levels.max() < 2, (name, levels.max())


def test_wrong_keys_are_named_for_every_library(tmp_path: Path) -> None:
    for name, make, weights in (
        ("timm", timm_folder, "model.safetensors"),
        ("siglip2", siglip_folder, "model.safetensors"),
        ("open-clip", open_clip_folder, "open_clip_model.safetensors"),
    ):
        source = tmp_path / name
        make(source)
        state = load_file(source / weights)
        gone, bent = sorted(k for k in state if (state[k].ndim == 2 and "blocks" in k) or "layers" in k)[:2]
        del state[gone]
        state[bent] = state[bent][:-1].clone()
        save_file(state | {"surplus.key": torch.zeros(1)}, source / weights, metadata={"format": "pt"})
        outcome, message = bring_in(source, name, tmp_path / "run" / name)
        assert outcome is Outcome.BAD_INPUT
        for words in (f"1 missing ({gone})", "1 surplus (surplus.key)", f"1 misshapen ({bent}"):
            assert words in message, (name, message)
        assert not (tmp_path / "run" / name / "model").exists()


class Attack:
    def __reduce__(self) -> tuple[object, ...]:
        return (print, ("opened",))


def test_a_pickle_that_would_run_code_is_not_opened(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "d").mkdir()
    torch.save({"visual.conv1.weight": Attack()}, tmp_path / "d" / "a.pt")
    outcome, message = bring_in(tmp_path / "d", "chexzero", tmp_path / "run")
    assert outcome is Outcome.BAD_INPUT and "not opened because that runs code" in message
    (tmp_path / "d" / "a.pt").write_bytes(pickle.dumps(Attack()))
    outcome, message = bring_in(tmp_path / "d", "xrv-densenet121-all", tmp_path / "run2")
    assert outcome is Outcome.BAD_INPUT and "a.pt" in message
    xrv_file(tmp_path / "whole", whole=True)
    outcome, message = bring_in(tmp_path / "whole", "xrv-densenet121-all", tmp_path / "run3")
    assert outcome is Outcome.BAD_INPUT and "save the model's state_dict()" in message
    assert "opened" not in capsys.readouterr().out.replace("not opened", "")


def test_what_is_missing_or_foreign_is_said(tmp_path: Path) -> None:
    timm_folder(tmp_path / "t")
    outcome, message = bring_in(tmp_path / "t", "siglip2", tmp_path / "1")
    assert outcome is Outcome.BAD_INPUT and "preprocessor_config.json is not beside" in message
    (tmp_path / "t" / "config.json").unlink()
    outcome, message = bring_in(tmp_path / "t", "timm", tmp_path / "2")
    assert outcome is Outcome.BAD_INPUT and "config.json is not beside model.safetensors" in message
    save(tmp_path / "x", "x.pt", {"a": torch.zeros(1)})
    outcome, message = bring_in(tmp_path / "x", "chexzero", tmp_path / "3")
    assert outcome is Outcome.BAD_INPUT and "does not hold OpenAI's CLIP" in message
    outcome, message = bring_in(tmp_path / "x", "no-such-name", tmp_path / "4")
    assert outcome is Outcome.BAD_INPUT and "biomedclip" in message


def test_every_row_can_be_read_and_says_what_it_must() -> None:
    own = {"rad-dino", "mi2", "dinov2", "dinov3"}
    for row in BASELINES.values():
        assert row.layout in LAYOUTS and (row.layout in READERS or row.layout in own)
        assert row.title and row.licence and all(row.features)
        assert row.preprocessing or row.layout in ("timm", "transformers", "open_clip")
    tested = {case.split(",")[0] for case in CASES}
    layouts = {BASELINES[name].layout for name in tested} | own
    assert {row.layout for row in BASELINES.values() if row.verified} == layouts


def test_the_table_is_light() -> None:
    import subprocess
    import sys

    code = "import pipelines.weights.spec, sys; print([m for m in ('torch', 'timm', 'open_clip') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_a_timm_model_without_maps_is_refused_in_a_sentence():
    from timm import create_model

    from pipelines.encoders.timm_tower import TimmTower

    with pytest.raises(BadInput, match="timm's Hiera gives no maps after its norm"):
        TimmTower(create_model("hiera_tiny_224", num_classes=0))(torch.zeros(1, 3, 224, 224))
