package dnsserver

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"runtime/debug"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/nearcast/nearcast/healthmesh"
	"github.com/nearcast/nearcast/steer"
	"github.com/nearcast/nearcast/zones"
)

// The bounds of a server.
const (
	maxWorkers = 64              // UDP sockets of one address: more than cores gain nothing, and machines with more are rare
	maxQuery   = 4096            // octets of a query: the most that EDNS askers send over UDP; a query is a few hundred
	portTries  = 16              // for a port that is free for both TCP and UDP, where any will do
	panicPause = 1 * time.Minute // between two log lines of packets that cannot be answered
	closeTime  = 2 * time.Second // for open TCP connections at shutdown
	readBuffer = 4 << 20         // octets that the kernel may hold for a UDP socket: some 10 ms at full rate; it may give less
)

// Options are what a server serves.
type Options struct {
	Listen    []string                // "address:port" for UDP and TCP; no address: all; port 0: any, the same for both
	ListenTLS []string                // the same for DNS over TLS (RFC 7858), which Settings have a certificate for
	Settings  *Settings               // at first; see Apply
	Snapshot  func() *steer.Snapshot  // the newest; never nil
	View      func() *healthmesh.View // the newest, for explanations; never nil
	// Install makes the text, in the form of a zone file, the zone's copy and serves it, if it can be served. It may be
	// nil if no zone has primaries.
	Install func(ctx context.Context, zone, text string) error
	// Expire takes a zone out of service whose copy is too old. It may be nil if no zone has primaries.
	Expire func(ctx context.Context, zone string) error
	Log    *slog.Logger
}

// A Server is bound sockets and those that answer on them.
type Server struct {
	o        Options
	settings atomic.Pointer[Settings]
	tls      *tls.Config // asks the settings
	udp      []*udpWorker
	tcp      []*tcpListener
	addrs    []string
	limiter  *limiter
	notified func(zone string, from netip.Addr) // the feeder's; made once
	dropped  [causes]atomic.Uint64
	paniced  atomic.Int64 // when the last log line of a panic was, Unix nanoseconds

	journals  atomic.Pointer[journals] // of the snapshot's set; changed by Apply alone
	notifier  *notifier
	feeder    *feeder
	transfers *slots         // of those under way, out
	tcpMeters [4]lockedMeter // connections come and go, so they share a few
}

type lockedMeter struct {
	sync.Mutex
	Meter
}

// A cause is why a packet or a connection was dropped.
type cause int

const (
	noReply     cause = iota // Answer has none for it
	portZero                 // there is no way back to port 0
	tooLong                  // a query of more than maxQuery octets
	panicked                 // a defect of this program
	sendError                // the kernel refused the reply
	tcpLimit                 // too many connections: see crowd
	badProxy                 // a balancer that does not tell whose query it is
	noHandshake              // TLS did not come about
	causes
)

func (c cause) String() string {
	return [...]string{"no_reply", "port_zero", "too_long", "panic", "send_error", "tcp_limit", "bad_proxy_header", "no_tls_handshake"}[c]
}

// Listen binds all addresses, or none.
func Listen(o Options) (*Server, error) {
	s := &Server{o: o, limiter: newLimiter(), transfers: newSlots(maxTransfers, maxTransfersOf)}
	s.notifier, s.feeder = newNotifier(s), newFeeder(s)
	s.notified = s.feeder.notified
	s.journals.Store(&journals{})
	s.settings.Store(o.Settings)
	s.tls = &tls.Config{
		MinVersion: tls.VersionTLS12, NextProtos: []string{"dot"}, // RFC 7858, section 3.1; RFC 9325
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return s.settings.Load().certificate() },
	}
	for _, l := range o.Listen {
		if err := s.listenAll(l, s.listen); err != nil {
			return nil, errors.Join(fmt.Errorf("DNS address %s cannot be used: %w", l, err), s.Close())
		}
	}
	for _, l := range o.ListenTLS {
		if err := s.listenAll(l, s.listenTLS); err != nil {
			return nil, errors.Join(fmt.Errorf("DNS over TLS address %s cannot be used: %w", l, err), s.Close())
		}
	}
	return s, nil
}

// Apply makes the server use other settings from the next batch on. before and after are the zones before and after the
// reload that brought them: secondaries are told of what is new. Not to be called twice at once.
func (s *Server) Apply(settings *Settings, before, after *zones.Set) {
	s.settings.Store(settings)
	next, unseen := s.journals.Load().update(before, after)
	s.journals.Store(&next)
	for _, zone := range unseen {
		if settings.transfers[zone].isUsed() {
			s.o.Log.Warn("the zone changed and its serial is not newer: secondaries will not see it", "zone", zone)
		}
	}
	s.notifier.check()
	s.feeder.check()
}

// scene is what a batch that came now is answered from.
func (s *Server) scene() Scene {
	snapshot, now := s.o.Snapshot(), time.Now()
	return Scene{
		Snapshot: snapshot, Settings: s.settings.Load(), View: s.o.View, Now: now, tick: snapshot.Tick(now),
		Limiter: s.limiter, Journals: *s.journals.Load(), Notified: s.notified,
	}
}

// listenAll binds the addresses that "address:port" stands for.
func (s *Server) listenAll(text string, bind func(netip.AddrPort) error) error {
	addrs, err := addresses(text)
	for _, a := range addrs {
		if err == nil {
			err = bind(a)
		}
		if errors.Is(err, syscall.EAFNOSUPPORT) && len(addrs) > 1 {
			err = nil // a machine without one of the families serves the other
		}
	}
	return err
}

