"""Exported authenticators against independent ones, in both directions, and against every flipped bit."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from sdbox.agent.channel.authenticator import ChannelKeys, Sign, empty_authenticator, make_authenticator
from sdbox.gateway.authenticator import ConnectionKeys, verify_authenticator
from sdbox.protocol.authenticator_request import CertificateRequest, certificate_request
from sdbox.protocol.reasons import Reason, Refusal
from tests.unit.channel_certificates import project_certificate

ROOT = Path(__file__).parents[2]
VECTORS = Path(os.environ.get("SDBOX_RFC9261_VECTORS", ROOT.parent / "shared" / "vectors" / "rfc9261"))
ORACLE_SCHEMES = (0x0403, 0x0804)

needs_vectors = pytest.mark.skipif(
    not VECTORS.joinpath("go-oracle.json").exists(), reason="no RFC 9261 vectors: set SDBOX_RFC9261_VECTORS"
)


def oracle_cases(*, empty: bool) -> list[dict[str, Any]]:
    path = VECTORS / "go-oracle.json"
    cases = json.loads(path.read_text())["cases"] if path.exists() else []
    return [case for case in cases if case["name"].endswith("empty") is empty]


def keys_of(case: dict[str, Any]) -> ConnectionKeys:
    return ConnectionKeys(case["hash"], bytes.fromhex(case["handshake_context"]), bytes.fromhex(case["finished_key"]))


def request_of(case: dict[str, Any]) -> CertificateRequest:
    return certificate_request(bytes.fromhex(case["context"]), ORACLE_SCHEMES)


@needs_vectors
def test_there_are_vectors_to_check() -> None:
    assert (len(oracle_cases(empty=False)), len(oracle_cases(empty=True))) == (4, 2)


@needs_vectors
@pytest.mark.parametrize("case", oracle_cases(empty=False), ids=lambda case: case["name"])
def test_the_request_is_the_oracle_s(case: dict[str, Any]) -> None:
    assert request_of(case).encoded.hex() == case["request"]


@needs_vectors
@pytest.mark.parametrize("maker", ["authenticator_by_go", "authenticator_by_ea"])
@pytest.mark.parametrize("case", oracle_cases(empty=False), ids=lambda case: case["name"])
def test_the_gateway_accepts_what_the_oracle_made(case: dict[str, Any], maker: str) -> None:
    data = bytes.fromhex(case[maker])
    chain = verify_authenticator(keys_of(case), request_of(case), data)
    assert chain
    with pytest.raises(Refusal):
        verify_authenticator(keys_of(case), request_of(case), data[:-1])


@needs_vectors
@pytest.mark.parametrize("case", oracle_cases(empty=False), ids=lambda case: case["name"])
def test_the_box_makes_the_oracle_s_bytes(case: dict[str, Any]) -> None:
    """Replay the recorded signature: everything around it must come out equal, byte for byte."""
    recorded = bytes.fromhex(case["authenticator_by_go"])
    request = request_of(case)
    chain = verify_authenticator(keys_of(case), request, recorded)
    scheme, signature = recorded_signature(recorded)

    async def sign(schemes: Sequence[int], content: bytes) -> tuple[int, bytes]:
        assert tuple(schemes) == ORACLE_SCHEMES
        assert content.startswith(b" " * 64 + b"Exported Authenticator\0")
        return scheme, signature

    assert asyncio.run(make_authenticator(box_keys(keys_of(case)), request, chain, sign)) == recorded


@needs_vectors
@pytest.mark.parametrize("case", oracle_cases(empty=True), ids=lambda case: case["name"])
def test_the_empty_authenticator_is_the_oracle_s_and_opens_nothing(case: dict[str, Any]) -> None:
    data = empty_authenticator(box_keys(keys_of(case)), request_of(case))
    assert data.hex() == case["authenticator_by_go"] == case["authenticator_by_ea"]
    with pytest.raises(Refusal):
        verify_authenticator(keys_of(case), request_of(case), data)


def fizz() -> dict[str, Any]:
    return dict(json.loads(VECTORS.joinpath("fizz.json").read_text()))


@needs_vectors
def test_fizz_finished_values_reproduce() -> None:
    """Fizz hashes the request without its header, so its request is given raw. Its real signature is over TLS 1.3's
    own string, its dummy one over nothing: the gateway must refuse each.
    """
    vector = fizz()
    secrets = [bytes.fromhex(vector[name]) for name in ("handshake_context", "finished_key")]
    box, gateway = ChannelKeys(vector["hash"], *secrets), ConnectionKeys(vector["hash"], *secrets)
    cases = [case for case in vector["cases"] if "authenticator" in case]
    assert len(cases) == 3
    for case in cases:
        data = bytes.fromhex(case["authenticator"])
        request = CertificateRequest(bytes.fromhex(case["context"]), (0x0403,), bytes.fromhex(vector["request"]))
        with pytest.raises(Refusal):
            verify_authenticator(gateway, request, data)
        if case["name"] == "empty":
            assert empty_authenticator(box, request) == data
        else:
            chain = [bytes.fromhex(case["leaf"])] if "leaf" in case else []
            assert asyncio.run(make_authenticator(box, request, chain, replay(data))) == data


@needs_vectors
def test_fizz_requests_reproduce() -> None:
    requests = [case for case in fizz()["cases"] if "schemes" in case]
    assert requests
    for case in requests:
        schemes = tuple(int(scheme, 16) for scheme in case["schemes"])
        assert certificate_request(bytes.fromhex(case["context"]), schemes).encoded[4:].hex() == case["request"]


def replay(data: bytes) -> Sign:
    async def sign(_schemes: Sequence[int], _content: bytes) -> tuple[int, bytes]:
        return recorded_signature(data)

    return sign


def recorded_signature(data: bytes) -> tuple[int, bytes]:
    verify = data[4 + int.from_bytes(data[1:4], "big") :]
    return int.from_bytes(verify[4:6], "big"), verify[8 : 8 + int.from_bytes(verify[6:8], "big")]


def box_keys(keys: ConnectionKeys) -> ChannelKeys:
    return ChannelKeys(keys.hash_name, keys.handshake_context, keys.finished_key)


KEYS = ConnectionKeys("sha384", b"h" * 48, b"f" * 48)
REQUEST = certificate_request(b"c" * 64)


async def made(request: CertificateRequest = REQUEST, keys: ConnectionKeys = KEYS) -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = project_certificate(key.public_key(), "atlas").public_bytes(Encoding.DER)

    async def sign(_schemes: Sequence[int], content: bytes) -> tuple[int, bytes]:
        return 0x0403, key.sign(content, ec.ECDSA(hashes.SHA256()))

    return await make_authenticator(box_keys(keys), request, (certificate,), sign)


def test_the_halves_agree() -> None:
    assert len(verify_authenticator(KEYS, REQUEST, asyncio.run(made()))) == 1


PADDINGS = {0x0804: padding.PSS(padding.MGF1(hashes.SHA256()), 32), 0x0420: padding.PKCS1v15()}


@pytest.mark.parametrize("scheme", PADDINGS)
def test_an_rsa_card_proves_itself_with_either_padding(scheme: int) -> None:
    """RFC 9963 lets clients whose card knows no PSS use PKCS#1; what is padded one way does not pass as the other."""
    key = rsa.generate_private_key(65537, 2048)
    certificate = project_certificate(key.public_key(), "atlas").public_bytes(Encoding.DER)

    def made_with(used: int) -> bytes:
        async def sign(_schemes: Sequence[int], content: bytes) -> tuple[int, bytes]:
            return scheme, key.sign(content, PADDINGS[used], hashes.SHA256())

        return asyncio.run(make_authenticator(box_keys(KEYS), REQUEST, (certificate,), sign))

    assert verify_authenticator(KEYS, REQUEST, made_with(scheme)) == (certificate,)
    (other,) = set(PADDINGS) - {scheme}
    with pytest.raises(Refusal):
        verify_authenticator(KEYS, REQUEST, made_with(other))


