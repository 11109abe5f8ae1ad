package enrich

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
)

// Bounds of a file of networks, and of what its networks say together of one
// address: prefixes may lie in each other 128 times.
const (
	maxNetworks    = 1 << 20
	maxLine        = 4 << 10 // bytes
	maxAddressTags = 64
)

// readNetworks returns the networks of a file: lines of prefix, name and tags,
// separated by commas, the tags among each other by spaces. The name or the tags
// may be missing. Empty lines and those that begin with # are passed over.
func readNetworks(data []byte) ([]Network, error) {
	if len(data) == 0 {
		return nil, errors.New("it is empty: perhaps it is being written. If it shall name no network, write a line that begins with #")
	}
	var networks []Network
	at := make(map[netip.Prefix]int)
	buffer := bufio.NewReader(nil)
	number := 0
	for line := range bytes.Lines(bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))) {
		number++
		if len(line) > maxLine {
			return nil, fmt.Errorf("line %d: %d bytes, more than %d", number, len(line), maxLine)
		}
		// A reader for each line: one for all would take memory for a quoted field
		// that goes on to the end of the file.
		buffer.Reset(bytes.NewReader(line))
		fields := csv.NewReader(buffer)
		fields.Comment, fields.FieldsPerRecord, fields.TrimLeadingSpace = '#', -1, true
		values, err := fields.Read()
		var bad *csv.ParseError
		switch {
		case errors.Is(err, io.EOF):
			continue
		case errors.As(err, &bad):
			return nil, fmt.Errorf("line %d: %w", number, bad.Err)
		case err != nil:
			return nil, fmt.Errorf("read it: %w", err)
		}
		n, err := network(values)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", number, err)
		}
		if first, ok := at[n.Prefix.Prefix]; ok {
			return nil, fmt.Errorf("line %d: %s stands in line %d already", number, n.Prefix, first)
		}
		if len(networks) == maxNetworks {
			return nil, fmt.Errorf("line %d: more than %d networks", number, maxNetworks)
		}
		at[n.Prefix.Prefix] = number
		networks = append(networks, n)
	}
	return networks, nil
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
	type pair struct{ outer, inner string }
	both := make(map[pair]string) // many networks lie in one, and share its tags
	return s.atlas(func(outer, inner uint32) uint32 {
		o, r := records.values[outer], records.values[inner]
		if r.Network == "" {
			r.Network = o.Network
		}
		tags, ok := both[pair{o.Tags, r.Tags}]
		if !ok {
			tags = withTagsOf(o.Tags, r.Tags)
			both[pair{o.Tags, r.Tags}] = tags
		}
		r.Tags = tags
		return records.number(r)
	})
}

// withTagsOf returns the tags of a prefix and of those around it, at most
// maxAddressTags: its own come first.
func withTagsOf(outer, inner string) string {
	tags := strings.Fields(inner)
	for _, tag := range strings.Fields(outer) {
		if len(tags) < maxAddressTags && !slices.Contains(tags, tag) {
			tags = append(tags, tag)
		}
	}
	return joined(tags)
}
