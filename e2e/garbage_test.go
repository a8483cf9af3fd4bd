package e2e

import (
	"math/rand/v2"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	garbage      = 10_000 // datagrams at each port
	garbageTCP   = 200    // connections at each port
	fewLogLines  = 60
	garbageBurst = 16
)

// Garbage at every port brings nothing down, and the log does not grow with it.
func TestGarbageAtEveryPort(t *testing.T) {
	need(t, "root")
	need(t, "resolvers")
	v := newVictim(t)
	before := strings.Count(v.log.String(), "\n")
	var sending sync.WaitGroup
	ports := []uint16{53, 853, 8053, 7946}
	for i, port := range ports {
		for _, source := range []netip.Addr{netip.MustParseAddr("60.0.0.1"), netip.MustParseAddr("60.1.0.1")} { // the latter is a balancer's
			v.enterOwnThread(&sending, func() { throwGarbage(t, source, port, uint64(i)) })
		}
	}
	sending.Wait()
	if text := v.lookup("www.geo.example.com."); !strings.Contains(text, "192.0.2.101") && !strings.Contains(text, "192.0.2.102") {
		t.Errorf("after the garbage: %s", text)
	}
	lines := strings.Count(v.log.String(), "\n") - before
	t.Logf("%d datagrams and %d connections at each of %d ports: %d lines in the log; %d not answered, %d queries",
		2*garbage, 2*garbageTCP, len(ports), lines, v.metric("nearcast_dns_dropped_total"), v.metric("nearcast_dns_queries_total"))
	if lines > fewLogLines {
		t.Errorf("%d lines in the log:\n%s", lines, tail([]byte(v.log.String()), 6000))
	}
	if v.metric("nearcast_dns_dropped_total") < garbage/2 {
		t.Errorf("the garbage has not arrived")
	}
}

// throwGarbage sends a port what is random, and what begins well and goes on at random.
func throwGarbage(t *testing.T, from netip.Addr, port uint16, seed uint64) {
	random := rand.New(rand.NewPCG(seed, 2))
	begins := [][]byte{
		nil,
		{0x12, 0x34, 0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, 1, 3, 'w', 'w', 'w', 3, 'g', 'e', 'o'},
		[]byte("\r\n\r\n\x00\r\nQUIT\n\x21\x11"),
		[]byte("GET /api/v1/"),
		{0x16, 3, 1, 2, 0, 1},
		{0, 40, 0x12, 0x34, 1, 0, 0, 1},
		{0x01}, {0x06}, {0x07}, {0x09}, {0x0a}, {0x0c}, // kinds of gossip
	}
	text := func() []byte {
		b := append([]byte(nil), begins[random.IntN(len(begins))]...)
		for range random.IntN(400) {
			b = append(b, byte(random.Uint32()))
		}
		return b
	}
	udp, err := dialFrom(from, false, port)
	if err != nil {
		t.Error(err)
		return
	}
	defer udp.Close()
	for i := range garbage {
		udp.Write(text()) // refused where nothing listens
		if i%garbageBurst == 0 {
			time.Sleep(time.Millisecond)
		}
	}
	for range garbageTCP {
		conn, err := dialFrom(from, true, port)
		if err != nil {
			continue // the port does not want more of this client
		}
		conn.SetDeadline(time.Now().Add(time.Second))
		for range 1 + random.IntN(20) {
			if _, err := conn.Write(text()); err != nil {
				break
			}
		}
		conn.Close()
	}
}
