package engine

import (
	"crypto/sha256"
	"fmt"
	"strconv"

	"github.com/ebbwatch/ebbwatch/internal/access"
)

// Profiles and quotas of users whose roles have none of their own. The profile
// default is also that of a connection on which nobody has logged in yet.
const (
	profiles = `    <default>
      <max_memory_usage>67108864</max_memory_usage>
      <receive_timeout>10</receive_timeout>
    </default>
    <services>
      <max_memory_usage>%d</max_memory_usage>
      <receive_timeout>300</receive_timeout>
    </services>
    <!-- The engine itself has this session, from before it listens. -->
    <boot><max_sessions_for_user>1</max_sessions_for_user></boot>
`
	quotas = "    <default/>\n"
)

// readerSessions returns how many sessions the reader may have, as whom anybody on
// the host can log in: half the connections.
func (c Config) readerSessions() int { return c.maxConnections() / 2 }

// access returns the sections of the configuration file that say who may do
// what, and sets the operator's password. It makes the passwords that are missing.
func (e *Engine) access() (string, error) {
	queryBytes := e.cfg.memoryBytes() / 2
	users := []access.User{
		{Name: operator, Profile: "default", Grants: []string{"KILL QUERY ON *.*", "SELECT ON system.processes", "SELECT ON system.one"}},
		{Name: Collector, Profile: "services", Role: access.Owner, Grants: []string{"SET DEFINER ON " + Collector}},
		{Name: Writer, Profile: "services", Role: access.Writer},
		{Name: Analyzer, Profile: "services", Role: access.Analyst},
		{Name: Reader, Role: access.Reader},
	}
	if e.program.binary == "" { // the library logs in as default
		users = append(users, access.User{
			Name: "default", Profile: "boot",
			Grants: []string{"SYSTEM LISTEN ON *.*", "SELECT ON system.numbers", "SELECT ON system.one"},
		})
	}
	for i := range users {
		u := &users[i]
		u.Networks = []string{"127.0.0.1"}
		u.Quota = "default"
		if u.Name == Reader || u.Name == "default" {
			u.Password = "<no_password/>"
			continue
		}
		password, err := e.dir.Secret(SecretPrefix + u.Name)
		if err != nil {
			return "", err
		}
		u.Password = fmt.Sprintf("<password_sha256_hex>%x</password_sha256_hex>", sha256.Sum256([]byte(password)))
		if u.Name == operator {
			e.password = password
		}
	}
	roles := access.Roles(access.Scope{Databases: e.cfg.Databases, QueryBytes: queryBytes})
	for i := range roles {
		if roles[i].Name == access.Reader {
			roles[i].Settings = append(roles[i].Settings, access.Setting{Name: "max_sessions_for_user", Value: strconv.Itoa(e.cfg.readerSessions())})
		}
	}
	return access.XML(roles, fmt.Sprintf(profiles, queryBytes), quotas, users), nil
}
