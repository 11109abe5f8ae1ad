package sink

import (
	"errors"

	"github.com/ClickHouse/ch-go"
	"github.com/ClickHouse/ch-go/proto"
)

// class says what an insert's error means for the next attempt. There is no
// class that drops: what was read from NATS stays until it is stored.
type class uint8

const (
	network  class = iota // no answer, or half of one: reconnect and repeat
	pressure              // the server asks for time: repeat, slower and slower
	schema                // repeating cannot help until somebody acts
)

func (c class) String() string { return [...]string{"network", "pressure", "schema"}[c] }

// pressureCodes are the server's errors that pass by themselves.
var pressureCodes = []proto.Error{
	3,   // UNEXPECTED_END_OF_FILE: the connection broke in the middle
	159, // TIMEOUT_EXCEEDED
	202, // TOO_MANY_SIMULTANEOUS_QUERIES
	209, // SOCKET_TIMEOUT
	210, // NETWORK_ERROR
	236, // ABORTED: the server shuts down
	241, // MEMORY_LIMIT_EXCEEDED
	242, // TABLE_IS_READ_ONLY: a replica that lost its keeper
	243, // NOT_ENOUGH_SPACE
	252, // TOO_MANY_PARTS, also "too many partitions": never a reason to drop
	319, // UNKNOWN_STATUS_OF_INSERT: the token makes the repetition safe
	394, // QUERY_WAS_CANCELLED
	425, // SYSTEM_ERROR
	517, // CANNOT_ASSIGN_ALTER
	999, // KEEPER_EXCEPTION
}

// classify returns the class of an insert's error.
func classify(err error) class {
	var exception *ch.Exception
	if !errors.As(err, &exception) {
		return network
	}
	if exception.IsCode(pressureCodes...) {
		return pressure
	}
	return schema
}
