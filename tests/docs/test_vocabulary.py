"""One word per thing: retired words are in no name, and every noun of the public names is in the glossary."""

from __future__ import annotations

import re

import pytest

import taskito
import taskito_core
import taskito_testing
from tools import documents, sources

GLOSSARY = documents.pages()["docs/glossary.md"]

#: A retired word, and what to say instead. Plurals count too.
RETIRED = {
    "aftermath": "cascade",
    "bell": "address or wakeup",
    "chance": "rng",
    "custody": "inbox",
    "desk": "store client",
    "disown": "revoke",
    "door": "base or connection",
    "doorbell": "wakeup",
    "ear": "wakeups",
    "errand": "store thread",
    "gatekeeper": "admission",
    "look": "check, read or poll",
    "looking": "checking, reading or polling",
    "lookout": "commit watch",
    "notebook": "job log",
    "notice": "failure event",
    "nursery": "spawner",
    "places": "slot or concurrency",
    "ripple": "cascade",
    "stray": "unguarded claim, orphan claim or descendant",
    "turn": "step, round trip or write lock",
    "verdict": "result",
    "visit": "exchange",
    "worn": "recycle",
}
#: Retired words that the field does not use at all: they are in no comment, docstring or page.
HOUSE_WORDS = (
    "aftermath",
    "custody",
    "desk",
    "disown",
    "doorbell",
    "errand",
    "gatekeeper",
    "lookout",
    "nursery",
    "ripple",
    "verdict",
)
#: The one file where writers do take turns.
WRITE_LOCK = "plugins/taskito_sqlite/file/write_lock.py"

#: The public names whose head nouns the glossary defines.
PUBLIC = {module.__name__: module for module in (taskito, taskito_core, taskito_testing)}


def retired(name: sources.Name) -> list[str]:
    """The retired words of a name, in the singular."""
    found = [word if word in RETIRED else singular(word) for word in sources.words(name.name)]
    return [word for word in found if word in RETIRED and (word != "turn" or name.file != WRITE_LOCK)]


def singular(word: str) -> str:
    if word.endswith("ies"):
        return word.removesuffix("ies") + "y"
    return word if word.endswith("ss") else word.removesuffix("s")


def defined() -> set[str]:
    """What the glossary defines or lists: the words that are bold there, in lower case and the singular."""
    terms = re.findall(r"\*\*(.+?)\*\*", GLOSSARY)
    return {singular(word) for term in terms for word in sources.words(term)}


def unknown(*words: str) -> list[str]:
    return sorted({singular(word) for word in words} - defined())


def test_no_module_class_or_function_is_named_with_a_retired_word() -> None:
    offending = [
        f"{name}: say {RETIRED[word]} instead of {word}"
        for name in sources.names(*sources.PACKAGES)
        for word in retired(name)
    ]

    assert offending == [], "retired words, see docs/glossary.md:\n" + "\n".join(offending)


def test_no_comment_docstring_or_page_says_a_word_of_this_house_alone() -> None:
    texts = {file: path.read_text() for file, path in sources.files(*sources.PACKAGES).items()}
    texts |= {
        page: text
        for page, text in documents.pages().items()
        if "glossary" not in page and "decisions/" not in page
    }
    pattern = re.compile(rf"\b({'|'.join(HOUSE_WORDS)})s?\b", re.IGNORECASE)

    found = [
        f"{file}:{number}: {word}"
        for file, text in texts.items()
        for number, line in enumerate(text.splitlines(), 1)
        for word in pattern.findall(line)
    ]
    assert found == [], "retired words, see docs/glossary.md:\n" + "\n".join(found)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("StoreDesk", ["desk"]),
        ("_run_errands", ["errand"]),
        ("doorbell", ["doorbell"]),
        ("looks", ["look"]),
        ("returned", []),
        ("year", []),
        ("EARS", ["ear"]),
    ],
)
def test_a_retired_word_is_found_in_every_spelling_and_in_no_other_word(name: str, found: list[str]) -> None:
    assert retired(sources.Name("module.py", 1, "function", name)) == found


def test_writers_may_take_turns_in_the_write_lock_and_nowhere_else() -> None:
    assert retired(sources.Name(WRITE_LOCK, 1, "class", "Turn")) == []
    assert retired(sources.Name("taskito/worker/supervisor/loop.py", 1, "function", "turn")) == ["turn"]


def test_the_glossary_lists_every_retired_word_with_what_to_say_instead_and_no_other() -> None:
    section = GLOSSARY.split("\n## Retired words\n")[1]
    listed = dict(re.findall(r"^\| ([a-z]+) \| (.+) \|$", section.split("|---|---|\n")[1], re.MULTILINE))

    assert listed == RETIRED


@pytest.mark.parametrize("package", PUBLIC)
def test_the_head_noun_of_every_public_class_is_in_the_glossary(package: str) -> None:
    module = PUBLIC[package]
    classes = [name for name in module.__all__ if isinstance(getattr(module, name), type)]

    assert unknown(*(sources.words(name)[-1] for name in classes)) == []


def test_the_head_noun_of_every_class_of_the_runtime_and_the_backends_is_in_the_glossary() -> None:
    """But for the kit, whose classes are topics of its suites."""
    packages = [package for package in sources.PACKAGES if package != "plugins/taskito_testing"]

    missing = [
        f"{name}: {word}"
        for name in sources.names(*packages)
        if name.kind == "class" and not name.name.startswith("_")
        for word in unknown(sources.words(name.name)[-1])
    ]
    assert missing == [], "not in docs/glossary.md:\n" + "\n".join(missing)


def test_every_module_of_the_core_and_the_runtime_is_named_with_words_of_the_glossary() -> None:
    missing = [
        f"{name}: {word}"
        for name in sources.names("taskito_core", "taskito")
        if name.kind == "module"
        for word in unknown(*sources.words(name.name))
    ]
    assert missing == [], "not in docs/glossary.md:\n" + "\n".join(missing)
