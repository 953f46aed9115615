"""A writer of reports: projected patch tokens and a prompt before a causal language model (LLaVA, arXiv 2310.03744)."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import GenerationConfig, StoppingCriteria, StoppingCriteriaList

from pipelines.reporting.language import Language

UNASKED = -100  # cross_entropy leaves these out
PROMPT = 384  # tokens; of a longer prompt the end is kept


class Writer(nn.Module):
    """Patch tokens [B, N, E] of a frozen encoder and prompts to reports."""

    def __init__(self, language: Language, patch_dim: int, layers: int, seed: int) -> None:
        super().__init__()
        self.language, self.pieces = language.model, language.pieces
        width = self.language.get_input_embeddings().embedding_dim
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.projector = _projector(patch_dim, width, layers)

    @property
    def device(self) -> torch.device:
        return next(self.projector.parameters()).device

    def loss(self, patches_BNE: Tensor, prompts: list[str], targets: list[list[int]]) -> tuple[Tensor, int]:
        """Sum of the negative log likelihoods of the targets' tokens, and how many there are."""
        before_BPD, seen_BP = self._before(patches_BNE, prompts)
        longest = max(len(t) for t in targets)
        ids_BT = torch.tensor([t + [self.pieces.end] * (longest - len(t)) for t in targets], device=self.device)
        asked_BT = torch.tensor([[i < len(t) for i in range(longest)] for t in targets], device=self.device)
        mask = torch.cat([seen_BP, asked_BT], 1)
        # Targets begin in one column, so that logits are made for their places only and not for every patch.
        logits_BTV = self.language(
            inputs_embeds=torch.cat([before_BPD, self._embed(ids_BT)], 1),
            attention_mask=mask.long(),
            position_ids=(mask.long().cumsum(1) - 1).clamp_min(0),
            logits_to_keep=longest + 1,
            use_cache=False,
        ).logits[:, :-1]
        wanted = torch.where(asked_BT, ids_BT, UNASKED)
        total = F.cross_entropy(
            logits_BTV.float().flatten(0, 1), wanted.flatten(), ignore_index=UNASKED, reduction="sum"
        )
        return total, int(asked_BT.sum())

    @torch.inference_mode()
    def write(self, patches_BNE: Tensor, prompts: list[str], tokens: int, stopping: Callable[[], bool]) -> list[str]:
        """Greedy reports of at most `tokens` tokens; what there is by then once `stopping()`."""
        before_BPD, seen_BP = self._before(patches_BNE, prompts)
        greedy = GenerationConfig(
            do_sample=False,
            num_beams=1,
            max_new_tokens=tokens,
            eos_token_id=self.pieces.end,
            pad_token_id=self.pieces.end,
        )
        written_BT = self.language.generate(
            inputs_embeds=before_BPD,
            attention_mask=seen_BP.long(),
            generation_config=greedy,
            stopping_criteria=StoppingCriteriaList([_Asked(stopping)]),
        )
        return [self.pieces.decode(row) for row in written_BT.tolist()]

    def learning(self) -> dict[str, nn.Parameter]:
        """The parameters that learn, by name."""
        return {name: p for name, p in self.named_parameters() if p.requires_grad}

    def _embed(self, ids: Tensor) -> Tensor:
        return self.language.get_input_embeddings()(ids)

    def _before(self, patches_BNE: Tensor, prompts: list[str]) -> tuple[Tensor, Tensor]:
        """What stands before a report, [B, P, D], padded on the left, and which of it is no padding, bool [B, P]."""
        first = self.pieces.first
        told = [self.pieces.encode(text)[-PROMPT:] for text in prompts]
        longest = max(len(t) for t in told)
        pad = [longest - len(t) for t in told]
        told_BT = torch.tensor([[self.pieces.end] * n + t for n, t in zip(pad, told, strict=True)], device=self.device)
        images_BND = self.projector(patches_BNE)
        texts_BTD = self._embed(told_BT)
        start_BFD = self._embed(torch.tensor([first] * len(told), dtype=torch.int64, device=self.device))
        whole = torch.cat([start_BFD.to(images_BND.dtype), images_BND, texts_BTD.to(images_BND.dtype)], 1)
        count = len(first) + images_BND.shape[1]
        rows, seen = [], []
        for row, n in zip(whole, pad, strict=True):
            # Padding goes before all: the image stands next to its prompt whatever the others' lengths are.
            rows.append(torch.cat([row[count : count + n], row[:count], row[count + n :]]))
            seen.append(torch.arange(len(row), device=self.device) >= n)
        return torch.stack(rows), torch.stack(seen)


class _Asked(StoppingCriteria):
    """Ends writing when the stage was asked to stop."""

    def __init__(self, stopping: Callable[[], bool]) -> None:
        self.stopping = stopping

    def __call__(self, input_ids: Tensor, scores: object, **_: object) -> Tensor:
        return torch.full((input_ids.shape[0],), self.stopping(), device=input_ids.device, dtype=torch.bool)


def _projector(patch_dim: int, width: int, layers: int) -> nn.Sequential:
    """LayerNorm (encoders differ in scale), then linear layers with GELU between."""
    parts: list[nn.Module] = [nn.LayerNorm(patch_dim)]
    for i, (a, b) in enumerate(pairwise([patch_dim] + [width] * layers)):
        parts += [nn.GELU()] * (i > 0) + [nn.Linear(a, b)]
    return nn.Sequential(*parts)
