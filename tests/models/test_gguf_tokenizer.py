"""The tokenizer of a .gguf file: put right where transformers gives it parts of another kind, else left as it is."""

import pytest
from gguf import GGUFWriter
from tokenizers import normalizers

from groundql.decoding.constraint import Vocabulary
from groundql.models.gguf_tokenizer import as_in_file
from tests.tiny import sentencepiece_parts, tiny_tokenizer

END_OF_TEXT, START, END = 0, 1, 2  # tokens of `tiny_tokenizer`
TEXTS = (
    'SELECT "a b" FROM c',
    "WHERE name = 'Zoë; 日本' AND n > 2024.5",
    "<|im_start|>user\nIs n't this , <0x41> and ▁ plain ?<|im_end|>",
    "  two  spaces\n\tcafe\u0301",
)


@pytest.fixture
def write_file(tmp_path):
    """Write a .gguf file that holds a tokenizer of this kind, with these special tokens, and no weight."""

    def write(kind, **ids):
        path = tmp_path / "m.gguf"
        writer = GGUFWriter(path, "llama")
        writer.add_tokenizer_model(kind)
        writer.add_token_list(tiny_tokenizer().convert_ids_to_tokens(range(len(tiny_tokenizer()))))
        for name, place in ids.items():
            getattr(writer, f"add_{name}_token_id")(place)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.close()
        return path

    return write


def ids_of(tokenizer):
    return [tokenizer(text, add_special_tokens=False)["input_ids"] for text in TEXTS]


def test_tokens_of_a_byte_level_file_write_their_bytes_again(write_file):
    tokenizer = as_in_file(sentencepiece_parts(tiny_tokenizer()), write_file("gpt2", eos=END))
    vocabulary = Vocabulary(tokenizer, {END})
    for text, ids in zip(TEXTS[:2], ids_of(tokenizer), strict=False):
        assert b"".join(map(vocabulary.piece, ids)) == text.encode()


def test_texts_come_back_as_they_were_and_their_ids_stay(write_file):
    before = ids_of(tiny_tokenizer())
    tokenizer = as_in_file(sentencepiece_parts(tiny_tokenizer()), write_file("gpt2", eos=END))
    assert ids_of(tokenizer) == before
    assert [tokenizer.decode(ids) for ids in before] == list(TEXTS)
    assert tokenizer.clean_up_tokenization_spaces is False


def test_it_stays_so_in_a_folder(write_file, tmp_path):
    as_in_file(sentencepiece_parts(tiny_tokenizer()), write_file("gpt2", eos=END)).save_pretrained(tmp_path)
    again = type(tiny_tokenizer()).from_pretrained(tmp_path)
    assert again.eos_token_id == END
    assert [again.decode(ids) for ids in ids_of(again)] == list(TEXTS)
    Vocabulary(again, {END})


def test_special_tokens_are_those_that_the_file_names(write_file):
    path = write_file("gpt2", bos=START, eos=END, unk=END_OF_TEXT, pad=END)
    tokenizer = as_in_file(sentencepiece_parts(tiny_tokenizer()), path)
    assert tokenizer.special_tokens_map == {
        "bos_token": "<|im_start|>",
        "eos_token": "<|im_end|>",
        "unk_token": "<|endoftext|>",
        "pad_token": "<|im_end|>",
    }


def test_a_special_token_that_the_file_does_not_name_is_left(write_file):
    tokenizer = as_in_file(tiny_tokenizer(), write_file("gpt2", eos=START))
    assert tokenizer.special_tokens_map == {"eos_token": "<|im_start|>", "pad_token": "<|endoftext|>"}


def test_a_sentencepiece_file_keeps_its_decoder_and_gets_its_special_tokens(write_file):
    mixed = sentencepiece_parts(tiny_tokenizer())
    before = mixed.backend_tokenizer.to_str()
    tokenizer = as_in_file(mixed, write_file("llama", eos=END))
    assert tokenizer.backend_tokenizer.to_str() == before
    assert tokenizer.clean_up_tokenization_spaces is True
    assert tokenizer.eos_token_id == END


def test_a_normalizer_of_the_file_s_own_kind_stays(write_file):
    """That of Qwen2: e and a combining accent are one character."""
    tokenizer = tiny_tokenizer()
    tokenizer.backend_tokenizer.normalizer = normalizers.NFC()
    as_in_file(tokenizer, write_file("gpt2", eos=END))
    assert tokenizer("e\u0301")["input_ids"] == tiny_tokenizer()("é")["input_ids"]
