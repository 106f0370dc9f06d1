#!/usr/bin/env python3
"""A named-entity tagger (spaCy's) trained by 1 to 8 Ray actors with a parameter server.

Each training is done three times: with gradients and parameters in Ray's object store, with the
parameter server of `tutti.strategies`, and with its asynchronous one. The first two take the same
steps and end with the same tagger. A table compares the words that they learn from per second.

    pip install -r deploy/requirements-spacy.txt     nothing is downloaded when it runs
    python train.py                                  the daemon comes up by itself
    python train.py --workers 4 --steps 200 --batch 4
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import statistics
import sys
import time
from collections.abc import Sequence
from typing import Any

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")

import ray
from with_object_store import ObjectStore
from with_tutti import Asynchronous, InStep
from worker import Plan

EXCHANGES: tuple[Any, ...] = (ObjectStore, InStep, Asynchronous)
# Steps that are not timed: the first are slower, in all exchanges.
_WARM_STEPS = 10
_HELD_OUT = 300


def train_once(kind: Any, plan: Plan, steps: int) -> dict[str, Any]:
    """One training: words per second, and F1 at its end."""
    training = kind(plan)
    training.train(_WARM_STEPS)
    began = time.perf_counter()
    words = training.train(steps)
    took_s = time.perf_counter() - began
    return {
        "exchange": kind.name,
        "workers": plan.workers,
        "words_per_s": words / took_s,
        "step_ms": took_s / steps * 1000,
        "f1": training.score(_HELD_OUT),
    }


def tell(result: dict[str, Any]) -> None:
    """A line as soon as it is known."""
    print(
        f"{result['workers']} workers  {result['exchange']:<20}{result['words_per_s']:8.0f} words/s"
        f"  {result['step_ms']:6.1f} ms per step  F1 {result['f1']:.3f}",
        flush=True,
    )


def table(results: Sequence[dict[str, Any]]) -> str:
    """Medians over the rounds, beside the object store."""
    lines = ["", f"{'words/s':<10}" + "".join(f"{kind.name:>28}" for kind in EXCHANGES)]
    for workers in sorted({result["workers"] for result in results}):
        line, first = f"{workers} workers ", 0.0
        for kind in EXCHANGES:
            rate = statistics.median(
                result["words_per_s"]
                for result in results
                if (result["workers"], result["exchange"]) == (workers, kind.name)
            )
            first = first or rate
            line += f"{rate:>20.0f} {f'({rate / first:.2f}x)':>7}"
        lines.append(line)
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--steps", type=int, default=60, help="of each worker, that are timed")
    parser.add_argument("--batch", type=int, default=8, help="sentences of each worker's step")
    parser.add_argument("--rounds", type=int, default=1, help="of the whole")
    parser.add_argument("--sentences", type=int, default=2000, help="to learn from")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=pathlib.Path, help="writes all figures there")
    options = parser.parse_args(arguments)
    if min(*options.workers, options.steps, options.batch, options.rounds) < 1:
        parser.error("workers, steps, batch and rounds are at least 1")
    if options.sentences < max(options.workers):
        parser.error("there must be a sentence for each worker")
    ray.init(log_to_driver=False, include_dashboard=False)
    results = []
    for _ in range(options.rounds):
        for workers in options.workers:
            plan = Plan(workers, options.batch, options.sentences, options.seed)
            for kind in EXCHANGES:
                results.append(train_once(kind, plan, options.steps))
                tell(results[-1])
    print(table(results))
    if options.json:
        report = {"plan": vars(options), "results": results}
        options.json.write_text(json.dumps(report, default=str))
    return 0


if __name__ == "__main__":
    sys.exit(main())
