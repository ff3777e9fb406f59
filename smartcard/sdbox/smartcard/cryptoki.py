"""python-pkcs11, all that we use of it: the only file that imports it."""

from __future__ import annotations

from pkcs11 import Session, Slot, Token
from pkcs11 import lib as load_module
from pkcs11.constants import Attribute, CertificateType, MechanismFlag, ObjectClass, TokenFlag
from pkcs11.exceptions import (
    AttributeTypeInvalid,
    GeneralError,
    PinIncorrect,
    PinInvalid,
    PinLenRange,
    PinLocked,
    PKCS11Error,
)
from pkcs11.mechanisms import MGF, KeyType, Mechanism
from pkcs11.types import PROTECTED_AUTH
from pkcs11.util.ec import encode_ec_public_key, encode_named_curve_parameters
from pkcs11.util.rsa import encode_rsa_public_key

__all__ = [
    "MGF",
    "PROTECTED_AUTH",
    "Attribute",
    "AttributeTypeInvalid",
    "CertificateType",
    "GeneralError",
    "KeyType",
    "Mechanism",
    "MechanismFlag",
    "ObjectClass",
    "PKCS11Error",
    "PinIncorrect",
    "PinInvalid",
    "PinLenRange",
    "PinLocked",
    "Session",
    "Slot",
    "Token",
    "TokenFlag",
    "encode_ec_public_key",
    "encode_named_curve_parameters",
    "encode_rsa_public_key",
    "load_module",
]
