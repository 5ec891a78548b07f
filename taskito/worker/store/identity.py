"""Names that are never used twice: a worker's id and the tokens of its claims."""

from __future__ import annotations

import secrets
import socket


class TokenMint:
    """Claim tokens: 31 random bits for this process's life, then a counter, in a signed 64-bit number.

    Not a sequence of the store and not an attempt number: after a claim is lost in a crash of the
    database, both of those would be issued again.
    """

    def __init__(self) -> None:
        self._next = secrets.randbits(31) << 32

    def draw(self) -> int:
        self._next += 1
        return self._next


def new_worker_id() -> str:
    """Tells a person where it runs, and is never used twice."""
    return f"{socket.gethostname()}-{secrets.token_hex(6)}"
