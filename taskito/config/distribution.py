"""Is the package ``taskito`` that Python imports ours?

On PyPI the distribution ``taskito`` is another product. It installs a package and a command of the same
names: what was installed last has overwritten files of the other; uninstalling one takes them from both.
"""

from __future__ import annotations

import functools
import logging
import sys

import taskito_core

log = logging.getLogger("taskito")

_ADVICE = (
    "another product with the same import name and command; keep one of them. To keep this one: "
    "pip uninstall taskito, then pip install --force-reinstall --no-deps taskito-core"
)


def refuse_other() -> None:
    """End the program with a sentence if the package ``taskito`` is the other product's."""
    if getattr(sys.modules["taskito"], "ConfigError", None) is not taskito_core.ConfigError:
        sys.stderr.write(
            "Error: the package 'taskito' that Python imports here is not that of taskito-core, but of the "
            f"distribution 'taskito', {_ADVICE}\n"
        )
        raise SystemExit(2)


@functools.cache
def warn_of_other() -> None:
    """Say once if the other product is installed too; it could not have been imported as well."""
    # As late as the plugins, which need it too: a program that only asks for help does not.
    from importlib.metadata import PackageNotFoundError, version

    try:
        found = version("taskito")
    except PackageNotFoundError:
        return
    log.warning("the distribution 'taskito' %s is installed beside taskito-core: %s", found, _ADVICE)
