"""What the server counts, as Prometheus reads it. The library, an extra, is imported when metrics are wanted."""

from __future__ import annotations

from collections import Counter as Counts
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

    from sandcove.server.crowd import Crowd
    from sandcove.server.lifecycle import Sandboxes

__all__ = ["Metrics", "metrics_of"]

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60, 600)
STATES = ("starting", "running", "sleeping", "asleep", "destroying")


def metrics_of(sandboxes: Sandboxes, traffic: Counts[str], crowd: Crowd) -> Metrics | None:
    """The server's metrics; None where prometheus-client is not installed."""
    try:
        import prometheus_client  # noqa: F401 - looks whether it is there
    except ImportError:
        return None
    return Metrics(sandboxes, traffic, crowd)


class Metrics:
    """Requests are counted as they end; the rest is read when it is asked for."""

    def __init__(self, sandboxes: Sandboxes, traffic: Counts[str], crowd: Crowd) -> None:
        from prometheus_client import CollectorRegistry, Counter, Histogram

        self._sandboxes = sandboxes
        self._traffic = traffic
        self._crowd = crowd
        self._registry = CollectorRegistry()
        self._registry.register(self)
        self._requests = Counter(
            "sandcove_requests",
            "Requests that have ended, by route, method and status.",
            ["route", "method", "status"],
            registry=self._registry,
        )
        self._seconds = Histogram(
            "sandcove_request_seconds",
            "How long requests took to the end of their answers.",
            ["route", "method"],
            registry=self._registry,
            buckets=BUCKETS,
        )

    def count(self, route: str, method: str, status: int, seconds: float) -> None:
        self._requests.labels(route, method, status).inc()
        self._seconds.labels(route, method).observe(seconds)

    def text(self) -> bytes:
        """All of it in Prometheus' text format 0.0.4."""
        from prometheus_client import generate_latest

        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """Called by the library."""
        from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily

        states = GaugeMetricFamily("sandcove_sandboxes", "Sandboxes by state.", labels=["state"])
        for state, number in {**dict.fromkeys(STATES, 0), **self._sandboxes.states()}.items():
            states.add_metric([state], number)
        yield states
        for what, number in self._sandboxes.counts.items():
            yield CounterMetricFamily(f"sandcove_sandboxes_{what}", f"Sandboxes that were {what}.", value=number)
        yield GaugeMetricFamily("sandcove_connections", "Connections over TCP.", value=len(self._crowd))
        yield CounterMetricFamily(
            "sandcove_connections_refused", "Connections over TCP that were too many.", value=self._crowd.refused
        )
        relayed = CounterMetricFamily(
            "sandcove_relay_bytes", "Bytes of bodies relayed to sandboxes.", labels=["direction"]
        )
        for direction, number in self._traffic.items():
            relayed.add_metric([direction], number)
        yield relayed
        counts = self._sandboxes.outlets.counts
        verdicts = CounterMetricFamily(
            "sandcove_egress_connections", "Connections that sandboxes asked for, by verdict.", labels=["verdict"]
        )
        for verdict in ("allowed", "refused", "failed"):
            verdicts.add_metric([verdict], counts[verdict])
        yield verdicts
        through = CounterMetricFamily(
            "sandcove_egress_bytes", "Bytes that left and reached sandboxes.", labels=["direction"]
        )
        for direction, name in (("out", "sent"), ("in", "received")):
            through.add_metric([direction], counts[name])
        yield through
        memory = GaugeMetricFamily("sandcove_sandbox_memory_bytes", "Memory of its programs.", labels=["sandbox"])
        cpu = CounterMetricFamily("sandcove_sandbox_cpu_seconds", "Processor time since it woke.", labels=["sandbox"])
        ended = CounterMetricFamily("sandcove_sandbox_out_of_memory", "Programs killed for it.", labels=["sandbox"])
        each = CounterMetricFamily(
            "sandcove_sandbox_egress_bytes", "Bytes that left and reached it.", labels=["sandbox", "direction"]
        )
        for sandbox in self._sandboxes.running():
            passed = self._sandboxes.outlets.bytes_of(sandbox.record.uid)
            for direction, size in zip(("out", "in"), passed or (), strict=False):
                each.add_metric([sandbox.record.uid, direction], size)
            usage = self._sandboxes.usage(sandbox)
            for family, value in ((memory, usage.memory), (cpu, usage.cpu_seconds), (ended, usage.out_of_memory)):
                if value is not None:
                    family.add_metric([sandbox.record.uid], value)
        yield from (memory, cpu, ended, each)
