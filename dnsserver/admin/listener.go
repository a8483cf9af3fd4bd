package admin

import (
	"net"
	"net/netip"
	"sync"
)

// A shared listener has at most maxConns connections, and of one address (of IPv6 one /64) at most maxFromOne; those beyond
// are closed at once.
type shared struct {
	net.Listener

	mu   sync.Mutex
	all  int                  // guarded by mu
	from map[netip.Prefix]int // guarded by mu; none is 0
}

func newShared(l net.Listener) *shared {
	return &shared{Listener: l, from: make(map[netip.Prefix]int)}
}

func (s *shared) Accept() (net.Conn, error) {
	for {
		c, err := s.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if client := clientOf(c); s.take(client) {
			return &sharedConn{Conn: c, done: sync.OnceFunc(func() { s.give(client) })}, nil
		}
		c.Close()
	}
}

func (s *shared) take(client netip.Prefix) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all >= maxConns || s.from[client] >= maxFromOne {
		return false
	}
	s.all++
	s.from[client]++
	return true
}

func (s *shared) give(client netip.Prefix) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all--
	if s.from[client]--; s.from[client] == 0 {
		delete(s.from, client)
	}
}

// clientOf is whom a connection counts for.
func clientOf(c net.Conn) netip.Prefix {
	a, _ := netip.ParseAddrPort(c.RemoteAddr().String()) // what has none counts as one
	ip := a.Addr().Unmap()
	bits := ip.BitLen()
	if ip.Is6() {
		bits = 64
	}
	p, _ := ip.Prefix(bits)
	return p
}

// A sharedConn gives its place back when it is closed.
type sharedConn struct {
	net.Conn
	done func()
}

func (c *sharedConn) Close() error {
	c.done()
	return c.Conn.Close()
}
