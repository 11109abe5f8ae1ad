package stored

import (
	"context"
	"fmt"
	"time"

	"github.com/ClickHouse/ch-go"
	"github.com/ClickHouse/ch-go/proto"

	"github.com/ebbwatch/ebbwatch/collector/internal/chconn"
)

// timeout bounds one question.
const timeout = time.Minute

// typeMillis is the type of the column time.
const typeMillis = proto.ColumnType("DateTime64(3, 'UTC')")

// Table asks the database. It is not safe for concurrent use.
type Table struct {
	conn   chconn.Config
	client *ch.Client
}

// NewTable returns a table that has not connected yet.
func NewTable(conn chconn.Config) *Table { return &Table{conn: conn} }

// Close closes the connection; the next question opens a new one.
func (t *Table) Close() {
	if t.client != nil {
		_ = t.client.Close() // nothing is pending between questions
		t.client = nil
	}
}

// Last returns the highest number that the table has of each of the runs; a run
// that it has nothing of is left out.
func (t *Table) Last(ctx context.Context, runs []Run) (map[Run]uint64, error) {
	var agent, boot proto.ColStr
	for _, r := range runs {
		agent.Append(r.Agent)
		boot.Append(r.Boot)
	}
	last := make(map[Run]uint64)
	err := t.ask(ctx, "SELECT CAST(agent, 'String'), boot, CAST(max(last_sequence), 'UInt64') FROM runs WHERE (agent, boot) IN (SELECT agent, boot FROM wanted) GROUP BY agent, boot",
		proto.Input{{Name: "agent", Data: &agent}, {Name: "boot", Data: &boot}},
		func(r Run, sequence uint64) { last[r] = sequence })
	if err != nil {
		return nil, fmt.Errorf("ask for the last batch of %d runs: %w", len(runs), err)
	}
	return last, nil
}

// Contains returns those of the batches that the table has, without their times.
// It finds a batch only at its own time.
func (t *Table) Contains(ctx context.Context, batches []Batch) ([]Batch, error) {
	var agent, boot proto.ColStr
	var sequence proto.ColUInt64
	var at proto.ColInt64
	for _, b := range batches {
		agent.Append(b.Agent)
		boot.Append(b.Boot)
		sequence.Append(b.Sequence)
		at.Append(b.Time.UnixMilli())
	}
	var found []Batch
	err := t.ask(ctx, `SELECT DISTINCT CAST(agent, 'String'), CAST(boot, 'String'), sequence FROM coverage
		WHERE (agent, time) IN (SELECT agent, time FROM wanted) AND time >= (SELECT min(time) FROM wanted) AND time <= (SELECT max(time) FROM wanted)
		AND (agent, time, boot, sequence) IN (SELECT agent, time, boot, sequence FROM wanted)`,
		proto.Input{{Name: "agent", Data: &agent}, {Name: "boot", Data: &boot}, {Name: "sequence", Data: &sequence}, {Name: "time", Data: proto.Alias(&at, typeMillis)}},
		func(r Run, sequence uint64) { found = append(found, Batch{Run: r, Sequence: sequence}) })
	if err != nil {
		return nil, fmt.Errorf("ask for %d batches: %w", len(batches), err)
	}
	return found, nil
}

// freshest asks the first replica of each shard of a cluster, which is the one that
// rows are inserted into: another may not have them yet.
var freshest = []ch.Setting{{Key: "load_balancing", Value: "in_order", Important: true}, ch.SettingInt("prefer_localhost_replica", 0)}

// ask sends rows along with a query that has them as the table wanted, and calls
// row for each row of its answer. Names come from the network: they are data here
// and never part of a query's text. After an error the connection is not used
// again.
func (t *Table) ask(ctx context.Context, query string, wanted proto.Input, row func(r Run, number uint64)) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if t.client == nil || t.client.IsClosed() {
		client, err := t.conn.Dial(ctx, timeout)
		if err != nil {
			return err
		}
		t.client = client
	}
	var agent, boot proto.ColStr
	var number proto.ColUInt64
	err := t.client.Do(ctx, ch.Query{
		Body: query, Settings: freshest, ExternalTable: "wanted", ExternalData: []proto.InputColumn(wanted),
		Result: proto.Results{{Data: &agent}, {Data: &boot}, {Data: &number}},
		OnResult: func(context.Context, proto.Block) error {
			for i := range number {
				row(Run{Agent: agent.Row(i), Boot: boot.Row(i)}, number[i])
			}
			return nil
		},
	})
	if err != nil {
		t.Close()
	}
	return err
}
