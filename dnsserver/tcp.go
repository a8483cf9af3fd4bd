package dnsserver

import (
	"bufio"
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"
)

// The bounds of TCP (RFC 7766, section 6.2).
const (
	maxConns       = 1000                   // of one address: each holds some 10 KiB and a file
	maxClientConns = 100                    // of one client network: one resolver's share of maxConns
	idleTime       = 10 * time.Second       // without a query
	messageTime    = 5 * time.Second        // from a query's first octet to its last
	writeTime      = 5 * time.Second        // for replies to be taken
	maxUnsent      = 64 << 10               // octets of replies that are gathered before they are sent
	acceptPause    = 100 * time.Millisecond // after accept failed: mostly, files have run out
)

// A tcpListener answers on the connections of one address. Its goroutine accepts; each connection has one of its own.
type tcpListener struct {
	s  *Server
	ln *net.TCPListener

	mu      sync.Mutex
	conns   map[*net.TCPConn]struct{}
	clients map[netip.Prefix]int // open connections
	closing bool
}

func newTCPListener(s *Server, ln *net.TCPListener) *tcpListener {
	return &tcpListener{s: s, ln: ln, conns: map[*net.TCPConn]struct{}{}, clients: map[netip.Prefix]int{}}
}

// run accepts until ctx ends, then waits for the connections, within a bound.
func (l *tcpListener) run(ctx context.Context) {
	stop := context.AfterFunc(ctx, func() { l.ln.Close() })
	defer stop()
	var running sync.WaitGroup
	for ctx.Err() == nil {
		conn, err := l.ln.AcceptTCP()
		if err != nil {
			select {
			case <-ctx.Done():
			case <-time.After(acceptPause):
			}
			continue
		}
		client, ok := l.admit(conn)
		if !ok {
			l.s.drop(tcpLimit)
			conn.Close()
			continue
		}
		running.Go(func() {
			defer l.release(conn, client)
			l.serve(conn)
		})
	}
	l.hurry(time.Now())
	cut := time.AfterFunc(closeTime, l.cut)
	running.Wait()
	cut.Stop()
}

// admit counts a connection, unless there are too many.
func (l *tcpListener) admit(conn *net.TCPConn) (client netip.Prefix, ok bool) {
	client = clientNetwork(conn)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closing || len(l.conns) >= maxConns || l.clients[client] >= maxClientConns {
		return client, false
	}
	l.conns[conn] = struct{}{}
	l.clients[client]++
	return client, true
}

func (l *tcpListener) release(conn *net.TCPConn, client netip.Prefix) {
	conn.Close()
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, conn)
	if l.clients[client]--; l.clients[client] == 0 {
		delete(l.clients, client)
	}
}

// clientNetwork is what one client can have all addresses of: an IPv4 address, or an IPv6 /64.
func clientNetwork(conn *net.TCPConn) netip.Prefix {
	a := sourceOf(conn)
	bits := 32
	if a.Is6() {
		bits = 64
	}
	p, err := a.Prefix(bits)
	if err != nil { // no address: the peer has gone
		return netip.Prefix{}
	}
	return p
}

func sourceOf(conn *net.TCPConn) netip.Addr {
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
	for conn := range l.conns {
		conn.SetReadDeadline(t)
	}
}

// cut closes every connection.
func (l *tcpListener) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for conn := range l.conns {
		conn.Close()
	}
}

// serve answers a connection's queries in order; those that came together are answered together (RFC 7766, section 6.2.1.1).
func (l *tcpListener) serve(conn *net.TCPConn) {
	source := sourceOf(conn)
	meter := &l.s.tcpMeters[int(clientPort(conn))%len(l.s.tcpMeters)]
	in := bufio.NewReaderSize(conn, 2+maxQuery)
	var out []byte
	for {
		q, err := l.read(conn, in)
		if err != nil {
			return
		}
		start := len(out)
		meter.Lock()
		reply := l.s.answer(append(out, 0, 0), q, source, TCP, l.s.o.Snapshot(), &meter.Meter)
		meter.Unlock()
		if reply == nil {
			return // what has no reply is no DNS client
		}
		out = reply
		binary.BigEndian.PutUint16(out[start:], uint16(len(out)-start-2))
		if _, err := in.Discard(len(q)); err != nil {
			return
		}
		if hasQuery(in) && len(out) < maxUnsent {
			continue
		}
		conn.SetWriteDeadline(time.Now().Add(writeTime))
		if _, err := conn.Write(out); err != nil {
			l.s.drop(sendError)
			return
		}
		out = out[:0]
	}
}

func clientPort(conn *net.TCPConn) uint16 {
	a, ok := conn.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return 0
	}
	return uint16(a.Port)
}

// read waits for a query. It stays in the reader until it is discarded.
func (l *tcpListener) read(conn *net.TCPConn, in *bufio.Reader) ([]byte, error) {
	if in.Buffered() == 0 {
		if err := l.deadline(conn, idleTime); err != nil {
			return nil, err
		}
		if _, err := in.Peek(1); err != nil {
			return nil, err
		}
	}
	if !hasQuery(in) {
		if err := l.deadline(conn, messageTime); err != nil {
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

// deadline lets the connection read for d, unless the listener closes.
func (l *tcpListener) deadline(conn *net.TCPConn, d time.Duration) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closing {
		return net.ErrClosed
	}
	return conn.SetReadDeadline(time.Now().Add(d))
}
