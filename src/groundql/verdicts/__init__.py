"""From completions to verdicts: the ladder, and the measures beside it."""
