"""CLIP's tokenizer against open_clip's, and the small one that a tiny MI2 trains."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipelines.contract import BadInput
from pipelines.encoders.tokens import END, START, Tokenizer, clip_tokenizer, normalise_text, train_tokenizer

TEXTS = [
    "The heart is enlarged. No pneumothorax; small left pleural effusion (3.5 cm).",
    "  Endotracheal tube 4cm above\tthe carina,\nNGT in stomach. ",
    "Señora's x-ray: naïve read — clear lungs!!",
    "it's unchanged, they've seen 12/34",
    "",
]


def test_clip_tokenizer_equals_open_clips() -> None:
    simple = pytest.importorskip("open_clip.tokenizer").SimpleTokenizer(context_length=77)
    names = {"<start_of_text>": START, "<end_of_text>": END}
    vocabulary = {names.get(token, token): i for token, i in simple.encoder.items()}
    ours = Tokenizer(clip_tokenizer(vocabulary, list(simple.bpe_ranks)), 77)
    assert ours.size == 49408
    long = " ".join(TEXTS) * 10
    ids, mask = ours([*TEXTS, long])
    theirs = simple([*TEXTS, long])
    assert ids.shape == theirs.shape
    for mine, keep, other in zip(ids, mask, theirs, strict=True):
        length = int(keep.sum())
        assert mine[:length].tolist() == other[:length].tolist()
        assert int(mine[:length].argmax()) == length - 1 == int(mine.argmax())  # pooled where MI2 pools
        assert set(other[length:].tolist()) <= {0}


def test_a_small_tokenizer_is_the_same_whatever_the_order() -> None:
    texts = TEXTS * 2
    one, two = train_tokenizer(texts, 400).to_str(), train_tokenizer(texts[::-1], 400).to_str()
    assert one == two
    backend = train_tokenizer(texts, 400)
    assert backend.get_vocab_size() <= 400
    assert backend.token_to_id(END) == backend.get_vocab_size() - 1 == backend.token_to_id(START) + 1


def test_wording_of_one_report_becomes_no_token() -> None:
    backend = train_tokenizer(["common words here", "common words here", "zyxwvut"], 2048)
    tokens = backend.get_vocab()
    assert "Ġcommon" in tokens
    assert not any("zyx" in token for token in tokens)


def test_truncation_keeps_the_end_and_is_counted(tmp_path: Path) -> None:
    tokenizer = Tokenizer(train_tokenizer(TEXTS * 2, 400), 6)
    tokenizer.save(tmp_path / "tokenizer.json")
    tokenizer = Tokenizer.load(tmp_path / "tokenizer.json", 6)
    ids, mask = tokenizer([TEXTS[0], ""])
    end = tokenizer.backend.token_to_id(END)
    assert ids.shape == (2, 6) and ids[0, -1] == end
    assert ids[1].tolist()[1:] == [end] * 5 and mask[1].tolist() == [True, True] + [False] * 4
    assert tokenizer.truncated([TEXTS[0], ""]) == 1


def test_a_foreign_tokenizer_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(json.dumps({"no": "tokenizer"}))
    with pytest.raises(BadInput, match="tokenizer"):
        Tokenizer.load(tmp_path / "tokenizer.json", 77)
    with pytest.raises(BadInput, match="start and end"):
        clip_tokenizer({"a": 0, "a</w>": 1}, [])


def test_same_text() -> None:
    assert normalise_text("Clear  LUNGS.\n") == normalise_text("clear lungs")
    assert normalise_text("clear lungs") != normalise_text("clear lung")
