"""What a database in a file needs of the system: fair locking, a local file system, files that stay at
their path, care around forks."""
