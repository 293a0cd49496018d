"""Backups: generations of a store in one place, of which each file is kept once."""

from vectorstore.backups.generations import Backups, Generation, VerifyReport
from vectorstore.backups.making import BackupReport, back_up
from vectorstore.backups.manifest import Entry, Manifest
from vectorstore.backups.vaults import Vault, vault_at

__all__ = ["BackupReport", "Backups", "Entry", "Generation", "Manifest", "Vault", "VerifyReport", "back_up", "vault_at"]
