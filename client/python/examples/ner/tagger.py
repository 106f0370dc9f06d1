"""spaCy's named-entity tagger, untrained, with parameters and gradients as lists of arrays."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import spacy
from data import Sentence, make_sentences
from spacy.tokens import Doc, Span
from spacy.training import Example
from thinc.api import Adam, fix_random_seed

Floats = npt.NDArray[np.float32]

# From these the tagger learns which kinds of names there are, before training.
_KINDS = make_sentences(50, seed=0)


class Tagger:
    """Not thread-safe. Taggers of one seed are alike."""

    def __init__(self, seed: int) -> None:
        """Takes some seconds."""
        fix_random_seed(seed)
        self._nlp = spacy.blank("en")
        pipe: Any = self._nlp.add_pipe("ner")
        self._nlp.initialize(lambda: self._examples(_KINDS))
        self._keys = [
            (node, name)
            for node in pipe.model.walk()
            for name in node.param_names
            if node.has_param(name)
        ]
        self.parameters: list[Floats] = [node.get_param(name) for node, name in self._keys]
        """Those it uses: who changes them changes the tagger."""

    def learn(self, sentences: Sequence[Sentence]) -> list[Floats]:
        """Returns the gradients, shaped as the parameters, and changes nothing."""
        for node, name in self._keys:
            if node.has_grad(name):
                node.get_grad(name)[...] = 0
        # Told so, spaCy leaves the gradients where they are.
        no_step: Any = False
        self._nlp.update(self._examples(sentences), sgd=no_step, drop=0.1)
        return [
            node.get_grad(name) if node.has_grad(name) else np.zeros_like(node.get_param(name))
            for node, name in self._keys
        ]

    def score(self, sentences: Sequence[Sentence]) -> float:
        """F1 of the names that it finds."""
        scores = self._nlp.evaluate(list(self._examples(sentences)))
        return float(scores["ents_f"] or 0.0)

    def _examples(self, sentences: Iterable[Sentence]) -> list[Example]:
        return [self._example(sentence) for sentence in sentences]

    def _example(self, sentence: Sentence) -> Example:
        tagged = Doc(self._nlp.vocab, words=list(sentence.words))
        tagged.ents = tuple(Span(tagged, *name) for name in sentence.names)
        return Example(Doc(self._nlp.vocab, words=list(sentence.words)), tagged)


class Optimizer:
    """Adam, for the parameters of one tagger."""

    def __init__(self, parameters: Sequence[Floats]) -> None:
        """`parameters` are changed in place by `step`."""
        self._parameters = parameters
        self._adam = Adam(0.001)

    def step(self, gradients: Sequence[Floats]) -> None:
        """One step with gradients shaped as the parameters."""
        pairs = zip(self._parameters, gradients, strict=True)
        for number, (parameter, gradient) in enumerate(pairs):
            updated, _ = self._adam((number, "parameter"), parameter, gradient.copy())
            parameter[...] = updated
        self._adam.step_schedules()


def words_of(sentences: Iterable[Sentence]) -> int:
    """How many there are."""
    return sum(len(sentence.words) for sentence in sentences)
