package app

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/ebbwatch/ebbwatch/analyzer/internal/detect"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/incident"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/store"
)

// teller is told of incidents that a person would want to know of. It is told
// again after a restart, so it must take the same state of an incident for one,
// and it must return soon. An error makes the scheduler try again, and wait with
// what follows.
type teller interface {
	// findings are all that the incident has, the earliest first.
	Changed(ctx context.Context, i incident.Incident, findings []detect.Finding) error
}

// keeper stores changes and hands the notable ones on.
type keeper struct {
	store *store.Store
	tell  teller
	log   *slog.Logger
}

// Keep implements schedule.Keeper.
func (k keeper) Keep(ctx context.Context, changes []incident.Change) error {
	incidents := make([]incident.Incident, len(changes))
	var findings []detect.Finding
	for i, c := range changes {
		incidents[i] = c.Incident
		findings = append(findings, c.Updated...)
	}
	// Incidents go first: an incident without its findings is completed when the
	// window is looked at again, findings without their incident would be orphans.
	if err := k.store.SaveIncidents(ctx, incidents...); err != nil {
		return err
	}
	if err := k.store.SaveFindings(ctx, findings...); err != nil {
		return err
	}
	for _, c := range changes {
		if !c.Notable {
			continue
		}
		if err := k.tell.Changed(ctx, c.Incident, c.Findings); err != nil {
			return fmt.Errorf("report incident %s: %w", c.Incident.ID, err)
		}
	}
	return nil
}

// Recall implements schedule.Keeper.
func (k keeper) Recall(ctx context.Context) ([]incident.Incident, []detect.Finding, error) {
	const most = 10_000 // of each that are taken up again, the newest
	page := store.Page{Limit: most}
	from := time.Now().Add(-incident.RestoreFrom)
	incidents, total, err := k.store.Incidents(ctx, store.IncidentFilter{From: from, Page: page})
	if err != nil {
		return nil, nil, err
	}
	findings, n, err := k.store.Findings(ctx, store.FindingFilter{From: from, Page: page})
	if err != nil {
		return nil, nil, err
	}
	if total > most || n > most {
		k.log.Warn("too many recent findings to take up again", "findings", n, "incidents", total, "taken", most)
	}
	return incidents, findings, nil
}
