"""Makes .venv and installs a lock file into it: `python3 requirements/install.py run|dev`.

Standard library only: this runs before anything is installed. A line or a dot shows that it's alive;
what pip says goes to .venv/install.log. Interrupted and started again, it goes on.
"""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
LOG = VENV / "install.log"


def main(lock: str) -> int:
    try:
        _make_venv()
        file = ROOT / "requirements" / f"{lock}.lock"
        count = sum("==" in line for line in file.read_text().splitlines() if line[:1].isalnum())
        say(f"Installing {count} packages from requirements/{lock}.lock (first time: about a minute) ")
        _pip("--require-hashes", "--no-deps", "-r", str(file))
        say("\nInstalling Vinkje itself ")
        # Everything it is built with stands in the lock: nothing is fetched here.
        _pip("--no-build-isolation", "--no-deps", "--no-index", "-e", str(ROOT))
    except KeyboardInterrupt:
        say("\nInterrupted. The same command goes on from here.\n")
        return 130
    except subprocess.CalledProcessError as fault:
        said = LOG.read_text(errors="replace").splitlines() if LOG.exists() else []
        say("\nThat failed. The last lines (all of it: .venv/install.log):\n  " + "\n  ".join(said[-12:]) + "\n")
        return fault.returncode or 1
    for stamp in ("run", "dev") if lock == "dev" else ("run",):  # dev.lock holds all of run.lock
        (VENV / f"{stamp}.stamp").touch()
    say("\nInstalled.\n")
    return 0


def _make_venv() -> None:
    probe = [str(PYTHON), "-m", "pip", "--version"]
    if PYTHON.exists() and subprocess.run(probe, capture_output=True, check=False).returncode == 0:  # noqa: S603
        return
    version = ".".join(map(str, sys.version_info[:3]))
    say(f"Making .venv with Python {version} ({sys.executable})\n")
    try:
        venv.EnvBuilder(clear=True, with_pip=True, symlinks=True).create(VENV)
    except subprocess.CalledProcessError:
        say(f"Python {version} can't install pip. On Debian and Ubuntu: apt install python3-venv\n")
        raise SystemExit(1) from None


def _pip(*options: str) -> None:
    """A dot for each package that pip takes up."""
    command = [str(PYTHON), "-m", "pip", "install", "--disable-pip-version-check", "--no-input", *options]
    pip = subprocess.Popen(  # noqa: S603  # no word of it comes from outside
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    )
    with LOG.open("a") as log, pip:
        assert pip.stdout is not None
        for line in pip.stdout:
            log.write(line)
            log.flush()
            if line.startswith(("Collecting", "Obtaining", "Requirement already")):
                say(".")
            elif line.startswith("Installing collected"):
                say(" unpacking")
    if pip.returncode:
        raise subprocess.CalledProcessError(pip.returncode, command)


def say(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1]))
