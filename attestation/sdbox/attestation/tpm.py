"""The box's TPM. The only file that knows tpm2-pytss; its errors become Refusal(BOX_TPM)."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import cached_property

from tpm2_pytss import (
    ESAPI,
    ESYS_TR,
    TPM2_ALG,
    TPM2_SE,
    TPM2B_ENCRYPTED_SECRET,
    TPM2B_ID_OBJECT,
    TPM2B_PUBLIC,
    TPM2B_SENSITIVE_CREATE,
    TPMA_SESSION,
    TPMT_PUBLIC,
    TPMT_SYM_DEF,
    TPMU_SYM_KEY_BITS,
    TPMU_SYM_MODE,
    TSS2_Exception,
)

from sdbox.attestation.structures import name_of
from sdbox.attestation.templates import AK_TEMPLATE, EK_TEMPLATE
from sdbox.protocol.reasons import Reason, Refusal

DEFAULT_TCTI = "device:/dev/tpmrm0"
EK_HANDLE = 0x81010001  # where firmware and swtpm_setup keep the RSA-2048 EK (TCG PTP, TPM 2.0 handles registry, 2.3)
EK_CERTIFICATE_INDEX = 0x01C00002  # TCG EK Credential Profile 2.5, 2.2.1.4
_NV_BLOCK = 512  # below every TPM's TPM_PT_NV_BUFFER_MAX
_NOT_THERE = 0x18B  # TPM_RC_HANDLE | first handle: nothing lives at a persistent handle or an NV index
_SESSION_FLAGS = TPMA_SESSION.CONTINUESESSION | TPMA_SESSION.DECRYPT | TPMA_SESSION.ENCRYPT
_PLAIN = TPMT_SYM_DEF(algorithm=TPM2_ALG.NULL)


class Tpm:
    """An open TPM. EK, session and AK are made at first use, kept, and flushed when the TPM is closed.

    All commands that use a key run in one HMAC session, salted with the EK and encrypting the first parameter both
    ways, so that a bus interposer reads no activated secret (checklist 34).
    """

    def __init__(self, esapi: ESAPI, opened: ExitStack) -> None:
        self._esapi = esapi
        self._opened = opened

    def ak_name(self) -> bytes:
        """Return the AK's Name: 2 bytes of algorithm, 32 of digest."""
        return name_of(self.ak_public())

    def ak_public(self) -> bytes:
        """Return the AK's TPMT_PUBLIC."""
        with _translated("create the attestation key"):
            return self._ak[1]

    def ek_public(self) -> bytes:
        """Return the RSA-2048 EK's TPMT_PUBLIC."""
        with _translated("read the endorsement key"):
            return self._ek[1]

    def ek_certificate(self) -> bytes | None:
        """Return the RSA-2048 EK's certificate (DER) from NV 0x01C00002; None if there is none."""
        with _translated("read the endorsement certificate"):
            index = self._find(EK_CERTIFICATE_INDEX)
            return None if index is None else self._read_nv(index)

    def activate(self, id_object: bytes, encrypted_secret: bytes) -> bytes:
        """Return the secret of a credential (TPM2B_ID_OBJECT, TPM2B_ENCRYPTED_SECRET) made for this EK and AK.

        Refusal(BOX_ACTIVATION) if this TPM cannot open it: it was made for another EK or another AK.
        """
        blob = TPM2B_ID_OBJECT(_unsized(id_object))
        seed = TPM2B_ENCRYPTED_SECRET(_unsized(encrypted_secret))
        with _translated("prepare the activation"), self._ek_authorized() as policy:
            ak, ek = self._ak[0], self._ek[0]
            with _translated("activate the credential", Reason.BOX_ACTIVATION):
                return bytes(
                    self._esapi.activate_credential(ak, ek, blob, seed, session1=self._session, session2=policy)
                )

    def quote(self, qualifying: bytes, pcrs: Sequence[int]) -> tuple[bytes, bytes]:
        """Return (TPMS_ATTEST, TPMT_SIGNATURE) over the SHA-256 values of `pcrs`."""
        with _translated("quote"):
            attest, signature = self._esapi.quote(
                self._ak[0], _selection(pcrs), qualifying_data=qualifying, session1=self._session
            )
            return bytes(attest), bytes(signature.marshal())

    def read_pcrs(self, pcrs: Sequence[int]) -> dict[int, bytes]:
        """Return the SHA-256 values of `pcrs`; one command answers for at most eight (TPM 2.0 part 2, 10.9.7)."""
        values: dict[int, bytes] = {}
        with _translated("read the PCRs"):
            for start in range(0, len(pcrs), 8):
                part = sorted(pcrs[start : start + 8])
                _, _, digests = self._esapi.pcr_read(_selection(part))
                values.update(zip(part, (bytes(digest) for digest in digests), strict=True))
        return values

    @cached_property
    def _ek(self) -> tuple[ESYS_TR, bytes]:
        """The persistent EK if it has the default template, else one made from it: the same key."""
        handle = self._find(EK_HANDLE)
        if handle is not None:
            public = bytes(self._esapi.read_public(handle)[0].publicArea.marshal())
            if _is_default_ek(public):
                return handle, public
        return self._create(EK_TEMPLATE, ESYS_TR.PASSWORD)

    @cached_property
    def _ak(self) -> tuple[ESYS_TR, bytes]:
        return self._create(AK_TEMPLATE, self._session)

    @cached_property
    def _session(self) -> ESYS_TR:
        aes = TPMT_SYM_DEF(
            algorithm=TPM2_ALG.AES, keyBits=TPMU_SYM_KEY_BITS(aes=128), mode=TPMU_SYM_MODE(aes=TPM2_ALG.CFB)
        )
        session = self._esapi.start_auth_session(self._ek[0], ESYS_TR.NONE, TPM2_SE.HMAC, aes, TPM2_ALG.SHA256)
        self._flush_at_close(session)
        self._esapi.trsess_set_attributes(session, _SESSION_FLAGS)
        return session

    @contextmanager
    def _ek_authorized(self) -> Iterator[ESYS_TR]:
        """A policy session that satisfies the EK's PolicySecret(endorsement), gone afterwards: a TPM holds three."""
        session = self._esapi.start_auth_session(ESYS_TR.NONE, ESYS_TR.NONE, TPM2_SE.POLICY, _PLAIN, TPM2_ALG.SHA256)
        try:
            # tpm2-pytss 2.3 has no defaults here, and 3.0's expiration is not zero: said in full for both.
            nothing = {"nonce_tpm": b"", "cp_hash_a": b"", "policy_ref": b"", "expiration": 0}
            self._esapi.policy_secret(ESYS_TR.ENDORSEMENT, session, **nothing)
            yield session
        finally:
            self._flush(session)

    def _create(self, template: bytes, session: ESYS_TR) -> tuple[ESYS_TR, bytes]:
        area, _ = TPMT_PUBLIC.unmarshal(template)
        handle, public, _, _, _ = self._esapi.create_primary(
            TPM2B_SENSITIVE_CREATE(), TPM2B_PUBLIC(publicArea=area), ESYS_TR.ENDORSEMENT, session1=session
        )
        self._flush_at_close(handle)
        return handle, bytes(public.publicArea.marshal())

    def _find(self, handle: int) -> ESYS_TR | None:
        try:
            return self._esapi.tr_from_tpmpublic(handle)
        except TSS2_Exception as error:
            if int(error.rc) & 0xFFF != _NOT_THERE:
                raise
            return None

    def _read_nv(self, index: ESYS_TR) -> bytes:
        size = int(self._esapi.nv_read_public(index)[0].nvPublic.dataSize)
        offsets = range(0, size, _NV_BLOCK)
        return b"".join(bytes(self._esapi.nv_read(index, min(_NV_BLOCK, size - at), at)) for at in offsets)

    def _flush_at_close(self, handle: ESYS_TR) -> None:
        self._opened.callback(self._flush, handle)

    def _flush(self, handle: ESYS_TR) -> None:
        # A TPM that fails here is about to be closed, and the kernel's resource manager drops what is left.
        with suppress(TSS2_Exception):
            self._esapi.flush_context(handle)


