package scripts

// The import policy, after Go's own go/build/deps_test.go. Paths are relative to
// github.com/ebbwatch/ebbwatch; "." is the root package. A line says: whoever
// matches the left side may import what matches the right side. A pattern that
// ends in "/..." matches the folder and everything below it. An import between
// packages of the project that no line allows is a mistake; so is a line
// that allows nothing any more.
const importPolicy = `
	# The contract between agent and collector stands alone.
	internal/natsconn -> . internal/config
	internal/cli -> internal/config
	# Traffic of a fleet, for tests, benchmarks and the load generator.
	internal/flowgen -> .
	internal/loadgen -> . internal/flowgen internal/natsconn

	# A service may use the contract, what all services share, and itself: its main
	# its app, its app everything. The parts of a service meet in its app.
	agent -> agent/app internal/cli
	agent/app -> . internal/... agent/internal/...
	agent/internal/... -> . internal/...
	collector -> collector/app internal/cli
	collector/app -> . internal/... migrations collector/internal/...
	collector/internal/... -> . internal/... migrations
	analyzer -> analyzer/app internal/cli
	analyzer/app -> . internal/... analyzer/internal/...
	analyzer/internal/... -> . internal/...

	# Only the standalone binary composes services.
	deploy/standalone -> deploy/standalone/app internal/cli
	deploy/standalone/app -> . internal/... agent/app collector/app analyzer/app deploy/standalone/internal/...
	deploy/standalone/internal/... -> internal/...

	# The lab sees Ebbwatch as a stranger does: by its binary and its API.
	scripts/lab -> scripts/lab/app internal/cli
	scripts/lab/app -> scripts/lab/internal/... internal/cli
	scripts/lab/internal/demo -> scripts/lab/internal/...
	scripts/lab/internal/attack -> scripts/lab/internal/netlab
	scripts/lab/internal/client -> scripts/lab/internal/judge
	scripts/lab/internal/receiver -> scripts/lab/internal/netlab
	scripts/lab/internal/traffic -> scripts/lab/internal/netlab

	# The load generator plays agents, by the contract.
	scripts/loadgen -> scripts/loadgen/app internal/cli
	scripts/loadgen/app -> internal/...

	# The guest knows of the host's program nothing but the plan that it is handed.
	scripts/kernel -> scripts/kernel/app internal/cli
	scripts/kernel/app -> scripts/kernel/internal/... internal/cli
	scripts/kernel/guest -> scripts/kernel/internal/plan
	scripts/kernel/internal/suite -> scripts/kernel/internal/image scripts/kernel/internal/plan

	# Siblings that meet outside their app, each for a reason.
	# The datapath's entries become conversations, and these batches.
	agent/internal/flowbpf -> agent/internal/flowbpf/objects
	agent/internal/doctor -> agent/internal/flowbpf agent/internal/owner agent/internal/seed agent/internal/trace
	# What else the kernel tells has programs, and features to diagnose, of its own.
	agent/internal/owner -> agent/internal/flowbpf agent/internal/flowbpf/objects
	agent/internal/seed -> agent/internal/flowbpf agent/internal/flowbpf/objects
	agent/internal/trace -> agent/internal/flowbpf agent/internal/flowbpf/objects
	agent/internal/conn -> agent/internal/flowbpf agent/internal/hostclock
	agent/internal/probe -> agent/internal/flowbpf
	agent/internal/warn -> agent/internal/flowbpf
	agent/internal/annotate -> agent/internal/conn agent/internal/flowbpf agent/internal/l7 agent/internal/trace
	agent/internal/drain -> agent/internal/conn agent/internal/flowbpf agent/internal/hostclock agent/internal/publish
	# A replay takes an agent's way from packets to records.
	agent/internal/replay -> agent/internal/capture agent/internal/conn agent/internal/flowbpf agent/internal/hostclock
	# What cannot be delivered waits on disk.
	agent/internal/publish -> agent/internal/spool
	# One pipeline from a message to a committed block.
	collector/internal/ingest -> collector/internal/batch collector/internal/consume collector/internal/failpoint collector/internal/ledger collector/internal/ranges collector/internal/roster collector/internal/sink collector/internal/stored
	collector/internal/ledger -> collector/internal/ranges
	collector/internal/stored -> collector/internal/chconn collector/internal/ranges
	collector/internal/schema -> collector/internal/chconn
	collector/internal/sink -> collector/internal/chconn collector/internal/enrich collector/internal/failpoint
	# The finding is the analyzer's common word, and the incident is made of it.
	analyzer/internal/detect/... -> analyzer/internal/detect analyzer/internal/detect/stat
	analyzer/internal/incident -> analyzer/internal/detect
	analyzer/internal/schedule -> analyzer/internal/detect analyzer/internal/incident
	# The store reads and writes what they define, and gives each detector its rows.
	analyzer/internal/store -> analyzer/internal/detect/... analyzer/internal/incident
	analyzer/internal/notify -> analyzer/internal/detect analyzer/internal/store
	analyzer/internal/status -> analyzer/internal/human analyzer/internal/notify analyzer/internal/store
	# A format of foreign files is a folder below the importer, which stores what they read.
	collector/internal/importer/... -> collector/internal/importer
	collector/internal/importer -> collector/internal/sink
	collector/internal/importer/journal -> collector/internal/chconn
	# A report is built from evidence, worded by a model, and verified.
	analyzer/internal/report -> analyzer/internal/detect analyzer/internal/human analyzer/internal/incident analyzer/internal/verify
	analyzer/internal/llm -> analyzer/internal/human analyzer/internal/report analyzer/internal/verify
	analyzer/internal/verify -> analyzer/internal/human
	# The API and the page show what is stored, in its own types.
	analyzer/internal/api -> analyzer/internal/detect analyzer/internal/incident analyzer/internal/status analyzer/internal/store
	analyzer/internal/web -> analyzer/internal/detect analyzer/internal/human analyzer/internal/incident analyzer/internal/report analyzer/internal/status analyzer/internal/store
	# From a changed incident or an ended period to the outbox: one step that must not be torn.
	analyzer/internal/publish -> analyzer/internal/detect analyzer/internal/incident analyzer/internal/notify analyzer/internal/periodic analyzer/internal/report analyzer/internal/store
	# Files and ports are what the parts of the standalone binary share.
	deploy/standalone/internal/engine -> deploy/standalone/internal/datadir deploy/standalone/internal/port
	deploy/standalone/internal/natsd -> deploy/standalone/internal/datadir deploy/standalone/internal/port
`

