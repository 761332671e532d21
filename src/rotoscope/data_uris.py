"""Data URIs: written, and read as browsers read them: the data: URL of the Fetch standard, with forgiving base64.

Assistants copy them from pages, mails and logs: broken into lines, escaped, without padding, with parameters. What a
provider answers is read by the same function.
Sources: https://fetch.spec.whatwg.org/#data-url-processor and https://infra.spec.whatwg.org/#forgiving-base64-decode.
"""

import binascii
import re
from base64 import b64encode
from urllib.parse import unquote_to_bytes

from rotoscope.errors import InvalidInput, TooLarge

__all__ = ["MAX_DATA_URI_BYTES", "encode_data_uri", "read_data_uri"]

MAX_DATA_URI_BYTES = 10 * 1024 * 1024
"""The most bytes that are read from a data URI that a user gave: it has to fit into one message."""

_BASE64_MARK = re.compile(r";[ ]*base64$", re.IGNORECASE)
_URL_WHITESPACE = str.maketrans("", "", "\t\n\r")  # anywhere in an URL
_BASE64_WHITESPACE = b"\t\n\x0c\r "
_ESCAPE_LENGTH = 3  # characters of an escaped byte, such as %2B
_ALPHABET = re.compile(rb"[A-Za-z0-9+/]*")
_QUANTUM = 4  # characters of base64 that stand for three bytes


def encode_data_uri(content: bytes, content_type: str) -> str:
    """The data URI of some bytes, in base64."""
    return f"data:{content_type};base64,{b64encode(content).decode()}"


def read_data_uri(text: str, most: int = MAX_DATA_URI_BYTES) -> bytes:
    """The bytes of a data URI. Its media type is ignored: the content tells its type.

    Args:
        text: begins with `data:`, in upper or lower case, perhaps after blanks.
        most: so many bytes are read at most.

    Raises:
        InvalidInput: `data_uri_invalid`: there is no comma, or what should be base64 is not.
        TooLarge: more than `most` bytes.
    """
    head, comma, body = text.partition("#")[0].strip("".join(map(chr, range(33)))).partition(",")
    if not comma:
        raise _data_uri_error("The data URI has no comma, which its data would follow.")
    if len(body) > _ESCAPE_LENGTH * 2 * most:
        raise _data_uri_too_large(most)
    payload = unquote_to_bytes(body.translate(_URL_WHITESPACE))
    if _BASE64_MARK.search(head.translate(_URL_WHITESPACE).rstrip(" \f")):
        payload = _decode_base64(payload)
    if len(payload) > most:
        raise _data_uri_too_large(most)
    return payload


def _decode_base64(payload: bytes) -> bytes:
    """Forgiving base64: blanks are skipped, padding may be missing, and surplus bits at the end are dropped."""
    payload = payload.translate(None, _BASE64_WHITESPACE)
    if len(payload) % _QUANTUM == 0 and payload.endswith(b"="):
        payload = payload[:-2] if payload.endswith(b"==") else payload[:-1]
    if len(payload) % _QUANTUM == 1 or not _ALPHABET.fullmatch(payload):
        raise _data_uri_error("The data URI is not valid base64.")
    return binascii.a2b_base64(payload + b"=" * (-len(payload) % _QUANTUM))


def _data_uri_error(message: str) -> InvalidInput:
    return InvalidInput(
        message, hint="Write data:image/png;base64,… and encode the file again.", code="data_uri_invalid"
    )


def _data_uri_too_large(most: int) -> TooLarge:
    return TooLarge(
        f"The data URI has more than {most // (1024 * 1024)} MB.", hint="Give a path or an https URL instead."
    )
