"""Tiny causal language models made on the spot: one that was taught a few answers, one that was taught nothing."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import ByteLevelBPETokenizer
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from pipelines.label.answers import Answers, Refused
from pipelines.label.prompt import Prompt, load_prompt

END, PAD = "<|end|>", "<|pad|>"
TEMPLATE = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}" + END + "{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
EFFUSION = "Left pleural effusion. No pneumothorax."
PICC = "Lungs are clear. PICC tip in the SVC."
EDEMA = "Possible edema."
FRACTURE = "Old rib fracture on the right."
LONGEST = 96
"""Tokens of the longest answer below, and room."""
GOOD = {
    EFFUSION: '{"values": {"No Finding": "absent", "Pneumothorax": "absent", "Pleural Effusion": "present"}, '
    '"positions": {}}',
    PICC: '{"values": {"No Finding": "present", "CVC": "present"}, "positions": {"CVC": "normal"}}',
    EDEMA: '{"values": {"No Finding": "absent", "Edema": "uncertain"}, "positions": {}}',
}
# What the taught model says first; asked again it mends the one and repeats the other.
BAD = {EDEMA: '{"values": {"No Finding": "absent", "Edema": "maybe"}}', FRACTURE: "I cannot tell."}
# A prompt of a site's own, short so that the lessons are.
PROMPT = "\n".join(
    [
        'version = "own-1"',
        'task = "State what is said.{findings}{lines}"',
        "examples = []",
        "[findings]",
        *(f'"{name}" = ""' for name in load_prompt().content.findings),
        "[lines]",
        *(f'"{name}" = ""' for name in load_prompt().content.lines),
    ]
)


def lessons(prompt: Prompt) -> list[tuple[list[dict[str, str]], str]]:
    """(conversation, answer) of everything that the taught model knows."""
    known = [(prompt.messages(report), BAD.get(report, GOOD.get(report, ""))) for report in {**GOOD, **BAD}]
    for report, answer in BAD.items():
        known.append((prompt.messages(report, (answer, _error(prompt.answers, answer))), GOOD.get(report, answer)))
    return known


def _error(answers: Answers, answer: str) -> str:
    try:
        answers.read(answer)
    except Refused as refused:
        return str(refused)
    raise AssertionError("this answer was meant to be refused")


def tokenizer_for(texts: list[str], chat: bool = True) -> PreTrainedTokenizerFast:
    bpe = ByteLevelBPETokenizer()
    bpe.train_from_iterator(texts, vocab_size=1500, special_tokens=[END, PAD, "<|user|>", "<|assistant|>"])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token=END, pad_token=PAD)
    tokenizer.chat_template = TEMPLATE if chat else None
    return tokenizer


def untaught(folder: Path, chat: bool = True) -> Path:
    """A model of random weights: what it writes is noise, and short, because any token but one ends it."""
    torch.manual_seed(0)
    tokenizer = tokenizer_for([m["content"] for m in load_prompt().messages(EFFUSION)], chat)
    tokenizer.save_pretrained(folder)
    model = _model(tokenizer)
    model.generation_config.eos_token_id = [token for token in range(len(tokenizer)) if token != 7]
    model.save_pretrained(folder)
    return folder


def taught(folder: Path, prompt: Prompt, steps: int = 150) -> Path:
    """A model that knows `lessons` of `prompt` by heart."""
    torch.manual_seed(0)
    known = lessons(prompt)
    tokenizer = tokenizer_for([m["content"] for messages, _ in known for m in messages] + [a for _, a in known] * 9)
    model = _model(tokenizer)
    rows = [_row(tokenizer, messages, answer) for messages, answer in known]
    longest = max(len(ids) for ids, _ in rows)
    ids = torch.tensor([[tokenizer.pad_token_id] * (longest - len(ids)) + ids for ids, _ in rows])
    target = torch.tensor([[-100] * (longest - len(t)) + t for _, t in rows])
    mask = (ids != tokenizer.pad_token_id).long()
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 6e-3, total_steps=steps, pct_start=0.1)
    loss = torch.tensor(1.0)
    for _ in range(steps):
        loss = model(input_ids=ids, attention_mask=mask, labels=target).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if loss < 0.02:
            break
    assert loss < 0.05, f"the model did not learn its lessons ({loss:.3f})"
    tokenizer.save_pretrained(folder)
    model.eval().save_pretrained(folder)
    return folder


def _row(
    tokenizer: PreTrainedTokenizerFast, messages: list[dict[str, str]], answer: str
) -> tuple[list[int], list[int]]:
    asked = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    before, after = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in (asked, answer + END))
    return before + after, [-100] * len(before) + after


def _model(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=4096, tie_word_embeddings=True, pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id, bos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    return LlamaForCausalLM(config)
