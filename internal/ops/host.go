package ops

import (
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// HostAllowed reports whether a request may be for host, the value of its header
// Host: an IP address, which nobody can point elsewhere, localhost, or one of
// names, in lower case. Any other name that resolves to this address makes its
// owner's pages one origin with what is served here (DNS rebinding).
func HostAllowed(host string, names map[string]bool) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.Trim(host, "[]")
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	return host == "localhost" || names[host]
}

// guard refuses requests that came to a loopback address under a name that is not
// allowed there: a browser of this host sent them for a foreign page. Those that
// came over the network may use any name: scrapers do, and who can send them needs
// no browser for it.
func (s *Server) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if local, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); ok && isLoopback(local) && !HostAllowed(r.Host, s.Hosts) {
			http.Error(w, "this name is not served on a loopback address: ask for localhost or the address", http.StatusMisdirectedRequest)
			return
		}
		w.Header().Set("X-Content-Type-Options", "nosniff")
		next.ServeHTTP(w, r)
	})
}

func isLoopback(a net.Addr) bool {
	tcp, ok := a.(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}
