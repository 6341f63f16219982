"""The demo's story in its short form, as a person runs it: it does what it claims, on real flights and a real Kafka.

With what it prepares it takes longer than any other test, so `make test-demo` runs it. How late anything is, is for
`make story` to say.
"""

import re
from pathlib import Path

import pytest

from streams.kafka.clients import Cluster
from tests.demo.scenes import output_of

SCENES = ("full is the champion", "better is a shadow", "better is the champion", "better hangs", "rolled back")


@pytest.mark.timeout(300)
def test_a_model_is_added_promoted_passed_over_when_it_hangs_and_rolled_back_and_nothing_is_lost(
    cluster: Cluster, state: Path
):
    said = output_of("story", cluster, state, 280)
    told = (
        "staged. `rendezvous up` starts its scorer, then it is a shadow",
        "nothing was moved; --force does it all the same",
        "better is the champion; full is the challenger behind it",
        "kill -STOP",
        "passed-over",
        "full is the champion again, better a shadow",
        "lost: 0",
        "every promise was kept",
    )
    places = [said.find(words) for words in told]
    assert places == sorted(places), dict(zip(told, places, strict=True))
    assert places[0] > 0, said
    compared = re.search(r"of ([\d,]+) flights that both saw", said)
    assert compared, said
    assert compared[1] != "0", "the archive has what shadow and champion said of the same flights"
    assert all(scene in said[places[-2] - 3_000 :] for scene in SCENES), said[-3_000:]
