package app

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/spf13/cobra"

	collector "github.com/ebbwatch/ebbwatch/collector/app"
	"github.com/ebbwatch/ebbwatch/deploy/standalone/internal/datadir"
	"github.com/ebbwatch/ebbwatch/deploy/standalone/internal/engine"
	"github.com/ebbwatch/ebbwatch/deploy/standalone/internal/natsd"
	"github.com/ebbwatch/ebbwatch/deploy/standalone/internal/port"
	"github.com/ebbwatch/ebbwatch/internal/config"
)

// importCommand returns the command that stores foreign files in the store of a
// running `ebbwatch up`.
func importCommand() *cobra.Command {
	return collector.ImportCommand(DefaultConfig, func(cfg Config) (collector.Config, error) {
		// Without the password of the one that runs, the import would not only fail: a wrong one ends the engine (SECURITY.md).
		if err := mustRun(cfg.DataDir, "--data or -c"); err != nil {
			return cfg.Collector, err
		}
		connectStore(&cfg, cfg.DataDir)
		return cfg.Collector, nil
	}, func(cmd *cobra.Command) { addFlags(cmd, true) })
}

// mustRun returns an error unless an Ebbwatch runs on the data folder dir, whose
// secrets this user may read. flags name the folder.
func mustRun(dir, flags string) error {
	switch holder, err := datadir.Holder(dir); {
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w: run this command as the user of `ebbwatch up`", err)
	case err != nil:
		return err
	case holder == "":
		return fmt.Errorf("no Ebbwatch runs on the data folder %s: start `ebbwatch up` with it, or give the %s of the one that runs", dir, flags)
	}
	return nil
}

// localLetters lets the tools for dead letters ask the NATS server of a running
// `ebbwatch up`, where --data names its folder.
func localLetters(cmd *cobra.Command) func(*collector.Config) error {
	flags := cmd.Flags()
	data := flags.String("data", "", "`folder` of the `ebbwatch up` whose dead letters are meant, in place of the section nats")
	var at portFlag
	flags.Var(&at, "nats-port", "with --data: `port` of its NATS on loopback, if it is not that of the default")
	return func(cfg *collector.Config) error {
		if !flags.Changed("data") {
			if at != 0 {
				return errors.New("--nats-port: goes with --data; else nats.url says where NATS is")
			}
			return nil
		}
		if err := mustRun(*data, "--data"); err != nil {
			return err
		}
		listen := natsd.DefaultConfig().Listen
		if at != 0 {
			listen = port.Loopback(int(at))
		}
		cfg.NATS = natsd.Client(listen, *data)
		return nil
	}
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
