"""SQLite storage for taskito, on the standard library's ``sqlite3`` alone.

Everything is reached through the entry point ``taskito_sqlite.hooks``; importing the package opens nothing.
"""
