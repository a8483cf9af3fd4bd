package e2e

import (
	"encoding/binary"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"
)

// A machine that does much else answers fewer; the figures are from one that does not, with 200,000.
var floodRate = flag.Int("attack.rate", 50_000, "forged queries a second")

// The attacks of these tests.
const (
	floodTime    = 10 * time.Second
	floodSenders = 2
	floodBurst   = 64 // queries between two looks at the clock
	honest       = 100
	honestPause  = 50 * time.Millisecond
	honestTries  = 3 // as a resolver tries
	growthBound  = 32 << 20
	headersLen   = 28 // octets of IP and UDP before a query
)

// victim is a director in a namespace, whose clients have no network without a limit.
type victim struct {
	*internet
	pid int
}

// rss is what the director holds of memory, in octets.
func (v *victim) rss(t *testing.T) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", v.pid))
	if err != nil {
		t.Fatal(err)
	}
	pages, err := strconv.Atoi(strings.Fields(string(b))[1])
	if err != nil {
		t.Fatal(err)
	}
	return pages * os.Getpagesize()
}

func newVictim(t *testing.T) *victim {
	t.Helper()
	bin, err := nearcast()
	if err != nil {
		t.Fatal(err)
	}
	v := &victim{internet: &internet{newNamespace(t), t, t.TempDir()}}
	v.write(v.dir, "geo.zone", "$TTL 300\n@ SOA ns1 hostmaster 1 3600 600 604800 30\n@ NS ns1\nns1 A 44.0.2.1\n")
	v.write(v.dir, "nearcast.yaml", `listen: {dns: "44.0.2.1:53", admin: "44.0.2.1:8053"}
regions:
  - {name: us-east, location: [38.95, -77.45], capacity: 300}
  - {name: eu-west, location: [53.35, -6.26], capacity: 200}
zones:
  - name: geo.example.com
    file: geo.zone
    services:
      - name: www
        regions:
          - {region: us-east, addresses: [192.0.2.101]}
          - {region: eu-west, addresses: [192.0.2.102]}
`)
	cmd := v.command(bin, "serve", "-c", filepath.Join(v.dir, "nearcast.yaml"))
	startCommand(t, "nearcast", cmd, []string{"geo.example.com."}, v.asker(ourServer))
	v.pid = cmd.Process.Pid // "ip netns exec" becomes the program
	return v
}

// enterOwnThread runs f on a thread of its own in the namespace.
func (n *namespace) enterOwnThread(wg *sync.WaitGroup, f func()) {
	wg.Go(func() {
		runtime.LockOSThread()
		if n.enter() == nil {
			f()
		}
	})
}

// forged is an IP packet with a query for a random name, with a client subnet, from a random source.
func forged(random *rand.Rand, packet []byte) []byte {
	q := new(dns.Msg)
	name := fmt.Sprintf("x%016x.geo.example.com.", random.Uint64())
	if random.IntN(4) == 0 {
		name = "www.geo.example.com."
	}
	q.SetQuestion(name, dns.TypeA)
	q.SetEdns0(1232, false)
	subnet := make(net.IP, 4)
	binary.BigEndian.PutUint32(subnet, random.Uint32()&^0xFF)
	q.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_SUBNET{Code: dns.EDNS0SUBNET, Family: 1, SourceNetmask: 24, Address: subnet}}
	body, err := q.Pack()
	if err != nil {
		panic(err)
	}
	packet = append(packet[:0], 0x45, 0, 0, 0, 0, 0, 0, 0, 64, unix.IPPROTO_UDP, 0, 0)
	packet = append(packet, byte(11+random.IntN(30)), byte(random.IntN(256)), byte(random.IntN(256)), byte(1+random.IntN(254)), 44, 0, 2, 1)
	packet = binary.BigEndian.AppendUint16(packet, uint16(1024+random.IntN(60000)))
	packet = append(packet, 0, 53)
	packet = binary.BigEndian.AppendUint16(packet, uint16(8+len(body)))
	packet = append(packet, 0, 0) // no checksum: IPv4 allows it
	packet = append(packet, body...)
	binary.BigEndian.PutUint16(packet[2:], uint16(len(packet)))
	return packet
}

