"""One step of each objective: micro-batches, packed views and recomputed activations change no loss and no gradient."""

from __future__ import annotations

import copy
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.modules.module import register_module_forward_hook

from pipelines.cohort import Cohort
from pipelines.encoders import export, vit
from pipelines.encoders.mi2 import MI2_TINY
from pipelines.encoders.tokens import Tokenizer, train_tokenizer
from pipelines.pretrain.dino_task import DinoTask
from pipelines.pretrain.images import Images
from pipelines.pretrain.prefetch import Prefetch
from pipelines.pretrain.recipe import RECIPES
from pipelines.pretrain.sampler import Sampler
from pipelines.pretrain.speed import Speed, worth_compiling
from pipelines.pretrain.task import Task
from pipelines.pretrain.unicl_task import UniclTask
from tests.cohorts import make_cohort

DIMS = vit.VitDims(
    image=56, dim=48, depth=2, heads=3, layer_scale=1.0, prototypes=64, head_hidden=24, head_bottleneck=16
)
BATCH = 6


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    return Cohort.open(make_cohort(tmp_path_factory.mktemp("cohort") / "c", patients=16, side=64))


def dino(cohort: Cohort, micro: int = BATCH, speed: Speed | None = None, **recipe: Any) -> DinoTask:
    settings = replace(RECIPES["rad-dino-tiny"].objective, global_side=56, local_side=28, **recipe)
    tower, head = export.untrained_rad_dino(0, DIMS)
    images = Images(cohort, 0, torch.device("cpu"))
    return DinoTask("rad-dino-tiny", tower, head, DIMS, images, settings, 10, micro, "fp32", speed or Speed())


def unicl(cohort: Cohort, micro: int = BATCH, speed: Speed | None = None) -> UniclTask:
    texts = [t for row in cohort.rows("train") if (t := cohort.text(int(row)))]
    tokenizer = Tokenizer(train_tokenizer(texts, 400), MI2_TINY.context)
    images = Images(cohort, 0, torch.device("cpu"))
    settings = RECIPES["mi2-tiny"].objective
    towers = export.untrained_mi2(0, replace(MI2_TINY, vocabulary=400))
    return UniclTask("mi2-tiny", towers, tokenizer, images, settings, "both", (0, 1), micro, "fp32", speed or Speed())


