"""The box's TPM. The only file that knows tpm2-pytss; its errors become Refusals (`responses.py`).

What lies on the bus between processor and TPM may read and change everything (checklist 34). So every command that
uses a key runs in one HMAC session that is salted with the EK and encrypts the first parameter both ways. The box knows
no EK of its own: it takes the one that the TPM shows, and believes it only when the centre, on its channel, names the
same one with the credential (`activate`). Who put another key in the EK's place could read the session until then, and
is found out before a secret is asked for.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import cached_property
from pathlib import Path

from tpm2_pytss import (
    ESAPI,
    ESYS_TR,
    TPM2_ALG,
    TPM2_CAP,
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

from sdbox.attestation.responses import NOT_THERE, base_code, is_unauthorized, reason_of
from sdbox.attestation.structures import name_of
from sdbox.attestation.templates import AK_TEMPLATE, EK_TEMPLATE, is_default_ek
from sdbox.protocol.reasons import Reason, Refusal

DEFAULT_TCTI = "device:/dev/tpmrm0"
EK_HANDLE = 0x81010001  # where firmware and swtpm_setup keep the RSA-2048 EK (TCG PTP, TPM 2.0 handles registry, 2.3)
EK_CERTIFICATE_INDEX = 0x01C00002  # TCG EK Credential Profile 2.5, 2.2.1.4
_NV_BLOCK = 512  # below every TPM's TPM_PT_NV_BUFFER_MAX
_SESSION_FLAGS = TPMA_SESSION.CONTINUESESSION | TPMA_SESSION.DECRYPT | TPMA_SESSION.ENCRYPT
_PERMANENT = 0x200  # TPM_PT_PERMANENT, TPMA_PERMANENT: part 2, 6.13 and 8.6
_ENDORSEMENT_AUTH_SET = 1 << 1
_PLAIN = TPMT_SYM_DEF(algorithm=TPM2_ALG.NULL)


class Tpm:
    """An open TPM. EK, session and AK are made at first use, kept, and flushed when the TPM is closed.

    Every call raises Refusal with one of the BOX_TPM reasons.
    """

    def __init__(self, esapi: ESAPI, opened: ExitStack) -> None:
        self._esapi = esapi
        self._opened = opened

    def ak_name(self) -> bytes:
        """Return the AK's Name: 2 bytes of algorithm, 32 of digest."""
        return name_of(self.ak_public())

    def ak_public(self) -> bytes:
        """Return the AK's TPMT_PUBLIC."""
        with self._translated("create the attestation key"):
            return self._ak[1]

    def ek_public(self) -> bytes:
        """Return the RSA-2048 EK's TPMT_PUBLIC."""
        with self._translated("read the endorsement key"):
            return self._ek[1]

    def ek_certificate(self) -> bytes | None:
        """Return the RSA-2048 EK's certificate (DER) from NV 0x01C00002; None if there is none."""
        with self._translated("read the endorsement certificate"):
            index = self._find(EK_CERTIFICATE_INDEX)
            return None if index is None else self._read_nv(index)

    def activate(self, id_object: bytes, encrypted_secret: bytes, ek_name: bytes) -> bytes:
        """Return the secret of a credential (TPM2B_ID_OBJECT, TPM2B_ENCRYPTED_SECRET) made for this EK and AK.

        `ek_name` is the Name of the enrolled EK. Refusal(BOX_ACTIVATION) if the session is not salted with that key, or
        if this TPM cannot open the credential: it was made for another EK or another AK.
        """
        if name_of(self.ek_public()) != ek_name:
            raise Refusal(Reason.BOX_ACTIVATION, "the TPM's endorsement key is not the enrolled one")
        blob = TPM2B_ID_OBJECT(_unsized(id_object))
        seed = TPM2B_ENCRYPTED_SECRET(_unsized(encrypted_secret))
        with self._translated("prepare the activation"), self._ek_authorized() as policy:
            ak, ek = self._ak[0], self._ek[0]
            with self._translated("activate the credential", Reason.BOX_ACTIVATION):
                return bytes(
                    self._esapi.activate_credential(ak, ek, blob, seed, session1=self._session, session2=policy)
                )

    def quote(self, qualifying: bytes, pcrs: Sequence[int]) -> tuple[bytes, bytes]:
        """Return (TPMS_ATTEST, TPMT_SIGNATURE) over the SHA-256 values of `pcrs`."""
        with self._translated("quote"):
            attest, signature = self._esapi.quote(
                self._ak[0], _selection(pcrs), qualifying_data=qualifying, session1=self._session
            )
            return bytes(attest), bytes(signature.marshal())

    def read_pcrs(self, pcrs: Sequence[int]) -> dict[int, bytes]:
        """Return the SHA-256 values of `pcrs`; one command answers for at most eight (TPM 2.0 part 2, 10.9.7)."""
        values: dict[int, bytes] = {}
        with self._translated("read the PCRs"):
            for start in range(0, len(pcrs), 8):
                part = sorted(pcrs[start : start + 8])
                digests = [bytes(digest) for digest in self._esapi.pcr_read(_selection(part))[2]]
                if len(digests) != len(part):
                    raise Refusal(Reason.BOX_TPM_BUS, "values of other PCRs than were asked for")
                values.update(zip(part, digests, strict=True))
        return values

    @cached_property
    def _ek(self) -> tuple[ESYS_TR, bytes]:
        """The persistent EK if it has the default template, else one made from it: the same key."""
        handle = self._find(EK_HANDLE)
        if handle is not None:
            public = bytes(self._esapi.read_public(handle)[0].publicArea.marshal())
            if is_default_ek(public):
                return self._known(handle, public)
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
        return self._known(handle, bytes(public.publicArea.marshal()))

    def _known(self, handle: ESYS_TR, public: bytes) -> tuple[ESYS_TR, bytes]:
        """Return both if the library salts sessions with this `public`, and not with what an earlier answer said."""
        if not self._esapi.tr_serialize(handle).endswith(len(public).to_bytes(2, "big") + public):
            raise Refusal(Reason.BOX_TPM_BUS, "two answers about one key differ")
        return handle, public

    def _find(self, handle: int) -> ESYS_TR | None:
        try:
            return self._esapi.tr_from_tpmpublic(handle)
        except TSS2_Exception as error:
            if base_code(int(error.rc)) != NOT_THERE:
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
    def _translated(self, step: str, other: Reason = Reason.BOX_TPM) -> Iterator[None]:
        try:
            yield
        except TSS2_Exception as error:
            raise _refusal(step, error, self._reason(int(error.rc), other)) from error

    def _reason(self, response: int, other: Reason) -> Reason:
        """Ask the TPM once more where one code can mean two things."""
        reason = reason_of(response, other)
        if reason is Reason.BOX_TPM_BUS and is_unauthorized(response) and self._has_password():
            return Reason.BOX_TPM_DISABLED
        # libtpms says TPM_RC_FAILURE of a credential for another key, and goes on working.
        return other if reason is Reason.BOX_TPM_FAILURE and self._works() else reason

    def _works(self) -> bool:
        """Whether the TPM does anything: in failure mode it only tells about itself (part 1, 12.4)."""
        with suppress(TSS2_Exception):
            return bool(self._esapi.get_random(1))
        return False

    def _has_password(self) -> bool:
        """Whether the endorsement hierarchy has one: then no command of ours that creates a key is authorized."""
        with suppress(TSS2_Exception):
            _, found = self._esapi.get_capability(TPM2_CAP.TPM_PROPERTIES, _PERMANENT, 1)
            return bool(int(found.data.tpmProperties[0].value) & _ENDORSEMENT_AUTH_SET)
        return False


