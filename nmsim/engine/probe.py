"""What an observer writes down during a run: named slices on tracks, and amounts that move over time, inside one window.

Modelled: nothing. A probe only listens, and whoever is observed runs the same with and without one.
"""

from __future__ import annotations

from dataclasses import dataclass

Track = tuple[str, str]
"""A group and a name in it: one line of a timeline, on which slices follow each other or nest."""


@dataclass(slots=True)
class Span:
    """One slice of a track, in ticks; `amounts` are what a reader is told of it."""

    name: str
    start: int
    end: int
    amounts: dict[str, int]


@dataclass(frozen=True)
class Window:
    """What is recorded: ticks from `start` up to `end`, amounts in bins of `bin_ticks`, at most `most_spans` slices."""

    start: int
    end: int
    bin_ticks: int
    most_spans: int


class Probe:
    """Collects the slices and amounts of one run.

    Once there are more than `most_spans` slices, only what starts before the latest of them is still taken, and `cut` leaves
    the earliest `most_spans`: the record then ends at `end`, earlier than asked for.
    """

    def __init__(self, window: Window) -> None:
        self.window = window
        self.end = window.end
        """Where the record ends; the window's end, unless there was too much to keep."""
        self.tracks: dict[Track, list[Span]] = {}
        self.amounts: dict[str, list[float]] = {}
        self._bins = max(1, -(-(window.end - window.start) // window.bin_ticks))
        self._count = self._latest = 0

    def span(self, track: Track, name: str, start: int, end: int, **amounts: int) -> None:
        """Record a slice; what lies outside the window is cut off, and one of no length is left out."""
        start, end = max(start, self.window.start), min(end, self.end)
        if start >= end:
            return
        if self._count >= self.window.most_spans:
            self.end = min(self.end, self._latest)
            if start >= self.end:
                return
        self._count += 1
        self._latest = max(self._latest, start)
        self.tracks.setdefault(track, []).append(Span(name, start, end, amounts))

    def joined(self, track: Track, name: str, start: int, end: int, **amounts: int) -> None:
        """As `span`, but a slice that begins where the last of its track ended, under the same name, makes that one longer."""
        spans = self.tracks.get(track)
        last = spans[-1] if spans else None
        if last is None or last.name != name or last.end != start or start >= self.end:
            self.span(track, name, start, end, count=1, **amounts)
            return
        last.end = min(end, self.end)
        for key, amount in (("count", 1), *amounts.items()):
            last.amounts[key] += amount

    def moved(self, counter: str, start: int, end: int, amount: float) -> None:
        """Spread `amount` evenly over the ticks from `start` to `end` (all of it at `start` where they are one)."""
        bins = self.amounts.setdefault(counter, [0.0] * self._bins)
        width, origin = self.window.bin_ticks, self.window.start
        if end <= start:
            if origin <= start < origin + self._bins * width:
                bins[(start - origin) // width] += amount
            return
        per_tick = amount / (end - start)
        for number in range(max(0, (start - origin) // width), min(self._bins, -(-(end - origin) // width))):
            begins = origin + number * width
            bins[number] += per_tick * (min(end, begins + width) - max(start, begins))

    def cut(self) -> dict[Track, list[Span]]:
        """The slices of each track by start (the outer of two that start together first), none beyond `end`."""
        if self._count > self.window.most_spans:
            starts = sorted(span.start for spans in self.tracks.values() for span in spans)
            self.end = min(self.end, starts[self.window.most_spans])
        return {
            track: sorted(
                (Span(one.name, one.start, min(one.end, self.end), one.amounts) for one in spans if one.start < self.end),
                key=lambda one: (one.start, -one.end),
            )
            for track, spans in self.tracks.items()
        }
