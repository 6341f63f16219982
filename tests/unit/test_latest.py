"""What is made of a value is made once for all that ask of it in a row, and is never another value's."""

from concurrent.futures import ThreadPoolExecutor

from streams.core.latest import Latest


def test_it_is_made_once_for_the_same_value_and_anew_for_another_though_it_be_equal():
    made: list[list[int]] = []

    def make(given: list[int]) -> int:
        made.append(given)
        return sum(given)

    latest = Latest(make)
    one, equal, other = [1, 2], [1, 2], [3]
    assert [latest.of(given) for given in (one, one, equal, other, other, one)] == [3, 3, 3, 3, 3, 3]
    assert [id(given) for given in made] == [id(given) for given in (one, equal, other, one)]


def test_each_of_several_threads_has_what_was_made_of_its_own_value():
    latest = Latest(sum)
    values = [[number] for number in range(50)]

    def asked(place: int) -> bool:
        return all(latest.of(values[(place + step) % 50]) == (place + step) % 50 for step in range(2_000))

    with ThreadPoolExecutor(4) as threads:
        assert all(threads.map(asked, range(8)))
