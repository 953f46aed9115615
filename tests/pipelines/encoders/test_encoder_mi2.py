"""The MI2 towers: published keys at full size, accepted spellings, and the text tower against torch's attention."""

from __future__ import annotations

import csv
import dataclasses
import json
import re
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from pipelines.contract import BadInput, Outcome, run_stage
from pipelines.encoders import export, load_encoder, mi2
from pipelines.encoders.strict import check_keys
from pipelines.encoders.tokens import END, START
from tests.pipelines.encoders import mi2_plain

SMALL = dataclasses.replace(mi2.MI2_TINY, image=64, vocabulary=50, context=12)


def small_towers(seed: int = 0) -> mi2.Mi2:
    return export.untrained_mi2(seed, SMALL).eval()


@pytest.mark.shared
def test_full_size_has_the_published_keys_and_shapes(shared: Path) -> None:
    with torch.device("meta"):
        towers = mi2.Mi2(mi2.MI2)
    published = mi2.to_published(towers.state_dict())
    with (shared / "standards" / "mi2_state_dict.tsv").open() as f:
        wanted = {row["key"]: row["shape"] for row in csv.DictReader(f, delimiter="\t")}
    assert len(wanted) == 601
    assert {k: "x".join(map(str, v.shape)) or "scalar" for k, v in published.items()} == wanted
    assert sum(v.numel() for v in published.values()) == 615_996_417


def test_published_keys_round_trip_bit_equal() -> None:
    state = small_towers().state_dict()
    published = mi2.to_published(state)
    assert not any("stages" in k or "cpe" in k for k in published)
    back = mi2.from_published(published, state)
    assert set(back) == set(state) and all(torch.equal(back[k], state[k]) for k in state)


def old_spelling(key: str) -> str:
    """A published key as older MI2 files spell it (the table in MedImageInsight's loader, read backwards)."""
    names = {
        "spatial_block.conv1.fn.dw": "0.cpe.0.proj",
        "spatial_block.conv2.fn.dw": "0.cpe.1.proj",
        "spatial_block.window_attn.norm": "0.norm1",
        "spatial_block.window_attn.fn": "0.attn",
        "spatial_block.ffn.norm": "0.norm2",
        "spatial_block.ffn.fn.net": "0.mlp",
        "channel_block.conv1.fn.dw": "1.cpe.0.proj",
        "channel_block.conv2.fn.dw": "1.cpe.1.proj",
        "channel_block.channel_attn.norm": "1.norm1",
        "channel_block.channel_attn.fn": "1.attn",
        "channel_block.ffn.norm": "1.norm2",
        "channel_block.ffn.fn.net": "1.mlp",
        "image_encoder.convs": "visual.conv_embeds",
        "image_encoder.blocks": "visual.main_blocks",
        "image_encoder.": "visual.",
        "lang_encoder.": "text.",
        "image_projection": "vision_projection",
        "lang_projection": "text_projection",
    }
    for new, old in names.items():
        key = key.replace(new, old)
    return key


def test_old_spellings_are_accepted() -> None:
    state = small_towers().state_dict()
    published = mi2.to_published(state)
    old = {old_spelling(k): v for k, v in published.items()}
    assert sum(k in published for k in old) == 1  # logit_scale has but one
    back = mi2.from_published(old, state)
    check_keys(back, state, "MI2")
    assert all(torch.equal(back[k], state[k]) for k in state)


def test_one_tensor_under_two_spellings_is_refused() -> None:
    published = mi2.to_published(small_towers().state_dict())
    with pytest.raises(BadInput, match="two spellings"):
        mi2.from_published(published | {"text_projection": torch.zeros(1)}, small_towers().state_dict())


def test_the_text_tower_is_the_published_one() -> None:
    towers = small_towers()
    with torch.no_grad():
        for parameter in towers.lang_encoder.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    # Padding is the end token again (49, the largest id), as CLIP's is.
    ids = torch.tensor([[48, 3, 5, 7, 49, 49, 49], [48, 9, 9, 2, 1, 30, 49]])
    mask = torch.tensor([[True] * 5 + [False] * 2, [True] * 7])
    with torch.no_grad():
        plain = mi2_plain.embed_text(mi2.to_published(towers.state_dict()), ids, mask, SMALL.text_heads)
        torch.testing.assert_close(towers.embed_text(ids, mask), plain, atol=1e-5, rtol=1e-5)
        # Padding further changes nothing.
        more = F.pad(ids, (0, 4), value=49), F.pad(mask, (0, 4), value=False)
        torch.testing.assert_close(towers.embed_text(*more), towers.embed_text(ids, mask))


