package app

import (
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/ebbwatch/ebbwatch"
	"github.com/ebbwatch/ebbwatch/internal/chtest"
	"github.com/ebbwatch/ebbwatch/internal/flowgen"
)

// Collectors spread the agents over the servers of a cluster, and each batch is
// stored once wherever its agent belongs: also one that comes again after the
// servers were put into another order, so that its agent belongs elsewhere.
func TestACollectorFillsACluster(t *testing.T) {
	servers := chtest.StartCluster(t, 2)
	b := newBedIn(t, servers[0], servers[0].Database)
	cluster := &b.cfg.ClickHouse.Cluster
	cluster.Name, cluster.OnCluster, cluster.Replicated = chtest.Cluster, false, false
	b.cfg.Streams.Shards = 2
	b.flows = flowgen.New(12, 7, time.Now().Add(-time.Minute), 5*time.Second)
	for _, s := range servers {
		cluster.Shards = append(cluster.Shards, s.Addr)
		cfg := b.cfg
		cfg.ClickHouse.Address = s.Addr
		a, err := New(cfg, b.log())
		if err != nil {
			t.Fatal(err)
		}
		m, err := a.migrator(b.js)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := m.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	stop := b.run()
	b.send(24, 40)
	message, subject, id := b.encode(&b.batch), ebbwatch.FlowSubject(b.batch.Agent), b.batch.MessageID()
	b.wantExact()
	for i, s := range servers {
		agents := s.Query(t, "SELECT uniqExact(agent) FROM "+b.db+"_local.flows")
		if n, err := strconv.Atoi(agents); err != nil || n < 1 || n > 11 {
			t.Errorf("server %d has the flows of %s of 12 agents", i, agents)
		}
	}
	if both := b.ch.Query(t, "SELECT count() FROM (SELECT agent FROM "+b.db+".flows GROUP BY agent HAVING uniqExact(_shard_num) > 1)"); both != "0" {
		t.Errorf("%s agents have flows on both servers", both)
	}
	stop()
	slices.Reverse(b.cfg.ClickHouse.Cluster.Shards)
	b.run()
	b.publish(subject, message, id+" again")
	b.send(4, 40)
	b.wantExact()
}
