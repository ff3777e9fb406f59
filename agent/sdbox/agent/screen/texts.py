"""Every sentence of the screen, French and English side by side. What a code means is in `protocol.reasons`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from sdbox.agent.screen.palette import ScreenState
from sdbox.protocol.explanations import EXPLANATIONS
from sdbox.protocol.reasons import Reason


class Language(StrEnum):
    FRENCH = "fr"
    ENGLISH = "en"

    @property
    def other(self) -> Language:
        return Language.ENGLISH if self is Language.FRENCH else Language.FRENCH


@dataclass(frozen=True, slots=True)
class Text:
    french: str
    english: str

    def to(self, language: Language) -> str:
        return self.french if language is Language.FRENCH else self.english


@dataclass(frozen=True, slots=True)
class StateText:
    """`status` is the box's state in a word or two, `headline` the one message, `message` what it means."""

    status: Text
    headline: Text
    message: Text


STATES: dict[ScreenState, StateText] = {
    ScreenState.STARTING: StateText(
        Text("Démarrage", "Starting"),
        Text("L'appareil démarre", "The device is starting"),
        Text("Cela prend quelques secondes.", "It takes a few seconds."),
    ),
    ScreenState.NETWORK: StateText(
        Text("Réseau", "Network"),
        Text("Connexion au centre", "Reaching the data centre"),
        Text(
            "L'appareil cherche le réseau et le centre de données.\nSi cela dure, vérifiez le câble réseau.",
            "The device is looking for the network and the data centre.\nIf this lasts, check the network cable.",
        ),
    ),
    ScreenState.ATTESTING: StateText(
        Text("Vérification", "Verification"),
        Text("Vérification de l'appareil", "Verifying the device"),
        Text(
            "L'appareil prouve au centre de données qu'il est intact.\nVous n'avez rien à faire.",
            "The device proves to the data centre that it is intact.\nThere is nothing for you to do.",
        ),
    ),
    ScreenState.INSERT_CARD: StateText(
        Text("Prêt", "Ready"),
        Text("Insérez votre carte", "Insert your card"),
        Text("L'appareil est vérifié et prêt.", "The device is verified and ready."),
    ),
    ScreenState.READING_CARD: StateText(
        Text("Lecture", "Reading"),
        Text("Lecture de la carte", "Reading the card"),
        Text("Laissez la carte dans le lecteur.", "Leave the card in the reader."),
    ),
    ScreenState.FINGER: StateText(
        Text("Empreinte", "Fingerprint"),
        Text("Posez votre doigt", "Place your finger"),
        Text(
            "Posez le doigt enregistré sur le capteur et gardez-le immobile.",
            "Place the enrolled finger on the sensor and keep it still.",
        ),
    ),
    ScreenState.PIN: StateText(
        Text("Code PIN", "PIN"),
        Text("Tapez votre code PIN", "Type your PIN"),
        Text("Le code reste entre cet appareil et votre carte.", "It stays between this device and your card."),
    ),
    ScreenState.LAST_TRY: StateText(
        Text("Dernier essai", "Last try"),
        Text("Une erreur de plus bloque la carte : continuer ?", "One more mistake blocks the card: continue?"),
        Text(
            "Une carte bloquée ne sert plus à rien avant une visite à votre correspondant.",
            "A blocked card is of no use until your correspondent unblocks it.",
        ),
    ),
    ScreenState.PICK: StateText(
        Text("Choix du projet", "Project"),
        Text("Choisissez un projet", "Pick a project"),
        Text("Tapez son numéro, ou les flèches puis Entrée.", "Type its number, or use the arrows then Enter."),
    ),
    ScreenState.CONNECTING: StateText(
        Text("Connexion", "Connecting"),
        Text("Ouverture du projet", "Opening the project"),
        Text(
            "Le bureau s'affiche dans quelques secondes.\nLaissez la carte dans le lecteur.",
            "The desktop appears in a few seconds.\nLeave the card in the reader.",
        ),
    ),
    ScreenState.SESSION: StateText(
        Text("Session ouverte", "Session open"),
        Text("Projet ouvert", "Project open"),
        Text("Retirez la carte pour fermer la session.", "Remove the card to close the session."),
    ),
    ScreenState.PICKER: StateText(
        Text("Session ouverte", "Session open"),
        Text("Changer de projet", "Switch project"),
        Text("Le projet en cours sera fermé.", "The current project will be closed."),
    ),
    ScreenState.CLOSING: StateText(
        Text("Fermeture", "Closing"),
        Text("Fermeture de la session", "Closing the session"),
        Text("Les clés de la session sont effacées de l'appareil.", "The session's keys are wiped from the device."),
    ),
    ScreenState.REFUSED: StateText(
        Text("Refusé", "Refused"),
        Text("Accès refusé", "Access refused"),
        Text("", ""),  # the reason's own advice takes its place
    ),
}

