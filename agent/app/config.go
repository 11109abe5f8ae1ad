package app

import (
	"os"
	"time"

	"github.com/ebbwatch/ebbwatch"
	"github.com/ebbwatch/ebbwatch/agent/internal/conn"
	"github.com/ebbwatch/ebbwatch/agent/internal/flowbpf"
	"github.com/ebbwatch/ebbwatch/agent/internal/governor"
	"github.com/ebbwatch/ebbwatch/agent/internal/probe"
	"github.com/ebbwatch/ebbwatch/agent/internal/spool"
	"github.com/ebbwatch/ebbwatch/agent/internal/warn"
	"github.com/ebbwatch/ebbwatch/internal/config"
	"github.com/ebbwatch/ebbwatch/internal/natsconn"
	"github.com/ebbwatch/ebbwatch/internal/ops"
)

// Config is the agent's configuration.
type Config struct {
	// Name identifies this agent in subjects and records: letters, digits, '-'
	// and '_', at most 64 bytes, and unique in the fleet. It defaults to the host name.
	Name string `yaml:"name"`
	// Listen is the address of /metrics and /healthz, "" for none.
	Listen string `yaml:"listen"`
	// DrainInterval is how often the kernel's counters become flow records.
	// Shorter shows attacks sooner and costs more records for long conversations.
	DrainInterval time.Duration `yaml:"drain_interval"`
	// QueueMaxBytes bounds the batches that wait in memory while NATS is away and
	// the spool cannot be used, in bytes. The oldest are dropped, and counted,
	// beyond it.
	QueueMaxBytes int64 `yaml:"queue_max_bytes"`
	// FlushTimeout is how long the agent tries to deliver what is left when it ends.
	FlushTimeout time.Duration `yaml:"flush_timeout"`

	// DropPrivileges gives up, once the programs are loaded, all capabilities but
	// those that the agent needs while it runs, for good: whoever may take the
	// process over then holds no more. Switch it off only where the kernel or the
	// container refuses it. An agent inside another process ignores it.
	DropPrivileges bool `yaml:"drop_privileges"`

	// MemoryLimit is what the agent's own memory is held to, in bytes, beside the
	// kernel's for maps: above it the garbage collector works harder, so that a
	// flood of conversations costs time before memory. It is no hard limit; the
	// bounds are those of the parts. An agent inside another process ignores it.
	MemoryLimit int64 `yaml:"memory_limit"`

	Spool         spool.Config    `yaml:"spool"`
	Budget        governor.Config `yaml:"budget"`
	Interfaces    probe.Config    `yaml:"interfaces"`
	Datapath      flowbpf.Config  `yaml:"datapath"`
	Conversations conn.Config     `yaml:"conversations"`
	Warning       warn.Config     `yaml:"warning"`
	NATS          natsconn.Config `yaml:"nats"`
}

// Limits of Config.
const (
	minDrainInterval, maxDrainInterval = 100 * time.Millisecond, 5 * time.Minute
	// minQueue holds at least one batch of the largest size.
	minQueue = ebbwatch.MaxBatchEncoded + 4096
	// minMemory is what an idle agent takes.
	minMemory = 16 << 20
	// maxInterfaces, with two attach points each, fit into one batch.
	maxInterfaces = 2048
)

// DefaultConfig returns the configuration of an agent for this host that talks
// to a NATS server on it.
func DefaultConfig() Config {
	host, err := os.Hostname()
	if err != nil {
		host = ""
	}
	return Config{
		Name: ebbwatch.AgentName(host), Listen: "127.0.0.1:8461",
		DrainInterval: 5 * time.Second, QueueMaxBytes: 64 << 20, MemoryLimit: 48 << 20, FlushTimeout: 5 * time.Second, DropPrivileges: true, Spool: spool.DefaultConfig(),
		Interfaces: probe.DefaultConfig(), Budget: governor.DefaultConfig(), Datapath: flowbpf.DefaultConfig(), Conversations: conn.DefaultConfig(), Warning: warn.DefaultConfig(), NATS: natsconn.DefaultConfig(),
	}
}

// Validate implements config.Validator.
func (c *Config) Validate() error {
	return config.All(
		config.At("name", ebbwatch.ValidateAgent(c.Name)),
		config.Wrong(c.DrainInterval < minDrainInterval || c.DrainInterval > maxDrainInterval, "drain_interval: %v is not within %v to %v", c.DrainInterval, minDrainInterval, maxDrainInterval),
		config.Wrong(c.QueueMaxBytes < minQueue, "queue_max_bytes: %d is below %d", c.QueueMaxBytes, minQueue),
		config.Wrong(c.MemoryLimit < minMemory, "memory_limit: %d is below %d", c.MemoryLimit, minMemory),
		config.Wrong(c.FlushTimeout < 0 || c.FlushTimeout > time.Minute, "flush_timeout: %v is not within 0s to 1m", c.FlushTimeout),
		config.Under("nats", c.NATS.Validate()),
		config.At("listen", ops.CheckListen(c.Listen)),
		config.Under("spool", c.Spool.Validate()),
		config.Under("interfaces", c.Interfaces.Validate()),
		config.Under("budget", c.Budget.Validate()),
		config.Under("datapath", c.Datapath.Validate()),
		config.Wrong(c.Datapath.MaxInterfaces > maxInterfaces, "datapath.max_interfaces: %d is above %d", c.Datapath.MaxInterfaces, maxInterfaces),
		config.Under("conversations", c.Conversations.Validate()),
		config.Under("warning", c.Warning.Validate()),
	)
}
