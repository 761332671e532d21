"""A server with people's own sign-in, in this process, and browsers and clients that use it as real ones would."""

import base64
import hashlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import httpx2
from mcp.client.auth import OAuthClientProvider
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.streamable_http_manager import StreamableHTTPASGIApp, StreamableHTTPSessionManager
from mcp.shared.auth import AuthorizationCodeResult, OAuthClientInformationFull, OAuthClientMetadata, OAuthToken
from set_clock import Clock
from starlette.applications import Starlette
from starlette.routing import Route

from rotoscope.errors import Unreachable
from rotoscope.providers.http.messages import Reply
from rotoscope.server.sign_in.people.documents import ReadDocument
from rotoscope.server.sign_in.people.passphrases import Passphrases
from rotoscope.server.sign_in.people.setup import PeopleSetup
from rotoscope.server.sign_in.people.sign_in import make_people_sign_in
from rotoscope.server.sign_in.people.tokens import hash_secret, make_secret
from rotoscope.store.database import Database

__all__ = [
    "CALLBACK",
    "ENDPOINT",
    "PASSPHRASE",
    "SITE",
    "VERIFIER",
    "Browser",
    "Form",
    "MemoryStorage",
    "Page",
    "PeopleSite",
    "challenge_of",
    "open_people_site",
]

SITE = "https://rotoscope.example"
ENDPOINT = f"{SITE}/mcp"
CALLBACK = "http://127.0.0.1:5555/callback"
PASSPHRASE = "a lamp beside the river"
VERIFIER = "v" * 64


def challenge_of(verifier: str) -> str:
    """The S256 challenge of a verifier."""
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")


@dataclass
class Form:
    """A form of a page: where it goes, its fields as they stand, and the buttons that send it with a value."""

    action: str
    fields: dict[str, str] = field(default_factory=dict)
    buttons: list[tuple[str, str]] = field(default_factory=list)


class _Reader(HTMLParser):
    """Finds the forms, links and words of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.forms: list[Form] = []
        self.links: list[str] = []
        self.words = ""
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.tags.append(tag)
        if tag == "form":
            assert given["method"] == "post"
            self.forms.append(Form(given["action"]))
        elif tag == "input":
            self.forms[-1].fields[given["name"]] = given.get("value", "")
        elif tag == "button" and "name" in given:
            self.forms[-1].buttons.append((given["name"], given["value"]))
        elif tag == "a":
            self.links.append(given["href"])

    def handle_data(self, data: str) -> None:
        if self.tags[-1:] != ["style"]:
            self.words += f" {data.strip()}" * bool(data.strip())


class Page:
    """What a browser shows: an answer of the server, read."""

    def __init__(self, response: httpx2.Response) -> None:
        self.response = response
        self.status = response.status_code
        self.html = response.text
        reader = _Reader()
        reader.feed(self.html)
        self.forms, self.links, self.tags = reader.forms, reader.links, reader.tags
        self.words = reader.words.strip()

    @property
    def location(self) -> str:
        """Where it sends the browser; empty where it does not."""
        return str(self.response.headers.get("location", ""))

    @property
    def answer(self) -> dict[str, str]:
        """What it hands to the client in the address that it sends the browser to."""
        return dict(parse_qsl(urlsplit(self.location).query))


class Browser:
    """A browser: it keeps cookies, sends Origin with its forms, and follows redirects within the site.

    Args:
        site: the server.
        origin: what it sends as Origin with forms; None: nothing.
    """

    def __init__(self, site: "PeopleSite", origin: str | None = SITE) -> None:
        self.http = httpx2.AsyncClient(transport=httpx2.ASGITransport(site.app), base_url=SITE)
        self._headers = {} if origin is None else {"Origin": origin}

    async def open(self, url: str) -> Page:
        """Open an address."""
        return await self._follow(await self.http.get(url))

    async def submit(self, form: Form, **fields: str) -> Page:
        """Fill a form in and send it."""
        data = {**form.fields, **fields}
        return await self._follow(await self.http.post(form.action, data=data, headers=self._headers))

    async def _follow(self, response: httpx2.Response) -> Page:
        for _ in range(5):
            location = response.headers.get("location", "")
            if not location.startswith(f"{SITE}/"):
                break
            response = await self.http.get(location)
        return Page(response)

    async def sign_in(self, page: Page, name: str = "anna", passphrase: str = PASSPHRASE) -> Page:
        """Sign in on a page of sign-in; the page that follows."""
        return await self.submit(page.forms[0], name=name, passphrase=passphrase)

    async def allow(self, page: Page, name: str = "anna", passphrase: str = PASSPHRASE) -> Page:
        """Sign in where a page asks for it, and let the client in; the answer that goes to it."""
        if "passphrase" in page.forms[0].fields:
            page = await self.sign_in(page, name, passphrase)
        return await self.submit(page.forms[0], decision="allow")


@dataclass
class MemoryStorage:
    """Where the SDK's client keeps its tokens."""

    tokens: OAuthToken | None = None
    client: OAuthClientInformationFull | None = None

    async def get_tokens(self) -> OAuthToken | None:
        return self.tokens

    async def set_tokens(self, tokens: OAuthToken) -> None:
        self.tokens = tokens

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        return self.client

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        self.client = client_info


