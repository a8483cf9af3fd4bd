package steer_test

import (
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/memberlist"
)

// The bounds of a network in memory.
const (
	socketPackets = 512                    // that wait for a node, as many as the kernel's usual 208 KiB hold; what comes then is lost
	backlog       = 64                     // streams that wait for a node to accept them
	flowBytes     = 256 << 10              // on their way in one direction of a stream; a writer waits for room
	heldPackets   = 16                     // of a paused node, that it had made but not sent
	retransmit    = 200 * time.Millisecond // until what a stream lost is sent again
)

// A simnet is a network in memory for one bubble of synctest. What it draws comes from one seed.
type simnet struct {
	mu       sync.Mutex
	rng      *rand.Rand          // guarded by mu
	weather  weather             // guarded by mu
	cuts     map[link]cut        // guarded by mu; absent: open
	stations map[string]*station // guarded by mu; by address
}

// A weather is how packets and streams fare on all links.
type weather struct {
	delay, jitter     time.Duration // one way; jitter alone makes packets overtake each other
	loss, twice, late float64       // the part of packets that is lost, comes twice, or comes up to a second later
}

// A link is one direction between two addresses.
type link struct{ from, to string }

// A cut is what a link does not carry. Counted: faults overlap.
type cut struct{ packets, streams int }

func newSimnet(rng *rand.Rand, w weather) *simnet {
	return &simnet{rng: rng, weather: w, cuts: make(map[link]cut), stations: make(map[string]*station)}
}

func (n *simnet) set(w weather) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.weather = w
}

// change adds to what cuts the links.
func (n *simnet) change(by cut, links ...link) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, l := range links {
		c := n.cuts[l]
		n.cuts[l] = cut{c.packets + by.packets, c.streams + by.streams}
	}
}

// open says whether packets pass.
func (n *simnet) open(l link) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.cuts[l].packets == 0
}

// streams says whether streams between two addresses pass.
func (n *simnet) streams(a, b string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.cuts[link{a, b}].streams == 0 && n.cuts[link{b, a}].streams == 0
}

// trip is how long what leaves now is on its way. Called with mu held.
func (n *simnet) trip() time.Duration {
	return n.weather.delay + time.Duration(n.rng.Float64()*float64(n.weather.jitter))
}

// A station is a node's place in the network: its memberlist's transport.
type station struct {
	net     *simnet
	addr    string
	ip      net.IP
	port    int
	packets chan *memberlist.Packet
	streams chan net.Conn
	gone    chan struct{} // closed with the station

	// Guarded by net.mu.
	closed bool                 // the process is gone
	dark   bool                 // the machine is gone: nothing tells peers that the process is
	paused chan struct{}        // closed at resumption; nil if the node runs
	out    []func()             // packets that the node had made when it was paused
	in     []*memberlist.Packet // that came meanwhile
	conns  map[*simconn]bool    // open ones
	sent   traffic              // since the start
}

// A traffic is what a node sends: payload, without the headers of UDP, TCP and IP.
type traffic struct{ packets, bytes, streamed int }

func (t traffic) since(o traffic) traffic {
	return traffic{t.packets - o.packets, t.bytes - o.bytes, t.streamed - o.streamed}
}

// traffic is what the node has sent since its start.
func (s *station) traffic() traffic {
	s.net.mu.Lock()
	defer s.net.mu.Unlock()
	return s.sent
}

var _ memberlist.NodeAwareTransport = (*station)(nil)

