"""A reader is found among OpenSC's slots by its name, however long the name is."""

from __future__ import annotations

import pytest

from sdbox.smartcard.pkcs11_backend import slot_description


@pytest.mark.parametrize(
    ("reader", "shown"),
    [
        ("Virtual PCD 00 00", "Virtual PCD 00 00"),
        ("R" * 64, "R" * 64),
        (
            "Gemalto Gemplus USB SmartCard Reader 433-Swap [CCID Interface] (1-0000:00:03.0-2) 00 00",
            "Gemalto Gemplus USB SmartCard Reader 433-Swap [CCID Interface...",  # as OpenSC 0.26.1 shows it
        ),
    ],
)
def test_description_is_opensc_s(reader: str, shown: str) -> None:
    assert slot_description(reader) == shown
    assert len(shown.encode()) <= 64