def test_the_image_tower_is_the_published_one() -> None:
    dims = dataclasses.replace(SMALL, window=3, depths=(1, 1, 2, 1))  # 3 divides no grid of a 64 pixel image
    towers = export.untrained_mi2(0, dims).eval()
    with torch.no_grad():
        for parameter in towers.image_encoder.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
        state, x = mi2.to_published(towers.state_dict()), torch.randn(2, 3, 64, 64)
        pooled, patches = towers.image_features(x)
        expected = mi2_plain.image_features(state, x, dims.window)
        torch.testing.assert_close(pooled, expected[0], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(patches, expected[1], atol=1e-4, rtol=1e-5)
        torch.testing.assert_close(towers.embed_image(x), mi2_plain.embed_image(state, x, 3), atol=1e-5, rtol=1e-5)


def published_weights(table: Path) -> dict[str, torch.Tensor]:
    """Random weights under the published keys, of a size that lets activations neither vanish nor grow."""
    draw = torch.Generator().manual_seed(0)
    state = {}
    with table.open() as f:
        for row in csv.DictReader(f, delimiter="\t"):
            shape = [] if row["shape"] == "scalar" else [int(n) for n in row["shape"].split("x")]
            centre = 1.0 if len(shape) == 1 and row["key"].endswith("weight") else 0.0  # the norms
            state[row["key"]] = torch.randn(shape, generator=draw).mul_(0.02).add_(centre)
    return state


@pytest.mark.shared
@pytest.mark.slow
def test_full_width_comes_in_and_computes_what_is_published(shared: Path, tmp_path: Path) -> None:
    """A file in the published layout, through the stage that imports it, against the plain reading of the same file."""
    weights = tmp_path / "release" / "vision_model" / "medimageinsigt-v1.0.0.pt"
    tokenizer = tmp_path / "release" / "language_model" / "clip_tokenizer_4.16.2"
    for folder in (weights.parent, tokenizer):
        folder.mkdir(parents=True)
    (tokenizer / "vocab.json").write_text(json.dumps({"a</w>": 0, START: 49406, END: 49407}))
    (tokenizer / "merges.txt").write_text("#version: 0.2\n")
    state = published_weights(shared / "standards" / "mi2_state_dict.tsv")
    save_file(state, weights)
    assert run_stage("import", {"source": str(weights), "family": "mi2"}, tmp_path / "run") is Outcome.DONE
    copied = load_file(tmp_path / "run" / "model" / "model.safetensors")
    assert copied.keys() == state.keys() and all(torch.equal(copied[k], state[k]) for k in state)
    del copied
    encoder = load_encoder(tmp_path / "run" / "model")
    assert sum(p.numel() for p in encoder.parameters()) == 615_996_417
    draw = torch.Generator().manual_seed(1)
    x = torch.randn(1, 3, 480, 480, generator=draw)
    ids = torch.randint(0, 49_406, (2, 77), generator=draw)
    ids[:, 0], ids[0, 20:], ids[1, -1] = 49_406, 49_407, 49_407
    mask = torch.arange(77) <= torch.tensor([[20], [76]])
    with torch.no_grad():
        image, text = encoder.embed_images(x), encoder.towers.embed_text(ids, mask)
        torch.testing.assert_close(image, mi2_plain.embed_image(state, x, 12), atol=1e-5, rtol=0)
        torch.testing.assert_close(text, mi2_plain.embed_text(state, ids, mask, 16), atol=1e-5, rtol=0)


def test_the_image_tower_is_florence2s(tmp_path: Path) -> None:
    """transformers' Florence-2 vision tower is an independent reading of the same DaViT."""
    modeling = pytest.importorskip("transformers.models.florence2.modeling_florence2")
    configuration = pytest.importorskip("transformers.models.florence2.configuration_florence2")
    dims = dataclasses.replace(SMALL, window=3)  # 3 divides no grid of a 64 pixel image: padding takes part
    towers = export.untrained_mi2(0, dims).eval()
    with torch.no_grad():
        for parameter in towers.image_encoder.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    config = configuration.Florence2VisionConfig(
        depths=dims.depths,
        embed_dim=dims.dims,
        num_heads=dims.heads,
        num_groups=dims.heads,
        window_size=dims.window,
        drop_path_rate=0.0,
        projection_dim=8,
        patch_size=(7, 3, 3, 3),
        patch_stride=(4, 2, 2, 2),
        patch_padding=(3, 1, 1, 1),
        patch_prenorm=(False, True, True, True),
    )
    other = modeling.Florence2VisionBackbone(config).eval()
    published = mi2.to_published(towers.state_dict())
    renamed = {florence2_name(k): v for k, v in published.items() if k.startswith("image_encoder.")}
    pooled_norm = {k: renamed.pop(k) for k in ("norms.weight", "norms.bias")}
    other.load_state_dict(renamed, strict=True)
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        pooled, patches = towers.image_features(x)
        expected = other(x)
        expected = getattr(expected, "last_hidden_state", expected)
    torch.testing.assert_close(patches.permute(0, 3, 1, 2), expected, atol=1e-5, rtol=1e-4)
    mean = expected.mean((2, 3))
    torch.testing.assert_close(
        pooled, F.layer_norm(mean, mean.shape[1:], pooled_norm["norms.weight"], pooled_norm["norms.bias"], 1e-5)
    )


def florence2_name(key: str) -> str:
    """A published MI2 key as transformers' Florence-2 spells it."""
    key = key.removeprefix("image_encoder.")
    key = re.sub(r"^convs\.(\d)\.proj", r"convs.\1.conv", key)
    for old, new in (
        ("conv1.fn.dw", "conv1"),
        ("conv2.fn.dw", "conv2"),
        ("window_attn.norm", "norm1"),
        ("channel_attn.norm", "norm1"),
        ("window_attn.fn", "window_attn"),
        ("channel_attn.fn", "channel_attn"),
        ("ffn.norm", "norm2"),
        ("ffn.fn.net", "ffn"),
    ):
        key = key.replace(old, new)
    return key
