-- Metrics are kept per queue too: a row is one task and queue in one minute.
ALTER TABLE task_metrics ADD COLUMN queue TEXT NOT NULL DEFAULT '';
ALTER TABLE task_metrics DROP CONSTRAINT task_metrics_pkey;
ALTER TABLE task_metrics ADD CONSTRAINT task_metrics_pkey PRIMARY KEY (task_name, bucket, queue);
