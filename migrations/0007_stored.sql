-- One row per run of an agent: what the collector needs to know in an instant whether a batch can be a second copy.
-- Every column is a minimum or a maximum, so that a row that is written twice changes nothing: no deduplication window.

CREATE TABLE IF NOT EXISTS runs
(
    `agent` LowCardinality(String) COMMENT 'Agent',
    `boot` String COMMENT 'One run of the agent' CODEC(ZSTD(1)),
    `first` SimpleAggregateFunction(min, DateTime64(3, 'UTC')) COMMENT 'End of the first drain interval that is stored' CODEC(ZSTD(1)),
    `last` SimpleAggregateFunction(max, DateTime64(3, 'UTC')) COMMENT 'End of the last drain interval that is stored' CODEC(ZSTD(1)),
    `last_sequence` SimpleAggregateFunction(max, UInt64) COMMENT 'Highest number of a batch that is stored' CODEC(ZSTD(1))
)
ENGINE = AggregatingMergeTree
ORDER BY (agent, boot)
TTL toDateTime(last) + INTERVAL 90 DAY
COMMENT 'One row per run of an agent, from coverage. Always aggregate with min(first), max(last) and max(last_sequence): rows of one key may not be merged yet. The view agent_runs tells how runs ended.'

-- step
CREATE MATERIALIZED VIEW IF NOT EXISTS runs_mv TO runs AS
SELECT agent, boot, min(time) AS first, max(time) AS last, max(sequence) AS last_sequence
FROM coverage
GROUP BY agent, boot
COMMENT 'Fills runs from every insert into coverage; not for reading.'
