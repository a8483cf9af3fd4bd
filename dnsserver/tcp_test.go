package dnsserver

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"runtime"
	"testing"
	"time"

	"github.com/miekg/dns"
)

func dial(t *testing.T, s *Server) net.Conn {
	t.Helper()
	conn, err := net.DialTimeout("tcp", s.Addrs()[0], patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return conn
}

// framed is a query as TCP carries it.
func framed(t *testing.T, q *dns.Msg) []byte {
	t.Helper()
	b, err := q.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...)
}

func readFramed(t *testing.T, r io.Reader) *dns.Msg {
	t.Helper()
	head := make([]byte, 2)
	if _, err := io.ReadFull(r, head); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, binary.BigEndian.Uint16(head))
	if _, err := io.ReadFull(r, b); err != nil {
		t.Fatal(err)
	}
	m := new(dns.Msg)
	if err := m.Unpack(b); err != nil {
		t.Fatal(err)
	}
	return m
}

// Queries sent in one piece, in many, and cut anywhere are answered in order.
func TestPipelining(t *testing.T) {
	s, _ := start(t, "127.0.0.1:0")
	conn := dial(t, s)
	var all []byte
	var ids []uint16
	for i := range 200 {
		q := question(fmt.Sprintf("x%d.wild", i))
		ids = append(ids, q.Id)
		all = append(all, framed(t, q)...)
	}
	go func() {
		for piece := 1; len(all) > 0; piece = piece%97 + 1 {
			n := min(piece, len(all))
			if _, err := conn.Write(all[:n]); err != nil {
				return // the reader sees it
			}
			all = all[n:]
		}
	}()
	for i, id := range ids {
		if m := readFramed(t, conn); m.Id != id || len(m.Answer) != 1 {
			t.Fatalf("reply %d is %v", i, m)
		}
	}
}

// A connection that had large replies holds no room for such.
func TestLargeRepliesLeaveNothing(t *testing.T) {
	s, _ := start(t, "127.0.0.1:0")
	heap := func() int {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC() // what pools keep goes with the second
		runtime.ReadMemStats(&m)
		return int(m.HeapAlloc)
	}
	q := question("big")
	q.Question[0].Qtype = dns.TypeTXT
	many := bytes.Repeat(framed(t, q), maxUnsent/4000)
	const conns = 50
	before := heap()
	for range conns {
		conn := dial(t, s)
		if _, err := conn.Write(many); err != nil {
			t.Fatal(err)
		}
		for range maxUnsent / 4000 {
			readFramed(t, conn)
		}
	}
	for end := time.Now().Add(idleTime / 2); ; time.Sleep(time.Millisecond) { // the last may not have come back from its write
		each := (heap() - before) / conns
		if each < 2*maxKept {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("a connection holds %d octets", each)
		}
	}
}

// What is no query ends the connection, after the replies to what came with it.
func TestRepliesGoOutBeforeTheEnd(t *testing.T) {
	s, _ := start(t, "127.0.0.1:0")
	for name, last := range map[string][]byte{
		"a length of 0":     {0, 0},
		"a reply":           append([]byte{0, 12, 0, 0, 0x80}, make([]byte, 9)...),
		"a query cut short": {0, 40, 1},
		"a query too long":  {0xff, 0xff},
	} {
		conn := dial(t, s)
		q := question("mail")
		if _, err := conn.Write(append(bytes.Repeat(framed(t, q), 3), last...)); err != nil {
			t.Fatal(err)
		}
		if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if m := readFramed(t, conn); m.Id != q.Id {
				t.Errorf("%s: %v", name, m)
			}
		}
		if n, _ := conn.Read(make([]byte, 1)); n != 0 {
			t.Errorf("%s: a reply", name)
		}
	}
}

func TestTCPCutsOff(t *testing.T) {
	s, _ := start(t, "127.0.0.1:0")
	for name, b := range map[string][]byte{
		"a length of 0":        {0, 0},
		"a query too long":     {0xff, 0xff},
		"a reply":              append([]byte{0, 12, 0, 0, 0x80}, make([]byte, 9)...),
		"half a header's size": {0, 3, 1, 2, 3},
	} {
		conn := dial(t, s)
		if _, err := conn.Write(b); err != nil {
			t.Fatal(err)
		}
		if n, err := conn.Read(make([]byte, 1)); n != 0 || err == nil {
			t.Errorf("%s: a reply", name)
		}
	}
}

// One client cannot take all connections, and those that it has are given back.
func TestClientConnectionsAreBounded(t *testing.T) {
	s, _ := start(t, "127.0.0.1:0")
	var conns []net.Conn
	for range maxClientConns {
		conn := dial(t, s)
		conns = append(conns, conn)
		if _, err := conn.Write(framed(t, question("mail"))); err != nil {
			t.Fatal(err)
		}
		readFramed(t, conn)
	}
	more := dial(t, s)
	if n, err := more.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Fatal("a connection beyond the bound is served")
	}
	if d := gather(t, s)["nearcast_dns_dropped_total"]["tcp_limit"]; d != 1 {
		t.Errorf("%v dropped, want 1", d)
	}
	conns[0].Close()
	deadline := time.Now().Add(patience)
	for gather(t, s)["nearcast_tcp_connections"][""] >= maxClientConns {
		if time.Now().After(deadline) {
			t.Fatal("a closed connection still counts")
		}
		time.Sleep(time.Millisecond)
	}
	conn := dial(t, s)
	if _, err := conn.Write(framed(t, question("mail"))); err != nil {
		t.Fatal(err)
	}
	readFramed(t, conn)
}

// Who drips octets is cut within messageTime, and others are served meanwhile.
func TestSlowClientIsCut(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for the time that a query may take")
	}
	s, _ := start(t, "127.0.0.1:0")
	slow := dial(t, s)
	b := framed(t, question("mail"))
	begin := time.Now()
	for i := 0; ; i++ {
		if _, err := slow.Write(b[i%4 : i%4+1]); err != nil {
			break
		}
		c := dns.Client{Net: "tcp", Timeout: patience}
		if _, _, err := c.Exchange(question("mail"), s.Addrs()[0]); err != nil {
			t.Fatal(err)
		}
		if time.Since(begin) > messageTime+patience {
			t.Fatal("a client that drips is not cut")
		}
		time.Sleep(200 * time.Millisecond) // it drips
		if i > len(b)/2 {
			b = append(b, b...)
		}
	}
	if d := time.Since(begin); d < messageTime/2 {
		t.Errorf("cut after %v, before its time", d)
	}
}