// A package that measures (named bench) or serves tests (name ending in test) is
// linked into no service: of its own service it may import anything, and
// migrations; it may use any dependency, and SQL.

// homePolicy names the packages that may import a third-party module directly;
// the dependency is on the left, tests do not count. "*" is any package.
const homePolicy = `
	# What every service speaks.
	github.com/nats-io/nats.go -> *
	github.com/prometheus/client_golang -> *
	golang.org/x/sync -> *
	golang.org/x/sys -> *
	github.com/spf13/cobra -> internal/cli agent/app collector/app analyzer/app deploy/standalone/app deploy/standalone/internal/engine scripts/kernel/app scripts/lab/app scripts/loadgen/app

	github.com/goccy/go-yaml -> internal/config scripts/lab/internal/demo
	github.com/klauspost/compress -> .
	google.golang.org/protobuf -> .

	github.com/ClickHouse/ch-go -> collector/internal/chconn collector/internal/sink collector/internal/stored
	github.com/ClickHouse/clickhouse-go/v2 -> collector/internal/chconn collector/internal/importer/journal collector/internal/schema analyzer/internal/store
	github.com/oschwald/maxminddb-golang/v2 -> collector/internal/enrich
	github.com/nats-io/nuid -> collector/internal/ingest collector/internal/roster
	github.com/nats-io/nats-server/v2 -> deploy/standalone/internal/natsd

	github.com/cilium/ebpf -> agent/internal/flowbpf/... agent/internal/owner agent/internal/seed agent/internal/trace
	github.com/vishvananda/netlink -> agent/internal/flowbpf agent/internal/probe scripts/lab/internal/netlab

	gonum.org/v1/gonum -> analyzer/internal/detect/stat
	github.com/sashabaranov/go-openai -> analyzer/internal/llm
	golang.org/x/time -> analyzer/internal/llm
	github.com/robfig/cron/v3 -> analyzer/internal/periodic

	github.com/ebitengine/purego -> deploy/standalone/internal/engine
	golang.org/x/crypto -> deploy/standalone/internal/natsd

	github.com/standard-webhooks/standard-webhooks/libraries -> scripts/lab/internal/receiver
	github.com/vishvananda/netns -> scripts/lab/internal/netlab
	golang.org/x/net -> scripts/lab/internal/traffic
`

// rootRequires is every module that the root module needs directly: whoever
// imports the contract gets these.
var rootRequires = []string{
	"github.com/goccy/go-yaml",
	"github.com/klauspost/compress",
	"github.com/nats-io/nats.go",
	"github.com/prometheus/client_golang",
	"github.com/spf13/cobra",
	"google.golang.org/protobuf",
}

// agentForbidden must be nowhere in what the agent links or requires: it runs
// privileged on every host.
var agentForbidden = []string{
	"github.com/ClickHouse",
	"github.com/sashabaranov/go-openai",
	"github.com/modelcontextprotocol",
	"github.com/nats-io/nats-server",
	"html/template",
	"plugin",
}

// agentTestOnly is what agent/go.mod may require although it is forbidden,
// because the agent's tests run against the real thing. It is never linked.
var agentTestOnly = []string{
	"github.com/nats-io/nats-server/v2",
}
