"""One server for the tests that only ask."""

import pytest

from .helpers import TEMPLATE, make_model, serving


@pytest.fixture(scope="module")
def model():
    return make_model()


@pytest.fixture(scope="module")
def server(model):
    with serving(model, chat_template=TEMPLATE) as server:
        yield server
