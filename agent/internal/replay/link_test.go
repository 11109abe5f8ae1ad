package replay

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
)

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestFramesOfEveryLinkTypeGetAnEthernetHeader(t *testing.T) {
	for name, test := range map[string]struct {
		link  uint16
		frame string
		want  string // ethertype and payload
	}{
		"raw IPv4":                             {101, "4500 0014", "0800 4500 0014"},
		"raw IPv6":                             {101, "6000 0000", "86dd 6000 0000"},
		"raw something":                        {101, "1000 0000", "ffff 1000 0000"},
		"raw nothing":                          {101, "", "ffff"},
		"raw IP as BSD writes it":              {12, "4500", "0800 4500"},
		"raw IP as OpenBSD writes it":          {14, "6000", "86dd 6000"},
		"IPv4 by its own link type":            {228, "4500", "0800 4500"},
		"IPv6 by its own link type":            {229, "6000", "86dd 6000"},
		"loopback of a little-endian host":     {0, "02000000 4500", "0800 4500"},
		"loopback of a big-endian host":        {0, "0000001e 6000", "86dd 6000"},
		"loopback of Linux, IPv6":              {0, "0a000000 6000", "86dd 6000"},
		"loopback of OpenBSD":                  {108, "00000018 6000", "86dd 6000"},
		"loopback, another family":             {108, "00000007 6000", "ffff 6000"},
		"loopback, cut":                        {0, "0200", "ffff"},
		"Linux cooked":                         {113, "0000 0001 0006 0102030405060000 0800 4500", "0800 4500"},
		"Linux cooked with a VLAN tag":         {113, "0000 0001 0006 0102030405060000 8100 0064 0800 4500", "8100 0064 0800 4500"},
		"Linux cooked, 802.2":                  {113, "0000 0001 0006 0102030405060000 0004 4242", "ffff 4242"},
		"Linux cooked, cut":                    {113, "0000 0001 0006 0102030405060000 08", "ffff"},
		"Linux cooked, version 2":              {276, "86dd 0000 00000003 0001 00 06 0102030405060000 6000", "86dd 6000"},
		"Cisco HDLC":                           {104, "0f00 0800 4500", "0800 4500"},
		"PPP":                                  {9, "0021 4500", "0800 4500"},
		"PPP in HDLC-like framing":             {9, "ff03 0057 6000", "86dd 6000"},
		"PPP with a compressed protocol":       {50, "ff03 21 4500", "0800 4500"},
		"PPP, LCP":                             {9, "c021 0101", "ffff 0101"},
		"PPP, cut":                             {9, "ff03 00", "ffff"},
		"PPP of a serial line that is HDLC":    {50, "0f00 86dd 6000", "86dd 6000"},
		"PPP with a direction":                 {204, "01 ff03 0021 4500", "0800 4500"},
		"PPPoE session":                        {51, "1100 0001 0003 0021 4500", "0800 4500"},
		"PPPoE session, cut":                   {51, "1100", "ffff"},
		"802.11 from the distribution system":  {105, "0802 0000 010203040506 010203040506 010203040506 0000 aaaa03000000 0800 4500", "0800 4500"},
		"802.11 between stations":              {105, "0800 0000 010203040506 010203040506 010203040506 1000 aaaa03000000 86dd 6000", "86dd 6000"},
		"802.11 with four addresses":           {105, "0803 0000 010203040506 010203040506 010203040506 0000 010203040506 aaaa03000000 0800 4500", "0800 4500"},
		"802.11 with quality of service":       {105, "8801 0000 010203040506 010203040506 010203040506 0000 0000 aaaa03000000 0800 4500", "0800 4500"},
		"802.11 with HT control":               {105, "8881 0000 010203040506 010203040506 010203040506 0000 0000 01020304 aaaa03000000 0800 4500", "0800 4500"},
		"802.11, encrypted":                    {105, "0841 0000 010203040506 010203040506 010203040506 0000 aaaa03000000 0800 4500", "ffff"},
		"802.11, a later fragment":             {105, "0801 0000 010203040506 010203040506 010203040506 0100 aaaa03000000 0800 4500", "ffff"},
		"802.11, several in one":               {105, "8801 0000 010203040506 010203040506 010203040506 0000 8000 aaaa03000000 0800 4500", "ffff"},
		"802.11 without data":                  {105, "4801 0000 010203040506 010203040506 010203040506 0000", "ffff"},
		"802.11, a beacon":                     {105, "8000 0000 010203040506 010203040506 010203040506 0000 aaaa03000000 0800 4500", "ffff"},
		"802.11 with another link control":     {105, "0801 0000 010203040506 010203040506 010203040506 0000 424203000000 0800 4500", "ffff"},
		"802.11, cut":                          {105, "0801 0000", "ffff"},
		"802.11 cut before its control":        {105, "8801 0000 010203040506 010203040506 010203040506 0000 00", "ffff"},
		"radiotap":                             {127, "0000 0800 00000000 0801 0000 010203040506 010203040506 010203040506 0000 aaaa03000000 0800 4500", "0800 4500"},
		"radiotap with more words":             {127, "0000 1000 00000080 00000000 00000000 0801 0000 010203040506 010203040506 010203040506 0000 aaaa03000000 0800 4500", "0800 4500"},
		"radiotap that says padded":            {127, "0000 0900 02000000 20 0801 0000 010203040506 010203040506 010203040506 0000 aaaa03000000 0800 4500", "ffff"},
		"radiotap behind a time, not padded":   {127, "0000 1100 03000000 0102030405060708 00 0801 0000 010203040506 010203040506 010203040506 0000 aaaa03000000 0800 4500", "0800 4500"},
		"radiotap longer than the frame":       {127, "0000 ff00 00000000", "ffff"},
		"radiotap without end of its words":    {127, "0000 0c00 00000080 00000080", "ffff"},
		"radiotap, cut":                        {127, "0000 08", "ffff"},
		"NFLOG":                                {239, "0200 0000 0800 0100 08000000 0600 0900 4500", "0800 4500"},
		"NFLOG of a big-endian host":           {239, "0a00 0000 0008 0001 86dd0000 0006 0009 6000", "86dd 6000"},
		"NFLOG without a packet":               {239, "0200 0000 0800 0100 08000000", "ffff"},
		"NFLOG whose length lies":              {239, "0200 0000 0000 0900 4500", "ffff"},
		"NFLOG, cut":                           {239, "0200", "ffff"},
		"PPP whose protocol byte stands alone": {9, "21", "ffff"},
	} {
		t.Run(name, func(t *testing.T) {
			var f framer
			got, err := f.ethernet(test.link, unhex(t, test.frame))
			if err != nil {
				t.Fatal(err)
			}
			want := append(make([]byte, 12), unhex(t, test.want)...)
			if !bytes.Equal(got, want) {
				t.Errorf("frame % x, want % x", got, want)
			}
		})
	}
}

