"""CheXbert from a checkpoint made in the published layout: names, heads, classes, and what is refused."""

import numpy as np
import pytest
import torch
from transformers import BertConfig

from pipelines.contract import BadInput
from pipelines.reporting.chexbert import BLANK, NEGATIVE, POSITIVE, UNCERTAIN, Chexbert, ChexbertFindings
from pipelines.reporting.metrics import FINDINGS

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "heart", "enlarged", "clear", "."]
CPU = torch.device("cpu")


@pytest.fixture
def folder(tmp_path):
    """A two-layer BERT with CheXbert's heads as the published file is: of DataParallel, positions as a buffer."""
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(WORDS), hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64
    )
    config.to_json_file(tmp_path / "config.json")
    (tmp_path / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    model = Chexbert(config)
    with torch.no_grad():
        for head in model.linear_heads:
            head.weight.normal_(0, 3)
    state = {f"module.{k}": v for k, v in model.state_dict().items()}
    state["module.bert.embeddings.position_ids"] = torch.arange(512)[None]
    torch.save({"epoch": 7, "model_state_dict": state}, tmp_path / "chexbert.pth")
    return tmp_path, model.eval()


def test_a_finding_is_stated_where_its_head_says_positive_or_uncertain(folder):
    path, model = folder
    texts = ["Heart enlarged.", "Clear.", "", "heart  clear .\nenlarged"] * 6
    found = ChexbertFindings(path, CPU)(texts)
    assert found.shape == (24, len(FINDINGS)) and found.dtype == bool and 0 < found.mean() < 1
    ids = torch.tensor([[2, 5, 6, 8, 3]])  # [CLS] heart enlarged . [SEP]
    classes = model(ids, torch.ones_like(ids))[0].tolist()
    assert found[0].tolist() == [c in (POSITIVE, UNCERTAIN) for c in classes]
    assert {BLANK, POSITIVE, NEGATIVE, UNCERTAIN} == set(range(4)) and classes[-1] in (BLANK, POSITIVE)
    assert np.array_equal(found[:4], found[20:])  # whatever is read beside


def test_other_weights_and_missing_files_are_refused_in_a_sentence(folder):
    path, _ = folder
    state = torch.load(path / "chexbert.pth", weights_only=True)
    del state["model_state_dict"]["module.linear_heads.13.weight"]
    torch.save(state, path / "chexbert.pth")
    with pytest.raises(BadInput, match="do not fit CheXbert: 1 missing"):
        ChexbertFindings(path, CPU)
    torch.save({"model_state_dict": Chexbert}, path / "chexbert.pth")  # a pickle that would run code
    with pytest.raises(BadInput, match="opened safely"):
        ChexbertFindings(path, CPU)
    (path / "vocab.txt").unlink()
    with pytest.raises(BadInput, match=r"vocab\.txt is missing"):
        ChexbertFindings(path, CPU)
