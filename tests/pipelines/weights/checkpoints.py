"""Checkpoints in the exact layouts of their publishers, made by the libraries themselves, small and of random weights.

Each function writes a download and returns what the library's own forward pass gives for an input.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

Forward = Callable[[Tensor], tuple[Tensor, Tensor]]
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "no", "effusion", "seen", "a", "tube"]
TEXTS = ["no effusion", "a tube seen"]


def save(folder: Path, name: str, state: dict[str, Tensor]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    state = {k: v.detach().clone().contiguous() for k, v in state.items()}
    if name.endswith(".safetensors"):
        save_file(state, folder / name, metadata={"format": "pt"})
    else:
        torch.save(state, folder / name)


def timm_folder(folder: Path, architecture: str = "vit_tiny_patch16_224", pickled: bool = False) -> Forward:
    """What timm's `save_for_hf` writes."""
    import timm
    from timm.models._hub import save_for_hf

    torch.manual_seed(0)
    model = timm.create_model(architecture, pretrained=False, num_classes=7).eval()
    save_for_hf(model, str(folder), safe_serialization=not pickled)

    def forward(x: Tensor) -> tuple[Tensor, Tensor]:
        tokens = model.forward_features(x)
        pooled = model.forward_head(tokens, pre_logits=True)
        if tokens.ndim == 4:
            return pooled, tokens.permute(0, 2, 3, 1)
        return pooled, tokens[:, model.num_prefix_tokens :].unflatten(1, (14, 14))

    return forward


def word_tokenizer(folder: Path) -> None:
    """A tokenizer in the files that transformers writes."""
    from transformers import BertTokenizerFast

    (folder / "words.txt").write_text("\n".join(WORDS))
    BertTokenizerFast(vocab=str(folder / "words.txt")).save_pretrained(folder)
    (folder / "words.txt").unlink()


def siglip_folder(folder: Path) -> Forward:
    """google/siglip2-base-patch16-224's files, with a smaller model."""
    from transformers import SiglipConfig, SiglipImageProcessor, SiglipModel

    torch.manual_seed(0)
    vision = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = vision | {"vocab_size": len(WORDS), "max_position_embeddings": 16, "projection_size": 64}
    model = SiglipModel(SiglipConfig(vision_config=vision | {"image_size": 64}, text_config=text)).eval()
    model.save_pretrained(folder)
    SiglipImageProcessor(
        size={"height": 64, "width": 64}, resample=2, image_mean=[0.5] * 3, image_std=[0.5] * 3
    ).save_pretrained(folder)
    word_tokenizer(folder)

    def forward(x: Tensor) -> tuple[Tensor, Tensor]:
        out = model.vision_model(pixel_values=x)
        return out.pooler_output, out.last_hidden_state.unflatten(1, (4, 4))

    return forward


def hf_clip_folder(folder: Path) -> Forward:
    """openai/clip-vit-base-patch32's files in the form of transformers, with a smaller model."""
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

    torch.manual_seed(0)
    vision = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = vision | {"vocab_size": len(WORDS), "max_position_embeddings": 16, "eos_token_id": 3}
    model = CLIPModel(
        CLIPConfig(vision_config=vision | {"image_size": 64, "patch_size": 16}, text_config=text, projection_dim=32)
    ).eval()
    model.save_pretrained(folder)
    CLIPImageProcessor(size={"shortest_edge": 64}, crop_size={"height": 64, "width": 64}).save_pretrained(folder)
    word_tokenizer(folder)

    def forward(x: Tensor) -> tuple[Tensor, Tensor]:
        out = model.vision_model(pixel_values=x)
        return out.pooler_output, out.last_hidden_state[:, 1:].unflatten(1, (4, 4))

    return forward


def hf_vit_folder(folder: Path) -> Forward:
    """A ViT of transformers with a classifier."""
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor

    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2, image_size=64, num_labels=5
    )
    model = ViTForImageClassification(config).eval()
    model.save_pretrained(folder)
    ViTImageProcessor(size={"height": 64, "width": 64}).save_pretrained(folder)

    def forward(x: Tensor) -> tuple[Tensor, Tensor]:
        tokens = model.vit(pixel_values=x).last_hidden_state
        return tokens[:, 0], tokens[:, 1:].unflatten(1, (4, 4))

    return forward