// listenTLS binds one address for DNS over TLS.
func (s *Server) listenTLS(a netip.AddrPort) error {
	ln, err := net.ListenTCP(network("tcp", a), net.TCPAddrFromAddrPort(a))
	if err != nil {
		return err
	}
	s.tcp = append(s.tcp, newTCPListener(s, ln, TLS))
	s.addrs = append(s.addrs, ln.Addr().String())
	return nil
}

// addresses are the addresses that "address:port" stands for: without an address, all of both families.
func addresses(listen string) ([]netip.AddrPort, error) {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return nil, err
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("%q is not a port", port)
	}
	if host == "" {
		return []netip.AddrPort{netip.AddrPortFrom(netip.IPv4Unspecified(), uint16(n)), netip.AddrPortFrom(netip.IPv6Unspecified(), uint16(n))}, nil
	}
	a, err := netip.ParseAddr(host)
	return []netip.AddrPort{netip.AddrPortFrom(a.Unmap(), uint16(n))}, err
}

// listen binds one address for TCP, which also tells if another server has it: UDP sockets of
// several servers could share it and split the queries.
func (s *Server) listen(a netip.AddrPort) error {
	var err error
	for range portTries {
		var ln *net.TCPListener
		if ln, err = net.ListenTCP(network("tcp", a), net.TCPAddrFromAddrPort(a)); err != nil {
			return err
		}
		bound := netip.AddrPortFrom(a.Addr(), uint16(ln.Addr().(*net.TCPAddr).Port))
		var workers []*udpWorker
		if workers, err = s.listenUDP(bound); err == nil {
			s.tcp = append(s.tcp, newTCPListener(s, ln, TCP))
			s.udp = append(s.udp, workers...)
			s.addrs = append(s.addrs, bound.String())
			return nil
		}
		err = errors.Join(err, ln.Close())
		if a.Port() != 0 {
			return err
		}
	}
	return err
}

func network(transport string, a netip.AddrPort) string {
	if a.Addr().Is4() {
		return transport + "4"
	}
	return transport + "6"
}

// listenUDP binds the workers' sockets; the kernel spreads queries over them by the asker's address and port.
func (s *Server) listenUDP(a netip.AddrPort) (workers []*udpWorker, err error) {
	for range min(runtime.GOMAXPROCS(0), maxWorkers, socketsPerAddress) {
		var lc net.ListenConfig
		lc.Control = func(_, _ string, c syscall.RawConn) error { return socketOptions(c, a.Addr()) }
		conn, err := lc.ListenPacket(context.Background(), network("udp", a), a.String())
		if err != nil {
			for _, w := range workers {
				err = errors.Join(err, w.conn.Close())
			}
			return nil, err
		}
		udp := conn.(*net.UDPConn)
		if !forceReadBuffer(udp) {
			_ = udp.SetReadBuffer(readBuffer) // best effort: the kernel's default works as well, with more loss in bursts
		}
		workers = append(workers, newUDPWorker(s, udp, a.Addr()))
	}
	return workers, nil
}

// Addrs are the addresses in use.
func (s *Server) Addrs() []string { return s.addrs }

// Serve answers until ctx ends; then it answers what has come in, and closes.
func (s *Server) Serve(ctx context.Context) error {
	var running sync.WaitGroup
	s.notifier.check()
	running.Go(func() { s.notifier.run(ctx) })
	s.feeder.check()
	running.Go(func() { s.feeder.run(ctx) })
	for _, w := range s.udp {
		running.Go(func() { w.run(ctx) })
	}
	for _, l := range s.tcp {
		running.Go(func() { l.run(ctx) })
	}
	running.Wait()
	return s.Close()
}

// Close closes the sockets of a server that does not serve.
func (s *Server) Close() error {
	var errs []error
	for _, w := range s.udp {
		errs = append(errs, w.conn.Close())
	}
	for _, l := range s.tcp {
		if err := l.ln.Close(); !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (s *Server) drop(c cause) { s.dropped[c].Add(1) }

// unwrap is a UDP query and its source; of a balancer those that it hands on.
func (s *Server) unwrap(packet []byte, source netip.Addr, settings *Settings) (query []byte, client netip.Addr, ok bool) {
	if !settings.isProxy(source) {
		return packet, source, true
	}
	from, n, err := proxySource(packet)
	switch {
	case err != nil:
		s.drop(badProxy)
		return nil, source, false
	case !from.IsValid():
		return packet[n:], source, true
	case from.Port() == 0: // the balancer has no way back either
		s.drop(portZero)
		return nil, source, false
	}
	return packet[n:], from.Addr(), true
}

// pauseFor lets a system in trouble be for a moment.
func pauseFor(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// answer is Answer, but a defect costs one reply and not the process.
func (s *Server) answer(out, q []byte, source netip.Addr, t Transport, scene *Scene, meter *Meter) (reply []byte) {
	defer s.survive(q, func() { reply = nil })
	if !isQuery(q) {
		s.drop(noReply)
		return nil
	}
	return Answer(out, q, source, t, scene, meter)
}

// survive ends a panic that the packet q brought about, and calls undo. It must be deferred itself.
func (s *Server) survive(q []byte, undo func()) {
	if p := recover(); p != nil {
		undo()
		s.logPanic(p, q)
		s.drop(panicked)
	}
}

// logPanic logs at most once in panicPause: whoever finds such a packet may send many.
func (s *Server) logPanic(p any, q []byte) {
	last, now := s.paniced.Load(), time.Now().UnixNano()
	if now-last > int64(panicPause) && s.paniced.CompareAndSwap(last, now) {
		s.o.Log.Error("a query could not be answered: a defect of nearcast", "panic", p, "query", fmt.Sprintf("%x", q), "stack", string(debug.Stack()))
	}
}
