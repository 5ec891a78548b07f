"""The suite's topics about what is read: jobs, counts, texts, and waiting for an end."""
