"""Forks: an object stays on its side, and the close of one side does not harm the other."""

from __future__ import annotations

import os

import pytest

from taskito_testing.conformance.base import ConformanceBase
from taskito_testing.conformance.processes import Actors

_needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")


class Forking(ConformanceBase):
    @_needs_fork
    def test_a_storage_carried_across_a_fork_is_refused_in_the_child(self, lone_process: Actors) -> None:
        actor = lone_process.start("use_after_fork")
        actor.go()

        in_child, in_parent, stored = actor.hear(), actor.hear(), actor.hear()

        assert in_child.startswith("refused: ")
        assert in_parent == "stored"
        assert stored == ["after", "before"]

    @_needs_fork
    def test_closing_what_came_across_a_fork_harms_the_parent_in_nothing(self, lone_process: Actors) -> None:
        actor = lone_process.start("close_in_child")
        actor.go()

        in_child, stored = actor.hear(), actor.hear()

        assert not in_child.startswith("escaped: ")
        assert stored == ["after", "before"]

    @_needs_fork
    @pytest.mark.parametrize("first", ["parent", "child"])
    def test_both_sides_of_a_fork_see_each_others_jobs_whoever_closes_first(
        self, processes: Actors, first: str
    ) -> None:
        actor = processes.start("open_on_both_sides", first=first)
        actor.go()

        assert actor.hear() == sorted(
            ["before", "child", "parent", f"{'child' if first == 'parent' else 'parent'}-late"]
        )
