package engine

import (
	"bytes"
	_ "embed"
	"encoding/xml"
	"fmt"
	"text/template"

	"golang.org/x/sys/unix"
)

//go:embed config.xml.tmpl
var settingsTemplate string

// settings is what the template of the engine's configuration file is filled with.
type settings struct {
	Config
	Path, LogFile, ErrorLogFile, ConfigFile string
	MaxMemoryBytes                          int64
	MaxConnections                          int    // of both ports
	Access                                  string // sections with users and what they may
}

// Database returns the database that Ebbwatch's tables are in.
func (c Config) Database() string { return c.Databases[0] }

func (s settings) render() ([]byte, error) {
	funcs := template.FuncMap{
		"xml": func(v string) (string, error) {
			var b bytes.Buffer
			err := xml.EscapeText(&b, []byte(v))
			return b.String(), err
		},
	}
	t, err := template.New("config.xml").Funcs(funcs).Parse(settingsTemplate)
	if err != nil {
		return nil, fmt.Errorf("parse engine settings: %w", err)
	}
	var b bytes.Buffer
	if err := t.Execute(&b, s); err != nil {
		return nil, fmt.Errorf("write engine settings: %w", err)
	}
	return b.Bytes(), nil
}

// memoryBytes returns the most memory that the engine may use.
func (c Config) memoryBytes() int64 {
	const mib = 1 << 20
	if c.MaxMemoryMB > 0 {
		return int64(c.MaxMemoryMB) * mib
	}
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return 1024 * mib
	}
	total := int64(info.Totalram) * int64(info.Unit)
	return min(max(total/4, 512*mib), 4096*mib)
}

// maxConnections returns how many connections both ports together take; more are
// closed at once. The engine counts 1 MiB of memory as used for each of the native
// port, also before a login: together a tenth of what it may use, at 512 MiB.
func (c Config) maxConnections() int {
	const mib = 1 << 20
	return int(min(max(c.memoryBytes()/(16*mib), 50), 100))
}
