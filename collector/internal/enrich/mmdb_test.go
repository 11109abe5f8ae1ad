package enrich

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/oschwald/maxminddb-golang/v2"

	"github.com/ebbwatch/ebbwatch/collector/internal/mmdbtest"
)

// of returns the table of sources.
func of(t testing.TB, files ...[]byte) *Table {
	t.Helper()
	records, organisations := newNumbers[Record](), make(map[uint32]string)
	whole := networkAtlas(nil, records)
	for _, data := range files {
		s, err := readMMDB(t.Context(), data)
		if err != nil {
			t.Fatal(err)
		}
		whole = whole.overlay(s.atlas, joiner(records, s.records))
		for asn, name := range s.organisations {
			organisations[asn] = name
		}
	}
	return newTable(whole, records.values, organisations, nil)
}

func TestTheLayoutsOfPublicDatabasesAreUnderstood(t *testing.T) {
	network := netip.MustParsePrefix("192.0.2.0/24")
	for name, test := range map[string]struct {
		record       mmdbtest.Map
		want         Record
		organisation string
	}{
		"GeoLite2 and DB-IP, country": {mmdbtest.Country("DE"), Record{Country: "DE"}, ""},
		"GeoLite2 and DB-IP, ASN":     {mmdbtest.ASN(64500, "Example"), Record{ASN: 64500}, "Example"},
		"GeoLite2 City": {mmdbtest.Map{
			{Key: "city", Value: mmdbtest.Map{{Key: "names", Value: mmdbtest.Map{{Key: "en", Value: "Berlin"}}}}},
			{Key: "country", Value: mmdbtest.Map{{Key: "names", Value: mmdbtest.Map{{Key: "en", Value: "Germany"}}}, {Key: "iso_code", Value: "DE"}}},
			{Key: "registered_country", Value: mmdbtest.Map{{Key: "iso_code", Value: "US"}}},
		}, Record{Country: "DE"}, ""},
		"IPinfo Lite": {mmdbtest.Map{
			{Key: "asn", Value: "AS64500"},
			{Key: "as_name", Value: "Example"},
			{Key: "country_code", Value: "DE"},
			{Key: "country", Value: "Germany"},
		}, Record{Country: "DE", ASN: 64500}, "Example"},
		"IPinfo before":              {mmdbtest.Map{{Key: "country", Value: "DE"}, {Key: "country_name", Value: "Germany"}, {Key: "asn", Value: "AS64500"}, {Key: "as_name", Value: "Example"}}, Record{Country: "DE", ASN: 64500}, "Example"},
		"a name that does not print": {mmdbtest.ASN(64500, "Exa\x1b[2Jmp\xffle\n"), Record{ASN: 64500}, "Exa[2Jmple"},
		"a name without end":         {mmdbtest.ASN(64500, strings.Repeat("ä", 100)), Record{ASN: 64500}, strings.Repeat("ä", 64)},
	} {
		t.Run(name, func(t *testing.T) {
			var w mmdbtest.Writer
			w.Add(network, test.record)
			table := of(t, w.Bytes())
			if got := table.Record(table.Lookup(netip.MustParseAddr("192.0.2.77"))); got != test.want {
				t.Errorf("the record is %+v, want %+v", got, test.want)
			}
			if got := table.Organisation(test.want.ASN); got != test.organisation {
				t.Errorf("the organisation is %q, want %q", got, test.organisation)
			}
			if got := table.Lookup(netip.MustParseAddr("192.0.3.0")); got != 0 {
				t.Errorf("the address after the network has record %d", got)
			}
		})
	}
}

