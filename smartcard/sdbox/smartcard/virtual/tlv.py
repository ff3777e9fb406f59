"""BER-TLV for the emulated cards: the same code reads and writes on the box."""

from sdbox.smartcard.tlv import parse_tlvs, tlv

__all__ = ["parse_tlvs", "tlv"]
