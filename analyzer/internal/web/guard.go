package web

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/ebbwatch/ebbwatch/internal/ops"
)

// Config says under which names the page may be asked for.
type Config struct {
	AllowedHosts []string `yaml:"allowed_hosts"` // names that browsers may use in the URL, besides localhost and IP addresses; a foreign name that points here is refused
	PublicURL    string   `yaml:"public_url"`    // address of the page for people, in links of reports, as https://ebbwatch.example.com; its name is allowed too
}

// DefaultConfig returns a configuration for a page on this host.
func DefaultConfig() Config { return Config{} }

// Validate implements config.Validator.
func (c Config) Validate() error {
	for _, h := range c.AllowedHosts {
		if h == "" || strings.ContainsAny(h, ":/ ") {
			return fmt.Errorf("allowed_hosts: %q is not a host name without a port", h)
		}
	}
	if c.PublicURL == "" {
		return nil
	}
	u, err := url.Parse(c.PublicURL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.User != nil {
		return errors.New("public_url: must be an http or https URL without a query")
	}
	return nil
}

// Hosts returns the names, in lower case, that requests may be for, beside
// localhost and addresses.
func (c Config) Hosts() map[string]bool {
	hosts := make(map[string]bool)
	for _, h := range c.AllowedHosts {
		hosts[strings.ToLower(h)] = true
	}
	if u, err := url.Parse(c.PublicURL); err == nil && u.Host != "" {
		hosts[strings.ToLower(u.Hostname())] = true
	}
	return hosts
}

// pagePolicy lets a page load from its own origin only, and run no inline script.
const pagePolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// Guard wraps everything that browsers may reach. It answers only requests that
// read, and only under a name that is allowed: a foreign name that resolves to
// this address would make its owner's page one origin with ours (ops.HostAllowed).
func Guard(cfg Config, next http.Handler) http.Handler {
	hosts := cfg.Hosts()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", pagePolicy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=()")
		h.Set("Cache-Control", "no-store")
		if !ops.HostAllowed(r.Host, hosts) {
			refuse(w, r, http.StatusMisdirectedRequest, "foreign_host", "this name is not among web.allowed_hosts of the analyzer's configuration")
			return
		}
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			h.Set("Allow", "GET, HEAD")
			refuse(w, r, http.StatusMethodNotAllowed, "method_not_allowed", "only GET and HEAD are served")
			return
		}
		next.ServeHTTP(w, r)
	})
}

// refuse answers in the form that the asked part speaks. The texts are ours and
// hold nothing that JSON would have to escape.
func refuse(w http.ResponseWriter, r *http.Request, status int, code, message string) {
	if !strings.HasPrefix(r.URL.Path, "/api/") {
		http.Error(w, message, status)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	fmt.Fprintf(w, `{"error":{"code":%q,"message":%q}}`+"\n", code, message)
}
