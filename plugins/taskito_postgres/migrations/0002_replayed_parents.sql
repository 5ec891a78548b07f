-- A job that was cancelled because of a parent waits for the replay of that parent: replay_of is the parent it
-- was enqueued with, whose result its call names.
ALTER TABLE job_dependencies ADD COLUMN replay_of TEXT;
