"""The reference of what users import, as one page: made of signatures and docstrings."""

from __future__ import annotations

import enum
import inspect
import re
import typing
from collections.abc import Iterator
from typing import Any

import taskito

#: The chapters of the page, and what comes first in each; all the rest of ``taskito`` is in the last one.
CHAPTERS = {
    "The queue": ("Queue", "TaskOptions"),
    "Tasks and jobs": ("Task", "AsyncTask", "Call", "JobOptions", "JobSpec", "JobResult", "GroupResult"),
    "Inside a task": ("current_job", "JobContext", "TaskMiddleware"),
    "Canvas": ("Signature", "chain", "group", "chord", "chunks", "starmap", "FailedMember"),
    "Serializers": ("JsonSerializer", "PickleSerializer", "Serializer"),
}
ERRORS, RECORDS = "Exceptions", "Records"


def page() -> str:
    lines = [
        "# Reference",
        "",
        "Everything that users import from `taskito`, as its code says it. A default that is shown as `...`",
        "is [a setting](configuration.md). A method that waits for the store has a twin for coroutines, with",
        "an `a` before its name and the same arguments: `await queue.astats()`.",
        "",
    ]
    for chapter, names in chapters().items():
        lines += [f"## {chapter}", ""]
        for name in names:
            lines += entry(name, getattr(taskito, name))
    return "\n".join(lines).rstrip() + "\n"


def chapters() -> dict[str, list[str]]:
    """Every public name once."""
    found = {chapter: list(names) for chapter, names in CHAPTERS.items()}
    named = {name for names in found.values() for name in names}
    rest = [name for name in sorted(taskito.__all__) if name not in named and not name.startswith("_")]
    found[ERRORS] = [name for name in rest if _is(getattr(taskito, name), BaseException)]
    found[RECORDS] = [name for name in rest if name not in found[ERRORS]]
    return found


def entry(name: str, thing: Any) -> list[str]:
    """A heading, the signature, the docstring; of a class also its members."""
    lines = [f"### {name}", ""]
    if not isinstance(thing, type):
        thing = type(thing) if not callable(thing) else thing
    if isinstance(thing, type) and _is(thing, BaseException):
        bases = [base.__name__ for base in thing.__bases__]
        lines += [f"`class {name}({', '.join(bases)})`", ""]
    elif isinstance(thing, type) and _is(thing, enum.Enum):
        values = [f"`{member.value}`" for member in vars(thing)["_member_map_"].values()]
        lines += [f"`class {name}`: {', '.join(values)}", ""]
    elif signature := _signature(name, thing):
        lines += [*_code(signature)]
    lines += _prose(thing)
    if isinstance(thing, type) and not _is(thing, enum.Enum):
        found = dict(members(thing))
        for member, value in found.items():
            if _is_twin(member, value, found):
                continue
            lines += [f"#### {name}.{member}", ""]
            if signature := _signature(member, value):
                lines += [*_code(signature)]
            lines += _prose(value)
            if (twin := f"a{member}") in found and _is_twin(twin, found[twin], found):
                lines += [f"In coroutines: `await {twin}(...)`.", ""]
    return lines


def _is_twin(name: str, method: Any, others: dict[str, Any]) -> bool:
    """Does the same without blocking an event loop."""
    return (
        name[:1] == "a"
        and name[1:] in others
        and (inspect.getdoc(method) or "").startswith(f"``{name[1:]}``")
    )


def members(cls: type) -> Iterator[tuple[str, Any]]:
    """Public methods and properties, in the order of the code, with those of bases that are ours."""
    seen: set[str] = set()
    for base in cls.__mro__:
        if not base.__module__.startswith("taskito"):
            continue
        for name, value in vars(base).items():
            if name.startswith("_") or name in seen or typing.is_typeddict(cls):
                continue
            seen.add(name)
            member = getattr(value, "__func__", value)
            if isinstance(member, property) or (inspect.isroutine(member) and inspect.getdoc(member)):
                yield name, member


def _signature(name: str, thing: Any) -> str:
    if isinstance(thing, property):
        getter = thing.fget
        returns = inspect.signature(getter).return_annotation if getter else inspect.Signature.empty
        return f"{name}: {_plain(returns)}" if returns is not inspect.Signature.empty else name
    if typing.is_typeddict(thing):
        return (
            f"{name}(\n"
            + "".join(f"    {key}: {_plain(it)},\n" for key, it in thing.__annotations__.items())
            + ")"
        )
    try:
        signature = inspect.signature(thing)
    except (TypeError, ValueError):
        return ""
    parts: list[str] = []
    before: Any = None
    for parameter in signature.parameters.values():
        if parameter.name == "self":
            continue
        kind = parameter.kind
        if before is parameter.POSITIONAL_ONLY and kind is not before:
            parts.append("/")
        if kind is parameter.KEYWORD_ONLY and before not in (kind, parameter.VAR_POSITIONAL):
            parts.append("*")
        before = kind
        parts.append(_parameter(parameter))
    if before is inspect.Parameter.POSITIONAL_ONLY:
        parts.append("/")
    returns = _plain(signature.return_annotation)
    end = (
        ""
        if isinstance(thing, type) or signature.return_annotation is inspect.Signature.empty
        else f" -> {returns}"
    )
    line = f"{name}({', '.join(parts)}){end}"
    return line if len(line) <= 88 else f"{name}(\n" + "".join(f"    {part},\n" for part in parts) + f"){end}"


def _parameter(parameter: inspect.Parameter) -> str:
    stars = 1 if parameter.kind is parameter.VAR_POSITIONAL else 2
    text = parameter.name
    if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
        text = "*" * stars + text
    typed = parameter.annotation is not inspect.Parameter.empty
    if typed:
        text += f": {_plain(parameter.annotation)}"
    if parameter.default is inspect.Parameter.empty:
        return text
    default = "..." if "UNSET" in repr(parameter.default) else repr(parameter.default)
    return f"{text} = {default}" if typed else f"{text}={default}"


def _plain(annotation: Any) -> str:
    """As a person would write it: without quotes, module names, and the value that stands for nothing."""
    text = str(getattr(annotation, "__forward_arg__", annotation))
    if isinstance(annotation, type):
        text = annotation.__qualname__
    text = re.sub(r"\b(?:typing|collections\.abc|datetime|taskito\.\w+(?:\.\w+)*)\.(?=[A-Z])", "", text)
    return text.strip("'").replace(" | Unset", "").replace("Unset | ", "")


def _code(text: str) -> list[str]:
    return ["```text", text, "```", ""]


def _prose(thing: Any) -> list[str]:
    text = inspect.getdoc(thing) or ""
    return [text, ""] if text else []


def _is(thing: Any, base: type) -> bool:
    return isinstance(thing, type) and issubclass(thing, base)
