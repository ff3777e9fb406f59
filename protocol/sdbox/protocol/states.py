"""The conversation's state table, used by both ends: a message that is not listed for the state leads to FAILED.

The gateway applies it to what it receives, the box to what it receives; `docs/protocol.md` shows the same table and a
test compares them.
"""

from __future__ import annotations

from enum import StrEnum

from sdbox.protocol import messages as m


class ChannelState(StrEnum):
    """Where the conversation stands. FAILED ends only with a new connection."""

    NEW = "new"  # nothing said yet
    CHALLENGED = "challenged"  # the gateway sent its challenge
    ACTIVATED = "activated"  # the TPM is the enrolled one, evidence may follow
    ATTESTED = "attested"  # no card
    OFFERED = "offered"  # a card was proved; sessions may be opened
    FAILED = "failed"


GATEWAY_RECEIVES: dict[tuple[ChannelState, type[m.Message]], ChannelState] = {
    (ChannelState.NEW, m.Hello): ChannelState.CHALLENGED,
    (ChannelState.CHALLENGED, m.Activated): ChannelState.ACTIVATED,
    (ChannelState.ACTIVATED, m.EvidenceMessage): ChannelState.ATTESTED,
    (ChannelState.ATTESTED, m.CardProof): ChannelState.OFFERED,
    (ChannelState.ATTESTED, m.EvidenceMessage): ChannelState.ATTESTED,
    (ChannelState.OFFERED, m.CardProof): ChannelState.OFFERED,
    (ChannelState.OFFERED, m.EvidenceMessage): ChannelState.OFFERED,
    (ChannelState.OFFERED, m.Open): ChannelState.OFFERED,
    (ChannelState.OFFERED, m.Heartbeat): ChannelState.OFFERED,
    (ChannelState.OFFERED, m.Close): ChannelState.OFFERED,
    (ChannelState.OFFERED, m.RenewalRequest): ChannelState.OFFERED,
    (ChannelState.OFFERED, m.RenewalWritten): ChannelState.OFFERED,
}

BOX_RECEIVES: dict[tuple[ChannelState, type[m.Message]], ChannelState] = {
    (ChannelState.NEW, m.Challenge): ChannelState.CHALLENGED,
    (ChannelState.CHALLENGED, m.Attested): ChannelState.ATTESTED,
    (ChannelState.ATTESTED, m.Offers): ChannelState.OFFERED,
    (ChannelState.ATTESTED, m.Attested): ChannelState.ATTESTED,
    (ChannelState.ATTESTED, m.Renew): ChannelState.ATTESTED,
    (ChannelState.ATTESTED, m.Refused): ChannelState.ATTESTED,
    (ChannelState.OFFERED, m.Offers): ChannelState.OFFERED,
    (ChannelState.OFFERED, m.Attested): ChannelState.OFFERED,
    (ChannelState.OFFERED, m.Renew): ChannelState.OFFERED,
    (ChannelState.OFFERED, m.Refused): ChannelState.OFFERED,
    (ChannelState.OFFERED, m.GrantMessage): ChannelState.OFFERED,
    (ChannelState.OFFERED, m.Heartbeat): ChannelState.OFFERED,
    (ChannelState.OFFERED, m.Closed): ChannelState.OFFERED,
    (ChannelState.OFFERED, m.Revoke): ChannelState.OFFERED,
    (ChannelState.OFFERED, m.RenewalPending): ChannelState.OFFERED,
    (ChannelState.OFFERED, m.RenewalIssued): ChannelState.OFFERED,
    (ChannelState.OFFERED, m.RenewalClosed): ChannelState.OFFERED,
}

# Evidence in ATTESTED or OFFERED is allowed only as the answer to Renew: the gateway keeps the outstanding nonce and
# refuses evidence without one. RenewalIssued is taken only for a project whose RenewalPending came on this channel.
# A fatal Refused is terminal in every state and is handled before the table.


def gateway_step(state: ChannelState, message: m.Message) -> ChannelState:
    """Return the gateway's state after receiving `message`; FAILED if the pair is not allowed."""
    return GATEWAY_RECEIVES.get((state, type(message)), ChannelState.FAILED)


def box_step(state: ChannelState, message: m.Message) -> ChannelState:
    """Return the box's state after receiving `message`; FAILED if the pair is not allowed."""
    return BOX_RECEIVES.get((state, type(message)), ChannelState.FAILED)
