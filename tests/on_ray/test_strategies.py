"""tutti.strategies: what many ranks train is what one would."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
import ray
from ranks import DEADLINE_S, all_of

import tutti
from tutti import strategies
from tutti.collective import destroy_collective_group, init_collective_group

ROWS, FEATURES, RATE, STEPS = 240, 8, 0.05, 40


def data() -> tuple[Any, Any]:
    generator = np.random.default_rng(5)
    inputs = generator.normal(size=(ROWS, FEATURES))
    return inputs, inputs @ np.arange(1.0, FEATURES + 1) + 3


def gradients_of(parameters: list[Any], rank: int, parts: int) -> list[Any]:
    """Of the mean square error of a part of the rows: weights, and a bias."""
    inputs, targets = (part[rank::parts] for part in data())
    weights, bias = parameters
    error = inputs @ weights + bias - targets
    return [2 * inputs.T @ error / len(error), np.array([2 * error.mean()])]


def new_parameters(value: float = 0.0) -> list[Any]:
    return [np.full(FEATURES, value), np.full(1, value)]


def descend(parameters: list[Any], gradients: list[Any]) -> None:
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter -= RATE * np.asarray(gradient)


@pytest.fixture(scope="module")
def alone() -> list[Any]:
    """What one process comes to. Parts have as many rows, so means of means are means."""
    parameters = new_parameters()
    for _ in range(STEPS):
        descend(parameters, gradients_of(parameters, 0, 1))
    return parameters


def close(results: list[Any], wanted: list[Any]) -> bool:
    # The order of additions differs.
    return all(
        np.allclose(ours, theirs, rtol=1e-12)
        for result in results
        for ours, theirs in zip(result, wanted, strict=True)
    )


def data_parallel(actor: Any, rank: int, size: int, name: str) -> Any:
    del actor
    init_collective_group(size, rank, group_name=name)
    parameters = new_parameters(float(rank))
    parallel = strategies.DataParallel(parameters, name)
    for _ in range(STEPS):
        gradients = gradients_of(parameters, rank, size)
        parallel.average(gradients)
        descend(parameters, gradients)
    destroy_collective_group(name)
    return parameters


def test_data_parallel(crew: list[Any], name: str, alone: list[Any]) -> None:
    results = all_of(crew, data_parallel, name)
    assert close(results, alone)
    for result in results:
        assert all(np.array_equal(a, b) for a, b in zip(result, results[0], strict=True))


def data_parallel_torch(actor: Any, rank: int, size: int, name: str) -> Any:
    import torch

    del actor
    init_collective_group(size, rank, group_name=name)
    torch.manual_seed(rank)
    model = torch.nn.Linear(FEATURES, 1).double()
    parameters = list(model.parameters())
    parallel = strategies.DataParallel(parameters, name)
    with torch.no_grad():
        for parameter in parameters:
            parameter.zero_()
    inputs, targets = (torch.from_numpy(part[rank::size]) for part in data())
    for _ in range(STEPS):
        model.zero_grad()
        ((model(inputs).squeeze(1) - targets) ** 2).mean().backward()
        parallel.average([parameter.grad for parameter in parameters])
        with torch.no_grad():
            for parameter in parameters:
                parameter -= RATE * parameter.grad
    return [parameters[0].detach().numpy().ravel(), parameters[1].detach().numpy()]


def test_data_parallel_of_a_torch_model(crew: list[Any], name: str, alone: list[Any]) -> None:
    pytest.importorskip("torch")
    assert close(all_of(crew[:2], data_parallel_torch, name), alone)


def in_step(actor: Any, rank: int, size: int, name: str) -> Any:
    del actor
    init_collective_group(size, rank, group_name=name)
    parameters = new_parameters(float(rank))
    if rank == 0:
        server = strategies.ParameterServer(parameters, name)
        for _ in range(STEPS):
            server.step(lambda gradients: descend(parameters, gradients))
    else:
        worker = strategies.Worker(parameters, name)
        for _ in range(STEPS):
            worker.step(gradients_of(parameters, rank - 1, size - 1))
    return parameters


def test_parameter_server_in_step(crew: list[Any], name: str, alone: list[Any]) -> None:
    assert close(all_of(crew, in_step, name), alone)


def serve(actor: Any, workers: int, name: str) -> Any:
    del actor
    parameters = new_parameters()
    server = strategies.AsyncParameterServer(parameters, workers, name)
    ends = server.serve(lambda gradients: descend(parameters, gradients))
    return parameters, server.steps, [(type(end).__name__, end.culprits) for end in ends]


def work(actor: Any, worker: int, workers: int, name: str, steps: int, pause_s: float) -> float:
    del actor
    parameters = new_parameters(9.0)
    with_server = strategies.AsyncWorker(parameters, worker, name)
    assert (parameters[0] != 9.0).all()
    for _ in range(steps):
        with_server.step(gradients_of(parameters, worker, workers))
        time.sleep(pause_s)
    with_server.leave()
    return float(parameters[0][-1])


def test_workers_that_push_when_they_like(new_ranks: Any, name: str) -> None:
    """One is slow, and one is killed: the others do not notice."""
    server, *workers = new_ranks(4)
    serving = server.call.remote(serve, 3, name)
    quick = workers[0].call.remote(work, 0, 3, name, 400, 0.0)
    slow = workers[1].call.remote(work, 1, 3, name, 5, 0.05)
    workers[2].call.remote(work, 2, 3, name, 1_000_000, 0.001)
    weight = ray.get(quick, timeout=DEADLINE_S)
    ray.get(slow, timeout=DEADLINE_S)
    ray.kill(workers[2])
    parameters, steps, ends = ray.get(serving, timeout=DEADLINE_S)
    assert steps[:2] == [400, 5]
    assert ends[0] == ends[1] == ("GroupClosedError", (1,))
    assert ends[2] == ("RankLostError", (1,))
    assert abs(weight - FEATURES) < 0.1
    assert np.allclose(parameters[0], np.arange(1.0, FEATURES + 1), atol=0.1)


MICRO = 4


def stages(actor: Any, rank: int, size: int, name: str) -> Any:
    """A product of matrices, one per stage, and the sum of squares as the loss."""
    del actor
    init_collective_group(size, rank, group_name=name)
    weight = np.random.default_rng(rank).normal(size=(FEATURES, FEATURES)) / FEATURES
    gradient = np.zeros_like(weight)
    pipeline = strategies.Pipeline(MICRO, name)
    inputs = [np.zeros((ROWS // MICRO, FEATURES)) for _ in range(MICRO)]
    if rank == 0:
        inputs = [part.copy() for part in np.split(data()[0], MICRO)]
    above = [np.zeros((ROWS // MICRO, FEATURES)) for _ in range(MICRO)]
    outputs: dict[int, Any] = {}

    def forward(number: int, tensor: Any) -> Any:
        outputs[number] = tensor @ weight
        return outputs[number]

    def backward(number: int, output_gradient: Any) -> Any:
        if output_gradient is None:
            output_gradient = 2 * outputs[number]
        gradient[...] += inputs[number].T @ output_gradient
        return output_gradient @ weight.T

    for _ in range(3):
        gradient[...] = 0
        pipeline.step(forward, backward, inputs, above)
    return gradient


def test_pipeline(crew: list[Any], name: str) -> None:
    """Three times, so that nothing is left over of a batch."""
    shape = (FEATURES, FEATURES)
    weights = [np.random.default_rng(rank).normal(size=shape) / FEATURES for rank in range(3)]
    tensors = [data()[0]]
    for weight in weights:
        tensors.append(tensors[-1] @ weight)
    below, wanted = 2 * tensors[-1], []
    for weight, tensor in zip(weights[::-1], tensors[-2::-1], strict=True):
        wanted.insert(0, tensor.T @ below)
        below = below @ weight.T
    got = all_of(crew[:3], stages, name)
    assert all(np.allclose(a, b, rtol=1e-10) for a, b in zip(got, wanted, strict=True))


def test_wrong_tensors(crew: list[Any], name: str) -> None:
    def body(actor: Any, rank: int, size: int) -> None:
        del actor
        init_collective_group(size, rank, group_name=name)
        for wrong in ([], [np.zeros(2), np.zeros(2, np.float32)]):
            with pytest.raises(ValueError, match="one dtype"):
                strategies.DataParallel(wrong, name)

    all_of(crew[:1], body)
    assert tutti.strategies is strategies
