"""Hiding passwords in whatever is about to be shown.

Where a text is ambiguous more is hidden than need be: a masked host name costs a
moment, a shown password costs a password. Nothing here raises for malformed input.
"""

from __future__ import annotations

import re
from urllib.parse import unquote

MASK = "***"

# `passfile` and `sslkey` name files, and the file is what an operator needs.
_SECRET = re.compile(r"pass(?!file)|pwd|secret|token|scram_\w*key|api_?key", re.IGNORECASE)
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*)://(.*)", re.DOTALL)
# key = value as libpq reads it: a quoted value may hold spaces, a backslash takes the next character along.
# Words that follow without a key of their own belong to a value that was not quoted.
_PAIR = re.compile(
    r"([A-Za-z_][\w.\-]*)(\s*=\s*)"
    r"('(?:\\.|[^'\\])*(?:'|$)|(?:\\.|[^\s\\])*)"
    r"((?:\s+(?![\w.\-]+\s*=)\S+)*)",
    re.DOTALL,
)
_IN_TEXT = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*://\S+")
_SECRET_IN_TEXT = re.compile(
    r"(\b\w*(?:password|passwd|pwd)\s*=\s*)('(?:\\.|[^'\\])*(?:'|$)|[^\s&,;)\"]+)", re.IGNORECASE | re.DOTALL
)


def mask_url(url: str) -> str:
    """``url`` with every password replaced: in ``scheme://user:password@…``, in ``?password=…`` and in
    ``key=value`` connection strings, also where special characters were not escaped."""
    match = _URL.fullmatch(url.strip())
    if _PAIR.match(url.strip()):
        return _PAIR.sub(_mask_pair, url)
    if match is None:
        return _mask_authority(url, "@" in url)  # not a URL, but perhaps it was to be one
    scheme, rest = match.groups()
    had_credentials = "@" in rest
    rest = _mask_query(rest)
    return f"{scheme}://{_mask_authority(rest, had_credentials)}"


def mask_text(text: str) -> str:
    """Running text (a log line, a traceback) with the passwords in URLs and settings it quotes replaced."""
    if "://" in text:
        text = _IN_TEXT.sub(lambda found: mask_url(found[0]), text)
    return _SECRET_IN_TEXT.sub(rf"\g<1>{MASK}", text) if "=" in text else text


def _mask_pair(found: re.Match[str]) -> str:
    key, equals, value, stray = found.groups()
    if _SECRET.search(key):
        return f"{key}{equals}{MASK}"
    if "://" in value:
        value = mask_url(value)
    return f"{key}{equals}{value}{stray}"


def _mask_query(rest: str) -> str:
    """Mask secret parameters. libpq decodes parameter names, so ``pass%77ord`` is a password too."""
    head, question, query = rest.partition("?")
    if not question:
        return rest
    shown: list[str] = []
    hiding = False
    for part in query.split("&"):
        key, equals, _ = part.partition("=")
        if equals:
            hiding = bool(_SECRET.search(unquote(key)))
            shown.append(f"{key}={MASK}" if hiding else part)
        elif not hiding:  # behind a secret, a part without a name is the rest of an unescaped secret
            shown.append(part)
    return f"{head}?{'&'.join(shown)}"


def _mask_authority(rest: str, had_credentials: bool) -> str:
    """Mask the password between the first colon and the LAST at-sign: it may hold any character raw."""
    user_info, at, tail = rest.rpartition("@")
    if at:
        user, colon, _ = user_info.partition(":")
        return f"{user}:{MASK}@{tail}" if colon else rest
    host, colon, after = rest.partition(":")
    if had_credentials and colon and "[" not in host:
        # The at-sign went with a masked parameter, so this may be `user:password` and not `host:port`.
        port = re.match(r"\d{1,5}(?=[/?,]|$)", after)
        return rest if port else f"{host}:{MASK}"
    return rest
