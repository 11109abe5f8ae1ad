package app

import (
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
}{
	{"page-port", "EBBWATCH_ANALYZER_LISTEN", "`port` of the page and its API on loopback (analyzer.listen)", true},
	{"agent-port", "EBBWATCH_AGENT_LISTEN", "`port` of the agent's metrics and health on loopback (agent.listen)", true},
	{"collector-port", "EBBWATCH_COLLECTOR_LISTEN", "`port` of the collector's metrics and health on loopback (collector.listen)", true},
	{"clickhouse-port", "EBBWATCH_CLICKHOUSE_TCP_PORT", "`port` of ClickHouse's native protocol on loopback (clickhouse.tcp_port)", false},
	{"clickhouse-http-port", "EBBWATCH_CLICKHOUSE_HTTP_PORT", "`port` of ClickHouse's HTTP interface on loopback (clickhouse.http_port)", false},
	{"nats-port", "EBBWATCH_NATS_LISTEN", "`port` of NATS on loopback (nats.listen)", true},
}

// addFlags adds the flags that `up` and `engine` share. They are handed on as
// the environment variables of their keys.
func addFlags(cmd *cobra.Command) {
	flags := cmd.Flags()
	data := flags.String("data", "", "`folder` that holds everything that is kept (data_dir; default "+DefaultConfig().DataDir+")")
	values := make([]*uint16, len(portFlags))
	for i, f := range portFlags {
		values[i] = flags.Uint16(f.flag, 0, f.usage)
	}
	cmd.PreRunE = func(*cobra.Command, []string) error {
		set := map[string]string{}
		if *data != "" {
			set["EBBWATCH_DATA_DIR"] = *data
		}
		for i, f := range portFlags {
			switch number := int(*values[i]); {
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
