"""The intake: from what the user gave to checked media. Nothing is fetched that need not be."""

import base64
import binascii
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import anyio.to_thread

from rotoscope.errors import InvalidInput, TooLarge, UnsafeSource
from rotoscope.media.paths import Roots, read_file
from rotoscope.media.pictures import clean
from rotoscope.media.vault import Vault

__all__ = ["Admitted", "Intake"]

FILE_BYTES = 200_000_000
INLINE_BYTES = 10 * 1024 * 1024

Fetch = Callable[[str, Path, int], Awaitable[object]]
JobOutput = Callable[[str], Awaitable[str]]


@dataclass(frozen=True, slots=True)
class Admitted:
    """A medium that may be used: an https URL passed on unread, or an `artifact://` link to a checked file.

    Width and height are in pixels of the upright picture; None for a URL that nobody has read.
    """

    value: str
    width: int | None = None
    height: int | None = None
    content_type: str | None = None
    size: int | None = None


@dataclass(frozen=True, slots=True)
class Intake:
    """Admits media.

    Attributes:
        vault: where checked files are kept.
        roots: where local files may be read.
        fetch: reads an https URL into a file after the address guard has judged it.
        check_url: judges an https URL without dialling it.
        job_output: finds the `artifact://` link of a `job://` link.
    """

    vault: Vault
    roots: Roots
    fetch: Fetch
    check_url: Callable[[str], object]
    job_output: JobOutput

    async def picture(self, text: str, argument: str, *, pass_urls: bool) -> Admitted:
        """Admit a picture: a path, an https URL, a data URI, or an `artifact://` or `job://` link.

        Args:
            text: what the user gave.
            argument: the name of the tool's argument, for the error.
            pass_urls: whether the provider reads public URLs itself; then they are not fetched.

        Raises:
            UserMistake: it is not read, or it is no picture that can be used.
        """
        text = text.strip()
        if not text:
            raise InvalidInput(f"{argument!r} is empty.", hint="Give a path, an https URL or an artifact:// link.")
        scheme = text.partition(":")[0].lower() if "://" in text[:20] or text[:5].lower() == "data:" else ""
        if scheme in ("http", "https"):
            self.check_url(text)
            if pass_urls:
                return Admitted(text)
        return await self._checked(await self._bytes(text, scheme))

    async def _bytes(self, text: str, scheme: str) -> bytes:
        match scheme:
            case "https":
                return await self._fetched(text)
            case "data":
                return _decoded(text)
            case "artifact":
                return await anyio.to_thread.run_sync(self._kept, text)
            case "job":
                return await anyio.to_thread.run_sync(self._kept, await self.job_output(text))
            case "" | "file":
                return await anyio.to_thread.run_sync(self._local, text)
        raise UnsafeSource(
            f"Addresses of the kind {scheme[:20]!r} are not read.",
            hint="Give a local path, an https URL, a data URI, or an artifact:// or job:// link.",
            code="url_scheme",
        )

    def _local(self, text: str) -> bytes:
        sha256 = self.vault.hash_of(Path(text))
        if sha256 is not None:
            return self._kept(f"artifact://{sha256}")
        return read_file(text, self.roots, FILE_BYTES)

    def _kept(self, uri: str) -> bytes:
        path = self.vault.find(uri.removeprefix("artifact://").strip("/"))
        if path is None:
            raise InvalidInput(
                "There is no such artifact.", hint="Use the uri of an earlier result.", code="unknown_resource"
            )
        return path.read_bytes()

    async def _fetched(self, url: str) -> bytes:
        scratch = await anyio.to_thread.run_sync(self.vault.scratch)
        try:
            await self.fetch(url, scratch, FILE_BYTES)
            return await anyio.to_thread.run_sync(scratch.read_bytes)
        finally:
            scratch.unlink(missing_ok=True)

    async def _checked(self, content: bytes) -> Admitted:
        """Decode and encode anew, so that only pixels leave this machine."""
        picture = await anyio.to_thread.run_sync(clean, content)
        kept = await anyio.to_thread.run_sync(self.vault.keep, picture.content, picture.content_type)
        return Admitted(kept.uri, picture.width, picture.height, kept.content_type, kept.size)


def _decoded(uri: str) -> bytes:
    head, comma, payload = uri.partition(",")
    if not comma or not head.lower().endswith(";base64"):
        raise InvalidInput("The data URI is not base64.", hint="Write data:image/png;base64,…", code="data_uri_invalid")
    if len(payload) > INLINE_BYTES * 4 // 3 + 4:
        raise TooLarge("The data URI has more than 10 MB.", hint="Give a path or an https URL instead.")
    try:
        return base64.b64decode(payload, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidInput(
            "The data URI is not valid base64.", hint="Encode the file again.", code="data_uri_invalid"
        ) from error
