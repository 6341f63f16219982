"""Values that are not told apart have one name, whoever tells of them."""

from types import SimpleNamespace
from typing import Any

import numpy as np

from schemas.pipeline import Feature, FeatureType
from streams.core.event_fields import OTHERS
from streams.core.fingerprint import MOST_WORDS, prints_of
from streams.core.judged import MOST_VALUES, Judge
from streams.core.verdicts.fields import BINS, Vocabulary, column

NOBODYS: Any = None


def test_rare_words_of_a_training_are_the_others():
    words = [f"w{number}" for number in range(MOST_WORDS + 7)]
    feature = Feature(name="word", type=FeatureType.CATEGORY, vocabulary=tuple(words))
    [found] = prints_of([feature], [{"word": word} for word in words])
    assert (len(found.words), found.words[OTHERS]) == (MOST_WORDS + 1, 7)


def test_rare_values_of_a_segment_that_is_held_against_labels_are_the_others():
    codes = np.arange(MOST_VALUES + 3)
    races: Any = SimpleNamespace(segments={"who": codes}, values={"who": {f"u{code:03}": code for code in codes}})
    judge = Judge(races, NOBODYS, NOBODYS, 0)
    parts = dict(judge._split(np.ones(len(codes), bool), "who"))
    assert (len(parts), int(parts[OTHERS].sum())) == (MOST_VALUES + 1, 3)


def test_rare_words_that_share_a_bin_of_the_monitors_are_the_others():
    words, each = [f"w{number}" for number in range(2 * BINS)], 50
    vocabulary = Vocabulary()
    found = column("word", vocabulary.learn(words * each), vocabulary)
    assert (len(found.labels), found.labels[-1]) == (BINS, OTHERS)
