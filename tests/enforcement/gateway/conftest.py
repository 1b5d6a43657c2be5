"""What the gateway's tests share."""

from __future__ import annotations

from tests.enforcement.gateway.fixtures import *  # noqa: F403
from tests.enforcement.gateway.stalls import *  # noqa: F403
