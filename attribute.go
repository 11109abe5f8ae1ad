package ebbwatch

import (
	"fmt"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
)

// Attribute is a column that most records leave at its default: health, owner,
// application hints, tunnel. Its values are at most 32 bits wide, or names.
type Attribute uint8

// The attributes, in the order of their field numbers.
const (
	AttrInterfaces Attribute = iota
	AttrNetNS
	AttrTunnel
	AttrTunnelID
	AttrSrcRetransmits
	AttrDstRetransmits
	AttrSrcZeroWindows
	AttrDstZeroWindows
	AttrSrcResets
	AttrDstResets
	AttrHandshakeUS
	AttrRTTUS
	AttrSrcDrops
	AttrDstDrops
	AttrDropReason
	AttrSrcPID
	AttrDstPID
	AttrSrcProcess
	AttrDstProcess
	AttrSrcUID
	AttrDstUID
	AttrSrcUnit
	AttrDstUnit
	AttrSrcContainer
	AttrDstContainer
	AttrSrcPod
	AttrDstPod
	AttrApp
	AttrServerName
	AttrDNSType
	AttrDNSRcode
	AttrDNSAnswers
	AttrAppLatencyUS
	AttrTLSALPN
	AttrTLSJA4
	AttrHTTPMethod
	AttrHTTPStatus
	AttrQUICVersion
	// Attributes is how many there are.
	Attributes
)

// firstAttribute is the field number of attribute 0 in batch.proto.
const firstAttribute = 38

// attribute says what an attribute is called and where it stands in a Flow:
// exactly one of number and text is set.
type attribute struct {
	name   string
	max    uint32 // the highest value allowed
	number func(*Flow) *uint32
	text   func(*Flow) *string
}

const (
	max16 = 1<<16 - 1
	max32 = 1<<32 - 1
)

// attributes lists every attribute. Adding one touches Flow, the constants
// above, this list, batch.proto and the store's columns.
var attributes = [Attributes]attribute{
	AttrInterfaces:     {name: "interfaces", text: func(f *Flow) *string { return &f.Interfaces }},
	AttrNetNS:          {name: "netns", text: func(f *Flow) *string { return &f.NetNS }},
	AttrTunnel:         {name: "tunnel", max: uint32(len(tunnelNames)) - 1, number: func(f *Flow) *uint32 { return (*uint32)(&f.Tunnel) }},
	AttrTunnelID:       {name: "tunnel_id", max: max32, number: func(f *Flow) *uint32 { return &f.TunnelID }},
	AttrSrcRetransmits: {name: "src_retransmits", max: max32, number: func(f *Flow) *uint32 { return &f.SrcHealth.Retransmits }},
	AttrDstRetransmits: {name: "dst_retransmits", max: max32, number: func(f *Flow) *uint32 { return &f.DstHealth.Retransmits }},
	AttrSrcZeroWindows: {name: "src_zero_windows", max: max32, number: func(f *Flow) *uint32 { return &f.SrcHealth.ZeroWindows }},
	AttrDstZeroWindows: {name: "dst_zero_windows", max: max32, number: func(f *Flow) *uint32 { return &f.DstHealth.ZeroWindows }},
	AttrSrcResets:      {name: "src_resets", max: max32, number: func(f *Flow) *uint32 { return &f.SrcHealth.Resets }},
	AttrDstResets:      {name: "dst_resets", max: max32, number: func(f *Flow) *uint32 { return &f.DstHealth.Resets }},
	AttrHandshakeUS:    {name: "handshake_us", max: max32, number: func(f *Flow) *uint32 { return &f.HandshakeUS }},
	AttrRTTUS:          {name: "rtt_us", max: max32, number: func(f *Flow) *uint32 { return &f.RTTUS }},
	AttrSrcDrops:       {name: "src_drops", max: max32, number: func(f *Flow) *uint32 { return &f.SrcHealth.Drops }},
	AttrDstDrops:       {name: "dst_drops", max: max32, number: func(f *Flow) *uint32 { return &f.DstHealth.Drops }},
	AttrDropReason:     {name: "drop_reason", text: func(f *Flow) *string { return &f.DropReason }},
	AttrSrcPID:         {name: "src_pid", max: max32, number: func(f *Flow) *uint32 { return &f.SrcOwner.PID }},
	AttrDstPID:         {name: "dst_pid", max: max32, number: func(f *Flow) *uint32 { return &f.DstOwner.PID }},
	AttrSrcProcess:     {name: "src_process", text: func(f *Flow) *string { return &f.SrcOwner.Process }},
	AttrDstProcess:     {name: "dst_process", text: func(f *Flow) *string { return &f.DstOwner.Process }},
	AttrSrcUID:         {name: "src_uid", max: max32, number: func(f *Flow) *uint32 { return &f.SrcOwner.UID }},
	AttrDstUID:         {name: "dst_uid", max: max32, number: func(f *Flow) *uint32 { return &f.DstOwner.UID }},
	AttrSrcUnit:        {name: "src_unit", text: func(f *Flow) *string { return &f.SrcOwner.Unit }},
	AttrDstUnit:        {name: "dst_unit", text: func(f *Flow) *string { return &f.DstOwner.Unit }},
	AttrSrcContainer:   {name: "src_container", text: func(f *Flow) *string { return &f.SrcOwner.Container }},
	AttrDstContainer:   {name: "dst_container", text: func(f *Flow) *string { return &f.DstOwner.Container }},
	AttrSrcPod:         {name: "src_pod", text: func(f *Flow) *string { return &f.SrcOwner.Pod }},
	AttrDstPod:         {name: "dst_pod", text: func(f *Flow) *string { return &f.DstOwner.Pod }},
	AttrApp:            {name: "app", max: uint32(len(appNames)) - 1, number: func(f *Flow) *uint32 { return (*uint32)(&f.Hint.App) }},
	AttrServerName:     {name: "server_name", text: func(f *Flow) *string { return &f.Hint.ServerName }},
	AttrDNSType:        {name: "dns_type", text: func(f *Flow) *string { return &f.Hint.DNSType }},
	AttrDNSRcode:       {name: "dns_rcode", text: func(f *Flow) *string { return &f.Hint.DNSRcode }},
	AttrDNSAnswers:     {name: "dns_answers", max: max16, number: func(f *Flow) *uint32 { return &f.Hint.DNSAnswers }},
	AttrAppLatencyUS:   {name: "app_latency_us", max: max32, number: func(f *Flow) *uint32 { return &f.Hint.LatencyUS }},
	AttrTLSALPN:        {name: "tls_alpn", text: func(f *Flow) *string { return &f.Hint.TLSALPN }},
	AttrTLSJA4:         {name: "tls_ja4", text: func(f *Flow) *string { return &f.Hint.TLSJA4 }},
	AttrHTTPMethod:     {name: "http_method", text: func(f *Flow) *string { return &f.Hint.HTTPMethod }},
	AttrHTTPStatus:     {name: "http_status", max: max16, number: func(f *Flow) *uint32 { return &f.Hint.HTTPStatus }},
	AttrQUICVersion:    {name: "quic_version", text: func(f *Flow) *string { return &f.Hint.QUICVersion }},
}

