package dnsserver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/miekg/dns"

	"github.com/nearcast/nearcast/zones"
)

const acceptedServer = `"address" or "address:port", such as 192.0.2.1 or [2001:db8::1]:53`

// serverAddress is the "address:port" of a server, at port 53 if none is named.
func serverAddress(text string) (string, error) {
	if a, err := netip.ParseAddr(text); err == nil {
		return netip.AddrPortFrom(a, 53).String(), nil
	}
	p, err := netip.ParseAddrPort(text)
	if err == nil && p.Port() == 0 {
		err = errors.New("port 0")
	}
	return p.String(), err
}

// The bounds of NOTIFY (RFC 1996, section 3.6).
const (
	notifyTries = 6               // then the secondary's refresh timer has to do
	notifyPause = 2 * time.Second // after the first try; it doubles
	notifyOnce  = 32              // questions at once
	notifyTime  = 2 * time.Second // for a reply
)

// A notifier tells secondaries of new versions. Its goroutine is Server.Serve's.
type notifier struct {
	s       *Server
	changed chan struct{} // of capacity 1: there may be something to tell
	told    map[notice]uint32
	mu      sync.Mutex // guards told
}

// A notice is one secondary of one zone.
type notice struct{ zone, address string }

func newNotifier(s *Server) *notifier {
	return &notifier{s: s, changed: make(chan struct{}, 1), told: map[notice]uint32{}}
}

// check has the notifier look for what there is to tell.
func (n *notifier) check() {
	select {
	case n.changed <- struct{}{}:
	default: // it will look anyway
	}
}

// run tells of what there is at first, and of changes, until ctx ends.
func (n *notifier) run(ctx context.Context) {
	var round sync.WaitGroup
	stop := func() {}
	for {
		select {
		case <-ctx.Done():
			stop()
			round.Wait()
			return
		case <-n.changed:
		}
		stop()
		round.Wait()
		var all context.Context
		all, stop = context.WithCancel(ctx)
		settings, set := n.s.settings.Load(), n.s.o.Snapshot().Set
		slots := make(chan struct{}, notifyOnce)
		for _, z := range set.Zones {
			rule := settings.transfers[z.Name]
			if rule == nil || z.Absent != "" {
				continue
			}
			for _, address := range rule.notify {
				round.Go(func() { n.tell(all, slots, z, address, rule) })
			}
		}
	}
}

// tell tells one secondary of the zone's version, unless it knows, until it replies.
func (n *notifier) tell(ctx context.Context, slots chan struct{}, z *zones.Zone, address string, rule *transferRule) {
	to := notice{z.Name, address}
	n.mu.Lock()
	serial, known := n.told[to]
	n.mu.Unlock()
	if known && serial == z.Serial() {
		return
	}
	pause := notifyPause
	for try := 1; ; try++ {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return
		}
		err := n.s.notify(ctx, z, address, rule)
		<-slots
		if err == nil {
			n.mu.Lock()
			defer n.mu.Unlock()
			n.told[to] = z.Serial()
			n.s.o.Log.Info("secondary notified", "zone", z.Name, "secondary", address, "serial", z.Serial())
			return
		}
		if ctx.Err() != nil {
			return
		}
		if try == notifyTries {
			n.s.o.Log.Warn("secondary does not reply to NOTIFY", "zone", z.Name, "secondary", address, "serial", z.Serial(), "tries", try, "error", err)
			return
		}
		pauseFor(ctx, pause)
		pause *= 2
	}
}

// notify sends one NOTIFY and waits for its reply.
func (s *Server) notify(ctx context.Context, z *zones.Zone, address string, rule *transferRule) error {
	m := new(dns.Msg).SetNotify(z.Name)
	m.Answer = z.Records[:1]
	client := dns.Client{Timeout: notifyTime, Dialer: s.dialer("udp", address)}
	if len(rule.keys) > 0 {
		k := rule.keys[0]
		m.SetTsig(k.name, k.algorithm, tsigFudge, time.Now().Unix())
		client.TsigSecret = map[string]string{k.name: k.secret}
	}
	r, _, err := client.ExchangeContext(ctx, m, address)
	if err == nil && r.Rcode != dns.RcodeSuccess {
		err = fmt.Errorf("rcode %s", dns.RcodeToString[r.Rcode])
	}
	return err
}

// dialer dials from the address that this server answers on: by it, others know a server of the zone.
func (s *Server) dialer(transport, address string) *net.Dialer {
	d := &net.Dialer{Timeout: exchangeTimeout}
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return d
	}
	for _, text := range s.addrs {
		from, err := netip.ParseAddrPort(text)
		if err != nil || from.Addr().Is4() != to.Addr().Is4() || from.Addr().IsUnspecified() || from.Addr().IsLoopback() != to.Addr().IsLoopback() {
			continue
		}
		local := netip.AddrPortFrom(from.Addr(), 0)
		if transport == "udp" {
			d.LocalAddr = net.UDPAddrFromAddrPort(local)
		} else {
			d.LocalAddr = net.TCPAddrFromAddrPort(local)
		}
		break
	}
	return d
}
