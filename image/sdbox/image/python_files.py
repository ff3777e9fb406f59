"""Our Python files on the box: where they lie, how the interpreter finds them, how they are compiled."""

from __future__ import annotations

import configparser
import shutil
from pathlib import Path

from sdbox.image import bundle_reader, bundle_writer
from sdbox.image.command import run_inside

SITE = "usr/lib/sdbox/python"
PATH_FILE = "usr/lib/python3/dist-packages/sdbox.pth"
COMPILED = ("/usr/lib/python3.13", "/usr/lib/python3", f"/{SITE}")
# The commands of the box, and what may not be imported in them: modules that a library tries and does without, and that
# would take their time at every start. asyncio tries ssl (our TLS is pyOpenSSL), dbus-next tries gi, hashlib tries
# OpenSSL's functions before its own (the agent has OpenSSL twice already).
BOX_COMMANDS = {"sdbox-agent": ("ssl", "gi", "_hashlib"), "sdbox-screen": ()}
# nice(2). Painting waits for the agent, from its first module on: for the evidence at the start, for the keys to be
# wiped at the end. Two that start by turns also take each other's place in the processor's caches.
BACKGROUND = {"sdbox-screen": 5}
BUNDLES = "/usr/lib/sdbox"
BUNDLE_READER = "usr/lib/python3/dist-packages/sdbox_bundle.py"

# The third-party packages the agent and its worker use: what trimming broke is found while the image is built.
IMPORTED = (
    "cryptography",
    "dbus_next",
    "gi",
    "msgspec",
    "OpenSSL",
    "pkcs11",
    "pyudev",
    "smartcard",
    "tpm2_pytss",
)

# -I: neither the environment nor the working folder may add a module. Looking for garbage among modules that stay for
# good is a quarter of an import: it begins after that, and leaves them out.
COMMAND = """\
#!/usr/bin/python3 -I
import gc
import os
import sys

os.nice({nice})
gc.disable()
sys.modules.update(dict.fromkeys({withheld!r}))
import sdbox_bundle

sdbox_bundle.use({bundle!r})
from {module} import {function}

gc.freeze()
gc.enable()
raise SystemExit({function}())
"""


def install_python(wheels: Path, own: Path, tree: Path) -> None:
    """Put locked and own packages into `tree`, with their commands, and compile everything."""
    site = tree / SITE
    shutil.copytree(wheels, site, ignore=shutil.ignore_patterns("bin", "__pycache__", "tests", "test"))
    shutil.copytree(own, site, dirs_exist_ok=True)
    (tree / PATH_FILE).write_text(f"/{SITE}\n", encoding="ascii")
    shutil.copyfile(Path(bundle_reader.__file__), tree / BUNDLE_READER)
    compile_all(tree)
    for name, target in entry_points(site).items():
        if name in BOX_COMMANDS:
            _put_command(tree, name, target, BOX_COMMANDS[name])
    run_inside(
        "import of the box's Python packages", tree, ["python3", "-W", "ignore", "-c", f"import {', '.join(IMPORTED)}"]
    )


def entry_points(site: Path) -> dict[str, str]:
    """Return the commands of our wheel: name to `module:function` (entry-points specification)."""
    (file,) = site.glob("sdbox-*.dist-info/entry_points.txt")
    parser = configparser.ConfigParser()
    parser.read_string(file.read_text(encoding="utf-8"))
    return dict(parser["console_scripts"])


def _put_command(tree: Path, name: str, target: str, withheld: tuple[str, ...]) -> None:
    module, _, function = target.partition(":")
    bundle = f"{BUNDLES}/{name}.modules"
    writer = Path(bundle_writer.__file__).read_text(encoding="utf-8")
    run_inside(f"modules of {name}", tree, ["python3", "-I", "-W", "ignore", "-c", writer, bundle, module, *withheld])
    path = tree / "usr/bin" / name
    words: dict[str, object] = {"module": module, "function": function, "withheld": withheld, "bundle": bundle}
    words["nice"] = BACKGROUND.get(name, 0)
    path.write_text(COMMAND.format(**words), encoding="ascii")
    path.chmod(0o755)


def compile_all(tree: Path) -> None:
    """Compile for a read-only root: erofs has one time for all files, so a .pyc must not depend on its source's."""
    for folder in COMPILED:
        for stale in sorted((tree / folder.removeprefix("/")).rglob("__pycache__")):
            shutil.rmtree(stale)
    mode = ["--invalidation-mode", "unchecked-hash"]
    # Without columns: a trace tells the line, and a fifth less is read and unpacked.
    run_inside(
        "compiled Python", tree, ["python3", "-X", "no_debug_ranges", "-m", "compileall", "-q", "-j0", *mode, *COMPILED]
    )