STEPS = (Text("Appareil", "Device"), Text("Carte", "Card"), Text("Projet", "Project"), Text("Bureau", "Desktop"))

WAIT = Text(
    "L'appareil réessaie seul.\nSi cela dure, donnez ce code à votre correspondant.",
    "The device keeps trying.\nIf this lasts, give this code to your correspondent.",
)
CHECK_NETWORK = Text(
    "Vérifiez le câble réseau.\nSi cela dure, donnez ce code à votre correspondant.",
    "Check the network cable.\nIf this lasts, give this code to your correspondent.",
)
REPORT = Text("Donnez ce code à votre correspondant.", "Give this code to your correspondent.")
REMOVE_AND_REPORT = Text(
    "Retirez la carte.\nDonnez ce code à votre correspondant.",
    "Remove the card.\nGive this code to your correspondent.",
)
REPORT_IF_REPEATED = Text(
    "Si cela se répète, donnez ce code à votre correspondant.",
    "If it happens again, give this code to your correspondent.",
)
OTHER_CARD = Text(
    "Retirez la carte.\nVérifiez que c'est bien votre carte de projet.",
    "Remove the card.\nCheck that it is your project card.",
)
OTHER_PROJECT = Text(
    "Vos autres projets restent accessibles.\nPour celui-ci, donnez ce code à votre correspondant.",
    "Your other projects remain available.\nFor this one, give this code to your correspondent.",
)
TRY_AGAIN = Text(
    "Rien n'est réessayé sans vous.\nAppuyez sur Entrée pour faire un nouvel essai.",
    "Nothing is tried again without you.\nPress Enter to try once more.",
)
RESUME = Text(
    "Appuyez sur Entrée pour reprendre : la carte demandera à nouveau votre doigt ou votre code.\nSinon, retirez-la.",
    "Press Enter to go on: the card will ask for your finger or PIN again.\nOtherwise remove it.",
)
NOT_RENEWED = Text(
    "Votre projet reste accessible jusqu'à la fin de son certificat.\nDonnez ce code à votre correspondant.",
    "Your project remains available until its certificate ends.\nGive this code to your correspondent.",
)
KEPT = Text(
    "Aucun essai n'a été fait.\nRetirez la carte ; vous pourrez reprendre plus tard.",
    "Nothing was tried.\nRemove the card; you can come back to it later.",
)

ADVICE: dict[Reason, Text] = {
    Reason.GATEWAY_UNREACHABLE: CHECK_NETWORK,
    Reason.GATEWAY_UNTRUSTED: REPORT,
    Reason.BOX_UNKNOWN: REPORT,
    Reason.BOX_ACTIVATION: REPORT,
    Reason.BOX_EVIDENCE: REPORT,
    Reason.BOX_IMAGE: REPORT,
    Reason.BOX_MICROCODE: REPORT,
    Reason.BOX_TPM: REPORT,
    Reason.BOX_TPM_ABSENT: REPORT,
    Reason.BOX_TPM_BUSY: REPORT_IF_REPEATED,
    Reason.BOX_TPM_LOCKOUT: REPORT,
    Reason.BOX_TPM_FAILURE: REPORT_IF_REPEATED,
    Reason.BOX_TPM_DISABLED: REPORT,
    Reason.BOX_TPM_BUS: REPORT,
    Reason.TOO_MANY_REQUESTS: WAIT,
    Reason.RESULT_LAPSED: WAIT,
    Reason.CARD_UNKNOWN: OTHER_CARD,
    Reason.CARD_FAILED: REPORT_IF_REPEATED,
    Reason.CARD_UNTRUSTED: REMOVE_AND_REPORT,
    Reason.CARD_FINGER: TRY_AGAIN,
    Reason.CARD_PIN: TRY_AGAIN,
    Reason.CARD_TIMEOUT: REPORT_IF_REPEATED,
    Reason.CARD_LAST_TRY: KEPT,
    Reason.CARD_BLOCKED: REMOVE_AND_REPORT,
    Reason.CARD_NO_FINGER: REMOVE_AND_REPORT,
    Reason.CARD_SENSOR: REPORT_IF_REPEATED,
    Reason.CARD_UNCLEAR: TRY_AGAIN,
    Reason.CARD_IDLE: RESUME,
    Reason.CARD_LIMIT: RESUME,
    Reason.CARD_FRESH: REPORT_IF_REPEATED,
    Reason.CARD_EMPTY: OTHER_CARD,
    Reason.CARD_PROOF: REMOVE_AND_REPORT,
    Reason.CERTIFICATE_EXPIRED: OTHER_PROJECT,
    Reason.CERTIFICATE_NOT_YET_VALID: OTHER_PROJECT,
    Reason.CERTIFICATE_ISSUER: OTHER_PROJECT,
    Reason.CERTIFICATE_USAGE: OTHER_PROJECT,
    Reason.CERTIFICATE_REVOKED: OTHER_PROJECT,
    Reason.CERTIFICATE_SUPERSEDED: OTHER_PROJECT,
    Reason.CERTIFICATE_UNREADABLE: OTHER_PROJECT,
    Reason.CONTAINER_DUPLICATE: OTHER_PROJECT,
    Reason.PROJECT_NO_BUBBLE: OTHER_PROJECT,
    Reason.PROJECT_NOT_ON_CARD: OTHER_PROJECT,
    Reason.PROJECT_DEVICE: OTHER_PROJECT,
    Reason.PROJECT_CLOSING: REPORT_IF_REPEATED,
    Reason.TUNNEL_FAILED: REPORT_IF_REPEATED,
    Reason.DESKTOP_FAILED: REPORT_IF_REPEATED,
    Reason.RENEWAL_UNAVAILABLE: NOT_RENEWED,
    Reason.RENEWAL_REFUSED: NOT_RENEWED,
    Reason.RENEWAL_FAILED: NOT_RENEWED,
    Reason.ENROLMENT_REFUSED: REPORT,
    Reason.SESSION_REVOKED: REPORT,
    Reason.PROTOCOL: REPORT,
    Reason.INTERNAL: REPORT_IF_REPEATED,
}

