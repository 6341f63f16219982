"""The three small machines under the transport: what may be committed, when to look again, what time it is there."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.core.finished import FinishedPrefix
from streams.core.log_clock import LogClock
from streams.core.pacing import Pace


@dataclass
class Batch:
    next_offset: int
    finished: bool = False


@given(
    sizes=st.lists(st.integers(1, 5), max_size=12),
    order=st.randoms(use_true_random=False),
    held=st.sets(st.integers(0, 11), max_size=3),
)
def test_the_committable_offset_is_the_end_of_the_longest_finished_prefix(sizes: list[int], order, held: set[int]):
    prefix, batches, end = FinishedPrefix(100), [], 100
    for size in sizes:
        end += size
        batches.append(Batch(end))
        prefix.opened(batches[-1])
    finishing = [place for place in range(len(batches)) if place not in held]
    order.shuffle(finishing)
    for place in finishing:
        batches[place].finished = True
        ends = [100]
        for batch in batches:
            if not batch.finished:
                break
            ends.append(batch.next_offset)
        assert prefix.committable() == ends[-1]
    assert [batch.next_offset for batch in prefix] == [
        b.next_offset for b in batches[len(batches) - len(list(prefix)) :]
    ]


def test_nothing_finished_nothing_to_commit():
    prefix = FinishedPrefix()
    assert prefix.committable() is None
    prefix.opened(Batch(5))
    assert prefix.committable() is None


def test_an_idle_loop_wakes_at_once_and_a_busy_one_never_waits_longer_than_its_bound():
    pace = Pace(max_ms=4)
    assert pace.pause_s(1, 0.0) == 0
    assert pace.pause_s(1, 10.0) < 1e-5
    assert max(pace.pause_s(1_000, 10 + tick / 100) for tick in range(1, 100)) == 0.004


@given(rate=st.integers(1, 3_000))
def test_the_pause_is_a_millisecond_for_each_thousand_a_second(rate: int):
    pace = Pace(max_ms=4)
    pauses = [pace.pause_s(rate // 100 + 1, tick / 100) for tick in range(400)]
    assert abs(pauses[-1] * 1e6 - (rate // 100 + 1) * 100) < 50


@given(
    skew_ms=st.floats(-5_000, 5_000),
    trips=st.lists(st.tuples(st.floats(0, 50), st.floats(0, 50), st.floats(0, 100)), min_size=1, max_size=30),
)
def test_the_clock_comes_as_near_as_the_quickest_record_and_stays(skew_ms: float, trips):
    clock, now_ms = LogClock(1e12, 0.0), 0.0
    for out_ms, back_ms, pause_ms in trips:
        sent_ms, now_ms = now_ms, now_ms + out_ms + back_ms
        clock.confirmed(sent_ms, now_ms, int(1e12 + skew_ms + sent_ms + out_ms))
        assert clock.within_ms == pytest.approx(out_ms + back_ms + 1, abs=1e-3)
        error_ms = abs(clock.at_ms(now_ms) - (1e12 + skew_ms + now_ms))
        assert error_ms <= out_ms + back_ms + 1 + 1e-3
        now_ms += pause_ms
    assert error_ms <= min(out_ms + back_ms for out_ms, back_ms, _ in trips) + 1 + 1e-3 or len(trips) > 1
