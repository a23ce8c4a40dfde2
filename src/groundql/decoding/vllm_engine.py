"""vLLM as the engine: prefix caching, the adapter as a LoRA request, a grammar for each request, the gate after.

Written against vLLM 0.33 (signatures read in its wheel); not run with vLLM itself. Its structured outputs know a grammar
and no scope, so a column of the wrong table can be written: the gate then makes it an abstention. There is no going
back, no closing and no strain. Imports vllm only when a model is loaded; needs no torch of its own.
"""

import importlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from groundql.config import GenerationSettings
from groundql.decoding.gate import Gate
from groundql.decoding.grammar import lark_text, sql_rules
from groundql.decoding.rows import Decoded, seed_of
from groundql.errors import DependencyMissing
from groundql.models.chat import encode_part
from groundql.records import Prompt, Schema, Turns

RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # of an adapter, as vLLM's `max_lora_rank` has them


@dataclass(frozen=True)
class VllmModel:
    """A model inside vLLM, with what its requests carry."""

    engine: Any  # vllm.LLM
    tokenizer: Any  # of transformers, ours
    adapter: Any  # vllm.lora.request.LoRARequest, or None
    library: Any  # the module vllm

    @property
    def model(self) -> Any:
        """The engine, which is what writes here."""
        return self.engine


def load_vllm(
    weights: str,
    tokenizer: Any,
    adapter_dir: Path | None,
    *,
    settings: GenerationSettings,
    prompt_tokens: int,
) -> VllmModel:
    """The model in the folder (or of the hub id) `weights`, in 16 bit, with the adapter of a run where there is one.

    `prompt_tokens`: of the longest prompt.

    Raises:
        DependencyMissing: vllm is not installed.
        ModelMissing: grounded, and what the tokens write is not known byte by byte.
    """
    try:
        library = importlib.import_module("vllm")
    except ImportError:
        raise DependencyMissing(
            "--engine vllm needs vllm, which is not installed: pip install 'groundql[vllm]'"
        ) from None
    if settings.decoding == "grounded":
        from llguidance.hf import from_tokenizer

        from groundql.decoding.constraint import check_bytes

        check_bytes(from_tokenizer(tokenizer), tokenizer)  # as vLLM's back end reads them
    options: dict[str, Any] = {
        "model": weights,
        "dtype": "bfloat16",
        "seed": settings.seed,
        "enable_prefix_caching": True,
        "structured_outputs_config": {"backend": "guidance"},
        "max_model_len": prompt_tokens + settings.max_new_tokens,
    }
    if settings.batch_size:
        options["max_num_seqs"] = settings.batch_size
    adapter = None
    if adapter_dir is not None:
        rank = json.loads((adapter_dir / "adapter_config.json").read_text(encoding="utf-8"))["r"]
        options |= {"enable_lora": True, "max_lora_rank": next(one for one in RANKS if one >= rank)}
        request = importlib.import_module("vllm.lora.request")
        adapter = request.LoRARequest("groundql", 1, str(adapter_dir))
    return VllmModel(library.LLM(**options), tokenizer, adapter, library)


def decode_with_vllm(
    model: VllmModel,
    prompts: Sequence[Prompt],
    schemas: dict[str, Schema],
    turns: Turns,
    *,
    settings: GenerationSettings,
) -> list[tuple[Decoded, ...]]:
    """What the model writes after each prompt, `settings.samples` texts each; grounded, each an answer or an abstention."""
    if not prompts:
        return []
    tokenizer = model.tokenizer
    ends = sorted({tokenizer.convert_tokens_to_ids(turns.end), tokenizer.eos_token_id})
    grammars: dict[str, str] = {}
    gates: dict[str, Gate] = {}
    if settings.decoding == "grounded":
        for db_id in {prompt.db_id for prompt in prompts}:
            grammars[db_id] = lark_text(sql_rules(schemas[db_id]))
            gates[db_id] = Gate(schemas[db_id])
    ids = [encode_part(tokenizer, p.prefix, turns) + encode_part(tokenizer, p.suffix, turns) for p in prompts]
    requests = [_request(model, prompt, grammars.get(prompt.db_id), ends, settings) for prompt in prompts]
    outputs = model.engine.generate(
        [{"prompt_token_ids": list(one)} for one in ids],
        requests,
        use_tqdm=False,
        lora_request=model.adapter,
    )
    return [
        tuple(
            _decoded(one, tokenizer, frozenset(ends), gates.get(prompt.db_id), len(prompt_ids))
            for one in sorted(output.outputs, key=lambda completion: int(completion.index))
        )
        for prompt, prompt_ids, output in zip(prompts, ids, outputs, strict=True)
    ]


def _request(
    model: VllmModel, prompt: Prompt, grammar: str | None, ends: list[int], settings: GenerationSettings
) -> Any:
    """The sampling parameters of one prompt."""
    options: dict[str, Any] = {
        "n": settings.samples,
        "temperature": settings.temperature,
        "max_tokens": settings.max_new_tokens,
        "stop_token_ids": ends,
        "logprobs": 0,  # of the tokens taken alone: else there is no cumulative one
    }
    if settings.temperature:
        options["seed"] = seed_of(prompt.question_id, 0, settings.seed) & (2**31 - 1)
    if grammar is not None:
        params = importlib.import_module("vllm.sampling_params")
        options["structured_outputs"] = params.StructuredOutputsParams(grammar=grammar)
    return model.library.SamplingParams(**options)


def _decoded(one: Any, tokenizer: Any, ends: frozenset[int], gate: Gate | None, n_prompt: int) -> Decoded:
    """One text, through the gate where there is one."""
    ids = list(one.token_ids)
    stopped = one.finish_reason == "stop"
    if ids and ids[-1] in ends:
        ids.pop()
    log_probability = float(one.cumulative_logprob or 0.0)
    if gate is None:
        return Decoded(tuple(ids), "free", stopped, log_probability=log_probability, n_prompt_tokens=n_prompt)
    query = tokenizer.decode(ids, skip_special_tokens=True).removeprefix(" ").removesuffix(";")
    reason = "token budget" if not stopped else ""
    if stopped:
        refusal = gate.refusal(query)
        reason = f"gate: {refusal}" if refusal is not None else ""
    return Decoded(
        tuple(ids),
        "abstained" if reason else "answer",
        stopped,
        reason=reason,
        sql=None if reason else query,
        log_probability=log_probability,
        n_prompt_tokens=n_prompt,
    )
