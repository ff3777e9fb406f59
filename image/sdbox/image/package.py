"""From a root file system to what is shipped: UKI, signature, disk, firmware, reference values, manifest."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from sdbox.boot.reference import SecureBootKeys, compute_reference, write_reference
from sdbox.image.authenticode import sign_file
from sdbox.image.basetree import ensure_base_tree, read_packages
from sdbox.image.cmdline import kernel_command_line
from sdbox.image.command import EPOCH
from sdbox.image.disk import make_disk
from sdbox.image.manifest import manifest_text
from sdbox.image.output import FILES
from sdbox.image.ovmf import OWNER, EnrolledKeys, write_firmware
from sdbox.image.request import BadRequestError, BuildRequest, SigningKey, signing_name
from sdbox.image.source import Source
from sdbox.image.uki import UkiParts, make_unsigned_uki
from sdbox.image.verity import read_root


def make_image(source: Source, request: BuildRequest, root: Path, folder: Path) -> None:
    """Fill `folder` with the files of `output.FILES`."""
    files = {field: folder / name for field, name in FILES.items()}
    verity = read_root(root)
    for field, name in (("kernel", "vmlinuz"), ("initrd", "initrd"), ("os_release", "os-release")):
        shutil.copyfile(root / name, files[field])
    files["cmdline"].write_text(kernel_command_line(verity.root_hash, request.profile), encoding="ascii")
    _make_uki(request, files)
    os.utime(files["uki"], (EPOCH, EPOCH))  # its time goes into the FAT
    make_disk(files["uki"], verity, files["disk"])
    keys = enrolled_keys(request)
    write_firmware(keys, files["ovmf_code"], files["ovmf_vars"])
    _write_reference(request, keys, files)
    listed = {name: path for name, path in files.items() if name not in {"manifest", "unsigned_uki"}}
    packages = read_packages(ensure_base_tree(source, request.profile))
    lock = source.lock.read_text(encoding="utf-8")
    text = manifest_text(request, verity.root_hash, {**listed, "root": verity.data}, packages=packages, lock=lock)
    files["manifest"].write_text(text, encoding="utf-8")


def _make_uki(request: BuildRequest, files: dict[str, Path]) -> None:
    text = files["cmdline"].read_text(encoding="ascii")
    make_unsigned_uki(UkiParts(files["kernel"], files["initrd"], files["os_release"], text), files["unsigned_uki"])
    sign_file(files["unsigned_uki"], SigningKey.named(request.keys, signing_name(request.profile)), files["uki"])


def enrolled_keys(request: BuildRequest) -> EnrolledKeys:
    """Return the certificates in the firmware of a box for this image."""
    names = ("PK", "KEK", signing_name(request.profile))
    pk, kek, db = (SigningKey.named(request.keys, name).certificate for name in names)
    return EnrolledKeys(pk, kek, db)


def _write_reference(request: BuildRequest, keys: EnrolledKeys, files: dict[str, Path]) -> None:
    certificates = SecureBootKeys(pk=_der(keys.pk), kek=_der(keys.kek), db=_der(keys.db), owner=str(OWNER))
    version, profile = str(request.image_version), request.profile.value
    write_reference(
        compute_reference(files["uki"], certificates, image_version=version, profile=profile), files["reference"]
    )


def _der(path: Path) -> bytes:
    try:
        return x509.load_pem_x509_certificate(path.read_bytes()).public_bytes(Encoding.DER)
    except (OSError, ValueError) as error:
        raise BadRequestError(f"Secure Boot certificate {path}: not a readable PEM certificate") from error
