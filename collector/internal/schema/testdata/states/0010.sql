-- What a build leaves whose newest migration is 0010. Made by TestUpgradesFromEveryReleasedState; never changed.
CREATE TABLE DATABASE.coverage
(
    `time` DateTime64(3, 'UTC') COMMENT 'End of the drain interval; where interval_ms is 0, end of the early warnings' CODEC(Delta(8), ZSTD(1)),
    `received` DateTime64(3, 'UTC') COMMENT 'When NATS stored the batch' CODEC(Delta(8), ZSTD(1)),
    `agent` LowCardinality(String) COMMENT 'Agent',
    `agent_version` LowCardinality(String) COMMENT 'Build of the agent',
    `boot` LowCardinality(String) COMMENT 'One run of the agent',
    `sequence` UInt64 COMMENT 'Number of the batch in that run, from 1: a gap is a batch that is lost or still under way' CODEC(Delta(8), ZSTD(1)),
    `last_of_run` Bool COMMENT 'Whether the run ended in order with this batch: everything that it counted is in this one and those before it',
    `interval_ms` UInt32 COMMENT 'Length of the drain interval; 0 marks a batch of early warnings alone, which ends no drain' CODEC(T64, ZSTD(1)),
    `flows` UInt32 COMMENT 'Flow records in the batch; 0 in all but the first row of a batch, so that sum() counts each record once' CODEC(T64, ZSTD(1)),
    `interface` LowCardinality(String) COMMENT 'Interface of the attach point, empty for a batch without attach points',
    `netns` LowCardinality(String) COMMENT 'Network namespace of the interface, empty for the agent\'s own',
    `direction` Enum8('ingress' = 0, 'egress' = 1) COMMENT 'Direction of the attach point',
    `seen_packets` UInt64 COMMENT 'Packets that passed the attach point; seen = recorded + overflow + other + skipped, exactly' CODEC(T64, ZSTD(1)),
    `seen_bytes` UInt64 COMMENT 'Bytes that passed the attach point' CODEC(T64, ZSTD(1)),
    `recorded_packets` UInt64 COMMENT 'Packets that stand in flow records. With sampling 1 in N these were taken and counted N-fold there' CODEC(T64, ZSTD(1)),
    `recorded_bytes` UInt64 COMMENT 'Bytes of recorded_packets' CODEC(T64, ZSTD(1)),
    `overflow_packets` UInt64 COMMENT 'Packets that found no room in the flow map' CODEC(T64, ZSTD(1)),
    `overflow_bytes` UInt64 COMMENT 'Bytes that found no room in the flow map' CODEC(T64, ZSTD(1)),
    `other_packets` UInt64 COMMENT 'Packets that are not IP or cannot be parsed' CODEC(T64, ZSTD(1)),
    `other_bytes` UInt64 COMMENT 'Bytes that are not IP or cannot be parsed' CODEC(T64, ZSTD(1)),
    `skipped_packets` UInt64 COMMENT 'Packets that sampling left out: the flow records are scaled and stand for these too' CODEC(T64, ZSTD(1)),
    `skipped_bytes` UInt64 COMMENT 'Bytes that sampling left out' CODEC(T64, ZSTD(1)),
    `reasons` Map(LowCardinality(String), UInt64) COMMENT 'The packets of other_packets by why they stand in no record: not_ip, truncated, …',
    `losses` Map(LowCardinality(String), UInt64) COMMENT 'What the agent had to give up since its start, by counter'
)
ENGINE = MergeTree
PARTITION BY toDate(time)
ORDER BY (agent, time, interface, direction)
TTL toDateTime(time) + toIntervalDay(7)
SETTINGS ttl_only_drop_parts = 1, non_replicated_deduplication_window = 10000, index_granularity = 8192
COMMENT 'The agents\' conservation proof: one row per batch and attach point, seen = recorded + overflow + other + skipped to the byte. Also the heartbeat of each agent: a quiet agent still sends it. Rows with interval_ms = 0 are batches of early warnings: they count for gaps in sequence, not as drains.'
-- step
INSERT INTO DATABASE.coverage (`time`, `received`, `agent`, `agent_version`, `boot`, `sequence`, `last_of_run`, `interval_ms`, `flows`, `interface`, `netns`, `direction`, `seen_packets`, `seen_bytes`, `recorded_packets`, `recorded_bytes`, `overflow_packets`, `overflow_bytes`, `other_packets`, `other_bytes`, `skipped_packets`, `skipped_bytes`, `reasons`, `losses`) FORMAT JSONEachRow
{"time":"2100-01-15 11:45:00.000","received":"2100-01-15 12:00:00.000","agent":"restarts","agent_version":"v1","boot":"boot-1","sequence":1,"last_of_run":false,"interval_ms":5000,"flows":0,"interface":"eth0","netns":"","direction":"ingress","seen_packets":0,"seen_bytes":0,"recorded_packets":0,"recorded_bytes":0,"overflow_packets":0,"overflow_bytes":0,"other_packets":0,"other_bytes":0,"skipped_packets":0,"skipped_bytes":0,"reasons":{},"losses":{}}
{"time":"2100-01-15 11:45:05.000","received":"2100-01-15 12:00:00.000","agent":"restarts","agent_version":"v1","boot":"boot-1","sequence":2,"last_of_run":false,"interval_ms":5000,"flows":0,"interface":"eth0","netns":"","direction":"ingress","seen_packets":0,"seen_bytes":0,"recorded_packets":0,"recorded_bytes":0,"overflow_packets":0,"overflow_bytes":0,"other_packets":0,"other_bytes":0,"skipped_packets":0,"skipped_bytes":0,"reasons":{},"losses":{}}
{"time":"2100-01-15 11:45:06.000","received":"2100-01-15 12:00:00.000","agent":"restarts","agent_version":"","boot":"boot-1","sequence":3,"last_of_run":false,"interval_ms":0,"flows":0,"interface":"","netns":"","direction":"ingress","seen_packets":0,"seen_bytes":0,"recorded_packets":0,"recorded_bytes":0,"overflow_packets":0,"overflow_bytes":0,"other_packets":0,"other_bytes":0,"skipped_packets":0,"skipped_bytes":0,"reasons":{},"losses":{}}
{"time":"2100-01-15 11:45:20.000","received":"2100-01-15 12:00:00.000","agent":"restarts","agent_version":"v1","boot":"boot-2","sequence":1,"last_of_run":false,"interval_ms":5000,"flows":0,"interface":"eth0","netns":"","direction":"ingress","seen_packets":0,"seen_bytes":0,"recorded_packets":0,"recorded_bytes":0,"overflow_packets":0,"overflow_bytes":0,"other_packets":0,"other_bytes":0,"skipped_packets":0,"skipped_bytes":0,"reasons":{},"losses":{}}
{"time":"2100-01-15 11:45:22.000","received":"2100-01-15 12:00:00.000","agent":"restarts","agent_version":"v1","boot":"boot-2","sequence":2,"last_of_run":true,"interval_ms":2000,"flows":0,"interface":"eth0","netns":"","direction":"ingress","seen_packets":0,"seen_bytes":0,"recorded_packets":0,"recorded_bytes":0,"overflow_packets":0,"overflow_bytes":0,"other_packets":0,"other_bytes":0,"skipped_packets":0,"skipped_bytes":0,"reasons":{},"losses":{}}
{"time":"2100-01-15 11:45:22.000","received":"2100-01-15 12:00:00.000","agent":"restarts","agent_version":"v1","boot":"boot-2","sequence":2,"last_of_run":true,"interval_ms":2000,"flows":0,"interface":"eth1","netns":"","direction":"ingress","seen_packets":0,"seen_bytes":0,"recorded_packets":0,"recorded_bytes":0,"overflow_packets":0,"overflow_bytes":0,"other_packets":0,"other_bytes":0,"skipped_packets":0,"skipped_bytes":0,"reasons":{},"losses":{}}
{"time":"2100-01-15 11:45:30.000","received":"2100-01-15 12:00:00.000","agent":"restarts","agent_version":"v2","boot":"boot-3","sequence":1,"last_of_run":false,"interval_ms":5000,"flows":0,"interface":"eth0","netns":"","direction":"ingress","seen_packets":0,"seen_bytes":0,"recorded_packets":0,"recorded_bytes":0,"overflow_packets":0,"overflow_bytes":0,"other_packets":0,"other_bytes":0,"skipped_packets":0,"skipped_bytes":0,"reasons":{},"losses":{}}
{"time":"2100-01-15 11:46:40.000","received":"2100-01-15 12:00:00.000","agent":"gap","agent_version":"v1","boot":"boot-4","sequence":1,"last_of_run":false,"interval_ms":5000,"flows":0,"interface":"eth0","netns":"","direction":"ingress","seen_packets":0,"seen_bytes":0,"recorded_packets":0,"recorded_bytes":0,"overflow_packets":0,"overflow_bytes":0,"other_packets":0,"other_bytes":0,"skipped_packets":0,"skipped_bytes":0,"reasons":{},"losses":{}}
{"time":"2100-01-15 11:46:50.000","received":"2100-01-15 12:00:00.000","agent":"gap","agent_version":"v1","boot":"boot-4","sequence":3,"last_of_run":true,"interval_ms":5000,"flows":0,"interface":"eth0","netns":"","direction":"ingress","seen_packets":0,"seen_bytes":0,"recorded_packets":0,"recorded_bytes":0,"overflow_packets":0,"overflow_bytes":0,"other_packets":0,"other_bytes":0,"skipped_packets":0,"skipped_bytes":0,"reasons":{},"losses":{}}
{"time":"2100-01-15 11:48:20.000","received":"2100-01-15 12:00:00.000","agent":"young","agent_version":"","boot":"boot-5","sequence":1,"last_of_run":false,"interval_ms":0,"flows":0,"interface":"","netns":"","direction":"ingress","seen_packets":0,"seen_bytes":0,"recorded_packets":0,"recorded_bytes":0,"overflow_packets":0,"overflow_bytes":0,"other_packets":0,"other_bytes":0,"skipped_packets":0,"skipped_bytes":0,"reasons":{},"losses":{}}
{"time":"2100-01-15 11:59:00.000","received":"2100-01-15 12:00:00.000","agent":"web-1","agent_version":"v1","boot":"boot-a","sequence":1,"last_of_run":false,"interval_ms":5000,"flows":0,"interface":"eth0","netns":"","direction":"egress","seen_packets":100,"seen_bytes":1000,"recorded_packets":100,"recorded_bytes":1000,"overflow_packets":0,"overflow_bytes":0,"other_packets":0,"other_bytes":0,"skipped_packets":0,"skipped_bytes":0,"reasons":{},"losses":{}}
{"time":"2100-01-15 11:59:00.000","received":"2100-01-15 12:00:00.000","agent":"web-1","agent_version":"v1","boot":"boot-a","sequence":1,"last_of_run":false,"interval_ms":5000,"flows":0,"interface":"eth1","netns":"","direction":"ingress","seen_packets":1000,"seen_bytes":0,"recorded_packets":995,"recorded_bytes":0,"overflow_packets":0,"overflow_bytes":0,"other_packets":5,"other_bytes":0,"skipped_packets":0,"skipped_bytes":0,"reasons":{"not_ip":5},"losses":{"queue_dropped_batches":4}}
{"time":"2100-01-15 11:59:00.000","received":"2100-01-15 12:00:00.000","agent":"web-1","agent_version":"v1","boot":"boot-a","sequence":1,"last_of_run":false,"interval_ms":5000,"flows":3,"interface":"eth0","netns":"","direction":"ingress","seen_packets":100,"seen_bytes":1000,"recorded_packets":90,"recorded_bytes":900,"overflow_packets":8,"overflow_bytes":80,"other_packets":2,"other_bytes":20,"skipped_packets":0,"skipped_bytes":0,"reasons":{},"losses":{}}
{"time":"2100-01-15 11:59:00.000","received":"2100-01-15 12:00:00.000","agent":"web-1","agent_version":"v1","boot":"boot-a","sequence":1,"last_of_run":false,"interval_ms":5000,"flows":3,"interface":"eth0","netns":"","direction":"ingress","seen_packets":1000,"seen_bytes":0,"recorded_packets":72,"recorded_bytes":0,"overflow_packets":20,"overflow_bytes":0,"other_packets":8,"other_bytes":0,"skipped_packets":900,"skipped_bytes":0,"reasons":{"not_ip":5,"truncated":2},"losses":{"queue_dropped_batches":4}}
{"time":"2100-01-15 11:59:10.000","received":"2100-01-15 12:00:00.000","agent":"warns","agent_version":"v1","boot":"boot-b","sequence":1,"last_of_run":false,"interval_ms":0,"flows":0,"interface":"","netns":"","direction":"ingress","seen_packets":0,"seen_bytes":0,"recorded_packets":0,"recorded_bytes":0,"overflow_packets":0,"overflow_bytes":0,"other_packets":0,"other_bytes":0,"skipped_packets":0,"skipped_bytes":0,"reasons":{},"losses":{}}
{"time":"2100-01-15 11:59:10.000","received":"2100-01-15 12:00:00.000","agent":"web-1","agent_version":"","boot":"boot-a","sequence":2,"last_of_run":false,"interval_ms":0,"flows":0,"interface":"","netns":"","direction":"ingress","seen_packets":0,"seen_bytes":0,"recorded_packets":0,"recorded_bytes":0,"overflow_packets":0,"overflow_bytes":0,"other_packets":0,"other_bytes":0,"skipped_packets":0,"skipped_bytes":0,"reasons":{},"losses":{}}
{"time":"2100-01-15 11:59:30.000","received":"2100-01-15 12:00:00.000","agent":"web-1","agent_version":"v2","boot":"boot-b","sequence":3,"last_of_run":false,"interval_ms":5000,"flows":1,"interface":"eth0","netns":"","direction":"ingress","seen_packets":0,"seen_bytes":0,"recorded_packets":0,"recorded_bytes":0,"overflow_packets":0,"overflow_bytes":0,"other_packets":0,"other_bytes":0,"skipped_packets":0,"skipped_bytes":0,"reasons":{},"losses":{"queue_dropped_batches":4}}
{"time":"2100-01-15 11:59:32.000","received":"2100-01-15 12:00:00.000","agent":"web-1","agent_version":"v2","boot":"boot-b","sequence":6,"last_of_run":false,"interval_ms":5000,"flows":1,"interface":"eth0","netns":"","direction":"ingress","seen_packets":0,"seen_bytes":0,"recorded_packets":0,"recorded_bytes":0,"overflow_packets":0,"overflow_bytes":0,"other_packets":0,"other_bytes":0,"skipped_packets":0,"skipped_bytes":0,"reasons":{},"losses":{"queue_dropped_batches":5}}
-- step
CREATE TABLE DATABASE.deliveries
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
TTL toDateTime(updated) + toIntervalDay(365)
SETTINGS index_granularity = 8192
COMMENT 'State of each report at each webhook endpoint.'
-- step
INSERT INTO DATABASE.deliveries (`report`, `endpoint`, `version`, `state`, `attempts`, `http_status`, `error`, `next_attempt`, `updated`) FORMAT JSONEachRow
{"report":"r-1","endpoint":"pager","version":2,"state":"delivered","attempts":2,"http_status":204,"error":"","next_attempt":"2100-01-15 12:00:00.000","updated":"2100-01-15 12:00:00.000"}
-- step
CREATE TABLE DATABASE.features
(
    `time` DateTime64(3, 'UTC') COMMENT 'End of the interval' CODEC(Delta(8), ZSTD(1)),
    `received` DateTime64(3, 'UTC') COMMENT 'When NATS stored the batch' CODEC(Delta(8), ZSTD(1)),
    `agent` LowCardinality(String) COMMENT 'Agent' CODEC(ZSTD(1)),
    `interface` LowCardinality(String) COMMENT 'Interface of the attach point' CODEC(ZSTD(1)),
    `netns` LowCardinality(String) COMMENT 'Network namespace of the interface, empty for the agent\'s own' CODEC(ZSTD(1)),
    `direction` Enum8('ingress' = 0, 'egress' = 1) COMMENT 'Direction of the attach point' CODEC(ZSTD(1)),
    `interval_ms` UInt32 COMMENT 'Length of the interval in milliseconds, a second mostly' CODEC(T64, ZSTD(1)),
    `seen_packets` UInt64 COMMENT 'Packets that passed the attach point' CODEC(T64, ZSTD(1)),
    `seen_bytes` UInt64 COMMENT 'Bytes that passed the attach point' CODEC(T64, ZSTD(1)),
    `syn_packets` UInt64 COMMENT 'TCP packets with SYN and without ACK: connections that somebody tries to open' CODEC(T64, ZSTD(1)),
    `syn_ack_packets` UInt64 COMMENT 'TCP packets with SYN and ACK: connections that somebody accepts' CODEC(T64, ZSTD(1)),
    `fin_packets` UInt64 COMMENT 'TCP packets with FIN' CODEC(T64, ZSTD(1)),
    `rst_packets` UInt64 COMMENT 'TCP packets with RST' CODEC(T64, ZSTD(1)),
    `new_flows` UInt64 COMMENT 'Entries of the flow map that began' CODEC(T64, ZSTD(1)),
    `overflow_packets` UInt64 COMMENT 'Packets that found no room in the flow map' CODEC(T64, ZSTD(1)),
    `sizes` Array(UInt64) COMMENT 'Frames by floor(log2(bytes)): the element of index 7 (the first has index 1) counts those of 64 to 127 bytes' CODEC(T64, ZSTD(1)),
    `gaps` Array(UInt64) COMMENT 'Sampled pairs of consecutive frames by floor(log2(nanoseconds between them)): the element of index 11 counts 1024 to 2047 ns' CODEC(T64, ZSTD(1))
)
ENGINE = MergeTree
PARTITION BY toDate(time)
ORDER BY (toStartOfFiveMinutes(time), agent, interface, direction, time)
TTL toDateTime(time) + toIntervalDay(7)
SETTINGS ttl_only_drop_parts = 1, non_replicated_deduplication_window = 10000, index_granularity = 8192
COMMENT 'Early warning: what each attach point saw in each second, stored seconds before the flow records of the drain.'
-- step
INSERT INTO DATABASE.features (`time`, `received`, `agent`, `interface`, `netns`, `direction`, `interval_ms`, `seen_packets`, `seen_bytes`, `syn_packets`, `syn_ack_packets`, `fin_packets`, `rst_packets`, `new_flows`, `overflow_packets`, `sizes`, `gaps`) FORMAT JSONEachRow
{"time":"2100-01-15 11:59:58.000","received":"2100-01-15 12:00:00.000","agent":"web-1","interface":"eth0","netns":"","direction":"egress","interval_ms":500,"seen_packets":50,"seen_bytes":3000,"syn_packets":0,"syn_ack_packets":5,"fin_packets":0,"rst_packets":3,"new_flows":1,"overflow_packets":0,"sizes":[],"gaps":[]}
{"time":"2100-01-15 11:59:58.000","received":"2100-01-15 12:00:00.000","agent":"web-1","interface":"eth0","netns":"","direction":"ingress","interval_ms":1000,"seen_packets":100,"seen_bytes":6000,"syn_packets":90,"syn_ack_packets":1,"fin_packets":0,"rst_packets":2,"new_flows":80,"overflow_packets":10,"sizes":[0,100],"gaps":[]}
{"time":"2100-01-15 11:59:59.000","received":"2100-01-15 12:00:00.000","agent":"web-1","interface":"eth0","netns":"","direction":"ingress","interval_ms":999,"seen_packets":1,"seen_bytes":60,"syn_packets":0,"syn_ack_packets":0,"fin_packets":0,"rst_packets":0,"new_flows":0,"overflow_packets":0,"sizes":[],"gaps":[]}
-- step
CREATE TABLE DATABASE.findings
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
    `p_value` Float64 COMMENT 'Probability of a value this extreme under the detector\'s null model; 1 where the detector has none',
    `severity` Enum8('info' = 1, 'low' = 2, 'medium' = 3, 'high' = 4, 'critical' = 5) COMMENT 'How urgent',
    `summary` String COMMENT 'One sentence',
    `evidence.id` Array(String) COMMENT 'The measured facts behind the finding, each with a query that shows it',
    `evidence.metric` Array(String) COMMENT 'The measured facts behind the finding, each with a query that shows it',
    `evidence.value` Array(Float64) COMMENT 'The measured facts behind the finding, each with a query that shows it',
    `evidence.unit` Array(String) COMMENT 'The measured facts behind the finding, each with a query that shows it',
    `evidence.baseline` Array(Nullable(Float64)) COMMENT 'The measured facts behind the finding, each with a query that shows it',
    `evidence.query` Array(String) COMMENT 'The measured facts behind the finding, each with a query that shows it',
    `incident` String COMMENT 'Incident that the finding belongs to'
)
ENGINE = ReplacingMergeTree(version)
PARTITION BY toYYYYMM(window_start)
ORDER BY (id)
TTL toDateTime(window_end) + toIntervalDay(365)
SETTINGS index_granularity = 8192
COMMENT 'One detector, one entity, one window, with its evidence.'
-- step
INSERT INTO DATABASE.findings (`id`, `version`, `detector`, `kind`, `src`, `dst`, `port`, `host`, `window_start`, `window_end`, `score`, `p_value`, `severity`, `summary`, `evidence.id`, `evidence.metric`, `evidence.value`, `evidence.unit`, `evidence.baseline`, `evidence.query`, `incident`) FORMAT JSONEachRow
{"id":"f-1","version":2,"detector":"scan","kind":"port_scan","src":"10.0.0.1","dst":"","port":0,"host":"web-1","window_start":"2100-01-15 11:59:00.000","window_end":"2100-01-15 11:59:40.000","score":0.9,"p_value":1,"severity":"high","summary":"new","evidence.id":["ports","rate"],"evidence.metric":["ports","rate"],"evidence.value":[1000,50.5],"evidence.unit":["ports","1\/s"],"evidence.baseline":[3,null],"evidence.query":["SELECT 1","SELECT 2"],"incident":"i-1"}
-- step
CREATE TABLE DATABASE.flows
(
    `agent` LowCardinality(String) COMMENT 'Agent that saw the flow' CODEC(ZSTD(1)),
    `interface` LowCardinality(String) COMMENT 'Interface that accounted the packets' CODEC(ZSTD(1)),
    `start` DateTime64(3, 'UTC') COMMENT 'Time of the first packet of this record' CODEC(T64, ZSTD(1)),
    `duration_ms` UInt32 COMMENT 'Milliseconds from the first to the last packet of this record' CODEC(T64, ZSTD(1)),
    `src_ip` IPv6 COMMENT 'Initiator of the conversation (see initiator); IPv4 as ::ffff:a.b.c.d' CODEC(ZSTD(1)),
    `dst_ip` IPv6 COMMENT 'Responder of the conversation; IPv4 as ::ffff:a.b.c.d' CODEC(ZSTD(1)),
    `src_port` UInt16 COMMENT 'Port of the initiator, 0 where the protocol has none' CODEC(ZSTD(1)),
    `dst_port` UInt16 COMMENT 'Port of the responder, 0 where the protocol has none' CODEC(ZSTD(1)),
    `proto` UInt8 COMMENT 'IANA protocol number: 1 ICMP, 6 TCP, 17 UDP, 58 ICMPv6' CODEC(ZSTD(1)),
    `initiator` Enum8('unknown' = 0, 'syn' = 1, 'socket' = 2, 'first' = 3) COMMENT 'How the initiator is known: TCP SYN, the kernel socket, who spoke first (connectionless), or unknown (src is then only who was seen first)' CODEC(ZSTD(1)),
    `vlan` UInt16 COMMENT 'Outermost 802.1Q VLAN id, 0 if untagged' CODEC(ZSTD(1)),
    `src_packets` UInt64 COMMENT 'Packets sent by the initiator, as on the wire' CODEC(T64, ZSTD(1)),
    `src_bytes` UInt64 COMMENT 'Bytes of frames sent by the initiator, link-layer header included' CODEC(T64, ZSTD(1)),
    `dst_packets` UInt64 COMMENT 'Packets sent by the responder' CODEC(T64, ZSTD(1)),
    `dst_bytes` UInt64 COMMENT 'Bytes of frames sent by the responder' CODEC(T64, ZSTD(1)),
    `src_flags` UInt16 COMMENT 'TCP flags of the initiator, OR-ed: 1 FIN, 2 SYN, 4 RST, 8 PSH, 16 ACK, 32 URG, 64 ECE, 128 CWR, 256 AE' CODEC(ZSTD(1)),
    `dst_flags` UInt16 COMMENT 'TCP flags of the responder, OR-ed' CODEC(ZSTD(1)),
    `conn_state` Enum8('OTH' = 0, 'S0' = 1, 'S1' = 2, 'SF' = 3, 'REJ' = 4, 'S2' = 5, 'S3' = 6, 'RSTO' = 7, 'RSTR' = 8, 'RSTOS0' = 9, 'RSTRH' = 10, 'SH' = 11, 'SHR' = 12) COMMENT 'State of the conversation so far, as Zeek defines conn_state' CODEC(ZSTD(1)),
    `icmp_type` UInt8 COMMENT 'ICMP type of the message by which the initiator began this record or, where the responder began it, an earlier one; a reply stands for its request. 0 where proto is not ICMP' CODEC(ZSTD(1)),
    `icmp_code` UInt8 COMMENT 'ICMP code of the message of icmp_type' CODEC(ZSTD(1)),
    `age_ms` UInt32 COMMENT 'Milliseconds the conversation had been known when this interval began; 0 marks its first record' CODEC(ZSTD(1)),
    `final` Bool COMMENT 'Whether the conversation ended with this record (closed, reset or idle)' CODEC(ZSTD(1)),
    `sampling` UInt32 COMMENT 'Packets were counted 1 in this many; counters are already scaled' CODEC(ZSTD(1)),
    `end` DateTime64(3, 'UTC') ALIAS start + toIntervalMillisecond(duration_ms) COMMENT 'Time of the last packet of this record',
    `bytes` UInt64 ALIAS src_bytes + dst_bytes COMMENT 'Bytes both ways',
    `packets` UInt64 ALIAS src_packets + dst_packets COMMENT 'Packets both ways',
    `src` String ALIAS replaceRegexpOne(toString(src_ip), '^::ffff:([0-9.]+)$', '\\1') COMMENT 'src_ip as people write it: IPv4 without ::ffff:. Filter by src_ip, which has an index',
    `dst` String ALIAS replaceRegexpOne(toString(dst_ip), '^::ffff:([0-9.]+)$', '\\1') COMMENT 'dst_ip as people write it: IPv4 without ::ffff:. Filter by dst_ip, which has an index',
    `interfaces` LowCardinality(String) DEFAULT interface COMMENT 'All interfaces of the host that saw the conversation, separated by spaces, in the order of sight' CODEC(ZSTD(1)),
    `netns` LowCardinality(String) COMMENT 'Network namespace of interface, empty for the agent\'s own' CODEC(ZSTD(1)),
    `tunnel` Enum8('' = 0, 'vxlan' = 1, 'geneve' = 2, 'gre' = 3, 'ipip' = 4) COMMENT 'Innermost encapsulation around the packets, empty for none; addresses and ports are those inside' CODEC(ZSTD(1)),
    `tunnel_id` UInt32 COMMENT 'VNI or GRE key of the tunnel, 0 if it has none' CODEC(T64, ZSTD(1)),
    `src_retransmits` UInt32 COMMENT 'TCP segments of the initiator that begin below what it had sent already' CODEC(T64, ZSTD(1)),
    `dst_retransmits` UInt32 COMMENT 'TCP segments of the responder that begin below what it had sent already' CODEC(T64, ZSTD(1)),
    `src_zero_windows` UInt32 COMMENT 'TCP segments with which the initiator closed its receive window: it reads too slowly' CODEC(T64, ZSTD(1)),
    `dst_zero_windows` UInt32 COMMENT 'TCP segments with which the responder closed its receive window: it reads too slowly' CODEC(T64, ZSTD(1)),
    `src_resets` UInt32 COMMENT 'TCP segments with RST from the initiator' CODEC(T64, ZSTD(1)),
    `dst_resets` UInt32 COMMENT 'TCP segments with RST from the responder' CODEC(T64, ZSTD(1)),
    `handshake_us` UInt32 COMMENT 'Microseconds from the first SYN to the initiator\'s ACK of the SYN-ACK: one round trip. Stands in the record that saw the end of the handshake; 0 is unknown' CODEC(T64, ZSTD(1)),
    `rtt_us` UInt32 COMMENT 'Smoothed round-trip time at the end of the record, in microseconds; 0 is unknown' CODEC(T64, ZSTD(1)),
    `src_drops` UInt32 COMMENT 'Packets of the initiator that the kernel of the agent\'s host dropped' CODEC(T64, ZSTD(1)),
    `dst_drops` UInt32 COMMENT 'Packets of the responder that the kernel of the agent\'s host dropped' CODEC(T64, ZSTD(1)),
    `drop_reason` LowCardinality(String) COMMENT 'The kernel\'s name of the most frequent reason of both sides\' drops' CODEC(ZSTD(1)),
    `src_pid` UInt32 COMMENT 'Process of the initiator, where it is a socket of the agent\'s host; 0 is unknown' CODEC(ZSTD(1)),
    `dst_pid` UInt32 COMMENT 'Process of the responder, where it is a socket of the agent\'s host; 0 is unknown' CODEC(ZSTD(1)),
    `src_process` LowCardinality(String) COMMENT 'Name of the process src_pid, as the kernel has it: 15 bytes at most' CODEC(ZSTD(1)),
    `dst_process` LowCardinality(String) COMMENT 'Name of the process dst_pid, as the kernel has it: 15 bytes at most' CODEC(ZSTD(1)),
    `src_uid` UInt32 COMMENT 'User id of src_pid; says nothing where src_pid is 0' CODEC(T64, ZSTD(1)),
    `dst_uid` UInt32 COMMENT 'User id of dst_pid; says nothing where dst_pid is 0' CODEC(T64, ZSTD(1)),
    `src_unit` LowCardinality(String) COMMENT 'systemd unit of src_pid' CODEC(ZSTD(1)),
    `dst_unit` LowCardinality(String) COMMENT 'systemd unit of dst_pid' CODEC(ZSTD(1)),
    `src_container` LowCardinality(String) COMMENT 'Container id of src_pid' CODEC(ZSTD(1)),
    `dst_container` LowCardinality(String) COMMENT 'Container id of dst_pid' CODEC(ZSTD(1)),
    `src_pod` LowCardinality(String) COMMENT 'Kubernetes pod UID of src_pid' CODEC(ZSTD(1)),
    `dst_pod` LowCardinality(String) COMMENT 'Kubernetes pod UID of dst_pid' CODEC(ZSTD(1)),
    `app` Enum8('' = 0, 'dns' = 1, 'tls' = 2, 'http' = 3, 'quic' = 4) COMMENT 'Application protocol by its content, empty if not recognised' CODEC(ZSTD(1)),
    `server_name` LowCardinality(String) COMMENT 'Name that was asked for: DNS question, TLS server name or HTTP Host. Its words are the sender\'s' CODEC(ZSTD(1)),
    `dns_type` LowCardinality(String) COMMENT 'Type of the DNS question: A, AAAA, TYPE65280' CODEC(ZSTD(1)),
    `dns_rcode` LowCardinality(String) COMMENT 'Code of the DNS answer: NOERROR, NXDOMAIN, RCODE12; empty where none was seen' CODEC(ZSTD(1)),
    `dns_answers` UInt16 COMMENT 'Records in the answer section of the DNS answer' CODEC(T64, ZSTD(1)),
    `app_latency_us` UInt32 COMMENT 'Microseconds from the first request to the first response; 0 is unknown' CODEC(T64, ZSTD(1)),
    `tls_alpn` LowCardinality(String) COMMENT 'First application protocol that the TLS client offered' CODEC(ZSTD(1)),
    `tls_ja4` LowCardinality(String) COMMENT 'JA4 fingerprint of the TLS ClientHello' CODEC(ZSTD(1)),
    `http_method` LowCardinality(String) COMMENT 'Method of the first HTTP/1 request' CODEC(ZSTD(1)),
    `http_status` UInt16 COMMENT 'Status of the first HTTP/1 response, 0 where none was seen' CODEC(ZSTD(1)),
    `quic_version` LowCardinality(String) COMMENT 'QUIC version: 1, 2, draft-29, else hexadecimal' CODEC(ZSTD(1)),
    INDEX src_ip_bloom src_ip TYPE bloom_filter(0.01) GRANULARITY 4,
    INDEX dst_ip_bloom dst_ip TYPE bloom_filter(0.01) GRANULARITY 4
)
ENGINE = MergeTree
PARTITION BY toDate(start)
ORDER BY (toStartOfFiveMinutes(start), agent, dst_ip, dst_port, src_ip, start)
TTL toDateTime(start) + toIntervalDay(7)
SETTINGS ttl_only_drop_parts = 1, non_replicated_deduplication_window = 10000, index_granularity = 8192
COMMENT 'One row per conversation, agent and drain interval: what the agent saw of it. Sum the counters over rows of one conversation; count rows with age_ms = 0 to count conversations.'
-- step
INSERT INTO DATABASE.flows (`agent`, `interface`, `start`, `duration_ms`, `src_ip`, `dst_ip`, `src_port`, `dst_port`, `proto`, `initiator`, `vlan`, `src_packets`, `src_bytes`, `dst_packets`, `dst_bytes`, `src_flags`, `dst_flags`, `conn_state`, `icmp_type`, `icmp_code`, `age_ms`, `final`, `sampling`, `interfaces`, `netns`, `tunnel`, `tunnel_id`, `src_retransmits`, `dst_retransmits`, `src_zero_windows`, `dst_zero_windows`, `src_resets`, `dst_resets`, `handshake_us`, `rtt_us`, `src_drops`, `dst_drops`, `drop_reason`, `src_pid`, `dst_pid`, `src_process`, `dst_process`, `src_uid`, `dst_uid`, `src_unit`, `dst_unit`, `src_container`, `dst_container`, `src_pod`, `dst_pod`, `app`, `server_name`, `dns_type`, `dns_rcode`, `dns_answers`, `app_latency_us`, `tls_alpn`, `tls_ja4`, `http_method`, `http_status`, `quic_version`) FORMAT JSONEachRow
{"agent":"old","interface":"eth0","start":"2100-01-15 11:59:54.000","duration_ms":0,"src_ip":"::ffff:10.0.0.8","dst_ip":"::ffff:10.0.0.1","src_port":40006,"dst_port":80,"proto":17,"initiator":"first","vlan":0,"src_packets":1,"src_bytes":70,"dst_packets":1,"dst_bytes":700,"src_flags":0,"dst_flags":0,"conn_state":"SF","icmp_type":0,"icmp_code":0,"age_ms":0,"final":true,"sampling":1,"interfaces":"","netns":"","tunnel":"","tunnel_id":0,"src_retransmits":0,"dst_retransmits":0,"src_zero_windows":0,"dst_zero_windows":0,"src_resets":0,"dst_resets":0,"handshake_us":0,"rtt_us":0,"src_drops":0,"dst_drops":0,"drop_reason":"","src_pid":0,"dst_pid":0,"src_process":"","dst_process":"","src_uid":0,"dst_uid":0,"src_unit":"","dst_unit":"","src_container":"","dst_container":"","src_pod":"","dst_pod":"","app":"","server_name":"","dns_type":"","dns_rcode":"","dns_answers":0,"app_latency_us":0,"tls_alpn":"","tls_ja4":"","http_method":"","http_status":0,"quic_version":""}
{"agent":"web-1","interface":"","start":"2100-01-15 11:59:52.000","duration_ms":0,"src_ip":"::ffff:10.0.0.1","dst_ip":"::ffff:203.0.113.5","src_port":40007,"dst_port":99,"proto":17,"initiator":"first","vlan":0,"src_packets":0,"src_bytes":0,"dst_packets":0,"dst_bytes":0,"src_flags":0,"dst_flags":0,"conn_state":"OTH","icmp_type":0,"icmp_code":0,"age_ms":1,"final":false,"sampling":1,"interfaces":"","netns":"","tunnel":"","tunnel_id":0,"src_retransmits":0,"dst_retransmits":0,"src_zero_windows":0,"dst_zero_windows":0,"src_resets":0,"dst_resets":0,"handshake_us":0,"rtt_us":0,"src_drops":4,"dst_drops":0,"drop_reason":"IP_OUTNOROUTES","src_pid":0,"dst_pid":0,"src_process":"","dst_process":"","src_uid":0,"dst_uid":0,"src_unit":"","dst_unit":"","src_container":"","dst_container":"","src_pod":"","dst_pod":"","app":"","server_name":"","dns_type":"","dns_rcode":"","dns_answers":0,"app_latency_us":0,"tls_alpn":"","tls_ja4":"","http_method":"","http_status":0,"quic_version":""}
{"agent":"web-1","interface":"eth0","start":"2100-01-15 11:59:30.000","duration_ms":1000,"src_ip":"::ffff:10.0.0.1","dst_ip":"::ffff:10.0.0.9","src_port":40001,"dst_port":443,"proto":6,"initiator":"syn","vlan":0,"src_packets":2,"src_bytes":200,"dst_packets":1,"dst_bytes":1000,"src_flags":2,"dst_flags":18,"conn_state":"S1","icmp_type":0,"icmp_code":0,"age_ms":0,"final":false,"sampling":1,"interfaces":"eth0","netns":"","tunnel":"","tunnel_id":0,"src_retransmits":0,"dst_retransmits":0,"src_zero_windows":0,"dst_zero_windows":0,"src_resets":0,"dst_resets":0,"handshake_us":0,"rtt_us":0,"src_drops":0,"dst_drops":0,"drop_reason":"","src_pid":0,"dst_pid":0,"src_process":"","dst_process":"","src_uid":0,"dst_uid":0,"src_unit":"","dst_unit":"","src_container":"","dst_container":"","src_pod":"","dst_pod":"","app":"","server_name":"","dns_type":"","dns_rcode":"","dns_answers":0,"app_latency_us":0,"tls_alpn":"","tls_ja4":"","http_method":"","http_status":0,"quic_version":""}
{"agent":"web-1","interface":"eth0","start":"2100-01-15 11:59:30.000","duration_ms":1000,"src_ip":"::ffff:10.0.0.1","dst_ip":"::ffff:10.0.0.9","src_port":40001,"dst_port":443,"proto":6,"initiator":"syn","vlan":0,"src_packets":90,"src_bytes":9000,"dst_packets":10,"dst_bytes":1000,"src_flags":2,"dst_flags":18,"conn_state":"S1","icmp_type":0,"icmp_code":0,"age_ms":0,"final":false,"sampling":1,"interfaces":"veth0 eth0","netns":"","tunnel":"","tunnel_id":0,"src_retransmits":9,"dst_retransmits":1,"src_zero_windows":2,"dst_zero_windows":0,"src_resets":0,"dst_resets":0,"handshake_us":3000,"rtt_us":4000,"src_drops":3,"dst_drops":0,"drop_reason":"NETFILTER_DROP","src_pid":77,"dst_pid":0,"src_process":"nginx","dst_process":"","src_uid":0,"dst_uid":0,"src_unit":"","dst_unit":"","src_container":"c0ffee","dst_container":"","src_pod":"","dst_pod":"","app":"tls","server_name":"API.example","dns_type":"","dns_rcode":"","dns_answers":0,"app_latency_us":20000,"tls_alpn":"h2","tls_ja4":"ja4-a","http_method":"","http_status":0,"quic_version":""}
{"agent":"web-1","interface":"eth0","start":"2100-01-15 11:59:40.000","duration_ms":500,"src_ip":"::ffff:10.0.0.1","dst_ip":"::ffff:10.0.0.9","src_port":40001,"dst_port":443,"proto":6,"initiator":"syn","vlan":0,"src_packets":1,"src_bytes":100,"dst_packets":1,"dst_bytes":500,"src_flags":17,"dst_flags":17,"conn_state":"SF","icmp_type":0,"icmp_code":0,"age_ms":5000,"final":true,"sampling":1,"interfaces":"eth0","netns":"","tunnel":"","tunnel_id":0,"src_retransmits":0,"dst_retransmits":0,"src_zero_windows":0,"dst_zero_windows":0,"src_resets":0,"dst_resets":0,"handshake_us":0,"rtt_us":0,"src_drops":0,"dst_drops":0,"drop_reason":"","src_pid":0,"dst_pid":0,"src_process":"","dst_process":"","src_uid":0,"dst_uid":0,"src_unit":"","dst_unit":"","src_container":"","dst_container":"","src_pod":"","dst_pod":"","app":"","server_name":"","dns_type":"","dns_rcode":"","dns_answers":0,"app_latency_us":0,"tls_alpn":"","tls_ja4":"","http_method":"","http_status":0,"quic_version":""}
{"agent":"web-1","interface":"eth0","start":"2100-01-15 11:59:40.000","duration_ms":500,"src_ip":"::ffff:10.0.0.1","dst_ip":"::ffff:10.0.0.9","src_port":40001,"dst_port":443,"proto":6,"initiator":"syn","vlan":0,"src_packets":10,"src_bytes":1000,"dst_packets":10,"dst_bytes":500,"src_flags":17,"dst_flags":17,"conn_state":"SF","icmp_type":0,"icmp_code":0,"age_ms":5000,"final":true,"sampling":1,"interfaces":"veth0 eth0","netns":"","tunnel":"","tunnel_id":0,"src_retransmits":1,"dst_retransmits":0,"src_zero_windows":0,"dst_zero_windows":0,"src_resets":0,"dst_resets":0,"handshake_us":0,"rtt_us":6000,"src_drops":1,"dst_drops":0,"drop_reason":"NETFILTER_DROP","src_pid":77,"dst_pid":0,"src_process":"nginx","dst_process":"","src_uid":0,"dst_uid":0,"src_unit":"","dst_unit":"","src_container":"c0ffee","dst_container":"","src_pod":"","dst_pod":"","app":"","server_name":"","dns_type":"","dns_rcode":"","dns_answers":0,"app_latency_us":0,"tls_alpn":"","tls_ja4":"","http_method":"","http_status":0,"quic_version":""}
{"agent":"web-1","interface":"eth0","start":"2100-01-15 11:59:45.000","duration_ms":0,"src_ip":"::ffff:10.0.0.1","dst_ip":"::ffff:10.0.0.9","src_port":40001,"dst_port":443,"proto":6,"initiator":"syn","vlan":0,"src_packets":0,"src_bytes":0,"dst_packets":0,"dst_bytes":0,"src_flags":0,"dst_flags":0,"conn_state":"SF","icmp_type":0,"icmp_code":0,"age_ms":9000,"final":false,"sampling":1,"interfaces":"eth0","netns":"","tunnel":"","tunnel_id":0,"src_retransmits":0,"dst_retransmits":0,"src_zero_windows":0,"dst_zero_windows":0,"src_resets":0,"dst_resets":0,"handshake_us":0,"rtt_us":0,"src_drops":3,"dst_drops":0,"drop_reason":"NETFILTER_DROP","src_pid":0,"dst_pid":0,"src_process":"","dst_process":"","src_uid":0,"dst_uid":0,"src_unit":"","dst_unit":"","src_container":"","dst_container":"","src_pod":"","dst_pod":"","app":"","server_name":"","dns_type":"","dns_rcode":"","dns_answers":0,"app_latency_us":0,"tls_alpn":"","tls_ja4":"","http_method":"","http_status":0,"quic_version":""}
{"agent":"web-1","interface":"eth0","start":"2100-01-15 11:59:50.000","duration_ms":0,"src_ip":"::ffff:10.0.0.1","dst_ip":"::ffff:10.0.0.9","src_port":40002,"dst_port":443,"proto":6,"initiator":"syn","vlan":0,"src_packets":1,"src_bytes":60,"dst_packets":1,"dst_bytes":54,"src_flags":2,"dst_flags":20,"conn_state":"REJ","icmp_type":0,"icmp_code":0,"age_ms":0,"final":true,"sampling":1,"interfaces":"eth0","netns":"","tunnel":"","tunnel_id":0,"src_retransmits":0,"dst_retransmits":0,"src_zero_windows":0,"dst_zero_windows":0,"src_resets":0,"dst_resets":0,"handshake_us":0,"rtt_us":0,"src_drops":0,"dst_drops":0,"drop_reason":"","src_pid":0,"dst_pid":0,"src_process":"","dst_process":"","src_uid":0,"dst_uid":0,"src_unit":"","dst_unit":"","src_container":"","dst_container":"","src_pod":"","dst_pod":"","app":"","server_name":"","dns_type":"","dns_rcode":"","dns_answers":0,"app_latency_us":0,"tls_alpn":"","tls_ja4":"","http_method":"","http_status":0,"quic_version":""}
{"agent":"web-1","interface":"eth0","start":"2100-01-15 11:59:50.000","duration_ms":0,"src_ip":"::ffff:10.0.0.1","dst_ip":"::ffff:10.0.0.9","src_port":40002,"dst_port":443,"proto":6,"initiator":"syn","vlan":0,"src_packets":1,"src_bytes":60,"dst_packets":1,"dst_bytes":54,"src_flags":2,"dst_flags":20,"conn_state":"REJ","icmp_type":0,"icmp_code":0,"age_ms":0,"final":true,"sampling":1,"interfaces":"eth0","netns":"","tunnel":"","tunnel_id":0,"src_retransmits":0,"dst_retransmits":0,"src_zero_windows":0,"dst_zero_windows":0,"src_resets":0,"dst_resets":1,"handshake_us":0,"rtt_us":0,"src_drops":0,"dst_drops":0,"drop_reason":"","src_pid":78,"dst_pid":0,"src_process":"nginx","dst_process":"","src_uid":0,"dst_uid":0,"src_unit":"","dst_unit":"","src_container":"c0ffee","dst_container":"","src_pod":"","dst_pod":"","app":"","server_name":"","dns_type":"","dns_rcode":"","dns_answers":0,"app_latency_us":0,"tls_alpn":"","tls_ja4":"","http_method":"","http_status":0,"quic_version":""}
{"agent":"web-1","interface":"eth0","start":"2100-01-15 11:59:51.000","duration_ms":0,"src_ip":"::ffff:10.0.0.1","dst_ip":"2001:db8::9","src_port":40003,"dst_port":53,"proto":17,"initiator":"first","vlan":0,"src_packets":1,"src_bytes":80,"dst_packets":0,"dst_bytes":0,"src_flags":0,"dst_flags":0,"conn_state":"S0","icmp_type":0,"icmp_code":0,"age_ms":0,"final":true,"sampling":1,"interfaces":"eth0","netns":"","tunnel":"","tunnel_id":0,"src_retransmits":0,"dst_retransmits":0,"src_zero_windows":0,"dst_zero_windows":0,"src_resets":0,"dst_resets":0,"handshake_us":0,"rtt_us":0,"src_drops":0,"dst_drops":0,"drop_reason":"","src_pid":0,"dst_pid":0,"src_process":"","dst_process":"","src_uid":0,"dst_uid":0,"src_unit":"","dst_unit":"","src_container":"","dst_container":"","src_pod":"","dst_pod":"","app":"","server_name":"","dns_type":"","dns_rcode":"","dns_answers":0,"app_latency_us":0,"tls_alpn":"","tls_ja4":"","http_method":"","http_status":0,"quic_version":""}
{"agent":"web-1","interface":"eth0","start":"2100-01-15 11:59:51.000","duration_ms":0,"src_ip":"::ffff:10.0.0.1","dst_ip":"::ffff:10.0.0.53","src_port":40003,"dst_port":53,"proto":17,"initiator":"first","vlan":0,"src_packets":1,"src_bytes":80,"dst_packets":1,"dst_bytes":90,"src_flags":0,"dst_flags":0,"conn_state":"SF","icmp_type":0,"icmp_code":0,"age_ms":0,"final":true,"sampling":1,"interfaces":"eth0","netns":"","tunnel":"","tunnel_id":0,"src_retransmits":0,"dst_retransmits":0,"src_zero_windows":0,"dst_zero_windows":0,"src_resets":0,"dst_resets":0,"handshake_us":0,"rtt_us":0,"src_drops":0,"dst_drops":0,"drop_reason":"","src_pid":77,"dst_pid":0,"src_process":"nginx","dst_process":"","src_uid":0,"dst_uid":0,"src_unit":"","dst_unit":"","src_container":"c0ffee","dst_container":"","src_pod":"","dst_pod":"","app":"dns","server_name":"api.example","dns_type":"A","dns_rcode":"NOERROR","dns_answers":0,"app_latency_us":1000,"tls_alpn":"","tls_ja4":"","http_method":"","http_status":0,"quic_version":""}
{"agent":"web-1","interface":"eth0","start":"2100-01-15 11:59:52.000","duration_ms":0,"src_ip":"::ffff:10.0.0.1","dst_ip":"::ffff:10.0.0.53","src_port":40004,"dst_port":53,"proto":17,"initiator":"first","vlan":0,"src_packets":1,"src_bytes":80,"dst_packets":1,"dst_bytes":90,"src_flags":0,"dst_flags":0,"conn_state":"SF","icmp_type":0,"icmp_code":0,"age_ms":0,"final":true,"sampling":1,"interfaces":"eth0","netns":"","tunnel":"","tunnel_id":0,"src_retransmits":0,"dst_retransmits":0,"src_zero_windows":0,"dst_zero_windows":0,"src_resets":0,"dst_resets":0,"handshake_us":0,"rtt_us":0,"src_drops":0,"dst_drops":0,"drop_reason":"","src_pid":77,"dst_pid":0,"src_process":"nginx","dst_process":"","src_uid":0,"dst_uid":0,"src_unit":"","dst_unit":"","src_container":"c0ffee","dst_container":"","src_pod":"","dst_pod":"","app":"dns","server_name":"api.example","dns_type":"A","dns_rcode":"NXDOMAIN","dns_answers":0,"app_latency_us":3000,"tls_alpn":"","tls_ja4":"","http_method":"","http_status":0,"quic_version":""}
{"agent":"web-1","interface":"eth0","start":"2100-01-15 11:59:53.000","duration_ms":0,"src_ip":"::ffff:10.0.0.7","dst_ip":"::ffff:10.0.0.1","src_port":40005,"dst_port":5432,"proto":6,"initiator":"syn","vlan":0,"src_packets":1,"src_bytes":70,"dst_packets":1,"dst_bytes":700,"src_flags":27,"dst_flags":27,"conn_state":"SF","icmp_type":0,"icmp_code":0,"age_ms":0,"final":true,"sampling":1,"interfaces":"eth0","netns":"","tunnel":"","tunnel_id":0,"src_retransmits":0,"dst_retransmits":0,"src_zero_windows":0,"dst_zero_windows":0,"src_resets":0,"dst_resets":0,"handshake_us":0,"rtt_us":0,"src_drops":0,"dst_drops":0,"drop_reason":"","src_pid":0,"dst_pid":55,"src_process":"","dst_process":"postgres","src_uid":0,"dst_uid":0,"src_unit":"","dst_unit":"postgresql.service","src_container":"","dst_container":"","src_pod":"","dst_pod":"","app":"","server_name":"","dns_type":"","dns_rcode":"","dns_answers":0,"app_latency_us":0,"tls_alpn":"","tls_ja4":"","http_method":"","http_status":0,"quic_version":""}
{"agent":"web-2","interface":"eth0","start":"2100-01-12 12:00:00.000","duration_ms":0,"src_ip":"::ffff:10.0.0.2","dst_ip":"::ffff:10.0.0.9","src_port":40004,"dst_port":443,"proto":6,"initiator":"syn","vlan":0,"src_packets":1,"src_bytes":10,"dst_packets":1,"dst_bytes":10,"src_flags":2,"dst_flags":18,"conn_state":"SF","icmp_type":0,"icmp_code":0,"age_ms":0,"final":true,"sampling":1,"interfaces":"eth0","netns":"","tunnel":"","tunnel_id":0,"src_retransmits":0,"dst_retransmits":0,"src_zero_windows":0,"dst_zero_windows":0,"src_resets":0,"dst_resets":0,"handshake_us":0,"rtt_us":0,"src_drops":0,"dst_drops":0,"drop_reason":"","src_pid":0,"dst_pid":0,"src_process":"","dst_process":"","src_uid":0,"dst_uid":0,"src_unit":"","dst_unit":"","src_container":"","dst_container":"","src_pod":"","dst_pod":"","app":"","server_name":"","dns_type":"","dns_rcode":"","dns_answers":0,"app_latency_us":0,"tls_alpn":"","tls_ja4":"","http_method":"","http_status":0,"quic_version":""}
{"agent":"web-2","interface":"eth0","start":"2100-01-15 11:59:55.000","duration_ms":0,"src_ip":"::ffff:10.0.0.2","dst_ip":"::ffff:10.0.0.9","src_port":40005,"dst_port":443,"proto":6,"initiator":"syn","vlan":0,"src_packets":1,"src_bytes":10,"dst_packets":1,"dst_bytes":10,"src_flags":2,"dst_flags":18,"conn_state":"SF","icmp_type":0,"icmp_code":0,"age_ms":0,"final":true,"sampling":1,"interfaces":"eth0","netns":"","tunnel":"","tunnel_id":0,"src_retransmits":0,"dst_retransmits":0,"src_zero_windows":0,"dst_zero_windows":0,"src_resets":0,"dst_resets":0,"handshake_us":0,"rtt_us":0,"src_drops":0,"dst_drops":0,"drop_reason":"","src_pid":0,"dst_pid":0,"src_process":"","dst_process":"","src_uid":0,"dst_uid":0,"src_unit":"","dst_unit":"","src_container":"","dst_container":"","src_pod":"","dst_pod":"","app":"","server_name":"","dns_type":"","dns_rcode":"","dns_answers":0,"app_latency_us":0,"tls_alpn":"","tls_ja4":"","http_method":"","http_status":0,"quic_version":""}
-- step
CREATE TABLE DATABASE.flows_1m
(
    `minute` DateTime('UTC') COMMENT 'Start of the minute (UTC) in which the records began' CODEC(Delta(4), ZSTD(1)),
    `agent` LowCardinality(String) COMMENT 'Agent that saw the flows' CODEC(ZSTD(1)),
    `src_ip` IPv6 COMMENT 'Initiator' CODEC(ZSTD(1)),
    `dst_ip` IPv6 COMMENT 'Responder' CODEC(ZSTD(1)),
    `dst_port` UInt16 COMMENT 'Port of the responder' CODEC(ZSTD(1)),
    `proto` UInt8 COMMENT 'IANA protocol number' CODEC(ZSTD(1)),
    `src_packets` UInt64 COMMENT 'Packets sent by the initiator' CODEC(T64, ZSTD(1)),
    `src_bytes` UInt64 COMMENT 'Bytes sent by the initiator' CODEC(T64, ZSTD(1)),
    `dst_packets` UInt64 COMMENT 'Packets sent by the responder' CODEC(T64, ZSTD(1)),
    `dst_bytes` UInt64 COMMENT 'Bytes sent by the responder' CODEC(T64, ZSTD(1)),
    `records` UInt64 COMMENT 'Flow records with packets: those that only tell of an end or of drops are left out' CODEC(T64, ZSTD(1)),
    `connections` UInt64 COMMENT 'Conversations that began (records with age_ms = 0)' CODEC(T64, ZSTD(1)),
    `unanswered` UInt64 COMMENT 'Conversations that began and got no useful answer within the interval: conn_state S0, REJ, RSTOS0 or SH' CODEC(T64, ZSTD(1)),
    `src` String ALIAS replaceRegexpOne(toString(src_ip), '^::ffff:([0-9.]+)$', '\\1') COMMENT 'src_ip as people write it: IPv4 without ::ffff:',
    `dst` String ALIAS replaceRegexpOne(toString(dst_ip), '^::ffff:([0-9.]+)$', '\\1') COMMENT 'dst_ip as people write it: IPv4 without ::ffff:'
)
ENGINE = SummingMergeTree
PARTITION BY toDate(minute)
ORDER BY (minute, agent, dst_ip, dst_port, proto, src_ip)
TTL minute + toIntervalDay(30)
SETTINGS ttl_only_drop_parts = 1, non_replicated_deduplication_window = 10000, index_granularity = 8192
COMMENT 'Flows summed per minute, agent, initiator, responder, responder port and protocol. Always aggregate with sum(): rows of one key may not be merged yet.'
-- step
INSERT INTO DATABASE.flows_1m (`minute`, `agent`, `src_ip`, `dst_ip`, `dst_port`, `proto`, `src_packets`, `src_bytes`, `dst_packets`, `dst_bytes`, `records`, `connections`, `unanswered`) FORMAT JSONEachRow
{"minute":"2100-01-12 12:00:00","agent":"web-2","src_ip":"::ffff:10.0.0.2","dst_ip":"::ffff:10.0.0.9","dst_port":443,"proto":6,"src_packets":1,"src_bytes":10,"dst_packets":1,"dst_bytes":10,"records":1,"connections":1,"unanswered":0}
{"minute":"2100-01-15 11:59:00","agent":"old","src_ip":"::ffff:10.0.0.8","dst_ip":"::ffff:10.0.0.1","dst_port":80,"proto":17,"src_packets":1,"src_bytes":70,"dst_packets":1,"dst_bytes":700,"records":1,"connections":1,"unanswered":0}
{"minute":"2100-01-15 11:59:00","agent":"web-1","src_ip":"::ffff:10.0.0.1","dst_ip":"2001:db8::9","dst_port":53,"proto":17,"src_packets":1,"src_bytes":80,"dst_packets":0,"dst_bytes":0,"records":1,"connections":1,"unanswered":1}
{"minute":"2100-01-15 11:59:00","agent":"web-1","src_ip":"::ffff:10.0.0.1","dst_ip":"::ffff:10.0.0.53","dst_port":53,"proto":17,"src_packets":2,"src_bytes":160,"dst_packets":2,"dst_bytes":180,"records":2,"connections":2,"unanswered":0}
{"minute":"2100-01-15 11:59:00","agent":"web-1","src_ip":"::ffff:10.0.0.1","dst_ip":"::ffff:10.0.0.9","dst_port":443,"proto":6,"src_packets":101,"src_bytes":10060,"dst_packets":21,"dst_bytes":1554,"records":3,"connections":2,"unanswered":1}
{"minute":"2100-01-15 11:59:00","agent":"web-1","src_ip":"::ffff:10.0.0.1","dst_ip":"::ffff:10.0.0.9","dst_port":443,"proto":6,"src_packets":4,"src_bytes":360,"dst_packets":3,"dst_bytes":1554,"records":3,"connections":2,"unanswered":1}
{"minute":"2100-01-15 11:59:00","agent":"web-1","src_ip":"::ffff:10.0.0.7","dst_ip":"::ffff:10.0.0.1","dst_port":5432,"proto":6,"src_packets":1,"src_bytes":70,"dst_packets":1,"dst_bytes":700,"records":1,"connections":1,"unanswered":0}
{"minute":"2100-01-15 11:59:00","agent":"web-2","src_ip":"::ffff:10.0.0.2","dst_ip":"::ffff:10.0.0.9","dst_port":443,"proto":6,"src_packets":1,"src_bytes":10,"dst_packets":1,"dst_bytes":10,"records":1,"connections":1,"unanswered":0}
-- step
CREATE TABLE DATABASE.imports
(
    `id` String COMMENT 'Import of one file: SHA-256 over format, agent, content and generation; its blocks are inserted under tokens that begin with it',
    `version` UInt64 COMMENT 'Grows with every block; the highest stands',
    `agent` LowCardinality(String) COMMENT 'Name that the flows have in the column agent',
    `format` LowCardinality(String) COMMENT 'What was read: zeek, csv, json, nfcapd',
    `file` String COMMENT 'Absolute path of the file on the host that imported it',
    `digest` String COMMENT 'SHA-256 of its content as it lies on the disk, in hexadecimal',
    `size` UInt64 COMMENT 'Its bytes on the disk',
    `generation` UInt32 COMMENT '0, and one more each time that it was imported again on demand',
    `shift_us` Int64 COMMENT 'Microseconds that were added to its times',
    `begun` Bool COMMENT 'Whether one of its blocks may be stored',
    `blocks` UInt32 COMMENT 'Blocks that are known to be stored',
    `records` UInt64 COMMENT 'Records of the file that these blocks stand for',
    `rows` UInt64 COMMENT 'Rows of flows that these blocks hold',
    `done` Bool COMMENT 'Whether the file is stored to its end; else the same command goes on after the last block',
    `updated` DateTime64(3, 'UTC') COMMENT 'When the last block was stored',
    `last_insert` Int64 COMMENT 'Number of the newest part of flows at that time: tells whether ClickHouse still remembers the token of the block after it'
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (agent, id)
SETTINGS index_granularity = 8192
COMMENT 'Files that `import` has stored, or begun to. Read it with FINAL.'
-- step
INSERT INTO DATABASE.imports (`id`, `version`, `agent`, `format`, `file`, `digest`, `size`, `generation`, `shift_us`, `begun`, `blocks`, `records`, `rows`, `done`, `updated`, `last_insert`) FORMAT JSONEachRow
{"id":"i","version":1,"agent":"zeek-1","format":"zeek","file":"\/conn.log","digest":"d","size":100,"generation":0,"shift_us":0,"begun":true,"blocks":1,"records":2,"rows":2,"done":true,"updated":"2100-01-15 12:00:00.000","last_insert":0}
-- step
CREATE TABLE DATABASE.incidents
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
TTL toDateTime(ended) + toIntervalDay(365)
SETTINGS index_granularity = 8192
COMMENT 'Findings merged over entities and time.'
-- step
INSERT INTO DATABASE.incidents (`id`, `version`, `status`, `severity`, `title`, `kinds`, `entities`, `findings`, `started`, `ended`, `opened`) FORMAT JSONEachRow
{"id":"i-1","version":2,"status":"closed","severity":"high","title":"scan","kinds":["port_scan"],"entities":["10.0.0.1"],"findings":1,"started":"2100-01-15 11:59:00.000","ended":"2100-01-15 11:59:40.000","opened":"2100-01-15 12:00:00.000"}
-- step
CREATE TABLE DATABASE.refused_batches
(
    `time` DateTime64(3, 'UTC') COMMENT 'When NATS stored the batch' CODEC(Delta(8), ZSTD(1)),
    `agent` LowCardinality(String) COMMENT 'Agent that the subject names, empty if it names none: who sent the batch, if NATS lets each agent publish on its own subject only' CODEC(ZSTD(1)),
    `reason` LowCardinality(String) COMMENT 'subject (names no agent), undecodable, version (of a newer agent), invalid, forged_agent (the batch names another agent than the subject), future or ancient (a time in it is too far from that of NATS)' CODEC(ZSTD(1)),
    `subject` String COMMENT 'NATS subject' CODEC(ZSTD(1)),
    `detail` String COMMENT 'What exactly is wrong; may quote what the sender wrote' CODEC(ZSTD(1)),
    `message_id` String COMMENT 'agent:boot:sequence as the sender wrote it, empty if it did not' CODEC(ZSTD(1)),
    `bytes` UInt32 COMMENT 'Size of the message' CODEC(T64, ZSTD(1)),
    `sequence` UInt64 COMMENT 'Number of the message in the stream of batches' CODEC(Delta(8), ZSTD(1))
)
ENGINE = MergeTree
PARTITION BY toDate(time)
ORDER BY (agent, reason, time)
TTL toDateTime(time) + toIntervalDay(30)
SETTINGS ttl_only_drop_parts = 1, non_replicated_deduplication_window = 10000, index_granularity = 8192
COMMENT 'One row per batch that was refused, and once more each time that it is replayed and refused again. Its flow records are in no table; its bytes wait in the dead letters (collector dlq list), from which it can be replayed.'
-- step
INSERT INTO DATABASE.refused_batches (`time`, `agent`, `reason`, `subject`, `detail`, `message_id`, `bytes`, `sequence`) FORMAT JSONEachRow
{"time":"2100-01-15 12:00:00.000","agent":"web-1","reason":"ancient","subject":"ebbwatch.flows.web-1","detail":"old","message_id":"web-1:boot-a:7","bytes":100,"sequence":7}
-- step
CREATE TABLE DATABASE.reports
(
    `id` String COMMENT 'Identifier; also the webhook-id of its deliveries',
    `version` UInt64 COMMENT 'Milliseconds since the Unix epoch of this version; the highest stands',
    `kind` Enum8('incident' = 1, 'periodic' = 2) COMMENT 'About one incident, or about a period',
    `subject` String COMMENT 'Incident id, or the schedule\'s name',
    `window_start` DateTime64(3, 'UTC') COMMENT 'Start of what the report covers',
    `window_end` DateTime64(3, 'UTC') COMMENT 'End of what the report covers',
    `severity` Enum8('info' = 1, 'low' = 2, 'medium' = 3, 'high' = 4, 'critical' = 5) COMMENT 'Severity',
    `title` String COMMENT 'One line',
    `author` LowCardinality(String) COMMENT '\'template\', or the model that worded it',
    `note` String COMMENT 'Why the model\'s words were not used, or which of its claims were dropped',
    `markdown` String COMMENT 'The report as Markdown' CODEC(ZSTD(3)),
    `html` String COMMENT 'The report as HTML' CODEC(ZSTD(3)),
    `json` String COMMENT 'The report as JSON' CODEC(ZSTD(3)),
    `created` DateTime64(3, 'UTC') COMMENT 'When it was made'
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (id)
TTL toDateTime(created) + toIntervalDay(365)
SETTINGS index_granularity = 8192
COMMENT 'An incident or a period, in words.'
-- step
INSERT INTO DATABASE.reports (`id`, `version`, `kind`, `subject`, `window_start`, `window_end`, `severity`, `title`, `author`, `note`, `markdown`, `html`, `json`, `created`) FORMAT JSONEachRow
{"id":"r-1","version":1,"kind":"incident","subject":"i-1","window_start":"2100-01-15 12:00:00.000","window_end":"2100-01-15 12:00:00.000","severity":"high","title":"A scan","author":"template","note":"","markdown":"# A","html":"","json":"{}","created":"2100-01-15 12:00:00.000"}
-- step
CREATE TABLE DATABASE.runs
(
    `agent` LowCardinality(String) COMMENT 'Agent',
    `boot` String COMMENT 'One run of the agent' CODEC(ZSTD(1)),
    `first` SimpleAggregateFunction(min, DateTime64(3, 'UTC')) COMMENT 'End of the first drain interval that is stored' CODEC(ZSTD(1)),
    `last` SimpleAggregateFunction(max, DateTime64(3, 'UTC')) COMMENT 'End of the last drain interval that is stored' CODEC(ZSTD(1)),
    `last_sequence` SimpleAggregateFunction(max, UInt64) COMMENT 'Highest number of a batch that is stored' CODEC(ZSTD(1))
)
ENGINE = AggregatingMergeTree
ORDER BY (agent, boot)
TTL toDateTime(last) + toIntervalDay(90)
SETTINGS index_granularity = 8192
COMMENT 'One row per run of an agent, from coverage. Always aggregate with min(first), max(last) and max(last_sequence): rows of one key may not be merged yet. The view agent_runs tells how runs ended.'
-- step
INSERT INTO DATABASE.runs (`agent`, `boot`, `first`, `last`, `last_sequence`) FORMAT JSONEachRow
{"agent":"gap","boot":"boot-4","first":"2100-01-15 11:46:40.000","last":"2100-01-15 11:46:50.000","last_sequence":3}
{"agent":"restarts","boot":"boot-1","first":"2100-01-15 11:45:00.000","last":"2100-01-15 11:45:06.000","last_sequence":3}
{"agent":"restarts","boot":"boot-2","first":"2100-01-15 11:45:20.000","last":"2100-01-15 11:45:22.000","last_sequence":2}
{"agent":"restarts","boot":"boot-3","first":"2100-01-15 11:45:30.000","last":"2100-01-15 11:45:30.000","last_sequence":1}
{"agent":"warns","boot":"boot-b","first":"2100-01-15 11:59:10.000","last":"2100-01-15 11:59:10.000","last_sequence":1}
{"agent":"web-1","boot":"boot-a","first":"2100-01-15 11:59:00.000","last":"2100-01-15 11:59:00.000","last_sequence":1}
{"agent":"web-1","boot":"boot-a","first":"2100-01-15 11:59:00.000","last":"2100-01-15 11:59:10.000","last_sequence":2}
{"agent":"web-1","boot":"boot-b","first":"2100-01-15 11:59:30.000","last":"2100-01-15 11:59:32.000","last_sequence":6}
{"agent":"young","boot":"boot-5","first":"2100-01-15 11:48:20.000","last":"2100-01-15 11:48:20.000","last_sequence":1}
-- step
CREATE TABLE DATABASE.schema_migrations
(
    `version` UInt32 COMMENT 'Number of the migration',
    `file` String COMMENT 'Its file',
    `checksum` String COMMENT 'SHA-256 of the file in hexadecimal: an applied file must never change',
    `applied` DateTime64(3, 'UTC') COMMENT 'When its last step ended',
    `duration_ms` UInt64 COMMENT 'Milliseconds that its steps took',
    `applied_by` String COMMENT 'Build that applied it'
)
ENGINE = ReplacingMergeTree(applied)
ORDER BY version
SETTINGS index_granularity = 8192
COMMENT 'Migrations that were applied to this database. Written by the collector; do not edit.'
-- step
INSERT INTO DATABASE.schema_migrations (`version`, `file`, `checksum`, `applied`, `duration_ms`, `applied_by`) FORMAT JSONEachRow
{"version":1,"file":"0001_flows.sql","checksum":"278199bd89ecf325816457ff5389e13621f7bd22baf0ab4400d5a81315993b31","applied":"2026-11-21 18:30:52.681","duration_ms":119,"applied_by":"test build"}
{"version":10,"file":"0010_imports.sql","checksum":"d1b735c9a4ae560dfd3d198bd8f57f923a8957376e49f32b0ef837148e4ba18f","applied":"2026-11-21 18:30:54.318","duration_ms":59,"applied_by":"test build"}
{"version":2,"file":"0002_findings.sql","checksum":"2fab8a6eaaf7a709d5841414fe8baece5974dcf0b18d73d208a5a55105fa0efb","applied":"2026-11-21 18:30:52.706","duration_ms":20,"applied_by":"test build"}
{"version":3,"file":"0003_views.sql","checksum":"141af085c7364e9743138c8173ebb2655dcb06cb3de84f63b1156816b7b3fe29","applied":"2026-11-21 18:30:52.943","duration_ms":228,"applied_by":"test build"}
{"version":4,"file":"0004_attributes.sql","checksum":"956da101b5545b88510da595af8f9fdf84680c917452cd2d93299d357fd85688","applied":"2026-11-21 18:30:53.238","duration_ms":273,"applied_by":"test build"}
{"version":5,"file":"0005_views.sql","checksum":"d3e5077c24b53b780ce15dd1dbb25e18bfaea85648b8a0f8fc86f7014b12ce83","applied":"2026-11-21 18:30:53.564","duration_ms":318,"applied_by":"test build"}
{"version":6,"file":"0006_runs.sql","checksum":"acdc902edd71b26bc43066bc18d726ef6e705fe99d15ec09817b5b95bd79b8d1","applied":"2026-11-21 18:30:53.620","duration_ms":50,"applied_by":"test build"}
{"version":7,"file":"0007_stored.sql","checksum":"aa5b7e032e754ff36105caef89fed8a20730e98fdc51b5577c90efdf381dc803","applied":"2026-11-21 18:30:53.670","duration_ms":44,"applied_by":"test build"}
{"version":8,"file":"0008_refused.sql","checksum":"96f0bbc1d8bf5e172c65c1e6e89e51f12bf36132a129859267ea8876d9a8b9bc","applied":"2026-11-21 18:30:53.706","duration_ms":28,"applied_by":"test build"}
{"version":9,"file":"0009_comments.sql","checksum":"5279ca6733993dcaa768430ed7d806aaa71581b80977a2b91bc03e4268775401","applied":"2026-11-21 18:30:54.202","duration_ms":481,"applied_by":"test build"}
-- step
CREATE TABLE DATABASE.sources
(
    `time` DateTime64(3, 'UTC') COMMENT 'When the agent looked' CODEC(Delta(8), ZSTD(1)),
    `received` DateTime64(3, 'UTC') COMMENT 'When NATS stored the batch' CODEC(Delta(8), ZSTD(1)),
    `agent` LowCardinality(String) COMMENT 'Agent' CODEC(ZSTD(1)),
    `addr` IPv6 COMMENT 'Sender; IPv4 as ::ffff:a.b.c.d; :: where others is true' CODEC(ZSTD(1)),
    `others` Bool COMMENT 'Whether the row stands for all senders that had no room of their own' CODEC(ZSTD(1)),
    `interval_ms` UInt32 COMMENT 'Milliseconds that the drain interval had lasted: the row covers all of it so far' CODEC(T64, ZSTD(1)),
    `flows` UInt64 COMMENT 'Entries of the flow map that the sender began, and its packets that found no room' CODEC(T64, ZSTD(1)),
    `targets` UInt64 COMMENT 'Distinct (address, protocol, port) that it sent to, estimated by a sketch' CODEC(T64, ZSTD(1)),
    `overflow_packets` UInt64 COMMENT 'Its packets that found no room in the flow map, so that no flow record tells of them' CODEC(T64, ZSTD(1)),
    `overflow_bytes` UInt64 COMMENT 'Bytes of overflow_packets' CODEC(T64, ZSTD(1)),
    `src` String ALIAS replaceRegexpOne(toString(addr), '^::ffff:([0-9.]+)$', '\\1') COMMENT 'addr as people write it: IPv4 without ::ffff:',
    INDEX addr_bloom addr TYPE bloom_filter(0.01) GRANULARITY 4
)
ENGINE = MergeTree
PARTITION BY toDate(time)
ORDER BY (toStartOfFiveMinutes(time), agent, addr, time)
TTL toDateTime(time) + toIntervalDay(7)
SETTINGS ttl_only_drop_parts = 1, non_replicated_deduplication_window = 10000, index_granularity = 8192
COMMENT 'Early warning: what the busiest senders did during the drain interval so far. Rows of one interval repeat and grow: take max(), never sum(), over the rows of one agent and sender.'
-- step
INSERT INTO DATABASE.sources (`time`, `received`, `agent`, `addr`, `others`, `interval_ms`, `flows`, `targets`, `overflow_packets`, `overflow_bytes`) FORMAT JSONEachRow
{"time":"2100-01-15 11:59:58.000","received":"2100-01-15 12:00:00.000","agent":"web-1","addr":"2001:db8::7","others":false,"interval_ms":3000,"flows":40,"targets":30,"overflow_packets":0,"overflow_bytes":0}
{"time":"2100-01-15 11:59:58.000","received":"2100-01-15 12:00:00.000","agent":"web-1","addr":"::","others":true,"interval_ms":3000,"flows":9,"targets":5,"overflow_packets":0,"overflow_bytes":0}
{"time":"2100-01-15 11:59:58.000","received":"2100-01-15 12:00:00.000","agent":"web-1","addr":"::ffff:192.0.2.7","others":false,"interval_ms":3000,"flows":30,"targets":20,"overflow_packets":4,"overflow_bytes":240}
{"time":"2100-01-15 11:59:59.000","received":"2100-01-15 12:00:00.000","agent":"web-1","addr":"::ffff:192.0.2.7","others":false,"interval_ms":4000,"flows":70,"targets":60,"overflow_packets":9,"overflow_bytes":540}
-- step
CREATE MATERIALIZED VIEW DATABASE.flows_1m_mv TO DATABASE.flows_1m
(
    `minute` DateTime('UTC'),
    `agent` LowCardinality(String),
    `src_ip` IPv6,
    `dst_ip` IPv6,
    `dst_port` UInt16,
    `proto` UInt8,
    `src_packets` UInt64,
    `src_bytes` UInt64,
    `dst_packets` UInt64,
    `dst_bytes` UInt64,
    `records` UInt64,
    `connections` UInt64,
    `unanswered` UInt64
)
COMMENT 'Fills flows_1m from every insert into flows, but for records without packets; not for reading.'
AS SELECT
    toStartOfMinute(toDateTime(start, 'UTC')) AS minute,
    agent,
    src_ip,
    dst_ip,
    dst_port,
    proto,
    sum(src_packets) AS src_packets,
    sum(src_bytes) AS src_bytes,
    sum(dst_packets) AS dst_packets,
    sum(dst_bytes) AS dst_bytes,
    count() AS records,
    countIf(age_ms = 0) AS connections,
    countIf((age_ms = 0) AND (conn_state IN ('S0', 'REJ', 'RSTOS0', 'SH'))) AS unanswered
FROM DATABASE.flows AS f
WHERE (f.src_packets + f.dst_packets) > 0
GROUP BY
    minute,
    agent,
    src_ip,
    dst_ip,
    dst_port,
    proto
-- step
CREATE MATERIALIZED VIEW DATABASE.runs_mv TO DATABASE.runs
(
    `agent` LowCardinality(String),
    `boot` LowCardinality(String),
    `first` DateTime64(3, 'UTC'),
    `last` DateTime64(3, 'UTC'),
    `last_sequence` UInt64
)
COMMENT 'Fills runs from every insert into coverage; not for reading.'
AS SELECT
    agent,
    boot,
    min(time) AS first,
    max(time) AS last,
    max(sequence) AS last_sequence
FROM DATABASE.coverage
GROUP BY
    agent,
    boot
-- step
CREATE VIEW DATABASE.agent_runs
(
    `agent` LowCardinality(String) COMMENT 'Agent',
    `version` String COMMENT 'Build of the agent',
    `boot` LowCardinality(String) COMMENT 'One run of the agent',
    `began` DateTime64(3, 'UTC') COMMENT 'Start of the first drain interval',
    `last_drain` DateTime64(3, 'UTC') COMMENT 'End of the last drain interval',
    `state` String COMMENT 'ended, broken off or running',
    `missing_batches` Int64 COMMENT 'Batches of the run that are not stored',
    `unwatched_seconds` Nullable(Float64) COMMENT 'Seconds since the last drain of the run before, empty for the first run'
)
COMMENT 'Each run of an agent in the last 7 days, latest first. state: ended (in order: all that it counted was sent), broken off (killed, crashed, or its last batches are lost or under way: what passed after last_drain is in no record), running (no later run is known; see last_heartbeat of agents). unwatched_seconds is the time from the last drain of the run before, empty for the first: nobody recorded what passed in it.'
AS SELECT
    agent,
    version,
    boot,
    began,
    last_drain,
    multiIf(in_order, 'ended', followed, 'broken off', 'running') AS state,
    missing AS missing_batches,
    if(preceded, greatest(0, dateDiff('millisecond', drain_before, began)) / 1000, NULL) AS unwatched_seconds
FROM
(
    SELECT
        *,
        row_number() OVER runs > 1 AS preceded,
        row_number() OVER runs < count() OVER (PARTITION BY agent) AS followed,
        lagInFrame(last_drain) OVER runs AS drain_before
    FROM
    (
        SELECT
            agent,
            boot,
            argMaxIf(agent_version, time, interval_ms > 0) AS version,
            minIf(time - toIntervalMillisecond(interval_ms), interval_ms > 0) AS began,
            maxIf(time, interval_ms > 0) AS last_drain,
            max(last_of_run) AS in_order,
            ((max(sequence) - min(sequence)) + 1) - uniqExact(sequence) AS missing
        FROM DATABASE.coverage
        WHERE time >= (now() - toIntervalDay(7))
        GROUP BY
            agent,
            boot
        HAVING countIf(interval_ms > 0) > 0
    )
    WINDOW runs AS (PARTITION BY agent ORDER BY began ASC, boot ASC ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING)
)
ORDER BY
    began DESC,
    agent ASC
-- step
CREATE VIEW DATABASE.agents
(
    `agent` LowCardinality(String) COMMENT 'Agent',
    `version` String COMMENT 'Build of the agent',
    `last_heartbeat` DateTime64(3, 'UTC') COMMENT 'End of the last drain interval',
    `silent_seconds` Int64 COMMENT 'Seconds since last_heartbeat',
    `coverage_percent` Nullable(Float64) COMMENT 'Share of the packets taken that stand in records or are not IP, empty without traffic',
    `seen_packets` UInt64 COMMENT 'Packets that passed the attach points',
    `overflow_packets` UInt64 COMMENT 'Packets that found no room in the flow map',
    `skipped_packets` UInt64 COMMENT 'Packets that sampling left out',
    `unaccounted_packets` Int64 COMMENT 'Seen less everything that is accounted for: must be 0',
    `flows` UInt64 COMMENT 'Flow records',
    `losses` Map(String, UInt64) COMMENT 'What the agent had to give up since its start, by counter',
    `starts` UInt64 COMMENT 'Runs of the agent in the last day'
)
COMMENT 'Each agent that was heard in the last day: its last heartbeat (end of a drain), and over the last 15 minutes the share of packets that stand in flow records or are not IP (coverage_percent, empty without traffic; where packets are sampled, of those taken), what overflowed, and what sampling skipped; unaccounted_packets must be 0. losses are counters since its start; starts counts its runs in the day.'
AS SELECT
    c.agent AS agent,
    argMaxIf(c.agent_version, c.time, c.drain) AS version,
    maxIf(c.time, c.drain) AS last_heartbeat,
    dateDiff('second', last_heartbeat, now64(3)) AS silent_seconds,
    round((100 * sumIf(c.recorded_packets + c.other_packets, c.recent)) / nullIf(sumIf(c.seen_packets - c.skipped_packets, c.recent), 0), 3) AS coverage_percent,
    sumIf(c.seen_packets, c.recent) AS seen_packets,
    sumIf(c.overflow_packets, c.recent) AS overflow_packets,
    sumIf(c.skipped_packets, c.recent) AS skipped_packets,
    toInt64(sumIf(c.seen_packets, c.recent)) - sumIf(((c.recorded_packets + c.overflow_packets) + c.other_packets) + c.skipped_packets, c.recent) AS unaccounted_packets,
    sumIf(c.flows, c.recent) AS flows,
    argMaxIf(c.losses, c.time, c.drain) AS losses,
    uniqExact(c.boot) AS starts
FROM
(
    SELECT
        *,
        time >= (now() - toIntervalMinute(15)) AS recent,
        interval_ms > 0 AS drain
    FROM DATABASE.coverage
    WHERE time >= (now() - toIntervalDay(1))
) AS c
GROUP BY c.agent
HAVING countIf(c.drain) > 0
ORDER BY agent ASC
-- step
CREATE VIEW DATABASE.conversations
(
    `started` DateTime64(3, 'UTC') COMMENT 'When it began',
    `ended` DateTime64(3, 'UTC') COMMENT 'When it ended, or was seen last',
    `agent` LowCardinality(String) COMMENT 'Agent',
    `src` String COMMENT 'Initiator, as people write it',
    `src_port` UInt16 COMMENT 'Port of the initiator',
    `dst` String COMMENT 'Responder, as people write it',
    `dst_port` UInt16 COMMENT 'Port of the responder',
    `proto` UInt8 COMMENT 'IANA protocol number: 6 TCP, 17 UDP',
    `conn_state` Enum8('OTH' = 0, 'S0' = 1, 'S1' = 2, 'SF' = 3, 'REJ' = 4, 'S2' = 5, 'S3' = 6, 'RSTO' = 7, 'RSTR' = 8, 'RSTOS0' = 9, 'RSTRH' = 10, 'SH' = 11, 'SHR' = 12) COMMENT 'State as Zeek defines it, at the last record',
    `initiator` Enum8('unknown' = 0, 'syn' = 1, 'socket' = 2, 'first' = 3) COMMENT 'How the initiator is known',
    `src_sent_bytes` UInt64 COMMENT 'Bytes sent by the initiator',
    `dst_sent_bytes` UInt64 COMMENT 'Bytes sent by the responder',
    `src_sent_packets` UInt64 COMMENT 'Packets sent by the initiator',
    `dst_sent_packets` UInt64 COMMENT 'Packets sent by the responder',
    `src_tcp_flags` UInt16 COMMENT 'TCP flags of the initiator, OR-ed',
    `dst_tcp_flags` UInt16 COMMENT 'TCP flags of the responder, OR-ed',
    `over` Bool COMMENT 'Whether the agent saw the end',
    `records` UInt64 COMMENT 'Flow records that were summed',
    `app` Enum8('' = 0, 'dns' = 1, 'tls' = 2, 'http' = 3, 'quic' = 4) COMMENT 'Application protocol by its content',
    `server_name` String COMMENT 'Name that was asked for; its words are the sender\'s',
    `src_process` String COMMENT 'Process of the initiator, where it is local',
    `src_unit` String COMMENT 'systemd unit of src_process',
    `src_container` String COMMENT 'Container id of src_process',
    `dst_process` String COMMENT 'Process of the responder, where it is local',
    `dst_unit` String COMMENT 'systemd unit of dst_process',
    `dst_container` String COMMENT 'Container id of dst_process',
    `handshake_ms` Float64 COMMENT 'Milliseconds of the TCP handshake, 0 if unknown',
    `rtt_ms` Float64 COMMENT 'Last known smoothed round-trip time in milliseconds, 0 if unknown',
    `retransmits` UInt64 COMMENT 'TCP segments that were sent again',
    `drops` UInt64 COMMENT 'Packets that the kernel of the agent\'s host dropped',
    `drop_reason` String COMMENT 'The kernel\'s name of the reason of drops',
    `interfaces` String COMMENT 'Interfaces of the host that saw it',
    `netns` String COMMENT 'Network namespace, empty for the agent\'s own',
    `tunnel` Enum8('' = 0, 'vxlan' = 1, 'geneve' = 2, 'gre' = 3, 'ipip' = 4) COMMENT 'Innermost encapsulation, empty for none',
    `tunnel_id` UInt32 COMMENT 'VNI or GRE key'
)
COMMENT 'Conversations of the last hour, newest first: the records of one agent, both addresses, ports and protocol summed. over is 1 once the agent saw the end; a tuple that was used twice within the hour is one row. Processes, units and containers are known for sockets of the agent\'s host; rtt_ms is the last known, 0 if none is. Packets that the host dropped before any interface saw them are in drops only.'
AS SELECT
    min(f.start) AS started,
    max(f.end) AS ended,
    f.agent AS agent,
    f.src AS src,
    f.src_port AS src_port,
    f.dst AS dst,
    f.dst_port AS dst_port,
    f.proto AS proto,
    argMax(f.conn_state, f.start) AS conn_state,
    argMax(f.initiator, f.start) AS initiator,
    sum(f.src_bytes) AS src_sent_bytes,
    sum(f.dst_bytes) AS dst_sent_bytes,
    sum(f.src_packets) AS src_sent_packets,
    sum(f.dst_packets) AS dst_sent_packets,
    groupBitOr(f.src_flags) AS src_tcp_flags,
    groupBitOr(f.dst_flags) AS dst_tcp_flags,
    max(f.final) AS over,
    count() AS records,
    max(f.app) AS app,
    max(f.server_name) AS server_name,
    max(f.src_process) AS src_process,
    max(f.src_unit) AS src_unit,
    max(f.src_container) AS src_container,
    max(f.dst_process) AS dst_process,
    max(f.dst_unit) AS dst_unit,
    max(f.dst_container) AS dst_container,
    max(f.handshake_us) / 1000 AS handshake_ms,
    argMaxIf(f.rtt_us, f.start, f.rtt_us > 0) / 1000 AS rtt_ms,
    sum(f.src_retransmits) + sum(f.dst_retransmits) AS retransmits,
    sum(f.src_drops) + sum(f.dst_drops) AS drops,
    max(f.drop_reason) AS drop_reason,
    max(f.interfaces) AS interfaces,
    max(f.netns) AS netns,
    max(f.tunnel) AS tunnel,
    max(f.tunnel_id) AS tunnel_id
FROM DATABASE.flows AS f
WHERE f.start >= (now() - toIntervalHour(1))
GROUP BY
    f.agent,
    f.src_ip,
    f.src,
    f.src_port,
    f.dst_ip,
    f.dst,
    f.dst_port,
    f.proto
ORDER BY started DESC
-- step
CREATE VIEW DATABASE.conversations_of
COMMENT 'As conversations, with address on either side, from since to until (UTC).'
AS SELECT
    min(f.start) AS started,
    max(f.end) AS ended,
    f.agent AS agent,
    f.src AS src,
    f.src_port AS src_port,
    f.dst AS dst,
    f.dst_port AS dst_port,
    f.proto AS proto,
    argMax(f.conn_state, f.start) AS conn_state,
    argMax(f.initiator, f.start) AS initiator,
    sum(f.src_bytes) AS src_sent_bytes,
    sum(f.dst_bytes) AS dst_sent_bytes,
    sum(f.src_packets) AS src_sent_packets,
    sum(f.dst_packets) AS dst_sent_packets,
    groupBitOr(f.src_flags) AS src_tcp_flags,
    groupBitOr(f.dst_flags) AS dst_tcp_flags,
    max(f.final) AS over,
    count() AS records,
    max(f.app) AS app,
    max(f.server_name) AS server_name,
    max(f.src_process) AS src_process,
    max(f.src_unit) AS src_unit,
    max(f.src_container) AS src_container,
    max(f.dst_process) AS dst_process,
    max(f.dst_unit) AS dst_unit,
    max(f.dst_container) AS dst_container,
    max(f.handshake_us) / 1000 AS handshake_ms,
    argMaxIf(f.rtt_us, f.start, f.rtt_us > 0) / 1000 AS rtt_ms,
    sum(f.src_retransmits) + sum(f.dst_retransmits) AS retransmits,
    sum(f.src_drops) + sum(f.dst_drops) AS drops,
    max(f.drop_reason) AS drop_reason,
    max(f.interfaces) AS interfaces,
    max(f.netns) AS netns,
    max(f.tunnel) AS tunnel,
    max(f.tunnel_id) AS tunnel_id
FROM DATABASE.flows AS f
WHERE (f.start >= {since:DateTime('UTC')}) AND (f.start < {until:DateTime('UTC')}) AND ((f.src_ip = toIPv6({address:String})) OR (f.dst_ip = toIPv6({address:String})))
GROUP BY
    f.agent,
    f.src_ip,
    f.src,
    f.src_port,
    f.dst_ip,
    f.dst,
    f.dst_port,
    f.proto
ORDER BY started DESC
-- step
CREATE VIEW DATABASE.early_warnings
(
    `time` DateTime64(3, 'UTC') COMMENT 'End of the second',
    `agent` LowCardinality(String) COMMENT 'Agent',
    `packets_per_second` Float64 COMMENT 'Packets a second over all attach points',
    `bytes_per_second` Float64 COMMENT 'Bytes a second over all attach points',
    `syn_packets` UInt64 COMMENT 'TCP packets with SYN and without ACK',
    `syn_ack_packets` UInt64 COMMENT 'TCP packets with SYN and ACK',
    `rst_packets` UInt64 COMMENT 'TCP packets with RST',
    `new_flows` UInt64 COMMENT 'Entries of the flow map that began',
    `overflow_packets` UInt64 COMMENT 'Packets that found no room in the flow map',
    `top_sources` Array(Tuple(
        String,
        UInt64)) COMMENT 'Three senders with the most distinct targets, with that number'
)
COMMENT 'Each agent\'s seconds of the last 15 minutes, newest first, before the flow records come: connections tried (syn_packets) against accepted (syn_ack_packets), new entries of the flow map and packets without room there, over all attach points; top_sources are the three senders with the most distinct targets in the drain interval so far, with that number. A packet that passes two attach points counts at both.'
AS SELECT
    f.time AS time,
    f.agent AS agent,
    round(sum((f.seen_packets * 1000) / f.length)) AS packets_per_second,
    round(sum((f.seen_bytes * 1000) / f.length)) AS bytes_per_second,
    sum(f.syn_packets) AS syn_packets,
    sum(f.syn_ack_packets) AS syn_ack_packets,
    sum(f.rst_packets) AS rst_packets,
    sum(f.new_flows) AS new_flows,
    sum(f.overflow_packets) AS overflow_packets,
    any(s.top) AS top_sources
FROM
(
    SELECT
        *,
        greatest(interval_ms, 1) AS length
    FROM DATABASE.features
    WHERE time >= (now() - toIntervalMinute(15))
) AS f
LEFT JOIN
(
    SELECT
        time,
        agent,
        arraySlice(arrayReverseSort(x -> (x.2), groupArray((if(others, 'all others', src), targets))), 1, 3) AS top
    FROM DATABASE.sources
    WHERE time >= (now() - toIntervalMinute(15))
    GROUP BY
        time,
        agent
) AS s ON (s.time = f.time) AND (s.agent = f.agent)
GROUP BY
    f.time,
    f.agent
ORDER BY
    time DESC,
    agent ASC
-- step
CREATE VIEW DATABASE.findings_evidence
(
    `finding` String COMMENT 'Identifier of the finding',
    `kind` LowCardinality(String) COMMENT 'What was found',
    `severity` Enum8('info' = 1, 'low' = 2, 'medium' = 3, 'high' = 4, 'critical' = 5) COMMENT 'info, low, medium, high or critical',
    `src` String COMMENT 'Initiating address, empty if the finding is not about one',
    `dst` String COMMENT 'Responding address, empty if the finding is not about one',
    `port` UInt16 COMMENT 'Responder port, 0 if the finding is not about one',
    `host` String COMMENT 'Agent that saw it, empty if several did',
    `window_start` DateTime64(3, 'UTC') COMMENT 'Start of what it covers',
    `window_end` DateTime64(3, 'UTC') COMMENT 'End of what it covers',
    `summary` String COMMENT 'One sentence',
    `incident` String COMMENT 'Incident that the finding belongs to',
    `evidence` String COMMENT 'Identifier of the fact within the finding',
    `metric` String COMMENT 'What was measured',
    `value` Float64 COMMENT 'Its value',
    `unit` String COMMENT 'Unit of value',
    `baseline` Nullable(Float64) COMMENT 'What is usual, empty if unknown',
    `query` String COMMENT 'SQL that shows the fact'
)
COMMENT 'One row per measured fact behind a finding: metric, value, unit, what is usual (baseline, if known), and a query that shows it.'
AS SELECT
    f.id AS finding,
    f.kind AS kind,
    f.severity AS severity,
    f.src AS src,
    f.dst AS dst,
    f.port AS port,
    f.host AS host,
    f.window_start AS window_start,
    f.window_end AS window_end,
    f.summary AS summary,
    f.incident AS incident,
    e_id AS evidence,
    e_metric AS metric,
    e_value AS value,
    e_unit AS unit,
    e_baseline AS baseline,
    e_query AS query
FROM DATABASE.findings AS f
FINAL
ARRAY JOIN
    f.evidence.id AS e_id,
    f.evidence.metric AS e_metric,
    f.evidence.value AS e_value,
    f.evidence.unit AS e_unit,
    f.evidence.baseline AS e_baseline,
    f.evidence.query AS e_query
ORDER BY
    window_end DESC,
    finding ASC,
    evidence ASC
-- step
CREATE VIEW DATABASE.latest_deliveries
(
    `report` String COMMENT 'Report that is delivered',
    `title` String COMMENT 'Title of the report',
    `endpoint` LowCardinality(String) COMMENT 'Name of the webhook endpoint',
    `state` Enum8('pending' = 1, 'delivered' = 2, 'retrying' = 3, 'failed' = 4) COMMENT 'pending, delivered, retrying or failed',
    `attempts` UInt32 COMMENT 'Attempts so far',
    `http_status` UInt16 COMMENT 'Status of the last answer, 0 if there was none',
    `error` String COMMENT 'Why the last attempt failed',
    `next_attempt` DateTime64(3, 'UTC') COMMENT 'When it is tried again, if retrying',
    `updated` DateTime64(3, 'UTC') COMMENT 'Time of the last attempt'
)
COMMENT 'State of each report at each webhook endpoint, latest first.'
AS SELECT
    d.report AS report,
    r.title AS title,
    d.endpoint AS endpoint,
    d.state AS state,
    d.attempts AS attempts,
    d.http_status AS http_status,
    d.error AS error,
    d.next_attempt AS next_attempt,
    d.updated AS updated
FROM DATABASE.deliveries AS d
FINAL
LEFT JOIN
(
    SELECT
        id,
        title
    FROM DATABASE.reports
    FINAL
) AS r ON r.id = d.report
ORDER BY updated DESC
-- step
CREATE VIEW DATABASE.latest_findings
(
    `id` String COMMENT 'Identifier',
    `detector` LowCardinality(String) COMMENT 'Detector that found it',
    `kind` LowCardinality(String) COMMENT 'What was found',
    `src` String COMMENT 'Initiating address, empty if the finding is not about one',
    `dst` String COMMENT 'Responding address, empty if the finding is not about one',
    `port` UInt16 COMMENT 'Responder port, 0 if the finding is not about one',
    `host` String COMMENT 'Agent that saw it, empty if several did',
    `window_start` DateTime64(3, 'UTC') COMMENT 'Start of what it covers',
    `window_end` DateTime64(3, 'UTC') COMMENT 'End of what it covers',
    `score` Float64 COMMENT '0 to 1, comparable within one detector',
    `p_value` Float64 COMMENT 'Probability under the detector\'s null model, 1 where it has none',
    `severity` Enum8('info' = 1, 'low' = 2, 'medium' = 3, 'high' = 4, 'critical' = 5) COMMENT 'info, low, medium, high or critical',
    `summary` String COMMENT 'One sentence',
    `incident` String COMMENT 'Incident that the finding belongs to',
    `evidence_count` UInt64 COMMENT 'Facts in findings_evidence'
)
COMMENT 'Each finding in its newest version, latest first. Its facts are in findings_evidence.'
AS SELECT
    id,
    detector,
    kind,
    src,
    dst,
    port,
    host,
    window_start,
    window_end,
    score,
    p_value,
    severity,
    summary,
    incident,
    length(evidence.id) AS evidence_count
FROM DATABASE.findings
FINAL
ORDER BY window_end DESC
-- step
CREATE VIEW DATABASE.latest_incidents
(
    `id` String COMMENT 'Identifier',
    `status` Enum8('open' = 1, 'closed' = 2) COMMENT 'open while findings still arrive, else closed',
    `severity` Enum8('info' = 1, 'low' = 2, 'medium' = 3, 'high' = 4, 'critical' = 5) COMMENT 'info, low, medium, high or critical',
    `title` String COMMENT 'One line',
    `kinds` Array(LowCardinality(String)) COMMENT 'Kinds of its findings',
    `entities` Array(String) COMMENT 'Addresses that its findings are about',
    `findings` UInt32 COMMENT 'Number of findings',
    `started` DateTime64(3, 'UTC') COMMENT 'Earliest start of a finding',
    `ended` DateTime64(3, 'UTC') COMMENT 'Latest end of a finding so far',
    `opened` DateTime64(3, 'UTC') COMMENT 'When the analyzer opened it',
    `lasted_seconds` Int64 COMMENT 'Seconds from started to ended'
)
COMMENT 'Each incident in its newest version, latest first.'
AS SELECT
    id,
    status,
    severity,
    title,
    kinds,
    entities,
    findings,
    started,
    ended,
    opened,
    dateDiff('second', started, ended) AS lasted_seconds
FROM DATABASE.incidents
FINAL
ORDER BY started DESC
-- step
CREATE VIEW DATABASE.latest_reports
(
    `id` String COMMENT 'Identifier',
    `kind` Enum8('incident' = 1, 'periodic' = 2) COMMENT 'incident or periodic',
    `subject` String COMMENT 'Incident id, or the schedule\'s name',
    `window_start` DateTime64(3, 'UTC') COMMENT 'Start of what it covers',
    `window_end` DateTime64(3, 'UTC') COMMENT 'End of what it covers',
    `severity` Enum8('info' = 1, 'low' = 2, 'medium' = 3, 'high' = 4, 'critical' = 5) COMMENT 'info, low, medium, high or critical',
    `title` String COMMENT 'One line',
    `author` LowCardinality(String) COMMENT '\'template\', or the model that worded it',
    `note` String COMMENT 'Why the model\'s words were not used, if so',
    `created` DateTime64(3, 'UTC') COMMENT 'When it was made',
    `markdown` String COMMENT 'The report as Markdown'
)
COMMENT 'Each report in its newest version, latest first. note says why a model\'s words were not used, if so.'
AS SELECT
    id,
    kind,
    subject,
    window_start,
    window_end,
    severity,
    title,
    author,
    note,
    created,
    markdown
FROM DATABASE.reports
FINAL
ORDER BY created DESC
-- step
CREATE VIEW DATABASE.lookups
(
    `name` LowCardinality(String) COMMENT 'DNS name that was asked for',
    `type` LowCardinality(String) COMMENT 'Type of the question',
    `questions` UInt64 COMMENT 'Questions',
    `answered` UInt64 COMMENT 'Answered with NOERROR',
    `no_such_name` UInt64 COMMENT 'Answered with NXDOMAIN',
    `errors` UInt64 COMMENT 'Answered with another code',
    `unanswered` UInt64 COMMENT 'Without an answer',
    `clients` UInt64 COMMENT 'Distinct addresses that asked',
    `median_ms` Nullable(Float64) COMMENT 'Median milliseconds from the first request to the first answer',
    `p95_ms` Nullable(Float64) COMMENT '95th percentile of the same, in milliseconds',
    `first_seen` DateTime64(3, 'UTC') COMMENT 'When it was seen first',
    `last_seen` DateTime64(3, 'UTC') COMMENT 'When it was seen last'
)
COMMENT 'DNS names that were asked for in the last hour, most first, with how they were answered and how long that took. One conversation shows one question, its first; several agents that see the same question each count it.'
AS SELECT
    server_name AS name,
    dns_type AS type,
    count() AS questions,
    countIf(dns_rcode = 'NOERROR') AS answered,
    countIf(dns_rcode = 'NXDOMAIN') AS no_such_name,
    countIf(dns_rcode NOT IN ('', 'NOERROR', 'NXDOMAIN')) AS errors,
    countIf(dns_rcode = '') AS unanswered,
    uniq(src_ip) AS clients,
    round(quantileOrNullIf(0.5)(app_latency_us, app_latency_us > 0) / 1000, 3) AS median_ms,
    round(quantileOrNullIf(0.95)(app_latency_us, app_latency_us > 0) / 1000, 3) AS p95_ms,
    min(start) AS first_seen,
    max(start) AS last_seen
FROM DATABASE.flows
WHERE (start >= (now() - toIntervalHour(1))) AND (app = 'dns') AND (server_name != '')
GROUP BY
    name,
    type
ORDER BY questions DESC
-- step
CREATE VIEW DATABASE.lookups_of
COMMENT 'Who asked for name or a name below it from since to until (UTC), by DNS, TLS, HTTP or QUIC (app): client (src) with src_process, src_unit and src_container where known, server (dst, dst_port), dns_type and dns_rcode of DNS, the number of conversations with first_seen and last_seen, and the agents that saw them (seen_by, 10 at most).'
AS SELECT
    min(start) AS first_seen,
    max(start) AS last_seen,
    app,
    src,
    src_process,
    src_unit,
    src_container,
    dst,
    dst_port,
    dns_type,
    dns_rcode,
    count() AS conversations,
    groupUniqArray(10)(agent) AS seen_by
FROM DATABASE.flows
WHERE (start >= {since:DateTime('UTC')}) AND (start < {until:DateTime('UTC')}) AND ((lower(server_name) = lower({name:String})) OR endsWith(lower(server_name), concat('.', lower({name:String}))))
GROUP BY
    app,
    src_ip,
    src,
    src_process,
    src_unit,
    src_container,
    dst_ip,
    dst,
    dst_port,
    dns_type,
    dns_rcode
ORDER BY first_seen DESC
-- step
CREATE VIEW DATABASE.missing_batches
(
    `agent` LowCardinality(String) COMMENT 'Agent',
    `boot` LowCardinality(String) COMMENT 'One run of the agent',
    `since` DateTime64(3, 'UTC') COMMENT 'Time of the first batch',
    `until` DateTime64(3, 'UTC') COMMENT 'Time of the last batch',
    `missing` Int64 COMMENT 'Numbers between the first and the last batch that are not there'
)
COMMENT 'Gaps in the numbered batches of each run of an agent, as far back as coverage reaches: batches that were dropped, refused (see collector dlq list) or are still under way.'
AS SELECT
    agent,
    boot,
    min(time) AS since,
    max(time) AS until,
    ((max(sequence) - min(sequence)) + 1) - uniqExact(sequence) AS missing
FROM DATABASE.coverage
GROUP BY
    agent,
    boot
HAVING missing > 0
ORDER BY until DESC
-- step
CREATE VIEW DATABASE.new_pairs
(
    `src` String COMMENT 'Initiator, as people write it',
    `dst` String COMMENT 'Responder, as people write it',
    `port` UInt16 COMMENT 'Port of the responder',
    `proto` UInt8 COMMENT 'IANA protocol number: 6 TCP, 17 UDP',
    `first_seen` DateTime('UTC') COMMENT 'When it was seen first',
    `last_seen` DateTime('UTC') COMMENT 'When it was seen last',
    `src_sent_bytes` UInt64 COMMENT 'Bytes sent by the initiator',
    `dst_sent_bytes` UInt64 COMMENT 'Bytes sent by the responder',
    `opened` UInt64 COMMENT 'Connections that began',
    `seen_by` Array(String) COMMENT 'Agents that saw it, 10 at most'
)
COMMENT 'Who connected in the last day to what it had not connected to before, as far back as the rollup reaches (30 days). In the first days of an installation that is everything.'
AS SELECT
    src,
    dst,
    dst_port AS port,
    proto,
    min(minute) AS first_seen,
    max(minute) AS last_seen,
    sum(src_bytes) AS src_sent_bytes,
    sum(dst_bytes) AS dst_sent_bytes,
    sum(connections) AS opened,
    groupUniqArray(10)(agent) AS seen_by
FROM DATABASE.flows_1m
GROUP BY
    src_ip,
    dst_ip,
    src,
    dst,
    port,
    proto
HAVING first_seen >= (now() - toIntervalDay(1))
ORDER BY first_seen DESC
-- step
CREATE VIEW DATABASE.new_pairs_since
COMMENT 'As new_pairs, first seen at since or later.'
AS SELECT
    src,
    dst,
    dst_port AS port,
    proto,
    min(minute) AS first_seen,
    max(minute) AS last_seen,
    sum(src_bytes) AS src_sent_bytes,
    sum(dst_bytes) AS dst_sent_bytes,
    sum(connections) AS opened,
    groupUniqArray(10)(agent) AS seen_by
FROM DATABASE.flows_1m
GROUP BY
    src_ip,
    dst_ip,
    src,
    dst,
    port,
    proto
HAVING first_seen >= {since:DateTime('UTC')}
ORDER BY first_seen DESC
-- step
CREATE VIEW DATABASE.path_health
(
    `src` String COMMENT 'Initiator, as people write it',
    `dst` String COMMENT 'Responder, as people write it',
    `packets` UInt64 COMMENT 'Packets both ways',
    `src_retransmit_percent` Nullable(Float64) COMMENT 'Share of the initiator\'s packets that were sent again',
    `dst_retransmit_percent` Nullable(Float64) COMMENT 'Share of the responder\'s packets that were sent again',
    `median_handshake_ms` Nullable(Float64) COMMENT 'Median milliseconds of the TCP handshake, empty if unknown',
    `median_rtt_ms` Nullable(Float64) COMMENT 'Median round-trip time in milliseconds, empty if unknown',
    `p95_rtt_ms` Nullable(Float64) COMMENT '95th percentile of the round-trip time in milliseconds',
    `src_zero_windows` UInt64 COMMENT 'Times the initiator closed its receive window',
    `dst_zero_windows` UInt64 COMMENT 'Times the responder closed its receive window',
    `resets` UInt64 COMMENT 'TCP segments with RST',
    `drops` Map(String, UInt64) COMMENT 'Packets that a kernel dropped, by reason',
    `seen_by` UInt64 COMMENT 'Number of agents that saw the pair'
)
COMMENT 'How well TCP went between two addresses in the last hour, most retransmits first: share of packets that were sent again, round-trip times (empty if unknown), closed receive windows, resets, and packets that a kernel dropped by its most frequent reason in each record. A pair that several agents see is summed over them.'
AS SELECT
    src,
    dst,
    sum(p.packets) AS packets,
    round((100 * sum(p.src_retransmits)) / nullIf(sum(p.src_packets), 0), 3) AS src_retransmit_percent,
    round((100 * sum(p.dst_retransmits)) / nullIf(sum(p.dst_packets), 0), 3) AS dst_retransmit_percent,
    round(quantileOrNullIf(0.5)(p.handshake_us, p.handshake_us > 0) / 1000, 3) AS median_handshake_ms,
    round(quantileOrNullIf(0.5)(p.rtt_us, p.rtt_us > 0) / 1000, 3) AS median_rtt_ms,
    round(quantileOrNullIf(0.95)(p.rtt_us, p.rtt_us > 0) / 1000, 3) AS p95_rtt_ms,
    sum(p.src_zero_windows) AS src_zero_windows,
    sum(p.dst_zero_windows) AS dst_zero_windows,
    sum(p.src_resets + p.dst_resets) AS resets,
    sumMap(if(p.drop_reason = '', map(), map(toString(p.drop_reason), toUInt64(p.src_drops + p.dst_drops)))) AS drops,
    uniqExact(p.agent) AS seen_by
FROM DATABASE.flows AS p
WHERE (p.start >= (now() - toIntervalHour(1))) AND (p.proto = 6)
GROUP BY
    p.src_ip,
    p.dst_ip,
    src,
    dst
ORDER BY sum(p.src_retransmits) + sum(p.dst_retransmits) DESC
-- step
CREATE VIEW DATABASE.peers_of
COMMENT 'Who talked with address from since to until (UTC, by the minute): one row per peer, side (opened by address, or by peer), responder port and proto (IANA number), with first_seen and last_seen, sent_to_peer_bytes and received_from_peer_bytes, connections opened, and those of them that got no useful answer (failed).'
AS SELECT
    peer,
    side,
    port,
    proto,
    min(minute) AS first_seen,
    max(minute) AS last_seen,
    sum(sent) AS sent_to_peer_bytes,
    sum(received) AS received_from_peer_bytes,
    sum(connections) AS opened,
    sum(unanswered) AS failed
FROM
(
    SELECT
        dst AS peer,
        'opened by address' AS side,
        dst_port AS port,
        proto,
        minute,
        src_bytes AS sent,
        dst_bytes AS received,
        connections,
        unanswered
    FROM DATABASE.flows_1m
    WHERE (src_ip = toIPv6({address:String})) AND (minute >= toStartOfMinute({since:DateTime('UTC')})) AND (minute < {until:DateTime('UTC')})
    UNION ALL
    SELECT
        src,
        'opened by peer',
        dst_port,
        proto,
        minute,
        dst_bytes,
        src_bytes,
        connections,
        unanswered
    FROM DATABASE.flows_1m
    WHERE (dst_ip = toIPv6({address:String})) AND (minute >= toStartOfMinute({since:DateTime('UTC')})) AND (minute < {until:DateTime('UTC')})
)
GROUP BY
    peer,
    side,
    port,
    proto
ORDER BY sent_to_peer_bytes + received_from_peer_bytes DESC
-- step
CREATE VIEW DATABASE.processes
(
    `agent` LowCardinality(String) COMMENT 'Agent',
    `process` LowCardinality(String) COMMENT 'Name of the process',
    `unit` LowCardinality(String) COMMENT 'Its systemd unit',
    `container` LowCardinality(String) COMMENT 'Its container id',
    `role` String COMMENT 'client: it opened the connections; server: it accepted them',
    `sent_bytes` UInt64 COMMENT 'Bytes sent',
    `received_bytes` UInt64 COMMENT 'Bytes received',
    `connections` UInt64 COMMENT 'Connections that began',
    `failed` UInt64 COMMENT 'Connections that began and got no useful answer',
    `peers` UInt64 COMMENT 'Distinct addresses it talked with',
    `processes` UInt64 COMMENT 'Distinct process ids',
    `names` Array(String) COMMENT 'The three servers asked for most',
    `retransmits` UInt64 COMMENT 'TCP segments that were sent again',
    `drops` UInt64 COMMENT 'Packets of it that the kernel dropped'
)
COMMENT 'What each program of each host sent and received in the last hour, most first: one row per process name, systemd unit, container and role (client: it opened the connections). Failed connections got no useful answer; names are the three servers asked for most. Traffic without a known process is not here.'
AS SELECT
    agent,
    process,
    unit,
    container,
    role,
    sum(sent) AS sent_bytes,
    sum(received) AS received_bytes,
    countIf(first) AS connections,
    countIf(first AND (conn_state IN ('S0', 'REJ', 'RSTOS0', 'SH'))) AS failed,
    uniq(peer) AS peers,
    uniqExact(pid) AS processes,
    topKIf(3)(server_name, (role = 'client') AND (server_name != '')) AS names,
    sum(resent) AS retransmits,
    sum(lost) AS drops
FROM
(
    SELECT
        agent,
        src_process AS process,
        src_unit AS unit,
        src_container AS container,
        'client' AS role,
        src_pid AS pid,
        dst_ip AS peer,
        src_bytes AS sent,
        dst_bytes AS received,
        age_ms = 0 AS first,
        conn_state,
        server_name,
        src_retransmits AS resent,
        src_drops AS lost
    FROM DATABASE.flows
    WHERE (start >= (now() - toIntervalHour(1))) AND (src_pid > 0)
    UNION ALL
    SELECT
        agent,
        dst_process,
        dst_unit,
        dst_container,
        'server',
        dst_pid,
        src_ip,
        dst_bytes,
        src_bytes,
        age_ms = 0,
        conn_state,
        server_name,
        dst_retransmits,
        dst_drops
    FROM DATABASE.flows
    WHERE (start >= (now() - toIntervalHour(1))) AND (dst_pid > 0)
)
GROUP BY
    agent,
    process,
    unit,
    container,
    role
ORDER BY sent_bytes + received_bytes DESC
-- step
CREATE VIEW DATABASE.processes_between
COMMENT 'As processes, from since to until (UTC).'
AS SELECT
    agent,
    process,
    unit,
    container,
    role,
    sum(sent) AS sent_bytes,
    sum(received) AS received_bytes,
    countIf(first) AS connections,
    countIf(first AND (conn_state IN ('S0', 'REJ', 'RSTOS0', 'SH'))) AS failed,
    uniq(peer) AS peers,
    uniqExact(pid) AS processes,
    topKIf(3)(server_name, (role = 'client') AND (server_name != '')) AS names,
    sum(resent) AS retransmits,
    sum(lost) AS drops
FROM
(
    SELECT
        agent,
        src_process AS process,
        src_unit AS unit,
        src_container AS container,
        'client' AS role,
        src_pid AS pid,
        dst_ip AS peer,
        src_bytes AS sent,
        dst_bytes AS received,
        age_ms = 0 AS first,
        conn_state,
        server_name,
        src_retransmits AS resent,
        src_drops AS lost
    FROM DATABASE.flows
    WHERE (start >= {since:DateTime('UTC')}) AND (start < {until:DateTime('UTC')}) AND (src_pid > 0)
    UNION ALL
    SELECT
        agent,
        dst_process,
        dst_unit,
        dst_container,
        'server',
        dst_pid,
        src_ip,
        dst_bytes,
        src_bytes,
        age_ms = 0,
        conn_state,
        server_name,
        dst_retransmits,
        dst_drops
    FROM DATABASE.flows
    WHERE (start >= {since:DateTime('UTC')}) AND (start < {until:DateTime('UTC')}) AND (dst_pid > 0)
)
GROUP BY
    agent,
    process,
    unit,
    container,
    role
ORDER BY sent_bytes + received_bytes DESC
-- step
CREATE VIEW DATABASE.services
(
    `server` String COMMENT 'Address of the server',
    `port` UInt16 COMMENT 'Port of the responder',
    `proto` UInt8 COMMENT 'IANA protocol number: 6 TCP, 17 UDP',
    `clients` UInt64 COMMENT 'Distinct addresses that asked',
    `opened` UInt64 COMMENT 'Connections that began',
    `failed` UInt64 COMMENT 'Connections that began and got no useful answer',
    `request_bytes` UInt64 COMMENT 'Bytes sent by clients',
    `response_bytes` UInt64 COMMENT 'Bytes sent by the server',
    `seen_by` Array(String) COMMENT 'Agents that saw it, 10 at most'
)
COMMENT 'What was connected to in the last hour: address, port and IANA protocol number, with clients, connections opened, and those of them that got no useful answer (failed).'
AS SELECT
    dst AS server,
    dst_port AS port,
    proto,
    uniq(src_ip) AS clients,
    sum(connections) AS opened,
    sum(unanswered) AS failed,
    sum(src_bytes) AS request_bytes,
    sum(dst_bytes) AS response_bytes,
    groupUniqArray(10)(agent) AS seen_by
FROM DATABASE.flows_1m
WHERE minute >= (now() - toIntervalHour(1))
GROUP BY
    dst_ip,
    server,
    port,
    proto
ORDER BY opened DESC
-- step
CREATE VIEW DATABASE.tls_servers
(
    `name` LowCardinality(String) COMMENT 'Name that clients asked for, empty for none',
    `port` UInt16 COMMENT 'Port of the responder',
    `app` Enum8('' = 0, 'dns' = 1, 'tls' = 2, 'http' = 3, 'quic' = 4) COMMENT 'tls or quic',
    `conversations` UInt64 COMMENT 'Conversations',
    `clients` UInt64 COMMENT 'Distinct addresses that asked',
    `servers` UInt64 COMMENT 'Distinct addresses that answered under the name',
    `alpn` Array(String) COMMENT 'First protocols that clients offered, 5 at most',
    `fingerprints` UInt64 COMMENT 'Distinct JA4 fingerprints of clients',
    `top_fingerprints` Array(String) COMMENT 'The three most frequent of them',
    `median_ms` Nullable(Float64) COMMENT 'Median milliseconds from the first request to the first answer',
    `p95_ms` Nullable(Float64) COMMENT '95th percentile of the same, in milliseconds'
)
COMMENT 'TLS and QUIC servers of the last hour by the name that clients asked for (empty: none), with JA4 fingerprints of the clients and the time from ClientHello to the first answer.'
AS SELECT
    server_name AS name,
    dst_port AS port,
    app,
    count() AS conversations,
    uniq(src_ip) AS clients,
    uniq(dst_ip) AS servers,
    groupUniqArray(5)(tls_alpn) AS alpn,
    uniq(tls_ja4) AS fingerprints,
    topK(3)(tls_ja4) AS top_fingerprints,
    round(quantileOrNullIf(0.5)(app_latency_us, app_latency_us > 0) / 1000, 3) AS median_ms,
    round(quantileOrNullIf(0.95)(app_latency_us, app_latency_us > 0) / 1000, 3) AS p95_ms
FROM DATABASE.flows
WHERE (start >= (now() - toIntervalHour(1))) AND (app IN ('tls', 'quic'))
GROUP BY
    name,
    port,
    app
ORDER BY conversations DESC
-- step
CREATE VIEW DATABASE.top_sources
(
    `source` String COMMENT 'Sender, or all others',
    `agent` LowCardinality(String) COMMENT 'Agent',
    `targets` UInt64 COMMENT 'Most distinct (address, protocol, port) tried in one drain interval',
    `new_flows` UInt64 COMMENT 'Entries of the flow map that began',
    `overflow_packets` UInt64 COMMENT 'Packets that found no room in the flow map',
    `overflow_bytes` UInt64 COMMENT 'Bytes of overflow_packets',
    `busiest` DateTime64(3, 'UTC') COMMENT 'When it tried the most targets',
    `first_seen` DateTime64(3, 'UTC') COMMENT 'When it was seen first',
    `last_seen` DateTime64(3, 'UTC') COMMENT 'When it was seen last'
)
COMMENT 'Senders of the last hour by the distinct targets (address, protocol, port) that they tried within one drain interval, most first, also those whose packets found no room in the flow map and stand in no flow record. All figures are those of the busiest drain interval.'
AS SELECT
    if(s.others, 'all others', s.src) AS source,
    s.agent AS agent,
    max(s.targets) AS targets,
    max(s.flows) AS new_flows,
    max(s.overflow_packets) AS overflow_packets,
    max(s.overflow_bytes) AS overflow_bytes,
    argMax(s.time, s.targets) AS busiest,
    min(s.time) AS first_seen,
    max(s.time) AS last_seen
FROM DATABASE.sources AS s
WHERE s.time >= (now() - toIntervalHour(1))
GROUP BY
    source,
    s.agent
ORDER BY targets DESC
-- step
CREATE VIEW DATABASE.top_talkers
(
    `address` String COMMENT 'Address',
    `bytes` UInt64 COMMENT 'Bytes sent and received',
    `sent_bytes` UInt64 COMMENT 'Bytes sent',
    `received_bytes` UInt64 COMMENT 'Bytes received',
    `packets` UInt64 COMMENT 'Packets sent and received',
    `peers` UInt64 COMMENT 'Distinct addresses it talked with',
    `connections_opened` UInt64 COMMENT 'Connections it opened',
    `connections_accepted` UInt64 COMMENT 'Connections others opened to it'
)
COMMENT 'Addresses by the bytes they sent and received in the last hour, most first; peers is how many others each talked with. Several agents that see the same traffic each count it.'
AS SELECT
    address,
    sum(sent) + sum(received) AS bytes,
    sum(sent) AS sent_bytes,
    sum(received) AS received_bytes,
    sum(packets) AS packets,
    uniq(peer) AS peers,
    sum(opened) AS connections_opened,
    sum(accepted) AS connections_accepted
FROM
(
    SELECT
        src AS address,
        dst_ip AS peer,
        src_bytes AS sent,
        dst_bytes AS received,
        src_packets + dst_packets AS packets,
        connections AS opened,
        0 AS accepted
    FROM DATABASE.flows_1m
    WHERE minute >= (now() - toIntervalHour(1))
    UNION ALL
    SELECT
        dst,
        src_ip,
        dst_bytes,
        src_bytes,
        src_packets + dst_packets,
        0,
        connections
    FROM DATABASE.flows_1m
    WHERE minute >= (now() - toIntervalHour(1))
)
GROUP BY address
ORDER BY bytes DESC
-- step
CREATE VIEW DATABASE.top_talkers_between
COMMENT 'As top_talkers, from since to until (UTC, by the minute).'
AS SELECT
    address,
    sum(sent) + sum(received) AS bytes,
    sum(sent) AS sent_bytes,
    sum(received) AS received_bytes,
    sum(packets) AS packets,
    uniq(peer) AS peers,
    sum(opened) AS connections_opened,
    sum(accepted) AS connections_accepted
FROM
(
    SELECT
        src AS address,
        dst_ip AS peer,
        src_bytes AS sent,
        dst_bytes AS received,
        src_packets + dst_packets AS packets,
        connections AS opened,
        0 AS accepted
    FROM DATABASE.flows_1m
    WHERE (minute >= toStartOfMinute({since:DateTime('UTC')})) AND (minute < {until:DateTime('UTC')})
    UNION ALL
    SELECT
        dst,
        src_ip,
        dst_bytes,
        src_bytes,
        src_packets + dst_packets,
        0,
        connections
    FROM DATABASE.flows_1m
    WHERE (minute >= toStartOfMinute({since:DateTime('UTC')})) AND (minute < {until:DateTime('UTC')})
)
GROUP BY address
ORDER BY bytes DESC
-- step
CREATE VIEW DATABASE.unrecorded
(
    `agent` LowCardinality(String) COMMENT 'Agent',
    `reason` String COMMENT 'Why there is no record of their own',
    `unrecorded_packets` UInt64 COMMENT 'Packets',
    `percent_of_seen` Nullable(Float64) COMMENT 'Share of the packets that the agent saw',
    `interfaces` Array(String) COMMENT 'Interfaces, 10 at most'
)
COMMENT 'Why packets of the last hour stand in no flow record of their own, by agent and reason: no room (raise the agent\'s flow map), sampling (the records are scaled up for these), or not IP, truncated and the like. Together with recorded_packets of coverage they are all that was seen.'
AS SELECT
    agent,
    reason,
    sum(packets) AS unrecorded_packets,
    round((100 * unrecorded_packets) / nullIf(any(a.seen), 0), 4) AS percent_of_seen,
    groupUniqArray(10)(interface) AS interfaces
FROM
(
    SELECT
        agent,
        interface,
        tupleElement(r, 1) AS reason,
        tupleElement(r, 2) AS packets
    FROM DATABASE.coverage
    ARRAY JOIN arrayConcat([('no room in the flow map', overflow_packets), ('left out by sampling', skipped_packets), ('other', toUInt64(other_packets - least(other_packets, arraySum(mapValues(reasons)))))], arrayMap((k, v) -> (toString(k), v), mapKeys(reasons), mapValues(reasons))) AS r
    WHERE time >= (now() - toIntervalHour(1))
) AS c
LEFT JOIN
(
    SELECT
        agent,
        sum(seen_packets) AS seen
    FROM DATABASE.coverage
    WHERE time >= (now() - toIntervalHour(1))
    GROUP BY agent
) AS a ON a.agent = c.agent
WHERE packets > 0
GROUP BY
    agent,
    reason
ORDER BY unrecorded_packets DESC
