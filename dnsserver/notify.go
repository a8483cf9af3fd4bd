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
	notifyOf    = 4               // of one secondary: one that is dead does not keep the others waiting
	notifyTime  = 2 * time.Second // for a reply
)

// A notifier tells secondaries of new versions. Its goroutine is Server.Serve's; each secondary of a zone that is being told has
// one below it.
type notifier struct {
	s       *Server
	changed chan struct{} // of capacity 1: there may be something to tell
	slots   *slots
	tally   *tally
	mu      sync.Mutex // guards notices
	notices map[secondary]*notice
}

type secondary struct{ zone, address string }

// A notice is what a secondary was told, or is being told. A reload leaves those alone whose version it did not change.
type notice struct {
	serial uint32
	stop   context.CancelFunc
}

func newNotifier(s *Server) *notifier {
	return &notifier{s: s, changed: make(chan struct{}, 1), slots: newSlots(notifyOnce, notifyOf), tally: &tally{log: s.o.Log}, notices: map[secondary]*notice{}}
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
	var running sync.WaitGroup
	defer running.Wait()
	for {
		select {
		case <-ctx.Done():
			return
		case <-n.changed:
		}
		wanted := n.wanted()
		n.mu.Lock()
		for to, old := range n.notices {
			if z := wanted[to]; z == nil || z.Serial() != old.serial {
				old.stop()
				delete(n.notices, to)
			}
		}
		for to, z := range wanted {
			if n.notices[to] != nil {
				continue
			}
			each, stop := context.WithCancel(ctx)
			this := &notice{z.Serial(), stop}
			n.notices[to] = this
			running.Go(func() {
				defer stop()
				if !n.tell(each, to, z) {
					n.forget(to, this)
				}
			})
		}
		n.mu.Unlock()
	}
}

// wanted is whom to tell of which zones.
func (n *notifier) wanted() map[secondary]*zones.Zone {
	wanted, settings := map[secondary]*zones.Zone{}, n.s.settings.Load()
	for _, z := range n.s.o.Snapshot().Set.Zones {
		if rule := settings.transfers[z.Name]; rule != nil && z.Absent == "" {
			for _, address := range rule.notify {
				wanted[secondary{z.Name, address}] = z
			}
		}
	}
	return wanted
}

// forget has the next reload tell a secondary that did not reply once more.
func (n *notifier) forget(to secondary, this *notice) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.notices[to] == this {
		delete(n.notices, to)
	}
}

// tell tells one secondary of the zone's version until it replies.
func (n *notifier) tell(ctx context.Context, to secondary, z *zones.Zone) (told bool) {
	pause := notifyPause
	for try := 1; ; try++ {
		give, err := n.slots.take(ctx, to.address)
		if err != nil {
			return false
		}
		err = n.s.notify(ctx, z, to.address)
		give()
		switch {
		case err == nil:
			n.s.o.Log.Info("secondary notified", "zone", z.Name, "secondary", to.address, "serial", z.Serial())
			return true
		case ctx.Err() != nil:
			return false
		case try == notifyTries:
			n.tally.warn("secondary does not reply to NOTIFY", "zone", z.Name, "secondary", to.address, "serial", z.Serial(), "tries", try, "error", err)
			return false
		}
		pauseFor(ctx, pause)
		pause *= 2
	}
}

// notify sends one NOTIFY and waits for its reply.
func (s *Server) notify(ctx context.Context, z *zones.Zone, address string) error {
	m := new(dns.Msg).SetNotify(z.Name)
	m.Answer = z.Records[:1]
	var k *key
	if rule := s.settings.Load().transfers[z.Name]; rule != nil && len(rule.keys) > 0 {
		k = rule.keys[0]
	}
	r, err := s.exchange(ctx, m, "udp", address, k, notifyTime)
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
