"""A GoID card: a SmartCard-HSM with a fingerprint sensor that wants secure messaging before it reads a finger.

What OpenSC 0.26 sends to one (libopensc/card-sc-hsm.c, sm/sm-eac.c): files and counter in the clear; at login chip
authentication against the CVC chain in EF.C_DevAut, then 80 20 00 81 and signatures through the channel. A command in
the clear, or one that does not fit the channel, ends channel and login (TR-03110-3, F.3).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sdbox.smartcard.virtual.apdu import Command, Status, parse_command, word
from sdbox.smartcard.virtual.cvc import DEVICE, Holder, device_chain, generate_key
from sdbox.smartcard.virtual.personalise import FilledContainer
from sdbox.smartcard.virtual.schsm import USER_PIN, ScHsmCard
from sdbox.smartcard.virtual.secure_channel import (
    CA_ECDH_AES_128,
    PROTECTED,
    ChannelError,
    SecureChannel,
    authenticate_chip,
)
from sdbox.smartcard.virtual.sensor import Report, Sensor
from sdbox.smartcard.virtual.tlv import parse_tlvs, tlv

ATR: Final = bytes.fromhex("3B848001476F494400")
SET_AUTHENTICATION: Final = (0x22, 0x41, 0xA4)  # MSE:Set AT for chip authentication
GENERAL_AUTHENTICATE: Final = (0x86, 0x00, 0x00)


class GoidCard(ScHsmCard):
    """The card. The channel is as short-lived as the login."""

    atr: bytes = ATR

    def __init__(
        self, serial: str, containers: Sequence[FilledContainer], sensor: Sensor, report: Report, root: Holder
    ) -> None:
        super().__init__(serial, containers, sensor, report)
        self._device = generate_key()
        self._files[0x2F02] = device_chain(root, Holder(f"SDB{serial}00001", self._device, DEVICE))

    def power(self) -> None:
        super().power()
        self._channel: SecureChannel | None = None
        self._chosen = False

    def process(self, apdu: bytes) -> bytes:
        try:
            command = parse_command(apdu)
        except ValueError:
            return self._over(Status.WRONG_LENGTH)
        if command.cla in (PROTECTED, 0x80 | PROTECTED):
            return self._protected(command)
        if self._channel is not None:
            self._end()  # a command in the clear: somebody else's
        step = (command.ins, command.p1, command.p2)
        if command.cla == 0 and self._selected and step == SET_AUTHENTICATION:
            return self._choose(command)
        if command.cla == 0 and self._selected and step == GENERAL_AUTHENTICATE:
            return self._authenticate(command)
        return self.obey(command)

    def _protected(self, command: Command) -> bytes:
        if self._channel is None:
            return word(Status.NO_CHANNEL)
        try:
            inner = self._channel.open(command)
        except ChannelError:
            return self._over(Status.BAD_CHANNEL)
        answer = self.obey(inner)
        if self._channel is None:  # selecting the applet anew ends it
            return answer
        return self._channel.close(answer, odd=bool(inner.ins & 1))

    def _choose(self, command: Command) -> bytes:
        try:
            protocol = dict(parse_tlvs(command.data)).get(0x80)
        except ValueError:
            protocol = None
        self._chosen = protocol == CA_ECDH_AES_128
        return word(Status.OK if self._chosen else Status.WRONG_DATA)

    def _authenticate(self, command: Command) -> bytes:
        chosen, self._chosen = self._chosen, False
        if not chosen:
            return word(Status.CONDITIONS)
        try:
            terminal = dict(parse_tlvs(dict(parse_tlvs(command.data))[0x7C]))[0x80]
            channel, nonce, token = authenticate_chip(self._device, terminal)
        except (ValueError, KeyError):
            return word(Status.WRONG_DATA)
        self._channel = channel
        self._report("channel")
        return tlv(0x7C, tlv(0x81, nonce), tlv(0x82, token)) + word(Status.OK)

    def _over(self, status: Status) -> bytes:
        self._end()
        return word(status)

    def _end(self) -> None:
        self._channel = None
        self._user_ok = False

    def _verify(self, command: Command) -> bytes:
        """Through the channel, 80 20 00 81 reads a finger and 00 20 00 81 asks for the counter, both with Le."""
        if command.p2 != USER_PIN:
            return super()._verify(command)
        if command.cla == 0 and not command.data:
            return self._counter()
        return word(Status.NOT_ALLOWED) if self._channel is None else super()._verify(command)