// station opens a place at an address, which must be free.
func (n *simnet) station(ip string, port int) *station {
	s := &station{
		net: n, ip: net.ParseIP(ip), port: port, addr: (&net.TCPAddr{IP: net.ParseIP(ip), Port: port}).String(),
		packets: make(chan *memberlist.Packet, socketPackets), streams: make(chan net.Conn, backlog), gone: make(chan struct{}), conns: make(map[*simconn]bool),
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.stations[s.addr] = s
	return s
}

func (s *station) Network() string { return "sim" }
func (s *station) String() string  { return s.addr }

func (s *station) FinalAdvertiseAddr(string, int) (net.IP, int, error) { return s.ip, s.port, nil }
func (s *station) PacketCh() <-chan *memberlist.Packet                 { return s.packets }
func (s *station) StreamCh() <-chan net.Conn                           { return s.streams }

func (s *station) WriteTo(b []byte, addr string) (time.Time, error) {
	return s.WriteToAddress(b, memberlist.Address{Addr: addr})
}

// WriteToAddress sends a packet, and never blocks.
func (s *station) WriteToAddress(b []byte, to memberlist.Address) (time.Time, error) {
	b = append([]byte(nil), b...)
	s.net.mu.Lock()
	defer s.net.mu.Unlock()
	switch {
	case s.closed:
		return time.Now(), net.ErrClosed
	case s.paused == nil:
		s.send(b, to.Addr)
	case len(s.out) < heldPackets:
		s.out = append(s.out, func() { s.send(b, to.Addr) })
	}
	return time.Now(), nil
}

// send puts a packet on its way. Called with net.mu held.
func (s *station) send(b []byte, to string) {
	n := s.net
	s.sent.packets++
	s.sent.bytes += len(b)
	if n.cuts[link{s.addr, to}].packets > 0 || n.rng.Float64() < n.weather.loss {
		return
	}
	copies := 1
	if n.rng.Float64() < n.weather.twice {
		copies = 2
	}
	for range copies {
		after := n.trip()
		if n.rng.Float64() < n.weather.late {
			after += time.Duration(n.rng.Int64N(int64(time.Second)))
		}
		time.AfterFunc(after, func() {
			n.mu.Lock()
			defer n.mu.Unlock()
			if d := n.stations[to]; d != nil {
				// A copy each, since memberlist decodes in place.
				d.receive(&memberlist.Packet{Buf: append([]byte(nil), b...), From: s, Timestamp: time.Now()})
			}
		})
	}
}

// receive puts a packet into the node's socket. Called with net.mu held.
func (s *station) receive(p *memberlist.Packet) {
	switch {
	case s.closed:
	case s.paused != nil:
		if len(s.in) < socketPackets {
			s.in = append(s.in, p)
		}
	default:
		select {
		case s.packets <- p:
		default:
		}
	}
}

// pause stops the node as far as others can see: it sends nothing, and what it is sent waits.
func (s *station) pause() {
	s.net.mu.Lock()
	defer s.net.mu.Unlock()
	s.paused = make(chan struct{})
}

// resume lets it go on: first with what it was about to send and what it was sent.
func (s *station) resume() {
	s.net.mu.Lock()
	defer s.net.mu.Unlock()
	s.wake()
}

func (s *station) wake() {
	if s.paused == nil {
		return
	}
	close(s.paused)
	out, in := s.out, s.in
	s.paused, s.out, s.in = nil, nil, nil
	for _, send := range out {
		send()
	}
	for _, p := range in {
		p.Timestamp = time.Now()
		s.receive(p)
	}
}

// Shutdown closes the station: peers of its streams are told by resets. It can be called again.
func (s *station) Shutdown() error {
	s.close(false)
	return nil
}

// close ends the station. With dark, no peer is told.
func (s *station) close(dark bool) {
	s.net.mu.Lock()
	if s.closed {
		s.net.mu.Unlock()
		return
	}
	s.closed, s.dark = true, dark
	close(s.gone)
	s.out, s.in = nil, nil
	s.wake()
	if s.net.stations[s.addr] == s && !dark {
		delete(s.net.stations, s.addr)
	}
	conns := make([]*simconn, 0, len(s.conns))
	for c := range s.conns {
		conns = append(conns, c)
	}
	s.net.mu.Unlock()
	for _, c := range conns {
		c.end(!dark, !dark)
	}
}

func (s *station) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	return s.DialAddressTimeout(memberlist.Address{Addr: addr}, timeout)
}

// DialAddressTimeout opens a stream: a round trip, tried again while a link is cut.
func (s *station) DialAddressTimeout(to memberlist.Address, timeout time.Duration) (net.Conn, error) {
	deadline := time.Now().Add(timeout)
	for {
		c, after, err := s.connect(to.Addr)
		if nothing := c == nil && err == nil; nothing {
			after = min(retransmit, time.Until(deadline))
		}
		select {
		case <-time.After(after):
		case <-s.gone:
			return nil, net.ErrClosed
		}
		switch {
		case err != nil:
			return nil, err
		case c != nil:
			return c, nil
		case !time.Now().Before(deadline):
			return nil, &net.OpError{Op: "dial", Net: "sim", Addr: s, Err: os.ErrDeadlineExceeded}
		}
	}
}

// connect tries once: neither a stream nor an error means that nothing came back.
func (s *station) connect(to string) (c *simconn, after time.Duration, err error) {
	n := s.net
	n.mu.Lock()
	defer n.mu.Unlock()
	d := n.stations[to]
	switch {
	case s.closed:
		return nil, 0, net.ErrClosed
	case s.paused != nil, n.cuts[link{s.addr, to}].streams > 0, n.cuts[link{to, s.addr}].streams > 0, d != nil && d.dark, n.rng.Float64() < n.weather.loss:
		return nil, 0, nil
	case d == nil:
		return nil, 2 * n.trip(), syscall.ECONNREFUSED
	}
	near, far := newStream(s, d)
	select {
	case d.streams <- far:
	default:
		return nil, 0, nil // the backlog is full
	}
	s.conns[near], d.conns[far] = true, true
	return near, 2 * n.trip(), nil
}

// token puts a token into a channel of capacity 1, unless one is there.
func token(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
