"""The ledger's tables about access: people who sign in, what their clients were given, upload tickets, provider keys.

Nothing that lets somebody in is kept as it is: of tokens, codes, tickets and links there is the SHA-256 (hex), of
passphrases an argon2 hash, and provider keys are encrypted. All times are Unix seconds.
"""

from sqlalchemy import JSON, BigInteger, Column, Float, Index, Integer, String, Table

from rotoscope.store.schema import metadata

__all__ = [
    "key_tickets",
    "oauth_clients",
    "oauth_codes",
    "oauth_grants",
    "oauth_tokens",
    "people",
    "provider_keys",
    "rate_counters",
    "sign_in_links",
    "sign_in_sessions",
    "upload_parts",
    "upload_tickets",
    "webhooks",
]

people = Table(
    "people",
    metadata,
    Column("name", String, primary_key=True),  # their principal
    Column("passphrase_hash", String, nullable=True),  # argon2; null: they sign in by link alone
    Column("created_at", Float, nullable=False),
    Column("removed_at", Float, nullable=True),
)

sign_in_links = Table(
    "sign_in_links",
    metadata,
    Column("hash", String, primary_key=True),
    Column("person", String, nullable=False),
    Column("expires_at", Float, nullable=False),
    Column("used_at", Float, nullable=True),
    Index("sign_in_links_by_end", "expires_at"),
)

sign_in_sessions = Table(
    "sign_in_sessions",  # browsers in which a person has signed in
    metadata,
    Column("hash", String, primary_key=True),  # of the browser's cookie
    Column("person", String, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("expires_at", Float, nullable=False),
    Index("sign_in_sessions_by_person", "person", "created_at"),
    Index("sign_in_sessions_by_end", "expires_at"),
)

rate_counters = Table(
    "rate_counters",  # how often something was tried since a moment
    metadata,
    Column("key", String, primary_key=True),  # a hash of what is counted: a name or an address is not kept
    Column("started_at", Float, nullable=False),
    Column("count", Integer, nullable=False),
    Index("rate_counters_by_start", "started_at"),
)

oauth_clients = Table(
    "oauth_clients",
    metadata,
    Column("client_id", String, primary_key=True),  # ours, or the https address of the client's document
    Column("data", JSON, nullable=False),  # its metadata, as registered or as its document says
    Column("fresh_until", Float, nullable=True),  # when its document is read again; null: it was registered
    Column("created_at", Float, nullable=False),
    Column("used_at", Float, nullable=False),
    Column("consented_at", Float, nullable=True),  # when a person last let it in; null: nobody has yet
    Index("oauth_clients_by_use", "consented_at", "used_at"),
)

oauth_codes = Table(
    "oauth_codes",
    metadata,
    Column("hash", String, primary_key=True),
    Column("client_id", String, nullable=False),
    Column("person", String, nullable=False),
    Column("data", JSON, nullable=False),  # scopes, challenge, redirect address, resource
    Column("expires_at", Float, nullable=False),
    Column("used_at", Float, nullable=True),
    Column("grant_id", String, nullable=True),  # what a use of it has begun: a second use ends that
    Index("oauth_codes_by_end", "expires_at"),
)

oauth_grants = Table(
    "oauth_grants",  # one consent of a person to a client; its tokens end with it
    metadata,
    Column("id", String, primary_key=True),
    Column("client_id", String, nullable=False),
    Column("person", String, nullable=False),
    Column("scopes", JSON, nullable=False),
    Column("resource", String, nullable=True),
    Column("created_at", Float, nullable=False),
    Column("used_at", Float, nullable=False),  # when its tokens were last renewed
    Column("revoked_at", Float, nullable=True),
    Index("oauth_grants_by_person", "person", "created_at"),
    Index("oauth_grants_by_client", "client_id"),
)

oauth_tokens = Table(
    "oauth_tokens",
    metadata,
    Column("hash", String, primary_key=True),
    Column("grant_id", String, nullable=False),
    Column("kind", String, nullable=False),  # access, refresh
    Column("expires_at", Float, nullable=False),
    Column("replaced_at", Float, nullable=True),  # a refresh token is used once: a later use ends the grant
    Column("seed", String, nullable=True),  # its successors follow from it and the token itself, which is not kept
    Index("oauth_tokens_by_grant", "grant_id"),
    Index("oauth_tokens_by_end", "expires_at"),
)

upload_tickets = Table(
    "upload_tickets",  # one file each; they stay as long as the file may be there without a job that has it
    metadata,
    Column("hash", String, primary_key=True),
    Column("principal", String, nullable=False),
    Column("name", String, nullable=False),  # what the file is called, for the page
    Column("kind", String, nullable=True),  # what it must be; null: what its content says
    Column("max_bytes", BigInteger, nullable=False),
    Column("received", BigInteger, nullable=False, default=0),  # bytes in parts that are kept; of the file in the end
    Column("total", BigInteger, nullable=True),  # bytes of the file, as its first part said
    Column("checker", String, nullable=True),  # who checks the file now; random
    Column("checking_until", Float, nullable=True),  # after that nobody does
    Column("problem", JSON, nullable=True),  # why the last file was refused: code, message, hint
    Column("refusals", Integer, nullable=False, default=0),
    Column("sha256", String, nullable=True),  # the artifact that it became
    Column("facts", JSON, nullable=True),  # what is known of that
    Column("created_at", Float, nullable=False),
    Column("expires_at", Float, nullable=False),
    Column("finished_at", Float, nullable=True),
    Index("upload_tickets_by_end", "expires_at"),
    Index("upload_tickets_by_finish", "finished_at"),
    Index("upload_tickets_by_principal", "principal", "expires_at"),
    Index("upload_tickets_by_content", "sha256"),
)

upload_parts = Table(
    "upload_parts",  # what has come of a file that is sent in parts; the parts themselves are in the vault
    metadata,
    Column("ticket", String, primary_key=True),  # the ticket's hash
    Column("start", BigInteger, primary_key=True),  # where it begins in the file
    Column("size", BigInteger, nullable=False),  # of the file's bytes in it
    Column("sha256", String, nullable=False),  # the vault's name for it, which nobody can guess
    Index("upload_parts_by_content", "sha256"),
)

webhooks = Table(
    "webhooks",  # which deliveries of providers were taken: each is taken once
    metadata,
    Column("provider", String, primary_key=True),
    Column("id", String, primary_key=True),
    Column("at", Float, nullable=False),
    Column("job_id", String, nullable=False),  # the job whose paying request named the address
    Column("prediction_id", String, nullable=True),  # the run that it is about: not believed before it is verified
    Index("webhooks_by_time", "at"),
    Index("webhooks_by_job", "job_id", "at"),
)

provider_keys = Table(
    "provider_keys",
    metadata,
    Column("principal", String, primary_key=True),
    Column("provider", String, primary_key=True),
    Column("sealed", String, nullable=False),  # encrypted, with principal and provider
    Column("account", String, nullable=False),  # which key it is, as a fingerprint that is no key
    Column("updated_at", Float, nullable=False),
)

key_tickets = Table(
    "key_tickets",  # each lets whoever has it enter one key for one principal, once
    metadata,
    Column("hash", String, primary_key=True),
    Column("principal", String, nullable=False),
    Column("providers", JSON, nullable=False),  # of which one key is entered
    Column("created_at", Float, nullable=False),
    Column("expires_at", Float, nullable=False),
    Index("key_tickets_by_end", "expires_at"),
    Index("key_tickets_by_principal", "principal", "created_at"),
)
