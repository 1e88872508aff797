"""Verifies what two hosts made of one virtualenv.

    python3 verify.py PLAIN SHARED HOST=VIEW=REPORT=LOG...

PLAIN is a virtualenv made on a plain directory, SHARED the backing directory after all clients have left, and for each
host: where it saw SHARED, what bootstrap.py printed, and the log of its client. Prints one line for each property and
leaves with 0 if all of them hold, with 1 if the virtualenv or the belief of a host is broken, with 2 if it could not
tell.
"""

import base64
import csv
import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path

broken = 0


def prop(name: str, wrong: object) -> None:
    """One property: `wrong` says what speaks against it, or is empty."""
    global broken
    broken += bool(wrong)
    print(f"    {'broken' if wrong else 'whole ':6}  {name}{f': {wrong}' if wrong else ''}")


def some(things: list) -> str:
    """A few of many."""
    return f"{len(things)}, such as {things[0]}" if things else ""


def tree(root: Path) -> dict[str, Path]:
    """Everything but what Python writes for itself while it runs, by path below `root`."""
    everything = {str(path.relative_to(root)): path for path in root.rglob("*")}
    return {name: path for name, path in everything.items() if "__pycache__" not in name}


def differing(plain: Path, made: Path, views: list[Path]) -> list[str]:
    """Files that are not what a plain directory has, once the paths of the virtualenvs are out of them."""

    def content(path: Path, homes: list[Path]) -> object:
        if path.is_symlink():
            return path.readlink()
        if path.is_dir():
            return "directory"
        text = path.read_bytes()
        for home in homes:
            text = text.replace(str(home).encode(), b"HOME")
        return path.stat().st_mode, text

    ours, theirs = tree(plain), tree(made)
    # RECORD holds checksums of scripts that name the path; it is checked against them below.
    common = [name for name in ours.keys() & theirs.keys() if not name.endswith("/RECORD")]
    homes = [view / "venv" for view in views]
    return sorted(name for name in common if content(ours[name], [plain]) != content(theirs[name], homes))


def mixed(made: Path, hosts: dict[str, Path]) -> str:
    """Scripts that call the virtualenv of another host than the one that is said to have built it."""
    builder = (made / "built-by").read_text()
    others = [str(view / "venv").encode() for host, view in hosts.items() if host != builder]
    files = [made / "pyvenv.cfg", *(path for path in (made / "bin").iterdir() if not path.is_symlink())]
    strange = sorted(path.name for path in files if any(other in path.read_bytes() for other in others))
    return some(strange) and f"built by {builder}, but of another: {some(strange)}"


def unlike_record(made: Path) -> list[str]:
    """Installed files that are not what pip wrote down when it installed them."""
    wrong = []
    records = list(made.glob("lib/python*/site-packages/*.dist-info/RECORD"))
    if not records:
        return ["no RECORD at all"]
    for record in records:
        with record.open(newline="") as lines:
            for name, checksum, *_ in csv.reader(lines):
                path = record.parent.parent / name
                if not path.exists():
                    wrong.append(f"{name} is missing")
                elif checksum:
                    kind, wanted = checksum.split("=", 1)
                    digest = hashlib.new(kind, path.read_bytes()).digest()
                    if base64.urlsafe_b64encode(digest).rstrip(b"=").decode() != wanted:
                        wrong.append(name)
    return sorted(wrong)


def runs(made: Path) -> str:
    """Whether its Python starts, knows its own prefix, and its pip finds nothing amiss."""
    code = "import sys, pip._internal.cli.main; sys.exit(sys.prefix == sys.base_prefix)"
    for command in [["-c", code], ["-m", "pip", "--version"], ["-m", "pip", "check"]]:
        done = subprocess.run(
            [made / "bin" / "python", "-I", "-B", *command], capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            last = (done.stderr + done.stdout).strip().split("\n")[-1:]
            return f"{' '.join(command)}: {last}"
    return ""


def main(plain: Path, shared: Path, hosts: list[list[str]]) -> None:
    made = shared / "venv"
    views = [Path(view) for _, view, _, _ in hosts]
    reports = [json.loads(Path(report).read_text()) for _, _, report, _ in hosts]
    logs = [Path(log).read_text() for *_, log in hosts]

    builders = [report["host"] for report in reports if report["builds"]]
    prop("exactly one host got the lock", len(builders) != 1 and f"{' and '.join(builders)} got it")
    told = {report["host"]: report["built_by"] for report in reports}
    prop(
        "the hosts agree on who built it",
        len(set(told.values())) != 1 and "; ".join(f"{host} reads {who!r}" for host, who in told.items()),
    )
    stuck = [f"{report['host']}: {report['pip']}" for report in reports if report["pip"] != "runs"]
    prop("pip ran on each host when it was ready", "; ".join(stuck))

    lost = [line for log in logs for line in log.split("\n") if " event=lost " in line]
    prop("nothing acknowledged was lost", some(lost))
    clashes = [line for log in logs for line in log.split("\n") if " event=conflict " in line]
    conflicts = [re.search(r" path=(\S+)", line)[1] for line in clashes]
    prop("no host overwrote what another had made", some(conflicts))

    missing = sorted(tree(plain).keys() - tree(made).keys())
    prop("every file of a plain virtualenv is there", some(missing))
    surplus = sorted(tree(made).keys() - tree(plain).keys() - {"built-by"})
    prop("and no other", some(surplus))
    prop("each with the same content and mode", some(differing(plain, made, views)))
    prop("its scripts are of the host that built it", mixed(made, {host: Path(view) for host, view, *_ in hosts}))
    prop("installed files are those that pip wrote down", some(unlike_record(made)))
    prop("its Python and its pip run", runs(made))


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), Path(sys.argv[2]), [argument.split("=") for argument in sys.argv[3:]])
    except (OSError, ValueError, IndexError) as error:
        print(f"cannot verify: {error!r}")
        raise SystemExit(2) from error
    raise SystemExit(bool(broken))
