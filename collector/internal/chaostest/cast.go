package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/ebbwatch/ebbwatch/collector/internal/proctest"
)

// database is where the flow records end up.
const database = "ebbwatch"

// places are the failpoints of the collector.
var places = []string{
	"before intent", "before insert", "after flows", "after coverage", "before acknowledgement", "amid acknowledgements",
}

// cast is every process of the play.
type cast struct {
	*options
	dir        string
	strict     bool          // of the NATS servers' next start
	nats       []*natsServer // and after them the leaf node, if there is one
	clickhouse *proctest.ClickHouse
	collectors []*collector
}

// collector is one of those that share the stream.
type collector struct {
	*proctest.Process
	place string // where it is to die, "" for nowhere
}

func newCast(ctx context.Context, o *options, dir string) (*cast, error) {
	c := &cast{options: o, dir: dir, strict: o.durability == "strict", collectors: make([]*collector, o.collectors)}
	if err := c.planNATS(); err != nil {
		return nil, err
	}
	for _, s := range c.nats {
		if err := c.startNATS(ctx, s); err != nil {
			c.end()
			return nil, err
		}
	}
	var err error
	if c.clickhouse, err = proctest.NewClickHouse(ctx, filepath.Join(dir, "clickhouse"), []string{database}, o.verbose); err != nil {
		c.end()
		return nil, fmt.Errorf("start ClickHouse: %w", err)
	}
	for i := range c.collectors {
		if err := c.startCollector(i, ""); err != nil {
			c.end()
			return nil, err
		}
	}
	return c, nil
}

// startCollector starts a collector with small blocks and short times, that dies
// at a place if that is not "".
func (c *cast) startCollector(i int, place string) error {
	env := []string{
		"EBBWATCH_NATS_URL=" + c.natsURL("collector"), "EBBWATCH_LISTEN=", "EBBWATCH_CLICKHOUSE_ADDRESS=" + c.clickhouse.Addr,
		"EBBWATCH_CLICKHOUSE_DATABASE=" + database, "EBBWATCH_CLICKHOUSE_USER=" + proctest.User, "EBBWATCH_CLICKHOUSE_PASSWORD=" + c.clickhouse.Password,
		"EBBWATCH_STREAMS_DUPLICATE_WINDOW=1s", "EBBWATCH_STREAMS_ACK_WAIT=3s", fmt.Sprintf("EBBWATCH_STREAMS_STANDBY=%ds", c.nodes), fmt.Sprintf("EBBWATCH_STREAMS_REPLICAS=%d", c.nodes),
		fmt.Sprintf("EBBWATCH_STREAMS_SHARDS=%d", c.shards),
		"EBBWATCH_STREAMS_FLOW_MAX_BYTES=268435456", "EBBWATCH_STREAMS_DEAD_LETTER_MAX_BYTES=16777216",
		fmt.Sprintf("EBBWATCH_INGEST_BLOCK_MESSAGES=%d", 50*c.shards), "EBBWATCH_INGEST_BLOCK_AGE=100ms", "EBBWATCH_INGEST_DRAIN_TIMEOUT=2s",
		"EBBWATCH_INSERT_TIMEOUT=20s", "EBBWATCH_INSERT_RETRY_MAX=500ms",
	}
	if place != "" {
		env = append(env, "FAILPOINT="+place)
	}
	p, err := proctest.Start(c.collectorBin, c.verbose, env, "run")
	if err != nil {
		return err
	}
	place, _, _ = strings.Cut(place, ":")
	c.collectors[i] = &collector{p, place}
	return nil
}

// end ends all that lives.
func (c *cast) end() {
	for _, k := range c.collectors {
		if k != nil {
			k.Kill()
		}
	}
	for _, s := range c.nats {
		if s.Process != nil {
			s.Kill()
		}
	}
	if c.clickhouse != nil {
		c.clickhouse.Stop()
	}
}

// alive reports whether the process has not ended.
func alive(p *proctest.Process) bool {
	select {
	case <-p.Done():
		return false
	default:
		return true
	}
}

// unexpected returns an error if a process ended that nobody killed.
func (c *cast) unexpected() error {
	for _, k := range c.collectors {
		if !alive(k.Process) && !k.Killed() {
			return fmt.Errorf("a collector ended by itself: %s", k.Output())
		}
	}
	for _, s := range c.nats {
		if !alive(s.Process) && !s.Killed() {
			return fmt.Errorf("server %s ended by itself: %s", s.name, s.Output())
		}
	}
	if !alive(c.clickhouse.Process) && !c.clickhouse.Killed() {
		return errors.New("ClickHouse ended by itself: " + c.clickhouse.Output())
	}
	return nil
}

func workFolder() (string, error) { return os.MkdirTemp("", "ebbwatch-chaos-") }
