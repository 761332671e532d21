"""Where an object store is and how it is spoken to: read from ROTOSCOPE_STORE_URL and its vendor's variables. Pure.

The vendor's names are those that its own tools read. What is not in the tables below is the client's own matter: it
also looks for the credentials that a cloud gives to a host, a container or a pod.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit

from rotoscope.errors import InvalidInput

__all__ = ["StoreKind", "StorePlace", "read_store_place"]

StoreKind = Literal["s3", "gs", "az"]
ReadVariable = Callable[[str], str | None]

_ENDPOINT = re.compile(r"(https?)://(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(?::\d{1,5})?(?:/[A-Za-z0-9._~/-]*)?")
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})
# Under each name of the client's options, the variables that it is read from; the first one that is set counts.
_OPTIONS: Mapping[StoreKind, Mapping[str, tuple[str, ...]]] = {
    "s3": {
        "access_key_id": ("AWS_ACCESS_KEY_ID",),
        "secret_access_key": ("AWS_SECRET_ACCESS_KEY",),
        "session_token": ("AWS_SESSION_TOKEN",),
        "region": ("AWS_REGION", "AWS_DEFAULT_REGION"),
        "endpoint": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"),
        "virtual_hosted_style_request": ("AWS_VIRTUAL_HOSTED_STYLE_REQUEST",),
        "web_identity_token_file": ("AWS_WEB_IDENTITY_TOKEN_FILE",),
        "role_arn": ("AWS_ROLE_ARN",),
        "role_session_name": ("AWS_ROLE_SESSION_NAME",),
        "container_credentials_relative_uri": ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",),
        "container_credentials_full_uri": ("AWS_CONTAINER_CREDENTIALS_FULL_URI",),
        "container_authorization_token_file": ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",),
        "server_side_encryption": ("AWS_SERVER_SIDE_ENCRYPTION",),
        "sse_kms_key_id": ("AWS_SSE_KMS_KEY_ID",),
        "checksum_algorithm": ("AWS_CHECKSUM_ALGORITHM",),
        "disable_bulk_delete": ("AWS_DISABLE_BULK_DELETE",),
    },
    "gs": {
        "service_account": ("GOOGLE_SERVICE_ACCOUNT", "GOOGLE_SERVICE_ACCOUNT_PATH"),
        "service_account_key": ("GOOGLE_SERVICE_ACCOUNT_KEY",),
        "application_credentials": ("GOOGLE_APPLICATION_CREDENTIALS",),
        "bearer_token": ("GOOGLE_BEARER_TOKEN",),
        "base_url": ("GOOGLE_BASE_URL",),
    },
    "az": {
        "account_name": ("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT"),
        "account_key": ("AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_ACCESS_KEY", "AZURE_STORAGE_KEY"),
        "sas_key": ("AZURE_STORAGE_SAS_TOKEN", "AZURE_STORAGE_SAS_KEY"),
        "token": ("AZURE_STORAGE_TOKEN",),
        "client_id": ("AZURE_CLIENT_ID",),
        "client_secret": ("AZURE_CLIENT_SECRET",),
        "tenant_id": ("AZURE_TENANT_ID",),
        "authority_host": ("AZURE_AUTHORITY_HOST",),
        "federated_token_file": ("AZURE_FEDERATED_TOKEN_FILE",),
        "endpoint": ("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"),
    },
}
_ENDPOINT_OPTION: Mapping[StoreKind, str] = {"s3": "endpoint", "gs": "base_url", "az": "endpoint"}
_CREDENTIALS: Mapping[StoreKind, str] = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS",
    "az": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
}
_USUAL_REGION = "us-east-1"  # the client's, where none is named
_TRUE = frozenset({"1", "true", "on", "yes", "y"})  # what the client takes for a yes
_CONTAINER: Mapping[StoreKind, str] = {"s3": "bucket", "gs": "bucket", "az": "container"}


@dataclass(frozen=True, slots=True)
class StorePlace:
    """An object store.

    Attributes:
        kind: whose wire it speaks: S3, Google Cloud Storage, or Azure Blob Storage.
        bucket: the bucket, or Azure's container.
        prefix: what all our keys begin with, without slashes at its ends; may be empty.
        options: the client's options by its own names; never shown, they hold keys.
        public_endpoint: where others reach the store, if that is another address than ours.
    """

    kind: StoreKind
    bucket: str
    prefix: str
    options: Mapping[str, str] = field(repr=False)
    public_endpoint: str | None = None

    @property
    def url(self) -> str:
        """The place as the operator writes it."""
        return f"{self.kind}://{self.bucket}{'/' if self.prefix else ''}{self.prefix}"

    @property
    def endpoint(self) -> str | None:
        """The address of the store; None: the vendor's own."""
        return self.options.get(_ENDPOINT_OPTION[self.kind])

    @property
    def identity(self) -> str:
        """What no other store has in common with this one; it holds no key."""
        return f"{self.url} {self.endpoint or ''} {self.options.get('account_name', '')}"

    @property
    def has_plain_endpoint(self) -> bool:
        """Whether the operator has named an endpoint without TLS."""
        return (self.endpoint or "").startswith("http://")

    @property
    def signing_options(self) -> Mapping[str, str] | None:
        """The options by which addresses are signed that others can open; None where they could open none.

        An endpoint without TLS is one of an inner network, unless it is on this machine.
        """
        if self.public_endpoint is not None:
            return {**self.options, _ENDPOINT_OPTION[self.kind]: self.public_endpoint}
        found = _ENDPOINT.fullmatch(self.endpoint or "")
        is_reachable = found is None or found[1] == "https" or found[2] in _LOOPBACK
        return self.options if is_reachable else None

    @property
    def media_origin(self) -> str | None:
        """The origin of the addresses that are signed; None where none are."""
        options = self.signing_options
        if options is None:
            return None
        endpoint = options.get(_ENDPOINT_OPTION[self.kind]) or self._vendor_endpoint
        parts = urlsplit(endpoint)
        return f"{parts.scheme}://{parts.netloc}"

    @property
    def _vendor_endpoint(self) -> str:
        if self.kind == "gs":
            return "https://storage.googleapis.com"
        if self.kind == "az":
            return f"https://{self.options.get('account_name', '')}.blob.core.windows.net"
        host = f"s3.{self.options.get('region', _USUAL_REGION)}.amazonaws.com"
        has_own_host = self.options.get("virtual_hosted_style_request", "").lower() in _TRUE
        return f"https://{self.bucket}.{host}" if has_own_host else f"https://{host}"

    @property
    def container_word(self) -> str:
        """What the vendor calls the place of all keys."""
        return _CONTAINER[self.kind]

    @property
    def credentials_hint(self) -> str:
        """The variables that hold the credentials, for the hint of an error."""
        return _CREDENTIALS[self.kind]

    @property
    def endpoint_hint(self) -> str:
        """The variable that names the endpoint, for the hint of an error."""
        return _OPTIONS[self.kind][_ENDPOINT_OPTION[self.kind]][-1 if self.kind == "gs" else 1]


