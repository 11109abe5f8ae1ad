package incident

import (
	"cmp"
	"slices"

	"github.com/ebbwatch/ebbwatch/analyzer/internal/detect"
)

// Pending returns the incidents that must be stored, the oldest first. They
// stay pending until Stored is called with them.
func (m *Manager) Pending() []Change {
	m.mu.Lock()
	defer m.mu.Unlock()
	var changes []Change
	for _, s := range m.open {
		if !s.dirty {
			continue
		}
		c := Change{Incident: s.Incident, Notable: s.notable, revision: s.revision}
		c.Incident.Kinds, c.Incident.Entities = slices.Clone(s.Kinds), slices.Clone(s.Entities)
		for _, e := range s.findings {
			c.Findings = append(c.Findings, e.finding)
			if differs(e) {
				c.Updated = append(c.Updated, e.finding)
			}
			if e.stored.ID == "" {
				c.New = append(c.New, e.finding)
			}
		}
		slices.SortFunc(c.Findings, byStart)
		slices.SortFunc(c.Updated, byStart)
		slices.SortFunc(c.New, byStart)
		changes = append(changes, c)
	}
	slices.SortFunc(changes, func(a, b Change) int {
		return cmp.Or(a.Incident.Started.Compare(b.Incident.Started), cmp.Compare(a.Incident.ID, b.Incident.ID))
	})
	return changes
}

func byStart(a, b detect.Finding) int {
	return cmp.Or(a.WindowStart.Compare(b.WindowStart), cmp.Compare(a.ID, b.ID))
}

// Stored notes that changes are stored. What changed since Pending returned
// them stays pending.
func (m *Manager) Stored(changes []Change) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range changes {
		s := m.open[c.Incident.ID]
		if s == nil {
			continue
		}
		for _, f := range c.Updated {
			if e := s.findings[f.ID]; e != nil {
				e.stored = f
			}
		}
		if s.revision != c.revision {
			continue
		}
		s.dirty, s.notable = false, false
		if s.Status == Closed {
			delete(m.open, s.ID)
		}
	}
}

// Flush makes everything that differs from its stored version pending.
func (m *Manager) Flush() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, s := range m.open {
		for _, e := range s.findings {
			s.dirty = s.dirty || differs(e)
		}
	}
}

// Counts returns how many incidents and findings are open.
func (m *Manager) Counts() (incidents, findings int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.open), len(m.episodes)
}
