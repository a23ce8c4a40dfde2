"""A model that writes what it is told: everything around it is the real code."""

from types import SimpleNamespace

import torch

from groundql.config import PromptSettings
from groundql.generating import Writer
from groundql.models.chat import turns_of
from groundql.models.load import LoadedModel
from tests.tiny import tiny_tokenizer


class ScriptedModel:
    """Answers every prompt with `text` and the end token, as a language model would; one row at a time."""

    device = torch.device("cpu")
    dtype = torch.float32

    def __init__(self, text, tokenizer, end):
        self.config = SimpleNamespace(
            _attn_implementation="sdpa", sliding_window=None, vocab_size=len(tokenizer)
        )
        self.ids = [
            *tokenizer(text, add_special_tokens=False)["input_ids"],
            tokenizer.convert_tokens_to_ids(end),
        ]
        self.n_tokens = len(tokenizer)
        self.first = None  # the position of the prompt's last token

    def set_attn_implementation(self, name):
        self.config._attn_implementation = name

    def __call__(self, input_ids, position_ids, **_):
        at = 0
        if input_ids.shape[1] > 1:  # a prompt is being read: nothing is asked yet
            self.first = None
        else:
            self.first = position_ids[0, 0] if self.first is None else self.first
            at = min(int(position_ids[0, 0] - self.first), len(self.ids) - 1)
        logits = torch.zeros(len(input_ids), 1, self.n_tokens)
        logits[:, -1, self.ids[at]] = 1.0
        return SimpleNamespace(logits=logits)


def scripted_writer(text):
    """A writer whose model always writes `text`."""
    tokenizer = tiny_tokenizer()
    turns = turns_of(tokenizer)
    model = ScriptedModel(text, tokenizer, turns.end)
    loaded = LoadedModel(model=model, tokenizer=tokenizer, dtype=model.dtype, device=model.device)
    return Writer(loaded=loaded, turns=turns, prompt=PromptSettings())
