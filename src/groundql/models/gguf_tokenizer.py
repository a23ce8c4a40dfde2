"""The tokenizer of a .gguf file as the file itself describes it.

transformers rebuilds it from the file, in some versions with parts of another kind: 5.17 gives the byte-level BPE of a
Llama the decoder of SentencePiece and another end token, so that bytes of tokens are read wrongly.
"""

from pathlib import Path
from typing import Any

from tokenizers import decoders

BYTE_LEVEL = "gpt2"  # the file's name for byte-level BPE
SPECIAL = {"bos": "bos_token", "eos": "eos_token", "unknown": "unk_token", "padding": "pad_token"}


def as_in_file(tokenizer: Any, gguf_path: Path) -> Any:
    """`tokenizer`, which transformers made of the file, with the file's own kind of decoder and special tokens; changed in place."""
    facts = _facts(gguf_path)
    if facts.get("model") == BYTE_LEVEL:
        inner = tokenizer.backend_tokenizer
        inner.decoder = decoders.ByteLevel()
        inner.model.byte_fallback = False
        inner.model.fuse_unk = False
        inner.model.unk_token = None
        tokenizer.clean_up_tokenization_spaces = False
    for name, attribute in SPECIAL.items():
        if (place := facts.get(f"{name}_token_id")) is not None:
            setattr(tokenizer, attribute, tokenizer.convert_ids_to_tokens(int(place)))
    return tokenizer


def _facts(gguf_path: Path) -> dict[str, Any]:
    """The single values of the file's tokenizer, by their names without `tokenizer.ggml.`."""
    from gguf import GGUFReader  # other models are read without it

    fields = GGUFReader(gguf_path).fields.items()
    prefix = "tokenizer.ggml."
    return {
        name.removeprefix(prefix): field.contents()
        for name, field in fields
        if name.startswith(prefix) and len(field.types) == 1
    }
