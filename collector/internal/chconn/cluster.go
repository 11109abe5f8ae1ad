package chconn

import (
	"errors"
	"fmt"
	"strings"

	"github.com/ebbwatch/ebbwatch/internal/config"
)

// Cluster says how the tables lie on several ClickHouse servers: each shard has
// its rows in tables of the local database; the database has a Distributed table
// over each, under the same name, and the views, so that who asks there asks all.
type Cluster struct {
	// Name in the servers' remote_servers; "": one server, and the rest means nothing.
	Name string `yaml:"name"`
	// LocalDatabase holds the tables of a shard; "": the database with _local behind it.
	LocalDatabase string `yaml:"local_database"`
	// Shards are the servers that rows are inserted into, one of each shard as
	// host:port: batches of the k-th shard of the stream go to the k-th of them,
	// modulo their number. None: all go to address.
	Shards []string `yaml:"shards"`
	// OnCluster makes tables on all servers at once (ON CLUSTER); else only on
	// the server at address, and migrate has to be run for each server.
	OnCluster bool `yaml:"on_cluster"`
	// Replicated says that tables are replicated within their shard, by Keeper.
	Replicated bool `yaml:"replicated"`
	// KeeperPath and Replica are where in Keeper a replicated table is, and the
	// server's name there, with the servers' macros.
	KeeperPath string `yaml:"keeper_path"`
	Replica    string `yaml:"replica"`
}

// DefaultCluster returns no cluster, and what suits most if it is named.
func DefaultCluster() Cluster {
	return Cluster{Shards: []string{}, OnCluster: true, Replicated: true, KeeperPath: "/clickhouse/tables/{shard}/{database}/{table}", Replica: "{replica}"}
}

// unquotable are the characters that a quoted name of ClickHouse must not have.
const unquotable = "'\\\n"

func (c Cluster) validate(database string) error {
	if c.Name == "" {
		if len(c.Shards) > 0 || c.LocalDatabase != "" {
			return errors.New("clickhouse.cluster.name: names no cluster, but shards or local_database are set: name it, or leave them out")
		}
		return nil
	}
	wrong := []error{
		config.Wrong(!databaseName.MatchString(c.Name), "clickhouse.cluster.name: want letters, digits and '_', not %q", c.Name),
		config.Wrong(c.LocalDatabase != "" && !databaseName.MatchString(c.LocalDatabase) || c.LocalDatabase == database,
			"clickhouse.cluster.local_database: want letters, digits and '_', and not the name of the database, not %q", c.LocalDatabase),
		config.Wrong(c.Replicated && (!strings.HasPrefix(c.KeeperPath, "/") || !strings.Contains(c.KeeperPath, "{table}") || !strings.Contains(c.KeeperPath, "{shard}")),
			"clickhouse.cluster.keeper_path: must begin with / and have {shard} and {table} in it: each table of each shard needs a place of its own"),
		config.Wrong(c.Replicated && c.Replica == "", "clickhouse.cluster.replica: must not be empty: the servers of a shard need different names"),
		config.Wrong(strings.ContainsAny(c.KeeperPath, unquotable), "clickhouse.cluster.keeper_path: must have no quote, backslash or line end"),
		config.Wrong(strings.ContainsAny(c.Replica, unquotable), "clickhouse.cluster.replica: must have no quote, backslash or line end"),
	}
	for i, address := range c.Shards {
		wrong = append(wrong, checkAddress(fmt.Sprintf("clickhouse.cluster.shards[%d]", i), address))
	}
	return config.All(wrong...)
}

// Local returns the configuration of what goes straight to the tables of the
// server at address, which are the only ones without a cluster.
func (c Config) Local() Config {
	if c.Cluster.Name == "" {
		return c
	}
	if c.Cluster.LocalDatabase != "" {
		c.Database = c.Cluster.LocalDatabase
	} else {
		c.Database += "_local"
	}
	return c
}

// Shard returns the configuration of inserts of batches from the n-th shard of
// the stream: always the same server, because only there a repeated insert is known.
func (c Config) Shard(n int) Config {
	if shards := c.Cluster.Shards; len(shards) > 0 {
		c.Address = shards[n%len(shards)]
	}
	return c.Local()
}
