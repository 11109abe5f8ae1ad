package access_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ebbwatch/ebbwatch/internal/chtest"
)

// The local engine has its users from a file and refuses CREATE USER: that the
// statements for a server are ClickHouse's, its parser tells.
func TestTheStatementsForAServerAreClickHouses(t *testing.T) {
	ch := chtest.Start(t)
	files, err := filepath.Glob("../../deploy/clickhouse/*.sql")
	if err != nil || len(files) != 2 {
		t.Fatalf("files %v: %v", files, err)
	}
	if _, err := ch.QueryAs(chtest.Reader, "SELECT formatQuery('GRANT REMTE ON *.* TO a')"); err == nil {
		t.Error("the parser takes a grant that does not exist: the test shows nothing")
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for statement := range strings.SplitSeq(string(text), ";\n\n") {
			statement = strings.TrimSuffix(strings.TrimSpace(statement), ";")
			quoted := strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(statement)
			if _, err := ch.QueryAs(chtest.Reader, "SELECT formatQuery('"+quoted+"')"); err != nil {
				t.Errorf("%s: %v\n%s", filepath.Base(file), err, statement)
			}
			n++
		}
		if n < 20 {
			t.Errorf("%s has %d statements", file, n)
		}
	}
}