@contextmanager
def open_tpm(tcti: str | None = None) -> Iterator[Tpm]:
    """Open the TPM behind `tcti` (default: the kernel's resource manager); Refusal(BOX_TPM) if it does not answer."""
    # The library would print every error on stderr that we translate, and the expected "no such handle" as well.
    os.environ.setdefault("TSS2_LOG", "all+none")
    with ExitStack() as opened:
        with _translated("open the TPM"):
            esapi = opened.enter_context(ESAPI(tcti or DEFAULT_TCTI))
        yield Tpm(esapi, opened)


@contextmanager
def _translated(step: str, reason: Reason = Reason.BOX_TPM) -> Iterator[None]:
    try:
        yield
    except TSS2_Exception as error:
        raise Refusal(reason, f"could not {step}: TPM response 0x{int(error.rc):X}") from error


def _is_default_ek(public: bytes) -> bool:
    """Compare with the template up to the modulus, which the template leaves empty."""
    return len(public) == len(EK_TEMPLATE) and public[:-256] == EK_TEMPLATE[:-256]


def _selection(pcrs: Sequence[int]) -> str:
    return "sha256:" + ",".join(str(index) for index in pcrs)


def _unsized(data: bytes) -> bytes:
    """Return the buffer of a TPM2B; Refusal(PROTOCOL) if its size is not its own."""
    if len(data) < 2 or int.from_bytes(data[:2], "big") != len(data) - 2:
        raise Refusal(Reason.PROTOCOL, "malformed credential")
    return data[2:]
