// Package llm asks an OpenAI-compatible model to word what the report has
// established. It is a report.Worder; the reply is not trusted here either, it
// is only bounded and parsed.
package llm

import (
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/ebbwatch/ebbwatch/internal/config"
)

// Config says which model words reports. Without a model none does.
type Config struct {
	BaseURL        string        `yaml:"base_url" env:"EBBWATCH_LLM_BASE_URL"` // up to and without /chat/completions, as http://127.0.0.1:8080/v1
	APIKey         config.Secret `yaml:"api_key" env:"EBBWATCH_LLM_API_KEY"`   // or file:/path; sent as a bearer token
	Model          string        `yaml:"model" env:"EBBWATCH_LLM_MODEL"`       // name of the model at that URL
	Timeout        time.Duration `yaml:"timeout"`                              // for one report, retries included; then the template goes out
	MaxTokens      int           `yaml:"max_tokens"`                           // of one reply
	MaxPerHour     int           `yaml:"max_reports_per_hour"`                 // further reports are written by the template
	ResponseFormat string        `yaml:"response_format"`                      // auto, json_schema or json_object: what the server can enforce
	PseudonymKey   config.Secret `yaml:"pseudonym_key"`                        // or file:/path; at least 16 bytes, keeps the pseudonyms of hosts stable; empty: a new one at each start
}

// Values of Config.ResponseFormat.
const (
	FormatAuto   = "auto"
	FormatSchema = "json_schema"
	FormatObject = "json_object"
)

// DefaultConfig returns a configuration without a model.
func DefaultConfig() Config {
	return Config{Model: "default", Timeout: 30 * time.Second, MaxTokens: 1500, MaxPerHour: 60, ResponseFormat: FormatAuto}
}

// Enabled tells whether a model is configured.
func (c Config) Enabled() bool { return c.BaseURL != "" }

// Validate implements config.Validator.
func (c Config) Validate() error {
	if !c.Enabled() {
		return nil
	}
	u, err := url.Parse(c.BaseURL)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		return errors.New("base_url: must be an http or https URL")
	case u.User != nil:
		return errors.New("base_url: must hold no user or password, use api_key")
	case c.Model == "":
		return errors.New("model: must not be empty")
	case c.Timeout < time.Second || c.Timeout > 10*time.Minute:
		return errors.New("timeout: must be 1s to 10m")
	case c.MaxTokens < 64 || c.MaxTokens > 32768:
		return errors.New("max_tokens: must be 64 to 32768")
	case c.MaxPerHour < 1:
		return errors.New("max_reports_per_hour: must be at least 1")
	case c.ResponseFormat != FormatAuto && c.ResponseFormat != FormatSchema && c.ResponseFormat != FormatObject:
		return fmt.Errorf("response_format: %q, want auto, json_schema or json_object", c.ResponseFormat)
	}
	return nil
}
