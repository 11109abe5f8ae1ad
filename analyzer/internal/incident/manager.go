package incident

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/ebbwatch/ebbwatch/analyzer/internal/detect"
)

// Manager holds the open incidents and their findings. It is safe for
// concurrent use. What it holds is lost with the process unless the changes are
// stored and given back by Restore.
type Manager struct {
	cfg Config

	mu       sync.Mutex
	episodes map[episodeKey]*episode
	open     map[string]*state            // by incident id
	byEntity map[string]map[string]*state // address → incident id → incident
}

// episodeKey is what the findings of one episode have in common.
type episodeKey struct {
	kind   string
	entity detect.Entity
}

// keyOf leaves out the agent unless the finding is about nothing else: which
// agent sees the most of an attack may change while it lasts.
func keyOf(f *detect.Finding) episodeKey {
	key := episodeKey{f.Kind, f.Entity}
	if f.Entity.Src != "" || f.Entity.Dst != "" {
		key.entity.Host = ""
	}
	return key
}

// episode is one finding that may still go on.
type episode struct {
	finding  detect.Finding
	incident *state         // may be closed
	stored   detect.Finding // as last stored; its ID is empty if never
	keep     time.Duration  // how long after its end a window may still show it: the longest window it was found in
}

// state is an open incident.
type state struct {
	Incident
	findings map[string]*episode // by finding id, ended episodes included
	entities map[string]bool
	kinds    map[string]bool
	revision uint64 // counts changes
	dirty    bool   // differs from what is stored
	notable  bool   // and in a way that a person wants to know
}

// New returns a manager that knows nothing yet.
func New(cfg Config) *Manager {
	return &Manager{
		cfg: cfg, episodes: make(map[episodeKey]*episode),
		open: make(map[string]*state), byEntity: make(map[string]map[string]*state),
	}
}

// RestoreFrom is how old, in data time, the findings may be that Restore needs:
// as long as the longest window may show them.
const RestoreFrom = 49 * time.Hour

// Restore takes up incidents and their findings as they were stored, also closed
// ones of the time RestoreFrom. The open ones are pending and notable once more:
// the last run may have ended between storing them and telling anyone.
func (m *Manager) Restore(incidents []Incident, findings []detect.Finding) {
	m.mu.Lock()
	defer m.mu.Unlock()
	known := make(map[string]*state, len(incidents))
	for _, i := range incidents {
		s := newState(i)
		known[i.ID] = s
		for _, kind := range i.Kinds {
			s.kinds[kind] = true
		}
		for _, address := range i.Entities {
			s.entities[address] = true
		}
		if i.Status == Open {
			m.admit(s)
			s.dirty, s.notable = true, true
		}
	}
	for _, f := range findings {
		if s := known[f.Incident]; s != nil {
			e := &episode{finding: f, incident: s, stored: f, keep: RestoreFrom}
			s.findings[f.ID] = e
			key := keyOf(&f)
			if old := m.episodes[key]; old == nil || old.finding.WindowEnd.Before(f.WindowEnd) {
				m.episodes[key] = e
			}
		}
	}
}

func newState(i Incident) *state {
	return &state{Incident: i, findings: make(map[string]*episode), entities: make(map[string]bool), kinds: make(map[string]bool)}
}

// admit adds an open incident.
func (m *Manager) admit(s *state) {
	s.Status = Open
	m.open[s.ID] = s
	for address := range s.entities {
		m.link(s, address)
	}
}

// Observe takes the findings of one window. A finding on the same kind and
// entity as an earlier one within EpisodeGap continues it: it keeps the earlier
// id and covers both.
func (m *Manager) Observe(findings []detect.Finding, w detect.Window) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, f := range findings {
		key := keyOf(&f)
		e := m.episodes[key]
		if e == nil || !near(&e.finding, f.WindowStart, f.WindowEnd, m.cfg.EpisodeGap) {
			f.ID = detect.FindingID(f.Kind, f.Entity, f.WindowStart)
			e = &episode{finding: f, keep: w.Duration()}
			m.place(e, w.End)
			m.makeRoom()
			m.episodes[key] = e
			continue
		}
		e.keep = max(e.keep, w.Duration())
		m.extend(e, f, w.End)
	}
}

// near reports whether [start, end] is at most gap away from what f covers.
func near(f *detect.Finding, start, end time.Time, gap time.Duration) bool {
	return !start.After(f.WindowEnd.Add(gap)) && !end.Before(f.WindowStart.Add(-gap))
}

// extend lets e go on with f. The words and the evidence are those of the
// window with the highest score, the later one among equals.
func (m *Manager) extend(e *episode, f detect.Finding, end time.Time) {
	old := e.finding
	if f.Score >= old.Score {
		e.finding.Score, e.finding.Summary, e.finding.Evidence = f.Score, f.Summary, f.Evidence
	}
	if f.Entity.Host != old.Entity.Host {
		e.finding.Entity.Host = "" // several agents saw it
	}
	e.finding.PValue = min(old.PValue, f.PValue)
	e.finding.Severity = max(old.Severity, f.Severity)
	e.finding.WindowStart = earliest(old.WindowStart, f.WindowStart)
	e.finding.WindowEnd = latest(old.WindowEnd, f.WindowEnd)
	switch {
	case e.incident.Status == Open:
		m.absorb(e)
	case e.finding.WindowEnd.After(old.WindowEnd): // it was quiet, and goes on
		m.place(e, end)
	}
}

