package e2e

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"
)

// reflected is how many packets are forged to come from one server and go to the other.
const reflected = 2000

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
