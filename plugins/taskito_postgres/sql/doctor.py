"""What ``taskito doctor`` reads."""

from __future__ import annotations

SET_BACK = """
-- When the clock was set back last, and by how much; NULL: never.
SELECT set_back_at, set_back_by FROM taskito.clock
"""

SERVER_STATE = """
-- One row of what the server allows, and what it has to do. A role without pg_read_all_stats sees less.
SELECT pg_has_role(current_user, 'pg_read_all_stats', 'USAGE'),
       current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int,
       (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'),
       current_setting('autovacuum')::bool AND current_setting('track_counts')::bool,
       current_setting('fsync')::bool AND current_setting('full_page_writes')::bool,
       current_setting('synchronous_standby_names') <> ''
       AND NOT EXISTS (SELECT 1 FROM pg_stat_replication WHERE sync_state IN ('sync', 'quorum')),
       (SELECT coalesce(string_agg(c.relname, ', ' ORDER BY c.relname), '') FROM pg_class c
         WHERE c.relnamespace = %(schema)b::regnamespace AND 'autovacuum_enabled=false' = ANY (c.reloptions)),
       (SELECT n_dead_tup FROM pg_stat_user_tables
         WHERE relid = 'taskito.jobs_live'::regclass AND n_dead_tup > 100000 + 10 * n_live_tup)
"""

OLD_SNAPSHOTS = """
-- What keeps dead rows from being removed for longer than so many seconds, the oldest first.
SELECT 'session ' || pid || CASE WHEN application_name = '' THEN '' ELSE ' (' || application_name || ')' END,
       extract(epoch FROM clock_timestamp() - xact_start)::float8,
       'SELECT pg_terminate_backend(' || pid || ')'
  FROM pg_stat_activity
 WHERE coalesce(backend_xmin, backend_xid) IS NOT NULL AND backend_type = 'client backend'
   AND xact_start < clock_timestamp() - make_interval(secs => %(seconds)b)
UNION ALL
SELECT 'prepared transaction ' || gid, extract(epoch FROM clock_timestamp() - prepared)::float8,
       'ROLLBACK PREPARED ' || quote_literal(gid)
  FROM pg_prepared_xacts
 WHERE database = current_database() AND prepared < clock_timestamp() - make_interval(secs => %(seconds)b)
 ORDER BY 2 DESC LIMIT 10
"""
