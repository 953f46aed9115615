"""DINOv2 with registers and DINOv3 against transformers, an independent implementation, in both directions."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from pipelines.contract import BadInput
from pipelines.encoders import dinov3, export, load_encoder, vit, vit_names
from pipelines.encoders.folder import ModelCard, read_card
from pipelines.weights.run import import_dino

V2 = vit.VitDims(image=56, dim=48, depth=2, heads=3, registers=4)
V3 = dinov3.Dinov3Dims(dim=64, depth=2, heads=2, registers=3)


@pytest.fixture(scope="module")
def transformers():
    return pytest.importorskip("transformers")


def randomise(module: nn.Module) -> nn.Module:
    """Every parameter random, so that no term of the forward pass hides."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(0, 0.2)
    return module.eval()


def download(transformers, kind: str, folder: Path) -> nn.Module:
    """A model of transformers with random weights, saved as its kind is published."""
    if kind == "dinov2":
        config = transformers.Dinov2Config(**vit_names.transformers_config(vit.VitDims(56, 48, 2, 3)))
    elif kind == "dinov2 with registers":
        config = transformers.Dinov2WithRegistersConfig(**vit_names.transformers_config(V2))
    else:
        config = transformers.DINOv3ViTConfig(**dinov3.transformers_config(V3))
    model = randomise(transformers.AutoModel.from_config(config))
    model.save_pretrained(folder)
    return model


@pytest.mark.parametrize("kind", ["dinov2", "dinov2 with registers", "dinov3"])
def test_a_download_comes_in_and_computes_the_same(tmp_path: Path, transformers, kind: str) -> None:
    published = download(transformers, kind, tmp_path / "download")
    card = ModelCard(name=kind, encoder=kind[:6], kind="open-weight")
    import_dino(tmp_path / "download", tmp_path / "model", card)
    encoder = load_encoder(tmp_path / "model")
    again = transformers.AutoModel.from_pretrained(tmp_path / "model").eval()
    front = 1 + getattr(published.config, "num_register_tokens", 0)
    patch = published.config.patch_size
    for rows, columns in ((4, 4), (2, 3)):  # the second has positions of its own
        x = torch.randn(2, 3, rows * patch, columns * patch)
        pooled, patches = encoder.features(x)
        for model in (published, again):
            with torch.no_grad():
                expected = model(x).last_hidden_state
            torch.testing.assert_close(pooled, expected[:, 0], atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(patches.flatten(1, 2), expected[:, front:], atol=1e-5, rtol=1e-5)
        with torch.no_grad():  # transformers' hidden states come before the norm
            _, *blocks = again(x, output_hidden_states=True).hidden_states
            norm = again.norm if kind == "dinov3" else again.layernorm
            for found, tokens in zip(encoder.maps(x), blocks, strict=True):
                torch.testing.assert_close(found.flatten(1, 2), norm(tokens)[:, front:], atol=1e-5, rtol=1e-5)
    assert read_card(tmp_path / "model").encoder == kind[:6]


def test_dinov3_also_comes_in_under_the_spelling_of_its_release(tmp_path: Path, transformers) -> None:
    """Released files say `layer.0`, transformers 5 calls the same `model.layer.0`."""
    download(transformers, "dinov3", tmp_path / "download")
    path = tmp_path / "download" / "model.safetensors"
    state = {key.removeprefix("model."): value for key, value in load_file(path).items()}
    ours = dinov3.from_transformers(state)
    newer = {f"model.{key}" if key.startswith("layer.") else key: value for key, value in state.items()}
    for other in (dinov3.from_transformers(newer), dinov3.from_transformers(dinov3.to_transformers(ours))):
        assert other.keys() == ours.keys() and all(torch.equal(other[k], ours[k]) for k in ours)


@pytest.mark.parametrize("lost", ["k_proj.weight", "v_proj.bias", "norm2.weight", "lambda1"])
def test_what_dinov3_lacks_is_named(tmp_path: Path, transformers, lost: str) -> None:
    download(transformers, "dinov3", tmp_path / "download")
    path = tmp_path / "download" / "model.safetensors"
    state = load_file(path)
    key = next(k for k in state if k.endswith(lost))
    del state[key]
    save_file(state, path)
    with pytest.raises(BadInput, match=r"do not fit DINOv3: 1 missing \(blocks\.0\."):
        import_dino(tmp_path / "download", tmp_path / "m", ModelCard(name="x", encoder="dinov3", kind="open-weight"))
    assert not (tmp_path / "m").exists()


def test_another_architecture_is_refused(tmp_path: Path, transformers) -> None:
    download(transformers, "dinov2", tmp_path / "download")
    with pytest.raises(BadInput, match="not that of a DINOv3"):
        import_dino(tmp_path / "download", tmp_path / "m", ModelCard(name="x", encoder="dinov3", kind="open-weight"))
    (tmp_path / "download" / "config.json").unlink()
    with pytest.raises(BadInput, match=re.escape("config.json is not beside")):
        import_dino(tmp_path / "download", tmp_path / "m", ModelCard(name="x", encoder="dinov2", kind="open-weight"))


@pytest.mark.parametrize("together", [False, True])
def test_some_tokens_are_those_of_the_whole_output(together: bool) -> None:
    """CLS tokens and some patches of a tower with registers, packed and by themselves."""
    tower = randomise(vit.Vit(V2))
    views = [torch.randn(2, 3, 56, 56), torch.randn(3, 3, 28, 28)]
    wanted = [torch.tensor([0, 3, 15, 16, 30]), torch.tensor([11, 5])]
    places = [tower.places(len(v), p, w) for v, p, w in zip(views, (16, 4), wanted, strict=True)]
    with torch.no_grad():
        masks = [None, None]
        alone = [tower.tokens([v], [None], [p])[0] for v, p in zip(views, places, strict=True)]
        found = tower.tokens(views, masks, places) if together else alone
        for tokens, view, at in zip(found, views, wanted, strict=True):
            cls, patches = tower(view)
            expected = torch.cat([cls, patches.flatten(0, 2)[at]])
            torch.testing.assert_close(tokens, expected, atol=1e-5, rtol=1e-5)


def test_some_tokens_of_dropped_paths_are_those_of_the_whole_output() -> None:
    tower = randomise(vit.Vit(V2, drop_path=0.5)).train()
    view, at = torch.randn(4, 3, 56, 56), torch.tensor([0, 17, 40])
    torch.manual_seed(0)
    cls, patches = tower(view)
    torch.manual_seed(0)
    (tokens,) = tower.tokens([view], [None], [tower.places(4, 16, at)])
    torch.testing.assert_close(tokens, torch.cat([cls, patches.flatten(0, 2)[at]]), atol=1e-5, rtol=1e-5)


def test_export_without_registers_is_dinov2s_own(tmp_path: Path) -> None:
    dims = vit.VitDims(56, 48, 2, 3)
    export.write_rad_dino(tmp_path, vit.Vit(dims), dims, None)
    assert not any("register" in key for key in load_file(tmp_path / "model.safetensors"))
