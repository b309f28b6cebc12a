"""Records become JSON by one rule, and what they derive from their fields is right."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from motivnet_cli.evaluation.results import (
    INLINE,
    MAX_NAMES,
    ClassScore,
    Confusion,
    Interval,
    Names,
    mean_over_sets,
    to_json,
)


@dataclass(frozen=True)
class Record:
    before: int
    inlined: object = field(metadata=INLINE)
    after: tuple[object, ...] = ()


def test_fields_become_keys_in_their_order():
    """Names of fields are keys, tuples are lists, and a field named after a keyword loses its underscore."""
    score = to_json(ClassScore("fear", 3, 0.5, None, 1.0))

    assert list(score.items()) == [("class", "fear"), ("support", 3), ("precision", 0.5), ("recall", None), ("f1", 1.0)]
    assert to_json([Names(2, ("a", "b"))]) == [{"n": 2, "first": ["a", "b"]}]


@pytest.mark.parametrize("inlined", [{"file name": 7, "path": 1}, Names(7, ("a",))])
def test_an_inlined_field_puts_its_keys_beside_the_others(inlined):
    """A mapping, or another record, at the place of the field."""
    keys = list(to_json(Record(1, inlined)))

    assert keys == ["before", *to_json(inlined), "after"]


def test_what_has_no_form_in_json_is_refused():
    """A value that only Python knows is an error, and not its text."""
    with pytest.raises(TypeError, match="set has no form in JSON"):
        to_json(Record(1, {}, after=({1},)))


def test_names_are_counted_and_cut():
    """Of more images than are named, the first are."""
    names = Names.of([f"{number}.jpg" for number in range(MAX_NAMES + 5)])

    assert (names.n, len(names.first), names.first[0]) == (MAX_NAMES + 5, MAX_NAMES, "0.jpg")


def test_shares_are_of_the_row():
    """Each row of shares sums to 1, but for a row without images."""
    confusion = Confusion(("a", "b"), ("a", "b", "missed"), ((1, 2, 1), (0, 0, 0)))

    assert confusion.shares == ((0.25, 0.5, 0.25), (0.0, 0.0, 0.0))


def test_the_mean_over_sets_needs_every_set():
    """Each set counts once; without the figure of one there is no mean."""
    one, other, undefined = Interval(0.5, 0.4, 0.6), Interval(1.0, None, None), Interval(None, None, None)

    assert mean_over_sets([one, other]) == 0.75
    assert mean_over_sets([one, None]) is mean_over_sets([undefined, one]) is None
    assert (one.if_defined, other.if_defined) == ((0.5, 0.4, 0.6), None)
