package e2e

import (
	"crypto/tls"
	"encoding/binary"
	"errors"
	"flag"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"github.com/miekg/dns"
	"github.com/rogpeppe/go-internal/txtar"
	"golang.org/x/sys/unix"
)

// A machine that does much else answers fewer; the figures are from one that does not, with 200,000.
var floodRate = flag.Int("attack.rate", 50_000, "forged queries a second")

// The attacks of these tests.
const (
	forgedNetwork = "16.0.0.0/4"
	floodTime     = 10 * time.Second
	floodSenders  = 2
	floodBurst    = 64 // queries from one forged source, and with one system call
	queryHead     = 12 // octets before a query's name
	honest        = 100
	honestPause   = 50 * time.Millisecond
	honestTries   = 3 // as a resolver tries
	growthBound   = 8 << 20
	patience      = 90 * time.Second

	held         = 2000 // connections that an attacker holds
	holders      = 40   // its addresses: each may have some of them
	dripPause    = time.Second
	newClients   = 50
	soonEnough   = 100 * time.Millisecond
	garbage      = 10_000 // datagrams at each port
	garbageTCP   = 200    // connections at each port
	fewLogLines  = 60
	garbageBurst = 16
	settleTime   = 500 * time.Millisecond

	reflected = 2000 // forged packets from one server to the other
)

// victim is a director in a namespace, whose clients have no network without a limit.
type victim struct {
	*internet
	log outputLog
}

// memory is what a process holds of memory, in octets.
type memory struct {
	resident    int
	inUse       int // after the last collection
	collections int
}

// memory asks the director what it holds.
func (v *victim) memory() (m memory) {
	v.t.Helper()
	m.resident = v.metric("process_resident_memory_bytes")
	m.inUse = v.metric("go_memstats_next_gc_bytes") / 2 // the collector lets it double
	m.collections = v.metric("go_gc_duration_seconds_count")
	return m
}

func (v *victim) metric(series string) int {
	v.t.Helper()
	text, err := v.get(ourAdmin, "/metrics")
	if err != nil {
		v.t.Fatal(err)
	}
	return int(metricIn(v.t, text, series))
}

// until waits for a condition.
func (v *victim) until(what string, holds func() bool) {
	v.t.Helper()
	if !within(patience, holds) {
		v.t.Fatalf("not so within %v: %s", patience, what)
	}
}

