#!/usr/bin/env python3
"""Data-parallel training with Ray actors, on the handwritten digits that scikit-learn ships.

Each actor learns from its share of the digits; after each step the gradients of all are averaged.
That is done by the node's Tutti daemon, and then, in the same training once more, through Ray's
object store. A table compares the two.

    python train.py                    needs a daemon: tuttid; ./deploy/quickstart starts one
    python train.py --only tutti --epochs 200 --workers 8
"""

from __future__ import annotations

import argparse
import logging
import os
import subprocess
import sys
from collections.abc import Sequence

# Before Ray is imported: no reports over the network, no warning about GPUs.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")

import ray
from exchange import GradientExchange, Stopwatch, TrainingError
from model import Samples, load_digits, parameter_count
from report import Progress, Training, summarize
from with_object_store import ObjectStoreExchange
from with_tutti import GROUP, TuttiExchange, check_daemon
from worker import Plan

EXCHANGES: dict[str, type[GradientExchange]] = {
    "tutti": TuttiExchange,
    "object-store": ObjectStoreExchange,
}
# A step leaves five objects of 0.7 MB behind, and Ray removes them soon.
_OBJECT_STORE_BYTES = 256 << 20
# It gives an answer within a second, whatever hangs.
_TOOL_TIMEOUT_S = 10
_INTERRUPTED = 130  # as shells call it


class Trainer:
    """Trains once with each exchange."""

    def __init__(self, options: argparse.Namespace, progress: Progress) -> None:
        """Raises TrainingError if the options don't fit the data."""
        self._options = options
        self._progress = progress
        self._train, self._test = load_digits(options.seed)
        self._plan = Plan(
            workers=options.workers,
            batch=options.batch,
            learning_rate=options.learning_rate,
            seed=options.seed,
            train_count=len(self._train.labels),
        )
        if self._plan.steps_per_epoch == 0:
            raise TrainingError(
                f"{self._plan.train_count} digits are too few for {options.workers} workers "
                f"with batches of {options.batch}"
            )

    def describe(self) -> str:
        """What is about to be trained."""
        plan = self._plan
        return (
            f"{plan.train_count} digits to learn from, {len(self._test.labels)} held out; "
            f"{plan.workers} ranks; {self._options.epochs} epochs of {plan.steps_per_epoch} steps; "
            f"gradients of {parameter_count() * 4 / 1000:.0f} kB"
        )

    def run(self, name: str) -> Training:
        """One training from its beginning. Raises TrainingError."""
        kind = EXCHANGES[name]
        training = Training(kind.name, self._plan.workers, self._options.epochs)
        self._progress.draw(f"{kind.name:<12} starting {self._plan.workers} actors")
        exchange = kind(self._plan, [self._shard(rank) for rank in range(self._plan.workers)])
        exchange.start()
        for epoch in range(1, training.epochs + 1):
            half_way = kind is TuttiExchange and epoch == training.epochs // 2 + 1
            tools = self._ask_tool() if half_way else {}
            watch = Stopwatch()
            results = exchange.train_epoch(epoch)
            training.add(epoch, watch.lap(), results)
            training.accuracy = exchange.accuracy(self._test)
            self._progress.update(training)
            self._show_answers(tools)
        self._progress.end_line()
        training.digests = exchange.digests()
        exchange.close()
        return training

    def _shard(self, rank: int) -> Samples:
        rows = slice(rank, None, self._plan.workers)
        return Samples(self._train.images[rows], self._train.labels[rows])

    def _ask_tool(self) -> dict[str, subprocess.Popen[str]]:
        """Starts the tool, which looks at the daemon while the ranks train. By command line."""
        commands = (["status"], ["group", GROUP]) if self._options.tool else ()
        return {
            " ".join(["tutti", *command]): subprocess.Popen(
                [self._options.tool, *command],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for command in commands
        }

    def _show_answers(self, tools: dict[str, subprocess.Popen[str]]) -> None:
        for command, tool in tools.items():
            text, _ = tool.communicate(timeout=_TOOL_TIMEOUT_S)
            self._progress.say(f"\n  half-way, `{command}` says:\n\n{_indent(_indent(text))}")
        if tools:
            self._progress.say("")


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status: 0 if all went well and all ranks have the same parameters."""
    options = _parse(arguments)
    names = [options.only] if options.only else list(EXCHANGES)
    progress = Progress()
    try:
        trainer = Trainer(options, progress)
        progress.say(trainer.describe())
        progress.draw("starting Ray")
        _start_ray()
        if "tutti" in names:
            check_daemon()
        trainings = [trainer.run(name) for name in names]
        progress.say("\n" + summarize(trainings))
        return 0 if all(training.same_everywhere for training in trainings) else 1
    except TrainingError as error:
        progress.end_line()
        print(f"digits: training has failed:\n{_indent(str(error))}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        progress.end_line()
        print("digits: interrupted", file=sys.stderr)
        return _INTERRUPTED
    finally:
        ray.shutdown()


def _start_ray() -> None:
    """A Ray of our own on this machine, that says nothing: what matters comes as exceptions."""
    ray.init(
        address="local",
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        object_store_memory=_OBJECT_STORE_BYTES,
    )


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--epochs", type=_positive, default=50, help="rounds through the digits (%(default)s)")
    add("--workers", type=_positive, default=4, help="actors, that is ranks (%(default)s)")
    add("--batch", type=_positive, default=16, help="samples a rank and step (%(default)s)")
    add("--learning-rate", type=float, default=0.02, help="of SGD (%(default)s)")
    add("--seed", type=int, default=7, help="of all that is random (%(default)s)")
    add("--only", choices=sorted(EXCHANGES), help="one way of exchanging gradients, not both")
    add("--tool", metavar="PATH", help="the tool tutti: show half-way what it says")
    return parser.parse_args(arguments)


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, and is {value}")
    return value


def _indent(text: str) -> str:
    return "\n".join(f"  {line}".rstrip() for line in text.rstrip().splitlines())


if __name__ == "__main__":
    sys.exit(main())
