"""Nothing a user can say is undocumented, and nothing documented does not exist."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from taskito.cli.main import COMMANDS, main
from taskito.config import settings
from taskito_core.plugin_discovery import HOOKS
from tools import documents

PAGES = documents.pages()


def leaves(name: str, command: click.Command) -> dict[str, click.Command]:
    """Every command that does something, by its full name."""
    if not isinstance(command, click.Group):
        return {name: command}
    context = click.Context(command)
    found = {}
    for inner in command.list_commands(context):
        child = command.get_command(context, inner)
        assert child is not None
        found |= leaves(f"{name} {inner}", child)
    return found


LEAVES = leaves("taskito", main)


@pytest.mark.parametrize("name", LEAVES)
def test_every_command_and_option_is_documented(name: str) -> None:
    page = PAGES["docs/commands.md"]
    assert f"\n## {name}\n" in page

    section = page.split(f"\n## {name}\n")[1].split("\n## ")[0]
    shared = page.split("\n## ")[0]
    for parameter in LEAVES[name].params:
        if isinstance(parameter, click.Option) and not parameter.hidden:
            longest = max(parameter.opts, key=len)
            assert f"`{longest}" in section or f"`{longest}" in shared, f"{name} {longest}"


def test_every_hook_is_documented_and_no_other() -> None:
    described = set(re.findall(r"^\| `(taskito_\w+)\(", PAGES["docs/plugins.md"], re.MULTILINE))

    assert described == set(HOOKS)


def test_every_setting_is_documented_with_its_variable() -> None:
    page = PAGES["docs/configuration.md"]

    missing = [
        name for name in settings.RULES if f"| `{name}` | `{settings.ENV_PREFIX}{name.upper()}` |" not in page
    ]

    assert missing == []


@pytest.mark.parametrize("page", PAGES)
def test_every_taskito_command_shown_exists(page: str) -> None:
    for words in documents.commands(page, PAGES[page]):
        if words[0] != "taskito" or "--version" in words:
            continue
        group: click.Command = main
        rest = words[1:]
        while isinstance(group, click.Group):
            child = group.get_command(click.Context(group), rest[0])
            assert child is not None, f"{page}: {' '.join(words)}"
            group, rest = child, rest[1:]
        # Parses without running: a wrong option raises here.
        group.make_context(words[1], list(rest), resilient_parsing=False).close()


@pytest.mark.parametrize("page", PAGES)
def test_links_between_pages_lead_somewhere(page: str) -> None:
    here = (documents.ROOT / page).parent
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", PAGES[page]):
        assert (here / target).exists(), f"{page} links to {target}"


@pytest.mark.parametrize("page", PAGES)
def test_every_python_block_is_formatted_to_fit_a_page(page: str) -> None:
    for block in documents.blocks(page, PAGES[page], "python"):
        assert max(map(len, block.text.splitlines()), default=0) <= 110, f"{page}:{block.line}"


def test_no_page_names_a_machine_of_ours() -> None:
    for page, text in PAGES.items():
        assert not re.search(r"/work/|/root/|/home/\w", text), page


def test_the_commands_of_the_readme_exist_in_the_makefile() -> None:
    makefile = (documents.ROOT / "Makefile").read_text()
    for text in PAGES.values():
        for target in re.findall(r"^\$ make (\w+)", text, re.MULTILINE):
            assert f"\n{target}:" in makefile


def test_lazily_imported_commands_are_all_there() -> None:
    assert {name.split()[1] for name in LEAVES} == set(COMMANDS)


def test_the_unit_and_the_compose_file_stop_the_worker_as_documented() -> None:
    deploy = Path(documents.ROOT, "examples", "deploy")
    unit = (deploy / "taskito-worker.service").read_text()
    compose = (deploy / "compose.yaml").read_text()

    assert "KillSignal=SIGINT" in unit
    assert "TimeoutStopSec=35" in unit
    assert "ExecStart=/opt/myapp/.venv/bin/taskito worker --app myapp:queue" in unit
    assert "stop_signal: SIGINT" in compose
    assert "stop_grace_period: 35s" in compose
