package dnsserver

import (
	"bufio"
	"container/list"
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"
)

// The bounds of TCP and TLS (RFC 7766, section 6.2); those of connections are a crowd's.
const (
	idleTime    = 10 * time.Second       // without a query
	messageTime = 5 * time.Second        // from a query's first octet to its last, and for what comes before the first
	writeTime   = 5 * time.Second        // for replies to be taken
	maxUnsent   = 64 << 10               // octets of replies that are gathered before they are sent
	maxKept     = 16 << 10               // octets of room for replies that a connection keeps once they are sent
	acceptPause = 100 * time.Millisecond // after accept failed: mostly, files have run out
)

// A tcpListener answers on the connections of one address. Its goroutine accepts; each connection has one of its own.
type tcpListener struct {
	s  *Server
	ln *net.TCPListener
	t  Transport // TCP or TLS

	mu      sync.Mutex
	conns   crowd
	closing bool
}

// A tcpConn is one connection. Its goroutine owns all but what a crowd notes.
type tcpConn struct {
	net.Conn
	tcp     *net.TCPConn // below TLS
	source  netip.Addr
	proxied bool // a balancer's: source is the balancer's until its header is read

	share *share        // guarded by the listener's mutex; nil if it is in no crowd
	place *list.Element // in the share
}

func newTCPListener(s *Server, ln *net.TCPListener, t Transport) *tcpListener {
	return &tcpListener{s: s, ln: ln, t: t, conns: crowd{shares: map[netip.Prefix]*share{}}}
}

// run accepts until ctx ends, then waits for the connections, within a bound.
func (l *tcpListener) run(ctx context.Context) {
	stop := context.AfterFunc(ctx, func() { l.ln.Close() })
	defer stop()
	var running sync.WaitGroup
	for ctx.Err() == nil {
		conn, err := l.ln.AcceptTCP()
		if err != nil {
			pauseFor(ctx, acceptPause)
			continue
		}
		c := &tcpConn{Conn: conn, tcp: conn, source: sourceOf(conn)}
		client := clientNetwork(c.source)
		if c.proxied = l.s.settings.Load().isProxy(c.source); c.proxied {
			client = noClient
		}
		if !l.admit(c, client) {
			conn.Close()
			continue
		}
		running.Go(func() {
			defer l.release(c)
			l.serve(c)
		})
	}
	l.hurry(time.Now())
	cut := time.AfterFunc(closeTime, l.cut)
	running.Wait()
	cut.Stop()
}

// admit takes a connection in as one of a client network. It reports false if the client has its share, or the
// listener closes.
func (l *tcpListener) admit(c *tcpConn, client netip.Prefix) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.closing && l.add(c, client)
}

// claim makes a balancer's connection one of a client network. It reports false if that has its share, or the connection
// had to go.
func (l *tcpListener) claim(c *tcpConn, client netip.Prefix) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c.share == nil {
		return false
	}
	l.conns.remove(c)
	return l.add(c, client)
}

func (l *tcpListener) add(c *tcpConn, client netip.Prefix) bool {
	gone, ok := l.conns.add(c, client)
	if gone != nil {
		gone.tcp.Close() // its goroutine ends by that
	}
	if gone != nil || !ok {
		l.s.drop(tcpLimit)
	}
	return ok
}

func (l *tcpListener) release(c *tcpConn) {
	c.Close()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conns.remove(c)
}

func sourceOf(conn net.Conn) netip.Addr {
	a, ok := conn.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	return a.AddrPort().Addr().Unmap().WithZone("")
}

// hurry lets every connection read no further than until t.
func (l *tcpListener) hurry(t time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closing = true
	l.conns.each(func(c *tcpConn) { c.tcp.SetReadDeadline(t) })
}

// cut closes every connection.
func (l *tcpListener) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conns.each(func(c *tcpConn) { c.tcp.Close() })
}

func (l *tcpListener) open() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.conns.size
}

