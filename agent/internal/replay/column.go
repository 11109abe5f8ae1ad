package replay

import (
	"net/netip"
	"strconv"
	"time"

	"github.com/ebbwatch/ebbwatch"
)

// column is one column of the SQL table flows: its name there, and how a record's
// value is written as JSON. end, which SQL computes, is here, too.
type column struct {
	name  string
	write func(b []byte, f *ebbwatch.Flow) []byte
}

// agentName stands in the column agent: no agent saw these records.
const agentName = "replay"

// columns lists what a record is written as, in this order. A test holds the
// names against the migrations and the contract's attributes.
func columns() []column {
	return append(baseColumns(), attributeColumns()...)
}

func baseColumns() []column {
	return []column{
		{"agent", text(func(*ebbwatch.Flow) string { return agentName })},
		{"interface", text(func(f *ebbwatch.Flow) string { return f.Interface })},
		{"start", moment(func(f *ebbwatch.Flow) time.Time { return f.Start })},
		{"end", moment(func(f *ebbwatch.Flow) time.Time { return f.End })},
		{"duration_ms", number(func(f *ebbwatch.Flow) int64 { return f.End.Sub(f.Start).Milliseconds() })},
		{"src_ip", address(func(f *ebbwatch.Flow) netip.Addr { return f.Src })},
		{"dst_ip", address(func(f *ebbwatch.Flow) netip.Addr { return f.Dst })},
		{"src_port", number(func(f *ebbwatch.Flow) uint16 { return f.SrcPort })},
		{"dst_port", number(func(f *ebbwatch.Flow) uint16 { return f.DstPort })},
		{"proto", number(func(f *ebbwatch.Flow) uint8 { return f.Proto })},
		{"initiator", text(func(f *ebbwatch.Flow) string { return f.Initiator.String() })},
		{"vlan", number(func(f *ebbwatch.Flow) uint16 { return f.VLAN })},
		{"src_packets", number(func(f *ebbwatch.Flow) uint64 { return f.SrcPackets })},
		{"src_bytes", number(func(f *ebbwatch.Flow) uint64 { return f.SrcBytes })},
		{"dst_packets", number(func(f *ebbwatch.Flow) uint64 { return f.DstPackets })},
		{"dst_bytes", number(func(f *ebbwatch.Flow) uint64 { return f.DstBytes })},
		{"src_flags", number(func(f *ebbwatch.Flow) uint16 { return uint16(f.SrcFlags) })},
		{"dst_flags", number(func(f *ebbwatch.Flow) uint16 { return uint16(f.DstFlags) })},
		{"conn_state", text(func(f *ebbwatch.Flow) string { return f.ConnState.String() })},
		{"icmp_type", number(func(f *ebbwatch.Flow) uint8 { return f.ICMPType })},
		{"icmp_code", number(func(f *ebbwatch.Flow) uint8 { return f.ICMPCode })},
		{"age_ms", number(func(f *ebbwatch.Flow) uint32 { return f.AgeMS })},
		{"final", func(b []byte, f *ebbwatch.Flow) []byte { return strconv.AppendBool(b, f.Final) }},
		{"sampling", number(func(f *ebbwatch.Flow) uint32 { return f.Sampling })},
	}
}

