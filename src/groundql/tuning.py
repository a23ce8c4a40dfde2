"""From a config to a finished run folder: data, prompts, preflight, training with executed dev scores, adapter."""

from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from groundql.config import Config
from groundql.databases.binding import prepare
from groundql.encoding import encode_labels
from groundql.errors import AskedWrongly, GroundqlError
from groundql.generating import Writer, read_schemas, write_completions
from groundql.models.catalog import BaseModelRow
from groundql.models.chat import turns_of
from groundql.models.fitting import check_fits, with_pack, with_settings
from groundql.models.load import LoadedModel, best_device, load_base, load_tokenizer, weights_place
from groundql.models.memory import Plan, plan_of, write_plan
from groundql.models.shape import read_shape
from groundql.models.source import ModelSource, find_base
from groundql.models.workload import QuestionLengths
from groundql.pipeline import judge_completions
from groundql.prompts.render import prompt_fingerprint
from groundql.questions.load import load_data
from groundql.questions.sample import stratified_sample
from groundql.records import DataSet, Question, Turns
from groundql.training import processes
from groundql.training.examples import Example
from groundql.training.packs import check_lengths
from groundql.training.preflight import (
    check_disk,
    check_positions,
    check_splits,
    rate_warning,
    shown_labels,
    without_leaks,
)
from groundql.training.processes import StoppedElsewhere
from groundql.training.run_folder import RunInfo, check_free, finish_run, start_run, versions, write_run
from groundql.training.step import cap_memory
from groundql.training.trainer import OnStep, ScoreDev, add_lora, train_adapter

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class _Prepared:
    """What training starts from, checked."""

    examples: list[Example]
    dev_examples: list[Example]
    dev: DataSet | None
    info: RunInfo
    plan: Plan | None
    pack_tokens: int | None  # what the settings say, or what "auto" came to


def tune(
    config: Config, run_dir: Path, *, resume: bool = False, say: Say, on_step: OnStep | None = None
) -> RunInfo:
    """Train as `config` says and leave a finished run in `run_dir`.

    Where a launcher started several processes, each calls this: the first reads, checks, writes and scores for all.

    Raises:
        AskedWrongly: data, settings or folder that cannot give an honest run (see preflight).
        TrainingStopped: memory, or gradients that stay non-finite.
    """
    processes.join()
    try:
        info = _tune(config, run_dir, resume, say if processes.is_first() else _say_nothing, on_step)
    except GroundqlError as error:
        processes.name_process(error)
        raise
    except RuntimeError as error:
        if processes.is_lost_connection(error):
            raise StoppedElsewhere(processes.named("stopped because another process ended")) from None
        raise
    processes.leave()
    return info


def _say_nothing(_: str) -> None:
    """For all processes but the first."""


def _tune(config: Config, run_dir: Path, resume: bool, say: Say, on_step: OnStep | None) -> RunInfo:
    settings = config
    prepared = processes.from_first(lambda: _prepare(settings, run_dir, resume, say))
    info, plan = prepared.info, prepared.plan
    if plan and plan.card_mib:
        cap_memory(plan.card_mib, plan.context_mib)
    writer = _load_writer(config, info.turns)
    model = add_lora(writer.loaded.model, config.lora, seed=config.training.seed)
    if prepared.pack_tokens:
        config = with_settings(config, [("training.pack_tokens", prepared.pack_tokens)])
    processes.from_first(lambda: start_run(run_dir, settings, info, resume=resume))
    if plan and processes.is_first():
        write_plan(run_dir, plan)
    n_trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    say(f"adapter: {n_trainable:,} trainable weights, rank {config.lora.rank}, {_targets(config)}")
    result = train_adapter(
        model,
        prepared.examples,
        prepared.dev_examples,
        config=config,
        run_dir=run_dir,
        pad_id=writer.loaded.tokenizer.pad_token_id,
        score_dev=_scorer(prepared, writer, config),
        on_step=on_step,
        resume=resume,
        keeps=plan.keeps if plan else None,
        graph=plan.graph if plan else True,
        say=say,
    )
    results = {key: round(float(value), 3) for key, value in asdict(result).items() if value is not None}
    if plan:
        results["predicted_peak_mib"] = round(plan.peak_mib, 1)
    info = info.model_copy(update={"results": results})
    processes.from_first(lambda: _finish(model, run_dir, info))
    return info


def _finish(model: Any, run_dir: Path, info: RunInfo) -> None:
    saved_dir = run_dir / ".adapter"
    model.save_pretrained(str(saved_dir))
    write_run(run_dir, info)
    finish_run(run_dir, saved_dir)


def _load_writer(config: Config, turns: Turns) -> Writer:
    source, device = find_base(config.model.name), best_device()
    tokenizer = load_tokenizer(source)
    model = load_base(source, config.model, device=device)
    loaded = LoadedModel(model=model, tokenizer=tokenizer, dtype=model.dtype, device=device)
    return Writer(loaded=loaded, turns=turns, prompt=config.prompt)


