package healthmesh

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// The bounds of streams from others, all of which are read before their key is known to be right: in number, and in bytes
// that are held for them. Who is refused tries again.
const (
	maxStreams    = 32         // at once: a push/pull takes some milliseconds
	maxOneStreams = 8          // of one address (of IPv6 one /64): some nodes can share one
	maxBytes      = 2 * maxOne // of all of them: two of the largest tables, or many usual ones, at once
	maxOne        = maxTable   // of one address
	maxRead       = 64 << 10   // at a time, and what each stream has beside the bounds
	maxNodeState  = 512        // what memberlist tells of a node, with the longest name and meta
	maxFraming    = 1024       // memberlist's label, lengths, nonce and tag

	// maxTable is the largest push/pull, 16 MB, with as many dead members as there can be others.
	maxTable = maxReports*(4+2+maxReport) + maxSeal + 2*maxMembers*maxNodeState + maxFraming
)

// A transport is memberlist's, whose streams are bounded, and end when it is shut down: memberlist waits for a peer that hangs until
// streamTime, and who stops cannot wait so long.
type transport struct {
	*memberlist.NetTransport
	open      context.Context // ends at Shutdown
	shutDown  context.CancelFunc
	inbound   chan net.Conn   // from others, admitted
	bound     context.Context // ends when nothing comes in any more
	unbind    context.CancelFunc
	admitting sync.WaitGroup

	mu   sync.Mutex
	all  share                   // guarded by mu
	from map[netip.Prefix]*share // guarded by mu; those with streams
}

// A share is what streams from others hold.
type share struct{ streams, bytes int }

func newTransport(c *memberlist.NetTransportConfig) (*transport, error) {
	under, err := memberlist.NewNetTransport(c)
	if err != nil {
		return nil, err
	}
	t := &transport{NetTransport: under, inbound: make(chan net.Conn), from: make(map[netip.Prefix]*share)}
	t.open, t.shutDown = context.WithCancel(context.Background())
	t.bound, t.unbind = context.WithCancel(context.Background())
	t.admitting.Go(t.admit)
	return t, nil
}

var _ memberlist.NodeAwareTransport = (*transport)(nil)

func (t *transport) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	return t.DialAddressTimeout(memberlist.Address{Addr: addr}, timeout)
}

func (t *transport) DialAddressTimeout(to memberlist.Address, timeout time.Duration) (net.Conn, error) {
	dialer := net.Dialer{Timeout: timeout}
	conn, err := dialer.DialContext(t.open, "tcp", to.Addr)
	if err != nil {
		return nil, err
	}
	return t.endAtShutdown(conn), nil
}

// StreamCh has the streams from others that are admitted.
func (t *transport) StreamCh() <-chan net.Conn { return t.inbound }

// admit hands over streams from others within the bounds; those beyond are closed at once.
func (t *transport) admit() {
	for {
		select {
		case conn := <-t.NetTransport.StreamCh():
			s := &admitted{stream: t.endAtShutdown(conn), t: t, client: clientOf(conn)}
			if !t.take(s.client) {
				s.stream.Close()
				continue
			}
			select {
			case t.inbound <- s:
			case <-t.open.Done():
				s.Close()
			}
		case <-t.bound.Done():
			return
		}
	}
}

func (t *transport) take(client netip.Prefix) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	one := t.from[client]
	if one == nil {
		one = new(share)
	}
	if t.all.streams >= maxStreams || one.streams >= maxOneStreams {
		return false
	}
	t.from[client] = one
	t.all.streams++
	one.streams++
	return true
}

// give takes a stream back, with the bytes that it held.
func (t *transport) give(client netip.Prefix, bytes int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	one := t.from[client]
	for _, s := range []*share{&t.all, one} {
		s.streams--
		s.bytes -= bytes
	}
	if one.streams == 0 {
		delete(t.from, client)
	}
}

// hold counts bytes for a stream; false is beyond a bound.
func (t *transport) hold(client netip.Prefix, bytes int) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	one := t.from[client]
	t.all.bytes += bytes
	one.bytes += bytes
	return t.all.bytes <= maxBytes && one.bytes <= maxOne
}

// clientOf is whom a connection counts for.
func clientOf(c net.Conn) netip.Prefix {
	a, _ := netip.ParseAddrPort(c.RemoteAddr().String()) // what has none counts as one
	ip := a.Addr().Unmap()
	bits := ip.BitLen()
	if ip.Is6() {
		bits = 64
	}
	p, _ := ip.Prefix(bits) // cannot fail with these bits
	return p
}

// Shutdown can be called again.
func (t *transport) Shutdown() error {
	t.shutDown()
	err := t.NetTransport.Shutdown() // it waits for admit to take what came in
	t.unbind()
	t.admitting.Wait()
	return err
}

// A stream is a connection that its transport closes at Shutdown, unless it was closed before.
type stream struct {
	net.Conn
	release func() bool
}

func (t *transport) endAtShutdown(conn net.Conn) *stream {
	return &stream{conn, context.AfterFunc(t.open, func() { conn.Close() })}
}

func (s *stream) Close() error {
	s.release()
	if err := s.Conn.Close(); !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

// An admitted stream is from another, and counts with what was read from it until it is closed.
type admitted struct {
	*stream
	t      *transport
	client netip.Prefix
	read   int // owned by the reader, which closes
	closed bool
}

var errTooMuch = errors.New("streams from others hold more than the largest table, or from all more than two")

func (s *admitted) Read(b []byte) (int, error) {
	n, err := s.Conn.Read(b[:min(len(b), maxRead)])
	s.read += n
	if !s.t.hold(s.client, n) && s.read > maxRead { // what is small has room always
		return 0, errTooMuch
	}
	return n, err
}

func (s *admitted) Close() error {
	if !s.closed {
		s.closed = true
		s.t.give(s.client, s.read)
	}
	return s.stream.Close()
}
