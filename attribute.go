package ebbwatch

import (
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
)

// Group is a set of attributes that come together: many records of a batch have
// the same ones, or none at all. A batch holds each combination once.
type Group uint8

// The groups.
const (
	GroupKind     Group = iota // protocol and course of the conversation
	GroupPath                  // where the packets passed
	GroupHealth                // what both sides suffered
	GroupSrcOwner              // who is behind the initiator
	GroupDstOwner              // who is behind the responder
	GroupName                  // what application and which name the payload told
	GroupDNS                   // what else it told, by application
	GroupTLS
	GroupHTTP
	// Groups is how many there are.
	Groups
)

// Attribute is a column of which a batch holds one entry for each combination in
// its group. Its values are at most 32 bits wide, or names.
type Attribute uint8

// The attributes, in the order of their field numbers, those of a group together.
const (
	AttrProto Attribute = iota
	AttrInitiator
	AttrSrcFlags
	AttrDstFlags
	AttrConnState
	AttrICMPType
	AttrICMPCode
	AttrFinal
	AttrSampling
	AttrInterface
	AttrInterfaces
	AttrNetNS
	AttrVLAN
	AttrTunnel
	AttrTunnelID
	AttrSrcRetransmits
	AttrDstRetransmits
	AttrSrcZeroWindows
	AttrDstZeroWindows
	AttrSrcResets
	AttrDstResets
	AttrSrcDrops
	AttrDstDrops
	AttrDropReason
	AttrSrcPID
	AttrSrcUID
	AttrSrcProcess
	AttrSrcUnit
	AttrSrcContainer
	AttrSrcPod
	AttrDstPID
	AttrDstUID
	AttrDstProcess
	AttrDstUnit
	AttrDstContainer
	AttrDstPod
	AttrApp
	AttrServerName
	AttrDNSType
	AttrDNSRcode
	AttrDNSAnswers
	AttrTLSALPN
	AttrTLSJA4
	AttrQUICVersion
	AttrHTTPMethod
	AttrHTTPStatus
	// Attributes is how many there are.
	Attributes
)

// Field numbers of group 0 and of attribute 0 in batch.proto.
const (
	firstGroup     = 33
	firstAttribute = 48
)

// groupSize is the number of attributes of the largest group.
const groupSize = 9

// attribute says what an attribute is called, where it belongs and where it
// stands in a Flow: either get and set, or text.
type attribute struct {
	name  string
	group Group
	max   uint32 // the highest value allowed
	get   func(*Flow) uint32
	set   func(*Flow, uint32)
	text  func(*Flow) *string
}

const (
	max8  = 1<<8 - 1
	max16 = 1<<16 - 1
	max32 = 1<<32 - 1
)

