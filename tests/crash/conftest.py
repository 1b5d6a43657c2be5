"""One running product for all crash tests: each adds sources of its own and leaves it running."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash.running import Product


@pytest.fixture(scope="session")
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


@pytest.fixture(scope="session")
def auditor(product: Product) -> str:
    """An API token that sees everything."""
    return product.add_viewer("auditor@shop.example")
