"""Which functions can be tasks, and under which name."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from taskito.serialization.import_path import module_name
from taskito_core.errors import ConfigError


def default_name(function: Callable[..., Any]) -> str:
    """The name of a task that was given none. Raises ConfigError if the function has none either."""
    try:
        return f"{module_name(function.__module__)}.{function.__qualname__}"
    except AttributeError:
        raise ConfigError(
            f"{described(function)} has no name of its own; give it one: queue.task(name=...)(...)"
        ) from None


def is_async(function: object) -> bool:
    """True if a call of it gives a coroutine, as far as can be known before."""
    return any(inspect.iscoroutinefunction(one) for one in _called(function))


def refuse_unfit(function: object) -> None:
    """Raise ConfigError for anything but what a job can call, and whose body runs when it is called."""
    if isinstance(function, classmethod):
        name = function.__func__.__qualname__
        raise ConfigError(f"{name} is a class method; below its class say queue.task({name})")
    if isinstance(function, str):
        raise ConfigError(f"a task must be a function; to name it say @queue.task(name={function!r})")
    if isinstance(function, type) or not callable(function):
        raise ConfigError(f"a task must be a function, got {function!r}")
    for one in _called(function):
        if inspect.isgeneratorfunction(one) or inspect.isasyncgenfunction(one):
            raise ConfigError(
                f"{described(function)} is a generator: calling it would run none of its body; "
                "return a list instead"
            )
    if _is_method(function):
        raise ConfigError(
            f"{described(function)} is a method, and a job has no object to call it on: make it a function "
            "that takes what it needs, or below its class make a task of one object's method, "
            f"as in queue.task(thing.{getattr(function, '__name__', 'method')})"
        )


def described(function: object) -> str:
    """A function by its name, and its place if it was written in Python."""
    code = getattr(function, "__code__", None)
    name = getattr(function, "__qualname__", repr(function))
    return f"{name} ({code.co_filename}:{code.co_firstlineno})" if code else name


def _called(function: object) -> tuple[object, ...]:
    """What is run when it is called: the function itself, or an object's ``__call__``."""
    return (function, function.__call__) if callable(function) else (function,)


def _is_method(function: Callable[..., Any]) -> bool:
    """True for a function that a class body made, and whose first argument is the object."""
    if not inspect.isfunction(function):
        return False
    around = function.__qualname__.rpartition(".")[0]
    if not around or around.endswith("<locals>"):
        return False
    return next(iter(inspect.signature(function).parameters), "") in ("self", "cls")