// attributes lists every attribute. Adding one touches Flow, the constants
// above, this list, batch.proto and the store's columns. An entry of sampling is
// one less than the rate, so that 0 is its default too.
var attributes = [Attributes]attribute{
	AttrProto:          {name: "proto", group: GroupKind, max: max8, get: func(f *Flow) uint32 { return uint32(f.Proto) }, set: func(f *Flow, v uint32) { f.Proto = uint8(v) }},
	AttrInitiator:      {name: "initiator", group: GroupKind, max: uint32(len(initiatorNames)) - 1, get: func(f *Flow) uint32 { return uint32(f.Initiator) }, set: func(f *Flow, v uint32) { f.Initiator = Initiator(v) }},
	AttrSrcFlags:       {name: "src_flags", group: GroupKind, max: max16, get: func(f *Flow) uint32 { return uint32(f.SrcFlags) }, set: func(f *Flow, v uint32) { f.SrcFlags = TCPFlags(v) }},
	AttrDstFlags:       {name: "dst_flags", group: GroupKind, max: max16, get: func(f *Flow) uint32 { return uint32(f.DstFlags) }, set: func(f *Flow, v uint32) { f.DstFlags = TCPFlags(v) }},
	AttrConnState:      {name: "conn_state", group: GroupKind, max: uint32(len(connStateNames)) - 1, get: func(f *Flow) uint32 { return uint32(f.ConnState) }, set: func(f *Flow, v uint32) { f.ConnState = ConnState(v) }},
	AttrICMPType:       {name: "icmp_type", group: GroupKind, max: max8, get: func(f *Flow) uint32 { return uint32(f.ICMPType) }, set: func(f *Flow, v uint32) { f.ICMPType = uint8(v) }},
	AttrICMPCode:       {name: "icmp_code", group: GroupKind, max: max8, get: func(f *Flow) uint32 { return uint32(f.ICMPCode) }, set: func(f *Flow, v uint32) { f.ICMPCode = uint8(v) }},
	AttrFinal:          {name: "final", group: GroupKind, max: 1, get: func(f *Flow) uint32 { return uint32(boolByte(f.Final)) }, set: func(f *Flow, v uint32) { f.Final = v != 0 }},
	AttrSampling:       {name: "sampling", group: GroupKind, max: max32 - 1, get: func(f *Flow) uint32 { return f.Sampling - 1 }, set: func(f *Flow, v uint32) { f.Sampling = v + 1 }},
	AttrInterface:      {name: "interface", group: GroupPath, text: func(f *Flow) *string { return &f.Interface }},
	AttrInterfaces:     {name: "interfaces", group: GroupPath, text: func(f *Flow) *string { return &f.Interfaces }},
	AttrNetNS:          {name: "netns", group: GroupPath, text: func(f *Flow) *string { return &f.NetNS }},
	AttrVLAN:           {name: "vlan", group: GroupPath, max: max16, get: func(f *Flow) uint32 { return uint32(f.VLAN) }, set: func(f *Flow, v uint32) { f.VLAN = uint16(v) }},
	AttrTunnel:         {name: "tunnel", group: GroupPath, max: uint32(len(tunnelNames)) - 1, get: func(f *Flow) uint32 { return uint32(f.Tunnel) }, set: func(f *Flow, v uint32) { f.Tunnel = Tunnel(v) }},
	AttrTunnelID:       {name: "tunnel_id", group: GroupPath, max: max32, get: func(f *Flow) uint32 { return f.TunnelID }, set: func(f *Flow, v uint32) { f.TunnelID = v }},
	AttrSrcRetransmits: {name: "src_retransmits", group: GroupHealth, max: max32, get: func(f *Flow) uint32 { return f.SrcHealth.Retransmits }, set: func(f *Flow, v uint32) { f.SrcHealth.Retransmits = v }},
	AttrDstRetransmits: {name: "dst_retransmits", group: GroupHealth, max: max32, get: func(f *Flow) uint32 { return f.DstHealth.Retransmits }, set: func(f *Flow, v uint32) { f.DstHealth.Retransmits = v }},
	AttrSrcZeroWindows: {name: "src_zero_windows", group: GroupHealth, max: max32, get: func(f *Flow) uint32 { return f.SrcHealth.ZeroWindows }, set: func(f *Flow, v uint32) { f.SrcHealth.ZeroWindows = v }},
	AttrDstZeroWindows: {name: "dst_zero_windows", group: GroupHealth, max: max32, get: func(f *Flow) uint32 { return f.DstHealth.ZeroWindows }, set: func(f *Flow, v uint32) { f.DstHealth.ZeroWindows = v }},
	AttrSrcResets:      {name: "src_resets", group: GroupHealth, max: max32, get: func(f *Flow) uint32 { return f.SrcHealth.Resets }, set: func(f *Flow, v uint32) { f.SrcHealth.Resets = v }},
	AttrDstResets:      {name: "dst_resets", group: GroupHealth, max: max32, get: func(f *Flow) uint32 { return f.DstHealth.Resets }, set: func(f *Flow, v uint32) { f.DstHealth.Resets = v }},
	AttrSrcDrops:       {name: "src_drops", group: GroupHealth, max: max32, get: func(f *Flow) uint32 { return f.SrcHealth.Drops }, set: func(f *Flow, v uint32) { f.SrcHealth.Drops = v }},
	AttrDstDrops:       {name: "dst_drops", group: GroupHealth, max: max32, get: func(f *Flow) uint32 { return f.DstHealth.Drops }, set: func(f *Flow, v uint32) { f.DstHealth.Drops = v }},
	AttrDropReason:     {name: "drop_reason", group: GroupHealth, text: func(f *Flow) *string { return &f.DropReason }},
	AttrSrcPID:         {name: "src_pid", group: GroupSrcOwner, max: max32, get: func(f *Flow) uint32 { return f.SrcOwner.PID }, set: func(f *Flow, v uint32) { f.SrcOwner.PID = v }},
	AttrSrcUID:         {name: "src_uid", group: GroupSrcOwner, max: max32, get: func(f *Flow) uint32 { return f.SrcOwner.UID }, set: func(f *Flow, v uint32) { f.SrcOwner.UID = v }},
	AttrSrcProcess:     {name: "src_process", group: GroupSrcOwner, text: func(f *Flow) *string { return &f.SrcOwner.Process }},
	AttrSrcUnit:        {name: "src_unit", group: GroupSrcOwner, text: func(f *Flow) *string { return &f.SrcOwner.Unit }},
	AttrSrcContainer:   {name: "src_container", group: GroupSrcOwner, text: func(f *Flow) *string { return &f.SrcOwner.Container }},
	AttrSrcPod:         {name: "src_pod", group: GroupSrcOwner, text: func(f *Flow) *string { return &f.SrcOwner.Pod }},
	AttrDstPID:         {name: "dst_pid", group: GroupDstOwner, max: max32, get: func(f *Flow) uint32 { return f.DstOwner.PID }, set: func(f *Flow, v uint32) { f.DstOwner.PID = v }},
	AttrDstUID:         {name: "dst_uid", group: GroupDstOwner, max: max32, get: func(f *Flow) uint32 { return f.DstOwner.UID }, set: func(f *Flow, v uint32) { f.DstOwner.UID = v }},
	AttrDstProcess:     {name: "dst_process", group: GroupDstOwner, text: func(f *Flow) *string { return &f.DstOwner.Process }},
	AttrDstUnit:        {name: "dst_unit", group: GroupDstOwner, text: func(f *Flow) *string { return &f.DstOwner.Unit }},
	AttrDstContainer:   {name: "dst_container", group: GroupDstOwner, text: func(f *Flow) *string { return &f.DstOwner.Container }},
	AttrDstPod:         {name: "dst_pod", group: GroupDstOwner, text: func(f *Flow) *string { return &f.DstOwner.Pod }},
	AttrApp:            {name: "app", group: GroupName, max: uint32(len(appNames)) - 1, get: func(f *Flow) uint32 { return uint32(f.Hint.App) }, set: func(f *Flow, v uint32) { f.Hint.App = App(v) }},
	AttrServerName:     {name: "server_name", group: GroupName, text: func(f *Flow) *string { return &f.Hint.ServerName }},
	AttrDNSType:        {name: "dns_type", group: GroupDNS, text: func(f *Flow) *string { return &f.Hint.DNSType }},
	AttrDNSRcode:       {name: "dns_rcode", group: GroupDNS, text: func(f *Flow) *string { return &f.Hint.DNSRcode }},
	AttrDNSAnswers:     {name: "dns_answers", group: GroupDNS, max: max16, get: func(f *Flow) uint32 { return f.Hint.DNSAnswers }, set: func(f *Flow, v uint32) { f.Hint.DNSAnswers = v }},
	AttrTLSALPN:        {name: "tls_alpn", group: GroupTLS, text: func(f *Flow) *string { return &f.Hint.TLSALPN }},
	AttrTLSJA4:         {name: "tls_ja4", group: GroupTLS, text: func(f *Flow) *string { return &f.Hint.TLSJA4 }},
	AttrQUICVersion:    {name: "quic_version", group: GroupTLS, text: func(f *Flow) *string { return &f.Hint.QUICVersion }},
	AttrHTTPMethod:     {name: "http_method", group: GroupHTTP, text: func(f *Flow) *string { return &f.Hint.HTTPMethod }},
	AttrHTTPStatus:     {name: "http_status", group: GroupHTTP, max: max16, get: func(f *Flow) uint32 { return f.Hint.HTTPStatus }, set: func(f *Flow, v uint32) { f.Hint.HTTPStatus = v }},
}

