"""The suite's topics about claims and outcomes: who runs a job, and how an attempt ends."""
