package model

import (
	"bytes"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// folder returns a folder whose set-up script prints python, and whose server is
// the project's own unless server is given.
func folder(t *testing.T, python, server string) string {
	t.Helper()
	dir := t.TempDir()
	if server == "" {
		own, err := os.ReadFile("../../../llm-server.py")
		if err != nil {
			t.Fatal(err)
		}
		server = string(own)
	}
	for name, content := range map[string]string{"setup-llm.sh": "#!/bin/sh\necho setting up >&2\necho " + python + "\n", "llm-server.py": server} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestTheModelAnswers needs the environment of setup-llm.sh. It is an extra that
// nothing else needs, so it is never a failure that it is not there.
func TestTheModelAnswers(t *testing.T) {
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	venv := filepath.Join(cache, "ebbwatch", "llm")
	if dir := os.Getenv("EBBWATCH_CACHE"); dir != "" {
		venv = filepath.Join(dir, "llm")
	}
	if _, err := os.Stat(filepath.Join(venv, "requirements.installed")); err != nil {
		t.Skip("the model is not set up: run scripts/setup-llm.sh")
	}
	opts := Defaults()
	opts.Name, opts.Scripts, opts.Out = "smollm2", "../../..", t.Output()
	s, err := Start(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	question := `{"messages":[{"role":"user","content":"Say yes."}],"max_tokens":8}`
	res, err := http.Post(s.BaseURL()+"/chat/completions", "application/json", strings.NewReader(question))
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusOK {
		t.Errorf("answered %s", res.Status)
	}
	began := time.Now()
	if err := s.Stop(); err != nil || time.Since(began) > 4*time.Second {
		t.Errorf("stopping took %s, error %v", time.Since(began), err)
	}
	if healthy(t.Context(), s.BaseURL()+"/models") {
		t.Error("it still serves")
	}
}

func TestAServerThatDiesIsAnErrorWithItsReason(t *testing.T) {
	var out bytes.Buffer
	opts := Defaults()
	opts.Out, opts.Wait = &out, 10*time.Second
	opts.Scripts = folder(t, "/bin/sh", "echo no such weights >&2; exit 3\n")
	_, err := Start(t.Context(), opts)
	if !errors.Is(err, ErrNotServing) || !strings.Contains(err.Error(), "no such weights") {
		t.Errorf("got %v", err)
	}
	if !strings.Contains(out.String(), "setting up") {
		t.Errorf("the progress of the set-up is missing: %q", &out)
	}
}

func TestAServerThatNeverAnswersIsGivenUp(t *testing.T) {
	opts := Defaults()
	opts.Out, opts.Wait = t.Output(), time.Second
	opts.Scripts = folder(t, "/bin/sh", "cat >/dev/null\n")
	if _, err := Start(t.Context(), opts); !errors.Is(err, ErrNotServing) {
		t.Errorf("got %v", err)
	}
}

func TestASetUpThatFailsIsAnError(t *testing.T) {
	opts := Defaults()
	opts.Out, opts.Scripts = t.Output(), folder(t, "; exit 1", "")
	if _, err := Start(t.Context(), opts); err == nil || !strings.Contains(err.Error(), "set the model up") {
		t.Errorf("got %v", err)
	}
}
