"""Both languages say everything."""

from __future__ import annotations

import pytest

from sdbox.agent.screen import texts
from sdbox.agent.screen.palette import ScreenState
from sdbox.agent.screen.texts import ADVICE, STATES, Language, StateText, Text, digits_typed, explain, tries_left
from sdbox.protocol.reasons import Reason

CONSTANTS = [value for value in vars(texts).values() if isinstance(value, Text)]


@pytest.mark.parametrize("state", ScreenState)
@pytest.mark.parametrize("language", Language)
def test_every_state_has_its_words(state: ScreenState, language: Language) -> None:
    words: StateText = STATES[state]
    assert words.status.to(language)
    assert words.headline.to(language)
    assert words.message.to(language) or state is ScreenState.REFUSED


@pytest.mark.parametrize("reason", Reason)
@pytest.mark.parametrize("language", Language)
def test_every_reason_has_a_sentence_and_what_to_do(reason: Reason, language: Language) -> None:
    assert explain(reason, language).endswith(".")
    assert ADVICE[reason].to(language).endswith(".")


@pytest.mark.parametrize("text", CONSTANTS)
def test_no_text_is_missing(text: Text) -> None:
    assert text.french
    assert text.english


@pytest.mark.parametrize("language", Language)
def test_the_counter_is_said_when_it_is_known(language: Language) -> None:
    assert tries_left(-1, language) == ""
    assert len({tries_left(count, language) for count in range(4)}) == 4
    assert "3" in tries_left(3, language)


@pytest.mark.parametrize("language", Language)
def test_the_pin_field_says_how_many_digits(language: Language) -> None:
    assert all(str(count) in digits_typed(count, language) for count in range(3))


def test_the_language_key_goes_back_and_forth() -> None:
    assert Language.FRENCH.other is Language.ENGLISH
    assert Language.ENGLISH.other is Language.FRENCH
