package demo

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/ebbwatch/ebbwatch/scripts/lab/internal/netlab"
	"github.com/ebbwatch/ebbwatch/scripts/lab/internal/receiver"
)

const (
	logName    = "ebbwatch.log"
	configName = "ebbwatch.yaml"
)

// startEbbwatch runs `ebbwatch up` on the watched host and waits until it is
// well. The detectors keep their defaults: those are what is shown.
func (s *stage) startEbbwatch(ctx, inner context.Context) error {
	if s.dir == "" {
		dir, err := os.MkdirTemp("", "ebbwatch-demo-")
		if err != nil {
			return fmt.Errorf("make data folder: %w", err)
		}
		s.dir, s.ownDir = dir, true
	} else if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return fmt.Errorf("make data folder: %w", err)
	}
	watched := s.lab.Host("watched")
	env, err := s.environment(inner)
	if err != nil {
		return err
	}
	config, err := s.config()
	if err != nil {
		return err
	}
	log, err := os.OpenFile(filepath.Join(s.dir, logName), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	defer log.Close()
	cmd := exec.Command(s.opts.Bin, "up", "--config", config) // #nosec G204 -- the binary is the user's choice
	cmd.Env, cmd.Stdout, cmd.Stderr = env, log, log
	s.say.line("starting %s up on watched; page: %s", s.opts.Bin, s.pageURL)
	if s.ebb, err = watched.Start(context.WithoutCancel(ctx), cmd, 0); err != nil {
		return err
	}
	for {
		err := s.api.Healthy(ctx)
		if err == nil {
			s.say.line("ebbwatch is up (process %d)", s.ebb.Pid())
			return nil
		}
		select {
		case <-s.ebb.Done():
			return fmt.Errorf("%w: ebbwatch ended: %w", ErrFailed, s.ebb.Err())
		case <-ctx.Done():
			return fmt.Errorf("%w (%w)", context.Cause(ctx), err)
		case <-time.After(500 * time.Millisecond):
		}
		if s.say.quietFor(3 * time.Second) {
			s.say.line("waiting for ebbwatch: %v", err)
		}
	}
}

// config writes the configuration and returns its path.
func (s *stage) config() (string, error) {
	analyzer := map[string]any{
		"notify": map[string]any{
			"webhooks": []any{map[string]any{
				"name": "demo", "url": receiver.URL(s.lab.Host("services")), "secrets": []string{s.hook.Secret()},
				"allow_networks": []string{netlab.Prefix4.String()},
			}},
		},
	}
	if s.opts.LLM.Timeout > 0 {
		analyzer["llm"] = map[string]any{"timeout": s.opts.LLM.Timeout.String()}
	}
	data, err := yaml.Marshal(map[string]any{
		"data_dir": filepath.Join(s.dir, "data"),
		"agent":    map[string]any{"name": "watched"},
		"analyzer": analyzer,
	})
	if err != nil {
		return "", fmt.Errorf("write configuration: %w", err)
	}
	path := filepath.Join(s.dir, configName)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		return "", fmt.Errorf("write configuration: %w", err)
	}
	return path, nil
}

// environment returns that of this process without the settings and proxies of
// its user, which belong to another Ebbwatch and another network.
func (s *stage) environment(ctx context.Context) ([]string, error) {
	var env []string
	for _, kv := range os.Environ() {
		name, _, _ := strings.Cut(kv, "=")
		if strings.HasPrefix(name, "EBBWATCH_") && name != "EBBWATCH_CACHE" || strings.HasSuffix(strings.ToLower(name), "_proxy") {
			continue
		}
		env = append(env, kv)
	}
	if s.opts.LLM.BaseURL == "" {
		return env, nil
	}
	inside, err := s.bringModel(ctx)
	if err != nil {
		return nil, err
	}
	env = append(env, "EBBWATCH_LLM_BASE_URL="+inside, "EBBWATCH_LLM_API_KEY="+s.opts.LLM.APIKey)
	if s.opts.LLM.Model != "" {
		env = append(env, "EBBWATCH_LLM_MODEL="+s.opts.LLM.Model)
	}
	return env, nil
}
