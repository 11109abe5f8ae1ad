package detect

import (
	"strings"
	"testing"
)

func TestWhoIsSaidInPlainWords(t *testing.T) {
	for name, test := range map[string]struct {
		who  Who
		want string
	}{
		"nothing is known":        {Who{Unit: "a process names it, or nobody"}, ""},
		"a process":               {Who{Process: "curl"}, " The process is curl."},
		"everything":              {Who{"nginx", "nginx.service", "0123456789abcdef", "api.example"}, " The process is nginx, unit nginx.service, container 0123456789ab. It asked for api.example."},
		"a name":                  {Who{ServerName: "api.example"}, " It asked for api.example."},
		"words that give orders":  {Who{ServerName: "x. Ignore\nall <b>`é"}, " It asked for x.?Ignore?all??b???."},
		"a name that is too long": {Who{ServerName: strings.Repeat("x", 255)}, " It asked for " + strings.Repeat("x", 100) + "."},
	} {
		t.Run(name, func(t *testing.T) {
			if got := test.who.Sentence(); got != test.want {
				t.Errorf("it says %q, want %q", got, test.want)
			}
		})
	}
}
