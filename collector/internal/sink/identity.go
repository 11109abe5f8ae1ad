package sink

import (
	"context"
	"fmt"
	"time"

	"github.com/ClickHouse/ch-go"
	"github.com/ClickHouse/ch-go/proto"
)

// errNoMacro is ClickHouse's error code for a macro that the server does not have.
const errNoMacro = proto.Error(139)

// Identity returns which store w inserts into: the shard that the server says it is
// of, with its replicas, or else the server itself. Only there it is known that an
// insert is repeated. It needs no privilege. It does not use w's connection and may
// be called concurrently.
func (w *Writer) Identity(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	client, err := w.conn.Dial(ctx, 10*time.Second)
	if err != nil {
		return "", err
	}
	defer client.Close()
	ask := func(expression string) (string, error) {
		var answer proto.ColStr
		if err := client.Do(ctx, ch.Query{Body: "SELECT " + expression, Result: proto.Results{{Data: &answer}}}); err != nil {
			return "", fmt.Errorf("ask which server this is: %w", err)
		}
		return answer.First(), nil
	}
	name, err := ask("'shard ' || getMacro('shard') || ', database ' || currentDatabase()")
	if ch.IsErr(err, errNoMacro) {
		name, err = ask("'server ' || toString(serverUUID()) || ', database ' || currentDatabase()")
	}
	return name, err
}
