package config_test

import (
	"bytes"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/ebbwatch/ebbwatch/internal/config"
)

type inner struct {
	URL      string        `yaml:"url"`
	Password config.Secret `yaml:"password"`
	Key      config.Secret `yaml:"api_key" env:"EBBWATCH_LLM_API_KEY"`
}

type sample struct {
	Interval time.Duration `yaml:"drain_interval"`
	Include  []string      `yaml:"include"`
	Rows     int           `yaml:"rows"`
	NATS     inner         `yaml:"nats"`
	Hooks    []hook        `yaml:"hooks"`
	Small    uint16        `yaml:"small"`
	Share    float64       `yaml:"share"`
	Own      inner         `yaml:"own"`
}

func (s sample) Preset() map[string]string {
	return map[string]string{"own": "is not a choice"}
}

func (s *sample) Complete() {
	if s.Small == 0 {
		s.Small = uint16(s.Rows) + 1
	}
}

type hook struct {
	Wait     time.Duration  `yaml:"wait"`
	Networks []netip.Prefix `yaml:"networks"`
	On       bool           `yaml:"on"`
}

func (s sample) Validate() error {
	return config.All(
		config.Wrong(s.Rows <= 0, "rows: must be above 0"),
		config.Under("nats", config.All(
			config.Wrong(s.NATS.URL == "nowhere", "url: is nowhere"),
			config.Wrong(s.NATS.Key == "short", "api_key: is short"),
		)),
	)
}

func load(t *testing.T, yaml string, env ...string) (sample, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "service.yaml")
	if err := os.WriteFile(file, []byte(yaml), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := sample{Interval: 5 * time.Second, Rows: 10}
	err := config.Load(&cfg, file, env)
	return cfg, err
}

