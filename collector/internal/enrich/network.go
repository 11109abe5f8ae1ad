package enrich

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
)

// maxNetworks bounds a file of networks.
const maxNetworks = 1 << 20

// readNetworks returns the networks of a file: lines of prefix, name and tags,
// separated by commas, the tags among each other by spaces. The name or the tags
// may be missing. Empty lines and those that begin with # are passed over.
func readNetworks(data []byte) ([]Network, error) {
	lines := csv.NewReader(bufio.NewReader(bytes.NewReader(bytes.TrimPrefix(data, []byte("\xef\xbb\xbf")))))
	lines.Comment, lines.FieldsPerRecord, lines.TrimLeadingSpace, lines.ReuseRecord = '#', -1, true, true
	var networks []Network
	at := make(map[netip.Prefix]int)
	for {
		fields, err := lines.Read()
		if errors.Is(err, io.EOF) {
			return networks, nil
		}
		var bad *csv.ParseError
		if errors.As(err, &bad) {
			return nil, fmt.Errorf("line %d: %w", bad.Line, bad.Err)
		}
		if err != nil {
			return nil, fmt.Errorf("read it: %w", err)
		}
		line, _ := lines.FieldPos(0)
		n, err := network(fields)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", line, err)
		}
		if first, ok := at[n.Prefix.Prefix]; ok {
			return nil, fmt.Errorf("line %d: %s stands in line %d already", line, n.Prefix, first)
		}
		if len(networks) == maxNetworks {
			return nil, fmt.Errorf("line %d: more than %d networks", line, maxNetworks)
		}
		at[n.Prefix.Prefix] = line
		networks = append(networks, n)
	}
}

func network(fields []string) (Network, error) {
	if len(fields) > 3 {
		return Network{}, fmt.Errorf("%d fields: want prefix,name,tags, the tags separated by spaces", len(fields))
	}
	fields = append(fields, "", "", "")
	n := Network{Name: strings.Clone(strings.TrimSpace(fields[1])), Tags: strings.Fields(fields[2])}
	if err := n.Prefix.UnmarshalText([]byte(strings.TrimSpace(fields[0]))); err != nil {
		return n, err
	}
	if key, err := n.check(); err != nil {
		return n, fmt.Errorf("%s: %w", key, err)
	}
	return n, nil
}

// networkAtlas returns what networks say of addresses, as numbers of records.
// Where two are of one prefix, the name of the later one counts.
func networkAtlas(networks []Network, records *numbers[Record]) atlas {
	var s spans
	for _, n := range networks {
		s.add(n.Prefix.Prefix, records.number(Record{Network: n.Name, Tags: joined(n.Tags)}))
	}
	return s.atlas(func(outer, inner uint32) uint32 {
		o, r := records.values[outer], records.values[inner]
		if r.Network == "" {
			r.Network = o.Network
		}
		r.Tags = joined(append(strings.Fields(o.Tags), strings.Fields(r.Tags)...))
		return records.number(r)
	})
}
