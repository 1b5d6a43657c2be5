"""One running product for all tests that kill its parts, and stores for those that do not need all of it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from config import embedded
from tests.crash.running import Product
from tests.crash.worlds import Worlds


@pytest.fixture(scope="package")
def product() -> Iterator[Product]:
    data = Path(tempfile.mkdtemp(prefix="touchstone-crash-"))
    data.chmod(0o711)
    running = Product(data)
    try:
        running.start()
        yield running
    finally:
        running.stop()
        print((data / "serve.log").read_text(errors="replace")[-3000:])  # shown beside a failure
        shutil.rmtree(data, ignore_errors=True)


@pytest.fixture(scope="package")
def auditor(product: Product) -> str:
    """An API token that sees everything."""
    return product.add_viewer("auditor@shop.example")


@pytest.fixture(scope="session")
def worlds() -> Iterator[Worlds]:
    """Stores of their own for single cases, without web server and keeper."""
    root = Path(tempfile.mkdtemp(prefix="touchstone-faults-"))
    root.chmod(0o711)
    try:
        with embedded.Embedded(root / "postgres").ensure() as server:
            made = Worlds(root, server)
            yield made
            made.stop()
    finally:
        shutil.rmtree(root, ignore_errors=True)
