"""What people see: a line that says how far it is, and at the end a table."""

from __future__ import annotations

import shutil
import statistics
import sys
from dataclasses import dataclass, field
from typing import TextIO

from worker import EpochResult

_NOTES = (
    "Exchange of gradients: the time in collectives, or what takes their place. In total: the mean",
    "of the ranks; per step: the median. Ranks also wait there for slower ones, so the last row is",
    "of the rank that waits least: about what the exchange itself takes.",
)

# Lines that are not redrawn, but kept in a log, come this often at most.
_LINES_MAX = 10


@dataclass
class Training:
    """What is known about one training, while it runs and afterwards. Times in seconds."""

    name: str
    workers: int
    epochs: int
    epoch: int = 0
    seconds: float = 0.0
    loss: float = 0.0
    accuracy: float = 0.0
    steps: int = 0
    # Of each step, what each rank spent in the exchange.
    exchange_s: list[list[float]] = field(default_factory=list)
    digests: list[str] = field(default_factory=list)

    def add(self, epoch: int, seconds: float, results: list[EpochResult]) -> None:
        """Takes in an epoch, with the results of all ranks."""
        losses = [loss for result in results for loss in result.losses]
        steps = list(zip(*(result.exchange_s for result in results), strict=True))
        self.epoch = epoch
        self.seconds += seconds
        self.loss = statistics.fmean(losses)
        self.steps += len(steps)
        self.exchange_s += [list(step) for step in steps]

    @property
    def in_exchange_s(self) -> float:
        """Mean over the ranks."""
        return sum(sum(step) for step in self.exchange_s) / self.workers

    @property
    def step_us(self) -> float:
        """Of a step in the exchange, median over all ranks and steps, in microseconds."""
        return statistics.median(time for step in self.exchange_s for time in step) * 1e6

    @property
    def last_rank_us(self) -> float:
        """The same of the rank that waited least: next to no waiting for slower ranks is in it."""
        return statistics.median(min(step) for step in self.exchange_s) * 1e6

    @property
    def same_everywhere(self) -> bool:
        """True if all ranks ended with the same parameters, to the last bit."""
        return len(set(self.digests)) == 1


class Progress:
    """One line that is redrawn if a person is looking on, else a few plain lines."""

    def __init__(self, out: TextIO | None = None) -> None:
        self._out = sys.stdout if out is None else out
        self._redraws = self._out.isatty()
        self._drawn = False

    def say(self, text: str) -> None:
        """Text that stays. What is being redrawn stays above it."""
        self.end_line()
        print(text, file=self._out, flush=True)

    def draw(self, text: str) -> None:
        """Text that the next one replaces; nothing if it would stay."""
        if self._redraws:
            # \x1b[K clears what a longer text has left. A line that wraps could not be redrawn.
            text = text[: shutil.get_terminal_size().columns - 1]
            print(f"\r{text}\x1b[K", end="", file=self._out, flush=True)
            self._drawn = True

    def end_line(self) -> None:
        """What was drawn last stays."""
        if self._drawn:
            print(file=self._out, flush=True)
        self._drawn = False

    def update(self, training: Training) -> None:
        """After each epoch."""
        width = len(str(training.epochs))
        share = training.in_exchange_s / training.seconds
        # 79 columns.
        text = (
            f"{training.name:<12} epoch {training.epoch:>{width}}/{training.epochs}"
            f"  loss {training.loss:.3f}  accuracy {training.accuracy:.1%}"
            f"  {training.steps / training.seconds:3.0f} steps/s  {share:.0%} exchange"
        )
        every = max(training.epochs // _LINES_MAX, 1)
        if self._redraws:
            self.draw(text)
        elif training.epoch % every == 0 or training.epoch in (1, training.epochs):
            self.say(text)


def summarize(trainings: list[Training]) -> str:
    """The table at the end: a column for each training, and how they compare."""
    first = trainings[0]
    rows = [
        _row("", [training.name for training in trainings], ""),
        _row("accuracy on held-out digits", [f"{t.accuracy:.2%}" for t in trainings]),
        _times("training", "s", [t.seconds for t in trainings]),
        _times("  exchange of gradients, in total", "s", [t.in_exchange_s for t in trainings]),
        _times("  exchange of gradients, per step", "us", [t.step_us for t in trainings]),
        _times("  the same, rank that waits least", "us", [t.last_rank_us for t in trainings]),
    ]
    lines = [*rows, "", *_NOTES, ""]
    for training in trainings:
        ranks = f"{training.name}: all {training.workers} ranks ended with"
        if training.same_everywhere:
            lines.append(f"{ranks} the same parameters, bit for bit.")
        else:
            lines.append(f"{ranks} DIFFERENT parameters. That is a bug.")
    if len(trainings) > 1 and all(t.digests[0] == first.digests[0] for t in trainings):
        lines.append("They are also the same in both trainings, bit for bit.")
    return "\n".join(lines)


def _times(label: str, unit: str, values: list[float]) -> str:
    digits = 2 if unit == "s" else 0
    ratio = f"{values[1] / values[0]:.1f} x" if len(values) == 2 and values[0] else ""
    return _row(label, [f"{value:,.{digits}f} {unit}" for value in values], ratio)


def _row(label: str, cells: list[str], ratio: str = "") -> str:
    return (f"{label:<36}" + "".join(f"{cell:>15}" for cell in cells) + f"{ratio:>10}").rstrip()
