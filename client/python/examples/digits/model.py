"""The handwritten digits that scikit-learn ships, and a network that learns to read them.

All parameters lie in one flat array, and so do all gradients: one collective per step moves them.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]

# 8 x 8 pixels, two hidden layers, ten digits. That is 167,178 parameters: gradients of 669 kB, as
# much as a layer of a model of today, and still some milliseconds of computing a step.
LAYERS = (64, 512, 256, 10)


class Samples(NamedTuple):
    """Images, one a row of 64 pixels from 0 to 1, and the digits that they show."""

    images: Floats
    labels: Labels


def load_digits(seed: int) -> tuple[Samples, Samples]:
    """1,437 digits to learn from, and 360 others to test with. Needs no network."""
    # A second to import, and only the driver needs it.
    from sklearn import datasets  # type: ignore[import-untyped]

    digits = datasets.load_digits()
    order = np.random.default_rng(seed).permutation(len(digits.target))
    images = (digits.data[order] / 16).astype(np.float32)
    labels = digits.target[order].astype(np.int64)
    test, train = slice(None, 360), slice(360, None)
    return Samples(images[train], labels[train]), Samples(images[test], labels[test])


def parameter_count() -> int:
    """How many elements the flat arrays have."""
    return sum(rows * columns + columns for rows, columns in pairwise(LAYERS))


class Model:
    """A multilayer perceptron: ReLU, softmax, cross entropy; SGD with momentum.

    `parameters` and `gradients` are flat arrays of parameter_count() elements, made by the caller:
    it decides what memory they live in.
    """

    def __init__(self, parameters: Floats, gradients: Floats) -> None:
        self.parameters = parameters
        self.gradients = gradients
        self.velocity = np.zeros_like(parameters)
        self._layers = _split(parameters)
        self._layer_gradients = _split(gradients)

    def randomize(self, seed: int) -> None:
        """Sets the parameters to where training starts (He's initialization)."""
        random = np.random.default_rng(seed)
        for weights, biases in self._layers:
            rows, columns = weights.shape
            weights[:] = random.standard_normal((rows, columns)) * np.sqrt(2 / rows)
            biases[:] = 0

    def learn(self, batch: Samples) -> float:
        """Replaces `gradients` by those of the batch's mean loss. Returns that loss."""
        activations = self._forward(batch.images)
        probabilities = _softmax(activations.pop())
        rows = np.arange(len(batch.labels))
        loss = -np.log(probabilities[rows, batch.labels] + 1e-12).mean()
        delta = probabilities
        delta[rows, batch.labels] -= 1
        delta /= len(rows)
        for index in reversed(range(len(self._layers))):
            below = activations.pop()
            weight_gradients, bias_gradients = self._layer_gradients[index]
            np.matmul(below.T, delta, out=weight_gradients)
            delta.sum(axis=0, out=bias_gradients)
            if index:
                delta = (delta @ self._layers[index][0].T) * (below > 0)
        return float(loss)

    def step(self, gradients: Floats, learning_rate: float, momentum: float = 0.9) -> None:
        """Moves the parameters down the gradients."""
        self.velocity *= momentum
        self.velocity += gradients
        self.parameters -= learning_rate * self.velocity

    def accuracy(self, samples: Samples) -> float:
        """The share of the samples that it reads correctly."""
        guesses = self._forward(samples.images)[-1].argmax(axis=1)
        return float((guesses == samples.labels).mean())

    def _forward(self, images: Floats) -> list[Floats]:
        """What goes into each layer, and last the scores that come out."""
        activations = [images]
        for index, (weights, biases) in enumerate(self._layers):
            scores = activations[-1] @ weights + biases
            is_last = index == len(self._layers) - 1
            activations.append(scores if is_last else np.maximum(scores, 0))
        return activations


def _split(flat: Floats) -> list[tuple[Floats, Floats]]:
    """Views of a flat array: weights and biases of each layer."""
    layers, start = [], 0
    for rows, columns in pairwise(LAYERS):
        middle, end = start + rows * columns, start + rows * columns + columns
        layers.append((flat[start:middle].reshape(rows, columns), flat[middle:end]))
        start = end
    return layers


def _softmax(scores: Floats) -> Floats:
    powers: Floats = np.exp(scores - scores.max(axis=1, keepdims=True))
    powers /= powers.sum(axis=1, keepdims=True)
    return powers
