"""``Clients`` and steering. Time is moved by hand: nothing here sleeps."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from chaosfs import ChaosfsError, Clients, advance, dual_mount


def test_clients_are_named_and_everything_goes_at_the_end() -> None:
    with Clients(3, clock="manual") as clients:
        a, b, c = clients
        assert clients.names == ["A", "B", "C"] and len(clients) == 3
        assert (clients["A"], clients["C"]) == (a, c)
        assert [client.is_mount() for client in clients] == [True] * 3
        (b / "file").touch()
        base = clients.backing.parent
        assert not (clients.backing / "file").exists()
    assert not base.exists()


def test_each_client_has_knobs_of_its_own_over_the_common_ones(tmp_path: Path) -> None:
    with Clients({"writer": {}, "reader": {"meta_ttl": 5}}, write_delay=0.25, base=tmp_path) as clients:
        knobs = [client.status()["knobs"] for client in clients]
    assert [(each["meta_ttl"], each["write_delay"]) for each in knobs] == [
        ("1500ms", "250ms"),
        ("5000ms", "250ms"),
    ]
    assert clients.names == ["writer", "reader"]
    assert (tmp_path / "logs" / "reader.log").exists()


def test_all_draw_from_one_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    with Clients(2) as clients:
        assert len({client.status()["seed"] for client in clients}) == 1
    monkeypatch.setenv("CHAOSFS_SEED", "5")
    with Clients(1) as clients:
        assert clients["A"].status()["seed"] == 5
    with Clients(1, seed=6) as clients:
        assert clients["A"].status()["seed"] == 6


def test_a_backing_directory_of_ones_own_stays(backing: Path) -> None:
    with Clients(["only"], backing=backing) as (client,):
        (client / "file").write_text("text")
    assert (backing / "file").read_text() == "text"


def test_mistakes_are_told_before_anything_is_mounted() -> None:
    for clients, line in [(0, "at least one"), (["a", "a"], "two clients"), (["../a"], "cannot be named")]:
        with pytest.raises(ValueError, match=line):
            Clients(clients)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="'write_dealy' is not a knob; there are profile, time_scale"):
        Clients(2, write_dealy=1)  # type: ignore[call-arg]


def test_an_exception_comes_out_and_nothing_stays() -> None:
    with pytest.raises(KeyError), Clients(2) as clients:
        base = clients.backing.parent
        clients["Z"]
    assert not base.exists()


def test_time_is_moved_by_hand_and_lands_what_is_due() -> None:
    with Clients(2, clock="manual", write_delay=0.8, meta_ttl=1.5) as clients:
        a, b = clients
        assert os.listdir(b) == []
        (a / "file").write_text("text")
        assert clients.advance(0.7999) == 0
        assert not (clients.backing / "file").exists()
        assert clients.advance(0.0001) == 2
        assert (clients.backing / "file").read_text() == "text"
        assert os.listdir(b) == []
        clients.advance(0.7)
        assert os.listdir(b) == ["file"]


def test_clients_behave_like_the_storage_of_a_profile() -> None:
    with Clients({"a": {}, "b": {"options": "acdirmin=10"}}, profile="nfs4", time_scale=0.5, clock="manual") as (a, b):
        assert not (b / "flag").exists()
        time.sleep(0.03)  # the clock of the store ticks
        (a / "flag").write_text("set")
        b.advance(4.9)
        assert not (b / "flag").exists()
        b.advance(0.1)
        assert (b / "flag").exists()
        knobs = b.status()["knobs"]
        assert (knobs["profile"], knobs["dir_attr_ttl"], knobs["time_scale"]) == ("nfs4", "5000ms", 0.5)
    with pytest.raises(ChaosfsError, match="`nfs5` is not a profile"), Clients(2, profile="nfs5"):
        pass
    with pytest.raises(ValueError, match="time_scale: 0 is not a factor"):
        Clients(2, time_scale=0)


def test_clocks_move_together_in_due_order_across_clients() -> None:
    with Clients({"A": {"write_delay": 3.0}, "B": {"write_delay": 1.0}}, clock="manual") as clients:
        a, b = clients
        (a / "file").write_text("late")
        (b / "file").write_text("early")
        assert advance(5, b, a) == 4
        assert (clients.backing / "file").read_text() == "late"
        assert a.status()["uptime_ms"] == b.status()["uptime_ms"] == 5000


def test_a_real_clock_is_not_moved(tmp_path: Path) -> None:
    with dual_mount(tmp_path) as (writer, _), pytest.raises(ChaosfsError, match="clock"):
        writer.advance(1)
    with pytest.raises(ValueError, match="-1 is not a span"):
        advance(-1, tmp_path)


def test_every_verb_does_what_it_says() -> None:
    with Clients(2, clock="manual") as clients:
        a, b = clients
        a.hold()
        (a / "file").touch()
        clients.advance(10)
        assert a.status()["held"] and a.status()["in_flight"]["mutations"] == 1
        a.release()
        assert not a.status()["held"] and (clients.backing / "file").exists()

        assert os.listdir(b) == ["file"]
        (a / "other").touch()
        assert a.flush() == 1
        assert os.listdir(b) == ["file"]
        b.expire()
        assert sorted(os.listdir(b)) == ["file", "other"]

        (a / "lost").touch()
        assert a.lose() == ["/lost: create"]
        assert not (a / "lost").exists() and a.status()["dropped"] == 1

        a.set(write_delay=0, rename_delay=(0.5, 1), read_your_writes=False)
        knobs = a.status()["knobs"]
        assert (knobs["write_delay"], knobs["rename_delay"]) == ("0ms", "500ms..1000ms")
        assert knobs["read_your_writes"] is False
        with pytest.raises(ChaosfsError, match="drop_prob: 2 is not a probability"):
            a.set(drop_prob=2, meta_ttl=9)
        assert a.status()["knobs"]["meta_ttl"] == "1500ms"
        a.set(attr_ttl=3, create_delay="2s")
        knobs = a.status()["knobs"]
        assert (knobs["attr_ttl"], knobs["name_ttl"], knobs["create_delay"]) == ("3000ms", "meta_ttl", "2000ms")
        a.set(attr_ttl="meta_ttl")
        assert a.status()["knobs"]["attr_ttl"] == "meta_ttl"
        with pytest.raises(TypeError, match="'speed' is not a knob"):
            a.set(speed=1)  # type: ignore[call-arg]


def test_every_verb_is_there_for_all_clients_at_once() -> None:
    with Clients(2, clock="manual") as clients:
        a, b = clients
        clients.hold()
        (a / "file").touch()
        (b / "other").mkdir()
        clients.advance("1h")
        statuses = clients.status()
        assert {name: status["held"] for name, status in statuses.items()} == {"A": True, "B": True}
        assert statuses["B"]["in_flight"]["mutations"] == 1
        clients.release()
        assert sorted(os.listdir(clients.backing)) == ["file", "other"]

        assert sorted(os.listdir(a)) == sorted(os.listdir(b)) == ["file", "other"]
        (a / "third").touch()
        assert clients.flush() == 1
        assert "third" not in os.listdir(b)
        clients.expire()
        assert "third" in os.listdir(b)

        (b / "lost").touch()
        assert clients.lose() == {"A": [], "B": ["/lost: create"]}
        clients.set(write_delay=0)
        with pytest.raises(ValueError, match="^meta_ttl: -1 is not a span of time"):
            clients.set(meta_ttl=-1)
        (b / "through").touch()
        assert (clients.backing / "through").exists()


def test_what_one_client_refuses_the_others_do_all_the_same(tmp_path: Path) -> None:
    with Clients(2, base=tmp_path, clock="manual") as clients:
        a, b = clients
        os.kill(a.status()["pid"], signal.SIGKILL)
        with pytest.raises(ChaosfsError, match="/A: its daemon"):
            clients.hold()
        assert b.status()["held"]


def test_a_client_that_is_not_there_is_named_with_those_that_are() -> None:
    clients = Clients(2)
    for error in (KeyError, ChaosfsError):
        with pytest.raises(error) as refusal:
            clients["Z"]
        assert str(refusal.value) == "there is no client 'Z'; there are A, B"
    for use in (lambda: clients["A"], lambda: clients.advance(1), clients.hold, lambda: list(clients)):
        with pytest.raises(ChaosfsError, match="not mounted; use them in a `with` block"):
            use()


@pytest.mark.skipif(sys.version_info < (3, 11), reason="exceptions have no notes")
def test_an_exception_tells_what_repeats_it(tmp_path: Path) -> None:
    def notes(error: Exception) -> list[str]:
        return list(getattr(error, "__notes__", []))

    with pytest.raises(ZeroDivisionError) as failure, Clients(1, seed=7, clock="manual", log_dir=tmp_path) as clients:
        (clients["A"] / "file").touch()
        raise ZeroDivisionError
    seed, client, logs = notes(failure.value)
    assert (seed, logs) == ("seed 7: repeat it with CHAOSFS_SEED=7", f"logs: {tmp_path}")
    assert client.startswith("A: clock=manual ") and client.endswith(" in_flight=1 faults=0 conflicts=0 lost=0")
    with pytest.raises(ZeroDivisionError) as failure, dual_mount(tmp_path) as (writer, reader):
        assert writer.status()["seed"] == reader.status()["seed"]
        raise ZeroDivisionError
    assert [note.split(":")[0] for note in notes(failure.value)][1::2] == ["reader", "writer"]
    with pytest.raises(ZeroDivisionError) as failure, Clients(1):
        raise ZeroDivisionError
    assert len(notes(failure.value)) == 2


def test_debug_logs_every_operation(tmp_path: Path) -> None:
    with Clients(1, base=tmp_path, debug=True) as (client,):
        (client / "file").touch()
    assert "event=operation op=create path=/file" in (tmp_path / "logs" / "A.log").read_text()


def test_faults_come_as_asked_for() -> None:
    with Clients(1, drop_prob=1.0) as (client,):
        with pytest.raises(OSError):
            (client / "file").touch()
        assert client.status()["faults"] > 0


def test_many_clients_come_and_go() -> None:
    begin = time.monotonic()
    with Clients(64, clock="manual") as clients:
        assert clients.names[25:28] == ["Z", "AA", "AB"]
        for client in clients:
            (client / client.name).touch()
        clients.advance(1)
        assert sorted(os.listdir(clients.backing)) == sorted(clients.names)
    print(f"64 clients: {time.monotonic() - begin:.2f} s")


def race() -> tuple[str, ...]:
    """Two workers on two hosts take one job: who has it, who does the storage say has it, and what each log tells."""
    with Clients(2, clock="manual") as clients:
        winners = []
        for client in clients:
            try:
                (client / "job").mkdir()
                (client / "job" / "owner").write_text(client.name)
                winners.append(client.name)
            except FileExistsError:
                pass
        clients.advance(0.8)
        clients.advance(0.4)
        owner = (clients.backing / "job" / "owner").read_text()
        return (*winners, owner, *(str(client.status()["conflicts"]) for client in clients))


def test_a_race_on_the_manual_clock_has_one_outcome() -> None:
    assert {race() for _ in range(200)} == {("A", "B", "B", "0", "2")}
