package chtest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ebbwatch/ebbwatch/internal/access"
)

// Cluster is the name of the cluster of StartCluster.
const Cluster = "test"

// StartCluster starts servers that are the shards of a cluster: each can ask the
// others through Distributed tables, as the user that asks it. The users may use
// the databases of every Server's Database, and those with _local behind them. There
// is no Keeper: no ON CLUSTER, no replicated tables.
func StartCluster(t testing.TB, shards int) []*Server {
	t.Helper()
	return attempt(t, func(bin string) ([]*Server, int, string) {
		all := make([]*Server, shards)
		var hosts strings.Builder
		for i := range all {
			all[i] = newServer(t)
			fmt.Fprintf(&hosts, "<shard><internal_replication>true</internal_replication><replica><host>127.0.0.1</host><port>%s</port></replica></shard>", port(all[i].Addr))
		}
		names := []string{databaseName(0), databaseName(0) + "_local"}
		// The engine has roles for one server: those of a cluster take their place.
		roles := access.XML(access.Roles(access.Scope{Databases: names, Cluster: true, QueryBytes: 1 << 30}), "", "", nil)
		for i, s := range all {
			folder := filepath.Join(s.DataDir, "clickhouse.d") // what is in it is merged into the engine's configuration
			if err := os.Mkdir(folder, 0o700); err != nil {
				t.Fatal(err)
			}
			text := fmt.Sprintf("<clickhouse><macros><shard>%d</shard></macros><remote_servers><%s><secret>of the test</secret>%s</%s></remote_servers>%s</clickhouse>", i+1, Cluster, &hosts, Cluster, roles)
			for _, role := range []string{access.Owner, access.Writer, access.Analyst, access.Reader} {
				text = strings.ReplaceAll(text, "<"+role+">", "<"+role+` replace="replace">`)
			}
			if err := os.WriteFile(filepath.Join(folder, "cluster.xml"), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			if i > 0 { // the users have the same passwords everywhere
				if err := os.CopyFS(filepath.Join(s.DataDir, "secrets"), os.DirFS(filepath.Join(all[0].DataDir, "secrets"))); err != nil {
					t.Fatal(err)
				}
			}
			if code, output := s.start(t, bin, names); code != running {
				return nil, code, output
			}
		}
		return all, running, ""
	})
}