func TestLongFramesAreCutToWhatATestRunTakes(t *testing.T) {
	var f framer
	for _, link := range []uint16{linkEthernet, linkRaw} {
		got, err := f.ethernet(link, bytes.Repeat([]byte{0x45}, 1<<18))
		if err != nil || len(got) != maxFrame {
			t.Errorf("link type %d: %d bytes and error %v, want %d", link, len(got), err, maxFrame)
		}
	}
}

func TestAnUnknownLinkTypeIsNamed(t *testing.T) {
	var f framer
	_, err := f.ethernet(147, make([]byte, 60))
	if unknown := (*linkError)(nil); !errors.As(err, &unknown) || !strings.Contains(err.Error(), "link type 147") {
		t.Errorf("error %v, want one about link type 147", err)
	}
}

func FuzzEthernet(f *testing.F) {
	for _, link := range []uint16{0, 1, 9, 12, 50, 51, 101, 104, 108, 113, 204, 228, 276} {
		f.Add(link, []byte{0xff, 3, 0, 0x21, 0x45, 0, 0, 0})
	}
	f.Fuzz(func(t *testing.T, link uint16, data []byte) {
		var fr framer
		got, err := fr.ethernet(link, data)
		if err == nil && link != linkEthernet && (len(got) < etherHeaderSize || len(got) > etherHeaderSize+len(data)) {
			t.Errorf("%d bytes became %d", len(data), len(got))
		}
	})
}
