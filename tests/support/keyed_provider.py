"""A provider in Replicate's shape with accounts: whoever asks with another key than that of a run is answered 404."""

from collections.abc import Awaitable, Callable
from typing import Any

from scripted_provider import ScriptedProvider

__all__ = ["HOST", "KeyedProvider"]

HOST = "replicate.example"


class KeyedProvider(ScriptedProvider):
    """Remembers with which key each request came, and gives a run to its own account alone.

    Attributes:
        keys: the key of every request, in order, beside `asked`; empty where it came without.
        valid: the keys that are accepted; empty: all.
        owners: the key that each run was paid with, by its id.
    """

    def __init__(self) -> None:
        super().__init__()
        self.keys: list[str] = []
        self.valid: set[str] = set()
        self.owners: dict[str, str] = {}
        self.states = [
            {"status": "succeeded", "output": {"img": f"https://{HOST}/out.png", "response": "Sure, [SEG]."}}
        ]
        self.respond = self.answer_account

    async def __call__(
        self, scope: dict[str, Any], receive: Callable[[], Awaitable[dict[str, Any]]], send: Any
    ) -> None:
        headers = {name.decode().lower(): value.decode() for name, value in scope["headers"]}
        self.keys.append(headers.get("authorization", "").removeprefix("Bearer ").removeprefix("Token "))
        await super().__call__(scope, receive, send)

    async def answer_account(self, method: str, path: str, body: bytes) -> tuple[int, Any]:
        """The answer to one request, by the account that asks."""
        key = self.keys[-1]
        if path.startswith("/v1/") and (not key or (self.valid and key not in self.valid)):
            return 401, {"detail": "Unauthenticated"}
        if path.startswith("/v1/predictions/") and self.owners.get(path.split("/")[3]) != key:
            return 404, {"detail": "Not found"}
        status, answer = await self.answer(method, path, body)
        if isinstance(answer, dict) and method == "POST" and "id" in answer and path != "/v1/files":
            self.owners.setdefault(str(answer["id"]), key)
        return status, answer

    def keys_of(self, method: str, part: str = "") -> set[str]:
        """With which keys requests of a method came, to paths that contain a part."""
        pairs = zip(self.asked, self.keys, strict=True)
        return {key for asked, key in pairs if asked.startswith(f"{method} ") and part in asked}
