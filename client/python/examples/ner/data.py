"""Sentences with names in them: made, not collected, and the same for the same seed.

Names are made of syllables, so that those held out were never seen in training: a tagger has to go
by what stands around them and by their endings, as with real ones.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

_SYLLABLES = (
    "ba be bo da de do fa fi ga go ha he ja jo ka ke ko la le li lo ma me mi mo na ne ni no pa pe "
    "po ra re ri ro sa se si so ta te ti to va ve vi vo wa we wi za ze zo"
).split()

# By kind of name: what may follow the syllables of its last word.
_ENDINGS = {
    "PERSON": ("", "n", "s", "r", "k"),
    "ORG": ("x", "tech", "soft", "corp", "works"),
    "PLACE": ("ville", "burg", "ton", "stad", "shire"),
}

_TEMPLATES = (
    "{PERSON} works for {ORG} in {PLACE} .",
    "{PERSON} and {PERSON} met in {PLACE} last week .",
    "shares of {ORG} fell after {PERSON} left the company .",
    "the mayor of {PLACE} , {PERSON} , spoke about {ORG} .",
    "{ORG} opens an office in {PLACE} , said its president {PERSON} .",
    "in {PLACE} it rained while {PERSON} read the paper .",
    "{ORG} buys {ORG} for three million , as {PERSON} had expected .",
    "people from {PLACE} and {PLACE} complained about {ORG} .",
    "yesterday {PERSON} moved from {PLACE} to {PLACE} .",
    "nobody at {ORG} knew that {PERSON} was born near {PLACE} .",
    "the report does not say who wrote it , or when .",
)


@dataclass(frozen=True)
class Sentence:
    """Words, and which of them are names: (first word, word after the last, kind)."""

    words: tuple[str, ...]
    names: tuple[tuple[int, int, str], ...]


def make_sentences(count: int, seed: int) -> list[Sentence]:
    """Different seeds share templates, and hardly a name."""
    chance = random.Random(seed)
    return [_make_sentence(chance) for _ in range(count)]


def _make_sentence(chance: random.Random) -> Sentence:
    words: list[str] = []
    names: list[tuple[int, int, str]] = []
    for word in chance.choice(_TEMPLATES).split():
        kind = word.strip("{}")
        if kind not in _ENDINGS:
            words.append(word)
            continue
        name = _make_name(kind, chance)
        names.append((len(words), len(words) + len(name), kind))
        words += name
    return Sentence(tuple(words), tuple(names))


def _make_name(kind: str, chance: random.Random) -> list[str]:
    """Of one word or two."""
    stems = ["".join(chance.choices(_SYLLABLES, k=chance.randint(1, 3))).capitalize()]
    if chance.random() < 0.5:
        stems.append("".join(chance.choices(_SYLLABLES, k=2)).capitalize())
    stems[-1] += chance.choice(_ENDINGS[kind])
    return stems