def _shape(config: Config, say: Say) -> BaseModelRow | None:
    """The model's shape, of a .gguf file from what it is turned into; None, and said so, where it is not known."""
    source = find_base(config.model.name)
    if source.gguf_path and source.row is None:
        source = ModelSource(name=source.name, folder=Path(weights_place(source)))
    try:
        return read_shape(source)
    except AskedWrongly as error:
        say(f"no memory plan: {error}")
        return None


def _plan(config: Config, row: BaseModelRow, examples: list[Example]) -> Plan:
    """The memory plan of these very examples.

    Raises:
        GroundqlError: `memory_gib` is set and too small; names the change that would fit.
    """
    lengths = _lengths(examples)
    plan = plan_of(config, row, lengths)
    check_fits(plan, config, row, lengths)
    return plan


def _lengths(examples: list[Example]) -> list[QuestionLengths]:
    return [QuestionLengths(e.prefix, len(e.prefix), len(e.suffix), len(e.answer)) for e in examples]


def _prepare(config: Config, run_dir: Path, resume: bool, say: Say) -> _Prepared:
    """Data read, prompts encoded, and everything checked that can be before weights are loaded; all of it said."""
    settings = config
    if not resume:
        check_free(run_dir)
    given = _read_splits(config, say)
    train, dev = given["train"], given.get("dev")
    row = _shape(config, say)
    if warning := rate_warning(config, row):
        say(warning)
    if row:
        say(check_disk(config, row, run_dir))
    evaluated = [part for name, part in given.items() if name != "train"]
    questions, counts = _training_questions(config, train, evaluated, say)
    if dev is not None:
        dev = dev.model_copy(update={"questions": spread(dev.questions, config.data.dev_limit)})

    tokenizer = load_tokenizer(find_base(config.model.name))
    turns = turns_of(tokenizer)
    used = train.model_copy(update={"questions": tuple(questions)})
    examples, of_examples = _encode(config, used, tokenizer, turns, say)
    dev_examples = encode_labels(dev, config.prompt, tokenizer, turns).examples if dev else []
    config = with_pack(config, row, _lengths([*examples, *dev_examples]))
    if config.training.packing == "shared":
        check_lengths([*examples, *dev_examples], config.training.budget_tokens)
    check_positions([*examples, *dev_examples], row)
    for line in shown_labels(examples, tokenizer):
        say(line)
    fingerprint = prompt_fingerprint(config.prompt, turns)
    say(f"prompt {fingerprint}, answers end with {turns.end!r}: all labels decode to gold SQL and that")
    info = RunInfo(
        base_model=config.model.name,
        quantization=config.model.quantization,
        double_quantization=config.model.double_quantization,
        turns=turns,
        prompt=config.prompt,
        prompt_fingerprint=fingerprint,
        config_fingerprint=settings.fingerprint(),
        data_fingerprints={name: part.fingerprint() for name, part in given.items()},
        counts=of_examples | counts | _n_processes(),
        versions=versions(),
    )
    return _Prepared(
        examples=examples,
        dev_examples=dev_examples,
        dev=dev,
        info=info,
        plan=_plan(config, row, examples) if row else None,
        pack_tokens=config.training.budget_tokens if config.training.packing == "shared" else None,
    )


def _read_splits(config: Config, say: Say) -> dict[str, DataSet]:
    """`train`, and `dev` and `test` where the config names them; no database in two, unless it says so."""
    named = {"train": config.data.train, "dev": config.data.dev, "test": config.data.test}
    given = {name: load_data(source) for name, source in named.items() if source}
    if config.data.same_databases:
        say(
            "train, dev and test may ask the same databases: a score holds for those alone, not for a new one"
        )
    else:
        check_splits(given)
    return given


