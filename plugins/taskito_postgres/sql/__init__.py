"""The statements, one module per noun and one constant each: text that can be pasted into a shell.

``taskito.`` stands for the schema; ``Statements`` puts the real one in, once per statement. Parameters are
named. States are literals, because a partial index is no use to a statement that was planned without
knowing them.

No statement may depend on statistics: those of jobs_live often say "empty", and are then used for the next
million rows. So rows are found by LATERAL with a LIMIT, or = ANY of an array, which leave only the index,
and what was found is changed by its ctid. A join on id could be turned round, into a scan of everything.
Statements in ``HOT`` run for every job, wakeup or heartbeat: a test checks how each is planned.
"""