def read_store_place(url: str, variable: ReadVariable, public_endpoint: str | None = None) -> StorePlace:
    """The store that an URL names.

    Args:
        url: `s3://bucket/prefix`, `gs://bucket/prefix` or `az://container/prefix`, as `ROTOSCOPE_STORE_URL` has it.
        variable: reads a variable; None where it is not set.
        public_endpoint: where others reach the store.

    Raises:
        InvalidInput: a variable is missing or cannot be used; the message names it.
    """
    scheme, _, rest = url.partition("://")
    kind: StoreKind = "s3" if scheme == "s3" else "gs" if scheme == "gs" else "az"
    bucket, _, prefix = rest.partition("/")
    place = StorePlace(kind, bucket, _clean_prefix(prefix), _read_options(kind, variable), public_endpoint)
    _check_credentials(place)
    return place


def _clean_prefix(prefix: str) -> str:
    parts = [part for part in prefix.split("/") if part]
    if any(part in (".", "..") for part in parts):
        raise InvalidInput("ROTOSCOPE_STORE_URL must not have . or .. in its prefix.", hint="Name the prefix itself.")
    return "/".join(parts)


def _read_options(kind: StoreKind, variable: ReadVariable) -> dict[str, str]:
    options = dict[str, str]()
    for option, names in _OPTIONS[kind].items():
        for name in names:
            value = variable(name)
            if value is not None:
                options[option] = _checked_endpoint(name, value) if option == _ENDPOINT_OPTION[kind] else value
                break
    return options


def _checked_endpoint(name: str, value: str) -> str:
    """An endpoint without user, password and query: nothing of them may come into a message."""
    if _ENDPOINT.fullmatch(value) is None:
        raise InvalidInput(
            f"{name} must be an address such as https://s3.example, without user and query.",
            hint=f"Correct or unset {name}.",
        )
    return value.rstrip("/")


def _check_credentials(place: StorePlace) -> None:
    options = place.options
    if place.kind == "s3" and ("access_key_id" in options) != ("secret_access_key" in options):
        missing = "AWS_SECRET_ACCESS_KEY" if "access_key_id" in options else "AWS_ACCESS_KEY_ID"
        raise InvalidInput(
            f"{missing} is not set, and the object store {place.url} needs both halves of its key.",
            hint=f"Set {place.credentials_hint}.",
        )
    if place.kind == "az" and "account_name" not in options:
        raise InvalidInput(
            f"AZURE_STORAGE_ACCOUNT_NAME is not set, so nobody knows where {place.url} is.",
            hint="Set AZURE_STORAGE_ACCOUNT_NAME to the name of the storage account.",
        )
