package dnsserver

import (
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/nearcast/nearcast/zones"
)

// A secondary hears of the first version and of every newer one, until it replies.
func TestNotify(t *testing.T) {
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	heard := make(chan uint32, 16)
	var queries atomic.Int32
	secondary := &dns.Server{PacketConn: pc, TsigSecret: map[string]string{"good.": goodSecret}, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		if queries.Add(1) == 1 {
			return // as if it were lost
		}
		m := new(dns.Msg).SetReply(q)
		if q.Opcode != dns.OpcodeNotify || q.IsTsig() == nil || w.TsigStatus() != nil || len(q.Answer) != 1 {
			t.Errorf("heard %v, %v", q, w.TsigStatus())
		}
		m.SetTsig("good.", dns.HmacSHA256, tsigFudge, time.Now().Unix())
		if err := w.WriteMsg(m); err != nil {
			t.Error(err)
		}
		heard <- q.Answer[0].(*dns.SOA).Serial
	}), MsgAcceptFunc: func(dns.Header) dns.MsgAcceptAction { return dns.MsgAccept }}
	go secondary.ActivateAndServe()
	t.Cleanup(func() { secondary.Shutdown() })

	set := version(t, 7, nil)
	scene := build(t, nil, nil)
	withTransfers(t, scene, TransferConfig{Keys: []string{"good"}, Notify: []string{pc.LocalAddr().String()}})
	server, use := serveVersions(t, scene, set)
	expect := func(serial uint32) {
		t.Helper()
		select {
		case got := <-heard:
			if got != serial {
				t.Errorf("heard of %d, want %d", got, serial)
			}
		case <-time.After(patience):
			t.Fatalf("not heard of %d", serial)
		}
	}
	for range 50 { // reloads that change nothing here neither hurry nor hinder
		use(set)
		time.Sleep(time.Millisecond)
	}
	if n := queries.Load(); n > 1 {
		t.Errorf("%d tries at once", n)
	}
	expect(7)
	next := version(t, 8, []int{1})
	use(next)
	expect(8)
	use(next)
	select {
	case got := <-heard:
		t.Errorf("heard of %d again", got)
	case <-time.After(100 * time.Millisecond):
	}
	// What is not served any more is forgotten.
	use(load(t, nil))
	use(&zones.Set{})
	known := func() int {
		server.notifier.mu.Lock()
		defer server.notifier.mu.Unlock()
		return len(server.notifier.notices)
	}
	if !within(func() bool { return known() == 0 }) {
		t.Errorf("%d notices of zones that are gone", known())
	}
}

// A secondary that does not verify what it hears, and so does not sign, has not heard.
func TestUnsignedReplyToNotifyIsNone(t *testing.T) {
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	secondary := &dns.Server{PacketConn: pc, MsgAcceptFunc: func(dns.Header) dns.MsgAcceptAction { return dns.MsgAccept }, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		if err := w.WriteMsg(new(dns.Msg).SetReply(q)); err != nil {
			t.Error(err)
		}
	})}
	go secondary.ActivateAndServe()
	t.Cleanup(func() { secondary.Shutdown() })
	set := version(t, 7, nil)
	scene := build(t, nil, nil)
	for _, keys := range [][]string{nil, {"good"}} {
		withTransfers(t, scene, TransferConfig{Keys: keys, Notify: []string{pc.LocalAddr().String()}})
		s, _ := serveVersions(t, scene, set)
		if err := s.notify(t.Context(), set.Zones[0], pc.LocalAddr().String()); (err == nil) != (keys == nil) {
			t.Errorf("keys %v: %v", keys, err)
		}
	}
}