// place finds the incident for a finding that has none which is open, or opens
// one. If the finding was the first of an incident that is closed, that is
// opened again.
func (m *Manager) place(e *episode, end time.Time) {
	addresses := addressesOf(e.finding.Entity)
	var home *state
	for _, address := range addresses {
		for _, s := range m.byEntity[address] {
			takes := !e.finding.WindowStart.After(s.Ended.Add(m.cfg.MergeGap)) &&
				!e.finding.WindowEnd.Before(s.Started.Add(-m.cfg.MergeGap)) &&
				e.finding.WindowEnd.Sub(s.Started) <= m.cfg.MaxLength
			if takes && (home == nil || before(s, home)) {
				home = s
			}
		}
	}
	if home == nil {
		sum := sha256.Sum256([]byte("incident\x00" + e.finding.ID))
		home = newState(Incident{
			ID: "i-" + hex.EncodeToString(sum[:8]), Started: e.finding.WindowStart, Ended: e.finding.WindowEnd, Opened: end,
		})
		if e.incident != nil && e.incident.ID == home.ID {
			home = e.incident
		}
		m.admit(home)
	}
	e.incident, e.finding.Incident = home, home.ID
	home.findings[e.finding.ID] = e
	for _, address := range addresses {
		m.link(home, address)
	}
	m.absorb(e)
}

// before orders incidents: the oldest takes what could go to several.
func before(a, b *state) bool {
	return cmp.Or(a.Started.Compare(b.Started), cmp.Compare(a.ID, b.ID)) < 0
}

// absorb brings the incident of e up to date with it.
func (m *Manager) absorb(e *episode) {
	s, f := e.incident, &e.finding
	if f.Severity > s.Severity || !s.kinds[f.Kind] {
		s.notable = true
	}
	s.kinds[f.Kind] = true
	s.Severity = max(s.Severity, f.Severity)
	s.Started, s.Ended = earliest(s.Started, f.WindowStart), latest(s.Ended, f.WindowEnd)
	s.Findings = len(s.findings)
	s.Kinds, s.Entities = slices.Sorted(maps.Keys(s.kinds)), slices.Sorted(maps.Keys(s.entities))
	s.Title = title(s)
	if m.outdated(e) || s.notable {
		s.dirty = true
	}
	s.revision++
}

// outdated reports whether e has become so different from its stored version
// that it is worth storing.
func (m *Manager) outdated(e *episode) bool {
	return e.stored.ID == "" || e.finding.Severity != e.stored.Severity || e.finding.WindowStart.Before(e.stored.WindowStart) ||
		e.finding.WindowEnd.Sub(e.stored.WindowEnd) >= m.cfg.SaveEvery
}

// differs reports whether e differs from its stored version at all.
func differs(e *episode) bool {
	return e.stored.ID == "" || !e.finding.WindowEnd.Equal(e.stored.WindowEnd) || !e.finding.WindowStart.Equal(e.stored.WindowStart) ||
		e.finding.Score != e.stored.Score || e.finding.Severity != e.stored.Severity || e.finding.Incident != e.stored.Incident
}

// Advance ends the episodes and closes the incidents that have been quiet for
// long enough at the time now, which is data time: every detector has looked
// at everything before it.
func (m *Manager) Advance(now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for key, e := range m.episodes {
		if e.finding.WindowEnd.Add(m.cfg.EpisodeGap + e.keep).Before(now) {
			delete(m.episodes, key)
		}
	}
	for _, s := range m.open {
		if s.Status == Open && s.Ended.Add(m.cfg.QuietAfter).Before(now) {
			s.Status, s.dirty, s.notable = Closed, true, true
			s.revision++
			m.unlink(s)
		}
	}
}

// makeRoom ends the quietest episode when there are too many.
func (m *Manager) makeRoom() {
	if len(m.episodes) < m.cfg.MaxOpen {
		return
	}
	var (
		victim episodeKey
		oldest *episode
	)
	for key, e := range m.episodes {
		if oldest == nil || cmp.Or(e.finding.WindowEnd.Compare(oldest.finding.WindowEnd), cmp.Compare(e.finding.ID, oldest.finding.ID)) < 0 {
			victim, oldest = key, e
		}
	}
	delete(m.episodes, victim)
}

func (m *Manager) link(s *state, address string) {
	s.entities[address] = true
	if m.byEntity[address] == nil {
		m.byEntity[address] = make(map[string]*state)
	}
	m.byEntity[address][s.ID] = s
}

func (m *Manager) unlink(s *state) {
	for address := range s.entities {
		delete(m.byEntity[address], s.ID)
		if len(m.byEntity[address]) == 0 {
			delete(m.byEntity, address)
		}
	}
}

// addressesOf returns what findings can share.
func addressesOf(e detect.Entity) []string {
	var addresses []string
	for _, a := range []string{e.Src, e.Dst} {
		if a != "" {
			addresses = append(addresses, a)
		}
	}
	if len(addresses) == 0 && e.Host != "" {
		addresses = append(addresses, e.Host)
	}
	return addresses
}

func earliest(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

func latest(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
