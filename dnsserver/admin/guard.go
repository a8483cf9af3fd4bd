package admin

import (
	"crypto/subtle"
	"errors"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"
)

// refusedPause is the least time between two lines about refused orders: whoever is refused may ask again and again.
const refusedPause = time.Minute

// ordersOnly lets a request pass that bears the token, or that comes from a program on this host: not from a page in a browser
// there, whose origin's name may have been made to lead to loopback. Such a page cannot name an address, or send JSON unasked.
func (s *Server) ordersOnly(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		switch {
		case s.bearsToken(r):
		case !isLoopback(r.RemoteAddr):
			s.refuse(w, r, http.StatusForbidden, "orders are taken from loopback or with the token in admin_token_file")
			return
		case !isAddress(r.Host):
			s.refuse(w, r, http.StatusForbidden, errByName)
			return
		case !isJSON(r):
			s.refuse(w, r, http.StatusUnsupportedMediaType, "orders without a token are taken as JSON alone: Content-Type: application/json")
			return
		}
		next(w, r)
	}
}

const errByName = "on loopback the director is spoken to by address or as localhost, not by another name (Host)"

// byAddress refuses requests to a server on loopback by any name but localhost, for reading, too: a page of that name could
// tell others what it read.
func (s *Server) byAddress(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.local && !isAddress(r.Host) && !s.bearsToken(r) {
			s.refuse(w, r, http.StatusForbidden, errByName)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// refuse answers and ends the connection. It logs at most once in refusedPause.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, code int, why string) {
	last, now := s.refused.Load(), time.Now().UnixNano()
	if now-last > int64(refusedPause) && s.refused.CompareAndSwap(last, now) {
		s.o.Log.Warn("request refused; others for a minute are not logged", "from", r.RemoteAddr, "path", r.URL.Path, "host", r.Host, "reason", why)
	}
	w.Header().Set("Connection", "close")
	fail(w, code, errors.New(why))
}

func (s *Server) bearsToken(r *http.Request) bool {
	token, bears := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	right := s.o.Token()
	return bears && right != "" && subtle.ConstantTimeCompare([]byte(token), []byte(right)) == 1
}

// isAddress tells if a Host (RFC 9110, section 7.2) is an address or localhost.
func isAddress(hostPort string) bool {
	host, _, err := net.SplitHostPort(hostPort)
	if err != nil {
		host = strings.TrimSuffix(strings.TrimPrefix(hostPort, "["), "]")
	}
	_, err = netip.ParseAddr(host)
	return err == nil || strings.EqualFold(host, "localhost")
}

func isLoopback(addrPort string) bool {
	a, err := netip.ParseAddrPort(addrPort)
	return err == nil && a.Addr().Unmap().IsLoopback()
}

func isJSON(r *http.Request) bool {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	return err == nil && kind == "application/json"
}
