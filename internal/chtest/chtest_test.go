package chtest

import (
	"net"
	"os"
	"strings"
	"testing"
)

func TestTheServerAnswersAndKeepsUsersApart(t *testing.T) {
	s := Start(t)
	db := s.NewDatabase(t)
	if other := s.NewDatabase(t); other == db {
		t.Fatalf("NewDatabase gave %s twice", db)
	}
	s.Query(t, "CREATE TABLE "+db+".findings (a UInt8) ENGINE = MergeTree ORDER BY a")
	s.Query(t, "CREATE TABLE "+db+".flows (a UInt8) ENGINE = MergeTree ORDER BY a")
	for _, c := range []struct{ name, user, query, want, wantErr string }{
		{"the collector inserts", Collector, "INSERT INTO " + db + ".flows VALUES (1)", "", ""},
		{"the analyzer inserts a finding", Analyzer, "INSERT INTO " + db + ".findings VALUES (1)", "", ""},
		{"the analyzer reads flows", Analyzer, "SELECT count() FROM " + db + ".flows", "1", ""},
		{"the analyzer inserts no flow", Analyzer, "INSERT INTO " + db + ".flows VALUES (2)", "", "ACCESS_DENIED"},
		{"the reader reads", Reader, "SELECT count() FROM " + db + ".findings", "1", ""},
		{"the reader inserts nothing", Reader, "INSERT INTO " + db + ".findings VALUES (2)", "", "ACCESS_DENIED"},
		{"the collector has its databases only", Collector, "CREATE DATABASE other", "", "ACCESS_DENIED"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := s.QueryAs(c.user, c.query)
			if c.wantErr == "" && err != nil || c.wantErr != "" && (err == nil || !strings.Contains(err.Error(), c.wantErr)) {
				t.Fatalf("error %v, want %q", err, c.wantErr)
			}
			if got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestTheServerEndsWithTheTest(t *testing.T) {
	var s *Server
	if !t.Run("use", func(t *testing.T) { s = Start(t) }) || s == nil {
		t.SkipNow()
	}
	if conn, err := net.Dial("tcp", s.Addr); err == nil {
		conn.Close()
		t.Errorf("%s still answers", s.Addr)
	}
	if _, err := os.Stat(s.DataDir); !os.IsNotExist(err) {
		t.Errorf("the data folder is still there: %v", err)
	}
}