// groupNames are those of the fields with the groups' indices.
var groupNames = [Groups]string{"kind", "path", "health", "src_owner", "dst_owner", "name", "dns", "tls", "http"}

// attributesOf gives the first attribute of each group, and the one after its last.
var attributesOf = func() (ranges [Groups][2]Attribute) {
	for a := range Attributes {
		r := &ranges[attributes[a].group]
		if r[1] == 0 {
			r[0] = a
		}
		r[1] = a + 1
	}
	return ranges
}()

// Name returns the name of the attribute's SQL column.
func (a Attribute) Name() string { return attributes[a].name }

// Group returns the group that the attribute belongs to.
func (a Attribute) Group() Group { return attributes[a].group }

// Text reports whether the attribute's entries are names: 0 for none, else one
// more than an index into Batch.Strings.
func (a Attribute) Text() bool { return attributes[a].text != nil }

// combination is what one record says in one group, 0 where it has fewer attributes.
type combination [groupSize]uint32

// appendAttributes adds f's attributes.
func (b *Batch) appendAttributes(f *Flow) {
	for g := range Groups {
		var c combination
		for a := attributesOf[g][0]; a < attributesOf[g][1]; a++ {
			if d := &attributes[a]; d.get != nil {
				c[a-attributesOf[g][0]] = d.get(f)
			} else if s := *d.text(f); s != "" {
				c[a-attributesOf[g][0]] = 1 + b.str(s)
			}
		}
		b.Index[g] = append(b.Index[g], b.entry(g, c))
	}
}