def open_clip_folder(folder: Path) -> Forward:
    """A CLIP with open_clip's own towers: config, safetensors."""
    from open_clip.model import CLIP

    torch.manual_seed(0)
    config = {
        "embed_dim": 32,
        "vision_cfg": {"image_size": 64, "layers": 2, "width": 64, "patch_size": 16, "head_width": 32},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2},
    }
    model = CLIP(**json.loads(json.dumps(config))).eval()
    save(folder, "open_clip_model.safetensors", model.state_dict())
    mean = {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": mean}))

    def forward(x: Tensor) -> tuple[Tensor, Tensor]:
        model.visual.output_tokens = True
        pooled, tokens = model.visual(x)
        return pooled, tokens.unflatten(1, (4, 4))

    return forward


def biomedclip_folder(folder: Path) -> Forward:
    """microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224's files: timm ViT, BERT named by its hub name, a pickle
    with the buffer that old versions saved, and no config of the BERT."""
    from open_clip.model import CustomTextCLIP
    from transformers import BertConfig

    torch.manual_seed(0)
    folder.mkdir(parents=True)
    bert = BertConfig(
        vocab_size=len(WORDS), hidden_size=128, num_hidden_layers=2, num_attention_heads=2, intermediate_size=96,
        max_position_embeddings=64,
    )  # fmt: skip
    config = {
        "embed_dim": 32,
        "vision_cfg": {
            "timm_model_name": "vit_tiny_patch16_224",
            "timm_model_pretrained": False,
            "timm_pool": "",
            "timm_proj": "linear",
            "image_size": 224,
        },
        "text_cfg": {
            "hf_model_name": "microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract",
            "hf_tokenizer_name": "microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract",
            "hf_proj_type": "mlp",
            "hf_pooler_type": "cls_last_hidden_state_pooler",
            "context_length": 24,
        },
    }
    local = json.loads(json.dumps(config))
    bert.save_pretrained(folder)
    local["text_cfg"] |= {"hf_model_name": str(folder), "hf_model_pretrained": False}
    model = CustomTextCLIP(**local).eval()
    (folder / "config.json").unlink()
    buffer = {"text.transformer.embeddings.position_ids": torch.arange(64)[None]}
    save(folder, "open_clip_pytorch_model.bin", model.state_dict() | buffer)
    mean = {"mean": [0.48145466, 0.4578275, 0.40821073], "std": [0.26862954, 0.26130258, 0.27577711]}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": mean}))
    word_tokenizer(folder)

    def forward(x: Tensor) -> tuple[Tensor, Tensor]:
        tokens = model.visual.trunk.forward_features(x)
        return model.encode_image(x), tokens[:, 1:].unflatten(1, (14, 14))

    return forward


def chexzero_file(folder: Path) -> Forward:
    """A state dict of OpenAI's CLIP, pickled: the keys and the quick GELU of ViT-B/32."""
    from open_clip.model import CLIP

    torch.manual_seed(0)
    vision = {"image_size": 224, "layers": 2, "width": 64, "patch_size": 32}
    text = {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 2}
    model = CLIP(32, vision, text, quick_gelu=True).eval()
    save(folder, "best_64_0.0001_original_35000_0.864.pt", model.state_dict())

    def forward(x: Tensor) -> tuple[Tensor, Tensor]:
        model.visual.output_tokens = True
        pooled, tokens = model.visual(x)
        return pooled, tokens.unflatten(1, (7, 7))

    return forward


def xrv_file(folder: Path, whole: bool = False) -> Forward:
    """torchxrayvision's DenseNet: its state dict, or the whole module in torch's old format as it is published."""
    import torchxrayvision as xrv

    torch.manual_seed(0)
    model = xrv.models.DenseNet(num_classes=18).eval()
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(model if whole else model.state_dict(), folder / "d121.pt", _use_new_zipfile_serialization=not whole)

    def forward(x: Tensor) -> tuple[Tensor, Tensor]:
        return model.features2(x), torch.relu(model.features(x)).permute(0, 2, 3, 1)

    return forward
