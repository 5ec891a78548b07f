"""The statements, one constant each; a module per noun, as the methods that send them.

Each constant is a whole statement and begins with a comment; what is only interpolated into others does not.
Values are bound by name, but by number in ``claim`` and in what is sent once per job of a batch: numbers are
faster. Many ids travel as one JSON list. States are literals, because only then is a partial index used.
INDEXED BY stands where another plan would be an outage. ``HOT`` names what runs per exchange, per job or per
heartbeat: a test forbids these to scan a table.
"""