class PeopleSite:
    """A server with people's own sign-in, whose one tool says on whose behalf it was called.

    Args:
        database: where its state is.
        clock: its time.
        read_document: reads documents of clients in place of `documents`.
    """

    def __init__(self, database: Database, clock: Clock, read_document: ReadDocument | None = None) -> None:
        self.clock = clock
        self.documents: dict[str, Reply] = {}
        self.read: list[str] = []
        fast = Passphrases(memory_kib=8, rounds=1)
        self.setup = PeopleSetup(SITE, ENDPOINT, database, read_document or self._read, clock=clock, passphrases=fast)
        self.sign_in = make_people_sign_in(self.setup)
        server: MCPServer[Any] = MCPServer("tests")

        @server.tool()
        def whoami(context: Context) -> str:
            """Says on whose behalf it was called."""
            return self.sign_in.principal_of(context.request_context)

        # The very app that `streamable_http_app` would build, with our guard of the endpoint in place of its own.
        self._sessions = StreamableHTTPSessionManager(app=server._lowlevel_server, json_response=True)
        endpoint = self.sign_in.protect(StreamableHTTPASGIApp(self._sessions))
        self.app = Starlette(routes=[Route("/mcp", endpoint), *self.sign_in.routes()])

    async def _read(self, url: str, max_bytes: int) -> Reply:
        self.read.append(url)
        if url not in self.documents:
            raise Unreachable("There is no such host.")
        return self.documents[url]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """The time in which the MCP endpoint answers."""
        async with self._sessions.run():
            yield

    def http(self, **options: Any) -> httpx2.AsyncClient:
        """A client without anything of its own."""
        return httpx2.AsyncClient(transport=httpx2.ASGITransport(self.app), base_url=SITE, **options)

    async def post(self, path: str, data: Mapping[str, str] | None = None, **options: Any) -> httpx2.Response:
        """Post a form to an endpoint."""
        return await self.http().post(path, data=data, **options)

    async def add_person(self, name: str = "anna", passphrase: str | None = PASSPHRASE) -> None:
        """Add a person."""
        kept = None if passphrase is None else await self.setup.passphrases.hash(passphrase)
        await self.setup.people.add(name, kept)

    async def make_link(self, name: str = "anna", seconds: float = 3600.0) -> str:
        """A one-time link of a person."""
        secret = make_secret()
        assert await self.setup.people.add_link(name, hash_secret(secret), self.clock() + seconds)
        return f"{SITE}/sign-in/links/{secret}"

    async def register(self, *redirects: str, **metadata: Any) -> dict[str, Any]:
        """Register a client."""
        said = {"redirect_uris": redirects or (CALLBACK,), "token_endpoint_auth_method": "none", **metadata}
        reply = await self.http().post("/register", json=said)
        assert reply.status_code == 201, reply.text
        return dict(reply.json())

    def authorization(self, client_id: str, **changes: str | None) -> str:
        """The address at which a client's person begins; a change to None leaves a parameter out."""
        asked: dict[str, str | None] = {
            "response_type": "code",
            "client_id": client_id,
            "redirect_uri": CALLBACK,
            "code_challenge": challenge_of(VERIFIER),
            "code_challenge_method": "S256",
            "state": "s1",
            "resource": ENDPOINT,
            **changes,
        }
        return "/authorize?" + urlencode({name: value for name, value in asked.items() if value is not None})

    async def get_code(self, client_id: str, **changes: str | None) -> str:
        """A code for a client, let in by anna."""
        browser = Browser(self)
        done = await browser.allow(await browser.open(self.authorization(client_id, **changes)))
        return done.answer["code"]

    async def exchange(self, client_id: str, code: str, **changes: str) -> httpx2.Response:
        """Exchange a code for tokens."""
        asked = {
            "grant_type": "authorization_code",
            "client_id": client_id,
            "code": code,
            "redirect_uri": CALLBACK,
            "code_verifier": VERIFIER,
            "resource": ENDPOINT,
            **changes,
        }
        return await self.post("/token", asked)

    async def refresh(self, client_id: str, token: str, **changes: str) -> httpx2.Response:
        """Renew tokens."""
        asked = {"grant_type": "refresh_token", "client_id": client_id, "refresh_token": token, **changes}
        return await self.post("/token", asked)

    async def get_tokens(self, client_id: str, **changes: str | None) -> dict[str, Any]:
        """Tokens of a client, let in by anna."""
        reply = await self.exchange(client_id, await self.get_code(client_id, **changes))
        assert reply.status_code == 200, reply.text
        return dict(reply.json())

    async def is_good(self, access_token: str) -> bool:
        """Whether the MCP endpoint takes a token."""
        request = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
        headers = {"Authorization": f"Bearer {access_token}", "Accept": "application/json, text/event-stream"}
        reply = await self.http().post("/mcp", json=request, headers=headers)
        return reply.status_code != 401

    def client_auth(
        self, storage: MemoryStorage, browser: Browser, client_metadata_url: str | None = None
    ) -> OAuthClientProvider:
        """The official SDK's sign-in, with a person at a browser who lets it in."""
        answers: list[dict[str, str]] = []

        async def go(url: str) -> None:
            answers.append((await browser.allow(await browser.open(url))).answer)

        async def come_back() -> AuthorizationCodeResult:
            answer = answers.pop()
            return AuthorizationCodeResult(code=answer["code"], state=answer["state"], iss=answer["iss"])

        metadata = OAuthClientMetadata.model_validate({"redirect_uris": [CALLBACK], "client_name": "The SDK"})
        return OAuthClientProvider(ENDPOINT, metadata, storage, go, come_back, client_metadata_url)


@asynccontextmanager
async def open_people_site(folder: Path, read_document: ReadDocument | None = None) -> AsyncIterator[PeopleSite]:
    """A server with one person, anna."""
    database = Database(folder / "ledger.sqlite3")
    site = PeopleSite(database, Clock(2_000_000_000.0), read_document)
    await site.add_person()
    async with site.running():
        yield site
    await database.aclose()
