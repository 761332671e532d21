"""The fault tests' media, their ways to pay, and a sandbox whose faults they choose."""

import pytest
from fault_fixtures import callers, media, scene
from fault_scene import KEYS
from postgresql import postgresql

__all__ = ["callers", "media", "postgresql", "scene"]


@pytest.fixture
def keys() -> tuple[str, ...]:
    return tuple(KEYS.values())
