"""Each recorded conversation with a provider, as a parameter."""

import json
from pathlib import Path

import pytest
from conversations import Conversation

CONVERSATIONS = sorted((Path(__file__).parent / "conversations").glob("*.json"))


@pytest.fixture(params=CONVERSATIONS, ids=lambda path: path.stem)
def conversation(request: pytest.FixtureRequest) -> Conversation:
    """Each recorded conversation in turn."""
    return Conversation(json.loads(request.param.read_text(encoding="utf-8")))
