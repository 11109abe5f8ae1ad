package flowbpf

import (
	"errors"
	"testing"

	"github.com/vishvananda/netlink"
)

func TestAListOfInterfacesThatChangeIsTakenAgain(t *testing.T) {
	broken := errors.New("broken")
	for _, c := range []struct {
		name        string
		interrupted int // answers
		then, want  error
		asked       int
	}{
		{"a list at rest", 0, nil, nil, 1},
		{"a change", 3, nil, nil, 4},
		{"changes without end", 1000, nil, netlink.ErrDumpInterrupted, listTries},
		{"another failure", 0, broken, broken, 1},
		{"another failure after a change", 1, broken, broken, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			asked := 0
			links, err := steady(func() ([]netlink.Link, error) {
				if asked++; asked <= c.interrupted {
					return make([]netlink.Link, 1), netlink.ErrDumpInterrupted
				}
				return make([]netlink.Link, 2), c.then
			})
			want := 2
			if c.interrupted >= listTries {
				want = 1
			}
			if !errors.Is(err, c.want) || asked != c.asked || len(links) != want {
				t.Errorf("%d links and %v after %d tries, want %v after %d", len(links), err, asked, c.want, c.asked)
			}
		})
	}
}
