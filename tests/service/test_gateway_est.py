"""The gateway's way to an outside CA: EST as RFC 7030 has it, and everything such a server may answer."""

from __future__ import annotations

import asyncio
import base64
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from sdbox.gateway.est import EstAuthority
from sdbox.gateway.issuingconfig import EstConfig
from sdbox.protocol.reasons import Reason, Refusal
from tests.service.est_server import PATH, EstServer, certs_only, running_est
from tests.service.gateway_bench import Bench, SoftSigner, card, container, running_bench, until
from tests.service.gateway_site import running_gateway
from tests.service.renewal_bench import Renewed, leaf
from tests.unit.channel_certificates import Authority

CARDS = Authority("card CA")


def sign(
    request: x509.CertificateSigningRequest, authority: Authority = CARDS, project: str = "atlas"
) -> x509.Certificate:
    public = request.public_key()
    assert isinstance(public, ec.EllipticCurvePublicKey | rsa.RSAPublicKey)
    return authority.project(public, project, days=-0.1)


@pytest.fixture
def est(tmp_path: Path) -> Iterator[EstServer]:
    with running_est(tmp_path / "est", lambda request: [sign(request)]) as server:
        yield server


def config(est: EstServer, *, basic: bool = False, **changed: str) -> EstConfig:
    settings = {name.rpartition(".")[2]: value for name, value in est.settings(basic=basic).items()} | changed
    return msgspec.convert(settings, EstConfig, dec_hook=lambda kind, value: kind(value))


def ask(est: EstServer, *, basic: bool = False, **changed: str) -> x509.Certificate:
    old = container(CARDS, "atlas", days=-0.5)
    request = x509.load_der_x509_csr(Renewed(old).request())
    made = EstAuthority(config(est, basic=basic, **changed)).issue(leaf(old), request)
    encoding = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert made.public_key().public_bytes(*encoding) == request.public_key().public_bytes(*encoding)
    return made


def refused(est: EstServer, **changed: str) -> Reason:
    with pytest.raises(Refusal) as caught:
        ask(est, basic=False, **changed)
    return caught.value.reason


@pytest.mark.parametrize("basic", [False, True])
def test_a_certificate_comes_back(est: EstServer, *, basic: bool) -> None:
    assert ask(est, basic=basic).subject == leaf(container(CARDS, "atlas")).subject
    assert est.requests == [PATH]


def test_the_chain_may_come_along(est: EstServer) -> None:
    est.sign = lambda request: [CARDS.certificate, sign(request)]
    ask(est)


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (400, Reason.RENEWAL_REFUSED),
        (403, Reason.RENEWAL_REFUSED),
        (202, Reason.RENEWAL_UNAVAILABLE),
        (500, Reason.RENEWAL_UNAVAILABLE),
        (302, Reason.RENEWAL_UNAVAILABLE),
    ],
)
def test_a_server_that_says_no(est: EstServer, status: int, reason: Reason) -> None:
    est.status = status
    assert refused(est) is reason


@pytest.mark.parametrize("what", ["empty", "text", "base64", "long", "other-key", "twice"])
def test_an_answer_of_no_use(est: EstServer, what: str) -> None:
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    est.body = {
        "empty": b"",
        "text": b"<html>welcome</html>",
        "base64": base64.b64encode(os.urandom(500)),
        "long": b"A" * (1 << 17),
        "other-key": base64.b64encode(certs_only(est.folder, [CARDS.project(key, "atlas")])),
    }.get(what)
    if what == "twice":
        est.sign = lambda request: [sign(request), sign(request)]
    assert refused(est) is Reason.RENEWAL_UNAVAILABLE


def test_another_server_than_the_one_trusted(est: EstServer, tmp_path: Path) -> None:
    other = tmp_path / "other.pem"
    other.write_bytes(Authority("EST CA").certificate.public_bytes(Encoding.PEM))
    assert refused(est, trust=str(other)) is Reason.RENEWAL_UNAVAILABLE
    assert refused(est, url=f"https://127.0.0.1:{est.port}/cards") is Reason.RENEWAL_UNAVAILABLE  # not its name
    assert est.requests == []


def test_nobody_there(tmp_path: Path) -> None:
    with running_est(tmp_path / "est", lambda _: []) as gone:
        pass
    assert refused(gone) is Reason.RENEWAL_UNAVAILABLE


@pytest.mark.parametrize("url", ["http://localhost/", "https:///x", "https://u:p@localhost/", "https://localhost/?a"])
def test_an_address_that_is_none(est: EstServer, url: str) -> None:
    with pytest.raises(ValueError, match="url"):
        EstAuthority(config(est, url=url))


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with running_bench(tmp_path_factory.mktemp("gateway")) as running:
        yield running


def renew_at(bench: Bench, est: EstServer) -> tuple[SoftSigner, SoftSigner]:
    async def way() -> tuple[SoftSigner, SoftSigner]:
        old = container(bench.site.cards, "atlas", days=-0.5)
        with running_gateway(bench.site, **est.settings()) as gateway:
            async with bench.attested(gateway) as channel:
                await channel.prove_card(card(old), old)
                new = await Renewed(old).all_of_it(channel)
                await channel.open("atlas", os.urandom(32), new)
                return old, new

    return asyncio.run(way())


def test_a_card_is_renewed_by_the_outside_ca(bench: Bench, est: EstServer) -> None:
    est.sign = lambda request: [sign(request, bench.site.cards)]
    old, new = renew_at(bench, est)
    assert leaf(new).not_valid_after_utc > leaf(old).not_valid_after_utc


@pytest.mark.parametrize("what", ["project", "issuer"])
def test_what_the_outside_ca_makes_is_held_against_the_policy(bench: Bench, est: EstServer, what: str) -> None:
    authority = bench.site.cards if what == "project" else CARDS
    est.sign = lambda request: [sign(request, authority, "boreal" if what == "project" else "atlas")]
    with pytest.raises(Refusal) as caught:
        renew_at(bench, est)
    assert caught.value.reason is Reason.RENEWAL_UNAVAILABLE


def test_a_ca_that_takes_its_time_holds_nobody_up(bench: Bench, est: EstServer) -> None:
    go_on = threading.Event()

    def slowly(request: x509.CertificateSigningRequest) -> list[x509.Certificate]:
        assert go_on.wait(20)
        return [sign(request, bench.site.cards)]

    est.sign = slowly

    async def way() -> None:
        old = container(bench.site.cards, "atlas", days=-0.5)
        with running_gateway(bench.site, **est.settings()) as gateway:
            async with bench.attested(gateway) as channel:
                await channel.prove_card(card(old), old)
                asking = asyncio.create_task(Renewed(old).ask(channel))
                await until("the CA to be asked", lambda: bool(est.requests))
                grant = await channel.open("atlas", os.urandom(32), old)
                await channel.heartbeat(grant.session)
                assert not asking.done()
                go_on.set()
                assert leaf(await asking).not_valid_after_utc > leaf(old).not_valid_after_utc
                await channel.heartbeat(grant.session)

    asyncio.run(way())