// flood sends forged queries until stop is closed; it returns how many.
func (v *victim) flood(stop <-chan struct{}) (sent int64, err error) {
	var total atomic.Int64
	var failed atomic.Value
	var wg sync.WaitGroup
	for i := range floodSenders {
		v.enterOwnThread(&wg, func() {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_RAW)
			if err != nil {
				failed.Store(err)
				return
			}
			defer unix.Close(fd)
			random := rand.New(rand.NewPCG(uint64(i), 1))
			packets := make([][]byte, 4096) // made before, since making one costs more than sending it
			for j := range packets {
				packets[j] = forged(random, nil)
			}
			to := &unix.SockaddrInet4{Addr: [4]byte{44, 0, 2, 1}}
			begin, n := time.Now(), 0
			for {
				select {
				case <-stop:
					return
				default:
				}
				if ahead := time.Duration(n)*time.Second*floodSenders/time.Duration(*floodRate) - time.Since(begin); ahead > 0 {
					time.Sleep(ahead)
				}
				for range floodBurst {
					p := packets[n%len(packets)]
					binary.BigEndian.PutUint16(p[13:], uint16(random.Uint32()))         // the source's middle
					binary.BigEndian.PutUint16(p[headersLen:], uint16(random.Uint32())) // the query's id
					if p[headersLen+12] > 8 {                                           // a random name: another one
						binary.BigEndian.PutUint64(p[headersLen+12+2:], hexDigits(random))
					}
					if unix.Sendto(fd, p, 0, to) == nil {
						total.Add(1)
					}
					n++
				}
			}
		})
	}
	wg.Wait()
	if e, ok := failed.Load().(error); ok {
		return 0, e
	}
	return total.Load(), nil
}

// hexDigits is eight octets of hexadecimal digits.
func hexDigits(random *rand.Rand) uint64 {
	var b [8]byte
	for i := range b {
		b[i] = "0123456789abcdef"[random.IntN(16)]
	}
	return binary.BigEndian.Uint64(b[:])
}

// Under a flood of forged queries for random names with client subnets, honest clients with cookies and over TCP are
// answered, and memory stays as it is.
func TestForgedFlood(t *testing.T) {
	need(t, "root")
	need(t, "resolvers")
	v := newVictim(t)
	started := v.rss(t)
	stop := make(chan struct{})
	flooded := make(chan struct{})
	var sent int64
	begin := time.Now()
	go func() {
		defer close(flooded)
		var err error
		if sent, err = v.flood(stop); err != nil {
			t.Error(err)
		}
	}()
	var asked, answered, slow atomic.Int64
	var clients sync.WaitGroup
	for i := range honest {
		v.enterOwnThread(&clients, func() {
			from := netip.AddrFrom4([4]byte{60, 0, byte(i), 1})
			var cookie string
			for time.Since(begin) < floodTime {
				asked.Add(1)
				at := time.Now()
				if v.honestQuery(from, i%2 == 0, &cookie) {
					answered.Add(1)
				}
				if time.Since(at) > time.Second {
					slow.Add(1)
				}
				time.Sleep(honestPause)
			}
		})
	}
	time.Sleep(floodTime / 4) // the collector's heap grows to its working size
	before := v.rss(t)
	clients.Wait()
	close(stop)
	<-flooded
	seconds := time.Since(begin).Seconds()
	after := v.rss(t)
	t.Logf("%.0f forged queries a second; honest clients: %d of %d answered (%.2f %%), %d after more than a second; memory %d MiB, %d MiB early in the flood, %d MiB after it",
		float64(sent)/seconds, answered.Load(), asked.Load(), 100*float64(answered.Load())/float64(asked.Load()), slow.Load(), started>>20, before>>20, after>>20)
	if answered.Load()*100 < asked.Load()*99 {
		t.Errorf("%d of %d honest queries are answered, want 99 %%", answered.Load(), asked.Load())
	}
	if after-before > growthBound {
		t.Errorf("memory grew by %d MiB", (after-before)>>20)
	}
	if int(float64(sent)/seconds) < *floodRate/10 {
		t.Errorf("only %.0f forged queries a second: no flood", float64(sent)/seconds)
	}
}

// honestQuery asks as a resolver does: with the cookie that it has, a few times, or over TCP.
func (v *victim) honestQuery(from netip.Addr, tcp bool, cookie *string) bool {
	q := new(dns.Msg).SetQuestion("www.geo.example.com.", dns.TypeA)
	q.SetEdns0(1232, false)
	if *cookie == "" {
		*cookie = "0102030405060708"
	}
	q.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: *cookie}}
	for range honestTries {
		client := &dns.Client{Timeout: time.Second}
		var conn net.Conn
		var err error
		local, server := netip.AddrPortFrom(from, 0), netip.AddrPortFrom(ourServer, 53)
		if tcp {
			client.Net = "tcp"
			conn, err = net.DialTCP("tcp4", net.TCPAddrFromAddrPort(local), net.TCPAddrFromAddrPort(server))
		} else {
			conn, err = net.DialUDP("udp4", net.UDPAddrFromAddrPort(local), net.UDPAddrFromAddrPort(server))
		}
		if err != nil {
			continue
		}
		r, _, err := client.ExchangeWithConn(q, &dns.Conn{Conn: conn})
		conn.Close()
		if err != nil {
			continue
		}
		if o := r.IsEdns0(); o != nil && len(o.Option) > 0 {
			if c, ok := o.Option[0].(*dns.EDNS0_COOKIE); ok {
				*cookie = c.Cookie
			}
		}
		if r.Rcode == dns.RcodeSuccess && len(r.Answer) == 1 {
			return true
		}
	}
	return false
}
