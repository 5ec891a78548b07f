"""PickleSerializer opens only what somebody with the key has closed."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import pytest

from taskito import ConfigError, JsonSerializer, PickleSerializer, SerializationError
from taskito.serialization.serializers import dump_call, load_call

serializer = PickleSerializer(key="a secret")


class Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (self.path,)


def test_values_that_json_refuses_come_back() -> None:
    args = [1j, {"a": object}, Path("x")]

    assert load_call(serializer, dump_call(serializer, args, {"b": range(3)}))[:2] == (args, {"b": range(3)})


@pytest.mark.parametrize("key", [None, "", b"", 7])
def test_without_a_key_there_is_no_pickle(key: Any) -> None:
    with pytest.raises(ConfigError, match="needs a key"):
        PickleSerializer(key=key)


def test_bytes_and_text_are_the_same_key_and_are_never_shown() -> None:
    assert PickleSerializer(key=b"a secret").loads(serializer.dumps(1)) == 1
    assert "secret" not in repr(serializer)


def test_a_wrong_signature_is_refused_before_anything_is_unpickled(tmp_path: Path) -> None:
    target = tmp_path / "made"
    bomb = pickle.dumps(Bomb(target))
    good = serializer.dumps(1)
    forged = good[: -len(pickle.dumps(1, protocol=5))] + bomb
    other = PickleSerializer(key="another").dumps(Bomb(target))

    for data in (forged, other, good[:-1], good[:20]):
        with pytest.raises(SerializationError, match="signature does not match"):
            serializer.loads(data)
    for data in (bomb, b"", b"null"):
        with pytest.raises(SerializationError, match="not written by a PickleSerializer"):
            serializer.loads(data)
    assert not target.exists()


def test_what_cannot_be_pickled_or_found_is_a_serialization_error() -> None:
    with pytest.raises(SerializationError, match="cannot pickle a function"):
        serializer.dumps(lambda: None)
    gone = b"cnowhere\nThing\n."
    with pytest.raises(SerializationError, match="cannot unpickle: ModuleNotFoundError"):
        serializer.loads(b"taskito-pickle-1\0" + serializer._sign(gone) + gone)


def test_a_coroutine_is_to_be_awaited_before_it_is_passed_on() -> None:
    async def fetch() -> None: ...

    coroutine = fetch()
    with pytest.raises(SerializationError, match="coroutine has no form in JSON; await it first"):
        JsonSerializer().dumps([coroutine])
    coroutine.close()
