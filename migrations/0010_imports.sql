-- Which foreign files were imported, and how far: ClickHouse forgets the tokens of inserts after some thousand, this does not.

CREATE TABLE IF NOT EXISTS imports
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
COMMENT 'Files that `import` has stored, or begun to. Read it with FINAL.'
