"""The pytest plugin, by running pytest on small suites."""

from __future__ import annotations

import pytest


def test_the_fixture_mounts_two_clients_or_what_markers_say(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest

        def test_two(chaosfs_clients):
            assert chaosfs_clients.names == ["A", "B"]

        @pytest.mark.chaosfs(["one", "two", "three"], clock="manual", write_delay=0.5)
        class TestMarked:
            def test_of_the_class(self, chaosfs_clients):
                assert chaosfs_clients.names == ["one", "two", "three"]
                status = chaosfs_clients["two"].status()
                assert (status["clock"], status["knobs"]["write_delay"]) == ("manual", "500ms")

            @pytest.mark.chaosfs(clients=1)
            def test_of_its_own(self, chaosfs_clients):
                (client,) = chaosfs_clients
                assert client.status()["clock"] == "manual"
        """
    )
    pytester.runpytest_subprocess("--strict-markers").assert_outcomes(passed=3)


def test_a_failure_is_told_with_seed_and_knobs(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.chaosfs(clients=2, seed=7, clock="manual", write_delay=0.5)
        def test_that_fails(chaosfs_clients):
            a, b = chaosfs_clients
            (a / "file").touch()
            assert (b / "file").exists()

        def test_that_passes(chaosfs_clients):
            pass
        """
    )
    result = pytester.runpytest_subprocess()
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        [
            "*- chaosfs -*",
            "seed 7: repeat it with CHAOSFS_SEED=7",
            "A: clock=manual * write_delay=500ms * in_flight=1 faults=0 conflicts=0 lost=0",
            "B: clock=manual *",
            "logs: /*/logs",
        ]
    )
    assert result.stdout.str().count("repeat it with") == 1


def test_a_wrong_marker_is_an_error_in_one_line(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.chaosfs(write_dealy=1)
        def test_it(chaosfs_clients):
            pass
        """
    )
    result = pytester.runpytest_subprocess()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["E * 'write_dealy' is not a knob; there are *"])
