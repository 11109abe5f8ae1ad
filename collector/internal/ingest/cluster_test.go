package ingest

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/ebbwatch/ebbwatch"
	"github.com/ebbwatch/ebbwatch/collector/internal/natstest"
	"github.com/ebbwatch/ebbwatch/collector/internal/schema"
	"github.com/ebbwatch/ebbwatch/internal/natsconn"
)

func TestANATSClusterThatLosesAServerLosesNoBatch(t *testing.T) {
	cluster := natstest.StartCluster(t)
	connect := func(user string) *site {
		s := &site{t: t}
		s.js = s.connect(cluster.URL(user))
		return s
	}
	s := newSite(t, connect("collector").js, 4)
	s.streams.Replicas, s.streams.Standby = 3, 5*time.Second
	first, second := s.start(connect("collector").js, s.streams), s.start(connect("collector").js, s.streams)
	eventually(t, "two collectors have two shards each", 60*time.Second, func() bool { return held(first, second) == "2 2" })
	f := newTraffic(t, connect("agent").js)
	f.start()
	eventually(t, "each stores batches", 60*time.Second, func() bool { return min(first.stored(), second.stored()) > 50 })
	if _, err := natsconn.EnsureKeyValue(t.Context(), s.js, jetstream.KeyValueConfig{Bucket: "TEST"}); err != nil { // as the analyzer does
		t.Fatal(err)
	}
	for info := range s.js.ListStreams(t.Context()).Info() {
		if info.Config.Replicas != 3 && info.Config.Name != "KV_"+schema.LockBucket { // the test migrates before there is a stream
			t.Errorf("%s has %d replicas", info.Config.Name, info.Config.Replicas)
		}
	}
	for range 2 {
		flow, err := s.js.Stream(t.Context(), ebbwatch.FlowStream)
		if err != nil {
			t.Fatal(err)
		}
		leader := flow.CachedInfo().Cluster.Leader
		lost := cluster.Named(leader)
		if lost == nil {
			t.Fatalf("the stream's leader is %q", leader)
		}
		began := time.Now()
		lost.Stop()
		before := flow.CachedInfo().State.LastSeq
		eventually(t, "the other two take batches", 60*time.Second, func() bool {
			flow, err := s.js.Stream(t.Context(), ebbwatch.FlowStream)
			return err == nil && flow.CachedInfo().State.LastSeq > before+50
		})
		eventually(t, "and the collectors store them", 60*time.Second, func() bool {
			flow, err := s.js.Stream(t.Context(), ebbwatch.FlowStream)
			return err == nil && flow.CachedInfo().State.FirstSeq > before+20
		})
		t.Logf("without %s, which led the stream, batches are stored again after %s", leader, time.Since(began).Round(100*time.Millisecond))
		if err := lost.Start(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "it has caught up", 60*time.Second, func() bool {
			flow, err := s.js.Stream(t.Context(), ebbwatch.FlowStream)
			if err != nil {
				return false
			}
			for _, r := range flow.CachedInfo().Cluster.Replicas {
				if !r.Current || r.Offline {
					return false
				}
			}
			return len(flow.CachedInfo().Cluster.Replicas) == 2
		})
	}
	f.stop()
	s.check(f)
}
