"""The command lines of zygote and child."""

from __future__ import annotations

import pytest

from taskito.worker.ipc.argv import parse_child, parse_zygote
from taskito.worker.ipc.child_options import ChildOptions
from taskito_core.errors import ConfigError


def test_unknown_options_are_refused() -> None:
    with pytest.raises(ConfigError, match="channel"):
        parse_zygote(["app:queue", "--nonsense", "1"])
    with pytest.raises(ConfigError, match="APP"):
        parse_child([])
    words = ["--channel", "x", "--trace", "9", "--slots", "1", "--slot-count", "1", "--lifeline", "2"]
    with pytest.raises(ConfigError, match="whole numbers"):
        parse_zygote(["a:b", *words])
    with pytest.raises(ConfigError, match="options of a child"):
        parse_zygote(["a:b", "--options", '{"nonsense": 1}', "--channel", "1"])


def test_options_of_children_arrive_as_they_were_given() -> None:
    options = ChildOptions(log_level="debug", log_format="json", max_jobs=7)

    words = ["--channel", "3", "--trace", "9", "--slots", "4", "--slot-count", "5", "--lifeline", "6"]
    arguments = parse_zygote(["a:b", *words, "--options", options.to_argument()])

    assert arguments.options == options
