"""The program under test: what many start scripts do on every host of a service.

    python3 bootstrap.py SHARED HOST

The first host to get the lock builds a Python virtualenv on the shared folder, says who built it and raises a flag. The
others wait for the flag. Then everybody runs the virtualenv. On a local disk this is right: mkdir(2) succeeds for
exactly one of them.

Prints one line of JSON: what this host did and saw.
"""

import json
import subprocess
import sys
import time
import venv
from pathlib import Path

PATIENCE_SECONDS = 60


def main(shared: Path, host: str) -> dict:
    environment = shared / "venv"
    flag = shared / "venv.ready"
    try:
        (shared / "venv.lock").mkdir()
        builds = True
    except FileExistsError:
        builds = False
    if builds:
        venv.create(environment, with_pip=True, symlinks=True)
        (environment / "built-by").write_text(host)
        flag.touch()
    else:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not flag.exists():
            if time.monotonic() > deadline:
                raise SystemExit(f"{host}: waited {PATIENCE_SECONDS} s for {flag.name}")
            time.sleep(0.05)
    pip = subprocess.run(
        [environment / "bin" / "python", "-m", "pip", "--version"], capture_output=True, text=True, check=False
    )
    return {
        "host": host,
        "builds": builds,
        "built_by": (environment / "built-by").read_text(),
        "pip": "runs" if pip.returncode == 0 else pip.stderr.strip().split("\n")[-1:],
    }


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), sys.argv[2])))