// greet does what comes before the first query: a balancer's header, with the count of the client's connections, and TLS.
func (l *tcpListener) greet(c *tcpConn) bool {
	if c.proxied {
		if l.deadline(c, messageTime) != nil {
			return false
		}
		source, err := readProxyHeader(c.tcp)
		if err != nil {
			l.s.drop(badProxy)
			return false
		}
		if source.IsValid() {
			c.source = source.Addr()
		}
		if !l.claim(c, clientNetwork(c.source)) {
			return false
		}
	}
	if l.t != TLS {
		return true
	}
	if l.deadline(c, messageTime) != nil {
		return false
	}
	conn, err := handshake(c.tcp, l.s.tls)
	if err != nil {
		l.s.drop(noHandshake)
		return false
	}
	c.Conn = conn
	return true
}

// serve answers a connection's queries in order; those that came together are answered together (RFC 7766, section 6.2.1.1).
func (l *tcpListener) serve(c *tcpConn) {
	if !l.greet(c) {
		return
	}
	meter := &l.s.tcpMeters[int(clientPort(c.tcp))%len(l.s.tcpMeters)]
	in := bufio.NewReaderSize(c, 2+maxQuery)
	var out []byte
	for {
		q, err := l.read(c, in)
		if err != nil {
			return
		}
		scene := l.s.scene()
		if isTransfer(q) {
			if l.send(c, out) != nil || l.transfer(c, q, &scene, meter) != nil {
				return
			}
			if _, err := in.Discard(len(q)); err != nil {
				return
			}
			out = empty(out)
			continue
		}
		start := len(out)
		meter.Lock()
		reply := l.s.answer(append(out, 0, 0), q, c.source, l.t, &scene, &meter.Meter)
		meter.Unlock()
		if reply == nil {
			_ = l.send(c, out) // what came before has its replies; the connection ends in any case
			return             // what has no reply is no DNS client
		}
		out = reply
		binary.BigEndian.PutUint16(out[start:], uint16(len(out)-start-2))
		if _, err := in.Discard(len(q)); err != nil {
			return
		}
		if hasQuery(in) && len(out) < maxUnsent {
			continue
		}
		if l.send(c, out) != nil {
			return
		}
		out = empty(out)
	}
}

// empty is the room for replies once they are sent; a large one is given back.
func empty(out []byte) []byte {
	if cap(out) > maxKept {
		return nil
	}
	return out[:0]
}

// send sends what is due, within writeTime.
func (l *tcpListener) send(c *tcpConn, out []byte) error {
	if len(out) == 0 {
		return nil
	}
	c.tcp.SetWriteDeadline(time.Now().Add(writeTime))
	_, err := c.Write(out)
	if err != nil {
		l.s.drop(sendError)
	}
	return err
}

func clientPort(conn *net.TCPConn) uint16 {
	a, ok := conn.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return 0
	}
	return uint16(a.Port)
}

// read waits for a query. It stays in the reader until it is discarded.
func (l *tcpListener) read(c *tcpConn, in *bufio.Reader) ([]byte, error) {
	if in.Buffered() == 0 {
		if err := l.deadline(c, idleTime); err != nil {
			return nil, err
		}
		if _, err := in.Peek(1); err != nil {
			return nil, err
		}
	}
	if !hasQuery(in) {
		if err := l.deadline(c, messageTime); err != nil {
			return nil, err
		}
	}
	head, err := in.Peek(2)
	if err != nil {
		return nil, err
	}
	n := int(binary.BigEndian.Uint16(head))
	if n > maxQuery {
		l.s.drop(tooLong)
		return nil, io.ErrShortBuffer
	}
	if _, err := in.Discard(2); err != nil {
		return nil, err
	}
	return in.Peek(n)
}

// hasQuery tells if a whole query has been read.
func hasQuery(in *bufio.Reader) bool {
	if in.Buffered() < 2 {
		return false
	}
	head, err := in.Peek(2)
	return err == nil && in.Buffered() >= 2+int(binary.BigEndian.Uint16(head))
}

// deadline lets the connection read for d, unless the listener closes. It may write meanwhile: TLS answers some of what it
// reads (RFC 8446, section 4.6.3), and a write that fails ends it for good.
func (l *tcpListener) deadline(c *tcpConn, d time.Duration) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closing {
		return net.ErrClosed
	}
	return c.tcp.SetDeadline(time.Now().Add(d))
}
