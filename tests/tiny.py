"""Tiny random-weight models of each architecture, with a tokenizer trained on the pocket benchmark's own text."""

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Starcoder2Config,
)

torch.set_num_threads(
    1
)  # matrices this small gain nothing from a second thread, and wait for it on a busy machine

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
ARCHITECTURES = ("qwen2", "llama", "starcoder2")
_SHAPE = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
}


@lru_cache
def tokenizer_json() -> str:
    """A byte-level BPE of 600 tokens, trained on the golds and questions of the pocket benchmark."""
    folder = Path(__file__).parents[1] / "src" / "groundql" / "questions" / "pocket"
    texts = []
    for path in sorted(folder.glob("*.json")):
        for question in json.loads(path.read_text(encoding="utf-8"))["questions"]:
            texts += [question["question"], question["sql"]]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer.to_str()


def tiny_tokenizer(*, chat: bool = True) -> PreTrainedTokenizerFast:
    """With a ChatML template, or bare as a base model's."""
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(tokenizer_json()),
        eos_token="<|im_end|>" if chat else "<|endoftext|>",
        pad_token="<|endoftext|>",
    )
    if chat:
        tokenizer.chat_template = CHATML
    return tokenizer


def sentencepiece_parts(tokenizer: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    """`tokenizer` with what transformers 5.17 puts into that of a Llama's .gguf file: parts of SentencePiece, one mark for start and end."""
    inner = tokenizer.backend_tokenizer
    inner.normalizer = normalizers.Sequence([])
    inner.decoder = decoders.Sequence(
        [decoders.ByteFallback(), decoders.Fuse(), decoders.Replace("▁", " "), decoders.ByteLevel()]
    )
    inner.model.byte_fallback = True
    inner.model.fuse_unk = True
    inner.model.unk_token = "<|endoftext|>"
    tokenizer.bos_token = tokenizer.eos_token = "<|im_start|>"
    tokenizer.clean_up_tokenization_spaces = True
    return tokenizer


def tiny_model(architecture: str, *, seed: int = 0, window: int | None = None) -> Any:
    """A model of 2 layers with random weights in fp32."""
    torch.manual_seed(seed)
    vocab = len(tiny_tokenizer())
    if architecture == "qwen2":
        config = Qwen2Config(vocab_size=vocab, tie_word_embeddings=True, **_SHAPE)
    elif architecture == "llama":
        config = LlamaConfig(vocab_size=vocab, tie_word_embeddings=False, **_SHAPE)
    else:
        config = Starcoder2Config(
            vocab_size=vocab, sliding_window=window, residual_dropout=0.0, embedding_dropout=0.0, **_SHAPE
        )
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32)


def save_tiny(folder: Path, architecture: str, *, chat: bool = True) -> Path:
    """A folder of weights and tokenizer that MODEL accepts."""
    tiny_model(architecture).save_pretrained(folder)
    tiny_tokenizer(chat=chat).save_pretrained(folder)
    return folder
