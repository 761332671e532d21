"""The vault in an object store: S3, Google Cloud Storage or Azure Blob Storage.

Every file has a folder of keys, by its hash, and one listing of it answers everything:

    ab/ab…cd/ab…cd.png            the file; its name has the hash's first 16 digits
    ab/ab…cd/prepared-image       what `mark_prepared` noted, an empty object
    ab/ab…cd/renewed              written by `renew`, an empty object
    ab/ab…cd/removing-f00d        written before the folder is removed, an empty object
    id                            the id by which the ledger knows the store

A file is as old as itself or `renewed`, whichever is newer, so to renew a film of 500 MB costs one empty object. The
time is the store's own.

To remove a file only while it is old needs two steps, for stores have no such call: a mark is written, the folder
is listed, and if nothing in it is new, it is removed. Who puts or renews a file lists the folder afterwards: one of the
two sees what the other wrote. Who finds a mark waits until it is gone, and puts the file again if that is gone too.
"""

import contextlib
import hashlib
import secrets
import shutil
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rotoscope.errors import StorageFailed
from rotoscope.media.known_files import KnownFile, KnownFiles
from rotoscope.media.local_copies import FileCache, Spool, link_or_copy
from rotoscope.media.object_folder import (
    ObjectFolder,
    file_key,
    folder_key,
    hash_in_key,
    mark_key,
    object_attributes,
    removal_key,
)
from rotoscope.media.sniff import content_type_of_name
from rotoscope.media.store_client import KeyMissing, StoreClient, StoredObject
from rotoscope.media.stored_files import FileAddress, StoredFile, file_sha256, is_content_hash
from rotoscope.media.vault import Vault
from rotoscope.ownership import make_private

__all__ = ["ADDRESS_SECONDS", "ObjectVault"]

ADDRESS_SECONDS = 86_400.0
"""How long an address works that the store has signed."""

_ID_KEY = "id"
_MAX_SENDS = 3  # times that a file is sent which somebody removes at that moment
_OWN_TIME = 30.0  # seconds in which a process brings what it has held into the store itself
_MAX_REMOVAL = 3.0  # seconds between `removing` and the removal
_REMOVAL_LOOKS, _REMOVAL_PAUSE = 40, 0.5  # how often, and in seconds, `removing` is waited for: longer than a removal


