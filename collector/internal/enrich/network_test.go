package enrich

import (
	"strings"
	"testing"
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
		"10.0.0.0/8,a\n10.0.0.1/8,b\n":                "line 2: 10.0.0.1/8 has bits beyond its length: write 10.0.0.0/8",
		"\n#\noffice,10.0.0.0/8\n":                    `line 3: "office" is neither a network`,
		"10.0.0.0/8\n":                                "line 1: name: is missing",
		"10.0.0.0/8,a\n10.0.0.0/8,b\n":                "line 2: 10.0.0.0/8 stands in line 1 already",
		"10.0.0.0/8,a,b,c\n":                          "line 1: 4 fields: want prefix,name,tags",
		"10.0.0.0/8,\"a\n":                            "line 1: extraneous or missing \" in quoted-field",
		"10.0.0.0/8,a\x1bb\n":                         "line 1: name: must be printable",
		"10.0.0.0/8,a," + strings.Repeat("x", 65):     "line 1: tags: ",
		"10.0.0.0/8,a," + strings.Repeat("x ", 17):    "line 1: tags: are 17: at most 16",
		"::ffff:10.0.0.0/104,a\n":                     "line 1: \"::ffff:10.0.0.0/104\" is neither",
		"10.0.0.0/8,a\n::ffff:10.0.0.0,b\nfe80::1%a,": "line 3: \"fe80::1%a\" is neither",
	} {
		if _, err := readNetworks([]byte(text)); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q: the error is %v, want %s", text, err, want)
		}
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
