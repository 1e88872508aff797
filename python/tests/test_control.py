"""The client side of a control socket: what is believed of whoever listens there, how much is read and for how long."""

from __future__ import annotations

import json
import os
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from chaosfs import ChaosfsError, Client, _control, mount
from chaosfs._control import Control, found_again, mount_at


def control_of(client: Client) -> Path:
    found = mount_at(client)
    assert found is not None
    name = found.device.replace(":", "-") + ".control"
    return next(path for folder in _control._folders(found.owner) if (path := folder / name).exists())


@contextmanager
def in_place_of(path: Path) -> Iterator[None]:
    """The daemon's own socket is elsewhere meanwhile."""
    real = path.with_suffix(".real")
    path.rename(real)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        real.rename(path)


@contextmanager
def impostor(path: Path, say: Callable[[socket.socket], object]) -> Iterator[None]:
    def serve() -> None:
        while True:
            try:
                connection = listener.accept()[0]
                with connection:
                    say(connection)
            except OSError:
                if listener.fileno() < 0:
                    return

    with in_place_of(path), socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.fspath(path))
        listener.listen()
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


@pytest.fixture
def client(backing: Path, mountpoint: Path) -> Iterator[Client]:
    with mount(backing, mountpoint) as client:
        yield client


def test_a_symlink_to_another_socket_is_not_followed(client: Client, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    with mount(tmp_path / "backing", tmp_path / "other", client_id="other") as other:
        path, target = control_of(client), control_of(other)
        with in_place_of(path):
            path.symlink_to(target)
            with pytest.raises(ChaosfsError, match="its daemon does not answer"):
                client.lose()


def test_a_folder_that_others_can_enter_is_not_believed(
    backing: Path, mountpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Not in `tmp_path`: the name of a socket has at most 107 bytes.
    with tempfile.TemporaryDirectory() as session:
        monkeypatch.setenv("XDG_RUNTIME_DIR", session)
        with mount(backing, mountpoint) as client:
            client.hold()
            folder = control_of(client).parent
            assert folder == Path(session, "chaosfs")
            folder.chmod(0o711)
            with pytest.raises(ChaosfsError, match="its daemon does not answer"):
                client.hold()
            folder.chmod(0o700)


def test_a_line_without_end_is_read_no_further_than_an_answer_can_reach(client: Client) -> None:
    said = 0

    def say(connection: socket.socket) -> None:
        nonlocal said
        while True:
            said += connection.send(b"x" * (1 << 16))

    with impostor(control_of(client), say), pytest.raises(ChaosfsError, match="does not answer as a client does"):
        client.status()
    assert said < 4 * _control.LONGEST_ANSWER


def test_however_a_line_comes_it_is_not_waited_for_any_longer(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_control, "PATIENCE", 0.5)

    def say(connection: socket.socket) -> None:
        while True:
            connection.send(b"x")
            time.sleep(0.01)

    with impostor(control_of(client), say), pytest.raises(ChaosfsError, match="its daemon does not answer"):
        client.status()


@pytest.mark.parametrize("line", ["nonsense", "[]", "{}", '{"ok": 1}', "[" * 100_000, '{"ok": true}'])
def test_what_is_no_answer_is_one_error(client: Client, line: str) -> None:
    def say(connection: socket.socket) -> None:
        connection.recv(1 << 16)
        connection.sendall(line.encode() + b"\n")

    with impostor(control_of(client), say), pytest.raises(ChaosfsError, match="does not answer as a client does"):
        client.status()


def test_another_users_word_for_who_and_where_it_is_is_not_taken(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = client.status()

    def say(connection: socket.socket) -> None:
        connection.recv(1 << 16)
        lies = {**whole, "client": "root", "mountpoint": "/root", "backing": "/etc", "pid": 1}
        connection.sendall(json.dumps({"ok": True, "status": lies}).encode() + b"\n")

    with impostor(control_of(client), say), Control(client) as control:
        assert control.status()["backing"] == "/etc", "one's own is believed"
        with Control(client) as control:
            control.mount = control.mount._replace(owner=os.geteuid() + 1)
            told = control.status()
    told_of = (told["client"], told["mountpoint"], told["backing"], told["pid"])
    assert told_of == (whole["client"], os.fspath(client), "", os.getpid())


def test_a_folder_above_a_mountpoint_may_get_another_name(backing: Path, tmp_path: Path) -> None:
    (tmp_path / "above" / "m").mkdir(parents=True)
    with mount(backing, tmp_path / "above" / "m") as client:
        (client / "file").write_text("text")
        known = mount_at(client)
        (tmp_path / "above").rename(tmp_path / "renamed")
        assert known is not None
        again = found_again(known)
        assert again is not None
        assert again.path == os.fspath(tmp_path / "renamed" / "m")
    assert (backing / "file").read_text() == "text"