def _encode(
    config: Config, data: DataSet, tokenizer: Any, turns: Turns, say: Say
) -> tuple[list[Example], dict[str, int]]:
    """Examples of the questions to train on, and how many there are, were left out, and lost which part of the prompt.

    Raises:
        AskedWrongly: none is left; says which setting left them out.
    """
    n_orders, seed = config.data.table_orders, config.training.seed
    encoded = encode_labels(data, config.prompt, tokenizer, turns, n_orders=n_orders, seed=seed)
    examples, too_long, longest = encoded.examples, encoded.n_too_long, config.data.max_sql_tokens
    if longest:
        examples = [example for example in examples if len(example.answer) <= longest]
    long_sql = len(encoded.examples) - len(examples)
    shrunk = Counter(part for prompt in encoded.prompts for part in prompt.shrunk)
    if encoded.n_not_in_dialect:
        reasons = "; ".join(f"{n} {reason}" for reason, n in encoded.reasons.most_common(3))
        say(
            f"left out: {encoded.n_not_in_dialect} whose gold is not in the {config.prompt.dialect} dialect: {reasons}"
        )
    if not examples:
        why = f"no question of {config.data.train} fits prompt.max_tokens (now {config.prompt.max_tokens}); raise it"
        if long_sql:
            why = f"{config.data.train}: no SQL is as short as data.max_sql_tokens (now {longest}); raise it"
        elif not too_long:
            why = f"{config.data.train}: no gold is in the {config.prompt.dialect} dialect"
        raise AskedWrongly(why)
    say(
        f"training on {len(examples)} questions of {len({e.db_id for e in examples})} databases"
        + (f"; {too_long} left out: longer than prompt.max_tokens" if too_long else "")
        + (f"; {long_sql} left out: SQL longer than data.max_sql_tokens" if long_sql else "")
        + (f"; shrunk to fit: {dict(shrunk)}" if shrunk else "; none shrunk or cut")
    )
    return examples, {
        "train_questions": len(examples),
        "train_questions_too_long": too_long,
        "train_questions_not_in_dialect": encoded.n_not_in_dialect,
        **({"train_questions_sql_too_long": long_sql} if long_sql else {}),
        **{f"shrunk_{part}": n for part, n in shrunk.items()},
    }


def _n_processes() -> dict[str, int]:
    return {"processes": processes.n_processes()} if processes.n_processes() > 1 else {}


def _training_questions(
    config: Config, train: DataSet, evaluated: list[DataSet], say: Say
) -> tuple[list[Question], dict[str, int]]:
    """The sampled questions that no evaluation set holds too, and how many were left out why.

    As they are ("raw"), golds must bind. In a dialect that is asked of their rewritten form, by `encode_labels`: Spider's
    double-quoted strings bind only there.
    """
    questions = list(train.questions)
    if config.data.fraction < 1:
        questions = list(
            stratified_sample(
                questions, config.data.fraction, by=config.data.stratify_by, seed=config.training.seed
            )
        )
    questions, leaks = without_leaks(questions, [q for part in evaluated for q in part.questions])
    kept = [q for q in questions if q.gold_sql]
    if config.prompt.dialect == "raw":
        schemas = read_schemas(train.model_copy(update={"questions": tuple(questions)}), 0)
        kept = [q for q in kept if prepare(schemas[q.db_id], q.gold_sql or "") is None]
    left_out = {
        "left_out_asked_in_dev_or_test": leaks["asked"],
        "left_out_gold_in_dev_or_test": leaks["written"],
        "left_out_gold_does_not_bind": len(questions) - len(kept),
    }
    if any(left_out.values()):
        say(
            f"left out: {leaks['asked']} asked in dev or test too, {leaks['written']} whose gold SQL stands there too, "
            f"{len(questions) - len(kept)} whose gold does not bind"
        )
    elif evaluated:
        say("no database, question or gold SQL of train stands in dev or test")
    if not kept:
        raise AskedWrongly(f"{config.data.train}: no question is left to train on")
    return kept, {name: n for name, n in left_out.items() if n}


def _scorer(prepared: _Prepared, writer: Writer, config: Config) -> ScoreDev | None:
    """A function from the model in training to its executed scores on dev; None where nothing needs them."""
    dev = prepared.dev
    if dev is None or config.training.select_by not in ("ex_strict", "grounded"):
        return None

    def score(model: Any) -> dict[str, float]:
        _, completions = write_completions(model, writer, dev, settings=config.generation)
        judging = config.judging
        verdicts = judge_completions(
            dev, completions, deadline_s=judging.deadline_s, max_rows=judging.max_rows
        )
        n = len(verdicts)
        return {
            "grounded": sum(v.grounded for v in verdicts) / n,
            "ex_strict": sum(v.ex_strict is True for v in verdicts) / n,
        }

    return score


def spread(questions: tuple[Question, ...], limit: int | None) -> tuple[Question, ...]:
    """At most `limit` questions, as evenly as can be over the databases, the same ones each time."""
    if limit is None or limit >= len(questions):
        return questions
    by_database: dict[str, list[Question]] = defaultdict(list)
    for question in questions:
        by_database[question.db_id].append(question)
    chosen: set[str] = set()
    for group, share in zip(by_database.values(), _shares(limit, len(by_database)), strict=True):
        step = len(group) / max(share, 1)
        chosen |= {group[int(i * step)].question_id for i in range(min(share, len(group)))}
    return tuple(question for question in questions if question.question_id in chosen)


def _shares(total: int, n: int) -> list[int]:
    return [total // n + (i < total % n) for i in range(n)]


def _targets(config: Config) -> str:
    targets = config.lora.targets
    return targets if isinstance(targets, str) else " ".join(targets)
