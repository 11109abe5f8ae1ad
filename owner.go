package ebbwatch

// Health is what one side of a conversation suffered during a record's interval.
type Health struct {
	Retransmits uint32 // TCP segments sent that begin below what was already sent
	ZeroWindows uint32 // TCP segments that closed the sender's receive window
	Resets      uint32 // TCP segments with RST
	Drops       uint32 // packets of this side that the host's kernel dropped
}

// Owner is the process behind one side of a conversation, where that side is a
// socket of the agent's host. Names are at most MaxName bytes.
type Owner struct {
	PID       uint32 // 0 if unknown; then the other fields say nothing
	UID       uint32
	Process   string // the kernel's comm, 15 bytes at most
	Unit      string // systemd unit of its cgroup
	Container string // container id of its cgroup
	Pod       string // Kubernetes pod UID of its cgroup
}

// Hint is what the beginning of a conversation's payload told about the
// application. Names come from the network: they are valid UTF-8 and bounded,
// and still an attacker's words.
type Hint struct {
	App         App
	ServerName  string // DNS question, TLS server name, HTTP Host
	DNSType     string // of the question, by IANA's name: "AAAA", "TYPE65280" (RFC 3597)
	DNSRcode    string // of the answer, by IANA's name: "NXDOMAIN", "RCODE12"; "" where none was seen
	DNSAnswers  uint32 // at most 16 bits
	LatencyUS   uint32 // from the first request to the first response
	TLSALPN     string // the first protocol offered
	TLSJA4      string // fingerprint of the ClientHello
	HTTPMethod  string
	HTTPStatus  uint32 // at most 16 bits
	QUICVersion string // "1", "2", "draft-29", else hexadecimal: "0x1a2a3a4a"
}

// App is an application protocol that was recognised by its content.
type App uint32

// The application protocols.
const (
	AppNone App = iota
	AppDNS
	AppTLS
	AppHTTP
	AppQUIC
)

var appNames = [...]string{"", "dns", "tls", "http", "quic"}

// String returns the name that the SQL column app uses.
func (a App) String() string { return enumName(appNames[:], uint32(a)) }

// Tunnel is an encapsulation.
type Tunnel uint32

// The encapsulations: RFC 7348, RFC 8926, RFC 2784 with 2890, RFC 2003 and 4213.
const (
	TunnelNone Tunnel = iota
	TunnelVXLAN
	TunnelGeneve
	TunnelGRE
	TunnelIPIP
)

var tunnelNames = [...]string{"", "vxlan", "geneve", "gre", "ipip"}

// String returns the name that the SQL column tunnel uses.
func (t Tunnel) String() string { return enumName(tunnelNames[:], uint32(t)) }
