"""What `upload_media` gives: a ticket for one file, and what has become of it."""

from typing import Annotated, Literal

from pydantic import Field

from rotoscope.contracts.results import Problem, ResultRecord

__all__ = ["UploadStatus", "UploadTicket"]

UploadStatus = Literal["waiting", "receiving", "checking", "ready", "refused", "expired"]


class UploadTicket(ResultRecord):
    """Result of `upload_media`: where the file is to go, and what has become of it."""

    ticket: Annotated[str, Field(description="Give it back to ask whether the file has come.")]
    status: Annotated[UploadStatus, Field(description="refused: another file may be sent.")]
    upload_url: Annotated[str, Field(description="PUT the file, or POST it as a form.")]
    page_url: Annotated[str, Field(description="A page for a person.")]
    artifact: Annotated[str | None, Field(description="artifact:// link; null until the file came.")] = None
    received_bytes: int = 0
    max_bytes: int
    expires_at: Annotated[str, Field(description="Until when a file is taken.")]
    content_type: str | None = None
    width: int | None = None
    height: int | None = None
    duration_seconds: float | None = None
    warnings: Annotated[list[str], Field(description="How the file was read.")] = []  # noqa: RUF012 - pydantic copies it for each record
    error: Annotated[Problem | None, Field(description="Why the last file was refused.")] = None
    next_step: str
