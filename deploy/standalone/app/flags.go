package app

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/ebbwatch/ebbwatch/deploy/standalone/internal/port"
)

// portFlags are short forms of configuration keys, and win over file and
// environment.
var portFlags = []struct {
	flag, variable, usage string
	asAddress             bool // the key is host:port, and the flag is a port on loopback
	engine                bool // also for the command that runs the engine alone
}{
	{"page-port", "EBBWATCH_ANALYZER_LISTEN", "`port` of the page and its API on loopback (analyzer.listen)", true, false},
	{"agent-port", "EBBWATCH_AGENT_LISTEN", "`port` of the agent's metrics and health on loopback (agent.listen)", true, false},
	{"collector-port", "EBBWATCH_COLLECTOR_LISTEN", "`port` of the collector's metrics and health on loopback (collector.listen)", true, false},
	{"clickhouse-port", "EBBWATCH_CLICKHOUSE_TCP_PORT", "`port` of ClickHouse's native protocol on loopback (clickhouse.tcp_port)", false, true},
	{"clickhouse-http-port", "EBBWATCH_CLICKHOUSE_HTTP_PORT", "`port` of ClickHouse's HTTP interface on loopback (clickhouse.http_port)", false, true},
	{"nats-port", "EBBWATCH_NATS_LISTEN", "`port` of NATS on loopback (nats.listen)", true, false},
}

// addFlags adds the flags of `up`, or those of them that concern the engine.
// They are handed on as the environment variables of their keys.
func addFlags(cmd *cobra.Command, engineOnly bool) {
	flags := cmd.Flags()
	data := flags.String("data", "", "`folder` that holds everything that is kept (data_dir; default "+DefaultConfig().DataDir+")")
	ports := make([]portFlag, len(portFlags))
	for i, f := range portFlags {
		if f.engine || !engineOnly {
			flags.Var(&ports[i], f.flag, f.usage)
		}
	}
	cmd.PreRunE = func(*cobra.Command, []string) error {
		set := map[string]string{}
		if flags.Changed("data") {
			if *data == "" {
				return fmt.Errorf("--data names no folder: name one, or leave the flag out for %s", DefaultConfig().DataDir)
			}
			set["EBBWATCH_DATA_DIR"] = *data
		}
		for i, f := range portFlags {
			switch number := int(ports[i]); {
			case number != 0 && f.asAddress:
				set[f.variable] = port.Loopback(number)
			case number != 0:
				set[f.variable] = strconv.Itoa(number)
			}
		}
		for name, value := range set {
			if err := os.Setenv(name, value); err != nil {
				return fmt.Errorf("apply flags: %w", err)
			}
		}
		return nil
	}
}

// portFlag is a port of a flag, 0 if the flag is not used.
type portFlag uint16

// Set implements pflag.Value.
func (p *portFlag) Set(text string) error {
	number, err := strconv.ParseUint(text, 10, 16)
	if err != nil || number == 0 {
		return errors.New("want a port from 1 to 65535")
	}
	*p = portFlag(number)
	return nil
}

// String implements pflag.Value.
func (p *portFlag) String() string {
	if *p == 0 {
		return ""
	}
	return strconv.Itoa(int(*p))
}

// Type implements pflag.Value.
func (*portFlag) Type() string { return "port" }
