"""A vision-language model folder small enough for tests: SmolVLM's configuration, processor and a byte-level tokenizer."""

from __future__ import annotations

from pathlib import Path

from policies.config import FlowHeadConfig, SmolVlaConfig

SPECIAL = {
    "fake_image_token": "<fake_token_around_image>",
    "image_token": "<image>",
    "global_image_token": "<global-img>",
    "end_of_utterance_token": "<end_of_utterance>",
}


def make_vlm(folder: Path) -> Path:
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
    text = {"model_type": "llama", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "vocab_size": len(fast)}
    text |= {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "pad_token_id": 0}
    vision = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    vision |= {"image_size": 64, "patch_size": 16}
    image_token = fast.convert_tokens_to_ids("<image>")
    SmolVLMConfig(text_config=text, vision_config=vision, scale_factor=2, image_token_id=image_token, pad_token_id=0).save_pretrained(
        folder
    )
    return folder


def tiny_smolvla(vlm: Path, steps: int = 4, chunk: int = 4, executed: int = 3) -> SmolVlaConfig:
    """SmolVLA's settings for that folder."""
    head = FlowHeadConfig(steps=steps, stochastic="all")
    return SmolVlaConfig(vlm=str(vlm), vlm_layers=2, resize_px=64, chunk=chunk, executed=executed, head=head, train_expert_only=False)
