"""From a config to a finished run folder: data, prompts, preflight, training with executed dev scores, adapter."""

from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from groundql.config import Config
from groundql.databases.binding import prepare
from groundql.errors import AskedWrongly, NotInDialect
from groundql.generating import Writer, make_prompts, read_schemas, write_completions
from groundql.models.chat import turns_of
from groundql.models.load import LoadedModel, best_device, load_base, load_tokenizer
from groundql.models.memory import Plan, check_fits, plan_of, write_plan
from groundql.models.shape import read_shape
from groundql.models.source import find_base
from groundql.models.workload import QuestionLengths
from groundql.pipeline import judge_completions
from groundql.prompts.dialect import in_dialect, standard_sql
from groundql.prompts.render import prompt_fingerprint
from groundql.questions.load import load_data
from groundql.questions.sample import stratified_sample
from groundql.records import DataSet, Prompt, Question, Schema
from groundql.training.examples import Example, encode_examples
from groundql.training.packs import check_lengths
from groundql.training.preflight import check_labels, check_splits, without_leaks
from groundql.training.run_folder import RunInfo, check_free, finish_run, start_run, versions, write_run
from groundql.training.trainer import OnStep, ScoreDev, add_lora, train_adapter

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class _Prepared:
    """What training starts from."""

    writer: Writer
    examples: list[Example]
    dev_examples: list[Example]
    dev: DataSet | None
    info: RunInfo


@dataclass(frozen=True, kw_only=True)
class _Encoded:
    """Questions as token ids, and what became of the others."""

    examples: list[Example]
    prompts: list[Prompt]
    n_too_long: int
    n_not_in_dialect: int
    reasons: Counter[str]  # why a gold is not in the dialect


def tune(
    config: Config, run_dir: Path, *, resume: bool = False, say: Say, on_step: OnStep | None = None
) -> RunInfo:
    """Train as `config` says and leave a finished run in `run_dir`.

    Raises:
        AskedWrongly: data, settings or folder that cannot give an honest run (see preflight).
        TrainingStopped: memory, or gradients that stay non-finite.
    """
    if not resume:
        check_free(run_dir)  # before minutes of loading
    prepared = _prepare(config, say)
    info = prepared.info
    writer = prepared.writer
    plan = _plan(config, prepared.examples, say)
    model = add_lora(writer.loaded.model, config.lora, seed=config.training.seed)
    start_run(run_dir, config, info, resume=resume)
    if plan:
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
        score_dev=_scorer(prepared, config),
        on_step=on_step,
        resume=resume,
    )
    results = {key: round(float(value), 3) for key, value in asdict(result).items() if value is not None}
    if plan:
        results["predicted_peak_mib"] = round(plan.peak_mib, 1)
    info = info.model_copy(update={"results": results})
    saved_dir = run_dir / ".adapter"
    model.save_pretrained(str(saved_dir))
    write_run(run_dir, info)
    finish_run(run_dir, saved_dir)
    return info


def _plan(config: Config, examples: list[Example], say: Say) -> Plan | None:
    """The memory plan of these very examples; None, and said so, for a model whose shape is not known.

    Raises:
        GroundqlError: `memory_gib` is set and too small; names the change that would fit.
    """
    try:
        row = read_shape(find_base(config.model.name))
    except AskedWrongly as error:
        say(f"no memory plan: {error}")
        return None
    lengths = [QuestionLengths(e.prefix, len(e.prefix), len(e.suffix), len(e.answer)) for e in examples]
    plan = plan_of(config, row, lengths)
    check_fits(plan, config, row, lengths)
    return plan


