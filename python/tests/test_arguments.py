"""Every argument of the package: times are the same everywhere, and what is wrong is one line that names it."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from chaosfs import ChaosfsError, Clients, advance, dual_mount, mount
from chaosfs._arguments import delay, nanoseconds

ANYWHERE = Path("/nowhere")

SPANS = [(0, 0), (0.5, 500), (Fraction(1, 4), 250), ("500ms", 500), ("1.5s", 1500), ("2m", 120_000), ("1s500ms", 1500)]


@pytest.mark.parametrize(("given", "millis"), SPANS)
def test_a_span_is_seconds_or_a_text_with_its_unit(given: object, millis: int) -> None:
    assert nanoseconds("it", given) == millis * 1_000_000


def test_times_are_taken_alike_everywhere(tmp_path: Path) -> None:
    with Clients(
        {"A": {"meta_ttl": "250ms"}}, clock="manual", write_delay="0.5s", rename_delay=("100ms", 0.25)
    ) as clients:
        (client,) = clients
        knobs = client.status()["knobs"]
        assert (knobs["meta_ttl"], knobs["write_delay"]) == ("250ms", "500ms")
        assert knobs["rename_delay"] == "100ms..250ms"
        (client / "file").touch()
        assert (client.advance("499ms"), clients.advance("1ms")) == (0, 1)
        client.set(meta_ttl="2s", write_delay="100ms..1s", rename_delay=[0.1, 0.2])  # type: ignore[arg-type]
        knobs = client.status()["knobs"]
        assert (knobs["meta_ttl"], knobs["write_delay"]) == ("2000ms", "100ms..1000ms")
    with dual_mount(tmp_path, writer_meta_ttl="1m") as (writer, _):
        assert writer.status()["knobs"]["meta_ttl"] == "60000ms"
    assert delay("it", "250us") == "0.25ms"


def entered(call: Callable[..., Any], *arguments: object, **named: object) -> Callable[[], None]:
    def enter() -> None:
        with call(*arguments, **named):
            pass

    return enter


def mounting(**named: object) -> Callable[[], None]:
    return entered(mount, ANYWHERE, ANYWHERE, **named)


#: Each wrong call, the kind of error that it also is, and how its line begins.
WRONG: list[tuple[Callable[[], object], type[Exception], str]] = [
    (lambda: advance("2", ANYWHERE), ValueError, "advance: '2' is not a span of time"),
    (lambda: advance("soon", ANYWHERE), ValueError, "advance: 'soon' is not a span of time"),
    (lambda: advance(None, ANYWHERE), TypeError, "advance: None is not a span"),  # type: ignore[arg-type]
    (lambda: advance(True, ANYWHERE), TypeError, "advance: True is not a span of time"),
    (lambda: advance(Decimal(1), ANYWHERE), TypeError, "advance: "),  # type: ignore[arg-type]
    (lambda: advance(float("nan"), ANYWHERE), ValueError, "advance: nan is not a span of time"),
    (lambda: advance(1e12, ANYWHERE), ValueError, "advance: 1000000000000.0 is not a span of time"),
    (lambda: advance(-1, ANYWHERE), ValueError, "advance: -1 is not a span of time"),
    (lambda: advance(1), ValueError, "advance: name the clients"),
    (lambda: advance(1, 5), TypeError, "advance: 5 is not a path"),  # type: ignore[arg-type]
    (lambda: Clients(2, meta_ttl="500"), ValueError, "meta_ttl: '500' is not a span of time; give seconds"),
    (lambda: Clients(2, meta_ttl=(1, 2)), TypeError, "meta_ttl: (1, 2) is not"),  # type: ignore[arg-type]
    (lambda: Clients(2, write_delay=(1, 2, 3)), ValueError, "write_delay: (1, 2, 3) is not a range"),  # type: ignore[arg-type]
    (lambda: Clients(2, write_delay="2s..1s"), ValueError, "write_delay: '2s..1s' runs backwards"),
    (lambda: Clients(2, write_delay="1..2s"), ValueError, "write_delay: '1' is not a span of time"),
    (lambda: Clients(2, drop_prob=2), ValueError, "drop_prob: 2 is not a probability"),
    (lambda: Clients(2, drop_prob="0.1"), TypeError, "drop_prob: '0.1' is not a prob"),  # type: ignore[arg-type]
    (lambda: Clients(2, read_your_writes="no"), TypeError, "read_your_writes: 'no' is"),  # type: ignore[arg-type]
    (lambda: Clients(2, max_in_flight=0), ValueError, "max_in_flight: 0 is not a whole number"),
    (lambda: Clients(2, max_mutations=1.5), TypeError, "max_mutations: 1.5 is not a whole"),  # type: ignore[arg-type]
    (lambda: Clients(2, speed=1), TypeError, "'speed' is not a knob; there are profile, "),  # type: ignore[call-arg]
    (lambda: Clients(2, seed=-1), ValueError, "seed: -1 is not a whole number from 0"),
    (lambda: Clients(2, seed="7"), TypeError, "seed: '7' is not a whole number"),  # type: ignore[arg-type]
    (lambda: Clients(2, clock="maybe"), ValueError, "clock: 'maybe' is not a clock"),  # type: ignore[arg-type]
    (lambda: Clients(2, kernel_cache=1), TypeError, "kernel_cache: 1 is neither True nor"),  # type: ignore[arg-type]
    (lambda: Clients(2, debug="yes"), TypeError, "debug: 'yes' is neither True nor"),  # type: ignore[arg-type]
    (lambda: Clients(2, log_dir=5), TypeError, "log_dir: 5 is not a path"),  # type: ignore[arg-type]
    (lambda: Clients(2, backing=b"x"), TypeError, "backing: b'x' is not a path"),  # type: ignore[arg-type]
    (lambda: Clients(2, base=5), TypeError, "base: 5 is not a path"),  # type: ignore[arg-type]
    (lambda: Clients(-1), ValueError, "clients: -1 is not a whole number from 0"),
    (lambda: Clients(2.0), TypeError, "clients: 2.0 is neither how many"),  # type: ignore[arg-type]
    (lambda: Clients(True), TypeError, "clients: True is neither how many"),
    (lambda: Clients([1, 2]), TypeError, "clients: 1 is not a text"),  # type: ignore[list-item]
    (lambda: Clients({"a": 5}), TypeError, "clients: 5 are not the knobs of 'a'"),
    (lambda: Clients({"a": {"meta_ttl": -1}}), ValueError, "meta_ttl: -1 is not a span of time"),
    (mounting(client_id=5), TypeError, "client_id: 5 is not a text"),
    (mounting(meta_ttl="1"), ValueError, "meta_ttl: '1' is not a span of time"),
    (mounting(seed="x"), TypeError, "seed: 'x' is not a whole number"),
    (entered(mount, None, ANYWHERE), TypeError, "backing_dir: None is not a path"),
    (entered(mount, ANYWHERE, None), TypeError, "mount_point: None is not a path"),
    (entered(dual_mount, 5), TypeError, "base_path: 5 is not a path"),
]


@pytest.mark.parametrize("wrong", range(len(WRONG)), ids=lambda number: WRONG[number][2])
def test_a_wrong_argument_is_one_line_that_names_it(wrong: int) -> None:
    call, kind, line = WRONG[wrong]
    with pytest.raises(ChaosfsError) as refusal:
        call()
    text = str(refusal.value)
    assert text.startswith(line) and "\n" not in text, text
    assert isinstance(refusal.value, kind)
