package access

import (
	"encoding/xml"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write deploy/clickhouse")

const made = "Made from internal/access by: go test ./internal/access -update"

// The roles as deploy/clickhouse ships them.
func server() []Role { return Roles(Scope{Databases: []string{"ebbwatch"}, QueryBytes: 4 << 30}) }
func cluster() []Role {
	return Roles(Scope{Databases: []string{"ebbwatch", "ebbwatch_local"}, Cluster: true, QueryBytes: 4 << 30})
}

const sqlHead = `-- ` + made + `
--
-- Roles of Ebbwatch on %s, 25.8 or later. Run it as an administrator, and again after an upgrade:
--     clickhouse-client --multiquery < %s
-- Then make users, each with a password of its own. The collector migrates as the owner (clickhouse.user) and inserts as the writer (clickhouse.insert_user).
--     CREATE DATABASE ebbwatch;
--     CREATE USER ebbwatch_migrator  IDENTIFIED BY '…' DEFAULT ROLE ebbwatch_owner;
--     GRANT SET DEFINER ON ebbwatch_migrator TO ebbwatch_migrator; -- for the materialized views
--     CREATE USER ebbwatch_collector IDENTIFIED BY '…' DEFAULT ROLE ebbwatch_writer;
--     CREATE USER ebbwatch_analyzer  IDENTIFIED BY '…' DEFAULT ROLE ebbwatch_analyst;
--     CREATE USER alice              IDENTIFIED BY '…' DEFAULT ROLE ebbwatch_reader;
-- A reader may set what is CHANGEABLE_IN_READONLY; that needs access_control_improvements.settings_constraints_replace_previous,
-- which is on unless the server's configuration turns it off. The same as a configuration file: %s.

`

const xmlHead = `<?xml version="1.0"?>
<!--
  ` + made + `

  Roles and users of Ebbwatch for %s that keeps its users in files: put it into users.d. The passwords come from the server's environment, as SHA-256
  in hexadecimal: printf %%s "$PASSWORD" | sha256sum. Where users are made by SQL, use %s instead.
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
	const one, many = "a ClickHouse server", "each server of a ClickHouse cluster"
	for file, want := range map[string]string{
		"roles.sql":         fmt.Sprintf(sqlHead, one, "roles.sql", "users.xml") + strings.Join(SQL(server()), ";\n\n") + ";\n",
		"users.xml":         fmt.Sprintf(xmlHead, one, "roles.sql") + XML(server(), "", "", users) + "</clickhouse>\n",
		"roles-cluster.sql": fmt.Sprintf(sqlHead, many, "roles-cluster.sql", "users-cluster.xml") + strings.Join(SQL(cluster()), ";\n\n") + ";\n",
		"users-cluster.xml": fmt.Sprintf(xmlHead, many, "roles-cluster.sql") + XML(cluster(), "", "", users) + "</clickhouse>\n",
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
