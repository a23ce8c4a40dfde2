"""A finished run as weights of their own: merged safetensors, or a .gguf file with a Modelfile. Whole or not at all."""

import copy
import math
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import save_torch_state_dict
from transformers import GenerationConfig

from groundql.databases.open_database import OpenDatabase
from groundql.errors import AskedWrongly, GroundqlError, ModelMissing
from groundql.generating import Writer, load_writer
from groundql.models.chat import template_of, turns_of
from groundql.models.exported import FILE_NAME, Exported, Precision
from groundql.models.gguf_file import check_writable, n_bytes, stored_as, write_gguf
from groundql.models.load import quiet
from groundql.models.merge import Weight, merged_weights
from groundql.models.source import is_run
from groundql.prompts.budget import fit_prompt
from groundql.prompts.render import prompt_fingerprint
from groundql.records import Question, Schema, write_text
from groundql.training.run_folder import RunInfo, read_run, versions

SPARE_BYTES = 64 * 2**20  # tokenizer, metadata, and what a disk needs to breathe
ANSWER_TOKENS = 512  # beside those of the prompt

Say = Callable[[str], None]


def export_run(
    run_dir: Path, out_dir: Path, *, precision: Precision, database: str | None = None, say: Say
) -> Exported:
    """Write the run's model into `out_dir`, which must not be there: "bf16" as safetensors, else as a .gguf file.

    The base is read as it was in training (4 bit, where it was), unpacked, and LoRA's product added in fp32; the sum is
    rounded once. groundql.json beside it keeps the prompt, so that `groundql generate` asks it as it was trained. With
    `database`, a path or URL, the Modelfile of a .gguf file has its schema as the system text.

    Raises:
        AskedWrongly: no finished run, or a folder that is there.
        ModelMissing: the run's base model is not to be had.
        GroundqlError: a full disk, or a model that GGUF cannot hold.
    """
    run = _checked_run(run_dir)
    if out_dir.exists() or out_dir.is_symlink():
        raise AskedWrongly(f"{out_dir} is there already; give a new folder, or remove it")
    schema = _read_schema(database, run) if database else None
    say(f"export {run_dir}: {run.base_model} with its adapter, as {precision}")
    writer = load_writer(str(run_dir), merge=False)
    tokenizer = _with_template(writer)
    weights = merged_weights(writer.loaded.model)
    config = _plain_config(writer)
    n_parameters = sum(math.prod(weight.shape) for weight in weights)
    exported = Exported(
        base_model=run.base_model,
        weights="" if precision == "bf16" else f"model-{precision}.gguf",
        precision=precision,
        n_parameters=n_parameters,
        turns=writer.turns,
        prompt=writer.prompt,
        prompt_fingerprint=prompt_fingerprint(writer.prompt, writer.turns),
        config_fingerprint=run.config_fingerprint,
        versions=versions(),
    )
    if precision != "bf16":
        check_writable(config, tokenizer)
    system = system_text(writer, schema) if schema else ""
    _check_disk(out_dir, weights, precision)
    out_dir.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(dir=out_dir.parent, prefix=f".{out_dir.name}."))
    try:
        if precision == "bf16":
            _write_merged(beside, weights, config, tokenizer, writer)
        else:
            _write_gguf(beside, weights, config, tokenizer, exported, run_dir)
            write_text(beside / "Modelfile", modelfile(exported, system))
        write_text(beside / FILE_NAME, exported.model_dump_json(indent=2, by_alias=True) + "\n")
        beside.chmod(0o755)
        if out_dir.exists():
            raise AskedWrongly(f"{out_dir} has come into being meanwhile; give a new folder")
        beside.rename(out_dir)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return exported


def _checked_run(run_dir: Path) -> RunInfo:
    if not run_dir.is_dir():
        raise AskedWrongly(f"{run_dir} is no folder; give the run folder that `groundql train` wrote")
    if is_run(str(run_dir)):
        return read_run(run_dir)
    if (run_dir / "settings.json").is_file():
        raise AskedWrongly(f"{run_dir} is not finished; `groundql train --resume {run_dir}` goes on with it")
    raise AskedWrongly(f"{run_dir} holds no adapter/: it is no run folder of `groundql train`")


def _read_schema(database: str, run: RunInfo) -> Schema:
    with OpenDatabase(database, n_examples=run.prompt.n_examples) as opened:
        return opened.schema


