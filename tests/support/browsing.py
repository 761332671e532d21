"""A person at a browser, by plain HTTP: follows addresses, and fills in the forms of our own sign-in."""

from html.parser import HTMLParser
from urllib.parse import urljoin, urlsplit

import httpx2

__all__ = ["let_client_in"]

_STEPS = 10


class _Form(HTMLParser):
    """The first form of a page: where it goes, and its fields as they stand."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.action: str | None = None
        self.fields: dict[str, str] = {}
        self._is_inside = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form" and self.action is None:
            self.action, self._is_inside = given["action"], True
        elif tag == "input" and self._is_inside:
            self.fields[given["name"]] = given.get("value", "")

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._is_inside = False


async def let_client_in(http: httpx2.AsyncClient, url: str, callback: str, name: str, passphrase: str) -> str:
    """Do what a person does to let a client in: open its address, sign in where asked, and agree.

    Args:
        http: the browser, which keeps cookies.
        url: the address that the client opens.
        callback: the beginning of the client's own address, where the browser's way ends.
        name: of the person.
        passphrase: of the person.

    Returns:
        The client's own address with the answer in it, which was not opened.
    """
    response = await http.get(url)
    for _ in range(_STEPS):
        if response.is_redirect:
            target = urljoin(str(response.url), response.headers["location"])
            if target.startswith(callback):
                return target
            response = await http.get(target)
            continue
        form = _Form(response.text)
        assert response.status_code == 200, response.text
        assert form.action is not None, response.text
        filled = {"name": name, "passphrase": passphrase} if "passphrase" in form.fields else {"decision": "allow"}
        parts = urlsplit(str(response.url))
        response = await http.post(
            urljoin(str(response.url), form.action),
            data={**form.fields, **filled},
            headers={"Origin": f"{parts.scheme}://{parts.netloc}"},
        )
    raise AssertionError(f"The way of the browser does not end: {response.url}")
