"""The principals' own provider keys where requests are made: each job's requests go out with its own principal's key.

A key is looked up by principal and provider, never by provider alone. The key that a paying request goes out with, or
with which a run is looked for whose reply was lost, must be the very one that the job was opened with: another account
would be charged, or would not know the run. What is sent after that may go out with any key that its principal has.
"""

import shlex
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from rotoscope.errors import Refused
from rotoscope.models.catalog import Access
from rotoscope.store.provider_keys import ProviderKeys
from rotoscope.store.records import UNPAID_STAGES, Job

__all__ = ["OwnKeys"]

_MAX_KNOWN = 256  # principals
_KNOWN_SECONDS = 5.0  # for which a key that was removed elsewhere may still be used to ask about a run


@dataclass(frozen=True, slots=True)
class OwnKeys:
    """Finds the keys of principals, and remembers them for some seconds.

    Attributes:
        base: the providers with their addresses, and no key.
        stored: the keys in the ledger.
        clock: seconds that only grow.
    """

    base: Access
    stored: ProviderKeys
    clock: Callable[[], float] = time.monotonic
    _known: "OrderedDict[str, tuple[float, Access]]" = field(default_factory=OrderedDict, repr=False)

    async def access_of(self, principal: str, *, is_fresh: bool = False) -> Access:
        """The providers that a principal can use, with its keys.

        Args:
            principal: whose.
            is_fresh: whether the ledger is read in any case.

        Raises:
            StorageFailed: the ledger cannot be read.
        """
        known = self._known.get(principal)
        if known is not None and not is_fresh and self.clock() - known[0] < _KNOWN_SECONDS:
            return known[1]
        allowed = self.base.own_for or frozenset()
        keys = {name: key for name, key in (await self.stored.read(principal)).items() if name in allowed}
        found = replace(self.base, keys=keys)
        self._known[principal] = (self.clock(), found)
        self._known.move_to_end(principal)
        while len(self._known) > _MAX_KNOWN:
            self._known.popitem(last=False)
        return found

    async def key_for(self, job: Job, *, pays: bool = False) -> str:
        """The key that a job's request goes out with.

        Args:
            job: whose principal's it is.
            pays: whether the request costs money; then the ledger is read in any case.

        Raises:
            Refused: the principal has none any more, or another one than the job must use; nothing was sent.
            StorageFailed: the ledger cannot be read.
        """
        access, name = await self.access_of(job.principal, is_fresh=pays), job.provider
        key = access.keys.get(name)
        if not key:
            raise Refused(
                f"{job.principal} has no key for {name} any more; nothing was sent.",
                hint=f"Enter it again: rotoscope keys set {name} --principal {shlex.quote(job.principal)}.",
            )
        is_bound = pays or job.stage in UNPAID_STAGES
        if is_bound and access.account_fingerprint(name) != job.account:
            raise Refused(
                f"The key of {job.principal} for {name} was changed since this job was begun; nothing was sent.",
                hint="Call the tool again.",
            )
        return key