def _with_template(writer: Writer) -> Any:
    """The tokenizer, with a chat template of the prompt's marks where it has none.

    Raises:
        ModelMissing: a template that would not give the marks back.
    """
    tokenizer = copy.deepcopy(writer.loaded.tokenizer)
    if not tokenizer.chat_template:
        tokenizer.chat_template = template_of(writer.turns)
    if turns_of(tokenizer) != writer.turns:
        raise ModelMissing("the chat template does not give the marks that the run was trained with")
    return tokenizer


def _plain_config(writer: Writer) -> Any:
    """The model's config as that of dense 16-bit weights."""
    config = copy.deepcopy(writer.loaded.model.config)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    config.dtype = "bfloat16"
    tokenizer = writer.loaded.tokenizer
    config.bos_token_id, config.pad_token_id = tokenizer.bos_token_id, tokenizer.pad_token_id
    config.eos_token_id = tokenizer.convert_tokens_to_ids(writer.turns.end)
    return config


def _check_disk(out_dir: Path, weights: list[Weight], precision: Precision) -> None:
    """Raise GroundqlError, before anything is written, where the weights will not fit."""
    if precision == "bf16":
        needed = sum(2 * math.prod(weight.shape) for weight in weights)
    else:
        needed = sum(n_bytes(weight.shape, stored_as(weight.shape, precision)) for weight in weights)
    needed += SPARE_BYTES
    place = next(folder for folder in [out_dir.absolute(), *out_dir.absolute().parents] if folder.is_dir())
    free = shutil.disk_usage(place).free
    if free < needed:
        raise GroundqlError(
            f"{place} has {free / 2**20:.0f} MiB free, the export takes {needed / 2**20:.0f} MiB"
        )


def _write_merged(folder: Path, weights: list[Weight], config: Any, tokenizer: Any, writer: Writer) -> None:
    dense = {weight.name: weight.values().to(torch.bfloat16).cpu() for weight in weights}
    with quiet():
        save_torch_state_dict(dense, folder, metadata={"format": "pt"})
    for path in folder.glob("*.safetensors"):
        path.chmod(0o644)
    config.save_pretrained(folder)
    _generation_config(writer).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _generation_config(writer: Writer) -> Any:
    """Greedy, and ending where an answer ends."""
    tokenizer = writer.loaded.tokenizer
    ends = {tokenizer.convert_tokens_to_ids(writer.turns.end), tokenizer.eos_token_id}
    return GenerationConfig(
        do_sample=False,
        eos_token_id=sorted(end for end in ends if end is not None),
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
    )


def _write_gguf(
    folder: Path, weights: list[Weight], config: Any, tokenizer: Any, exported: Exported, run_dir: Path
) -> None:
    write_gguf(
        folder / exported.weights,
        weights,
        config=config,
        tokenizer=tokenizer,
        precision=exported.precision,
        end=exported.turns.end,
        name=run_dir.resolve().name,
        base_model=exported.base_model,
    )


def system_text(writer: Writer, schema: Schema) -> str:
    """What the model reads before every question on this schema.

    Raises:
        AskedWrongly: the schema fits a prompt only in part, which depends on the question then.
    """
    nothing = Question(question_id="", db_id=schema.db_id, text="")
    prompt = fit_prompt(
        nothing, schema, settings=writer.prompt, turns=writer.turns, count_tokens=writer.count_tokens
    )
    if "columns" in prompt.shrunk:
        raise AskedWrongly(
            f"the schema of {schema.db_id} does not fit prompt.max_tokens ({writer.prompt.max_tokens}) as a whole: "
            "leave --database out, and serve it with `groundql serve`"
        )
    turns = writer.turns
    return prompt.prefix[len(turns.before_system) : len(prompt.prefix) - len(turns.after_system)]


def modelfile(exported: Exported, system: str) -> str:
    """What `ollama create` reads: the file, the prompt's marks as a template, greedy decoding, and room for the prompt."""
    turns = exported.turns
    asked = (
        turns.before_system,
        "{{ .System }}",
        turns.after_system,
        turns.before_user,
        "{{ .Prompt }}",
        turns.after_user,
    )
    lines = [
        "# ollama create NAME -f Modelfile",
        f"FROM ./{exported.weights}",
        f'TEMPLATE """{"".join(asked)}"""',
        f'PARAMETER stop "{turns.end}"',
        "PARAMETER temperature 0",
        f"PARAMETER num_ctx {exported.prompt.max_tokens + ANSWER_TOKENS}",
    ]
    if system:
        if '"""' in system:
            raise AskedWrongly("this schema holds three double quotes in a row, which no Modelfile can")
        lines.append(f'SYSTEM """{system}"""')
    return "\n".join(lines) + "\n"
