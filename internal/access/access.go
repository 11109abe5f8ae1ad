// Package access says who may do what in ClickHouse: four roles with their
// grants, limits and quota. It is the one source of what the local engine is
// configured with and of deploy/clickhouse, for a server.
package access

import "strconv"

// Names of the roles.
const (
	Owner   = "ebbwatch_owner"   // makes and migrates the tables
	Writer  = "ebbwatch_writer"  // inserts what agents tell: the collector at work
	Analyst = "ebbwatch_analyst" // reads all, inserts conclusions: the analyzer
	Reader  = "ebbwatch_reader"  // reads within limits: people and what they use
)

// Role is what one kind of user may do.
type Role struct {
	Name   string
	Why    string   // one line, for people
	Grants []string // as in GRANT … TO role, without both words
	// Settings are the profile of the role's users; none: the server's defaults.
	Settings []Setting
	Quota    *Quota // nil: none
}

// Setting is a ClickHouse setting of a profile.
type Setting struct {
	Name     string
	Value    string // empty: the server's default
	Min, Max string // what a user may set it to, if Changeable; empty: anything
	// Changeable says that a user may set it although the profile is read-only.
	Changeable bool
}

// Quota is what one user may ask for in an interval.
type Quota struct {
	Seconds          int
	Queries          int
	ExecutionSeconds int // summed over the queries
}

// Tables that roles insert into and read. Materialized views fill the rollups, which
// needs no right to insert there.
var (
	writes = []string{"flows", "coverage", "features", "sources", "refused_batches", "imports", "as_names"}
	// The writer looks for missing migrations and for batches that are stored
	// already. It needs SELECT too where a materialized view without a definer
	// reads: coverage, flows, and rollups that feed others.
	reads     = []string{"schema_migrations", "runs", "coverage", "flows*"}
	concludes = []string{"findings", "incidents", "reports", "deliveries"}
)

// engines are those of the tables. Others would let the owner out of its databases,
// as Distributed does in a cluster.
var engines = []string{"MergeTree", "SummingMergeTree", "ReplacingMergeTree", "AggregatingMergeTree"}

// Scope is where the roles are granted.
type Scope struct {
	Databases  []string
	Cluster    bool  // whether the databases lie on several servers
	QueryBytes int64 // most memory that the queries of one reader may take together
}

// Roles returns the roles.
func Roles(scope Scope) []Role {
	owner := Role{
		Name: Owner, Why: "makes and migrates the tables",
		Grants: []string{"SELECT ON system.*"},
	}
	writer := Role{
		Name: Writer, Why: "inserts what agents tell, and sees whether the tables are those of its build and configuration, and whether there is room: the collector",
		// Of indices and parts it sees those of its tables.
		Grants: []string{"SELECT ON system.data_skipping_indices", "SELECT ON system.disks", "SELECT ON system.parts"},
	}
	analyst := Role{Name: Analyst, Why: "reads everything and inserts what it concludes: the analyzer"}
	reader := Role{
		Name: Reader, Why: "reads within limits: people, Grafana, scripts",
		// Without these two, not even SELECT 1 and numbers() work.
		Grants:   []string{"SELECT ON system.one", "SELECT ON system.numbers"},
		Settings: readerSettings(scope),
		Quota:    &Quota{Seconds: 60, Queries: 600, ExecutionSeconds: 300},
	}
	for _, engine := range engines {
		owner.Grants = append(owner.Grants, "TABLE ENGINE ON "+engine)
	}
	for _, db := range scope.Databases {
		owner.Grants = append(owner.Grants, "SHOW, SELECT, INSERT, ALTER, CREATE DATABASE, CREATE TABLE, CREATE VIEW, DROP, TRUNCATE, OPTIMIZE, SYSTEM ON "+db+".*")
		for _, table := range reads {
			writer.Grants = append(writer.Grants, "SELECT ON "+db+"."+table)
		}
		for _, table := range writes {
			writer.Grants = append(writer.Grants, "INSERT ON "+db+"."+table)
		}
		analyst.Grants = append(analyst.Grants, "SHOW, SELECT ON "+db+".*")
		for _, table := range concludes {
			analyst.Grants = append(analyst.Grants, "INSERT ON "+db+"."+table)
		}
		reader.Grants = append(reader.Grants, "SHOW, SELECT ON "+db+".*")
	}
	if scope.Cluster {
		// A server that does not ask for a grant of the engine asks for REMOTE instead.
		owner.Grants = append(owner.Grants, "CLUSTER ON *.*", "TABLE ENGINE ON Distributed", "REMOTE ON *.*")
		for _, engine := range engines {
			owner.Grants = append(owner.Grants, "TABLE ENGINE ON Replicated"+engine)
		}
	}
	return []Role{owner, writer, analyst, reader}
}