// Name returns the name of the attribute's SQL column.
func (a Attribute) Name() string { return attributes[a].name }

// Text reports whether the attribute's entries are names: 0 for none, else one
// more than an index into Batch.Strings.
func (a Attribute) Text() bool { return attributes[a].text != nil }

// appendAttributes adds f's attributes as those of record n.
func (b *Batch) appendAttributes(f *Flow, n int) {
	for i := range attributes {
		var v uint32
		if a := &attributes[i]; a.number != nil {
			v = *a.number(f)
		} else if s := *a.text(f); s != "" {
			v = 1 + b.str(s)
		}
		col := &b.Attributes[i]
		switch {
		case len(*col) > 0:
			*col = append(*col, v)
		case v != 0: // the first that is not the default: the column begins to exist
			*col = append(appendSame(*col, 0, n), v)
		}
	}
}

// setAttributes fills in what record n has. The columns are valid.
func (b *Batch) setAttributes(f *Flow, n int) {
	for i := range attributes {
		col := b.Attributes[i]
		if len(col) == 0 || col[n] == 0 {
			continue
		}
		if a := &attributes[i]; a.number != nil {
			*a.number(f) = col[n]
		} else {
			*a.text(f) = b.Strings[col[n]-1]
		}
	}
}

func (b *Batch) validateAttributes() error {
	for i, col := range b.Attributes {
		a := &attributes[i]
		if len(col) == 0 {
			continue
		}
		if len(col) != b.Len() {
			return fmt.Errorf("%w: column %s has %d entries, want %d", ErrInvalid, a.name, len(col), b.Len())
		}
		limit := a.max
		if a.text != nil {
			limit = uint32(len(b.Strings))
		}
		if v := slices.Max(col); v > limit {
			return fmt.Errorf("%w: column %s: %d is above %d", ErrInvalid, a.name, v, limit)
		}
	}
	return nil
}

func (b *Batch) encodeAttributes(dst []byte) []byte {
	for i, col := range b.Attributes {
		if !all(col, 0) {
			dst = appendMessage(dst, firstAttribute+protowire.Number(i), func(dst []byte) []byte { return appendPacked(dst, col) })
		}
	}
	return dst
}

func (b *Batch) decodeAttributes(packed [][]byte, flows int) (err error) {
	for i := range b.Attributes {
		data := packed[firstAttribute+i]
		if data == nil {
			continue
		}
		if b.Attributes[i], err = appendVarints(b.Attributes[i], data, flows); err != nil {
			return fmt.Errorf("column %s: %w", attributes[i].name, err)
		}
	}
	return nil
}
