"""What a server counts, for Prometheus. No label holds a question, a query, a row or a path that a client made up."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """The numbers of one server, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "groundql_requests", "Requests answered.", ["route", "status"], registry=self.registry
        )
        self.request_seconds = Histogram(
            "groundql_request_seconds",
            "From the head of a request to the end of its answer.",
            ["route"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self.batch_size = Histogram(
            "groundql_batch_size",
            "Questions the model got at once.",
            buckets=(1, 2, 4, 8, 16, 32, 64),
            registry=self.registry,
        )
        self.batch_seconds = Histogram(
            "groundql_batch_seconds", "The model on one batch.", buckets=SECONDS, registry=self.registry
        )
        self.answers = Counter(
            "groundql_answers",
            "Questions by what came of them.",
            ["database", "status"],
            registry=self.registry,
        )
        self.queries = Counter(
            "groundql_queries",
            "Edited queries run, by outcome.",
            ["database", "status"],
            registry=self.registry,
        )
        self.given_up = Counter(
            "groundql_given_up",
            "Requests whose answer nobody waited for: timeout, gone (the client hung up).",
            ["why"],
            registry=self.registry,
        )
        self.in_flight = Gauge("groundql_in_flight", "Requests being answered.", registry=self.registry)

    def watch_queue(self, n_open: Callable[[], int]) -> None:
        """Show how many questions wait."""
        queue = Gauge("groundql_queue", "Questions taken in and not answered yet.", registry=self.registry)
        queue.set_function(n_open)

    def saw_batch(self, n: int, seconds: float) -> None:
        """Count a batch."""
        self.batch_size.observe(n)
        self.batch_seconds.observe(seconds)

    def text(self) -> bytes:
        """All of it, as Prometheus reads it."""
        return generate_latest(self.registry)
