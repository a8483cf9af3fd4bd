//go:build linux && (amd64 || arm64)

package dnsserver

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// No ICMP message makes the sockets fragment their replies.
func TestPathsAreNotBelieved(t *testing.T) {
	s, _ := start(t, "127.0.0.1:0", "[::1]:0", ":0")
	for _, w := range s.udp {
		local := w.conn.LocalAddr().String()
		level, option, want := unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_OMIT
		if netip.MustParseAddrPort(local).Addr().Is6() {
			level, option, want = unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_OMIT
		}
		err := w.raw.Control(func(fd uintptr) {
			if got, err := unix.GetsockoptInt(int(fd), level, option); err != nil || got != want {
				t.Errorf("%s: path MTU discovery %d, %v; want %d", local, got, err, want)
			}
		})
		if err != nil {
			t.Error(err)
		}
	}
}

// What comes from port 0 is not answered: nobody can be there.
func TestPortZero(t *testing.T) {
	raw, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_UDP)
	if errors.Is(err, unix.EPERM) {
		t.Skip("only root forges datagrams")
	}
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(raw)
	s, _ := start(t, "127.0.0.1:0")
	to := netip.MustParseAddrPort(s.Addrs()[0])
	q := ask(t, "mail A")
	for _, port := range []uint16{0, 9} {
		b := binary.BigEndian.AppendUint16(nil, port)
		b = binary.BigEndian.AppendUint16(b, to.Port())
		b = binary.BigEndian.AppendUint16(b, uint16(8+len(q)))
		b = append(append(b, 0, 0), q...) // no checksum: IPv4 allows it
		if err := unix.Sendto(raw, b, 0, &unix.SockaddrInet4{Addr: to.Addr().As4()}); err != nil {
			t.Fatal(err)
		}
	}
	answered := func() (n float64) {
		for _, m := range gather(t, s)["nearcast_dns_queries_total"] {
			n += m
		}
		return n
	}
	for end := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		zero := gather(t, s)["nearcast_dns_dropped_total"]["port_zero"]
		if n := answered(); zero == 1 && n == 1 {
			return
		} else if n > 1 || time.Now().After(end) {
			t.Fatalf("%v answered, %v dropped", n, zero)
		}
	}
}
