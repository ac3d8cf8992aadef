"""A plugin: a server with the small model, and Triton's client of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import tritonclient.http as triton
from conftest import SmallStore
from live import Server, serving
from open_inference import client_of, settings_of


@pytest.fixture(scope="module")
def server(small_store: SmallStore) -> Iterator[Server]:
    with serving(settings_of(small_store.root, "small", MAX_BODY_BYTES="1000000")) as running:
        yield running


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[triton.InferenceServerClient]:
    with client_of(server) as client:
        yield client
