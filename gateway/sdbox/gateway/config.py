"""The gateway's settings: one TOML file. Relative paths count from the file's own folder."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Annotated

import msgspec

from sdbox.attestation.policy import PolicyFormatError, read_policy
from sdbox.gateway.issuingconfig import IssuingConfig, anchored
from sdbox.gateway.needs import Needs
from sdbox.protocol.tls import parse_endpoint

Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]
Count = Annotated[int, msgspec.Meta(ge=1)]
ProjectName = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
Fingerprint = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}$")]


class ConfigError(ValueError):
    """The configuration file is missing, malformed or contradicts itself."""


class WireGuard(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The bubble's interface: a wireguard-go control socket, its UDP port, and where boxes reach it."""

    socket: Path
    listen_port: Port
    endpoints: tuple[str, ...]


class Desktop(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The bubble's RDP server. `sam_file` lies in a folder the server sees: the file is replaced, not rewritten."""

    host: IPv4Address
    certificate_sha256: Fingerprint
    sam_file: Path
    port: Port = 3389


class BubbleConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One bubble: who it is for, and its two services. Boxes get the addresses of `network` but `gateway_address`."""

    project: ProjectName
    title_fr: str
    title_en: str
    network: IPv4Network
    gateway_address: IPv4Address
    wireguard: WireGuard
    desktop: Desktop
    fresh_finger: bool = False  # whoever enters is verified again, each time
    box: Needs = Needs()


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one address and one box may cost (S12). A burst, then `per_minute`.

    An address may stand for a whole site, all of whose boxes start at once after a power cut. `box` counts twice: for
    who claims from one address to be a box, and for the box itself, whose TPM was proved: a stranger elsewhere can not
    use up what it has.
    """

    address_burst: Count = 1000
    address_per_minute: Count = 1200
    box_burst: Count = 10
    box_per_minute: Count = 20
    unproven_connections: Count = 4096


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything `sdbox-gateway` is told."""

    listen: str
    certificate: Path
    key: Path
    card_ca: Path
    ear_key: Path
    references: tuple[Path, ...]
    database: str
    policy: Path | None = None  # policy.json of docs/attestation.md
    firmware: tuple[Path, ...] = ()  # firmware profiles (`sdbox reference learn`)
    tpm_roots: Path | None = None  # bundle of TPM vendors' certificates (`sdbox roots`)
    inventory: Path | None = None  # the factory's (`sdbox factory`): box UUID to SHA-256 of its EK
    development: bool = False  # software TPMs may be enrolled, and the four rules above left out
    result_seconds: Annotated[float, msgspec.Meta(gt=0, le=300)] = 300  # five minutes at most (row 31)
    lease_seconds: Annotated[int, msgspec.Meta(ge=1, le=3600)] = 15
    limits: Limits = Limits()
    bubble: tuple[BubbleConfig, ...] = ()
    issuing: IssuingConfig | None = None


def load_config(path: Path) -> Config:
    """Read and check the file. ConfigError with one line that says what is wrong."""
    try:
        config = msgspec.toml.decode(path.read_bytes(), type=Config, dec_hook=_decode)
        parse_endpoint(config.listen)
        _check_bubbles(config.bubble)
    except (OSError, ValueError, msgspec.MsgspecError) as error:
        raise ConfigError(f"{path}: {error}") from error
    return _anchored(config, path.resolve().parent)


def require_rules(config: Config) -> None:
    """Refuse what would let in boxes of which nothing is known (row 28): a site in service leaves no rule out.

    ConfigError that names each setting, and each field of the policy, that is missing.
    """
    if config.development:
        return
    given = {name: getattr(config, name) for name in ("policy", "firmware", "tpm_roots", "inventory")}
    missing = [name for name, value in given.items() if not value]
    try:
        policy = read_policy(config.policy.read_bytes()) if config.policy else None
    except (OSError, PolicyFormatError) as error:
        raise ConfigError(f"{config.policy}: {error}") from error
    if policy is not None:
        asked = {name: getattr(policy, name) for name in ("tpm_firmware", "microcode")}
        missing += [f"{name} of the policy" for name, value in asked.items() if value is None]
    if missing:
        raise ConfigError(f"set {', '.join(missing)}; only with `development = true` may they be left out")


def _decode(kind: type, value: object) -> object:
    if isinstance(value, str):
        for known in (Path, IPv4Address, IPv4Network):
            if kind is known:
                return known(value)
    raise NotImplementedError(kind)  # msgspec's contract for a type the hook does not know


def _check_bubbles(bubbles: tuple[BubbleConfig, ...]) -> None:
    projects = [bubble.project for bubble in bubbles]
    if len(set(projects)) != len(projects):
        raise ValueError("two bubbles for one project")
    for bubble in bubbles:
        if bubble.gateway_address not in bubble.network:
            raise ValueError(f"bubble {bubble.project}: gateway_address outside its network")
        for other in bubbles:
            if other is not bubble and other.network.overlaps(bubble.network):
                raise ValueError(f"bubbles {bubble.project} and {other.project}: their networks overlap")
        for endpoint in bubble.wireguard.endpoints:
            parse_endpoint(endpoint)


def _anchored(config: Config, folder: Path) -> Config:
    replace = msgspec.structs.replace
    bubbles = tuple(
        replace(
            bubble,
            wireguard=replace(bubble.wireguard, socket=folder / bubble.wireguard.socket),
            desktop=replace(bubble.desktop, sam_file=folder / bubble.desktop.sam_file),
        )
        for bubble in config.bubble
    )
    return replace(
        config,
        certificate=folder / config.certificate,
        key=folder / config.key,
        card_ca=folder / config.card_ca,
        ear_key=folder / config.ear_key,
        references=tuple(folder / path for path in config.references),
        policy=folder / config.policy if config.policy else None,
        firmware=tuple(folder / path for path in config.firmware),
        tpm_roots=folder / config.tpm_roots if config.tpm_roots else None,
        inventory=folder / config.inventory if config.inventory else None,
        bubble=bubbles,
        issuing=anchored(config.issuing, folder),
    )
