"""The statements of ``taskito_postgres.sql``, as they are sent."""

from __future__ import annotations

from taskito_postgres.location import quoted


class Statements(dict[str, bytes]):
    """Fills in one schema, once per statement: ``statements[sql.CLAIM]``."""

    def __init__(self, schema: str) -> None:
        super().__init__()
        self._prefix = f"{quoted(schema)}."

    def __missing__(self, text: str) -> bytes:
        statement = self[text] = text.replace("taskito.", self._prefix).encode()
        return statement
