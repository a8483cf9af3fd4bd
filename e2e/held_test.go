package e2e

import (
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
)

const (
	held        = 2000 // connections that an attacker opens at each port, and opens again when the server closes them
	holders     = 40   // its addresses: each may have some of them
	dripPause   = time.Second
	holdTime    = 12 * time.Second // longer than the server waits for any query
	clientPause = 150 * time.Millisecond
	soonEnough  = 100 * time.Millisecond // for most
	lateEnough  = time.Second            // for those that wait for this machine; who waited for an attacker's connection would wait for 5 s
)

// Connections that an attacker holds, idle or dripping a query octet by octet, keep no new client waiting.
func TestHeldConnections(t *testing.T) {
	need(t, "root")
	need(t, "resolvers")
	v := newVictim(t)
	ports := []struct {
		name   string
		number uint16
		open   atomic.Int64
		took   []time.Duration
	}{{name: "TCP", number: 53}, {name: "TLS", number: 853}}
	stop := make(chan struct{})
	var holding sync.WaitGroup
	for i := range ports {
		p := &ports[i]
		for j := range holders {
			v.enterOwnThread(&holding, func() { hold(netip.AddrFrom4([4]byte{60, 2, byte(j), 1}), p.number, j%2 == 0, &p.open, stop) })
		}
	}
	defer func() { close(stop); holding.Wait() }()
	v.until("the attacker has opened what it can", func() bool { return ports[0].open.Load() >= held && ports[1].open.Load() >= held })
	client := 0
	for begin := time.Now(); time.Since(begin) < holdTime; time.Sleep(clientPause) {
		for i := range ports {
			client++
			from := netip.AddrFrom4([4]byte{60, 3, byte(client >> 8), byte(client)})
			took, err := v.newClient(from, ports[i].number)
			if err != nil {
				t.Errorf("%s: %v", ports[i].name, err)
			}
			ports[i].took = append(ports[i].took, took)
		}
	}
	t.Logf("%d connections at the server", v.metric("nearcast_tcp_connections"))
	for i := range ports {
		took := ports[i].took
		slices.Sort(took)
		most := took[len(took)*95/100]
		t.Logf("%s: %d connections held; %d new clients: answered within %v at the median, %v for 95 %% of them, %v at the most",
			ports[i].name, ports[i].open.Load(), len(took), took[len(took)/2], most, took[len(took)-1])
		if took[len(took)/2] > soonEnough || most > lateEnough {
			t.Errorf("%s: new clients wait for %v, some for %v", ports[i].name, took[len(took)/2], most)
		}
	}
}

// newClient asks over a new connection; it tells how long that took.
func (v *victim) newClient(from netip.Addr, port uint16) (took time.Duration, err error) {
	v.do(func() {
		begin := time.Now()
		var conn net.Conn
		if conn, err = dialFrom(from, true, port); err != nil {
			return
		}
		defer conn.Close()
		if port == 853 {
			conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
		}
		q := new(dns.Msg).SetQuestion("www.geo.example.com.", dns.TypeA)
		var r *dns.Msg
		if r, _, err = (&dns.Client{Timeout: deadline}).ExchangeWithConn(q, &dns.Conn{Conn: conn}); err == nil && len(r.Answer) != 1 {
			err = fmt.Errorf("no answer: %v", r)
		}
		took = time.Since(begin)
	})
	return took, err
}

// hold keeps an address's share of the connections open, and opens again what the server closes.
func hold(from netip.Addr, port uint16, drip bool, open *atomic.Int64, stop <-chan struct{}) {
	query, err := new(dns.Msg).SetQuestion("www.geo.example.com.", dns.TypeA).Pack()
	if err != nil {
		panic(err)
	}
	query = binary.BigEndian.AppendUint16(nil, uint16(len(query)))
	conns := make([]net.Conn, held/holders)
	octets := make([]int, len(conns))
	defer func() {
		for _, c := range conns {
			if c != nil {
				c.Close()
			}
		}
	}()
	buf := make([]byte, 1)
	for begin := time.Now(); !closed(stop); time.Sleep(time.Until(begin)) {
		begin = begin.Add(dripPause)
		for i := range conns {
			if c := conns[i]; c != nil {
				c.SetReadDeadline(time.Now().Add(time.Microsecond))
				_, err := c.Read(buf)
				if errors.Is(err, os.ErrDeadlineExceeded) {
					err = nil
				}
				if err == nil && drip {
					_, err = c.Write(query[octets[i]%len(query):][:1])
					octets[i]++
				}
				if err == nil {
					continue
				}
				c.Close()
				conns[i] = nil
				open.Add(-1)
			}
			if c, err := dialFrom(from, true, port); err == nil {
				conns[i], octets[i] = c, 0
				open.Add(1)
			}
		}
	}
	for _, c := range conns {
		if c != nil {
			open.Add(-1)
		}
	}
}
