package e2e

import (
	"encoding/binary"
	"flag"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"
)

// A machine that does much else answers fewer; the figures are from one that does not, with 200,000.
var floodRate = flag.Int("attack.rate", 50_000, "forged queries a second")

const (
	forgedNetwork = "16.0.0.0/4"
	floodTime     = 10 * time.Second
	floodSenders  = 2
	floodBurst    = 64 // queries from one forged source, and with one system call
	queryHead     = 12 // octets before a query's name
	honest        = 100
	honestPause   = 50 * time.Millisecond
	honestTries   = 3         // as a resolver tries
	growthBound   = 8 << 20   // octets in use
	residentBound = 128 << 20 // octets that the process holds: the collector lets garbage come to as much as is in use, 50 MiB, twice over
)

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
	if after.resident-started.resident > residentBound {
		t.Errorf("the process grew by %d MiB", (after.resident-started.resident)>>20)
	}
	if rate < float64(*floodRate)*3/4 {
		t.Errorf("only %.0f forged queries a second of %d", rate, *floodRate)
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