def take_step(cohort: Cohort, task: Task) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Values and gradients of the first step."""
    batch = Sampler(cohort.rows("train"), BATCH, 0).batch(0)
    values = task.step(batch, task.prepare(batch))
    parameters = {f"{part} {n}": p for part, m in task.trainable().items() for n, p in m.named_parameters()}
    return values, {n: p.grad for n, p in parameters.items() if p.grad is not None}


@contextmanager
def counted() -> Iterator[list[int]]:
    """How often any module was called."""
    calls = [0]

    def count(*_: Any) -> None:
        calls[0] += 1

    handle = register_module_forward_hook(count)
    yield calls
    handle.remove()


def same_step(cohort: Cohort, first: Task, second: Task) -> None:
    """The same values and gradients, by another way through the modules, or the setting did nothing."""
    calls, other_calls = same_values(cohort, first, second)
    assert calls != other_calls


def same_values(cohort: Cohort, first: Task, second: Task) -> tuple[list[int], list[int]]:
    """The same values and gradients; how often modules were called."""
    with counted() as calls:
        values, gradients = take_step(cohort, first)
    with counted() as other_calls:
        others, other_gradients = take_step(cohort, second)
    assert set(values) == set(others) and set(gradients) == set(other_gradients) and gradients
    for name, value in values.items():
        torch.testing.assert_close(value, others[name], atol=1e-5, rtol=1e-5, msg=name)
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, other_gradients[name], atol=1e-5, rtol=1e-5, msg=name)
    return calls, other_calls


@pytest.mark.parametrize("centring", ["centre", "sinkhorn"])
@pytest.mark.parametrize("micro", [1, 4])
def test_micro_batches_change_no_statistics(cohort: Cohort, centring: str, micro: int) -> None:
    """Sinkhorn, the centre and KoLeo see the whole batch, also where the last micro-batch is smaller."""
    whole, parts = dino(cohort, centring=centring), dino(cohort, micro, centring=centring)
    same_step(cohort, whole, parts)
    for task in (whole, parts):
        task.after_step(0)
    for kind in ("cls", "patch"):
        torch.testing.assert_close(whole.centres[kind].value, parts.centres[kind].value)
    # The terms are told apart by their statistics: KoLeo of single samples has no neighbour to look at.
    assert take_step(cohort, whole)[0]["koleo"] > 0.1


@pytest.mark.parametrize("micro", [1, 4])
def test_micro_batches_change_no_contrast(cohort: Cohort, micro: int) -> None:
    same_step(cohort, unicl(cohort), unicl(cohort, micro))


def test_packed_views_equal_separate_ones(cohort: Cohort) -> None:
    same_step(cohort, dino(cohort), dino(cohort, speed=Speed(packed=True)))


def test_packed_views_drop_whole_images() -> None:
    """Drop path must not take one draw for all images of a row."""
    block = vit.VitBlock(48, 3, drop_path=0.5).train()
    torch.manual_seed(0)
    tokens = torch.randn(1, 40 * 3 + 40 * 2, 48)
    changed = (block._drop(block.drop_path1, tokens, ((40, 3), (40, 2))) != 0).any(-1)[0]
    images = [*changed[:120].view(40, 3), *changed[120:].view(40, 2)]
    assert all(image.all() or not image.any() for image in images)
    assert 20 < sum(bool(image.all()) for image in images) < 60


@pytest.mark.parametrize("make", [dino, unicl])
def test_recomputed_activations_change_nothing(cohort: Cohort, make: Any) -> None:
    same_step(cohort, make(cohort), make(cohort, speed=Speed(checkpoint=True)))


@pytest.fixture
def nothing_compiled() -> Any:
    """No forms of other tests, and none left behind."""
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.mark.slow  # some time of a C++ compiler
@pytest.mark.timeout(900)
def test_a_compiled_block_is_as_far_from_float64_as_a_plain_one(nothing_compiled: None) -> None:
    """What compiled and plain forms differ by is the order of float32 sums, not another computation."""
    torch.manual_seed(0)
    exact = vit.VitBlock(48, 3, qkv_bias=True, init_values=1.0).double()
    x = torch.randn(4, 17, 48, dtype=torch.float64)

    def outcome(block: torch.nn.Module, x: Tensor) -> list[Tensor]:
        out = block(x)
        return [t.double() for t in (out.detach(), *torch.autograd.grad(out.square().sum(), list(block.parameters())))]

    plain, made = copy.deepcopy(exact).float(), copy.deepcopy(exact).float()
    told: list[str] = []
    Speed(compile=True, warn=told.append).compile_blocks([made])
    reference = outcome(exact, x)
    for true, first, second in zip(reference, outcome(plain, x.float()), outcome(made, x.float()), strict=True):
        scale = true.abs().max()
        assert (second - true).abs().max() <= 1e-5 * scale
        assert (second - true).abs().max() <= 8 * (first - true).abs().max() + 1e-7 * scale
    assert not told


def test_a_block_is_compiled_in_one_piece(nothing_compiled: None) -> None:
    """What the tracer does not understand cuts a block in parts, and nothing is fused across them."""
    block = vit.VitBlock(48, 3, qkv_bias=True, init_values=1.0)
    traced = torch.compile(block, backend="eager", fullgraph=True)  # raises where it would cut
    x = torch.randn(2, 17, 48, dtype=torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(traced(x), block(x))


@pytest.mark.slow  # a minute of a C++ compiler
@pytest.mark.timeout(900)
@pytest.mark.parametrize("make", [dino, unicl])
def test_compiled_blocks_compute_the_same(cohort: Cohort, make: Any, nothing_compiled: None) -> None:
    told: list[str] = []
    same_values(cohort, make(cohort), make(cohort, speed=Speed(compile=True, warn=told.append)))
    assert not told  # what was compared is the compiled form


def test_a_failed_compilation_is_told_once_and_the_step_is_the_plain_one(
    cohort: Cohort, monkeypatch: pytest.MonkeyPatch, nothing_compiled: None
) -> None:
    from torch._inductor import config

    monkeypatch.setattr(config.cpp, "cxx", ("/nowhere/g++",))
    monkeypatch.setattr(config, "force_disable_caches", True)  # a form built earlier would need no compiler
    told: list[str] = []
    same_values(cohort, dino(cohort), dino(cohort, speed=Speed(compile=True, warn=told.append)))
    assert len(told) == 1 and "goes on without it" in told[0]


def test_blocks_are_compiled_by_default_where_a_gain_was_measured() -> None:
    cuda, cpu = torch.device("cuda"), torch.device("cpu")
    assert worth_compiling("rad-dino", cuda)
    assert not any(worth_compiling(e, d) for e, d in (("rad-dino", cpu), ("mi2", cuda), ("rad-dino-tiny", cuda)))


def test_flops_are_those_of_the_formula(cohort: Cohort) -> None:
    task = dino(cohort)
    D, L = DIMS.dim, DIMS.depth

    def tower(side: int, tokens: float) -> float:
        """The last block projects and transforms no more than `tokens`."""
        patches = (side // DIMS.patch) ** 2
        N = patches + 1
        last = 6 * N * D**2 + 4 * N**2 * D + 18 * tokens * D**2
        return (L - 1) * (24 * N * D**2 + 4 * N**2 * D) + last + 2 * patches * 3 * DIMS.patch**2 * D

    row = 2 * (D * 24 + 24 * 24 + 24 * 16 + 16 * DIMS.prototypes)
    masked = 0.5 * 0.3 * 16
    big, small = tower(56, 1 + masked), tower(28, 1)
    expected = 3 * (2 * big + 4 * small + (6 + 2 * masked) * row) + 2 * big + (2 + 2 * masked) * row
    assert task.flops() == pytest.approx(expected, rel=1e-6)
    assert unicl(cohort).flops() > 0


@pytest.mark.parametrize("ahead", [False, True])
def test_prefetch_gives_every_step_in_order_and_raises_what_making_raises(ahead: bool) -> None:
    def make(step: int) -> Tensor:
        if step == 5:
            raise ValueError("no such image")
        return torch.tensor(step)

    assert [int(x) for x in Prefetch(make, 2, 5, torch.device("cpu"), ahead)] == [2, 3, 4]
    with pytest.raises(ValueError, match="no such image"):
        list(Prefetch(make, 2, 9, torch.device("cpu"), ahead))
    assert not any(thread.name == "prefetch" for thread in threading.enumerate())


def test_freed_memory_is_kept_for_the_next_tensor() -> None:
    program = """
import resource, sys
import numpy as np
from pipelines.pretrain.speed import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
np.ones(8_000_000)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
np.ones(8_000_000)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    kept, plain = (
        int(subprocess.run([sys.executable, "-c", program, how], check=True, capture_output=True, text=True).stdout)
        for how in ("keep", "plain")
    )
    assert kept < plain / 4
