"""PCR arithmetic: banks, reset values, extending (TPM 2.0 part 1, 17; PC Client Platform TPM Profile, 4.6)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from enum import StrEnum
from functools import partial

PCR_COUNT = 24
_DYNAMIC = range(
    17, 23
)  # reset to all ones at power-on, to zeros by a dynamic launch (PC Client platform profile, table 6)


class Bank(StrEnum):
    """A PCR bank, named as tools and reference.json name it."""

    __hash__ = str.__hash__  # the enum's own is Python code, and each event's digests are a dictionary

    SHA1 = "sha1"
    SHA256 = "sha256"
    SHA384 = "sha384"
    SHA512 = "sha512"
    SM3_256 = "sm3_256"
    SHA3_256 = "sha3_256"
    SHA3_384 = "sha3_384"
    SHA3_512 = "sha3_512"

    @property
    def size(self) -> int:
        """Return the digest size in bytes."""
        return _SIZES[self]

    @property
    def constructor(self) -> Callable[[bytes], hashlib._Hash]:
        """Return the hash function; ValueError where this Python's OpenSSL lacks the algorithm (SM3)."""
        return _CONSTRUCTORS.get(self) or partial(hashlib.new, "sm3")

    def digest(self, data: bytes) -> bytes:
        """Return the bank's digest of `data`; ValueError where this Python's OpenSSL lacks the algorithm (SM3)."""
        return self.constructor(data).digest()


_SIZES = {
    Bank.SHA1: 20,
    Bank.SHA256: 32,
    Bank.SHA384: 48,
    Bank.SHA512: 64,
    Bank.SM3_256: 32,
    Bank.SHA3_256: 32,
    Bank.SHA3_384: 48,
    Bank.SHA3_512: 64,
}

_CONSTRUCTORS: dict[str, Callable[[bytes], hashlib._Hash]] = {
    Bank.SHA1: hashlib.sha1,
    Bank.SHA256: hashlib.sha256,
    Bank.SHA384: hashlib.sha384,
    Bank.SHA512: hashlib.sha512,
    Bank.SHA3_256: hashlib.sha3_256,
    Bank.SHA3_384: hashlib.sha3_384,
    Bank.SHA3_512: hashlib.sha3_512,
}

# TPM_ALG_ID (TCG Algorithm Registry, table 3).
ALGORITHM_IDS = {
    0x0004: Bank.SHA1,
    0x000B: Bank.SHA256,
    0x000C: Bank.SHA384,
    0x000D: Bank.SHA512,
    0x0012: Bank.SM3_256,
    0x0027: Bank.SHA3_256,
    0x0028: Bank.SHA3_384,
    0x0029: Bank.SHA3_512,
}


def reset_value(bank: Bank, index: int, locality: int = 0) -> bytes:
    """Return what a PCR holds before its first event. PCR 0 starts at the locality of TPM2_Startup (part 1, 34.2)."""
    if index in _DYNAMIC:
        return b"\xff" * bank.size
    return (locality if index == 0 else 0).to_bytes(bank.size, "big")


def extend(bank: Bank, value: bytes, digest: bytes) -> bytes:
    """Return the PCR's value after extending it with `digest`; ValueError if a size is not the bank's."""
    if len(value) != bank.size or len(digest) != bank.size:
        raise ValueError(f"{bank} has digests of {bank.size} bytes")
    return bank.digest(value + digest)


def replay_digests(bank: Bank, digests: Iterable[bytes], start: bytes | None = None) -> bytes:
    """Return the value of a PCR that started at `start` (zeros by default) and was extended with each digest."""
    value = bytes(bank.size) if start is None else start
    for digest in digests:
        value = extend(bank, value, digest)
    return value
