"""How far to trust a rate on a person's own database, in plain words: how many questions, how wide, asked by whom."""

from collections.abc import Sequence

from groundql.records import Verdict
from groundql.reports.statistics import wilson

FEW = 30  # below this a rate says little: its interval is wider than 30 points


def trust_lines(verdicts: Sequence[Verdict], n_drafted: int) -> list[str]:
    """Sentences on the rate of right answers among `verdicts`, of whose questions templates wrote `n_drafted`."""
    decided = [verdict.ex_strict for verdict in verdicts if verdict.ex_strict is not None]
    if not decided:
        return ["No answer could be compared with a gold, so there is no rate to trust."]
    n, count = len(decided), sum(decided)
    low, high = (100 * end for end in wilson(count, n))
    lines = [
        f"{count} of {n} questions were answered with the gold's rows: {100 * count / n:.0f} %. With {n} questions the rate "
        f"on more questions like these lies between {low:.0f} % and {high:.0f} % (95 %)."
    ]
    if n < FEW:
        lines.append(
            f"{n} questions are few: two models that differ by less than {high - low:.0f} points cannot be told apart here. "
            f"{FEW} or more are a start."
        )
    n_own = len(verdicts) - n_drafted
    if n_drafted and not n_own:
        lines.append(
            f"All {n_drafted} were drafted by templates from your schema; no person asked them. The rate shows whether the model "
            "knows your tables, keys and values and writes SQL that your engine takes. It does not show how it does on the "
            "questions of people, who leave words out and use names of their own: expect less there, often much less. Your own "
            "questions tell: groundql init --questions FILE."
        )
    elif n_drafted:
        lines.append(
            f"{n_drafted} of {len(verdicts)} were drafted by templates, which are easier than what people ask: the rate is not "
            "that of your own questions. Judge those alone: jsonl:FILE#test."
        )
    else:
        lines.append(
            "All of them are your own. The rate holds for questions like these, asked of this database as it is now; right "
            "means equal rows, so a wrong query that happens to return them counts too."
        )
    return lines
