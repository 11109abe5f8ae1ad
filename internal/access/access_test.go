package access

import (
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write deploy/clickhouse")

const made = "Made from internal/access by: go test ./internal/access -update"

// server returns the roles as deploy/clickhouse ships them.
func server() []Role { return Roles([]string{"ebbwatch"}, 4<<30) }

const sqlHead = `-- ` + made + `
--
-- Roles of Ebbwatch on a ClickHouse server, 25.8 or later. Run it as an administrator, and again after an upgrade:
--     clickhouse-client --multiquery < roles.sql
-- Then make users, each with a password of its own. The collector migrates as the owner (clickhouse.user) and inserts as the writer (clickhouse.insert_user).
--     CREATE DATABASE ebbwatch;
--     CREATE USER ebbwatch_migrator  IDENTIFIED BY '…' DEFAULT ROLE ebbwatch_owner;
--     GRANT SET DEFINER ON ebbwatch_migrator TO ebbwatch_migrator; -- for the materialized views
--     CREATE USER ebbwatch_collector IDENTIFIED BY '…' DEFAULT ROLE ebbwatch_writer;
--     CREATE USER ebbwatch_analyzer  IDENTIFIED BY '…' DEFAULT ROLE ebbwatch_analyst;
--     CREATE USER alice              IDENTIFIED BY '…' DEFAULT ROLE ebbwatch_reader;
-- A reader may set what is CHANGEABLE_IN_READONLY; that needs access_control_improvements.settings_constraints_replace_previous,
-- which is on unless the server's configuration turns it off. The same as a configuration file: users.xml.

`

const xmlHead = `<?xml version="1.0"?>
<!--
  ` + made + `

  Roles and users of Ebbwatch for a ClickHouse server that keeps its users in files: put it into users.d. The passwords come from the server's environment, as SHA-256
  in hexadecimal: printf %s "$PASSWORD" | sha256sum. Where users are made by SQL, use roles.sql instead.
-->
<clickhouse>
`

func TestTheFilesForAServerAreTheRoles(t *testing.T) {
	var users []User
	for _, u := range []struct {
		name, role string
		grants     []string
	}{
		{"ebbwatch_migrator", Owner, []string{"SET DEFINER ON ebbwatch_migrator"}},
		{"ebbwatch_collector", Writer, nil}, {"ebbwatch_analyzer", Analyst, nil}, {"ebbwatch_person", Reader, nil},
	} {
		users = append(users, User{
			Name: u.name, Role: u.role, Grants: u.grants, Profile: "default", Quota: "default",
			Password: `<password_sha256_hex from_env="` + strings.ToUpper(u.name) + `_SHA256"/>`,
			Networks: []string{"::/0"},
		})
	}
	for file, want := range map[string]string{
		"roles.sql": sqlHead + strings.Join(SQL(server()), ";\n\n") + ";\n",
		"users.xml": xmlHead + XML(server(), "", "", users) + "</clickhouse>\n",
	} {
		path := filepath.Join("../../deploy/clickhouse", file)
		if *update {
			if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		got, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != want {
			t.Errorf("%s is not what internal/access says: run the test with -update", path)
		}
	}
}

func TestTheXMLIsWellFormed(t *testing.T) {
	d := xml.NewDecoder(strings.NewReader("<clickhouse>" + XML(server(), "", "", []User{{Name: "a", Password: "<no_password/>", Grants: []string{"SELECT ON `a<b&c`.*"}}}) + "</clickhouse>"))
	for {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			t.Fatal(err)
		}
	}
}
