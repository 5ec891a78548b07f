"""The program that a worker's zygote and its spawned children are: it brings the app to the worker's code.

``python -m taskito.client.child_process zygote|child APP --…``; what follows the first word is the worker's
own (see ``worker/ipc/argv``). The worker imports no client, so importing the app is passed to it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

from taskito.worker.child import main as child
from taskito.worker.child import zygote
from taskito_core.errors import ConfigError

if TYPE_CHECKING:
    from taskito.worker.child.app import App
    from taskito.worker.ipc.app_manifest import AppManifest


def load(name: str) -> tuple[App, AppManifest]:
    """Import the app ``module:attribute``; the app, and its manifest for the supervisor."""
    # Imported late: until the process's signals and descriptors are set up, nothing else may take time.
    from taskito.client.load_app import load_app
    from taskito.client.manifest import manifest_of

    queue = load_app(name)
    return queue, manifest_of(queue, name)


def main(argv: Sequence[str]) -> NoReturn:
    """Become a zygote or a child."""
    match argv:
        case ["zygote", *arguments]:
            zygote.main(arguments, load)
        case ["child", *arguments]:
            child.main(arguments, load)
        case _:
            raise ConfigError(f"expected zygote or child and its arguments, got {list(argv)}")


if __name__ == "__main__":
    main(sys.argv[1:])
