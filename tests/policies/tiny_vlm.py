"""A vision-language model folder small enough for tests: SmolVLM's configuration, processor and a byte-level tokenizer."""

from __future__ import annotations

import argparse
from pathlib import Path

from policies.config import FlowHeadConfig, SmolVlaConfig
from policies.folder import make_policy, save_policy
from tests.policies.helpers import SPEC

SPECIAL = {
    "fake_image_token": "<fake_token_around_image>",
    "image_token": "<image>",
    "global_image_token": "<global-img>",
    "end_of_utterance_token": "<end_of_utterance>",
}


TEXT = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
VISION = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "image_size": 64}
REAL_TEXT = {"hidden_size": 960, "intermediate_size": 2560, "num_hidden_layers": 32, "num_attention_heads": 15, "num_key_value_heads": 5}
REAL_VISION = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12, "image_size": 512}
"""SmolVLM2 500M's, of which SmolVLA takes 16 layers; the vocabulary stays tiny."""


def make_vlm(folder: Path, real_size: bool = False) -> Path:
    """Write the folder: random weights come from its configuration, nothing is downloaded."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast, SmolVLMConfig, SmolVLMImageProcessor, SmolVLMProcessor, SmolVLMVideoProcessor

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=["<pad>", *SPECIAL.values()], initial_alphabet=alphabet)
    tokenizer.train_from_iterator(["open the door\n"], trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", extra_special_tokens=SPECIAL)
    SmolVLMProcessor(SmolVLMImageProcessor(), fast, SmolVLMVideoProcessor(), image_seq_len=4).save_pretrained(folder)
    size = REAL_TEXT if real_size else TEXT
    head = size["hidden_size"] // size["num_attention_heads"]
    text = size | {"model_type": "llama", "vocab_size": len(fast), "head_dim": head, "pad_token_id": 0}
    vision = (REAL_VISION if real_size else VISION) | {"patch_size": 16}
    image_token, scale = fast.convert_tokens_to_ids("<image>"), 4 if real_size else 2
    config = SmolVLMConfig(text_config=text, vision_config=vision, scale_factor=scale, image_token_id=image_token, pad_token_id=0)
    config.save_pretrained(folder)
    return folder


def tiny_smolvla(vlm: Path, steps: int = 4, chunk: int = 4, executed: int = 3) -> SmolVlaConfig:
    """SmolVLA's settings for that folder."""
    head = FlowHeadConfig(steps=steps, stochastic="all")
    return SmolVlaConfig(vlm=str(vlm), vlm_layers=2, resize_px=64, chunk=chunk, executed=executed, head=head, train_expert_only=False)


def main() -> None:
    """Write a SmolVLA policy folder with random weights, for `vla-rl bench latency`."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--real-size", action="store_true")
    known = parser.parse_args()
    folder: Path = known.out
    vlm = make_vlm(folder / "vlm", known.real_size)
    config = SmolVlaConfig(vlm=str(vlm), chunk=SPEC.chunk, executed=SPEC.executed) if known.real_size else tiny_smolvla(vlm, steps=10)
    (folder / "policy").mkdir()
    save_policy(make_policy(config, SPEC), folder / "policy")
    print(f"policy {folder / 'policy'}")


if __name__ == "__main__":
    main()
