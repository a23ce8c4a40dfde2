"""Fixtures of the serving tests: `client` of a server that a module shares, and `own_client` for what changes it."""

import pytest

from tests.serving.served import client_of, desk_on, make_databases


@pytest.fixture(scope="module")
def shared_paths(tmp_path_factory):
    """SQLite files shop and club, which no test changes."""
    return make_databases(tmp_path_factory.mktemp("shared"))


@pytest.fixture(scope="module")
def desk(shared_paths):
    """A desk that no test closes or fills."""
    with desk_on(shared_paths, query_s=0.3) as desk:
        yield desk


@pytest.fixture(scope="module")
def client(desk):
    """A client of it without keys."""
    with client_of(desk) as client:
        yield client


@pytest.fixture
def paths(tmp_path):
    """SQLite files of one test."""
    return make_databases(tmp_path)


@pytest.fixture
def own_client(paths):
    """A client of a server on them."""
    with desk_on(paths, query_s=0.3, lock_s=0.25) as desk, client_of(desk) as client:
        yield client
