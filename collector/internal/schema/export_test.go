package schema

import (
	"context"

	"github.com/ebbwatch/ebbwatch/collector/internal/chconn"
	"github.com/ebbwatch/ebbwatch/migrations"
)

// Rewrite returns what a statement of the migrations becomes.
func Rewrite(conn chconn.Config, all []migrations.Migration, text string) (string, error) {
	s, err := newLayout(conn, all).rewrite(text)
	return s.text, err
}

// Fill runs a statement that changes the rows of a table.
func Fill(ctx context.Context, m *Migrator, text string) error {
	m.layout = newLayout(m.ClickHouse, m.Migrations)
	db, err := m.ClickHouse.Open(m.layout.local)
	if err != nil {
		return err
	}
	defer db.Close()
	return m.step(ctx, db, db, text)
}