// readerSettings is an allow-list: with readonly = 1 every setting stands that
// is not named as changeable. The others can be turned against the server, for
// example by writing schema files or by hiding memory from its limit.
func readerSettings(scope Scope) []Setting {
	memory := strconv.FormatInt(scope.QueryBytes, 10)
	limit := func(name, value string) Setting {
		return Setting{Name: name, Value: value, Min: "1", Max: value, Changeable: true}
	}
	settings := []Setting{
		{Name: "readonly", Value: "1"},
		limit("max_memory_usage", memory),
		{Name: "max_memory_usage_for_user", Value: memory},
		{Name: "max_execution_time", Value: "60", Min: "0.001", Max: "60", Changeable: true}, // seconds
		limit("max_rows_to_read", "2000000000"),
		{Name: "max_temporary_data_on_disk_size_for_user", Value: "10737418240"}, // what spills
		{Name: "max_concurrent_queries_for_user", Value: "10"},
		{Name: "distributed_product_mode", Value: "global"}, // a join or IN of two tables asks every shard, and means the same as on one server
		// What a view is told as now() comes to it as text in this time zone, and views read it as UTC.
		{Name: "session_timezone", Value: "UTC", Changeable: true},
		{Name: "max_threads", Min: "1", Max: "64", Changeable: true},
		{Name: "max_block_size", Min: "1", Max: "65409", Changeable: true},
	}
	if scope.Cluster {
		// Who is asked passes no limit of the result on to the others, as 0, which
		// bounds of a change would make 1 there: they have these instead, on what they
		// send to be summed up.
		settings = append(settings, Setting{Name: "max_result_rows", Value: "10000000"}, Setting{Name: "max_result_bytes", Value: "1073741824"})
	} else {
		settings = append(settings, limit("max_result_rows", "1000000"), limit("max_result_bytes", "1073741824"))
	}
	for _, name := range []string{
		// How a result is cut and written. Drivers set these by themselves.
		"result_overflow_mode", "read_overflow_mode", "timeout_overflow_mode", "limit", "offset", "extremes",
		"date_time_output_format", "join_use_nulls", "final", "log_comment",
		"output_format_json_quote_64bit_integers", "output_format_json_quote_denormals", "output_format_json_named_tuples_as_objects",
		"output_format_json_array_of_rows", "output_format_csv_crlf_end_of_line", "output_format_pretty_max_rows",
		"output_format_pretty_row_numbers", "output_format_pretty_color", "output_format_parquet_compression_method",
		"output_format_parquet_string_as_string", "output_format_arrow_string_as_string", "output_format_arrow_compression_method",
		"output_format_arrow_low_cardinality_as_dictionary",
		"enable_http_compression", "http_zlib_compression_level", "send_progress_in_http_headers", "http_headers_progress_interval_ms",
		"cancel_http_readonly_queries_on_client_close", "network_compression_method", "network_zstd_compression_level",
	} {
		settings = append(settings, Setting{Name: name, Changeable: true})
	}
	return settings
}
