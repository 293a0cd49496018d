"""Trees as bytes that can be trusted: a header with format, compression, cipher, size and digest, then the payload.

    {"vectorstore-state":1,"compression":"gzip","cipher":null,"size":123,"sha256":"..."}
    <payload>

Uncompressed and not encrypted that is two lines of JSON. Format 0 is a bare JSON object, as the source system wrote it
and as other programs may; it is read, and written on request only. Any of them may be gzipped as a whole.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import zlib
from collections.abc import Callable
from typing import Any, Literal, Protocol

from vectorstore.errors import CorruptError, LibraryMissing, NewerFormat, ValidationError, WrongKey, installing
from vectorstore.states.codec import dumps

FORMAT = 1
Compression = Literal["auto", "gzip", "none"]
_MARK = b'{"vectorstore-state":'
_GZIP = b"\x1f\x8b"
_HEADER = 4096
_HEADERS = {"vectorstore-state", "compression", "cipher", "size", "sha256"}
_SAMPLE = 64 * 1024
_WORTH = 0.7
_LEVEL = 1
"""Levels above cost five times the time for a tenth of the bytes on such data."""

_BOMB_FROM = 64 * 1024 * 1024
_MAX_RATIO = 200
"""So much larger may a payload become, from 64 MB on; gzip could make it a thousand times larger."""


class Cipher(Protocol):
    """Makes a payload unreadable, and readable again. `name` is kept in the header."""

    name: str

    def encrypt(self, data: bytes) -> bytes:
        """The payload, encrypted and authenticated."""

    def decrypt(self, data: bytes) -> bytes:
        """What was encrypted.

        Raises:
            WrongKey: by another key.
        """


class AesGcm:
    """AES in Galois/counter mode, from the package `cryptography` (the extra `crypto`).

    Args:
        key: 16, 24 or 32 random bytes; `AesGcm.new_key()` makes some. Without it nobody can read the state again.
    """

    name = "aes-gcm"
    _NONCE = 12

    def __init__(self, key: bytes) -> None:
        try:
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM
        except ImportError:
            raise LibraryMissing(f"AesGcm needs cryptography; {installing('crypto')}") from None
        if not isinstance(key, bytes) or len(key) not in (16, 24, 32):
            raise ValidationError("AesGcm: key: expected 16, 24 or 32 bytes")
        self._cipher = AESGCM(key)

    @staticmethod
    def new_key() -> bytes:
        """32 random bytes."""
        return os.urandom(32)

    def encrypt(self, data: bytes) -> bytes:
        """A new random nonce, then what it encrypts."""
        nonce = os.urandom(self._NONCE)
        return nonce + self._cipher.encrypt(nonce, data, self.name.encode())

    def decrypt(self, data: bytes) -> bytes:
        """What was encrypted."""
        from cryptography.exceptions import InvalidTag

        try:
            return self._cipher.decrypt(data[: self._NONCE], data[self._NONCE :], self.name.encode())
        except (InvalidTag, ValueError):
            raise WrongKey("it was encrypted with another key") from None


def seal(tree: Any, *, compression: Compression = "auto", cipher: Cipher | None = None) -> bytes:
    """A tree in its envelope.

    Args:
        tree: what JSON has.
        compression: "auto" gzips when a sample of 64 KiB shrinks to 0.7 at most.
        cipher: encrypts, after compressing.
    """
    if compression not in ("auto", "gzip", "none"):
        raise ValidationError(f"compression: expected auto, gzip or none, got {compression!r}")
    payload = dumps(tree)
    packed = compression == "gzip" or (compression == "auto" and _shrinks(payload))
    if packed:
        payload = gzip.compress(payload, _LEVEL, mtime=0)
    if cipher is not None:
        payload = cipher.encrypt(payload)
    header = {
        "vectorstore-state": FORMAT,
        "compression": "gzip" if packed else "none",
        "cipher": None if cipher is None else cipher.name,
        "size": len(payload),
        "sha256": hashlib.sha256(payload).hexdigest(),
    }
    return dumps(header) + b"\n" + payload


def _shrinks(payload: bytes) -> bool:
    middle = max(0, len(payload) // 2 - _SAMPLE // 2)
    sample = payload[middle : middle + _SAMPLE]
    return len(sample) > 512 and len(zlib.compress(sample, _LEVEL)) <= _WORTH * len(sample)


def unseal(data: bytes, where: str, cipher: Cipher | None = None, *, strict: bool = True) -> dict[str, Any]:
    """The tree in an envelope, or in a bare JSON object.

    Args:
        data: the bytes of a file or a row, gzipped or not.
        where: what errors name.
        cipher: the one that it was encrypted with.
        strict: with a cipher, refuse what is not encrypted.

    Raises:
        CorruptError: not what was written. NewerFormat: by a newer version. WrongKey: by another key, with a key where
            none was used, or without one where one was.
    """
    if data.startswith(_GZIP):
        data = _gunzip(data, where)
    if not data.startswith(_MARK):
        if cipher is not None and strict:
            raise WrongKey(f"{where} is plain JSON, not encrypted; load it without a cipher")
        return _migrated(0, _json(data, where))
    line, newline, payload = data.partition(b"\n") if b"\n" in data[:_HEADER] else (data[:_HEADER], b"", b"")
    header = _json(line, where)
    version = header.get("vectorstore-state")
    if type(version) is not int or not newline:
        raise CorruptError(f"{where}: its header is damaged")
    if version > FORMAT:
        raise NewerFormat(f"{where} has format {version}; this vectorstore reads up to {FORMAT}: upgrade it")
    if header.keys() != _HEADERS or header["compression"] not in ("gzip", "none"):
        raise CorruptError(f"{where}: its header is damaged")
    if len(payload) != header["size"] or hashlib.sha256(payload).hexdigest() != header["sha256"]:
        raise CorruptError(f"{where}: its bytes are not those that were written")
    written_with = header["cipher"]
    if written_with is not None:
        if cipher is None or cipher.name != written_with:
            raise WrongKey(f"{where} is encrypted by {written_with}; pass cipher=")
        try:
            payload = cipher.decrypt(payload)
        except WrongKey as error:
            raise WrongKey(f"{where}: {error}") from None
    elif cipher is not None and strict:
        raise WrongKey(f"{where} is not encrypted; load it without a cipher, then encrypt it: state.rekey(cipher)")
    if header["compression"] == "gzip":
        payload = _gunzip(payload, where)
    return _migrated(version, _json(payload, where))


def _gunzip(data: bytes, where: str) -> bytes:
    most = max(_BOMB_FROM, _MAX_RATIO * len(data))
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as stream:
            found = stream.read(most + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise CorruptError(f"{where}: its gzip stream is damaged: {error}") from None
    if len(found) > most:
        raise CorruptError(
            f"{where}: becomes more than {_MAX_RATIO} times larger when unpacked; if that is right, unpack it first"
        )
    return found


def _json(data: bytes, where: str) -> dict[str, Any]:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise CorruptError(f"{where}: is not JSON: {error}") from None
    if type(found) is not dict:
        raise CorruptError(f"{where}: expected a JSON object, got {type(found).__name__}")
    return found


def _migrated(version: int, tree: dict[str, Any]) -> dict[str, Any]:
    """A tree of an older format as one of today's."""
    for step in range(version, FORMAT):
        tree = _MIGRATIONS[step](tree)
    return tree


_MIGRATIONS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {0: lambda members: {"state": members}}
"""What makes a tree of the next format of one of a format."""
