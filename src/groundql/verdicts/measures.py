"""Everything that a verdict says beside the ladder."""

from typing import Any

from groundql.databases.kept import same_text
from groundql.records import Outcome, Question, Verdict
from groundql.verdicts.ast_equal import marks, same_words, similarity
from groundql.verdicts.efficiency import step_ratio
from groundql.verdicts.grounding import find_invented, link_scores
from groundql.verdicts.joins_and_values import foreign_values, keyless_joins
from groundql.verdicts.opened import OpenDatabase
from groundql.verdicts.parsing import is_ordered, parse_query
from groundql.verdicts.relaxed import holds_gold
from groundql.verdicts.soft_f1 import soft_f1, soft_f1_unordered

LEAST_SIMILARITY = 0.7


def name_measures(question: Question, verdict: Verdict, database: OpenDatabase) -> dict[str, Any]:
    """Invented and misplaced names, foreign values, keyless joins, schema links; no foreign values without rows."""
    sql, schema, dialect = verdict.predicted_sql, database.schema, database.files.dialect
    tree = parse_query(sql, dialect) if sql else None
    if sql is None or tree is None:
        return {}
    refusal = None if verdict.grounded else database.refusal(sql)
    functions = None if database.is_sqlite else database.function_names
    findings = find_invented(sql, tree, schema, refusal, dialect=dialect, functions=functions)
    joins = keyless_joins(tree, schema)
    has_rows = bool(database.place)
    known_text = f"{question.text}\n{question.evidence}"
    values = foreign_values(tree, schema, known_text, database.holds, dialect) if has_rows else []
    found: dict[str, Any] = {
        "invented_table": bool(findings.invented_tables),
        "invented_alias": bool(findings.invented_aliases),
        "invented_column": bool(findings.invented_columns),
        "misplaced_column": bool(findings.misplaced_columns),
        "invented_function": bool(findings.invented_functions),
        "foreign_value": bool(values) if has_rows else None,
        "keyless_join": bool(joins),
        "findings": (
            *findings.words(),
            *(f"foreign value: {value}" for value in values),
            *(f"join along no key: {join}" for join in joins),
        ),
        "n_references": findings.n_references,
        "n_bad_references": findings.n_bad,
    }
    ours = database.read_columns(question.gold_sql) if question.gold_sql else None
    if ours:
        scores = link_scores(ours, database.read_columns(sql))
        found |= dict(zip(("link_precision", "link_recall", "link_f1"), scores, strict=True))
    return found


def tree_measures(
    verdict: Verdict,
    database: OpenDatabase,
    gold: Outcome | None = None,
    predicted: Outcome | None = None,
) -> dict[str, Any]:
    """Certificate, relaxed certificate and similarity; nothing where there is no gold that parses.

    Making a canonical form costs more than all the rest, so it is asked for only where it can be the same. Where both ran and `ex_strict` is False, no certificate could be true. The
    relaxed one is not looked for where results differ in width, or queries in their tables or constants, or where
    their trees are far apart.
    """
    sql, gold_sql = verdict.predicted_sql, verdict.gold_sql
    if gold_sql and not (sql and verdict.parsed):
        return {"ast_equal": False, "ast_relaxed": False, "ast_similarity": 0.0}
    if not sql or not gold_sql or not verdict.parsed:
        return {}
    dialect = database.files.dialect
    is_same = same_text(sql) == same_text(gold_sql)
    if not database.is_sqlite:
        is_same = is_same or same_words(sql, gold_sql, dialect)
    alike = 1.0 if is_same else similarity(sql, gold_sql, dialect)
    if alike is None:
        return {}
    certified = relaxed = is_same and verdict.grounded
    can_be_equal = verdict.grounded and not is_same
    if can_be_equal and verdict.ex_bird is False:
        both_ran = gold is not None and predicted is not None and gold.status == predicted.status == "ok"
        same_width = not both_ran or len(gold.columns) == len(predicted.columns)  # type: ignore[union-attr]
        can_be_equal = same_width and alike >= LEAST_SIMILARITY and marks(sql) == marks(gold_sql)
    if not database.is_sqlite:
        return {"ast_equal": certified, "ast_relaxed": None, "ast_similarity": alike}
    for is_relaxed in (False, True) if can_be_equal else ():
        if relaxed or (not is_relaxed and verdict.ran and verdict.ex_strict is False):
            continue
        key = database.form(gold_sql, is_relaxed)
        if key is not None and key == database.form(sql, is_relaxed):
            certified, relaxed = certified or not is_relaxed, True
    return {"ast_equal": certified, "ast_relaxed": relaxed, "ast_similarity": 1.0 if certified else alike}


def row_measures(
    question: Question,
    verdict: Verdict,
    gold: Outcome | None,
    predicted: Outcome | None,
    official: Outcome | None,
) -> dict[str, Any]:
    """Relaxed match, Soft-F1, and steps; nothing where the gold did not run.

    `soft_f1` goes by the official script: what runs there counts, grounded or not.
    """
    if gold is None or gold.status != "ok":
        return {}
    handed_in = official or predicted
    ran = predicted if verdict.ran else None
    found: dict[str, Any] = {
        "ex_relaxed": ran is not None and holds_gold(gold, ran, ordered=is_ordered(question.gold_sql or "")),
        "soft_f1": soft_f1(gold.rows, handed_in.rows) if handed_in and handed_in.status == "ok" else 0.0,
        "soft_f1_unordered": 0.0,
    }
    if ran is not None:
        widths = (len(gold.columns), len(ran.columns))
        found["soft_f1_unordered"] = soft_f1_unordered(gold.rows, ran.rows, n_columns=widths)
    if verdict.ex_bird and handed_in:
        found["step_ratio"] = step_ratio(gold.vm_steps, handed_in.vm_steps)
    return found
