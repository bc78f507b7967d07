"""Every page by day, by night and on a phone: it draws, fits, is accessible, light, and alone."""

import pytest

from tests.site.pages import LOOKS, PAGES, WIDE, text

BUDGET = 1_500_000  # bytes of everything a page fetches, compressed
MODEL = 3_000_000  # and of the weights of the one model that a playground begins with
# One worker reads a page, and every test of this module asks what it met.
every = pytest.mark.parametrize(
    ("page", "look"),
    [
        pytest.param(page, look, id=f"{page}-{look}", marks=pytest.mark.xdist_group(page))
        for page in PAGES
        for look in LOOKS
    ],
)


@every
def test_nothing_goes_wrong_in_silence(met, page, look):
    """Would catch an exception in a script, and a file that the page asks for and the site does not have."""
    assert met(page, look).errors == []


@every
def test_no_other_host_is_asked(met, page, look):
    """Would catch what no markup shows: a script that fetches from elsewhere while it runs."""
    assert met(page, look).foreign == []


@every
def test_it_follows_the_readers_colours(met, page, look):
    """Would catch a site that is bright at night, and a figure that stays as it was when the page turns dark."""
    visit = met(page, look)
    assert (visit.theme, visit.unlike) == (look.theme, 0)


@every
def test_nothing_scrolls_sideways(met, page, look):
    """Would catch a table, formula or figure wider than the window, solutions and code included."""
    visit = met(page, look)
    assert (visit.scroll, visit.too_wide) == (0, [])


@every
def test_every_figure_is_drawn(met, page, look):
    """Would catch a figure that stays an empty box, or offers its values and has none."""
    visit, figures = met(page, look), text(page).count('<figure class="llm-figure"')
    assert (visit.failed, visit.drawn) == ([], figures)
    assert look != WIDE or not figures or (visit.values or 0) > 1


@every
def test_every_formula_is_set(met, page, look):
    """Would catch red letters in place of a formula that KaTeX does not understand."""
    assert met(page, look).red == []


@every
def test_anyone_can_read_it(met, page, look):
    """Would catch contrast, names, roles and focus that WCAG 2.2 AA does not allow, as far as axe-core sees."""
    assert met(page, look).violations == []


@every
def test_it_is_light(met, page, look):
    """Would catch a page that a slow line waits for: every file counts, compressed, drawn figures included."""
    weight = dict(met(page, look).weight)
    assert page in weight
    models = [weight.pop(path) for path in list(weight) if path.endswith(".bin")]
    heaviest = sorted(weight.items(), key=lambda item: -item[1])[:5]
    assert sum(weight.values()) <= BUDGET, f"{sum(weight.values())} bytes, most of them {heaviest}"
    assert sum(models) <= MODEL, f"{sum(models)} bytes of models"
