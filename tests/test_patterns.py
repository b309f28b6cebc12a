"""What a pattern fits, against a definition by recursion."""

from __future__ import annotations

import fnmatch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from motivnet_cli.inputs.patterns import Pattern

PARTS = st.lists(st.sampled_from(["**", "*", "a", "a*", "?", "[ab]", ".*", ".a", "b"]), min_size=1, max_size=5)
NAMES = st.lists(st.sampled_from(["a", "b", "ab", ".a", "c"]), min_size=1, max_size=5)


def fits(parts, names):
    """Whether the parts fit all of the names."""
    if not parts or not names:
        return not parts and not names
    part, is_hidden = parts[0], names[0].startswith(".")
    if part == "**":
        return fits(parts[1:], names) or (not is_hidden and fits(parts, names[1:]))
    is_open = part.startswith(".") or not is_hidden
    return is_open and fnmatch.fnmatchcase(names[0], part) and fits(parts[1:], names[1:])


@pytest.mark.thorough
@settings(max_examples=500)
@given(PARTS, NAMES)
def test_names_that_a_pattern_fits(parts, names):
    """Step by step it says the same, and goes on as long as something longer may fit."""
    pattern = Pattern(parts)
    whole = [*parts, "*"] if parts[-1] == "**" else parts
    state = pattern.start
    for count, name in enumerate(names, 1):
        may_fit = pattern.goes_on(state)
        state = pattern.after(state, name)
        assert pattern.is_whole(state) == fits(whole, names[:count])
        assert may_fit or not pattern.is_whole(state)


def test_links_back_are_no_folders_of_two_stars():
    """Elsewhere in a pattern, which ends, they are as others."""
    pattern = Pattern(["**", "a", "x"])

    assert pattern.after(pattern.start, "b", is_loop=True) == frozenset()
    assert pattern.is_whole(pattern.after(pattern.after(pattern.start, "a", is_loop=True), "x"))