def _prepare(config: Config, say: Say) -> _Prepared:
    train, dev = load_data(config.data.train), load_data(config.data.dev) if config.data.dev else None
    test = load_data(config.data.test) if config.data.test else None
    parts = {"train": train, "dev": dev, "test": test}
    check_splits({name: part for name, part in parts.items() if part is not None})
    questions = _training_questions(config, train, [p for p in (dev, test) if p is not None], say)
    if dev is not None:
        dev = dev.model_copy(update={"questions": spread(dev.questions, config.data.dev_limit)})

    source = find_base(config.model.name)
    tokenizer = load_tokenizer(source)
    turns = turns_of(tokenizer)
    device = best_device()
    model = load_base(source, config.model, device=device)
    loaded = LoadedModel(model=model, tokenizer=tokenizer, dtype=model.dtype, device=device)
    writer = Writer(loaded=loaded, turns=turns, prompt=config.prompt)

    used = train.model_copy(update={"questions": tuple(questions)})
    encoded = _encode(used, writer)
    examples, too_long = encoded.examples, encoded.n_too_long
    shrunk = Counter(part for prompt in encoded.prompts for part in prompt.shrunk)
    dev_examples = _encode(dev, writer).examples if dev else []
    if encoded.n_not_in_dialect:
        reasons = "; ".join(f"{n} {reason}" for reason, n in encoded.reasons.most_common(3))
        say(
            f"left out: {encoded.n_not_in_dialect} whose gold is not in the {config.prompt.dialect} dialect: {reasons}"
        )
    if not examples:
        if not too_long:
            raise AskedWrongly(f"{config.data.train}: no gold is in the {config.prompt.dialect} dialect")
        raise AskedWrongly(
            f"no question of {config.data.train} fits prompt.max_tokens (now {config.prompt.max_tokens}); raise it"
        )
    if config.training.packing == "shared":
        check_lengths([*examples, *dev_examples], config.training.pack_tokens)
    say(
        f"training on {len(examples)} questions of {len({e.db_id for e in examples})} databases"
        + (f"; {too_long} left out: longer than prompt.max_tokens" if too_long else "")
        + (f"; shrunk to fit: {dict(shrunk)}" if shrunk else "")
    )
    info = RunInfo(
        base_model=config.model.name,
        quantization=config.model.quantization,
        double_quantization=config.model.double_quantization,
        turns=turns,
        prompt=config.prompt,
        prompt_fingerprint=prompt_fingerprint(config.prompt, turns),
        config_fingerprint=config.fingerprint(),
        data_fingerprints={name: part.fingerprint() for name, part in parts.items() if part is not None},
        counts={
            "train_questions": len(examples),
            "train_questions_too_long": too_long,
            "train_questions_not_in_dialect": encoded.n_not_in_dialect,
            **{f"shrunk_{k}": v for k, v in shrunk.items()},
        },
        versions=versions(),
    )
    return _Prepared(writer=writer, examples=examples, dev_examples=dev_examples, dev=dev, info=info)


def _training_questions(config: Config, train: DataSet, evaluated: list[DataSet], say: Say) -> list[Question]:
    """The sampled questions whose gold binds and that no evaluation set asks too."""
    questions = list(train.questions)
    if config.data.fraction < 1:
        questions = list(
            stratified_sample(
                questions, config.data.fraction, by=config.data.stratify_by, seed=config.training.seed
            )
        )
    questions, n_leaks = without_leaks(questions, [q for part in evaluated for q in part.questions])
    schemas = read_schemas(train.model_copy(update={"questions": tuple(questions)}), 0)
    kept = [q for q in questions if q.gold_sql and prepare(schemas[q.db_id], q.gold_sql) is None]
    if n_leaks or len(kept) < len(questions):
        say(
            f"left out: {n_leaks} asked in dev or test too, {len(questions) - len(kept)} whose gold does not bind"
        )
    if not kept:
        raise AskedWrongly(f"{config.data.train}: no question is left to train on")
    return kept


def _encode(data: DataSet, writer: Writer) -> _Encoded:
    """Examples whose labels are checked: golds in the dialect of the settings. A question without such is left out."""
    schemas = read_schemas(data, writer.prompt.n_examples)
    labels: dict[str, str] = {}
    reasons: Counter[str] = Counter()
    for question in data.questions:
        try:
            labels[question.question_id] = _label(question, schemas[question.db_id], writer)
        except NotInDialect as error:
            reasons[str(error)] += 1
    prompts, too_long = make_prompts(
        [question for question in data.questions if question.question_id in labels],
        schemas,
        settings=writer.prompt,
        turns=writer.turns,
        count_tokens=writer.count_tokens,
        databases=data.databases,
    )
    golds = [labels[prompt.question_id] for prompt in prompts]
    tokenizer = writer.loaded.tokenizer
    examples = encode_examples(prompts, golds, tokenizer, writer.turns)
    check_labels(examples, golds, tokenizer, writer.turns)
    return _Encoded(
        examples=examples,
        prompts=prompts,
        n_too_long=len(too_long),
        n_not_in_dialect=reasons.total(),
        reasons=reasons,
    )


def _label(question: Question, schema: Schema, writer: Writer) -> str:
    """What the model is to write. NotInDialect where the gold has no such form, or one that does not bind."""
    gold, dialect = question.gold_sql or "", writer.prompt.dialect
    label = in_dialect(gold, schema, dialect)
    if dialect == "raw":
        return label
    refusal = prepare(schema, standard_sql(label))
    if refusal is not None:
        raise NotInDialect(f"its canonical form does not bind: {refusal}")
    return label


def _scorer(prepared: _Prepared, config: Config) -> ScoreDev | None:
    """A function from the model in training to its executed scores on dev; None where nothing needs them."""
    dev, writer = prepared.dev, prepared.writer
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
