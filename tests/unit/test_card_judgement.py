"""Which container opens a project: by what its certificate says, never by its place, at the gateway and on the box."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given, settings
from hypothesis import strategies as st

from sdbox.agent.session import complete
from sdbox.gateway.cards import CardPolicy, read_container
from sdbox.gateway.config import BubbleConfig, Desktop, WireGuard
from sdbox.protocol.reasons import Reason, Refusal
from sdbox.protocol.values import Container, Offer
from sdbox.smartcard.certificates import project_of
from sdbox.smartcard.judgement import judge, signer_of_card
from sdbox.smartcard.virtual.personalise import Flaw, Issuer, Project, fill_containers

PROJECTS: Final = tuple(f"p{index:02}" for index in range(20))
REVOKED: Final = "revoked"  # no flaw of the card's: the gateway knows
KINDS: Final = (*(flaw.value for flaw in Flaw if flaw is not Flaw.TORN), REVOKED)  # half a certificate is none
ISSUER: Final = Issuer.create()
GATEWAY_SAYS: Final = {
    Flaw.EXPIRED.value: Reason.CERTIFICATE_EXPIRED,
    Flaw.NOT_YET_VALID.value: Reason.CERTIFICATE_NOT_YET_VALID,
    Flaw.FOREIGN.value: Reason.CERTIFICATE_ISSUER,
    Flaw.WRONG_USAGE.value: Reason.CERTIFICATE_USAGE,
    REVOKED: Reason.CERTIFICATE_REVOKED,
}
BOX_SEES: Final = {kind: reason for kind, reason in GATEWAY_SAYS.items() if kind not in {Flaw.FOREIGN.value, REVOKED}}
Card = list[tuple[str, str]]  # project and kind of each container, in the order of the card


def made(project: str, kind: str) -> Container:
    flaw = Flaw.NONE if kind == REVOKED else Flaw(kind)
    (filled,) = fill_containers([Project(project, flaw)], ISSUER)
    return Container(b"", "", filled.certificate, project_of(filled.certificate))


CERTIFICATES: Final = {(project, kind): made(project, kind) for project in PROJECTS for kind in KINDS}


def bubble(number: int, project: str) -> BubbleConfig:
    address = IPv4Address(f"10.64.{number}.1")
    wireguard = WireGuard(Path("socket"), 51820, ())
    desktop = Desktop(address, "0" * 64, Path("sam"))
    network = IPv4Network(f"10.64.{number}.0/24")
    return BubbleConfig(project, f"fr {project}", f"en {project}", network, address, wireguard, desktop)


@contextmanager
def gateway_policy() -> Iterator[CardPolicy]:
    revoked = {serial_of(CERTIFICATES[project, REVOKED]) for project in PROJECTS}
    with TemporaryDirectory() as folder:
        authority = Path(folder) / "card-ca.pem"
        authority.write_bytes(ISSUER.certificate.public_bytes(Encoding.PEM))
        bubbles = {project: bubble(number, project) for number, project in enumerate(PROJECTS)}
        yield CardPolicy(authority, bubbles, revoked.__contains__)


def serial_of(container: Container) -> str:
    return read_container(container.certificate).serial


@pytest.fixture(scope="module")
def policy() -> Iterator[CardPolicy]:
    with gateway_policy() as made_policy:
        yield made_policy


@st.composite
def cards(draw: st.DrawFn) -> Card:
    """1, 2, 5, 9 or 20 projects, each with one container or several of different kinds, in any order on the card."""
    projects = PROJECTS[: draw(st.sampled_from((1, 2, 5, 9, 20)))]
    containers = [
        (project, kind)
        for project in projects
        for kind in draw(st.lists(st.sampled_from(KINDS), min_size=1, max_size=3, unique=True))
    ]
    return draw(st.permutations(containers))


def expected(card: Card, faults: dict[str, Reason]) -> dict[bytes, Reason | None]:
    """Say it the long way round: what each container is worth; `older` yields to any sound one issued after it."""
    verdicts: dict[bytes, Reason | None] = {}
    for project, kind in card:
        sound = [other for owner, other in card if owner == project and other not in faults]
        opens = kind == max(sound, key=lambda one: age(project, one)) if kind in sound else False
        verdicts[CERTIFICATES[project, kind].fingerprint] = faults.get(
            kind, None if opens else Reason.CONTAINER_DUPLICATE
        )
    return verdicts


def age(project: str, kind: str) -> tuple[datetime, datetime, int]:
    return read_container(CERTIFICATES[project, kind].certificate).age


@settings(max_examples=60, deadline=None)
@given(card=cards())
def test_the_gateway_judges_each_container_for_what_it_is(policy: CardPolicy, card: Card) -> None:
    offers = policy.offers([read_container(CERTIFICATES[entry].certificate) for entry in card])
    verdicts = {offer.certificate: Reason(offer.reason) if offer.reason else None for offer in offers}
    assert verdicts == expected(card, GATEWAY_SAYS)
    assert max(Counter(offer.project for offer in offers if offer.reason is None).values(), default=1) == 1
    foreign = {offer.title_fr for offer in offers if offer.reason == Reason.CERTIFICATE_ISSUER}
    assert foreign <= set(PROJECTS), "a certificate that is not ours is told no title"


@settings(max_examples=60, deadline=None)
@given(card=cards())
def test_the_box_sees_dates_usage_and_duplicates(card: Card) -> None:
    judged = judge([CERTIFICATES[entry] for entry in card], datetime.now(UTC))
    assert {one.container.fingerprint: one.fault for one in judged} == expected(card, BOX_SEES)


@settings(max_examples=60, deadline=None)
@given(card=cards())
def test_who_signs_for_the_card_can_sign(card: Card) -> None:
    signer = signer_of_card([CERTIFICATES[entry] for entry in card], datetime.now(UTC))
    kinds = {kind for _, kind in card}
    found = {entry[1] for entry in card if CERTIFICATES[entry] == signer}
    if kinds - set(BOX_SEES):
        assert found <= kinds - set(BOX_SEES)
    elif kinds != {Flaw.WRONG_USAGE.value}:
        assert Flaw.WRONG_USAGE.value not in found
    assert len(found) == 1


@settings(max_examples=40, deadline=None)
@given(card=cards(), seed=st.integers())
def test_places_on_the_card_do_not_show_on_the_screen(policy: CardPolicy, card: Card, seed: int) -> None:
    shuffled = list(card)
    random.Random(seed).shuffle(shuffled)
    assert [row(offer) for offer in on_screen(policy, card)] == [row(offer) for offer in on_screen(policy, shuffled)]


def on_screen(policy: CardPolicy, card: Card) -> tuple[Offer, ...]:
    containers = [CERTIFICATES[entry] for entry in card]
    items = policy.offers([read_container(container.certificate) for container in containers])
    offers = [Offer(item.project, item.title_fr, item.title_en, item.reason, item.certificate) for item in items]
    return complete(offers, containers)


def row(offer: Offer) -> tuple[str, str | None]:
    return offer.project, offer.reason


def test_what_the_gateway_did_not_judge_is_shown_and_cannot_be_opened() -> None:
    good, late = CERTIFICATES["p00", "none"], CERTIFICATES["p01", "expired"]
    offers = [Offer("p00", "P", "P", None, good.fingerprint)]
    unread = Container(b"", "", b"no certificate", "p02")
    assert [row(offer) for offer in complete(offers, [unread, late, good])] == [
        ("p00", None),
        ("p01", "certificate-expired"),
        ("p02", "certificate-unreadable"),
    ]


def test_an_offer_for_another_project_than_its_containers_is_refused() -> None:
    good = CERTIFICATES["p00", "none"]
    with pytest.raises(Refusal) as caught:
        complete([Offer("p01", "P", "P", None, good.fingerprint)], [good])
    assert caught.value.reason is Reason.PROTOCOL
