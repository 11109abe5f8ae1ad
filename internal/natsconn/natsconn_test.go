package natsconn

import (
	"strings"
	"testing"
)

func TestValidate(t *testing.T) {
	for _, tt := range []struct {
		name string
		cfg  Config
		want string // "" if valid
	}{
		{"the default", DefaultConfig(), ""},
		{"a cluster", Config{URL: "nats://a:4222, tls://b:4222"}, ""},
		{"nothing", Config{}, "url: want"},
		{"another protocol", Config{URL: "http://a"}, `scheme "http"`},
		{"no scheme", Config{URL: "127.0.0.1:4222"}, "url: want"},
		{"a password of nobody", Config{URL: "nats://a", Password: "x"}, "password: has no user"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := tt.cfg.Validate()
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
	if err := (Config{URL: "://user:hunter2@x"}).Validate(); err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("the error must not show the URL: %v", err)
	}
}

func TestRedacted(t *testing.T) {
	if got := (Config{URL: "nats://u:hunter2@a:4222,tls://b:1"}).Redacted(); got != "nats://u:xxxxx@a:4222, tls://b:1" {
		t.Errorf("got %q", got)
	}
}
