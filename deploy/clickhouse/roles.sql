-- Made from internal/access by: go test ./internal/access -update
--
-- Roles of Ebbwatch on a ClickHouse server, 25.8 or later. Run it as an administrator, and again after an upgrade:
--     clickhouse-client --multiquery < roles.sql
-- Then make users, each with a password of its own. The collector migrates as the owner (clickhouse.user) and inserts as the writer (clickhouse.insert_user).
--     CREATE DATABASE ebbwatch;
--     CREATE USER ebbwatch_migrator  IDENTIFIED BY '…' DEFAULT ROLE ebbwatch_owner;
--     GRANT SET DEFINER ON ebbwatch_migrator TO ebbwatch_migrator; -- for the materialized views
--     CREATE USER ebbwatch_collector IDENTIFIED BY '…' DEFAULT ROLE ebbwatch_writer;
--     CREATE USER ebbwatch_analyzer  IDENTIFIED BY '…' DEFAULT ROLE ebbwatch_analyst;
--     CREATE USER alice              IDENTIFIED BY '…' DEFAULT ROLE ebbwatch_reader;
-- A reader may set what is CHANGEABLE_IN_READONLY; that needs access_control_improvements.settings_constraints_replace_previous,
-- which is on unless the server's configuration turns it off. The same as a configuration file: users.xml.

-- ebbwatch_owner: makes and migrates the tables.
CREATE ROLE IF NOT EXISTS ebbwatch_owner;

REVOKE ALL ON *.* FROM ebbwatch_owner;

GRANT SELECT ON system.* TO ebbwatch_owner;

GRANT TABLE ENGINE ON MergeTree TO ebbwatch_owner;

GRANT TABLE ENGINE ON SummingMergeTree TO ebbwatch_owner;

GRANT TABLE ENGINE ON ReplacingMergeTree TO ebbwatch_owner;

GRANT TABLE ENGINE ON AggregatingMergeTree TO ebbwatch_owner;

GRANT SHOW, SELECT, INSERT, ALTER, CREATE DATABASE, CREATE TABLE, CREATE VIEW, DROP, TRUNCATE, OPTIMIZE, SYSTEM ON ebbwatch.* TO ebbwatch_owner;

-- ebbwatch_writer: inserts what agents tell, and sees whether the tables are those of its build and configuration, and whether there is room: the collector.
CREATE ROLE IF NOT EXISTS ebbwatch_writer;

REVOKE ALL ON *.* FROM ebbwatch_writer;

GRANT SELECT ON system.data_skipping_indices TO ebbwatch_writer;

GRANT SELECT ON system.disks TO ebbwatch_writer;

GRANT SELECT ON system.parts TO ebbwatch_writer;

GRANT SELECT ON ebbwatch.schema_migrations TO ebbwatch_writer;

GRANT SELECT ON ebbwatch.runs TO ebbwatch_writer;

GRANT SELECT ON ebbwatch.coverage TO ebbwatch_writer;

GRANT SELECT ON ebbwatch.flows* TO ebbwatch_writer;

GRANT INSERT ON ebbwatch.flows TO ebbwatch_writer;

GRANT INSERT ON ebbwatch.coverage TO ebbwatch_writer;

GRANT INSERT ON ebbwatch.features TO ebbwatch_writer;

GRANT INSERT ON ebbwatch.sources TO ebbwatch_writer;

GRANT INSERT ON ebbwatch.refused_batches TO ebbwatch_writer;

GRANT INSERT ON ebbwatch.imports TO ebbwatch_writer;

GRANT INSERT ON ebbwatch.as_names TO ebbwatch_writer;

-- ebbwatch_analyst: reads everything and inserts what it concludes: the analyzer.
CREATE ROLE IF NOT EXISTS ebbwatch_analyst;

REVOKE ALL ON *.* FROM ebbwatch_analyst;

GRANT SHOW, SELECT ON ebbwatch.* TO ebbwatch_analyst;

GRANT INSERT ON ebbwatch.findings TO ebbwatch_analyst;

GRANT INSERT ON ebbwatch.incidents TO ebbwatch_analyst;

GRANT INSERT ON ebbwatch.reports TO ebbwatch_analyst;