// Two databases together say of each address what each says by the library's own lookup.
func TestTheTableSaysWhatTheDatabasesDo(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	var files [][]byte
	var databases []*maxminddb.Reader
	for kind := range 2 {
		var w mmdbtest.Writer
		var taken []netip.Prefix
		for len(taken) < 400 {
			p := randomPrefix(r)
			if p.Bits() < 8 || p.Addr().Is6() && p.Addr().Less(netip.MustParseAddr("1::")) || overlaps(taken, p) {
				continue
			}
			taken = append(taken, p)
			if kind == 0 {
				w.Add(p, mmdbtest.Country([]string{"DE", "FR", "US"}[r.IntN(3)]))
			} else {
				w.Add(p, mmdbtest.ASN(uint32(1+r.IntN(50)), "Example"))
			}
		}
		files = append(files, w.Bytes())
		db, err := maxminddb.OpenBytes(files[kind])
		if err != nil {
			t.Fatal(err)
		}
		if err := db.Verify(); err != nil {
			t.Fatal(err)
		}
		databases = append(databases, db)
	}
	table := of(t, files...)
	found := 0
	for range 20_000 {
		a := randomAddress(r)
		if a.Is6() && a.Less(netip.MustParseAddr("1::")) {
			continue
		}
		var want Record
		if err := databases[0].Lookup(a).DecodePath(&want.Country, "country", "iso_code"); err != nil {
			t.Fatal(err)
		}
		if err := databases[1].Lookup(a).DecodePath(&want.ASN, "autonomous_system_number"); err != nil {
			t.Fatal(err)
		}
		if want != (Record{}) {
			found++
		}
		if got := table.Record(table.Lookup(a)); got != want {
			t.Fatalf("%s is %+v, want %+v", a, got, want)
		}
	}
	if found < 1000 {
		t.Errorf("only %d addresses have a record: the test shows little", found)
	}
}

func overlaps(all []netip.Prefix, p netip.Prefix) bool {
	for _, q := range all {
		if q.Overlaps(p) {
			return true
		}
	}
	return false
}

func sample() []byte {
	var w mmdbtest.Writer
	w.Add(netip.MustParsePrefix("192.0.2.0/24"), mmdbtest.Country("DE"))
	w.Add(netip.MustParsePrefix("2001:db8::/32"), mmdbtest.ASN(64500, "Example"))
	return w.Bytes()
}

// bomb is a database whose tree has 2^100 paths in 3 kB: each node leads to the
// next one by both sides.
func bomb() []byte {
	data := sample()
	marker := strings.LastIndex(string(data), "\xab\xcd\xefMaxMind.com")
	const nodes = 100
	var out []byte
	for i := range uint32(nodes) {
		next := i + 1 // the last one leads nowhere
		out = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(out, next), next)
	}
	out = append(out, make([]byte, 16)...)
	metadata := data[marker:]
	at := strings.Index(string(metadata), "node_count") + len("node_count") + 1
	metadata = append([]byte(nil), metadata...)
	binary.BigEndian.PutUint32(metadata[at:], nodes)
	return append(out, metadata...)
}

func TestAHostileDatabaseIsRefusedAndSoon(t *testing.T) {
	var useless mmdbtest.Writer
	useless.Add(netip.MustParsePrefix("192.0.2.0/24"), mmdbtest.Map{{Key: "city", Value: "Berlin"}})
	for name, data := range map[string][]byte{
		"nothing":                   nil,
		"no database":               []byte("<html>You need a licence key</html>"),
		"half a database":           sample()[:len(sample())/2],
		"without its beginning":     sample()[100:],
		"2^100 paths":               bomb(),
		"no country, no AS":         useless.Bytes(),
		"a database of no networks": new(mmdbtest.Writer).Bytes(),
	} {
		t.Run(name, func(t *testing.T) {
			started := time.Now()
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()
			if _, err := readMMDB(ctx, data); err == nil {
				t.Error("it is taken")
			} else {
				t.Log(err)
			}
			if took := time.Since(started); took > 3*time.Second {
				t.Errorf("it takes %s to see that", took)
			}
		})
	}
}

// Whatever a file holds, reading it ends, and what is read can be looked up.
func FuzzReadMMDB(f *testing.F) {
	f.Add(sample())
	f.Add(sample()[:200])
	f.Add(bomb())
	r := rand.New(rand.NewPCG(1, 1))
	for range 20 {
		data := sample()
		data[r.IntN(len(data))] ^= 1 << r.IntN(8)
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		s, err := readMMDB(ctx, data)
		if err != nil {
			return
		}
		table := newTable(s.atlas, s.records, s.organisations, nil)
		for range 100 {
			a := randomAddress(r)
			got := table.Record(table.Lookup(a))
			if c := got.Country; c != "" && (len(c) != 2 || c[0] < 'A' || c[1] > 'Z') {
				t.Fatalf("%s is in country %q", a, c)
			}
			if name := table.Organisation(got.ASN); len(name) > maxName {
				t.Fatalf("a name of %d bytes", len(name))
			}
		}
	})
}
