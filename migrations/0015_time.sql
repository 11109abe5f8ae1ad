-- A question about the last hour read the whole day: ClickHouse compares `start` with the column of that name, which stands last in the
-- order of flows, and not with its five minutes, which stand first. A granule of 8192 rows is of a few minutes, so that the times
-- at its ends tell. Rows that are there get the index when they are merged.

ALTER TABLE flows ADD INDEX IF NOT EXISTS start_minmax start TYPE minmax GRANULARITY 1
