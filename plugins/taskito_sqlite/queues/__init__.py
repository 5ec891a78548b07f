"""What holds for all jobs of a queue."""
