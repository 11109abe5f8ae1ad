-- What the analyzer concludes: findings, incidents, reports, deliveries.
-- All four are ReplacingMergeTree: the row with the highest version stands. Read them through the views, or with FINAL.

CREATE TABLE IF NOT EXISTS findings
(
    `id` String COMMENT 'Deterministic: the same detector, entity and window give the same id, so a second run replaces and never doubles',
    `version` UInt64 COMMENT 'Milliseconds since the Unix epoch of this version; the highest stands',
    `detector` LowCardinality(String) COMMENT 'Detector that found it: volume, scan, beacon, exfiltration',
    `kind` LowCardinality(String) COMMENT 'What was found, for example syn_flood, port_scan, beacon, exfiltration',
    `src` String COMMENT 'Entity: initiating address, empty if the finding is not about one',
    `dst` String COMMENT 'Entity: responding address, empty if the finding is not about one',
    `port` UInt16 COMMENT 'Entity: responder port, 0 if the finding is not about one',
    `host` String COMMENT 'Entity: agent (host) that saw it, empty if several did',
    `window_start` DateTime64(3, 'UTC') COMMENT 'Start of what the finding covers',
    `window_end` DateTime64(3, 'UTC') COMMENT 'End of what the finding covers',
    `score` Float64 COMMENT '0 to 1, comparable within one detector',
    `p_value` Float64 COMMENT 'Probability of a value this extreme under the detector''s null model; 1 where the detector has none',
    `severity` Enum8('info' = 1, 'low' = 2, 'medium' = 3, 'high' = 4, 'critical' = 5) COMMENT 'How urgent',
    `summary` String COMMENT 'One sentence',
    `evidence` Nested(id String, metric String, value Float64, unit String, baseline Nullable(Float64), query String) COMMENT 'The measured facts behind the finding, each with a query that shows it',
    `incident` String COMMENT 'Incident that the finding belongs to'
)
ENGINE = ReplacingMergeTree(version)
PARTITION BY toYYYYMM(window_start)
ORDER BY (id)
TTL toDateTime(window_end) + INTERVAL 365 DAY
COMMENT 'One detector, one entity, one window, with its evidence.';

-- step
CREATE TABLE IF NOT EXISTS incidents
(
    `id` String COMMENT 'Identifier',
    `version` UInt64 COMMENT 'Milliseconds since the Unix epoch of this version; the highest stands',
    `status` Enum8('open' = 1, 'closed' = 2) COMMENT 'open while findings still arrive',
    `severity` Enum8('info' = 1, 'low' = 2, 'medium' = 3, 'high' = 4, 'critical' = 5) COMMENT 'Highest severity of its findings',
    `title` String COMMENT 'One line',
    `kinds` Array(LowCardinality(String)) COMMENT 'Kinds of its findings',
    `entities` Array(String) COMMENT 'Addresses that its findings are about',
    `findings` UInt32 COMMENT 'Number of findings',
    `started` DateTime64(3, 'UTC') COMMENT 'Earliest start of a finding',
    `ended` DateTime64(3, 'UTC') COMMENT 'Latest end of a finding so far',
    `opened` DateTime64(3, 'UTC') COMMENT 'When the analyzer opened it'
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (id)
TTL toDateTime(ended) + INTERVAL 365 DAY
COMMENT 'Findings merged over entities and time.';

-- step
CREATE TABLE IF NOT EXISTS reports
(
    `id` String COMMENT 'Identifier; also the webhook-id of its deliveries',
    `version` UInt64 COMMENT 'Milliseconds since the Unix epoch of this version; the highest stands',
    `kind` Enum8('incident' = 1, 'periodic' = 2) COMMENT 'About one incident, or about a period',
    `subject` String COMMENT 'Incident id, or the schedule''s name',
    `window_start` DateTime64(3, 'UTC') COMMENT 'Start of what the report covers',
    `window_end` DateTime64(3, 'UTC') COMMENT 'End of what the report covers',
    `severity` Enum8('info' = 1, 'low' = 2, 'medium' = 3, 'high' = 4, 'critical' = 5) COMMENT 'Severity',
    `title` String COMMENT 'One line',
    `author` LowCardinality(String) COMMENT '''template'', or the model that worded it',
    `note` String COMMENT 'Why the model''s words were not used, or which of its claims were dropped',
    `markdown` String COMMENT 'The report as Markdown' CODEC(ZSTD(3)),
    `html` String COMMENT 'The report as HTML' CODEC(ZSTD(3)),
    `json` String COMMENT 'The report as JSON' CODEC(ZSTD(3)),
    `created` DateTime64(3, 'UTC') COMMENT 'When it was made'
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (id)
TTL toDateTime(created) + INTERVAL 365 DAY
COMMENT 'An incident or a period, in words.';

-- step
CREATE TABLE IF NOT EXISTS deliveries
(
    `report` String COMMENT 'Report that is delivered',
    `endpoint` LowCardinality(String) COMMENT 'Name of the webhook endpoint in the configuration',
    `version` UInt64 COMMENT 'Milliseconds since the Unix epoch of this version; the highest stands',
    `state` Enum8('pending' = 1, 'delivered' = 2, 'retrying' = 3, 'failed' = 4) COMMENT 'failed: given up, or refused for good',
    `attempts` UInt32 COMMENT 'Attempts so far',
    `http_status` UInt16 COMMENT 'Status of the last answer, 0 if there was none',
    `error` String COMMENT 'Why the last attempt failed, without the URL',
    `next_attempt` DateTime64(3, 'UTC') COMMENT 'When it is tried again, if retrying',
    `updated` DateTime64(3, 'UTC') COMMENT 'Time of the last attempt'
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (report, endpoint)
TTL toDateTime(updated) + INTERVAL 365 DAY
COMMENT 'State of each report at each webhook endpoint.';
