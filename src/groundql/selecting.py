"""From a question's texts to its completion: written free or grounded, chosen by what they return, repaired once.

Without samples and repair a question has one text, and nothing is run.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from groundql.config import GenerationSettings, OutputDialect
from groundql.databases.binding import prepare
from groundql.databases.engines import Binder
from groundql.databases.executor import Job, run_many
from groundql.databases.files import has_rows, sqlite_file
from groundql.databases.translate import engine_sql
from groundql.errors import AskedWrongly
from groundql.prompts.dialect import answered_sql
from groundql.records import Completion, DatabaseFiles, Outcome, Prompt, Schema, Turns
from groundql.verdicts.rows import cell_key

if TYPE_CHECKING:
    from groundql.decoding.rows import Decoded
    from groundql.decoding.vllm_engine import VllmModel
    from groundql.models.load import LoadedModel

# For a query that is run to be compared with others. Of 1,102 answers to BIRD questions on real rows the slowest took 1.3 s;
# of many texts drawn some join along no key and never end, and each holds up the whole batch for so long.
DEADLINE_S = 3.0
MAX_ROWS = 10_000
MAX_EXECUTORS = 4


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Questions as prompts, in the order of their completions, with what they are asked of."""

    prompts: list[Prompt]
    schemas: dict[str, Schema]
    databases: dict[str, DatabaseFiles]
    dialect: OutputDialect = "canonical"  # what the model was taught to write
    binders: dict[str, Callable[[str], str | None]] = field(
        default_factory=dict
    )  # by db_id, prepare of engines beside SQLite; made where missing


@dataclass(frozen=True)
class _Text:
    """One text of a question."""

    completion: Completion
    log_probability: float
    n_tokens: int  # with the end token


def complete(
    model: Any,
    loaded: "LoadedModel | VllmModel",
    turns: Turns,
    asked: Asked,
    *,
    settings: GenerationSettings,
    on_progress: Callable[[int], None] | None = None,
) -> list[Completion]:
    """A completion for each prompt: of `settings.samples` texts the one that most agree with, repaired if it fails."""
    with _with_binders(asked) as asked:
        texts = _write(model, loaded, turns, asked, settings, on_progress)
        chosen = [some[0] for some in texts]
        if settings.samples > 1:
            chosen = _elect(asked, texts)
        completions = [_summed(one, some) for one, some in zip(chosen, texts, strict=True)]
        if settings.repair:
            completions = _repaired(model, loaded, turns, asked, completions, settings)
    return completions


@contextmanager
def _with_binders(asked: Asked) -> Iterator[Asked]:
    """`asked` with an engine's prepare for each database that is not SQLite's."""
    with ExitStack() as stack:
        binders = dict(asked.binders)
        for db_id in dict.fromkeys(prompt.db_id for prompt in asked.prompts):
            files = asked.databases[db_id]
            if files.url and db_id not in binders:
                binder = stack.enter_context(Binder(files.url))
                binders[db_id] = binder.prepare
        yield replace(asked, binders=binders)


def _write(
    model: Any,
    loaded: "LoadedModel | VllmModel",
    turns: Turns,
    asked: Asked,
    settings: GenerationSettings,
    on_progress: Callable[[int], None] | None = None,
) -> list[list[_Text]]:
    """The texts of each prompt.

    Raises:
        AskedWrongly: grounded decoding of a dialect that the grammar does not know.
    """
    from groundql.decoding.vllm_engine import VllmModel, decode_with_vllm

    if settings.decoding == "grounded" and asked.dialect == "from_first":
        raise AskedWrongly(
            "this model writes FROM first, which grounded decoding does not know; use --decoding free"
        )
    tokenizer = loaded.tokenizer
    if isinstance(loaded, VllmModel):
        decoded = decode_with_vllm(loaded, asked.prompts, asked.schemas, turns, settings=settings)
    else:
        decoded = _decode_here(model, loaded, turns, asked, settings, on_progress)

    def text_of(prompt: Prompt, one: "Decoded") -> _Text:
        text = tokenizer.decode(list(one.ids), skip_special_tokens=True)
        completion = Completion(
            question_id=prompt.question_id,
            db_id=prompt.db_id,
            text=text,
            sql=_for_engine(
                asked, prompt, answered_sql(text, asked.dialect) if one.status == "free" else one.sql
            ),
            n_prompt_tokens=one.n_prompt_tokens,
            n_new_tokens=len(one.ids),
            stopped=one.stopped,
            shrunk=prompt.shrunk,
            status=one.status,
            reason=one.reason,
            strain=one.strain,
            n_backtracks=one.n_backtracks,
            closed_at=one.closed_at,
        )
        return _Text(completion, one.log_probability, len(one.ids) + one.stopped)

    return [
        [text_of(prompt, one) for one in some] for prompt, some in zip(asked.prompts, decoded, strict=True)
    ]


def _binds(asked: Asked, db_id: str) -> Callable[[str], str | None] | None:
    """What the engine of a database says of a canonical query; None for SQLite, whose prepare the gate asks anyway."""
    prepare_there = asked.binders.get(db_id)
    if prepare_there is None:
        return None
    schema, dialect = asked.schemas[db_id], asked.databases[db_id].dialect
    return lambda text: prepare_there(engine_sql(text, schema, dialect))


def _for_engine(asked: Asked, prompt: Prompt, sql: str | None) -> str | None:
    """The model's query in the SQL of the engine that it shall run on."""
    dialect = asked.databases[prompt.db_id].dialect
    return engine_sql(sql, asked.schemas[prompt.db_id], dialect) if sql is not None else None


