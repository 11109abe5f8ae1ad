// Package notify delivers reports to webhooks as Standard Webhooks describes
// (https://www.standardwebhooks.com): signed, retried for three days, once for
// each report and endpoint, whatever restarts in between.
package notify

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/ebbwatch/ebbwatch/analyzer/internal/detect"
	"github.com/ebbwatch/ebbwatch/internal/config"
)

// Webhook is one endpoint that gets reports.
type Webhook struct {
	Name          string          `yaml:"name"`           // in the deliveries table and the page: letters, digits, '-' and '_'
	URL           config.Secret   `yaml:"url"`            // or file:/path; may hold a token, so it is never shown
	Secrets       []config.Secret `yaml:"secrets"`        // or file:/path; whsec_ and base64 of 24 to 64 bytes; while one is replaced list both
	AllowNetworks []netip.Prefix  `yaml:"allow_networks"` // private, loopback or link-local networks that the URL may resolve to; all others of these are refused
	MinSeverity   detect.Severity `yaml:"min_severity"`   // least severity of a report: info, low, medium, high or critical; default info
}

// Config holds the endpoints.
type Config struct {
	Webhooks []Webhook     `yaml:"webhooks"`
	Timeout  time.Duration `yaml:"timeout"` // of one attempt
}

// DefaultConfig returns a configuration without endpoints.
func DefaultConfig() Config { return Config{Timeout: 15 * time.Second} }

var validName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// Validate implements config.Validator. Its errors hold no URL and no secret.
func (c Config) Validate() error {
	if c.Timeout < time.Second || c.Timeout > 2*time.Minute {
		return errors.New("timeout: must be 1s to 2m")
	}
	names := map[string]bool{}
	for i, w := range c.Webhooks {
		if !validName.MatchString(w.Name) {
			return fmt.Errorf("webhooks[%d].name: must be 1 to 64 letters, digits, '-' and '_'", i)
		}
		if names[w.Name] {
			return fmt.Errorf("webhooks[%d].name: %q stands there twice", i, w.Name)
		}
		names[w.Name] = true
		if w.MinSeverity > detect.Critical {
			return fmt.Errorf("webhooks[%d].min_severity: must be info, low, medium, high or critical", i)
		}
		if w.URL == "" {
			return fmt.Errorf("webhooks[%d].url: must not be empty", i)
		}
		if len(w.Secrets) == 0 {
			return fmt.Errorf("webhooks[%d].secrets: must hold at least one secret (make one: echo whsec_$(openssl rand -base64 32))", i)
		}
		if _, _, err := w.resolve(); err != nil {
			return fmt.Errorf("webhooks[%d].%w", i, err)
		}
	}
	return nil
}

// resolve reads the URL and the secrets, from their files if they stand in some.
func (w Webhook) resolve() (target string, keys [][]byte, err error) {
	target, err = w.URL.Value()
	if err != nil {
		return "", nil, fmt.Errorf("url: %w", err)
	}
	u, err := url.Parse(target)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" {
		return "", nil, errors.New("url: not an http or https URL")
	}
	for i, s := range w.Secrets {
		text, err := s.Value()
		if err != nil {
			return "", nil, fmt.Errorf("secrets[%d]: %w", i, err)
		}
		encoded, ok := strings.CutPrefix(text, "whsec_")
		key, err := base64.StdEncoding.DecodeString(encoded)
		if !ok || err != nil || len(key) < 24 || len(key) > 64 {
			return "", nil, fmt.Errorf("secrets[%d]: want whsec_ and base64 of 24 to 64 bytes", i)
		}
		keys = append(keys, key)
	}
	return target, keys, nil
}
