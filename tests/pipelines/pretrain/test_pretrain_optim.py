"""Schedules and parameter groups."""

from __future__ import annotations

import dataclasses
from itertools import pairwise

import pytest
import torch

from pipelines.encoders import export, vit
from pipelines.encoders.mi2 import MI2_TINY
from pipelines.pretrain.optim import build_optimiser, cosine, learning_rate, set_schedule
from pipelines.pretrain.recipe import RECIPES, Optimiser

SETTINGS = Optimiser(1e-3, None, 1e-6, 0.1, (0.04, 0.4), 3.0, layer_decay=0.9, patch_embed_scale=0.2)


def test_the_rate_warms_up_and_falls_to_its_end() -> None:
    rates = [learning_rate(SETTINGS, 1e-3, t, 100) for t in range(100)]
    assert rates[10] == max(rates) == pytest.approx(1e-3)
    assert all(a < b for a, b in pairwise(rates[:11]))
    assert all(a > b for a, b in pairwise(rates[10:]))
    assert rates[-1] == pytest.approx(1e-6)
    counted = dataclasses.replace(SETTINGS, warmup=5)
    assert learning_rate(counted, 1e-3, 5, 1000) == pytest.approx(1e-3)


def test_a_run_of_one_step_has_a_rate() -> None:
    assert learning_rate(SETTINGS, 1e-3, 0, 1) == pytest.approx(1e-3)
    assert cosine(0.9, 1.0, 0, 1) == pytest.approx(0.9)


def test_the_default_rate_follows_the_batch_where_its_source_does() -> None:
    assert RECIPES["rad-dino"].optimiser.peak(256) == pytest.approx(RECIPES["rad-dino"].optimiser.peak(1024) / 2)
    assert RECIPES["mi2"].optimiser.peak(1024) == 1e-5


def test_layers_decay_as_dinov2s_do() -> None:
    tower, head = export.untrained_rad_dino(0)
    optimiser = build_optimiser({"backbone": tower, "head": head}, SETTINGS)
    where = {id(p): g for g in optimiser.param_groups for p in g["params"]}
    assert len(where) == len(list(tower.parameters())) + len(list(head.parameters()))
    scale = {n: where[id(p)]["scale"] for n, p in tower.named_parameters()}
    assert scale["norm.weight"] == 1.0  # layer depth + 1
    assert scale["blocks.2.mlp.fc1.weight"] == pytest.approx(0.9)
    assert scale["blocks.0.mlp.fc1.weight"] == pytest.approx(0.9**3)
    assert scale["pos_embed"] == scale["cls_token"] == pytest.approx(0.9**4)
    assert scale["patch_embed.proj.weight"] == pytest.approx(0.2 * 0.9**4)
    decays = {n for n, p in tower.named_parameters() if where[id(p)]["decays"]}
    assert {"pos_embed", "cls_token", "blocks.0.attn.qkv.weight", "patch_embed.proj.weight"} <= decays
    assert not any("bias" in n or "norm" in n or "gamma" in n for n in decays)
    assert where[id(head.last_layer.weight_v)]["part"] == "last_layer"


def test_mi2_decays_what_its_recipe_decays() -> None:
    towers = export.untrained_mi2(0, dataclasses.replace(MI2_TINY, vocabulary=40))
    optimiser = build_optimiser({"backbone": towers}, RECIPES["mi2"].optimiser)
    where = {id(p): g["decays"] for g in optimiser.param_groups for p in g["params"]}
    decays = {n for n, p in towers.named_parameters() if where[id(p)]}
    rest = {n for n, _ in towers.named_parameters()} - decays
    assert {"logit_scale", "lang_encoder.positional_embedding", "lang_encoder.token_embedding.weight"} <= rest
    assert all(
        ".norm" in n or "ln_" in n or "bias" in n or "cpe" in n or "embedding" in n or "scale" in n for n in rest
    )
    assert {
        "image_projection",
        "image_encoder.stem.conv.weight",
        "lang_encoder.resblocks.0.attn.in_proj_weight",
    } <= decays


def test_parts_that_stand_still_have_no_rate() -> None:
    tower, head = vit.Vit(vit.RAD_DINO_TINY), vit.DinoHead(vit.RAD_DINO_TINY)
    optimiser = build_optimiser({"backbone": tower, "head": head}, SETTINGS)
    set_schedule(optimiser, 1e-3, 0.1, lambda part: part == "head")
    before = tower.norm.weight.clone(), head.last_layer.weight_v.clone(), head.mlp[0].weight.clone()
    for p in (*tower.parameters(), *head.parameters()):
        p.grad = torch.ones_like(p)
    optimiser.step()
    after = tower.norm.weight, head.last_layer.weight_v, head.mlp[0].weight
    assert [torch.equal(a, b) for a, b in zip(before, after, strict=True)] == [True, True, False]
