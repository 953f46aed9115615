"""Parts of a training step on a GPU, each against its plain form: head and loss, optimiser, teacher, views."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import timm
import torch
import torch.nn.functional as F
from torch import Tensor

from pipelines.encoders import vit
from pipelines.pretrain import augment
from pipelines.pretrain.images import Images, dino_kinds
from pipelines.pretrain.prefetch import map_tensors
from pipelines.pretrain.prototypes import Assignments, prototype_loss, value_and_gradient
from pipelines.pretrain.recipe import RECIPES
from pipelines.pretrain.sampler import Sampler
from tests.benchmarks.gpu_world import World


def timed(world: World, work: Callable[[], Any], repeats: int = 5) -> float:
    """Median milliseconds of `work`, after two calls to warm up."""
    times = []
    for number in range(repeats + 2):
        synchronise(world)
        began = time.perf_counter()
        work()
        synchronise(world)
        if number > 1:
            times.append((time.perf_counter() - began) * 1e3)
    return round(float(np.median(times)), 3)


def peak_mb(world: World, work: Callable[[], Any]) -> float | None:
    """Allocator peak of `work` above what was there before, in MB."""
    if world.device.type != "cuda":
        work()
        return None
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    work()
    torch.cuda.synchronize()
    return round((torch.cuda.max_memory_allocated() - before) / 1e6, 1)


def synchronise(world: World) -> None:
    if world.device.type == "cuda":
        torch.cuda.synchronize()


def machine(world: World) -> dict[str, Any]:
    """Versions, and the rates of plain matrix products that bound everything else."""
    figures: dict[str, Any] = {"torch": torch.__version__, "timm": timm.__version__}
    if world.device.type == "cuda":
        figures |= {"device": torch.cuda.get_device_name(), "cuda": torch.version.cuda}
    shapes = {"square_8192": (8192, 8192, 8192), "mlp_fc1": (24 * 1370, 768, 3072), "attn_proj": (24 * 1370, 768, 768)}
    for name, (m, k, n) in shapes.items():
        m, k, n = (64, 64, 64) if world.tiny else (m, k, n)
        kind = torch.float32 if world.tiny else torch.bfloat16
        a, b = (torch.randn(s, device=world.device, dtype=kind) for s in ((m, k), (k, n)))
        figures[f"{name}_tflops"] = round(2 * m * k * n / timed(world, lambda a=a, b=b: a @ b) / 1e9, 1)
    return figures


def whole_loss(x_ND: Tensor, w_KD: Tensor, y_ND: Tensor, centre_K: Tensor, weight_N: Tensor, kind: Any) -> Tensor:
    """Cross-entropy with all logits at once, by autograd: what the published code does for iBOT."""
    with torch.autocast(x_ND.device.type, torch.bfloat16, enabled=kind == torch.bfloat16):
        with torch.no_grad():
            teacher_NK = F.softmax(((y_ND @ w_KD.T).float() - centre_K) / 0.05, dim=-1)
        logits_NK = F.linear(x_ND, w_KD)
    return -((teacher_NK * F.log_softmax(logits_NK.float() / 0.1, dim=-1)).sum(-1) * weight_N).sum()


def head_compiled(world: World) -> dict[str, Any]:
    """The same with the elementwise part of a piece compiled."""
    return head(world, compiled=True)


def head(world: World, compiled: bool = False) -> dict[str, Any]:
    """Head and loss on the masked patches of 8 images (411 each at 518 px), forward and backward."""
    rows = 40 if world.tiny else 8 * 411
    model = vit.DinoHead(world.dino).to(world.device)
    patches_ND = torch.randn(rows, world.dino.dim, device=world.device)
    y_ND = F.normalize(torch.randn(rows, world.dino.head_bottleneck, device=world.device), dim=-1)
    centre_K, weight_N = (
        torch.zeros(world.dino.prototypes, device=world.device),
        torch.full((rows,), 1e-3).to(world.device),
    )
    kind = torch.float32 if world.tiny else torch.bfloat16
    one = torch.ones(1, 1, device=world.device)

    def bottleneck() -> Tensor:
        with torch.autocast(world.device.type, torch.bfloat16, enabled=not world.tiny):
            return model.bottleneck(patches_ND)

    def whole() -> Tensor:
        model.zero_grad(set_to_none=True)
        loss = whole_loss(bottleneck(), model.last_layer.weight(), y_ND, centre_K, weight_N, kind)
        loss.backward()
        return loss.detach()

    def pieces(logits: int, piece: Any = None) -> Tensor:
        model.zero_grad(set_to_none=True)
        w_KD = model.last_layer.weight()
        teacher = Assignments(y_ND[None].to(kind), w_KD.detach().to(kind), -centre_K / 0.05, 0.05)
        loss = prototype_loss(bottleneck()[None], w_KD, teacher, one, weight_N, 0.1, logits, piece)
        loss.backward()
        return loss.detach()

    forms: dict[str, Callable[[], Tensor]] = {"whole": whole}
    for power in (24, 25, 26, 27):
        forms[f"pieces_2^{power}"] = lambda power=power: pieces(1 << power)
    if compiled:
        fused = torch.compile(value_and_gradient)
        forms = {f"compiled_2^{power}": lambda power=power: pieces(1 << power, fused) for power in (25, 26)}
    figures = {}
    for name, form in forms.items():
        try:
            loss = float(form())
            figures[name] = {"ms": timed(world, form), "peak_mb": peak_mb(world, form), "loss": round(loss, 6)}
        except RuntimeError as error:
            figures[name] = {"failed": str(error)[:200]}
        print(f"  {name}: {figures[name]}", flush=True)
    return figures


def optimiser(world: World) -> dict[str, Any]:
    """AdamW and the EMA teacher over all parameters of tower and head: fused, foreach, one by one."""
    with world.device:
        modules = [vit.Vit(world.dino), vit.DinoHead(world.dino)]
    parameters = [p for m in modules for p in m.parameters()]
    teacher = [p.detach().clone() for p in parameters]
    for p in parameters:
        p.grad = torch.randn_like(p)
    figures: dict[str, Any] = {"parameters": sum(p.numel() for p in parameters)}
    for name, form in {"fused": {"fused": True}, "foreach": {"foreach": True}, "loop": {"foreach": False}}.items():
        adamw = torch.optim.AdamW(parameters, lr=1e-6, **form)
        figures[f"adamw_{name}_ms"] = timed(world, adamw.step)
        del adamw
    values = [p.detach() for p in parameters]

    def one_by_one() -> None:
        for t, s in zip(teacher, values, strict=True):
            t.lerp_(s, 0.01)

    figures["ema_foreach_ms"] = timed(world, lambda: torch._foreach_lerp_(teacher, values, 0.01))
    figures["ema_loop_ms"] = timed(world, one_by_one)
    figures["clip_ms"] = timed(world, lambda: torch.nn.utils.clip_grad_norm_(parameters, 1e9, foreach=True))
    return figures


def views(world: World) -> dict[str, Any]:
    """Drawing and rendering a batch's views: seconds of the CPU thread, milliseconds of the GPU, both for 24 images."""
    batch = world.batch(24)
    settings = RECIPES[f"rad-dino{world.suffix}"].objective
    images = Images(world.cohort, 0, world.device)
    sampler = Sampler(world.cohort.rows("train"), batch, 0)
    place = sampler.batch(0)
    draw = lambda: images.draw(place, range(batch), dino_kinds(settings), True)  # noqa: E731
    drawn = map_tensors(draw(), lambda t: t.to(world.device))
    figures = {
        "batch": batch,
        "draw_ms": timed(world, draw, 3),
        "render_ms": timed(world, lambda: images.render(drawn)),
    }
    if drawn.images_BHW is not None:
        cut = drawn.cuts[0]
        figures["cut_ms"] = timed(world, lambda: augment.crop_together(drawn.images_BHW, cut.boxes_VB4, cut.side))
        # The same boxes on the CPU, one by one, must give the same grey values but for rounding.
        ours = augment.crop_together(drawn.images_BHW, cut.boxes_VB4, cut.side).cpu().int()
        whole = drawn.images_BHW.cpu()
        theirs = torch.stack(
            [augment.crop(whole[b], tuple(box), cut.side) for v in cut.boxes_VB4.tolist() for b, box in enumerate(v)]
        ).int()
        figures["largest_difference_to_cpu"] = int((ours - theirs).abs().max())
    return figures
