package dnsserver

import (
	"crypto/tls"
	"errors"
	"net"
	"runtime"
	"time"
)

// computing has a place for each TLS handshake that computes. One costs the client nearly nothing, and the server a
// millisecond or so; they leave half of the cores to queries, however many begin.
var computing = make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2))

var errBusy = errors.New("too many TLS handshakes")

// A shakingConn is a connection during its handshake: it has a place while it computes, that is from when something
// was read until more has to be. What the server writes meanwhile fits the kernel's buffer.
type shakingConn struct {
	net.Conn
	placed, done bool
}

// Read gives the place back, reads, and waits for a place, no longer than a handshake may take.
func (c *shakingConn) Read(b []byte) (int, error) {
	if c.done {
		return c.Conn.Read(b)
	}
	c.leave()
	n, err := c.Conn.Read(b)
	if err != nil {
		return n, err
	}
	late := time.NewTimer(messageTime)
	defer late.Stop()
	select {
	case computing <- struct{}{}:
		c.placed = true
		return n, nil
	case <-late.C:
		return 0, errBusy
	}
}

func (c *shakingConn) leave() {
	if c.placed {
		<-computing
		c.placed = false
	}
}

// handshake begins TLS on a connection.
func handshake(conn net.Conn, config *tls.Config) (*tls.Conn, error) {
	c := &shakingConn{Conn: conn}
	over := tls.Server(c, config)
	defer func() {
		c.leave()
		c.done = true
	}()
	return over, over.Handshake()
}
