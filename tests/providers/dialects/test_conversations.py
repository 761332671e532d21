"""The recorded conversations: each request is built, and each reply read, as recorded."""

import json
from dataclasses import fields

import pytest
from conversations import Conversation

from rotoscope.errors import RotoscopeError
from rotoscope.providers.http.messages import HttpCall, Reply


def as_recorded(call: HttpCall) -> dict[str, object]:
    """A request as the conversations write it: what is not at its default."""
    values = {f.name: getattr(call, f.name) for f in fields(call) if f.compare}
    return {name: value for name, value in values.items() if value not in (None, {}, True)}


def with_unknown_fields(reply: Reply) -> Reply:
    """The reply as a later version of the provider might give it."""
    noise = {"x_new": {"nested": [1, None]}, "beta": True, "count": 3}
    headers = {**reply.headers, "x-new": "1"}
    return Reply(reply.status, headers, json.dumps({**reply.fields(), **noise}).encode())


def test_every_request_is_built_as_recorded(conversation: Conversation) -> None:
    for exchange in conversation.exchanges():
        assert as_recorded(exchange.asked) == exchange.request


def test_every_reply_means_what_is_recorded(conversation: Conversation) -> None:
    for exchange in conversation.exchanges():
        for reply, gives in exchange.answers:
            assert conversation.means(reply, exchange.about) == gives


def test_a_reply_means_the_same_with_unknown_fields(conversation: Conversation) -> None:
    """All providers add fields. Left out are replies that are the model's own output: there every field counts."""
    for exchange in conversation.exchanges():
        for reply, gives in exchange.answers:
            if reply.fields() and gives.get("output") != reply.fields():
                assert conversation.means(with_unknown_fields(reply), exchange.about) == gives


def test_every_error_has_our_own_message_and_hint_without_the_providers_text(conversation: Conversation) -> None:
    errors = [
        (reply, exchange.about, gives.get("provider_message"))
        for exchange in conversation.exchanges()
        for reply, gives in exchange.answers
        if "error" in gives
    ]
    for reply, about, provider_message in errors:
        with pytest.raises(RotoscopeError) as caught:
            conversation.dialect.read(reply, about)
        for sentence in (caught.value.message, caught.value.hint):
            assert sentence.endswith(".")
            assert provider_message is None or provider_message not in sentence
