"""A bundle of TPM vendors' certificates with their provenance: what an endorsement certificate must chain to (row 1).

A folder: `roots.json` and one PEM file for each certificate, named by the SHA-256 of its DER. The list says of each
where it was fetched, when, and whether it is a root or lies between a root and the TPMs. Files and list must agree
exactly: a certificate that was only copied into the folder is trusted by nobody.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import msgspec

from sdbox.attestation.endorsement import Anchors, chain_of, is_valid, may_issue
from sdbox.attestation.vendorcert import VendorCertificate, load_vendor_certificates, pem_of

LIST = "roots.json"
SOFTWARE = "swtpm-localca"  # what swtpm's own CA calls itself
_Digest = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}$")]
_Date = Annotated[str, msgspec.Meta(pattern=r"^\d{4}-\d{2}-\d{2}$")]
_Source = Annotated[str, msgspec.Meta(pattern=r"^\S.{3,400}$")]


class BundleError(ValueError):
    """The bundle is malformed, or files and list differ. The text is one line."""


class Kind(StrEnum):
    """What a certificate of the bundle is for."""

    ROOT = "root"
    INTERMEDIATE = "intermediate"


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One certificate. `development`: a software TPM's maker, whom nobody can tell from another."""

    sha256: _Digest
    subject: str
    kind: Kind
    source: _Source  # URL, and the path in what was fetched from there
    date: _Date
    development: bool = False


class Bundle:
    """A bundle that agrees with its list."""

    def __init__(self, folder: Path) -> None:
        """Read `folder`; an empty or absent one is an empty bundle. BundleError if it can't be relied on."""
        self._folder = folder
        self.entries = _read_list(folder / LIST)
        listed = {entry.sha256 for entry in self.entries}
        there = {path.stem for path in folder.glob("*.pem")}
        if len(listed) != len(self.entries) or listed != there:
            odd = sorted(listed ^ there) or ["a certificate twice"]
            raise BundleError(f"{folder}: files and {LIST} differ: {odd[0]}")
        self._certificates = {entry.sha256: self._read(entry) for entry in self.entries}

    @property
    def has_development(self) -> bool:
        return any(entry.development for entry in self.entries)

    def anchors(self) -> Anchors:
        """Return what to check chains with. BundleError if there is no root."""
        kinds = {kind: [self._certificates[one.sha256] for one in self.entries if one.kind is kind] for kind in Kind}
        if not kinds[Kind.ROOT]:
            raise BundleError(f"{self._folder}: no root certificate")
        return Anchors(kinds[Kind.ROOT], kinds[Kind.INTERMEDIATE])

    def problems(self, now: dt.datetime) -> Iterator[str]:
        """Yield, a line each, what an operator should look at: dates, and intermediates without a root."""
        anchors = self.anchors()
        for entry in self.entries:
            certificate = self._certificates[entry.sha256]
            if not is_valid(certificate.parsed, now):
                yield f"{entry.sha256} {entry.subject}: not valid now"
            if chain_of(certificate, anchors) is None:
                yield f"{entry.sha256} {entry.subject}: no way to a root of the bundle"

    def add(
        self, certificates: Sequence[VendorCertificate], source: str, date: dt.date, *, development: bool
    ) -> list[Entry]:
        """Add what is not there yet and write the bundle; returns the new entries.

        BundleError for a certificate that is no CA's, or of a software TPM's maker without `development`.
        """
        known = {entry.sha256 for entry in self.entries}
        new = {digest_of(one): _entry(one, source, date, development=development) for one in certificates}
        added = [entry for digest, entry in new.items() if digest not in known]
        self._folder.mkdir(parents=True, exist_ok=True)
        for one in certificates:
            (self._folder / f"{digest_of(one)}.pem").write_text(pem_of(one), encoding="ascii")
        self._write((*self.entries, *added))
        return added

    def drop(self, digest: str) -> Entry:
        """Take one out. BundleError if it is not there."""
        found = next((entry for entry in self.entries if entry.sha256 == digest), None)
        if found is None:
            raise BundleError(f"{self._folder}: no certificate {digest}")
        self._write(tuple(entry for entry in self.entries if entry is not found))
        (self._folder / f"{digest}.pem").unlink()
        return found

    def _write(self, entries: tuple[Entry, ...]) -> None:
        self.entries = tuple(sorted(entries, key=lambda entry: (entry.kind, entry.subject, entry.sha256)))
        text = msgspec.json.format(msgspec.json.encode(self.entries), indent=1)
        (self._folder / LIST).write_bytes(text + b"\n")

    def _read(self, entry: Entry) -> VendorCertificate:
        path = self._folder / f"{entry.sha256}.pem"
        try:
            (certificate,) = load_vendor_certificates(path.read_bytes())
        except (OSError, ValueError) as error:
            raise BundleError(f"{path}: unreadable") from error
        if digest_of(certificate) != entry.sha256 or kind_of(certificate) is not entry.kind:
            raise BundleError(f"{path}: not what {LIST} says of it")
        return certificate


def digest_of(certificate: VendorCertificate) -> str:
    """Return the SHA-256 of the DER, hex."""
    return hashlib.sha256(certificate.der).hexdigest()


def kind_of(certificate: VendorCertificate) -> Kind:
    """A root is signed by its own key. BundleError for what issues nothing."""
    if not may_issue(certificate.parsed):
        raise BundleError(f"{digest_of(certificate)}: not a CA's certificate")
    return Kind.ROOT if certificate.is_issued_by(certificate) else Kind.INTERMEDIATE


def read_tree(path: Path) -> list[VendorCertificate]:
    """Return all certificates of a file or of a tree as vendors publish them (.cer, .crt, .der, .pem).

    BundleError if one can't be read or there is none: a bundle that lacks a vendor without a word refuses its boxes.
    """
    wanted = {".cer", ".crt", ".der", ".pem"}
    files = [path] if path.is_file() else sorted(one for one in path.rglob("*") if one.suffix.lower() in wanted)
    found: list[VendorCertificate] = []
    for file in files:
        try:
            found += load_vendor_certificates(file.read_bytes())
        except ValueError as error:
            raise BundleError(f"{file}: not a certificate") from error
    if not found:
        raise BundleError(f"{path}: no certificate")
    return found


def _entry(certificate: VendorCertificate, source: str, date: dt.date, *, development: bool) -> Entry:
    subject = certificate.parsed.subject.rfc4514_string()
    if SOFTWARE in f"{subject} {certificate.parsed.issuer.rfc4514_string()}" and not development:
        raise BundleError(f"{subject}: the maker of software TPMs, for development only")
    return Entry(digest_of(certificate), subject, kind_of(certificate), source, date.isoformat(), development)


def _read_list(path: Path) -> tuple[Entry, ...]:
    if not path.exists():
        return ()
    try:
        return msgspec.json.decode(path.read_bytes(), type=tuple[Entry, ...])
    except (OSError, ValueError, RecursionError) as error:
        raise BundleError(f"{path}: {error}") from error
