"""``mount`` and ``dual_mount``: what chaosfs 0.3.0 promised of them, and how they end."""

from __future__ import annotations

import errno
import inspect
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

import chaosfs
from chaosfs import ChaosfsError, Client, cli, dual_mount, mount, testing
from chaosfs._process import binary

#: How long anything outside of these tests may take, in seconds.
PATIENCE = 30.0


def eventually(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def has_ended(pid: str) -> bool:
    """Whether there is no such process, or nobody has asked yet how it ended."""
    try:
        return Path("/proc", pid, "stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def python(program: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", textwrap.dedent(program), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)


def defaults_of(function: Callable[..., object]) -> dict[str, object]:
    parameters = inspect.signature(function).parameters.values()
    positional = [each for each in parameters if each.kind is each.POSITIONAL_OR_KEYWORD]
    return {each.name: each.default for each in positional if each.default is not each.empty}


def test_arguments_and_defaults_are_those_of_0_3_0() -> None:
    assert list(inspect.signature(mount).parameters)[:2] == ["backing_dir", "mount_point"]
    assert defaults_of(mount) == {
        "client_id": "client",
        "meta_ttl": 1.5,
        "write_delay": 0.8,
        "rename_delay": 1.2,
        "drop_prob": 0.0,
        "seed": None,
    }
    assert list(inspect.signature(dual_mount).parameters)[:1] == ["base_path"]
    assert defaults_of(dual_mount) == {
        "writer_id": "writer",
        "reader_id": "reader",
        "writer_meta_ttl": 0.5,
        "writer_rename_delay": 0.1,
        "reader_meta_ttl": 2.0,
        "reader_rename_delay": 0.5,
    }
    assert (testing.mount, testing.dual_mount) == (mount, dual_mount)


def test_a_writer_and_a_reader_have_the_knobs_of_0_3_0(tmp_path: Path) -> None:
    with dual_mount(tmp_path) as (writer, reader):
        knobs = [client.status()["knobs"] for client in (writer, reader)]
        assert [client.status()["client"] for client in (writer, reader)] == ["writer", "reader"]
    times = [(each["meta_ttl"], each["write_delay"], each["rename_delay"]) for each in knobs]
    assert times == [("500ms", "100ms", "100ms"), ("2000ms", "800ms", "500ms")]


def test_a_mount_is_a_path_to_the_backing_directory_and_gone_at_the_end(
    backing: Path, mountpoint: Path
) -> None:
    (backing / "old").write_text("old")
    with mount(str(backing), str(mountpoint)) as client:
        assert isinstance(client, Path) and client == mountpoint and client.is_mount()
        assert (client / "old").read_text() == "old"
        (client / "new").write_text("new")
        assert not (backing / "new").exists()
    assert not mountpoint.is_mount()
    assert (backing / "new").read_text() == "new"


def test_seconds_become_what_the_client_counts_in(backing: Path, mountpoint: Path) -> None:
    with mount(backing, mountpoint, "c", 0.5, (0.25, 1.5), 0, 0.125, 7, max_in_flight=4096) as client:
        status = client.status()
    assert (status["client"], status["seed"], status["clock"]) == ("c", 7, "real")
    expected = {
        "profile": "eventual",
        "meta_ttl": "500ms",
        "attr_ttl": "meta_ttl",
        "name_ttl": "meta_ttl",
        "absent_ttl": "meta_ttl",
        "list_ttl": "meta_ttl",
        "create_delay": "write_delay",
        "write_delay": "250ms..1500ms",
        "rename_delay": "0ms",
        "drop_prob": 0.125,
        "read_your_writes": True,
        "max_in_flight": 4096,
        "max_mutations": 1000000,
        "max_belief": 67108864,
    }
    assert {name: status["knobs"][name] for name in expected} == expected


def test_a_profile_gives_every_time_that_is_not_given(backing: Path, mountpoint: Path) -> None:
    with mount(backing, mountpoint, profile="nfs4", options="acregmin=5", rename_delay=0.25) as client:
        knobs = client.status()["knobs"]
    names = ("profile", "attr_ttl", "write_delay", "rename_delay", "names_by")
    assert [knobs[name] for name in names] == ["nfs4", "5000ms", "30000ms", "250ms", "directory"]


def test_variables_count_only_where_nothing_is_given(
    backing: Path, mountpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHAOSFS_READ_YOUR_WRITES", "false")
    monkeypatch.setenv("CHAOSFS_META_TTL_MS", "1")
    monkeypatch.setenv("CHAOSFS_SEED", "11")
    with mount(backing, mountpoint) as client:
        status = client.status()
    assert status["seed"] == 11
    assert (status["knobs"]["read_your_writes"], status["knobs"]["meta_ttl"]) == (False, "1500ms")


def test_what_the_binary_refuses_is_one_error_with_its_line(backing: Path, mountpoint: Path) -> None:
    wrongs: list[tuple[Callable[[], AbstractContextManager[Client]], str]] = [
        (lambda: mount(backing, mountpoint / "absent"), "does not exist"),
        (lambda: mount(backing, mountpoint, client_id=""), "'client_id"),
        (
            lambda: mount(backing, mountpoint, kernel_cache=True, clock="manual"),
            "kernel_cache cannot be used with clock='manual': the kernel runs on real time",
        ),
        (
            lambda: mount(backing, mountpoint, kernel_cache=True, debug=True),
            "kernel_cache cannot be used with debug: ",
        ),
        (lambda: mount(backing, backing), "backing"),
    ]
    for wrong, line in wrongs:
        with pytest.raises(ChaosfsError) as refusal, wrong():
            pass
        assert line in str(refusal.value) and "\n" not in str(refusal.value), refusal.value
    assert issubclass(ChaosfsError, RuntimeError)


def test_what_a_client_refuses_is_said_in_the_words_of_this_package(backing: Path, mountpoint: Path) -> None:
    with mount(backing, mountpoint, kernel_cache=True) as client:
        assert client.status()["kernel_cache"]
        with pytest.raises(ChaosfsError, match="mount it with clock='manual' to move its clock"):
            client.advance(1)
        with pytest.raises(ChaosfsError, match="kernel_cache cannot be used with drop_prob: "):
            client.set(drop_prob=0.5)
        with pytest.raises(ChaosfsError, match="it was mounted with kernel_cache, "):
            client.expire()


def test_two_mounts_of_one_directory_need_no_names(backing: Path, mountpoint: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    with mount(backing, mountpoint) as first, mount(backing, other) as second:
        assert first.status()["client"] == "client"
        assert second.status()["client"].startswith("client")


def test_the_command_is_where_0_3_0_had_it(capfd: pytest.CaptureFixture[str]) -> None:
    cli.main(["--version"])
    assert capfd.readouterr().out == f"chaosfs {chaosfs.__version__}\n"
    with pytest.raises(SystemExit) as end:
        cli.main(["mount"])
    assert end.value.code == 2


def test_the_script_of_another_package_is_not_taken_for_the_binary(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "chaosfs"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    monkeypatch.setattr("chaosfs._process._folders", lambda: [str(tmp_path)])
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ChaosfsError, match="the package `chaosfs` has put its own command there"):
        binary()


def test_an_exception_ends_the_mount_and_comes_out(backing: Path, mountpoint: Path) -> None:
    with pytest.raises(ZeroDivisionError), mount(backing, mountpoint) as client:
        (client / "file").write_text("text")
        raise ZeroDivisionError
    assert not mountpoint.is_mount()
    assert (backing / "file").read_text() == "text"


def test_of_two_mounts_the_first_ends_if_the_second_cannot_begin(tmp_path: Path) -> None:
    (tmp_path / "reader").mkdir()
    (tmp_path / "reader" / "in the way").touch()
    with pytest.raises(ChaosfsError, match="not empty"), dual_mount(tmp_path):
        pass
    assert not (tmp_path / "writer").is_mount()


def test_a_mount_in_use_ends_all_the_same(backing: Path, mountpoint: Path) -> None:
    with mount(backing, mountpoint) as client:
        file = (client / "file").open("w")
        file.write("text")
        file.flush()
    assert not mountpoint.is_mount()
    assert (backing / "file").read_text() == "text"
    with pytest.raises(OSError):
        os.fstat(file.fileno())
    with pytest.raises(OSError):
        file.write("more")
        file.close()


def test_what_could_not_land_is_an_error_at_the_end(tmp_path: Path, mountpoint: Path) -> None:
    backing = tmp_path / "small"
    backing.mkdir()
    if os.geteuid() != 0:
        pytest.skip("a full backing directory takes a mount by root")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(backing)], check=True)
    try:
        with pytest.raises(ChaosfsError, match=r"could not land: /big: .*No space left on device"):
            with mount(backing, mountpoint, clock="manual") as client:
                (client / "big").write_bytes(bytes(1 << 20))
    finally:
        subprocess.run(["umount", str(backing)], check=True)


def test_who_unmounts_or_kills_the_client_first_harms_nobody(backing: Path, mountpoint: Path) -> None:
    with mount(backing, mountpoint) as client:
        os.kill(client.status()["pid"], signal.SIGKILL)
        with pytest.raises(OSError) as death:
            while True:
                os.listdir(client)
        assert death.value.errno in (errno.ENOTCONN, errno.ECONNABORTED)
        with pytest.raises(ChaosfsError, match="daemon"):
            client.flush()
    with mount(backing, mountpoint):
        subprocess.run(["umount", str(mountpoint)], check=True)


def test_a_forked_child_neither_hangs_nor_ends_the_mount(backing: Path, mountpoint: Path) -> None:
    done = python(
        """
        import os, sys
        from pathlib import Path
        from chaosfs import mount
        with mount(sys.argv[1], sys.argv[2]) as client:
            child = os.fork()
            if child == 0:
                (client / "child").write_text("text")
                sys.exit(7)     # through the end of the block and of the interpreter
            status = os.waitpid(child, 0)[1]
            assert os.waitstatus_to_exitcode(status) == 7, status
            assert client.is_mount() and (client / "child").read_text() == "text"
        assert not client.is_mount() and Path(sys.argv[1], "child").exists()
        """,
        backing,
        mountpoint,
    )
    assert done.returncode == 0, done.stderr


def test_subprocesses_of_many_threads_do_not_hang_on_a_mount(backing: Path, mountpoint: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    program = "import pathlib, sys; f = pathlib.Path(sys.argv[1]); f.write_text('x'); print(f.read_text())"
    with mount(backing, mountpoint, write_delay=0.01) as client, ThreadPoolExecutor(8) as pool:
        done = list(pool.map(lambda name: python(program, client / str(name)), range(24)))
    assert {(each.returncode, each.stdout) for each in done} == {(0, "x\n")}


ENDINGS = {
    "by exit": ("sys.exit(0)", 0),
    "by an exception": ("raise ValueError", 1),
    "by SIGKILL": ("os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL),
    "by SIGTERM": ("os.kill(os.getpid(), signal.SIGTERM)", -signal.SIGTERM),
    "by _exit": ("os._exit(3)", 3),
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_mount_ends_with_the_interpreter(ending: str, backing: Path, mountpoint: Path) -> None:
    end, status = ENDINGS[ending]
    done = python(
        f"""
        import os, signal, sys
        from chaosfs import mount
        held = mount(sys.argv[1], sys.argv[2], clock="manual")
        client = held.__enter__()
        (client / "file").write_text("text")
        print(client.status()["pid"], flush=True)
        {end}
        """,
        backing,
        mountpoint,
    )
    assert done.returncode == status, done.stderr
    assert eventually(lambda: has_ended(done.stdout.strip()))
    assert not mountpoint.is_mount()
    assert (backing / "file").read_text() == "text"


def test_a_child_that_lives_on_does_not_keep_the_mount(backing: Path, mountpoint: Path) -> None:
    done = python(
        """
        import os, signal, sys
        from chaosfs import mount
        held = mount(sys.argv[1], sys.argv[2], clock="manual")
        client = held.__enter__()
        (client / "file").write_text("text")
        gone, last = os.pipe()
        if os.fork() == 0:
            os.close(1), os.close(2), os.close(last)
            os.read(gone, 1)
            while os.path.ismount(client):
                pass
            os._exit(0)
        os.kill(os.getpid(), signal.SIGKILL)
        """,
        backing,
        mountpoint,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert eventually(lambda: (backing / "file").exists() and not mountpoint.is_mount())


def test_a_client_is_found_by_its_path_alone(backing: Path, tmp_path: Path) -> None:
    strange = tmp_path / "a mount\\point\n"
    strange.mkdir()
    with mount(backing, strange, clock="manual"):
        (strange / "file").touch()
        assert Client(strange).status()["in_flight"]["mutations"] == 1
        assert Client(strange).advance(1) == 1
    with pytest.raises(ChaosfsError, match="no chaosfs client is mounted here"):
        Client(tmp_path).status()


def test_steering_does_not_touch_the_client(backing: Path, tmp_path: Path, mountpoint: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    with mount(backing, tmp_path / "link" / mountpoint.name, clock="manual") as client:
        before = client.status()["operations"]
        client.advance(1)
        Client(tmp_path / "link" / mountpoint.name).flush()
        assert client.status()["operations"] == before


@pytest.mark.parametrize("separator", ["\f", "\v", "\r", "\x1c", "\x85", "\u2028", " - ", "\\012", "\n"])
def test_what_others_call_their_folders_is_no_line_of_the_mount_table(
    separator: str, backing: Path, mountpoint: Path, tmp_path: Path
) -> None:
    odd = tmp_path / f"odd{separator}name"
    odd.mkdir()
    (tmp_path / "other").mkdir()
    with mount(tmp_path / "other", odd) as other, mount(backing, mountpoint) as client:
        (client / "f").write_text("x")
        (other / "f").write_text("y")
        assert client.status()["mountpoint"] == str(mountpoint)
    assert (backing / "f").read_text() + (tmp_path / "other" / "f").read_text() == "xy"


def test_an_error_is_one_line_that_moves_no_cursor() -> None:
    error = ChaosfsError("é /x\x1b[2K\x9b1m\n: gone\u202e")
    assert str(error) == "é /x\\u{1b}[2K\\u{9b}1m\\u{a}: gone\\u{202e}"


def test_no_text_of_others_is_split_where_only_unicode_ends_a_line() -> None:
    sources = (Path(__file__).parents[1] / "src" / "chaosfs").glob("*.py")
    assert [path.name for path in sources if ".splitlines()" in path.read_text().replace("str.splitlines()", "")] == []


def test_the_command_is_installed_and_runs_as_a_module() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "chaosfs", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("chaosfs ")
    assert subprocess.run([sys.executable, "-m", "chaosfs", "--absent"], capture_output=True).returncode == 2


def test_the_binary_is_the_one_that_came_with_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CHAOSFS", raising=False)
    assert Path(binary()).parent == Path(sys.executable).parent
    monkeypatch.setenv("CHAOSFS", "/absent")
    with pytest.raises(ChaosfsError, match="^/absent: No such file or directory$"), mount("/", "/tmp"):
        pass


def test_what_could_not_land_by_the_end_of_the_interpreter_is_told(tmp_path: Path, mountpoint: Path) -> None:
    backing = tmp_path / "small"
    backing.mkdir()
    if os.geteuid() != 0:
        pytest.skip("a full backing directory takes a mount by root")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(backing)], check=True)
    try:
        done = python(
            """
            import sys
            from chaosfs import mount
            held = mount(sys.argv[1], sys.argv[2], clock="manual")
            (held.__enter__() / "big").write_bytes(bytes(1 << 20))
            """,
            backing,
            mountpoint,
        )
    finally:
        subprocess.run(["umount", str(backing)], check=True)
    assert "could not land" in done.stderr and not mountpoint.is_mount(), done
