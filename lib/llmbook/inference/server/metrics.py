"""What the server counts, in Prometheus' text form (https://prometheus.io/docs/instrumenting/exposition_formats)."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from llmbook.inference.batching import Engine, Step

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class Metrics:
    """The counters of one server. ``engine`` is what it watches, if its model writes."""

    def __init__(self, engine: Engine | None):
        self.registry = CollectorRegistry()
        self.requests = Counter("llmbook_requests", "Answered requests.", ["route", "status"], registry=self.registry)
        self.seconds = Histogram(
            "llmbook_request_seconds",
            "Time to the end of an answer.",
            ["route"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self.first = Histogram(
            "llmbook_first_token_seconds", "Time to the first token.", buckets=SECONDS, registry=self.registry
        )
        self.read = Counter("llmbook_tokens_read", "Tokens the model has read.", registry=self.registry)
        self.written = Counter("llmbook_tokens_written", "Tokens the model has written.", registry=self.registry)
        self.preempted = Counter("llmbook_preemptions", "Texts that gave their pages back.", registry=self.registry)
        if engine is not None:
            pages = Gauge("llmbook_pages", "Pages of keys and values.", ["state"], registry=self.registry)
            pages.labels("free").set_function(lambda: engine.pool.n_free)
            pages.labels("held").set_function(lambda: engine.pool.n_pages - engine.pool.n_free)
            texts = Gauge("llmbook_texts", "Texts that are open.", ["state"], registry=self.registry)
            texts.labels("running").set_function(lambda: len(engine.running))
            texts.labels("waiting").set_function(lambda: len(engine.waiting))

    def step(self, step: Step) -> None:
        """Count a step of the engine."""
        self.read.inc(step.n_read)
        self.written.inc(step.n_running)
        self.preempted.inc(step.n_preempted)

    def text(self) -> bytes:
        """All of it."""
        return generate_latest(self.registry)
