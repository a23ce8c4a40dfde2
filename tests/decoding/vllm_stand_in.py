"""A stand-in for vLLM with the signatures of its version 0.33.0, as far as we call them; it writes what it is told.

Arguments that the real ones do not have are errors here too. LLM takes further engine arguments by keyword, as the real
one does; those that we use are checked by name.
"""

from dataclasses import dataclass
from types import ModuleType
from typing import Any

from llguidance import LLMatcher, grammar_from

ENGINE_ARGUMENTS = {"enable_prefix_caching", "enable_lora", "max_lora_rank", "max_model_len", "max_num_seqs"}
MAX_LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)


@dataclass
class StructuredOutputsParams:
    json: str | dict[str, Any] | None = None
    regex: str | None = None
    choice: list[str] | None = None
    grammar: str | None = None
    json_object: bool | None = None

    def __post_init__(self):
        assert sum(value is not None for value in vars(self).values()) == 1


@dataclass(kw_only=True)
class SamplingParams:
    n: int = 1
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int | None = None
    stop_token_ids: list[int] | None = None
    max_tokens: int | None = 16
    logprobs: int | None = None
    skip_special_tokens: bool = True
    structured_outputs: StructuredOutputsParams | None = None


@dataclass
class LoRARequest:
    lora_name: str
    lora_int_id: int
    lora_path: str = ""

    def __post_init__(self):
        assert self.lora_int_id >= 1
        assert self.lora_path


@dataclass
class CompletionOutput:
    index: int
    text: str
    token_ids: list[int]
    cumulative_logprob: float | None
    logprobs: Any
    finish_reason: str | None = None
    stop_reason: int | str | None = None


@dataclass
class RequestOutput:
    outputs: list[CompletionOutput]


class LLM:
    """Writes `said[i][s]` for sample s of prompt i: a text and whether it ended; with a grammar, only what it derives."""

    said: list[list[tuple[str, bool]]] = []
    tokenizer: Any = None
    last: "LLM"

    def __init__(
        self, model, *, tokenizer=None, dtype="auto", seed=0, structured_outputs_config=None, **kwargs
    ):
        assert set(kwargs) <= ENGINE_ARGUMENTS, kwargs
        assert kwargs.get("max_lora_rank", 16) in MAX_LORA_RANKS
        assert structured_outputs_config["backend"] in ("auto", "xgrammar", "guidance", "outlines")
        self.options = {"model": model, "dtype": dtype, **kwargs}
        LLM.last = self

    def generate(
        self,
        prompts,
        sampling_params=None,
        *,
        use_tqdm=True,
        lora_request=None,
        priority=None,
        tokenization_kwargs=None,
        mm_processor_kwargs=None,
    ):
        assert len(prompts) == len(sampling_params)
        self.prompts, self.params, self.lora_request = prompts, sampling_params, lora_request
        return [
            RequestOutput([self.completion(i, text, ended, params) for i, (text, ended) in enumerate(said)])
            for said, params in zip(self.said, sampling_params, strict=True)
        ]

    def completion(self, index, text, ended, params):
        ids = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        assert len(ids) <= params.max_tokens
        if params.structured_outputs is not None:
            self.check_grammar(params.structured_outputs.grammar, ids, ended)
        end = params.stop_token_ids[:1] if ended else []
        total = -float(index) if params.logprobs is not None else None
        return CompletionOutput(index, text, [*ids, *end], total, None, "stop" if ended else "length")

    def check_grammar(self, grammar, ids, ended):
        """As vLLM's guidance back end compiles it."""
        from llguidance.hf import from_tokenizer

        matcher = LLMatcher(from_tokenizer(self.tokenizer), grammar_from("grammar", grammar))
        assert not matcher.is_error(), matcher.get_error()
        assert matcher.consume_tokens(ids)
        assert matcher.is_accepting() or not ended


def stand_in(monkeypatch, tokenizer, said):
    """Put the stand-in where vllm would be."""
    import sys

    library, lora, sampling = (
        ModuleType("vllm"),
        ModuleType("vllm.lora.request"),
        ModuleType("vllm.sampling_params"),
    )
    library.LLM, library.SamplingParams = LLM, SamplingParams
    lora.LoRARequest = LoRARequest
    sampling.StructuredOutputsParams = StructuredOutputsParams
    for module in (library, lora, sampling):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(LLM, "said", said)
    monkeypatch.setattr(LLM, "tokenizer", tokenizer)
