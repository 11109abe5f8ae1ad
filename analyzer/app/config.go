package app

import (
	"errors"
	"fmt"

	"github.com/ebbwatch/ebbwatch/analyzer/internal/incident"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/llm"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/notify"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/periodic"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/report"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/schedule"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/store"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/web"
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
	if err := c.NATS.Validate(); err != nil {
		return fmt.Errorf("nats.%w", err)
	}
	if err := ops.CheckListen(c.Listen); err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	for _, part := range []struct {
		key   string
		check interface{ Validate() error }
	}{
		{"clickhouse", &c.ClickHouse}, {"web", c.Web}, {"scheduler", &c.Scheduler}, {"detectors", &c.Detectors}, {"incidents", &c.Incidents},
		{"llm", c.LLM}, {"notify", c.Notify},
	} {
		if err := part.check.Validate(); err != nil {
			return fmt.Errorf("%s.%w", part.key, err)
		}
	}
	// These two name their whole key themselves.
	return errors.Join(c.Report.Validate(), c.Periodic.Validate())
}
