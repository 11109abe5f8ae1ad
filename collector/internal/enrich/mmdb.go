package enrich

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/oschwald/maxminddb-golang/v2"
)

// Bounds of a database. The largest public ones have some five million networks
// and 60 MiB.
const (
	maxFile   = 512 << 20
	maxSpans  = 8 << 20
	maxName   = 128 // bytes of the name of an organisation
	loadLimit = time.Minute
)

// entry is what an MMDB says of a network, as far as it is used. The keys are
// those of GeoLite2 and DB-IP (country.iso_code, autonomous_system_number,
// autonomous_system_organization), of IPinfo (country_code, or country, with asn
// like "AS13335" and as_name) and of others that are made after them.
type entry struct {
	Country      any `maxminddb:"country"`
	CountryCode  any `maxminddb:"country_code"`
	Number       any `maxminddb:"autonomous_system_number"`
	Organisation any `maxminddb:"autonomous_system_organization"`
	ASN          any `maxminddb:"asn"`
	ASName       any `maxminddb:"as_name"`
}

// Prefixes under which a database shows IPv4 networks again.
var aliases = []netip.Prefix{
	netip.MustParsePrefix("::ffff:0:0/96"), netip.MustParsePrefix("2001::/32"), netip.MustParsePrefix("2002::/16"),
}

// readMMDB returns what a database says. The data may be anything; what is no
// database, or is not read when ctx ends, is an error.
func readMMDB(ctx context.Context, data []byte) (_ source, err error) {
	defer func() {
		if r := recover(); r != nil { // the file is a stranger's
			err = fmt.Errorf("it cannot be read: %v", r)
		}
	}()
	var none source
	records, organisations := newNumbers[Record](), make(map[uint32]string)
	db, err := maxminddb.OpenBytes(data, maxminddb.DisableStringCache())
	if err != nil {
		return none, fmt.Errorf("it is no MMDB file, or damaged: %w", err)
	}
	defer db.Close()
	var found spans
	known := make(map[uintptr]uint32) // many networks have one record
	steps := 0
	// Every path through the tree must come by here, also those that lead nowhere:
	// a hostile tree may have more of them than could be walked.
	for network := range db.Networks(maxminddb.IncludeNetworksWithoutData(), maxminddb.IncludeAliasedNetworks()) {
		if steps++; steps%1024 == 0 && ctx.Err() != nil {
			return none, fmt.Errorf("it takes too long to read (%w): it is damaged, or too large", ctx.Err())
		}
		if err := network.Err(); err != nil {
			return none, fmt.Errorf("it is damaged: %w", err)
		}
		if !network.Found() || isAlias(network.Prefix()) {
			continue
		}
		number, ok := known[network.Offset()]
		if !ok {
			var e entry
			if err := network.Decode(&e); err != nil {
				return none, fmt.Errorf("it is damaged at %s: %w", network.Prefix(), err)
			}
			r := Record{Country: e.country(), ASN: e.asn()}
			number = records.number(r)
			known[network.Offset()] = number
			if name := e.organisation(); name != "" && r.ASN != 0 && organisations[r.ASN] == "" {
				organisations[r.ASN] = name
			}
		}
		if number == 0 {
			continue
		}
		if found.len() == maxSpans {
			return none, fmt.Errorf("it has more than %d networks", maxSpans)
		}
		found.follow(network.Prefix(), number)
	}
	if found.len() == 0 {
		return none, errors.New("it tells neither a country (country.iso_code, country_code) nor an autonomous system (autonomous_system_number, asn) of any network: use a database of countries, cities or autonomous systems")
	}
	atlas := found.atlas(func(_, inner uint32) uint32 { return inner })
	return source{atlas: atlas, records: records.values, organisations: organisations}, nil
}

func isAlias(p netip.Prefix) bool {
	for _, a := range aliases {
		if a.Bits() <= p.Bits() && a.Contains(p.Addr()) {
			return true
		}
	}
	return false
}

// country returns the code of the country, "" if it is not two capital letters.
func (e *entry) country() string {
	code, _ := e.CountryCode.(string)
	switch c := e.Country.(type) {
	case map[string]any:
		code, _ = c["iso_code"].(string)
	case string:
		if code == "" {
			code = c
		}
	}
	if len(code) != 2 || code[0] < 'A' || code[0] > 'Z' || code[1] < 'A' || code[1] > 'Z' {
		return ""
	}
	return strings.Clone(code) // not a part of the file
}

// asn returns the number of the autonomous system, 0 if there is none.
func (e *entry) asn() uint32 {
	for _, v := range []any{e.Number, e.ASN} {
		switch n := v.(type) {
		case uint64:
			if uint64(uint32(n)) == n {
				return uint32(n)
			}
		case string:
			number, err := strconv.ParseUint(strings.TrimPrefix(n, "AS"), 10, 32)
			if err == nil {
				return uint32(number)
			}
		}
	}
	return 0
}

// organisation returns the name of the autonomous system, cut to maxName bytes
// and without what does not print.
func (e *entry) organisation() string {
	name, ok := e.Organisation.(string)
	if !ok {
		name, _ = e.ASName.(string)
	}
	name = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) || r == unicode.ReplacementChar {
			return -1
		}
		return r
	}, name)
	if len(name) > maxName {
		name = strings.ToValidUTF8(name[:maxName], "")
	}
	return strings.Clone(strings.TrimSpace(name))
}