GRANT INSERT ON ebbwatch.deliveries TO ebbwatch_analyst;

-- ebbwatch_reader: reads within limits: people, Grafana, scripts.
CREATE ROLE IF NOT EXISTS ebbwatch_reader;

REVOKE ALL ON *.* FROM ebbwatch_reader;

GRANT SELECT ON system.one TO ebbwatch_reader;

GRANT SELECT ON system.numbers TO ebbwatch_reader;

GRANT SHOW, SELECT ON ebbwatch.* TO ebbwatch_reader;

CREATE SETTINGS PROFILE OR REPLACE ebbwatch_reader SETTINGS
    readonly = 1,
    max_memory_usage = 4294967296 MIN 1 MAX 4294967296 CHANGEABLE_IN_READONLY,
    max_memory_usage_for_user = 4294967296,
    max_execution_time = 60 MIN 0.001 MAX 60 CHANGEABLE_IN_READONLY,
    max_rows_to_read = 2000000000 MIN 1 MAX 2000000000 CHANGEABLE_IN_READONLY,
    max_temporary_data_on_disk_size_for_user = 10737418240,
    max_concurrent_queries_for_user = 10,
    distributed_product_mode = 'global',
    session_timezone = 'UTC' CHANGEABLE_IN_READONLY,
    max_threads MIN 1 MAX 64 CHANGEABLE_IN_READONLY,
    max_block_size MIN 1 MAX 65409 CHANGEABLE_IN_READONLY,
    max_result_rows = 1000000 MIN 1 MAX 1000000 CHANGEABLE_IN_READONLY,
    max_result_bytes = 1073741824 MIN 1 MAX 1073741824 CHANGEABLE_IN_READONLY,
    result_overflow_mode CHANGEABLE_IN_READONLY,
    read_overflow_mode CHANGEABLE_IN_READONLY,
    timeout_overflow_mode CHANGEABLE_IN_READONLY,
    limit CHANGEABLE_IN_READONLY,
    offset CHANGEABLE_IN_READONLY,
    extremes CHANGEABLE_IN_READONLY,
    date_time_output_format CHANGEABLE_IN_READONLY,
    join_use_nulls CHANGEABLE_IN_READONLY,
    final CHANGEABLE_IN_READONLY,
    log_comment CHANGEABLE_IN_READONLY,
    output_format_json_quote_64bit_integers CHANGEABLE_IN_READONLY,
    output_format_json_quote_denormals CHANGEABLE_IN_READONLY,
    output_format_json_named_tuples_as_objects CHANGEABLE_IN_READONLY,
    output_format_json_array_of_rows CHANGEABLE_IN_READONLY,
    output_format_csv_crlf_end_of_line CHANGEABLE_IN_READONLY,
    output_format_pretty_max_rows CHANGEABLE_IN_READONLY,
    output_format_pretty_row_numbers CHANGEABLE_IN_READONLY,
    output_format_pretty_color CHANGEABLE_IN_READONLY,
    output_format_parquet_compression_method CHANGEABLE_IN_READONLY,
    output_format_parquet_string_as_string CHANGEABLE_IN_READONLY,
    output_format_arrow_string_as_string CHANGEABLE_IN_READONLY,
    output_format_arrow_compression_method CHANGEABLE_IN_READONLY,
    output_format_arrow_low_cardinality_as_dictionary CHANGEABLE_IN_READONLY,
    enable_http_compression CHANGEABLE_IN_READONLY,
    http_zlib_compression_level CHANGEABLE_IN_READONLY,
    send_progress_in_http_headers CHANGEABLE_IN_READONLY,
    http_headers_progress_interval_ms CHANGEABLE_IN_READONLY,
    cancel_http_readonly_queries_on_client_close CHANGEABLE_IN_READONLY,
    network_compression_method CHANGEABLE_IN_READONLY,
    network_zstd_compression_level CHANGEABLE_IN_READONLY
TO ebbwatch_reader;

CREATE QUOTA OR REPLACE ebbwatch_reader KEYED BY user_name FOR INTERVAL 60 second MAX queries = 600, execution_time = 300 TO ebbwatch_reader;