// entry returns the index of a combination, which is new or not.
func (b *Batch) entry(g Group, c combination) uint16 {
	if c == (combination{}) {
		return 0
	}
	if i, ok := b.entryIndex[g][c]; ok {
		return i
	}
	if b.entryIndex[g] == nil {
		b.entryIndex[g] = make(map[combination]uint16)
	}
	for a := attributesOf[g][0]; a < attributesOf[g][1]; a++ {
		v, col := c[a-attributesOf[g][0]], &b.Attributes[a]
		switch {
		case len(*col) > 0:
			*col = append(*col, v)
		case v != 0: // the first that is not the default: the column begins to exist
			*col = append(appendSame(*col, 0, b.Entries[g]), v)
		}
	}
	b.Entries[g]++
	b.entryIndex[g][c] = uint16(b.Entries[g])
	return uint16(b.Entries[g])
}

// setAttributes fills in what record n has. The columns are valid.
func (b *Batch) setAttributes(f *Flow, n int) {
	for a := range attributes {
		d, col := &attributes[a], b.Attributes[a]
		var v uint32
		if i := b.Index[d.group][n]; i != 0 && len(col) > 0 {
			v = col[i-1]
		}
		switch {
		case d.set != nil:
			d.set(f, v)
		case v != 0:
			*d.text(f) = b.Strings[v-1]
		}
	}
}

// validateLengths checks the number of entries of groups and attributes.
func (b *Batch) validateLengths() error {
	for g := range Groups {
		if n := b.Entries[g]; n < 0 || n > b.Len() {
			return fmt.Errorf("%w: group %s has %d entries for %d records", ErrInvalid, groupNames[g], n, b.Len())
		}
		if len(b.Index[g]) != b.Len() {
			return fmt.Errorf("%w: column %s has %d entries, want %d", ErrInvalid, groupNames[g], len(b.Index[g]), b.Len())
		}
	}
	for i, col := range b.Attributes {
		if want := b.Entries[attributes[i].group]; len(col) != 0 && len(col) != want {
			return fmt.Errorf("%w: column %s has %d entries, want %d", ErrInvalid, attributes[i].name, len(col), want)
		}
	}
	return nil
}

func (b *Batch) validateAttributes() error {
	for g := range Groups {
		if v := highest(b.Index[g]); uint64(v) > uint64(b.Entries[g]) {
			return fmt.Errorf("%w: column %s: index %d out of bounds", ErrInvalid, groupNames[g], v)
		}
	}
	for i, col := range b.Attributes {
		a := &attributes[i]
		limit := a.max
		if a.text != nil {
			limit = uint32(len(b.Strings))
		}
		if limit == max32 {
			continue
		}
		if v := highest(col); v > limit {
			return fmt.Errorf("%w: column %s: %d is above %d", ErrInvalid, a.name, v, limit)
		}
	}
	return nil
}

func (b *Batch) encodeAttributes(dst []byte) []byte {
	dst = appendMessage(dst, fieldEntries, func(dst []byte) []byte {
		for _, n := range b.Entries {
			dst = protowire.AppendVarint(dst, uint64(n))
		}
		return dst
	})
	for g, col := range b.Index {
		dst = appendColumn(dst, firstGroup+protowire.Number(g), col)
	}
	for a, col := range b.Attributes {
		dst = appendColumn(dst, firstAttribute+protowire.Number(a), col)
	}
	return dst
}

func (b *Batch) parseAttributes(packed [][]byte, flows int) (err error) {
	entries := packed[fieldEntries]
	for g := 0; g < len(b.Entries) && len(entries) > 0; g++ { // a newer agent may have more groups
		v, n := protowire.ConsumeVarint(entries)
		if n < 0 || v > uint64(flows) { // before memory is spent on what no record has
			return fmt.Errorf("%w: entries of group %s", ErrInvalid, groupNames[g])
		}
		b.Entries[g], entries = int(v), entries[n:]
	}
	for g := range b.Index {
		if b.Index[g], err = unpack(b.Index[g], packed[firstGroup+g], flows); err != nil {
			return fmt.Errorf("column %s: %w", groupNames[g], err)
		}
	}
	for a := range b.Attributes {
		data := packed[firstAttribute+a]
		if data == nil {
			continue
		}
		if b.Attributes[a], err = unpack(b.Attributes[a], data, b.Entries[attributes[a].group]); err != nil {
			return fmt.Errorf("column %s: %w", attributes[a].name, err)
		}
	}
	return nil
}
