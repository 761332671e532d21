"""What a transaction that writes keeps others from doing meanwhile, where a database lets several write at once.

Most of what writes reads first, decides by that, and then writes. Two that do so at once must not decide from the same
rows. SQLite lets one transaction write at a time, so it needs nothing of this. PostgreSQL lets many write, and orders
them by what stands here (see `postgresql`):

- Without a word a transaction has the whole ledger for itself. That is always right, and stops everybody else for as
  long as it takes, so it is for what is rare.
- Otherwise it shares the ledger with others, and names what it decides about: the row of a job, and names that stand
  for something wider than a row, such as all jobs of a principal.

Locks are taken before anything is read, in one order for everybody: the ledger, then the names in their order, then the
rows of jobs by their ids. So of two transactions neither can wait for the other while the other waits for it. What is
locked after that (rows that a statement writes) is either covered by one of these, or is written in the order of its
key.
"""

from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["ACCESS", "WHOLE_LEDGER", "WriteLock", "name_files", "name_spending"]


@dataclass(frozen=True, slots=True)
class WriteLock:
    """What a transaction locks.

    Attributes:
        job_id: the job whose row it decides about. An id that no job has locks nothing: an id is never given twice.
        names: what it has for itself.
        shared_names: what others may share, but none may have for itself.
        is_whole_ledger: whether it has the whole ledger for itself; then it needs nothing else.
    """

    job_id: str | None = None
    names: frozenset[str] = frozenset()
    shared_names: frozenset[str] = frozenset()
    is_whole_ledger: bool = False


WHOLE_LEDGER = WriteLock(is_whole_ledger=True)
"""Nobody else writes meanwhile."""


ACCESS = WriteLock(names=frozenset({"access"}))
"""Nobody else writes the tables of `access_schema` meanwhile."""


def name_spending(principal: str, *, of_all: bool) -> frozenset[str]:
    """What stands for which jobs a principal has, and for what was spent.

    Args:
        principal: whose jobs they are.
        of_all: whether what all principals have spent together decides as well.
    """
    own = frozenset({f"principal {principal}"})
    return own | {"spending of all"} if of_all else own


def name_files(hashes: Iterable[str]) -> frozenset[str]:
    """What stands for whether a kept file is needed, of each of some files."""
    return frozenset(f"file {sha256}" for sha256 in hashes)
