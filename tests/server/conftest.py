"""A real PostgreSQL for the tests of the server: one for all tests of a process, and a schema for each test."""

import os
import uuid
from collections.abc import Iterator

import postgresql
import psycopg
import pytest


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of a database: the one that TASKSTORE_TEST_POSTGRES names, or a server of our own."""
    if url := os.environ.get("TASKSTORE_TEST_POSTGRES"):
        yield url
        return
    with postgresql.running() as server:
        yield server.url


@pytest.fixture
def postgres_url(postgres: str) -> Iterator[str]:
    """The URL of an empty store, in a schema of its own."""
    schema = f"test_{uuid.uuid4().hex}"
    yield f"{postgres}{'&' if '?' in postgres else '?'}schema={schema}"
    with psycopg.connect(postgres) as connection:
        connection.execute("SET lock_timeout = '5s'")  # A test that failed may still be in a transaction.
        connection.execute(f"DROP SCHEMA IF EXISTS {schema} CASCADE".encode())
