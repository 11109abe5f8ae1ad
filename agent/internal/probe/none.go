package probe

import (
	"errors"
	"fmt"
	"strings"

	"github.com/ebbwatch/ebbwatch/internal/ops"
)

// maxNamed is how many interfaces a message names.
const maxNamed = 20

// none returns why no interface is watched; it is called with mu held.
func (p *Probe) none() error {
	switch {
	case !p.listed:
		return errors.New("the interfaces are not listed yet")
	case len(p.failed) > 0:
		return fmt.Errorf("no interface is watched: %w", p.lastErr)
	}
	// The host may yet bring one: not a reason to start the agent again.
	return ops.Tolerable(fmt.Errorf("no interface is watched: none is up and %s; there are %s", wish(&p.cfg), p.present))
}

// tellIfNone logs, once until an interface comes, that there is none to watch.
func (p *Probe) tellIfNone() {
	if len(p.attached) > 0 {
		p.toldNone = false
		return
	}
	if p.toldNone || len(p.failed) > 0 { // a failure is told by itself
		return
	}
	p.toldNone = true
	p.log.Warn("no interface to watch, waiting for one: check interfaces.include and interfaces.exclude",
		"include", p.cfg.Include, "exclude", p.cfg.Exclude, "interfaces", p.present)
}

// wish says in words what cfg asks for.
func wish(cfg *Config) string {
	s := "carries packets of its own"
	if len(cfg.Include) > 0 {
		s = fmt.Sprintf("matches interfaces.include %q", cfg.Include)
	}
	if len(cfg.Exclude) > 0 {
		s += fmt.Sprintf(" but not interfaces.exclude %q", cfg.Exclude)
	}
	return s
}

// describe names devices for a person, as "lo, eth0, eth1 (down)".
func describe(list []device) string {
	var names []string
	for i := range list {
		if len(names) == maxNamed {
			names = append(names, fmt.Sprintf("and %d more", len(list)-maxNamed))
			break
		}
		name := printable(list[i].name, maxSpaceName)
		if !list[i].up {
			name += " (down)"
		}
		names = append(names, name)
	}
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}