func TestLoadOrder(t *testing.T) {
	file := filepath.Join(t.TempDir(), "service.yaml")
	if err := os.WriteFile(file, []byte("drain_interval: 7s\nrows: 20\nnats: {url: 'nats://file:1'}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := sample{Interval: 5 * time.Second, Rows: 10, Include: []string{"eth*"}}
	err := config.Load(&cfg, file, []string{
		"EBBWATCH_ROWS=30", "EBBWATCH_SHARE=0x10", "EBBWATCH_NATS_PASSWORD=yes: [no", "EBBWATCH_INCLUDE=[a, b]", "EBBWATCH_LLM_API_KEY=k", "ROWS=99", "EBBWATCH_BIN=1",
	})
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Interval != 7*time.Second || cfg.Rows != 30 || cfg.NATS.URL != "nats://file:1" || string(cfg.NATS.Password) != "yes: [no" ||
		strings.Join(cfg.Include, ",") != "a,b" || string(cfg.NATS.Key) != "k" || cfg.Share != 16 || cfg.Small != 31 {
		t.Errorf("environment must win over the file, the file over defaults: %#v", cfg)
	}
}

func TestLoadRefuses(t *testing.T) {
	tests := []struct {
		name, yaml, env string
		want            []string // every part must be in the error
	}{
		{"an unknown key", "rows: 1\nrowz: 1\n", "", []string{"service.yaml:2: ", "rowz", "no such key; here are: drain_interval, include, rows, "}},
		{"an unknown nested key", "nats:\n  uri: x\n", "", []string{"service.yaml:2: ", "nats.uri", "no such key; in nats are: url, password, api_key"}},
		{"a value of the wrong type", "rows: many\n", "", []string{"service.yaml:1: rows: ", `"many" is not a whole number`}},
		{"a negative number where none can be", "small: -1\n", "", []string{"service.yaml:1: small: ", "from 0 to 65535"}},
		{"a number that is too large", "small: 65536\n", "", []string{"service.yaml:1: small: ", "from 0 to 65535"}},
		{"a fraction for a whole number", "small: 1.5\n", "", []string{"service.yaml:1: small: ", `"1.5" is not a whole number`}},
		{"a word for yes or no", "hooks:\n- on: maybe\n", "", []string{`service.yaml:2: hooks[0].on: "maybe" is neither true nor false`}},
		{"a word for a number", "share: half\n", "", []string{`service.yaml:1: share: "half" is not a number`}},
		{"no finite number", "share: .inf\n", "", []string{`service.yaml:1: share: ".inf" is not a number`}},
		{"one value for a list", "include: eth0\n", "", []string{"service.yaml:1: include: must be a list, as [first, second]"}},
		{"a list for one value", "rows: [1]\n", "", []string{"service.yaml:1: rows: "}},
		{"a value for a section", "nats: nats://user:hunter2@host\n", "", []string{"service.yaml:1: nats: must hold keys: url, password, api_key"}},
		{"a section for a value", "nats:\n  url: {a: b}\n", "", []string{"service.yaml:2: nats.url: must be text"}},
		{"a section without keys", "nats:\n", "", []string{"service.yaml:1: nats: has no value"}},
		{"no mapping at all", "[1]\n", "", []string{"service.yaml:1: must hold keys: "}},
		{"two documents", "rows: 1\n---\nrows: 2\n", "", []string{"service.yaml:3: ", "second document"}},
		{"a preset section", "own:\n  url: nats://h\n", "", []string{"service.yaml:1: own: is not a choice"}},
		{"a preset variable", "", "EBBWATCH_OWN_URL=nats://h", []string{"EBBWATCH_OWN_URL: is not a choice"}},
		{"a duration without a unit", "drain_interval: 5 apples\n", "", []string{"service.yaml:1: drain_interval: ", "5 apples", "is not a duration"}},
		{"a number as a duration", "drain_interval: 5\n", "", []string{"service.yaml:1: ", "is not a duration"}},
		{"a redacted secret", "nats:\n  password: <redacted>\n", "", []string{"service.yaml:2: nats.password: ", "file:"}},
		{"a bad element of a list", "hooks:\n  - {wait: 1s}\n  - {wait: soon, networks: [10.0.0.0/8]}\n", "", []string{"service.yaml:3: hooks[1].wait: ", "soon"}},
		{"a bad value that reads itself", "hooks:\n  - {wait: 1s, networks: [10.0.0.0/8, home]}\n", "", []string{"service.yaml:2: hooks[0].networks[1]: ", "home"}},
		{"a variable that is no key", "", "EBBWATCH_NATS_URI=x", []string{"EBBWATCH_NATS_URI", "no such key"}},
		{"a duration variable without a unit", "", "EBBWATCH_DRAIN_INTERVAL=5", []string{"EBBWATCH_DRAIN_INTERVAL", "is not a duration"}},
		{"broken YAML", "share: 1\nrows: [1\n", "", []string{"service.yaml:2: not valid YAML: "}},
		{"a value that fails validation", "share: 1\nrows: -1\n", "", []string{"service.yaml:2: rows: must be above 0"}},
		{"a bad environment variable", "", "EBBWATCH_ROWS=many", []string{`EBBWATCH_ROWS: "many" is not a whole number`}},
		{"an empty variable", "", "EBBWATCH_ROWS=", []string{"EBBWATCH_ROWS: has no value"}},
		{"a duplicate key", "rows: 1\nrows: 2\n", "", []string{"service.yaml:2: ", "rows"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := load(t, tt.yaml, tt.env)
			if !errors.Is(err, config.ErrInvalid) {
				t.Fatalf("got %v, want ErrInvalid", err)
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("error shows a secret: %v", err)
			}
			for _, part := range tt.want {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("error does not name %q:\n%v", part, err)
				}
			}
		})
	}
	if err := config.Load(&sample{Rows: 1}, "/nonexistent.yaml", nil); err == nil || !strings.Contains(err.Error(), "/nonexistent.yaml") {
		t.Errorf("a missing file must be named, got %v", err)
	}
}

func TestDumpRedactsAndLoadsAgain(t *testing.T) {
	cfg := sample{Interval: 5 * time.Second, Rows: 3, NATS: inner{Password: "hunter2", Key: "file:/run/key"}}
	var out bytes.Buffer
	if err := config.Dump(&out, cfg); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(out.String(), "hunter2") {
		t.Errorf("dump shows a secret:\n%s", out.String())
	}
	if strings.Contains(out.String(), "own") {
		t.Errorf("dump shows a key that is preset:\n%s", out.String())
	}
	if !strings.Contains(out.String(), "drain_interval: 5s") || !strings.Contains(out.String(), "file:/run/key") {
		t.Errorf("dump lacks a value:\n%s", out.String())
	}
	if _, err := load(t, out.String()); err == nil || !strings.Contains(err.Error(), "nats.password") {
		t.Errorf("a redacted secret must not be taken for the secret, got %v", err)
	}
	if got, err := load(t, strings.ReplaceAll(out.String(), "<redacted>", "file:/run/password")); err != nil || got.NATS.Password != "file:/run/password" || got.Rows != 3 {
		t.Errorf("a dump must load: %v %v", got, err)
	}
}

func TestSecretFromFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(file, []byte("s3cret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if v, err := config.Secret("file:" + file).Value(); err != nil || v != "s3cret" {
		t.Errorf("got %q, %v", v, err)
	}
	if _, err := config.Secret("file:/nonexistent").Value(); err == nil {
		t.Error("a missing file must be an error")
	}
	if v, err := config.Secret("plain").Value(); err != nil || v != "plain" {
		t.Errorf("got %q, %v", v, err)
	}
}

func TestAFileWithoutKeysMeansTheDefaults(t *testing.T) {
	for name, text := range map[string]string{"an empty file": "", "comments alone": "# nothing\n\n", "a document mark": "---\n"} {
		cfg, err := load(t, text)
		if err != nil || cfg.Rows != 10 || cfg.Interval != 5*time.Second {
			t.Errorf("%s loads as %+v: %v", name, cfg, err)
		}
	}
}

func TestLoadTellsAllThatIsWrong(t *testing.T) {
	for _, tt := range []struct {
		name, yaml string
		env        []string
		want       string
	}{
		{
			"what cannot be read, in the file and the environment",
			"rows: many\nrowz: 1\nnats:\n  uri: x\nhooks:\n- {wait: soon}\n- {on: maybe}\n", []string{"EBBWATCH_SMALL=-1", "EBBWATCH_NONE=1"},
			`invalid configuration, 7 errors:
  service.yaml:1: rows: "many" is not a whole number, or too large
  service.yaml:2: "rowz": no such key; here are: drain_interval, include, rows, nats, hooks, small, share, own
  service.yaml:4: "nats.uri": no such key; in nats are: url, password, api_key
  service.yaml:6: hooks[0].wait: "soon" is not a duration such as 500ms, 5s or 2h
  service.yaml:7: hooks[1].on: "maybe" is neither true nor false
  environment variable EBBWATCH_SMALL: "-1" is not a whole number from 0 to 65535
  environment variable EBBWATCH_NONE: no such key (--dump-config prints them all)`,
		},
		{
			"what is refused",
			"rows: -1\nnats:\n  api_key: short\n  url: nowhere\n", nil,
			`invalid configuration, 3 errors:
  service.yaml:1: rows: must be above 0
  service.yaml:4: nats.url: is nowhere
  service.yaml:3: nats.api_key: is short`,
		},
		{"one thing only", "rows: -1\n", nil, `invalid configuration: service.yaml:1: rows: must be above 0`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := load(t, tt.yaml, tt.env...)
			if !errors.Is(err, config.ErrInvalid) {
				t.Fatalf("got %v, want ErrInvalid", err)
			}
			if got := regexp.MustCompile(`\S*/service`).ReplaceAllString(err.Error(), "service"); got != tt.want {
				t.Errorf("got\n%s\nwant\n%s", got, tt.want)
			}
		})
	}
}
