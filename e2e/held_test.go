package e2e

import (
	"crypto/tls"
	"encoding/binary"
	"errors"
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
	held       = 2000 // connections that an attacker holds
	holders    = 40   // its addresses: each may have some of them
	dripPause  = time.Second
	newClients = 50
	soonEnough = 100 * time.Millisecond
)

// Connections that an attacker holds, idle or dripping a query octet by octet, keep no new client waiting.
func TestHeldConnections(t *testing.T) {
	need(t, "root")
	need(t, "resolvers")
	v := newVictim(t)
	for name, port := range map[string]uint16{"TCP": 53, "TLS": 853} {
		t.Run(name, func(t *testing.T) {
			stop := make(chan struct{})
			var holding sync.WaitGroup
			var open atomic.Int64
			for i := range holders {
				v.enterOwnThread(&holding, func() { hold(netip.AddrFrom4([4]byte{60, 2, byte(i), 1}), port, i%2 == 0, &open, stop) })
			}
			defer func() { close(stop); holding.Wait() }()
			v.until("the attacker holds what it can", func() bool { return open.Load() >= held })
			var took []time.Duration
			for i := range newClients {
				v.do(func() {
					begin := time.Now()
					conn, err := dialFrom(netip.AddrFrom4([4]byte{60, 3, byte(i), 1}), true, port)
					if err != nil {
						t.Error(err)
						return
					}
					defer conn.Close()
					if port == 853 {
						conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
					}
					q := new(dns.Msg).SetQuestion("www.geo.example.com.", dns.TypeA)
					if r, _, err := (&dns.Client{Timeout: deadline}).ExchangeWithConn(q, &dns.Conn{Conn: conn}); err != nil || len(r.Answer) != 1 {
						t.Errorf("%v, %v", r, err)
					}
					took = append(took, time.Since(begin))
				})
			}
			slices.Sort(took)
			t.Logf("%d connections held (%d at the server); %d new clients: answered within %v at the median, %v at the most",
				open.Load(), v.metric("nearcast_tcp_connections"), len(took), took[len(took)/2], took[len(took)-1])
			if took[len(took)/2] > soonEnough { // one of them may wait for this machine
				t.Errorf("a new client waits for %v", took[len(took)/2])
			}
		})
	}
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
