"""The states of a job as everybody sees them. Apart from the records of results, which take long to load."""

from typing import Literal

__all__ = ["Status"]

Status = Literal["queued", "running", "succeeded", "failed", "cancelled", "needs_review"]
