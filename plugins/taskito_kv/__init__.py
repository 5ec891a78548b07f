"""The storage contract in plain Python: its executable reading, and what ``test_mode()`` keeps jobs in."""
