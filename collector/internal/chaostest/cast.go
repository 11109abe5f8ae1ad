package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/ebbwatch/ebbwatch/collector/internal/disktest"
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
	fleet      *proctest.Process
	disks      map[string]*disktest.Disk // of the victims whose power is cut
}

// collector is one of those that share the stream.
type collector struct {
	*proctest.Process
	place string // where it is to die, "" for nowhere
}

func newCast(ctx context.Context, o *options, dir string) (_ *cast, err error) {
	c := &cast{
		options: o, dir: dir, strict: o.durability == strict, collectors: make([]*collector, o.collectors), disks: make(map[string]*disktest.Disk),
	}
	defer func() {
		if err != nil {
			c.end()
		}
	}()
	if err := c.planNATS(); err != nil {
		return nil, err
	}
	if o.power {
		if err := c.makeDisks(); err != nil {
			return nil, err
		}
	}
	for _, s := range c.nats {
		if err := c.startNATS(ctx, s); err != nil {
			return nil, err
		}
	}
	c.clickhouse, err = proctest.NewClickHouse(ctx, filepath.Join(dir, clickhouseName), []string{database}, o.verbose,
		fmt.Sprintf("EBBWATCH_CLICKHOUSE_SYNC_ALWAYS=%v", o.power && o.durability == strict))
	if err != nil {
		return nil, fmt.Errorf("start ClickHouse: %w", err)
	}
	for i := range c.collectors {
		if err := c.startCollector(i, ""); err != nil {
			return nil, err
		}
	}
	return c, c.startFleet()
}

// Names of victims, and of their folders. Those of NATS are in cast.nats.
const (
	clickhouseName = "clickhouse"
	agentsName     = "agents"
)

// diskBytes is the size of a disk; it takes what is written to it, a few dozen
// megabytes.
const diskBytes = 1 << 30

// makeDisks puts the folders of all that keep something on disks of their own.
func (c *cast) makeDisks() error {
	names := []string{clickhouseName, agentsName}
	for _, s := range c.nats[:c.nodes] { // a leaf node keeps nothing
		names = append(names, s.name)
	}
	for _, name := range names {
		dir := filepath.Join(c.dir, name)
		if err := os.Mkdir(dir, 0o700); err != nil {
			return err
		}
		d, err := disktest.New(dir, diskBytes)
		if err != nil {
			return err
		}
		c.disks[name] = d
	}
	return nil
}

// startFleet starts the agents, again if they were killed.
func (c *cast) startFleet() (err error) {
	c.fleet, err = proctest.Start(c.fleetBin, c.verbose, nil, "-nats", c.natsURL("agent"), "-dir", filepath.Join(c.dir, agentsName),
		"-agents", fmt.Sprint(c.agents), "-seed", fmt.Sprint(c.seed), "-out", c.journal())
	return err
}

// journal is the file in which the fleet notes what it sends. No power cut touches it.
func (c *cast) journal() string { return filepath.Join(c.dir, "sent.jsonl") }

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

// end ends all that lives, and the disks.
func (c *cast) end() {
	if c.fleet != nil {
		c.fleet.Kill()
	}
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
	if c.clickhouse != nil && c.clickhouse.Process != nil {
		c.clickhouse.Stop()
	}
	for name, d := range c.disks {
		if err := d.Close(); err != nil {
			progress("the disk of %s: %v", name, err)
		}
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