// newVictim starts a director with every port that it can have.
func newVictim(t *testing.T) *victim {
	t.Helper()
	bin, err := nearcast()
	if err != nil {
		t.Fatal(err)
	}
	v := &victim{internet: &internet{newNamespace(t), t, t.TempDir()}}
	// What is sent to forged sources leaves, to a bridge without a port.
	for _, args := range []string{"link add away type bridge", "link set away arp off up", "route add " + forgedNetwork + " dev away table local src 44.0.2.1"} {
		if out, err := command("ip", append([]string{"-n", v.name}, strings.Fields(args)...)...); err != nil {
			t.Fatalf("ip %s: %v\n%s", args, err, out)
		}
	}
	script, err := txtar.ParseFile("testdata/script/dns.txtar")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range script.Files {
		if strings.HasSuffix(f.Name, ".pem") {
			v.write(v.dir, f.Name, string(f.Data))
		}
	}
	if out, err := command(bin, "keygen", "mesh", "--out", filepath.Join(v.dir, "mesh.key")); err != nil {
		t.Fatalf("keygen: %v\n%s", err, out)
	}
	v.write(v.dir, "geo.zone", "$TTL 300\n@ SOA ns1 hostmaster 1 3600 600 604800 30\n@ NS ns1\nns1 A 44.0.2.1\n")
	v.write(v.dir, "nearcast.yaml", `listen: {dns: "44.0.2.1:53", tls: "44.0.2.1:853", admin: "44.0.2.1:8053"}
dns:
  tls: {certificate: cert.pem, key: key.pem}
  proxy_from: [60.1.0.0/16]
mesh: {listen: "44.0.2.1:7946", key_file: mesh.key}
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
	cmd.Stderr = &v.log
	startCommand(t, "nearcast", cmd, []string{"geo.example.com."}, v.asker(ourServer))
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

// A forger sends forged queries, many with one system call: those of an attacker elsewhere would cost this machine nothing.
type forger struct {
	fd      int
	random  *rand.Rand
	queries [2][]byte // for a random name, and for one that is steered, with a client subnet
	batch   []byte
	control []byte // the source address, and the length of the datagrams in the batch
}

func newForger(seed uint64) (*forger, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return nil, err
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_TRANSPARENT, 1); err != nil { // sources that are not this machine's
		return nil, err
	}
	f := &forger{fd: fd, random: rand.New(rand.NewPCG(seed, 1)), control: make([]byte, unix.CmsgSpace(unix.SizeofInet4Pktinfo)+unix.CmsgSpace(2))}
	for i, name := range []string{"x0123456789abcdef.geo.example.com.", "www.geo.example.com."} {
		q := new(dns.Msg).SetQuestion(name, dns.TypeA)
		q.SetEdns0(1232, false)
		q.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_SUBNET{Code: dns.EDNS0SUBNET, Family: 1, SourceNetmask: 24, Address: net.IPv4(1, 2, 3, 0)}}
		if f.queries[i], err = q.Pack(); err != nil {
			return nil, err
		}
	}
	head := (*unix.Cmsghdr)(unsafe.Pointer(&f.control[0]))
	head.Level, head.Type = unix.IPPROTO_IP, unix.IP_PKTINFO
	head.SetLen(unix.CmsgLen(unix.SizeofInet4Pktinfo))
	head = (*unix.Cmsghdr)(unsafe.Pointer(&f.control[unix.CmsgSpace(unix.SizeofInet4Pktinfo)]))
	head.Level, head.Type = unix.IPPROTO_UDP, unix.UDP_SEGMENT
	head.SetLen(unix.CmsgLen(2))
	return f, nil
}

// send sends floodBurst queries from a random source.
func (f *forger) send() error {
	q := f.queries[0]
	isRandom := f.random.IntN(4) > 0
	if !isRandom {
		q = f.queries[1]
	}
	f.batch = f.batch[:0]
	for range floodBurst {
		f.batch = append(f.batch, q...)
		own := f.batch[len(f.batch)-len(q):]
		binary.BigEndian.PutUint16(own, uint16(f.random.Uint32()))
		if isRandom {
			binary.BigEndian.PutUint64(own[queryHead+2:], hexDigits(f.random))
		}
		own[len(own)-3] = byte(11 + f.random.IntN(30))
		binary.BigEndian.PutUint16(own[len(own)-2:], uint16(f.random.Uint32()))
	}
	info := (*unix.Inet4Pktinfo)(unsafe.Pointer(&f.control[unix.CmsgLen(0)]))
	info.Spec_dst = [4]byte{byte(16 + f.random.IntN(16)), byte(f.random.IntN(256)), byte(f.random.IntN(256)), byte(1 + f.random.IntN(254))}
	*(*uint16)(unsafe.Pointer(&f.control[unix.CmsgSpace(unix.SizeofInet4Pktinfo)+unix.CmsgLen(0)])) = uint16(len(q))
	return unix.Sendmsg(f.fd, f.batch, f.control, &unix.SockaddrInet4{Addr: ourServer.As4(), Port: 53}, 0)
}

// datagram is an IPv4 packet with a UDP datagram from whomever.
func datagram(from, to netip.AddrPort, body []byte) []byte {
	packet := []byte{0x45, 0, 0, 0, 0, 0, 0, 0, 64, unix.IPPROTO_UDP, 0, 0}
	packet = append(packet, from.Addr().AsSlice()...)
	packet = append(packet, to.Addr().AsSlice()...)
	packet = binary.BigEndian.AppendUint16(packet, from.Port())
	packet = binary.BigEndian.AppendUint16(packet, to.Port())
	packet = binary.BigEndian.AppendUint16(packet, uint16(8+len(body)))
	packet = append(packet, 0, 0) // no checksum: IPv4 allows it
	packet = append(packet, body...)
	binary.BigEndian.PutUint16(packet[2:], uint16(len(packet)))
	return packet
}

// rawSocket sends whole IPv4 packets to where they say. The thread must be in the namespace.
type rawSocket int

func newRawSocket() (rawSocket, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_RAW)
	return rawSocket(fd), err
}

func (s rawSocket) send(packet []byte) error {
	return unix.Sendto(int(s), packet, 0, &unix.SockaddrInet4{Addr: [4]byte(packet[16:20])})
}

func (s rawSocket) Close() error { return unix.Close(int(s)) }

// flood sends forged queries until stop is closed; it returns how many.
func (v *victim) flood(stop <-chan struct{}) (sent int64, err error) {
	var total atomic.Int64
	var failed atomic.Value
	var wg sync.WaitGroup
	for i := range floodSenders {
		v.enterOwnThread(&wg, func() {
			f, err := newForger(uint64(i))
			if err != nil {
				failed.Store(err)
				return
			}
			defer unix.Close(f.fd)
			begin := time.Now()
			for n := 0; !closed(stop); n += floodBurst {
				if ahead := time.Duration(n)*time.Second*floodSenders/time.Duration(*floodRate) - time.Since(begin); ahead > 0 {
					time.Sleep(ahead)
				}
				if err := f.send(); err != nil {
					failed.Store(err)
					return
				}
				total.Add(floodBurst)
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
// answered, and the memory in use stays as it is.
func TestForgedFlood(t *testing.T) {
	need(t, "root")
	need(t, "resolvers")
	v := newVictim(t)
	started := v.memory()
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
			for !closed(stop) {
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
	time.Sleep(floodTime)
	v.until("the collector has looked at the memory", func() bool { return v.memory().collections >= started.collections+2 })
	after := v.memory()
	close(stop)
	<-flooded
	rate := float64(sent) / time.Since(begin).Seconds()
	clients.Wait()
	t.Logf("%.0f forged queries a second; honest clients: %d of %d answered (%.2f %%), %d after more than a second",
		rate, answered.Load(), asked.Load(), 100*float64(answered.Load())/float64(asked.Load()), slow.Load())
	t.Logf("memory in use %d MiB before and %d MiB in the flood; resident %d and %d MiB", started.inUse>>20, after.inUse>>20, started.resident>>20, after.resident>>20)
	if answered.Load()*100 < asked.Load()*99 {
		t.Errorf("%d of %d honest queries are answered, want 99 %%", answered.Load(), asked.Load())
	}
	if after.inUse-started.inUse > growthBound {
		t.Errorf("the memory in use grew by %d MiB", (after.inUse-started.inUse)>>20)
	}
	if rate < float64(*floodRate)/10 {
		t.Errorf("only %.0f forged queries a second: no flood", rate)
	}
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
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
		conn, err := dialFrom(from, tcp, 53)
		if err != nil {
			continue
		}
		r, _, err := (&dns.Client{Timeout: time.Second}).ExchangeWithConn(q, &dns.Conn{Conn: conn})
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

// dialFrom connects an address with a port of the server. The thread must be in the namespace.
func dialFrom(from netip.Addr, tcp bool, port uint16) (net.Conn, error) {
	local, server := netip.AddrPortFrom(from, 0), netip.AddrPortFrom(ourServer, port)
	if !tcp {
		return net.DialUDP("udp4", net.UDPAddrFromAddrPort(local), net.UDPAddrFromAddrPort(server))
	}
	d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(local), Timeout: time.Second}
	return d.Dial("tcp4", server.String())
}

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

func (v *victim) lookup(name string) string {
	return lastData(v.ask(netip.MustParseAddr("60.0.1.1"), ourServer, new(dns.Msg).SetQuestion(name, dns.TypeA)))
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

// What is forged to come from one server's port 53 and goes to another's ends with at most one reply each.
func TestServersDoNotAnswerEachOther(t *testing.T) {
	need(t, "root")
	need(t, "resolvers")
	v := newVictim(t)
	other := netip.MustParseAddr("44.0.2.9")
	bin, err := nearcast()
	if err != nil {
		t.Fatal(err)
	}
	v.write(v.dir, "other.yaml", `listen: {dns: "44.0.2.9:53", admin: "44.0.2.9:8053"}
regions: [{name: us-east, location: [38.95, -77.45], capacity: 300}]
zones: [{name: geo.example.com, file: geo.zone}]
`)
	startCommand(t, "nearcast", v.command(bin, "serve", "-c", filepath.Join(v.dir, "other.yaml")), []string{"geo.example.com."}, v.asker(other))
	traffic := func() (sum int) {
		for _, admin := range []string{ourAdmin, "44.0.2.9:8053"} {
			text, err := v.get(admin, "/metrics")
			if err != nil {
				t.Fatal(err)
			}
			for _, series := range []string{"nearcast_dns_queries_total", "nearcast_dns_dropped_total"} {
				sum += max(0, int(metricIn(t, text, series)))
			}
		}
		return sum
	}
	before := traffic()
	v.do(func() {
		socket, err := newRawSocket()
		if err != nil {
			t.Error(err)
			return
		}
		defer socket.Close()
		random := rand.New(rand.NewPCG(3, 3))
		for i := range reflected {
			q := new(dns.Msg).SetQuestion("www.geo.example.com.", dns.TypeA)
			q.Opcode, q.Response = random.IntN(16), random.IntN(4) == 0
			q.Rcode = random.IntN(16)
			body, err := q.Pack()
			if err != nil {
				t.Error(err)
				return
			}
			if i%2 == 0 { // damaged
				body = append(body[:12+random.IntN(len(body)-12)], byte(random.Uint32()))
			}
			if err := socket.send(datagram(netip.AddrPortFrom(other, 53), netip.AddrPortFrom(ourServer, 53), body)); err != nil {
				t.Error(err)
			}
			if i%garbageBurst == 0 {
				time.Sleep(time.Millisecond)
			}
		}
	})
	v.until("all packets are read", func() bool { return traffic()-before >= reflected })
	settled := traffic()
	for previous := -1; previous != settled; settled = traffic() { // a loop never settles
		previous = settled
		time.Sleep(settleTime)
		if settled-before > 2*reflected {
			break
		}
	}
	t.Logf("%d forged packets brought %d", reflected, settled-before)
	if settled-before > 2*reflected {
		t.Errorf("%d forged packets brought %d", reflected, settled-before)
	}
}
