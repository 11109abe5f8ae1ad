-- Batches that the collector refused, for who asks in SQL where data is missing. The bytes are in the dead letters.

CREATE TABLE IF NOT EXISTS refused_batches
(
    `time` DateTime64(3, 'UTC') COMMENT 'When NATS stored the batch' CODEC(Delta, ZSTD(1)),
    `agent` LowCardinality(String) COMMENT 'Agent that the subject names, empty if it names none: who sent the batch, if NATS lets each agent publish on its own subject only' CODEC(ZSTD(1)),
    `reason` LowCardinality(String) COMMENT 'subject (names no agent), undecodable, version (of a newer agent), invalid, forged_agent (the batch names another agent than the subject), future or ancient (a time in it is too far from that of NATS)' CODEC(ZSTD(1)),
    `subject` String COMMENT 'NATS subject' CODEC(ZSTD(1)),
    `detail` String COMMENT 'What exactly is wrong; may quote what the sender wrote' CODEC(ZSTD(1)),
    `message_id` String COMMENT 'agent:boot:sequence as the sender wrote it, empty if it did not' CODEC(ZSTD(1)),
    `bytes` UInt32 COMMENT 'Size of the message' CODEC(T64, ZSTD(1)),
    `sequence` UInt64 COMMENT 'Number of the message in the stream of batches' CODEC(Delta, ZSTD(1))
)
ENGINE = MergeTree
PARTITION BY toDate(time)
ORDER BY (agent, reason, time)
TTL toDateTime(time) + INTERVAL 30 DAY
SETTINGS ttl_only_drop_parts = 1, non_replicated_deduplication_window = 10000
COMMENT 'One row per batch that was refused, and once more each time that it is replayed and refused again. Its flow records are in no table; its bytes wait in the dead letters (collector dlq list), from which it can be replayed.'
