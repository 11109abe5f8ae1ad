package engine

import (
	"crypto/sha256"
	"fmt"

	"github.com/ebbwatch/ebbwatch/internal/access"
)

// Profiles and quotas of users whose roles have none of their own.
const (
	profiles = `    <default><max_memory_usage>67108864</max_memory_usage></default>
    <services><max_memory_usage>%d</max_memory_usage></services>
`
	quotas = `    <default/>
    <!-- What the engine itself runs when it starts as a library, and not one query more. -->
    <boot><interval><duration>315360000</duration><queries>3</queries></interval></boot>
`
)

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
			Name: "default", Profile: "default", Quota: "boot",
			Grants: []string{"SYSTEM LISTEN ON *.*", "SELECT ON system.numbers", "SELECT ON system.one"},
		})
	}
	for i := range users {
		u := &users[i]
		u.Networks = []string{"127.0.0.1"}
		if u.Quota == "" {
			u.Quota = "default"
		}
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
	return access.XML(access.Roles(access.Scope{Databases: e.cfg.Databases, QueryBytes: queryBytes}), fmt.Sprintf(profiles, queryBytes), quotas, users), nil
}