# The choices before the last try, the harmless one first: it is what Enter alone takes.
GIVE_UP = Text("Non, garder la carte intacte", "No, keep the card as it is")
GO_ON = Text("Oui, faire ce dernier essai", "Yes, make this last try")

CODE = Text("Code", "Code")
FRESH = Text("Une nouvelle vérification sera demandée", "You will be verified again")
CURRENT = Text("Projet en cours", "Current project")
UNAVAILABLE = Text("indisponible", "unavailable")
VERSION = Text("version", "version")
NO_BOX_ID = Text("appareil non identifié", "device not identified")
LANGUAGE_NAME = {Language.FRENCH: "Français", Language.ENGLISH: "English"}

KEY_ENTER = Text("Entrée", "Enter")
KEY_ESCAPE = Text("Échap", "Esc")
KEY_ARROWS = Text("Flèches", "Arrows")
KEY_DIGITS = Text("1 à 9", "1 to 9")
KEY_ERASE = Text("Ret. arr.", "Backspace")
DO_CHOOSE = Text("choisir", "choose")
DO_VALIDATE = Text("valider", "confirm")
DO_CANCEL = Text("annuler", "cancel")
DO_ERASE = Text("effacer", "erase")
DO_OPEN = Text("ouvrir", "open")
DO_RETURN = Text("revenir au bureau", "back to the desktop")
DO_CLEAR = Text("tout effacer", "clear")
DO_CONTINUE = Text("choisir un projet", "pick a project")
DO_RETRY = Text("réessayer", "try again")
DO_RESUME = Text("reprendre", "go on")
DO_RETRY_NOW = Text("réessayer maintenant", "try again now")
DO_READ_AGAIN = Text("relire une carte déjà insérée", "read a card that is already in")


def explain(reason: Reason, language: Language) -> str:
    """Return the reason's sentence."""
    explanation = EXPLANATIONS[reason]
    return explanation.french if language is Language.FRENCH else explanation.english


def tries_left(tries: int, language: Language) -> str:
    """Return how many tries the card has left, or "" if that is not known (a negative number)."""
    if tries < 0:
        return ""
    if tries == 0:
        return Text("Aucun essai restant", "No tries left").to(language)
    if tries == 1:
        return Text("Dernier essai", "Last try").to(language)
    return Text(f"{tries} essais restants", f"{tries} tries left").to(language)


def digits_typed(count: int, language: Language) -> str:
    """Return what a screen reader says about the PIN field: how many digits, never which."""
    if count == 1:
        return Text("1 chiffre tapé", "1 digit typed").to(language)
    return Text(f"{count} chiffres tapés", f"{count} digits typed").to(language)


def part_of_list(first: int, last: int, total: int, language: Language) -> str:
    """Return which rows of a list too long for the screen are shown."""
    return Text(f"Lignes {first} à {last} sur {total}.", f"Rows {first} to {last} of {total}.").to(language)
