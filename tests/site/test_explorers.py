"""What the reader moves, moves the data: every slider and every menu of every explorer."""

import pytest

from tests.site.pages import EXPLORERS, PHONE, WIDE

# What a dial does is the same in every window; how it is drawn there is seen by test_pages.py. One page on a phone.
LOOKS = [(page, WIDE) for page in EXPLORERS] + [(EXPLORERS[-1], PHONE)]
MOVED = [pytest.param(page, look, id=f"{page}-{look}", marks=pytest.mark.xdist_group(page)) for page, look in LOOKS]


@pytest.mark.parametrize(("page", "look"), MOVED)
def test_every_dial_changes_what_is_shown_and_back(met, page, look):
    """Would catch a dial that is dead, stuck, mute, out of step with the data, or out of the keyboard's reach."""
    assert met(page, look).dials == {"dead": [], "stuck": [], "mute": [], "out of reach": []}