def _decode_here(
    model: Any,
    loaded: "LoadedModel",
    turns: Turns,
    asked: Asked,
    settings: GenerationSettings,
    on_progress: Callable[[int], None] | None,
) -> "list[tuple[Decoded, ...]]":
    """What our own engine writes after each prompt."""
    from groundql.decoding.engine import decode, ends_of

    tokenizer = loaded.tokenizer
    crew: Any = nullcontext()
    binds = [_binds(asked, prompt.db_id) for prompt in asked.prompts]
    if settings.decoding == "grounded" and asked.prompts:
        from groundql.decoding.grounded_crew import grounded_crew, vocabulary_of
        from groundql.decoding.workers import usual_processes

        n_processes = settings.processes
        if n_processes is None:
            n_processes = usual_processes(loaded.device.type)
        crew = grounded_crew(
            vocabulary_of(tokenizer, ends_of(tokenizer, turns), int(model.config.vocab_size)),
            [asked.schemas[prompt.db_id] for prompt in asked.prompts],
            samples=settings.samples,
            limit=settings.max_new_tokens,
            closes=settings.unfinished == "close",
            n_processes=n_processes,
            engines=binds if any(binds) else (),
        )
    with crew as chooser:
        return decode(
            model,
            tokenizer,
            asked.prompts,
            turns,
            settings=settings,
            crew=chooser,
            on_progress=on_progress,
        )


def _elect(asked: Asked, texts: Sequence[Sequence[_Text]]) -> list[_Text]:
    """The text of each question that wins the vote on results."""
    from groundql.decoding.vote import Candidate, vote

    outcomes = _run(asked, {(t.completion.db_id, t.completion.sql) for some in texts for t in some})
    elected = []
    for some in texts:
        candidates = [
            Candidate(
                _vote_of(t.completion, outcomes.get((t.completion.db_id, t.completion.sql))),
                t.log_probability,
                t.n_tokens,
            )
            for t in some
        ]
        won = vote(candidates)
        chosen = some[won.chosen]
        completion = chosen.completion.model_copy(update={"n_agreeing": won.n_agreeing})
        elected.append(replace(chosen, completion=completion))
    return elected


def _repaired(
    model: Any,
    loaded: "LoadedModel | VllmModel",
    turns: Turns,
    asked: Asked,
    completions: list[Completion],
    settings: GenerationSettings,
) -> list[Completion]:
    """`completions`, those that fail written once more, where the second try does not fail."""
    from groundql.decoding.repair import repair_prompt

    faults = _faults(asked, completions)
    prompts = [
        repair_prompt(asked.prompts[i], turns, completions[i].sql or completions[i].text, fault)
        for i, fault in faults.items()
    ]
    again = replace(asked, prompts=prompts)
    once = settings.model_copy(update={"samples": 1, "temperature": 0.0})
    seconds = [some[0].completion for some in _write(model, loaded, turns, again, once)]
    still = _faults(again, seconds)
    repaired = list(completions)
    for at, (i, second) in enumerate(zip(faults, seconds, strict=True)):
        cost = {
            "n_new_tokens": completions[i].n_new_tokens + second.n_new_tokens,
            "n_samples": completions[i].n_samples + 1,
        }
        repaired[i] = (completions[i] if at in still else second).model_copy(update=cost)
    return repaired


def _faults(asked: Asked, completions: Sequence[Completion]) -> dict[int, str]:
    """What is wrong with each completion that fails, by its place: no query, it does not bind, it does not run."""
    outcomes = _run(asked, {(c.db_id, c.sql) for c in completions})
    faults = {}
    for i, completion in enumerate(completions):
        if completion.sql is None:
            faults[i] = completion.reason or "this is no query"
            continue
        outcome = outcomes.get((completion.db_id, completion.sql))
        refusal = prepare(asked.schemas[completion.db_id], completion.sql) if outcome is None else None
        if refusal is not None:
            faults[i] = refusal
        elif outcome is not None and outcome.status != "ok":
            faults[i] = outcome.error or outcome.status
    return faults


def _run(asked: Asked, queries: set[tuple[str, str | None]]) -> dict[tuple[str, str | None], Outcome]:
    """What each query returns, under guard; those on databases without rows are left out."""
    runnable = sorted(
        (db_id, sql)
        for db_id, sql in queries
        if sql is not None and (asked.databases[db_id].url or has_rows(asked.databases[db_id]))
    )
    jobs = [
        Job(asked.databases[db_id].url or sqlite_file(asked.databases[db_id]), sql, DEADLINE_S, MAX_ROWS)
        for db_id, sql in runnable
    ]
    if not jobs:
        return {}
    return dict(zip(runnable, run_many(jobs, min(MAX_EXECUTORS, len(jobs))), strict=True))


def _vote_of(completion: Completion, outcome: Outcome | None) -> Hashable | None:
    """Equal for equal results, rows as a bag; of a database without rows, the query itself. None: it has no vote.

    A query that was closed has none: its end is not the model's.
    """
    if completion.sql is None or completion.closed_at is not None:
        return None
    if outcome is None:
        return completion.sql
    if outcome.status != "ok":
        return None
    rows = Counter(tuple(map(cell_key, row)) for row in outcome.rows)
    return len(outcome.columns), frozenset(rows.items())


def _summed(chosen: _Text, texts: Sequence[_Text]) -> Completion:
    """The chosen text's completion, with the tokens of all."""
    if len(texts) == 1:
        return chosen.completion
    n_new = sum(text.completion.n_new_tokens for text in texts)
    return chosen.completion.model_copy(update={"n_new_tokens": n_new, "n_samples": len(texts)})
