"""Ways to train one model with many ranks, over groups of `tutti.collective`; used inside actors.

    data_parallel     every rank has the whole model, and a part of the data
    parameter_server  one rank has the parameters; workers push gradients, in step or when they like
    pipeline          every rank has some layers; micro-batches pass through them
    weights           one rank gives its weights to all others

Models are NumPy or PyTorch: what is exchanged are lists of their tensors.
"""

from __future__ import annotations

from tutti.strategies.data_parallel import DataParallel
from tutti.strategies.parameter_server import (
    AsyncParameterServer,
    AsyncWorker,
    ParameterServer,
    Worker,
)
from tutti.strategies.pipeline import Pipeline
from tutti.strategies.weights import receive_weights, send_weights

__all__ = [
    "AsyncParameterServer",
    "AsyncWorker",
    "DataParallel",
    "ParameterServer",
    "Pipeline",
    "Worker",
    "receive_weights",
    "send_weights",
]
