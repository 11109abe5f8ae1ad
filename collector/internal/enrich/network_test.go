package enrich

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"unsafe"
)

func TestAFileOfNetworks(t *testing.T) {
	networks, err := readNetworks([]byte("\ufeff# prefix,name,tags\n\n10.0.0.0/8, office, site=berlin  floor=2\r\n10.0.0.7,,role=db\n\"2001:db8::/32\",\"a, b\"\n"))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, n := range networks {
		got = append(got, n.Prefix.String()+"|"+n.Name+"|"+joined(n.Tags))
	}
	if want := "10.0.0.0/8|office|floor=2 site=berlin\n10.0.0.7/32||role=db\n2001:db8::/32|a, b|"; strings.Join(got, "\n") != want {
		t.Errorf("the networks are\n%s\nwant\n%s", strings.Join(got, "\n"), want)
	}
}

func TestAWrongLineIsNamed(t *testing.T) {
	for text, want := range map[string]string{
		"10.0.0.0/8,a\n10.0.0.1/8,b\n": "line 2: 10.0.0.1/8 has bits beyond its length: write 10.0.0.0/8",
		"\n#\noffice,10.0.0.0/8\n":     `line 3: "office" is neither a network`,
		"10.0.0.0/8\n":                 "line 1: name: is missing",
		"10.0.0.0/8,a\n10.0.0.0/8,b\n": "line 2: 10.0.0.0/8 stands in line 1 already",
		"10.0.0.0/8,a,b,c\n":           "line 1: 4 fields: want prefix,name,tags",
		"":                             "it is empty",
		"10.0.0.0/8,a\n10.0.0.0/9," + strings.Repeat("x", 4096): "line 2: 4107 bytes, more than 4096",
		"\n10.0.0.0/8,\"a\nb\"\n":                               "line 2: extraneous or missing \" in quoted-field",
		"10.0.0.0/8,\"a\n":                                      "line 1: extraneous or missing \" in quoted-field",
		"10.0.0.0/8,a\x1bb\n":                                   "line 1: name: must be printable",
		"10.0.0.0/8,a," + strings.Repeat("x", 65):               "line 1: tags: ",
		"10.0.0.0/8,a," + strings.Repeat("x ", 17):              "line 1: tags: are 17: at most 16",
		"::ffff:10.0.0.0/104,a\n":                               "line 1: \"::ffff:10.0.0.0/104\" is neither",
		"10.0.0.0/8,a\n::ffff:10.0.0.0,b\nfe80::1%a,":           "line 3: \"fe80::1%a\" is neither",
	} {
		if _, err := readNetworks([]byte(text)); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q: the error is %v, want %s", text, err, want)
		}
	}
}

// Prefixes that lie in each other a hundred times must not give each of many hosts
// a string of its own with the tags of all: half a megabyte of file took 2.4 GiB.
func TestTagsOfNestedNetworksAreBounded(t *testing.T) {
	var text strings.Builder
	base := netip.MustParseAddr("2001:db8::")
	for bits := 1; bits <= 100; bits++ {
		fmt.Fprintf(&text, "%s,,", netip.PrefixFrom(base, bits).Masked())
		for k := range maxTags {
			fmt.Fprintf(&text, " t%03dx%02d%s", bits, k, strings.Repeat("y", 50))
		}
		text.WriteString("\n")
	}
	const hosts = 2000
	for k, host := 0, base; k < hosts; k, host = k+1, host.Next() {
		fmt.Fprintf(&text, "%s,h%d,own=%d\n", host, k, k%10)
	}
	networks, err := readNetworks([]byte(text.String()))
	if err != nil {
		t.Fatal(err)
	}
	records := newNumbers[Record]()
	table := newTable(networkAtlas(networks, records), records.values, nil, nil)
	kept := make(map[*byte]int)
	for _, r := range records.values {
		kept[unsafe.StringData(r.Tags)] = len(r.Tags)
	}
	size := 0
	for _, n := range kept {
		size += n
	}
	if size > 2<<20 {
		t.Errorf("the tags take %d bytes", size)
	}
	tags := strings.Fields(table.Record(table.Lookup(base)).Tags)
	if len(tags) != maxAddressTags || tags[0] != "own=0" || !strings.HasPrefix(tags[1], "t") {
		t.Errorf("%d tags, from %.3q on, want %d with that of the host", len(tags), tags, maxAddressTags)
	}
}

func FuzzReadNetworks(f *testing.F) {
	f.Add([]byte("10.0.0.0/8,office,site=berlin role=db\n10.0.0.7,,role=db\n"))
	f.Add([]byte("::/0,\"a\"\"b\",\n0.0.0.0/0,x\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		networks, err := readNetworks(data)
		if err != nil {
			return
		}
		records := newNumbers[Record]()
		table := newTable(networkAtlas(networks, records), records.values, nil, nil)
		for _, n := range networks {
			if got := table.Record(table.Lookup(n.Prefix.Addr())); got == (Record{}) {
				t.Fatalf("%s is in no network", n.Prefix.Addr())
			}
		}
	})
}
