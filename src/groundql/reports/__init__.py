"""From verdicts to numbers with intervals, and to pages."""
