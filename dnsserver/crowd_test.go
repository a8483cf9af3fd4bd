package dnsserver

import (
	"crypto/tls"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"
)

// A crowd is what its rules say, whoever comes and goes.
func TestCrowd(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	w := crowd{shares: map[netip.Prefix]*share{}}
	var in []*tcpConn // the oldest first
	clients := map[*tcpConn]netip.Prefix{}
	counts := func() map[netip.Prefix]int {
		m := map[netip.Prefix]int{}
		for _, c := range in {
			m[clients[c]]++
		}
		return m
	}
	take := func(c *tcpConn) { in = slices.DeleteFunc(in, func(have *tcpConn) bool { return have == c }) }
	for step := range 8_000 {
		if random.IntN(4) == 0 && len(in) > 0 {
			c := in[random.IntN(len(in))]
			take(c)
			w.remove(c)
			w.remove(c) // as the goroutine of one that had to go does
		} else {
			// Few networks for a while, then many.
			client := clientNetwork(netip.AddrFrom4([4]byte{10, 0, 0, byte(random.IntN(1 + step/50%256))}))
			if random.IntN(20) == 0 {
				client = noClient
			}
			c := &tcpConn{}
			before := counts()
			gone, ok := w.add(c, client)
			if full := client != noClient && before[client] >= maxClientConns; ok == full || full && gone != nil {
				t.Fatalf("step %d: %v has %d: admitted %v, gone %v", step, client, before[client], ok, gone)
			}
			if ok {
				in, clients[c] = append(in, c), client
			}
			if gone != nil {
				have := counts()
				for client, n := range have {
					if n > have[clients[gone]] {
						t.Fatalf("step %d: one of %d had to go, and %v has %d", step, have[clients[gone]], client, n)
					}
				}
				if i := slices.IndexFunc(in, func(c *tcpConn) bool { return clients[c] == clients[gone] }); in[i] != gone {
					t.Fatalf("step %d: it was not the oldest that had to go", step)
				}
				take(gone)
			}
		}
		most := 0
		have := counts()
		for client, n := range have {
			most = max(most, n)
			if w.shares[client].conns.Len() != n {
				t.Fatalf("step %d: %v has %d, not %d", step, client, n, w.shares[client].conns.Len())
			}
		}
		if w.size != len(in) || len(in) > maxConns || len(w.shares) != len(have) || w.most != most {
			t.Fatalf("step %d: %d of %d networks, %d at most; want %d of %d, %d", step, w.size, len(w.shares), w.most, len(in), len(have), most)
		}
	}
}

// Whoever holds all connections, asks over each, and opens ever more, with ten addresses, keeps nobody out that comes with one,
// also if it is slow to ask.
func TestHoldersKeepNobodyOut(t *testing.T) {
	const hosts, honest, roundTrip, pause = 10, 5, 200 * time.Millisecond, 100 * time.Millisecond
	dir := t.TempDir()
	writeCertificate(t, dir, "one.example")
	c := testConfig()
	c.TLS = TLSConfig{Certificate: "cert.pem", Key: "key.pem"}
	scene := build(t, nil, nil)
	scene.Settings = c.Compile("dns", dir, nil, func(key string, value any, accepted string) { t.Errorf("%s: %v: %s", key, value, accepted) })
	o := serverOf(scene, "127.0.0.1:0")
	o.ListenTLS = []string{"127.0.0.1:0"}
	s := serve(t, o)
	for at, name := range []string{"TCP", "TLS"} {
		t.Run(name, func(t *testing.T) {
			from := func(a, b int) (net.Conn, error) {
				d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, byte(a), byte(b))}, Timeout: patience}
				conn, err := d.Dial("tcp", s.Addrs()[at])
				if err == nil && at == 1 {
					conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
				}
				return conn, err
			}
			q := framed(t, question("mail"))
			stop := make(chan struct{})
			var holders, ready sync.WaitGroup
			for i := range hosts * maxClientConns {
				ready.Add(1)
				holders.Go(func() {
					once := sync.OnceFunc(ready.Done)
					defer once()
					for { // whatever is closed comes back
						conn, err := from(1, 1+i%hosts)
						for err == nil {
							conn.SetDeadline(time.Now().Add(patience))
							if _, err = conn.Write(q); err == nil {
								_, err = conn.Read(make([]byte, maxUDP))
							}
							once()
							select {
							case <-stop:
								conn.Close()
								return
							case <-time.After(pause):
							}
						}
						if conn != nil {
							conn.Close()
						}
						once()
						select {
						case <-stop:
							return
						case <-time.After(pause):
						}
					}
				})
			}
			defer holders.Wait()
			defer close(stop)
			ready.Wait()
			for end := time.Now().Add(2 * patience); s.tcp[at].open() < maxConns*9/10; time.Sleep(time.Millisecond) {
				if time.Now().After(end) {
					t.Fatalf("%d connections are held", s.tcp[at].open())
				}
			}
			holders.Go(func() {
				for i := 0; ; i++ {
					select {
					case <-stop:
						return
					case <-time.After(time.Millisecond):
					}
					if conn, err := from(1, 1+i%hosts); err == nil {
						defer conn.Close()
					}
				}
			})
			for i := range honest {
				conn, err := from(2, 1+i)
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				conn.SetDeadline(time.Now().Add(patience))
				if at == 1 {
					if err := conn.(*tls.Conn).Handshake(); err != nil {
						t.Fatal(err)
					}
				}
				time.Sleep(roundTrip) // the client is far away
				if _, err := conn.Write(q); err != nil {
					t.Fatal(err)
				}
				readFramed(t, conn)
			}
			if n := s.tcp[at].open(); n > maxConns {
				t.Errorf("%d connections are open", n)
			}
		})
	}
}

// A connection that is refused, since its client has its share, costs nobody a place.
func TestRefusedConnectionsCostNothing(t *testing.T) {
	s, _ := start(t, "127.0.0.1:0")
	hold := func(host int) net.Conn {
		t.Helper()
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(host))}, Timeout: patience}
		conn, err := d.Dial("tcp", s.Addrs()[0])
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		return conn
	}
	var conns []net.Conn
	for i := range maxConns {
		conns = append(conns, hold(1+i/maxClientConns))
	}
	dropped := func() float64 { return gather(t, s)["nearcast_dns_dropped_total"]["tcp_limit"] }
	for end := time.Now().Add(patience); s.tcp[0].open() < maxConns; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d connections", s.tcp[0].open())
		}
	}
	const refused = 20
	for range refused {
		conn := hold(1)
		conn.SetDeadline(time.Now().Add(patience))
		if n, err := conn.Read(make([]byte, 1)); n > 0 || err == nil {
			t.Error("a connection beyond the client's share is served")
		}
	}
	if n := dropped(); n != refused {
		t.Errorf("%v connections had to go, want %d", n, refused)
	}
	for i := 0; i < maxConns; i += maxClientConns { // the oldest of each
		if _, err := conns[i].Write(framed(t, question("mail"))); err != nil {
			t.Fatal(fmt.Errorf("connection %d: %w", i, err))
		}
		readFramed(t, conns[i])
	}
}