@dataclass(frozen=True, slots=True)
class ObjectVault(Vault):
    """The files in an object store, with what is needed of them on this machine's disk.

    Attributes:
        client: sends and reads files, and waits for a store that is slow.
        quick: asks and writes what is small, which somebody may be waiting for.
        folder: on this machine, for its owner alone: scratch files, the spool, the cache.
        clock: the time in Unix seconds.
        sleep: waits some seconds, in the calling thread.
        known: the files that were seen a short time ago.
        spool: what waits for the store.
        cache: what need not be read again.
    """

    client: StoreClient
    quick: StoreClient
    folder: Path
    clock: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep
    known: KnownFiles = field(default_factory=lambda: KnownFiles(time.monotonic))
    spool: Spool = field(init=False)
    cache: FileCache = field(init=False)

    def __post_init__(self) -> None:
        """The folders of what lies on this machine."""
        object.__setattr__(self, "spool", Spool(self.folder / "spool"))
        object.__setattr__(self, "cache", FileCache(self.folder / "cache"))

    @property
    def location(self) -> str:
        """The store's address, as the operator writes it."""
        return self.client.place.url

    @property
    def is_local(self) -> bool:
        """No file has a path that stays."""
        return False

    # Put.

    def put(self, source: Path, sha256: str, content_type: str) -> StoredFile:
        """Hold the file, then bring it into the store. Where that fails, it is still held."""
        self.hold(source, sha256, content_type)
        stored = self.put_held(sha256)
        if stored is None:
            raise StorageFailed(f"{self.spool.folder} was emptied meanwhile.", hint="Leave it to rotoscope alone.")
        return stored

    def hold(self, source: Path, sha256: str, content_type: str) -> StoredFile:
        """Move the file into the spool."""
        return StoredFile(sha256, self.spool.hold(source, sha256, content_type), content_type)

    def put_held(self, sha256: str) -> StoredFile | None:
        """Send the held file in parts; it counts when the store lists it in its whole size."""
        held = self.spool.find(sha256)
        if held is None:
            return self.renew(sha256)
        try:
            size = held.stat().st_size
            self._send(held, sha256, size)
        except FileNotFoundError:  # another process of this machine has put it meanwhile
            return self.renew(sha256)
        self._note(sha256, file_key(sha256, held.suffix), size)
        self.cache.add(held, held.name)
        return StoredFile(sha256, size, content_type_of_name(held.name))

    def put_all_held(self) -> int:
        """Send one file after the other; the first that the store does not take ends it for now.

        What has just come is left to who has brought it.
        """
        with contextlib.suppress(StorageFailed):
            for sha256 in self.spool.hashes(self.clock() - _OWN_TIME):
                self.put_held(sha256)
        return len(self.spool.hashes())

    def _send(self, held: Path, sha256: str, size: int) -> None:
        """Write the file and make sure that it stays.

        Raises:
            FileNotFoundError: it is no longer held.
        """
        key = file_key(sha256, held.suffix)
        for _ in range(_MAX_SENDS):
            self.client.put_file(key, held, object_attributes(sha256, held.suffix))
            seen = self._wait_for_removal(sha256)
            if any(one.key == key and one.size == size for one in seen.files):
                return
        raise StorageFailed(
            f"The object store {self.location} does not keep what it has taken.",
            hint="Look whether something else removes objects there.",
        )

    # Read.

    @contextmanager
    def open(self, sha256: str) -> Iterator[Path | None]:
        """A name of its own for the copy in the spool or the cache; what is in neither is read from the store."""
        own = self.new_scratch_path()
        try:
            yield self._make_copy(sha256, own) if is_content_hash(sha256) else None
        finally:
            shutil.rmtree(own, ignore_errors=True)

    def _make_copy(self, sha256: str, own: Path) -> Path | None:
        """A local path of a file, in a folder of its own."""
        try:
            make_private(own)
            copy = self._link_copy(self.spool.find(sha256), own)
            return copy if copy is not None else self._copy_from_cache_or_store(sha256, own)
        except OSError as error:
            raise self._scratch_error() from error

    def _copy_from_cache_or_store(self, sha256: str, own: Path) -> Path | None:
        try:
            known = self._find(sha256)
        except StorageFailed:
            copy = self._link_copy(self.cache.find(sha256), own)  # the store is away, and the content is here
            if copy is None:
                raise
            return copy
        if known is None:
            self.cache.remove(sha256)
            return None
        copy = self._link_copy(self.cache.find(sha256, known.size), own)
        return copy if copy is not None else self._download(sha256, known, own)

    def _link_copy(self, found: Path | None, own: Path) -> Path | None:
        if found is None:
            return None
        copy = own / found.name
        with contextlib.suppress(FileNotFoundError):  # it has just gone from there
            link_or_copy(found, copy)
            return copy
        return None

    def _download(self, sha256: str, known: KnownFile, own: Path) -> Path | None:
        """The file out of the store, held against its hash.

        Raises:
            StorageFailed: the store cannot be reached, or gives other bytes.
        """
        copy = own / known.name
        try:
            self.client.copy_to_file(known.key, known.size, copy)
        except KeyMissing:
            self.known.forget(sha256)
            return None
        if file_sha256(copy) != sha256:
            raise StorageFailed(
                f"The object store {self.location} gave other bytes than were put for {sha256}.",
                hint="Try again; if it stays so, restore the object from a copy.",
            )
        spare = own.with_name(f"{own.name}-cached")
        link_or_copy(copy, spare)
        self.cache.add(spare, known.name)
        return copy

    def address(self, sha256: str) -> FileAddress | None:
        """The address that the store signs. What was seen a short time ago is taken to be there, without a request."""
        known = self._find(sha256) if is_content_hash(sha256) else None
        return None if known is None else FileAddress(known.name, known.url, None, known.expires_at)

    def _find(self, sha256: str) -> KnownFile | None:
        """A file that is in the store, or was a short time ago; while the store is away, one that ever was seen."""
        known = self.known.find(sha256)
        if known is not None:
            return known
        try:
            files = self._list_folder(sha256).files
        except StorageFailed:
            known = self.known.find(sha256, however_old=True)
            if known is None:
                raise
            return known
        return self._note(sha256, files[0].key, files[0].size) if files else None

    def _note(self, sha256: str, key: str, size: int) -> KnownFile:
        url = self.quick.sign(key, ADDRESS_SECONDS)
        until = None if url is None else self.clock() + ADDRESS_SECONDS
        known = KnownFile(key, f"{sha256}{key[key.rindex('.') :]}", size, url, until)
        self.known.add(sha256, known)
        return known

    # Age and removal.

    def delete(self, sha256: str, before: float) -> bool:
        """Remove the folder of keys, if everything in it is old, also after it was marked."""
        if not is_content_hash(sha256):
            return False
        with contextlib.suppress(StorageFailed):
            return self._delete_old_folder(sha256, before)
        return False

    def _delete_old_folder(self, sha256: str, before: float) -> bool:
        seen = self._list_folder(sha256)
        if not seen.is_older_than(before):
            return False
        removing, begun = removal_key(sha256, secrets.token_hex(4)), time.monotonic()
        self.quick.put_bytes(removing)
        try:
            seen = self._list_folder(sha256)
            if not seen.is_older_than(before) or time.monotonic() - begun > _MAX_REMOVAL:
                return False
            self.known.forget(sha256)
            self.quick.delete([one.key for one in seen.objects if one not in seen.removals])
            self.cache.remove(sha256)
            return bool(seen.files)
        finally:
            with contextlib.suppress(StorageFailed):
                self.quick.delete([removing, *(one.key for one in seen.removals if one.written_at < before)])

    def renew(self, sha256: str) -> StoredFile | None:
        """Write an empty object beside the file."""
        if not is_content_hash(sha256) or not self._list_folder(sha256).files:
            return None
        renewed = mark_key(sha256, "renewed")
        self.quick.put_bytes(renewed)
        seen = self._wait_for_removal(sha256)
        if not seen.files:
            self.known.forget(sha256)
            self.quick.delete([renewed])
            return None
        known = self._note(sha256, seen.files[0].key, seen.files[0].size)
        return StoredFile(sha256, known.size, content_type_of_name(known.name))

    def _wait_for_removal(self, sha256: str) -> ObjectFolder:
        """The folder of keys once nobody is about to remove it."""
        for _ in range(_REMOVAL_LOOKS):
            seen = self._list_folder(sha256)
            if not seen.removals:
                return seen
            self.sleep(_REMOVAL_PAUSE)
        # Whoever wrote these marks has died: it would have ended, or given up, long ago.
        self.quick.delete([one.key for one in seen.removals])
        return self._list_folder(sha256)

    def hashes_older_than(self, before: float, prefix: str = "") -> list[str]:
        """List the keys, a page at a time; the time of each folder is worked out from all its keys."""
        found = defaultdict[str, list[StoredObject]](list)
        for page in self.quick.list_objects(prefix):
            for one in page:
                sha256 = hash_in_key(one.key)
                if sha256 is not None:
                    found[sha256].append(one)
        return [name for name, objects in found.items() if ObjectFolder(name, objects).is_older_than(before)]

    def has_files(self) -> bool:
        """Whether the first pages of the listing have any."""
        return any(hash_in_key(one.key) for page in self.quick.list_objects() for one in page)

    def _list_folder(self, sha256: str) -> ObjectFolder:
        objects = [one for page in self.quick.list_objects(folder_key(sha256)) for one in page]
        return ObjectFolder(sha256, objects)

    # Notes.

    def hash_of(self, path: Path) -> str | None:  # noqa: ARG002 - the protocol's signature
        """No path stays, so none names a stored file."""
        return None

    def mark_prepared(self, sha256: str, kind: str) -> None:
        """Write an empty object beside the file."""
        self.quick.put_bytes(mark_key(sha256, f"prepared-{kind}"))

    def is_prepared(self, sha256: str, kind: str) -> bool:
        """Whether there is an empty object of that name."""
        return is_content_hash(sha256) and self._list_folder(sha256).has_mark(f"prepared-{kind}")

    def read_id(self) -> str | None:
        """The content of the id's object; while the store is away, what it was the last time.

        Raises:
            StorageFailed: the store cannot be used, and this machine has never read the id.
        """
        try:
            vault_id = self.quick.read_bytes(_ID_KEY, most=200).decode("ascii", errors="replace").strip() or None
        except KeyMissing:
            return None
        except StorageFailed:
            with contextlib.suppress(OSError):
                return self._remembered_id.read_text(encoding="ascii")
            raise
        if vault_id is not None:
            self._remember_id(vault_id)
        return vault_id

    def write_id(self, vault_id: str) -> None:
        """Write the id's object."""
        self.quick.put_bytes(_ID_KEY, vault_id.encode("ascii"))

    @property
    def _remembered_id(self) -> Path:
        return self.folder / f"id-{hashlib.sha256(self.client.place.identity.encode()).hexdigest()[:16]}"

    def _remember_id(self, vault_id: str) -> None:
        with contextlib.suppress(OSError):
            if not self._remembered_id.exists() or self._remembered_id.read_text(encoding="ascii") != vault_id:
                scratch = self.new_scratch_path()
                scratch.write_text(vault_id, encoding="ascii")
                scratch.replace(self._remembered_id)

    # Scratch files.

    def new_scratch_path(self) -> Path:
        """A random name in `scratch/`, on the disk of the spool and the cache, so that a file can be moved there."""
        folder = self.folder / "scratch"
        try:
            make_private(folder)
        except OSError as error:
            raise self._scratch_error() from error
        return folder / secrets.token_hex(8)

    def remove_old_scratch(self, before: float) -> None:
        """Remove by modification time; a folder of an opened file, too."""
        for scratch in (self.folder / "scratch").glob("*"):
            with contextlib.suppress(OSError):
                if scratch.stat().st_mtime < before:
                    shutil.rmtree(scratch) if scratch.is_dir() else scratch.unlink()

    def _scratch_error(self) -> StorageFailed:
        return StorageFailed(
            f"The scratch folder in {self.folder} cannot be written.",
            hint="Free some space, or set ROTOSCOPE_HOME to another folder.",
        )
