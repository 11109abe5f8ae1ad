package app

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ebbwatch/ebbwatch"
	"github.com/ebbwatch/ebbwatch/collector/internal/enrich"
	"github.com/ebbwatch/ebbwatch/collector/internal/mmdbtest"
	"github.com/ebbwatch/ebbwatch/internal/chtest"
)

// databases writes a database of countries and one of autonomous systems.
func databases(t *testing.T, dir, code string) {
	t.Helper()
	var countries, systems mmdbtest.Writer
	countries.Add(netip.MustParsePrefix("192.0.2.0/24"), mmdbtest.Country(code))
	countries.Add(netip.MustParsePrefix("2001:db8::/32"), mmdbtest.Country("FR"))
	systems.Add(netip.MustParsePrefix("192.0.2.128/25"), mmdbtest.ASN(64500, "Example "+code))
	for name, data := range map[string][]byte{"country.mmdb": countries.Bytes(), "asn.mmdb": systems.Bytes()} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path+".new", data, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
}

func prefixOf(text string) enrich.Prefix { return enrich.Prefix{Prefix: netip.MustParsePrefix(text)} }

// enriched runs a collector whose databases are missing, come, change and break
// while batches arrive, and repeats a block of the first state at the end.
func enriched(t *testing.T, ch *chtest.Server) {
	b := newBed(t, ch)
	dir := t.TempDir()
	b.cfg.Enrich.Interval = time.Second
	b.cfg.Enrich.MMDB = []string{filepath.Join(dir, "country.mmdb"), filepath.Join(dir, "asn.mmdb")}
	b.cfg.Enrich.Networks = []enrich.Network{{Prefix: prefixOf("10.0.0.0/8"), Name: "office", Tags: []string{"site=berlin"}}, {Prefix: prefixOf("10.0.0.2/32"), Tags: []string{"role=db"}}}
	b.cfg.Enrich.Agents = []enrich.Agent{{Agent: "web-1", Tags: []string{"role=web"}}}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b.cfg.Listen = listener.Addr().String()
	listener.Close()
	b.run()
	health := func() string {
		resp, err := http.Get("http://" + b.cfg.Listen + "/healthz")
		if err != nil {
			return err.Error()
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		return fmt.Sprint(resp.StatusCode, " ", string(body), err)
	}
	send := func(agent string, port uint16) {
		batch := b.envelope(agent)
		for _, dst := range []string{"192.0.2.200", "192.0.2.1", "2001:db8::1", "10.0.0.2", "203.0.113.1"} {
			flow := plainFlow()
			flow.Dst, flow.SrcPort = netip.MustParseAddr(dst), port
			batch.Append(&flow)
		}
		b.publish(ebbwatch.FlowSubject(agent), b.encode(batch), batch.MessageID())
	}
	want := func(port uint16, want ...string) {
		t.Helper()
		var got string
		eventually(t, 30*time.Second, "five rows", func() error {
			got = ch.Query(t, fmt.Sprintf("SELECT dst, src_network, src_tags, dst_country, dst_asn, dst_network, dst_tags, agent_tags FROM %s.flows WHERE src_port = %d ORDER BY dst", b.db, port))
			if n := len(strings.Split(got, "\n")); n < 5 {
				return fmt.Errorf("%d rows", n)
			}
			return nil
		})
		if got = strings.ReplaceAll(got, "\t", "|"); got != strings.Join(want, "\n") {
			t.Errorf("port %d: the rows are\n%s\nwant\n%s", port, got, strings.Join(want, "\n"))
		}
	}
	send("web-1", 1)
	want(1, "10.0.0.2|office|site=berlin||0|office|role=db site=berlin|role=web",
		"192.0.2.1|office|site=berlin||0|||role=web", "192.0.2.200|office|site=berlin||0|||role=web",
		"2001:db8::1|office|site=berlin||0|||role=web", "203.0.113.1|office|site=berlin||0|||role=web")
	if got := health(); !strings.HasPrefix(got, "200 ") || !strings.Contains(got, "country.mmdb: there is no such file") {
		t.Errorf("health is %s", got)
	}

	databases(t, dir, "DE")
	eventually(t, 10*time.Second, "the databases are taken over", func() error {
		if got := health(); !strings.Contains(got, `"enrichment":"ok"`) {
			return fmt.Errorf("health is %s", got)
		}
		return nil
	})
	send("db-1", 2)
	want(2, "10.0.0.2|office|site=berlin||0|office|role=db site=berlin|",
		"192.0.2.1|office|site=berlin|DE|0|||", "192.0.2.200|office|site=berlin|DE|64500|||",
		"2001:db8::1|office|site=berlin|FR|0|||", "203.0.113.1|office|site=berlin||0|||")

	databases(t, dir, "IT")
	if err := os.WriteFile(filepath.Join(dir, "asn.mmdb"), []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, 10*time.Second, "the damage is told", func() error {
		if got := health(); !strings.HasPrefix(got, "200 ") || !strings.Contains(got, "asn.mmdb: it is no MMDB file") {
			return fmt.Errorf("health is %s", got)
		}
		return nil
	})
	send("web-1", 3)
	want(3, "10.0.0.2|office|site=berlin||0|office|role=db site=berlin|role=web",
		"192.0.2.1|office|site=berlin|IT|0|||role=web", "192.0.2.200|office|site=berlin|IT|64500|||role=web",
		"2001:db8::1|office|site=berlin|FR|0|||role=web", "203.0.113.1|office|site=berlin||0|||role=web")
	if got := ch.Query(t, "SELECT asn, name FROM "+b.db+".as_names FINAL"); got != "64500\tExample DE" {
		t.Errorf("the names of systems are %q", got)
	}
	// Rows keep what was known when they were stored.
	want(2, "10.0.0.2|office|site=berlin||0|office|role=db site=berlin|",
		"192.0.2.1|office|site=berlin|DE|0|||", "192.0.2.200|office|site=berlin|DE|64500|||",
		"2001:db8::1|office|site=berlin|FR|0|||", "203.0.113.1|office|site=berlin||0|||")
}

// An import is enriched as batches are.
func importEnriched(s *store) {
	dir := s.TempDir()
	databases(s.T, dir, "DE")
	s.cfg.Enrich.MMDB = []string{filepath.Join(dir, "country.mmdb"), filepath.Join(dir, "missing.mmdb")}
	s.cfg.Enrich.Networks = []enrich.Network{{Prefix: prefixOf("10.0.0.0/8"), Name: "office"}}
	if sum := s.must("csv", s.lines(100)); sum.Rows != 100 {
		s.Errorf("summary is %+v", sum)
	}
	s.want("SELECT dst_country, src_country, src_network, dst_network, count() FROM DB.flows GROUP BY ALL", "DE\t\toffice\t\t100")
}
