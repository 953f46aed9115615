"""The RAD-DINO tower against transformers' Dinov2Model, an independent implementation, and its key names."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file

from pipelines.contract import BadInput
from pipelines.encoders import export, vit, vit_names
from pipelines.encoders.encoder import load_rad_dino
from pipelines.encoders.folder import HUB
from pipelines.encoders.strict import load_strict

DIMS = vit.VitDims(image=56, dim=48, depth=2, heads=3, prototypes=32, head_hidden=24, head_bottleneck=8)


@pytest.fixture(scope="module")
def transformers():
    return pytest.importorskip("transformers")


def random_tower(seed: int = 0) -> vit.Vit:
    """Every parameter random, LayerScale and mask token too, so that no term of the forward pass hides."""
    torch.manual_seed(seed)
    tower = vit.Vit(DIMS).eval()
    with torch.no_grad():
        for parameter in tower.parameters():
            parameter.normal_(0, 0.2)
    return tower


def test_transformers_opens_an_exported_folder_and_computes_the_same(tmp_path: Path, transformers) -> None:
    tower = random_tower()
    export.write_rad_dino(tmp_path, tower, DIMS, None)
    other, info = transformers.AutoModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    masks = torch.rand(2, 16) < 0.3
    # Native size with masks, and a smaller one whose positions are interpolated.
    for side, masked in ((56, masks), (28, None)):
        x = torch.randn(2, 3, side, side)
        with torch.no_grad():
            cls, patches = tower(x, masked)
            expected = other(x, bool_masked_pos=masked).last_hidden_state
        torch.testing.assert_close(cls, expected[:, 0], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(patches.flatten(1, 2), expected[:, 1:], atol=1e-5, rtol=1e-5)


def test_timm_opens_an_exported_folder_and_computes_the_same(tmp_path: Path) -> None:
    """By timm's own reader and key filter, as it reads DINOv2's released file."""
    tower = random_tower()
    export.write_rad_dino(tmp_path, tower, DIMS, None)
    other = timm.create_model(
        "vit_base_patch14_dinov2",
        pretrained=True,
        pretrained_cfg_overlay={"file": str(tmp_path / HUB), "hf_hub_id": None},
        num_classes=0,
        img_size=DIMS.image,
        embed_dim=DIMS.dim,
        depth=DIMS.depth,
        num_heads=DIMS.heads,
    ).eval()
    x = torch.randn(2, 3, 56, 56)
    with torch.no_grad():
        cls, patches = tower(x)
        expected = other.forward_features(x)
    torch.testing.assert_close(cls, expected[:, 0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(patches.flatten(1, 2), expected[:, 1:], atol=1e-5, rtol=1e-5)


def test_a_folder_saved_by_transformers_opens_here(tmp_path: Path, transformers) -> None:
    config = transformers.Dinov2Config(**vit_names.transformers_config(DIMS))
    other = transformers.Dinov2Model(config).eval()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.normal_(0, 0.2)
    other.save_pretrained(tmp_path)
    tower, dims, head = load_rad_dino(tmp_path)
    assert (dims.dim, dims.depth, dims.image, head) == (48, 2, 56, None)
    x = torch.randn(2, 3, 56, 56)
    with torch.no_grad():
        torch.testing.assert_close(tower.eval()(x)[0], other(x).pooler_output, atol=1e-5, rtol=1e-5)
    assert set(load_file(tmp_path / "model.safetensors")) == set(vit_names.to_transformers(tower.state_dict()))


def test_key_maps_round_trip_bit_equal() -> None:
    state = random_tower().state_dict()
    back = vit_names.to_hub(vit_names.to_transformers(state))
    assert set(back) == set(state)
    assert all(torch.equal(back[k], state[k]) for k in state)


def test_full_size_has_the_published_keys_and_sizes() -> None:
    with torch.device("meta"):
        tower, head = vit.Vit(vit.RAD_DINO), vit.DinoHead(vit.RAD_DINO)
    hub = {k: tuple(v.shape) for k, v in tower.state_dict().items()}
    assert (hub["pos_embed"], hub["mask_token"], hub["blocks.11.attn.qkv.weight"]) == (
        (1, 1370, 768),
        (1, 768),
        (2304, 768),
    )
    assert len(hub) == 4 + 1 + 12 * 14 + 2
    # 92.6 MB in float32, the size of the published dino_head.safetensors.
    assert set(head.state_dict()) == {f"mlp.{i}.{p}" for i in (0, 2, 4) for p in ("weight", "bias")} | {
        "last_layer.weight_g",
        "last_layer.weight_v",
    }
    assert round(sum(p.numel() for p in head.parameters()) * 4 / 1e6, 1) == 92.6


def test_the_head_is_the_old_weight_norm() -> None:
    head = vit.DinoHead(DIMS)
    with torch.no_grad():
        head.last_layer.weight_g.uniform_(0.5, 2)
    linear = torch.nn.Linear(8, 32, bias=False)
    reference = torch.nn.utils.weight_norm(linear)
    reference.load_state_dict(head.last_layer.state_dict())
    x = torch.randn(5, 48)
    bottleneck = torch.nn.functional.normalize(head.mlp(x), dim=-1)
    torch.testing.assert_close(head(x), reference(bottleneck), atol=1e-6, rtol=1e-6)


def test_missing_surplus_and_misshapen_keys_are_named() -> None:
    tower = vit.Vit(DIMS)
    state = dict(tower.state_dict())
    state.pop("blocks.0.attn.proj.bias")
    state["head.weight"] = torch.zeros(2)
    state["norm.bias"] = torch.zeros(7)
    with pytest.raises(BadInput) as error:
        load_strict(tower, state, "this tower")
    message = str(error.value)
    assert "1 missing (blocks.0.attn.proj.bias)" in message
    assert "1 surplus (head.weight)" in message
    assert "norm.bias [7] for [48]" in message


def test_a_lost_key_projection_is_not_passed_over() -> None:
    state = vit_names.to_transformers(vit.Vit(DIMS).state_dict())
    state.pop("encoder.layer.1.attention.attention.key.weight")
    with pytest.raises(BadInput, match=r"1 missing \(blocks\.1\.attn\.qkv\.weight"):
        load_strict(vit.Vit(DIMS), vit_names.to_hub(state), "this tower")


def test_the_untrained_start_depends_on_its_seed_alone() -> None:
    first = export.untrained_rad_dino(3)[0].state_dict()
    torch.manual_seed(99)
    torch.rand(10)
    again, other = export.untrained_rad_dino(3)[0].state_dict(), export.untrained_rad_dino(4)[0].state_dict()
    assert all(torch.equal(first[k], again[k]) for k in first)
    assert not torch.equal(first["blocks.0.attn.qkv.weight"], other["blocks.0.attn.qkv.weight"])


def test_tokens_are_carried_in_autocasts_type() -> None:
    torch.manual_seed(0)
    tower = vit.Vit(vit.RAD_DINO_TINY)
    images = torch.randn(2, 3, 112, 112)
    whole = tower(images)[0]
    kinds = set()
    for block in tower.blocks:
        block.register_forward_hook(lambda module, inputs, output: kinds.add((inputs[0].dtype, output.dtype)))
    with torch.autocast("cpu", torch.bfloat16):
        half = tower(images)[0]
    assert kinds == {(torch.bfloat16, torch.bfloat16)}
    assert torch.nn.functional.cosine_similarity(half.float(), whole).min() > 0.999