func attributeColumns() []column {
	return []column{
		{"interfaces", text(func(f *ebbwatch.Flow) string { return f.Interfaces })},
		{"netns", text(func(f *ebbwatch.Flow) string { return f.NetNS })},
		{"tunnel", text(func(f *ebbwatch.Flow) string { return f.Tunnel.String() })},
		{"tunnel_id", number(func(f *ebbwatch.Flow) uint32 { return f.TunnelID })},
		{"src_retransmits", number(func(f *ebbwatch.Flow) uint32 { return f.SrcHealth.Retransmits })},
		{"dst_retransmits", number(func(f *ebbwatch.Flow) uint32 { return f.DstHealth.Retransmits })},
		{"src_zero_windows", number(func(f *ebbwatch.Flow) uint32 { return f.SrcHealth.ZeroWindows })},
		{"dst_zero_windows", number(func(f *ebbwatch.Flow) uint32 { return f.DstHealth.ZeroWindows })},
		{"src_resets", number(func(f *ebbwatch.Flow) uint32 { return f.SrcHealth.Resets })},
		{"dst_resets", number(func(f *ebbwatch.Flow) uint32 { return f.DstHealth.Resets })},
		{"handshake_us", number(func(f *ebbwatch.Flow) uint32 { return f.HandshakeUS })},
		{"rtt_us", number(func(f *ebbwatch.Flow) uint32 { return f.RTTUS })},
		{"src_drops", number(func(f *ebbwatch.Flow) uint32 { return f.SrcHealth.Drops })},
		{"dst_drops", number(func(f *ebbwatch.Flow) uint32 { return f.DstHealth.Drops })},
		{"drop_reason", text(func(f *ebbwatch.Flow) string { return f.DropReason })},
		{"src_pid", number(func(f *ebbwatch.Flow) uint32 { return f.SrcOwner.PID })},
		{"dst_pid", number(func(f *ebbwatch.Flow) uint32 { return f.DstOwner.PID })},
		{"src_process", text(func(f *ebbwatch.Flow) string { return f.SrcOwner.Process })},
		{"dst_process", text(func(f *ebbwatch.Flow) string { return f.DstOwner.Process })},
		{"src_uid", number(func(f *ebbwatch.Flow) uint32 { return f.SrcOwner.UID })},
		{"dst_uid", number(func(f *ebbwatch.Flow) uint32 { return f.DstOwner.UID })},
		{"src_unit", text(func(f *ebbwatch.Flow) string { return f.SrcOwner.Unit })},
		{"dst_unit", text(func(f *ebbwatch.Flow) string { return f.DstOwner.Unit })},
		{"src_container", text(func(f *ebbwatch.Flow) string { return f.SrcOwner.Container })},
		{"dst_container", text(func(f *ebbwatch.Flow) string { return f.DstOwner.Container })},
		{"src_pod", text(func(f *ebbwatch.Flow) string { return f.SrcOwner.Pod })},
		{"dst_pod", text(func(f *ebbwatch.Flow) string { return f.DstOwner.Pod })},
		{"app", text(func(f *ebbwatch.Flow) string { return f.Hint.App.String() })},
		{"server_name", text(func(f *ebbwatch.Flow) string { return f.Hint.ServerName })},
		{"dns_type", text(func(f *ebbwatch.Flow) string { return f.Hint.DNSType })},
		{"dns_rcode", text(func(f *ebbwatch.Flow) string { return f.Hint.DNSRcode })},
		{"dns_answers", number(func(f *ebbwatch.Flow) uint32 { return f.Hint.DNSAnswers })},
		{"app_latency_us", number(func(f *ebbwatch.Flow) uint32 { return f.Hint.LatencyUS })},
		{"tls_alpn", text(func(f *ebbwatch.Flow) string { return f.Hint.TLSALPN })},
		{"tls_ja4", text(func(f *ebbwatch.Flow) string { return f.Hint.TLSJA4 })},
		{"http_method", text(func(f *ebbwatch.Flow) string { return f.Hint.HTTPMethod })},
		{"http_status", number(func(f *ebbwatch.Flow) uint32 { return f.Hint.HTTPStatus })},
		{"quic_version", text(func(f *ebbwatch.Flow) string { return f.Hint.QUICVersion })},
	}
}

func text(get func(*ebbwatch.Flow) string) func([]byte, *ebbwatch.Flow) []byte {
	return func(b []byte, f *ebbwatch.Flow) []byte { return appendString(b, get(f)) }
}

func number[T uint8 | uint16 | uint32 | uint64 | int64](get func(*ebbwatch.Flow) T) func([]byte, *ebbwatch.Flow) []byte {
	return func(b []byte, f *ebbwatch.Flow) []byte { return strconv.AppendUint(b, uint64(get(f)), 10) }
}

func moment(get func(*ebbwatch.Flow) time.Time) func([]byte, *ebbwatch.Flow) []byte {
	return func(b []byte, f *ebbwatch.Flow) []byte {
		return append(get(f).UTC().AppendFormat(append(b, '"'), timeLayout), '"')
	}
}

func address(get func(*ebbwatch.Flow) netip.Addr) func([]byte, *ebbwatch.Flow) []byte {
	return func(b []byte, f *ebbwatch.Flow) []byte { return append(get(f).AppendTo(append(b, '"')), '"') }
}
