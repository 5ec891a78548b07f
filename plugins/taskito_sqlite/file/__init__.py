"""What a database in a file needs of the system: fair locking, a local file system, care around forks."""
