"""PostgreSQL storage for taskito: installed beside taskito-core, found by its entry point.

Importing this package imports no database driver; the first use of a storage object does.
"""
