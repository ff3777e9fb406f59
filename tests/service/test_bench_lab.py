"""The lab: gateway over real bubbles, enrolment while it runs, other settings for refusals, a card at a reader."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from sdbox.bench.lab import Lab
from sdbox.bench.lab_gateway import EnrolmentFailed
from sdbox.bench.network import namespaces
from sdbox.bench.stand import machine_spec
from sdbox.boot.reference import DECISIVE
from sdbox.host.pki import DevelopmentPki, ensure_development_pki
from sdbox.image.output import FILES
from sdbox.image.request import BuiltImage, Profile
from sdbox.qemu.accel import choose_acceleration
from sdbox.qemu.child import ChildFailed, in_namespace
from sdbox.qemu.tpm import TpmState, manufacture

pytestmark = pytest.mark.root

BOX = uuid.UUID("5db0c0de-0000-4000-8000-0000000000aa")
HANDSHAKE = """
import pathlib, socket, sys
from OpenSSL import SSL
from sdbox.protocol.tls import client_context
context = client_context(pathlib.Path(sys.argv[1]), "gateway.sdbox.test")
channel = SSL.Connection(context, socket.create_connection(("203.0.113.10", 443)))
channel.set_connect_state()
channel.set_tlsext_host_name(b"gateway.sdbox.test")
try:
    channel.do_handshake()
except SSL.Error:
    sys.exit(7)
"""


@pytest.fixture(scope="module")
def tpm(tmp_path_factory: pytest.TempPathFactory) -> TpmState:
    folder = tmp_path_factory.mktemp("tpm")
    return manufacture(folder / "one", folder / "maker")


@pytest.fixture(scope="module")
def lab(reference: Path) -> Iterator[Lab]:
    with Lab(reference) as lab:
        yield lab


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("reference") / "reference.json"
    pcrs = {str(number): f"{number:02x}" * 32 for number in DECISIVE}
    path.write_text(json.dumps({"pcr_selection": DECISIVE, "pcrs": {"sha256": pcrs}}))
    return path


def is_trusted(lab: Lab, pki: DevelopmentPki) -> bool:
    """Whether a caller on the campus who trusts the centre CA of `pki` accepts the gateway."""
    argv = [sys.executable, "-c", HANDSHAKE, str(pki.certificate("centre-ca"))]
    code = subprocess.run(in_namespace(lab.network.campus, argv), check=False).returncode
    assert code in {0, 7}, "the gateway must answer either way"
    return code == 0


def test_the_campus_reaches_the_gateway(lab: Lab) -> None:
    assert is_trusted(lab, ensure_development_pki())
    assert lab.peers() == 0


def test_other_settings_hold_for_one_start(lab: Lab, tmp_path: Path) -> None:
    ours, other = ensure_development_pki(), ensure_development_pki(tmp_path / "pki")
    settings = dataclasses.replace(
        lab.gateway.settings, certificate=other.certificate("gateway"), key=other.key("gateway")
    )
    lab.gateway.start(settings)
    assert (is_trusted(lab, ours), is_trusted(lab, other)) == (False, True)
    lab.gateway.start()
    assert (is_trusted(lab, ours), is_trusted(lab, other)) == (True, False)


def test_the_box_is_accelerated_as_the_probe_says(lab: Lab, tpm: TpmState, tmp_path: Path) -> None:
    """Not only announced: `why` is the probe's own, which software emulation by default has not."""
    image = BuiltImage(**{name: tmp_path / name for name in FILES}, root_hash="", profile=Profile.PRODUCTION)
    assert machine_spec(image, lab, tmp_path / "m", tpm).acceleration is choose_acceleration()


def test_enrolment_outlives_the_process(lab: Lab, tpm: TpmState) -> None:
    lab.gateway.enrol(BOX, tpm)
    lab.gateway.stop()
    lab.gateway.start()
    lab.gateway.forget(BOX)
    with pytest.raises(EnrolmentFailed, match="not enrolled"):
        lab.gateway.forget(BOX)


def test_a_gateway_that_can_not_start_says_why(lab: Lab, tmp_path: Path) -> None:
    try:
        with pytest.raises(ChildFailed, match="gateway ended"):
            lab.gateway.start(dataclasses.replace(lab.gateway.settings, key=tmp_path / "none.key"))
    finally:
        lab.gateway.start()


def test_a_lab_that_can_not_start_leaves_nothing(tmp_path: Path) -> None:
    lab = Lab(tmp_path / "no-reference.json", keep=tmp_path / "logs")
    with pytest.raises(ChildFailed, match="no-reference"), lab:
        pass
    assert not lab.work.exists()
    assert lab.network.campus not in namespaces()
    assert list((tmp_path / "logs").rglob("gateway.log")), "the logs that explain the failure are kept"
