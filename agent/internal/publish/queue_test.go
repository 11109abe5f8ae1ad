package publish

import (
	"fmt"
	"strings"
	"testing"
)

func message(id int, size int) Message {
	return Message{ID: fmt.Sprint(id), Data: make([]byte, size), Flows: 10}
}

func ids(messages []Message) string {
	var s []string
	for _, m := range messages {
		s = append(s, m.ID)
	}
	return strings.Join(s, " ")
}

func TestQueueDropsTheOldestAndCounts(t *testing.T) {
	const room = 3*(100+overhead) + 1
	q := newQueue(room)
	for i := range 5 {
		q.push(message(i, 100))
	}
	n, bytes, lost := q.size()
	if n != 3 || bytes != room-1 || lost != (Lost{Batches: 2, Flows: 20, Bytes: 200}) {
		t.Errorf("%d messages, %d bytes, lost %+v", n, bytes, lost)
	}
	if got := ids(q.take(10, 1<<20)); got != "2 3 4" {
		t.Errorf("left: %s", got)
	}
	if n, bytes, _ := q.size(); n != 0 || bytes != 0 {
		t.Errorf("after take: %d messages, %d bytes", n, bytes)
	}
}

func TestQueuePutsBackInFrontAndWithinItsLimit(t *testing.T) {
	q := newQueue(4 * (100 + overhead))
	q.push(message(1, 100), message(2, 100), message(3, 100))
	taken := q.take(2, 1<<20)
	q.push(message(4, 100), message(5, 100))
	q.putBack(taken)
	if got := ids(q.take(10, 1<<20)); got != "2 3 4 5" {
		t.Errorf("order: %s, want the oldest dropped and the rest in order", got)
	}
	if _, _, lost := q.size(); lost.Batches != 1 {
		t.Errorf("lost %+v", lost)
	}
}

func TestQueueRefusesWhatCanNeverFit(t *testing.T) {
	q := newQueue(1000)
	q.push(message(1, 100), message(2, 2000))
	if n, bytes, lost := q.size(); n != 0 || bytes != 0 || lost.Batches != 2 {
		t.Errorf("%d messages, %d bytes, lost %+v", n, bytes, lost)
	}
}