def require_tpm(tcti: str | None = None) -> None:
    """Refusal(BOX_TPM_ABSENT) if `tcti` (default: the kernel's resource manager) is a device that is not there."""
    kind, _, path = (tcti or DEFAULT_TCTI).partition(":")
    if kind == "device" and not Path(path).exists():
        raise Refusal(Reason.BOX_TPM_ABSENT, "no TPM device")


@contextmanager
def open_tpm(tcti: str | None = None) -> Iterator[Tpm]:
    """Open the TPM behind `tcti` (default: the kernel's resource manager). Refusal with one of the BOX_TPM reasons."""
    require_tpm(tcti)
    # The library would print every error on stderr that we translate, and the expected "no such handle" as well.
    os.environ.setdefault("TSS2_LOG", "all+none")
    with ExitStack() as opened:
        try:
            esapi = opened.enter_context(ESAPI(tcti or DEFAULT_TCTI))
        except TSS2_Exception as error:
            raise _refusal("open the TPM", error, reason_of(int(error.rc))) from error
        yield Tpm(esapi, opened)


def _refusal(step: str, error: TSS2_Exception, reason: Reason) -> Refusal:
    return Refusal(reason, f"could not {step}: TPM response 0x{int(error.rc):X}")


def _selection(pcrs: Sequence[int]) -> str:
    return "sha256:" + ",".join(str(index) for index in pcrs)


def _unsized(data: bytes) -> bytes:
    """Return the buffer of a TPM2B; Refusal(PROTOCOL) if its size is not its own."""
    if len(data) < 2 or int.from_bytes(data[:2], "big") != len(data) - 2:
        raise Refusal(Reason.PROTOCOL, "malformed credential")
    return data[2:]