def test_every_flipped_bit_is_refused() -> None:
    data = asyncio.run(made())
    for position in range(len(data) * 8):
        flipped = bytearray(data)
        flipped[position // 8] ^= 1 << position % 8
        with pytest.raises(Refusal) as caught:
            verify_authenticator(KEYS, REQUEST, bytes(flipped))
        assert caught.value.reason is Reason.CARD_PROOF


@pytest.mark.parametrize(
    "keys",
    [
        ConnectionKeys("sha384", b"x" * 48, b"f" * 48),
        ConnectionKeys("sha384", b"h" * 48, b"x" * 48),
        ConnectionKeys("sha256", b"h" * 32, b"f" * 32),
    ],
)
def test_another_connection_is_refused(keys: ConnectionKeys) -> None:
    with pytest.raises(Refusal):
        verify_authenticator(keys, REQUEST, asyncio.run(made()))


def test_another_context_is_refused() -> None:
    with pytest.raises(Refusal):
        verify_authenticator(KEYS, certificate_request(b"d" * 64), asyncio.run(made()))


def test_a_scheme_that_was_not_offered_is_refused() -> None:
    request = certificate_request(b"c" * 64, (0x0804,))
    with pytest.raises(Refusal):
        verify_authenticator(KEYS, request, asyncio.run(made(request)))


def test_an_empty_authenticator_is_refused() -> None:
    with pytest.raises(Refusal):
        verify_authenticator(KEYS, REQUEST, empty_authenticator(box_keys(KEYS), REQUEST))


@pytest.mark.parametrize("data", [b"", b"\x0b", b"\x0b\xff\xff\xff", bytes(70000), b"\x14\x00\x00\x00" * 3])
def test_malformed_input_is_refused(data: bytes) -> None:
    with pytest.raises(Refusal):
        verify_authenticator(KEYS, REQUEST, data)


@pytest.mark.parametrize("context", [b"", b"c" * 256])
def test_a_context_has_a_size(context: bytes) -> None:
    with pytest.raises(ValueError, match="context"):
        certificate_request(context)
