package app

import (
	"github.com/ebbwatch/ebbwatch/analyzer/internal/incident"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/llm"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/notify"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/periodic"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/report"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/schedule"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/store"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/web"
	"github.com/ebbwatch/ebbwatch/internal/config"
	"github.com/ebbwatch/ebbwatch/internal/natsconn"
	"github.com/ebbwatch/ebbwatch/internal/ops"
)

// Config is the configuration of an analyzer.
type Config struct {
	NATS       natsconn.Config `yaml:"nats"`
	ClickHouse store.Config    `yaml:"clickhouse"`
	Listen     string          `yaml:"listen"` // host:port of the page, the API, /metrics and /healthz
	Web        web.Config      `yaml:"web"`
	Scheduler  schedule.Config `yaml:"scheduler"`
	Detectors  Detectors       `yaml:"detectors"`
	Incidents  incident.Config `yaml:"incidents"`
	Report     report.Config   `yaml:"report"`
	LLM        llm.Config      `yaml:"llm"`
	Notify     notify.Config   `yaml:"notify"`
	Periodic   periodic.Config `yaml:"periodic"`
}

// DefaultConfig returns the configuration of an analyzer beside everything else
// on this host.
func DefaultConfig() Config {
	return Config{
		NATS: natsconn.DefaultConfig(), ClickHouse: store.DefaultConfig(), Listen: "127.0.0.1:8460",
		Web: web.DefaultConfig(), Scheduler: schedule.DefaultConfig(), Detectors: DefaultDetectors(), Incidents: incident.DefaultConfig(),
		Report: report.DefaultConfig(), LLM: llm.DefaultConfig(), Notify: notify.DefaultConfig(), Periodic: periodic.DefaultConfig(),
	}
}

// Validate implements config.Validator.
func (c *Config) Validate() error {
	return config.All(
		config.Under("nats", c.NATS.Validate()),
		config.At("listen", ops.CheckListen(c.Listen)),
		config.Under("clickhouse", c.ClickHouse.Validate()),
		config.Under("web", c.Web.Validate()),
		config.Under("scheduler", c.Scheduler.Validate()),
		config.Under("detectors", c.Detectors.Validate()),
		config.Under("incidents", c.Incidents.Validate()),
		config.Under("llm", c.LLM.Validate()),
		config.Under("notify", c.Notify.Validate()),
		c.Report.Validate(), c.Periodic.Validate(), // these two name their whole key themselves
	)
}
