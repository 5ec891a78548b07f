"""A door to the database for what is kept beside the jobs."""

from __future__ import annotations

from taskito_postgres.base import Base


class Door(Base):
    """The schema, the clock and the manners of a storage; the connections are its own."""

    def close(self) -> None:
        """Give back every connection; later calls open again."""
        if not self._connections.is_mine:
            return  # in a forked child: the threads and connections are the parent's
        self._ringer.close()
        self._connections.close()
