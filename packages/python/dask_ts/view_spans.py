"""``scheduler.extensions["spans"]``: the scheduler's spans as distributed's own objects.

A picture of the moment: the objects do not change any more, and look again gives new ones.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from distributed.client import SourceCode
from distributed.spans import Span, SpansSchedulerExtension

Facts = dict[str, Any]


class GroupPicture:
    """What a span reads of its task groups; one may stand for many that are forgotten."""

    def __init__(self, facts: Facts) -> None:
        self.name: Any = facts["name"]
        self.start: float = facts["start"]
        self.stop: float = facts["stop"]
        self.done: bool = facts["done"]
        self.states: dict[str, int] = facts["states"]
        self.duration: float = facts["duration"]
        self.all_durations: dict[str, float] = facts["all_durations"]
        self.nbytes_total: int = facts["nbytes_total"]

    def __repr__(self) -> str:
        states = ", ".join(f"{state}: {n}" for state, n in sorted(self.states.items()) if n)
        return f"<{self.name or 'no-group'}: {states}>"


def spans_extension(scheduler: Any, facts: Facts) -> SpansSchedulerExtension:
    """From the answer to ``view-value`` of ``spans``; parents come before their children."""
    out = SpansSchedulerExtension(scheduler)
    history = [tuple(entry) for entry in facts["history"]]
    for row in facts["spans"]:
        parent = out.spans[row["parent"]] if row["parent"] is not None else None
        span = _span(row, parent, history)
        out.spans[span.id] = span
        (out.root_spans if parent is None else parent.children).append(span)
        out.spans_search_by_name[span.name].append(span)
        for tag in span.name:
            out.spans_search_by_tag[tag].append(span)
    return out


def _span(row: Facts, parent: Span | None, history: list[Any]) -> Span:
    span = Span(name=tuple(row["name"]), id_=row["id"], parent=parent, total_nthreads_history=history)
    span.enqueued = row["enqueued"]
    span._total_nthreads_offset = row["offset"]
    span.groups = {GroupPicture(group) for group in row["groups"]}  # type: ignore[misc]
    span._code = {tuple(SourceCode(*source) for source in code): None for code in row["code"]}
    span._metadata = row["metadata"]
    span._cumulative_worker_metrics = defaultdict(int, {tuple(key): value for key, value in row["metrics"]})
    return span
