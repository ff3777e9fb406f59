"""The box's TPM. The only file that knows tpm2-pytss; its errors become Refusal(BOX_TPM)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

DEFAULT_TCTI = "device:/dev/tpmrm0"


class Tpm:
    """An open TPM. The AK is created at first use and flushed when the TPM is closed."""

    def ak_name(self) -> bytes:
        """Return the AK's Name: 2 bytes of algorithm, 32 of digest."""
        raise NotImplementedError

    def ak_public(self) -> bytes:
        """Return the AK's TPMT_PUBLIC."""
        raise NotImplementedError

    def ek_public(self) -> bytes:
        """Return the RSA-2048 EK's TPMT_PUBLIC."""
        raise NotImplementedError

    def ek_certificate(self) -> bytes | None:
        """Return the RSA-2048 EK's certificate (DER) from NV 0x01C00002; None if there is none."""
        raise NotImplementedError

    def activate(self, id_object: bytes, encrypted_secret: bytes) -> bytes:
        """Return the secret of a credential (TPM2B_ID_OBJECT, TPM2B_ENCRYPTED_SECRET) made for this EK and AK."""
        raise NotImplementedError

    def quote(self, qualifying: bytes, pcrs: Sequence[int]) -> tuple[bytes, bytes]:
        """Return (TPMS_ATTEST, TPMT_SIGNATURE) over the SHA-256 values of `pcrs`."""
        raise NotImplementedError

    def read_pcrs(self, pcrs: Sequence[int]) -> dict[int, bytes]:
        """Return the SHA-256 values of `pcrs`."""
        raise NotImplementedError


@contextmanager
def open_tpm(tcti: str | None = None) -> Iterator[Tpm]:
    """Open the TPM behind `tcti` (default: the kernel's resource manager)."""
    raise NotImplementedError
    yield Tpm()
