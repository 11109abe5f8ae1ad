package app

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/spf13/cobra"

	collector "github.com/ebbwatch/ebbwatch/collector/app"
	"github.com/ebbwatch/ebbwatch/deploy/standalone/internal/datadir"
	"github.com/ebbwatch/ebbwatch/deploy/standalone/internal/engine"
	"github.com/ebbwatch/ebbwatch/deploy/standalone/internal/port"
	"github.com/ebbwatch/ebbwatch/internal/config"
)

// importCommand returns the command that stores foreign files in the store of a
// running `ebbwatch up`.
func importCommand() *cobra.Command {
	return collector.ImportCommand(DefaultConfig, func(cfg Config) (collector.Config, error) {
		// Without the password of the one that runs, the import would not only fail: a wrong one ends the engine (SECURITY.md).
		switch holder, err := datadir.Holder(cfg.DataDir); {
		case errors.Is(err, fs.ErrPermission):
			return cfg.Collector, fmt.Errorf("%w: run the import as the user of `ebbwatch up`", err)
		case err != nil:
			return cfg.Collector, err
		case holder == "":
			return cfg.Collector, fmt.Errorf("no Ebbwatch runs on the data folder %s: start `ebbwatch up` with it, or give the --data or -c of the one that runs", cfg.DataDir)
		}
		connectStore(&cfg, cfg.DataDir)
		return cfg.Collector, nil
	}, func(cmd *cobra.Command) { addFlags(cmd, true) })
}

// connectStore tells the collector where the local ClickHouse is, whose data
// folder is dir.
func connectStore(cfg *Config, dir string) {
	c := &cfg.Collector.ClickHouse
	c.Address = port.Loopback(cfg.ClickHouse.TCPPort)
	c.Database = cfg.ClickHouse.Database()
	c.User = engine.Collector
	c.Password = password(dir, engine.Collector)
	c.InsertUser = engine.Writer
	c.InsertPassword = password(dir, engine.Writer)
}

// password names the file that holds the password of a user of the engine.
func password(dir, user string) config.Secret {
	return config.Secret("file:" + datadir.SecretPath(dir, engine.SecretPrefix+user))
}
