"""What each reason code means: the researcher's words, and what an operator does. Source of `docs/reasons.md`."""

from __future__ import annotations

from dataclasses import dataclass

from sdbox.protocol.reasons import Reason


@dataclass(frozen=True, slots=True)
class Explanation:
    """What the box says (`french`, `english`) and what an operator does about it (`hint`)."""

    french: str
    english: str
    hint: str


EXPLANATIONS: dict[Reason, Explanation] = {
    Reason.GATEWAY_UNREACHABLE: Explanation(
        "Le centre ne répond pas. Nouvel essai en cours.",
        "The data centre does not answer. Trying again.",
        "Check the site's network and proxy, and that the gateway runs.",
    ),
    Reason.GATEWAY_UNTRUSTED: Explanation(
        "Le serveur joint n'est pas celui du centre.",
        "The server reached is not the data centre's.",
        "Its certificate is not from the CA in the image: an interception, or a gateway with a wrong certificate.",
    ),
    Reason.BOX_UNKNOWN: Explanation(
        "Cet appareil n'est pas enrôlé.",
        "This device is not enrolled.",
        "Enrol the box: its UUID and EK are not in the inventory.",
    ),
    Reason.BOX_ACTIVATION: Explanation(
        "La puce de sécurité n'est pas celle de cet appareil.",
        "The security chip is not this device's own.",
        "The TPM's EK is not the enrolled one, or could not open the credential made for it: another TPM, or a relay.",
    ),
    Reason.BOX_EVIDENCE: Explanation(
        "La preuve d'intégrité de l'appareil est refusée.",
        "The device's proof of integrity was refused.",
        "See the failed checks in the gateway's record: signature, nonce, PCR selection or event log.",
    ),
    Reason.BOX_IMAGE: Explanation(
        "Le système de cet appareil n'est pas celui attendu.",
        "The system on this device is not the expected one.",
        "A PCR differs from the reference values: another image, other keys, or changed firmware settings.",
    ),
    Reason.BOX_MICROCODE: Explanation(
        "Le processeur de cet appareil attend une mise à jour.",
        "This device's processor needs an update.",
        "Its microcode is older than the policy's minimum, or was not measured: the gateway's record has the revision.",
    ),
    Reason.BOX_TPM: Explanation(
        "La puce de sécurité ne répond pas.",
        "The security chip does not answer.",
        "The TPM gave an answer that has no name here, or the event log is missing: see the box's journal.",
    ),
    Reason.BOX_TPM_ABSENT: Explanation(
        "Cet appareil n'a pas de puce de sécurité, ou elle est coupée.",
        "This device has no security chip, or it is switched off.",
        "The kernel found no TPM: switch it on in the firmware's setup; if it is on, the mainboard is faulty.",
    ),
    Reason.BOX_TPM_BUSY: Explanation(
        "La puce de sécurité est occupée. Nouvel essai en cours.",
        "The security chip is busy. Trying again.",
        "It tests itself, or has no room for a key or a session. If it stays so: power off, wait, power on.",
    ),
    Reason.BOX_TPM_LOCKOUT: Explanation(
        "La puce de sécurité s'est verrouillée. Laissez l'appareil allumé.",
        "The security chip has locked itself. Leave the device switched on.",
        "Somebody tried passwords on the TPM: it opens with time, or an operator clears the TPM and enrols it again.",
    ),
    Reason.BOX_TPM_FAILURE: Explanation(
        "La puce de sécurité est en panne. Éteignez l'appareil et rallumez-le.",
        "The security chip has failed. Switch the device off and on again.",
        "TPM in failure mode or not started: a power cycle ends it. If it comes back, the mainboard is faulty.",
    ),
    Reason.BOX_TPM_DISABLED: Explanation(
        "La puce de sécurité est désactivée dans cet appareil.",
        "The security chip is turned off in this device.",
        "Its endorsement hierarchy is disabled or has a password: firmware's setup, or clear the TPM and enrol again.",
    ),
    Reason.BOX_TPM_BUS: Explanation(
        "Les réponses de la puce de sécurité ne sont pas authentiques.",
        "The security chip's answers are not genuine.",
        "Commands or answers were changed between processor and TPM: take the box out of service and open its case.",
    ),
    Reason.TOO_MANY_REQUESTS: Explanation(
        "Cet appareil en demande trop au centre. Nouvel essai en cours.",
        "This device asks too much of the data centre. Trying again.",
        "More card signatures on one connection than a person asks for: a faulty or a changed box. See the record.",
    ),
    Reason.RESULT_LAPSED: Explanation(
        "La preuve d'intégrité a expiré.",
        "The proof of integrity has lapsed.",
        "The box did not renew its attestation in time, or the gateway fell silent and did not ask it to.",
    ),
    Reason.CARD_UNKNOWN: Explanation(
        "Cette carte n'est pas reconnue.",
        "This card is not recognised.",
        "No variant matches its ATR: see `sdbox card variants`.",
    ),
    Reason.CARD_FAILED: Explanation(
        "La carte ne répond plus. Retirez-la et réinsérez-la.",
        "The card stopped answering. Remove it and insert it again.",
        "A card command failed or timed out.",
    ),
    Reason.CARD_UNTRUSTED: Explanation(
        "Cette carte n'a pas pu prouver son origine. Le doigt n'a pas été demandé.",
        "This card could not prove where it comes from. No finger was asked for.",
        "No chain from its device key to a card root in the image, or a wrong date: issued elsewhere, or false.",
    ),
    Reason.CARD_FINGER: Explanation(
        "Empreinte non reconnue.",
        "Fingerprint not recognised.",
        "One try of the card's counter was spent.",
    ),
    Reason.CARD_PIN: Explanation(
        "Code PIN incorrect.",
        "Wrong PIN.",
        "One try of the card's counter was spent.",
    ),
    Reason.CARD_TIMEOUT: Explanation(
        "Aucun doigt présenté. Retirez et réinsérez la carte pour réessayer.",
        "No finger was presented. Remove and insert the card to try again.",
        "The card's sensor timed out; no try was spent.",
    ),
    Reason.CARD_LAST_TRY: Explanation(
        "Il reste un seul essai : une erreur de plus bloque la carte.",
        "One try is left: one more mistake blocks the card.",
        "The holder is asked before the last try, and here said no; a right finger or PIN sets the counter back.",
    ),
    Reason.CARD_BLOCKED: Explanation(
        "Cette carte est bloquée. Adressez-vous à votre correspondant.",
        "This card is blocked. Ask your correspondent.",
        "The retry counter is at zero; the card needs an unblock by its issuer.",
    ),
    Reason.CARD_NO_FINGER: Explanation(
        "Aucune empreinte n'est enregistrée sur cette carte.",
        "No fingerprint is enrolled on this card.",
        "The card does on-card comparison but holds no reference template: enrol the holder.",
    ),
    Reason.CARD_SENSOR: Explanation(
        "Le capteur d'empreintes ne répond pas.",
        "The fingerprint sensor does not answer.",
        "The box's sensor is absent, busy or faulty (/dev/sdbox-sensor); no try was spent.",
    ),
    Reason.CARD_UNCLEAR: Explanation(
        "Empreinte illisible. Reposez le doigt bien à plat.",
        "Unreadable fingerprint. Place your finger flat again.",
        "The capture has too few minutiae for the card; no try was spent.",
    ),
    Reason.CARD_IDLE: Explanation(
        "La session de la carte a été fermée faute d'activité.",
        "The card's session was closed for want of activity.",
        "Nobody used keyboard, mouse or screen for `idle_minutes` of the site's [card] settings.",
    ),
    Reason.CARD_LIMIT: Explanation(
        "La session de la carte a atteint sa durée maximale.",
        "The card's session has reached its longest duration.",
        "The finger or PIN was given `session_minutes` ago, see the site's [card] settings.",
    ),
    Reason.CARD_FRESH: Explanation(
        "Ce projet demande une nouvelle vérification de son titulaire.",
        "This project needs its holder to be verified again.",
        "Its bubble has `fresh_finger`: an Open follows a card proof of its own, at most two minutes old.",
    ),
    Reason.CARD_EMPTY: Explanation(
        "Cette carte ne porte aucun projet.",
        "This card carries no project.",
        "No certificate on the card has a project URI (urn:sdbox:project:...).",
    ),
    Reason.CARD_PROOF: Explanation(
        "La preuve de la carte est refusée.",
        "The card's proof was refused.",
        "The authenticator does not verify for this channel, nonce, project and tunnel key.",
    ),
    Reason.CERTIFICATE_EXPIRED: Explanation(
        "Le certificat de ce projet a expiré.",
        "This project's certificate has expired.",
        "Renew the container's certificate.",
    ),
    Reason.CERTIFICATE_NOT_YET_VALID: Explanation(
        "Le certificat de ce projet n'est pas encore valable.",
        "This project's certificate is not valid yet.",
        "Check the certificate's start date and the gateway's clock.",
    ),
    Reason.CERTIFICATE_ISSUER: Explanation(
        "Le certificat de ce projet vient d'un émetteur inconnu.",
        "This project's certificate is from an unknown issuer.",
        "It does not chain to the gateway's card CA.",
    ),
    Reason.CERTIFICATE_USAGE: Explanation(
        "Le certificat de ce projet n'autorise pas la connexion.",
        "This project's certificate does not allow sign-in.",
        "Key usage must have digitalSignature, and the key must be P-256, P-384 or RSA of 2048 bits or more.",
    ),
    Reason.CERTIFICATE_REVOKED: Explanation(
        "Le certificat de ce projet est révoqué.",
        "This project's certificate is revoked.",
        "Its serial number is on the gateway's revocation list.",
    ),
    Reason.CERTIFICATE_SUPERSEDED: Explanation(
        "Le certificat de ce projet a été remplacé.",
        "This project's certificate has been replaced.",
        "It was renewed and the new one has signed, but the old one was shown. The record has both serial numbers.",
    ),
    Reason.CERTIFICATE_UNREADABLE: Explanation(
        "Le centre ne sait pas lire le certificat de ce projet.",
        "The data centre cannot read this project's certificate.",
        "Its encoding or its project name breaks the rules (a-z, 0-9 and -, 63 at most): issue it anew.",
    ),
    Reason.CONTAINER_DUPLICATE: Explanation(
        "Un certificat plus récent de ce projet est utilisé.",
        "A newer certificate of this project is used.",
        "Two containers of one project are valid: normal during a renewal; else remove the older one.",
    ),
    Reason.PROJECT_NO_BUBBLE: Explanation(
        "Ce projet n'a pas de bulle ouverte.",
        "This project has no open bubble.",
        "The bubble catalogue has no entry for the project, or the policy closes it.",
    ),
    Reason.PROJECT_NOT_ON_CARD: Explanation(
        "Ce projet n'est pas sur votre carte.",
        "This project is not on your card.",
        "The box asked for a bubble whose container the card does not have.",
    ),
    Reason.PROJECT_DEVICE: Explanation(
        "Ce projet ne s'ouvre pas depuis cet appareil.",
        "This project can not be opened from this device.",
        "The bubble asks for an image, a version or a hardware model that this box does not have: see the record.",
    ),
    Reason.PROJECT_CLOSING: Explanation(
        "La bulle de ce projet n'a pas fini de se fermer. Réessayez dans un instant.",
        "This project's bubble has not finished closing. Try again in a moment.",
        "`trouble` in the record says what of an ended session is left: see that wireguard-go runs; `cleared` ends it.",
    ),
    Reason.TUNNEL_FAILED: Explanation(
        "Le tunnel vers la bulle n'a pas pu être établi.",
        "The tunnel to the bubble could not be established.",
        "No WireGuard handshake with any endpoint of the grant: UDP may be blocked.",
    ),
    Reason.DESKTOP_FAILED: Explanation(
        "Le bureau de la bulle n'a pas pu s'ouvrir.",
        "The bubble's desktop could not be opened.",
        "The RDP client ended: see its exit code in the box's journal.",
    ),
    Reason.SESSION_REVOKED: Explanation(
        "La session a été fermée par le centre.",
        "The data centre closed the session.",
        "Box, card, image or session was revoked.",
    ),
    Reason.RENEWAL_UNAVAILABLE: Explanation(
        "Le renouvellement du certificat n'est pas possible pour l'instant.",
        "The certificate cannot be renewed for now.",
        "No issuing CA is configured ([issuing] of the gateway), or it does not answer: see the record.",
    ),
    Reason.RENEWAL_REFUSED: Explanation(
        "Le renouvellement du certificat est refusé.",
        "The certificate's renewal was refused.",
        "Another subject, project or kind of key, before half of the life, or too often: see the record.",
    ),
    Reason.RENEWAL_FAILED: Explanation(
        "Le nouveau certificat n'a pas pu être écrit sur la carte.",
        "The new certificate could not be written to the card.",
        "The card makes no key, is full or is not written; the old certificate still works. See the box's journal.",
    ),
    Reason.ENROLMENT_REFUSED: Explanation(
        "L'enrôlement du doigt est refusé.",
        "The finger's enrolment was refused.",
        "The authorisation is not by an operator, for this card, for now and unused, or the card has a finger already.",
    ),
    Reason.PROTOCOL: Explanation(
        "Échange inattendu avec le centre.",
        "Unexpected exchange with the data centre.",
        "A message that the state table does not allow: different versions, or an attack.",
    ),
    Reason.INTERNAL: Explanation(
        "Erreur interne. Redémarrez l'appareil.",
        "Internal error. Restart the device.",
        "An exception reached the top: see the journal.",
    ),
}
