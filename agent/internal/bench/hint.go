package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/ebbwatch/ebbwatch/agent/internal/l7"
)

// measureHints reads recorded beginnings of conversations, in folder.
func measureHints(folder string) ([]figure, error) {
	const rounds, each = 21, 500
	question := []byte("\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03www\x07example\x03com\x00\x00\x01\x00\x01")
	var figures []figure
	for _, kind := range []struct {
		name  string
		proto uint8
		port  uint16
		files []string
	}{
		{"hint_dns_ns", 17, 53, nil},
		{"hint_tls_ns", 6, 443, []string{"hello/chromium.bin"}},
		{"hint_http_ns", 6, 80, []string{"http/curl.bin"}},
		{"hint_quic_ns", 17, 443, []string{"quic/chromium-1.bin", "quic/chromium-2.bin"}},
	} {
		b := l7.Beginning{Proto: kind.proto, DstPort: kind.port, Payload: question}
		var payloads [][]byte
		for _, name := range kind.files {
			data, err := os.ReadFile(filepath.Join(folder, name))
			if err != nil {
				return nil, fmt.Errorf("read recorded beginning: %w", err)
			}
			payloads = append(payloads, data)
		}
		if payloads != nil {
			b.Payload = slices.Concat(payloads...)
		}
		var p l7.Parser
		if h := p.Parse(&b); h.ServerName == "" {
			return nil, fmt.Errorf("%s: the beginning is not understood: %s", kind.name, h.Flaw)
		}
		var costs []float64
		for range rounds {
			begin := time.Now()
			for range each {
				p.Parse(&b)
			}
			costs = append(costs, float64(time.Since(begin).Nanoseconds())/each)
		}
		figures = append(figures, figure{kind.name, median(costs), "ns"})
	}
	return figures, nil
}
