"""The filesystem store keeps the contract, with and without compression."""

import os
from pathlib import Path

import pytest

from storage.blocking import Pool
from storage.filesystem import FilesystemStore
from tests.storage.blobstore_contract import BlobStoreContract


class Directory:
    """A store's directory."""

    def __init__(self, root: Path, *, compression: str = "off") -> None:
        self.root = root
        self.compression = compression

    async def open(self) -> FilesystemStore:
        """A new store over the directory."""
        store = FilesystemStore(self.root, pool=Pool("disk", 4), compression=self.compression)
        await store.prepare()
        return store

    async def cut(self, key: str, size_bytes: int) -> None:
        """Truncate the object's file."""
        (self.root / key).chmod(0o600)
        os.truncate(self.root / key, size_bytes)


class TestFilesystemStore(BlobStoreContract):
    """The contract, bytes as they are."""

    @pytest.fixture
    def place(self, tmp_path: Path) -> Directory:
        """A new directory."""
        return Directory(tmp_path / "store")


class TestCompressingStore(BlobStoreContract):
    """The contract, bytes compressed where that helps."""

    @pytest.fixture
    def place(self, tmp_path: Path) -> Directory:
        """A new directory."""
        return Directory(tmp_path / "store", compression="auto")
