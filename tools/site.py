"""The pages of the documentation as one folder that mkdocs can build: ``python -m tools.site DIRECTORY``.

The pages stay where a reader of the repository finds them. README, CONTRIBUTING and CHANGELOG become pages
too, what pages link to outside of ``docs`` comes along, and the reference is generated.
"""

from __future__ import annotations

import posixpath
import re
import shutil
import sys
from pathlib import Path, PurePosixPath

from tools import api_reference, documents

#: Pages from outside of ``docs``: where they are in the repository, and in the site.
MOVED = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changes.md"}
_LINK = re.compile(r"\]\(([^)\s]+)\)")


def gather(target: Path) -> None:
    """Write all pages into ``target``, which is made anew."""
    shutil.rmtree(target, ignore_errors=True)
    sources = [page for page in documents.pages() if page.startswith("docs/") or page in MOVED]
    for page in sources:
        place = target / in_site(page)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(with_links(page, documents.pages()[page], target))
    (target / "api.md").write_text(api_reference.page())


def in_site(path: str) -> str:
    """Where a file of the repository is in the site."""
    return MOVED.get(path) or path.removeprefix("docs/")


def with_links(page: str, text: str, target: Path) -> str:
    """The page with its links as the site needs them; files it links to outside of ``docs`` are copied."""

    def link(match: re.Match[str]) -> str:
        path, separator, anchor = match[1].partition("#")
        if not path or ":" in path:
            return match[0]
        source = posixpath.normpath(posixpath.join(posixpath.dirname(page), path))
        place = _brought(source, target)
        here = posixpath.dirname(in_site(page))
        return f"]({posixpath.relpath(place, here or '.')}{separator}{anchor})"

    return _LINK.sub(link, text)


def _brought(source: str, target: Path) -> str:
    """Where the site has this file or folder of the repository; a folder is shown as a list of its files."""
    found = documents.ROOT / source
    if source in MOVED or source.startswith("docs/"):
        return in_site(source)
    if found.is_dir():
        names = sorted(path.name for path in found.iterdir() if path.is_file())
        lines = [
            f"# {source}",
            "",
            *(f"- [{name}]({name})" for name in names if _brought(f"{source}/{name}", target)),
        ]
        listing = PurePosixPath(source, "index.md")
        (target / listing).write_text("\n".join(lines) + "\n")
        return str(listing)
    place = target / source
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(found, place)
    return source


def main() -> int:
    gather(Path(sys.argv[1]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
