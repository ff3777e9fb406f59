"""What a build needs of its host, asked before any work: each lack is one line that says what to do."""

from __future__ import annotations

import os
import shutil

from sdbox.image.request import BadRequestError, BuildRequest, Producer, Profile

PROGRAMS = {"mmdebstrap": "mmdebstrap", "bwrap": "bubblewrap"}  # program to Debian package


def check_request(request: BuildRequest) -> None:
    """Refuse what can not be built anywhere: BadRequestError."""
    if request.producer is not Producer.DEBIAN:
        raise BadRequestError(
            f"producer {request.producer.value} is not there yet: use --producer {Producer.DEBIAN.value}"
        )
    if request.image_version < 1:
        raise BadRequestError("image versions start at 1")
    if request.site.card_token and request.profile is not Profile.DEBUG:
        raise BadRequestError("a card without a reader is for the debug profile only")


def check_host() -> None:
    """Refuse to start a build that this host would let fail later: BadRequestError."""
    if os.geteuid() != 0:
        raise BadRequestError(
            "building an image needs root (mmdebstrap makes device nodes and owners): run it with sudo"
        )
    for program, package in PROGRAMS.items():
        if shutil.which(program) is None:
            raise BadRequestError(f"{program} is missing: apt-get install {package}")
