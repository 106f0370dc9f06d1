"""What the steps of the presubmit found, and the lines that say so."""

import dataclasses
import sys
import time


def say(text: str) -> None:
    print(text, flush=True)


@dataclasses.dataclass
class Outcome:
    """Counts of one step. A failure and a skip always have a name and a reason."""

    passed: int = 0
    failures: list[str] = dataclasses.field(default_factory=list)
    skips: list[str] = dataclasses.field(default_factory=list)

    def add(self, other: "Outcome") -> None:
        self.passed += other.passed
        self.failures += other.failures
        self.skips += other.skips

    def __str__(self) -> str:
        return (
            f"{self.passed} passed, {len(self.failures)} failed, {len(self.skips)} skipped"
        )


def passed() -> Outcome:
    return Outcome(passed=1)


def failed(reason: str) -> Outcome:
    return Outcome(failures=[reason])


def skipped(reason: str) -> Outcome:
    return Outcome(skips=[reason])


class Report:
    """Collects outcomes step by step, and prints the end of the run."""

    def __init__(self) -> None:
        self._steps: list[tuple[str, Outcome, float]] = []
        self.total = Outcome()

    def record(self, name: str, outcome: Outcome, seconds: float) -> None:
        self._steps.append((name, outcome, seconds))
        self.total.add(outcome)
        say(f"<== {name}: {outcome} ({seconds:.0f} s)")

    def print_summary(self) -> int:
        """The last line is for machines: its form is fixed. Returns the exit status."""
        say("")
        width = max((len(name) for name, _, _ in self._steps), default=0)
        for name, outcome, seconds in self._steps:
            say(f"{name:{width}}  {seconds:6.0f} s  {outcome}")
        for name, outcome, _ in self._steps:
            for reason in outcome.skips:
                say(f"SKIPPED {name}: {reason}")
        for name, outcome, _ in self._steps:
            for reason in outcome.failures:
                say(f"FAILED {name}: {reason}")
        sys.stderr.flush()
        say(str(self.total))
        return 1 if self.total.failures else 0


class Stopwatch:
    """Time since it was made, and what is left of a budget."""

    def __init__(self, budget_s: float = float("inf")) -> None:
        self._start = time.monotonic()
        self._budget_s = budget_s

    def elapsed_s(self) -> float:
        return time.monotonic() - self._start

    def left_s(self) -> float:
        return self._budget_s - self.elapsed_s()
