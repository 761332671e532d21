"""Which store is spoken to and how, by ROTOSCOPE_STORE_URL and its vendor's variables: no request is sent."""

import json
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from object_store import KEYS

from rotoscope.errors import InvalidInput
from rotoscope.media.store_client import connect_store
from rotoscope.media.store_place import read_store_place

AZURE = {"AZURE_STORAGE_ACCOUNT_NAME": "account", "AZURE_STORAGE_ACCOUNT_KEY": "a2V5a2V5a2V5"}


@pytest.fixture(autouse=True)
def no_ambient_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client looks into this process's environment, too."""
    for name in (*KEYS, *AZURE, "AWS_ENDPOINT_URL", "GOOGLE_APPLICATION_CREDENTIALS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def service_account(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key file as Google gives it, with a key made here."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    pem = rsa.generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file = tmp_path_factory.mktemp("google") / "key.json"
    account = {
        "type": "service_account", "private_key": pem.decode(), "private_key_id": "id",
        "client_email": "roto@example.iam.gserviceaccount.com", "token_uri": "https://oauth2.googleapis.com/token",
    }  # fmt: skip
    file.write_text(json.dumps(account))
    return file


def sign(url: str, variables: dict[str, str], public: str | None = None) -> str | None:
    return connect_store(read_store_place(url, variables.get, public)).sign("ab/file.png", 3600)


def test_an_s3_address_names_the_bucket_the_prefix_and_its_end() -> None:
    address = urlsplit(sign("s3://bucket/a/prefix", KEYS) or "")
    assert (address.scheme, address.hostname) == ("https", "s3.us-east-1.amazonaws.com")
    assert address.path == "/bucket/a/prefix/ab/file.png"
    query = parse_qs(address.query)
    assert query["X-Amz-Expires"] == ["3600"]
    assert query["X-Amz-Credential"][0].startswith(KEYS["AWS_ACCESS_KEY_ID"])


def test_a_google_address_is_signed_with_the_key_file(service_account: Path) -> None:
    address = urlsplit(sign("gs://bucket/p", {"GOOGLE_APPLICATION_CREDENTIALS": str(service_account)}) or "")
    assert address.scheme == "https"
    assert address.path.endswith("/p/ab/file.png")
    assert parse_qs(address.query)["X-Goog-Expires"] == ["3600"]


def test_an_azure_address_allows_to_read_one_file() -> None:
    address = urlsplit(sign("az://container/p", AZURE) or "")
    assert (address.scheme, address.hostname) == ("https", "account.blob.core.windows.net")
    assert address.path == "/container/p/ab/file.png"
    assert (parse_qs(address.query)["sp"], parse_qs(address.query)["sr"]) == (["r"], ["b"])


@pytest.mark.parametrize(
    ("endpoint", "public", "host"),
    [
        ("https://minio.example", None, "minio.example"),
        ("http://127.0.0.1:9000", None, "127.0.0.1:9000"),
        ("http://minio:9000", None, None),
        ("http://minio:9000", "https://files.example", "files.example"),
    ],
    ids=["TLS", "this machine", "an inner network", "an inner network with a public address"],
)
def test_addresses_are_signed_where_others_can_open_them(endpoint: str, public: str | None, host: str | None) -> None:
    url = sign("s3://bucket", {**KEYS, "AWS_ENDPOINT_URL": endpoint}, public)
    assert (None if url is None else urlsplit(url).netloc) == host


def test_the_endpoint_of_the_service_counts_before_that_of_all_services() -> None:
    both = {**KEYS, "AWS_ENDPOINT_URL": "https://all.example", "AWS_ENDPOINT_URL_S3": "https://s3.example"}
    assert read_store_place("s3://bucket", both.get).endpoint == "https://s3.example"


@pytest.mark.parametrize(
    ("url", "variables", "named"),
    [
        ("s3://bucket", {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE"}, "AWS_SECRET_ACCESS_KEY"),
        ("s3://bucket", {"AWS_SECRET_ACCESS_KEY": "secretsecret"}, "AWS_ACCESS_KEY_ID"),
        ("s3://bucket", {**KEYS, "AWS_ENDPOINT_URL": "https://user:secretsecret@s3.example"}, "AWS_ENDPOINT_URL"),
        ("s3://bucket", {**KEYS, "AWS_ENDPOINT_URL": "ftp://s3.example"}, "AWS_ENDPOINT_URL"),
        ("s3://bucket/a/../b", KEYS, "ROTOSCOPE_STORE_URL"),
        ("az://container", {}, "AZURE_STORAGE_ACCOUNT_NAME"),
        ("az://container", {**AZURE, "AZURE_STORAGE_ACCOUNT_KEY": "!secretsecret!"}, "AZURE_STORAGE_ACCOUNT_KEY"),
        ("gs://bucket", {"GOOGLE_SERVICE_ACCOUNT_KEY": "{secretsecret"}, "GOOGLE_APPLICATION_CREDENTIALS"),
    ],
)
def test_settings_that_cannot_work_are_refused_by_name_and_show_no_key(
    url: str, variables: dict[str, str], named: str
) -> None:
    with pytest.raises(InvalidInput) as refusal:
        connect_store(read_store_place(url, variables.get))
    assert named in f"{refusal.value.message} {refusal.value.hint}"
    assert "secretsecret" not in f"{refusal.value.message} {refusal.value.hint} {refusal.value.__cause__}"


def test_a_place_shows_none_of_its_keys() -> None:
    place = read_store_place("s3://bucket/p", KEYS.get)
    assert KEYS["AWS_SECRET_ACCESS_KEY"] not in f"{place!r} {place.url} {place.identity} {connect_store(place)!r}"


@pytest.mark.parametrize(
    ("url", "variables", "public"),
    [
        ("s3://bucket/results", {**KEYS, "AWS_REGION": "eu-central-1"}, None),
        ("s3://bucket", {**KEYS, "AWS_VIRTUAL_HOSTED_STYLE_REQUEST": "true"}, None),
        ("s3://bucket", {**KEYS, "AWS_ENDPOINT_URL": "https://store.example:9000/inner"}, None),
        ("s3://bucket", {**KEYS, "AWS_ENDPOINT_URL": "http://inner:9000"}, "https://files.example"),
        ("az://container/results", AZURE, None),
        ("az://container", {**AZURE, "AZURE_STORAGE_ENDPOINT": "https://blobs.example"}, None),
    ],
)
def test_its_origin_is_that_of_the_addresses_that_it_signs(
    url: str, variables: dict[str, str], public: str | None
) -> None:
    place = read_store_place(url, variables.get, public)
    signed = connect_store(place).sign("key", 60)
    assert signed is not None
    parts = urlsplit(signed)
    assert place.media_origin == f"{parts.scheme}://{parts.netloc}"


def test_googles_origin_is_that_of_the_addresses_that_it_signs(service_account: Path) -> None:
    place = read_store_place("gs://bucket", {"GOOGLE_APPLICATION_CREDENTIALS": str(service_account)}.get)
    signed = connect_store(place).sign("key", 60)
    assert signed is not None
    assert place.media_origin == "https://" + urlsplit(signed).netloc


def test_a_store_in_an_inner_network_has_no_origin_for_others() -> None:
    assert read_store_place("s3://b", {**KEYS, "AWS_ENDPOINT_URL": "http://inner:9000"}.get).media_origin is None
