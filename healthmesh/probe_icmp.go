package healthmesh

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

// A pinging is how one address family echoes: by sockets for pings, which need no rights but a sysctl that lists the process's
// group, or by raw ones, which need CAP_NET_RAW.
type pinging struct {
	ping, raw string // networks of icmp.ListenPacket
	any       string
	protocol  int
	ask, tell icmp.Type
}

var (
	pinging4 = pinging{"udp4", "ip4:icmp", "0.0.0.0", 1, ipv4.ICMPTypeEcho, ipv4.ICMPTypeEchoReply}
	pinging6 = pinging{"udp6", "ip6:ipv6-icmp", "::", 58, ipv6.ICMPTypeEchoRequest, ipv6.ICMPTypeEchoReply}
)

// open opens a socket, and says whether it is a raw one.
func (f pinging) open() (conn *icmp.PacketConn, raw bool, err error) {
	conn, first := icmp.ListenPacket(f.ping, f.any)
	if first == nil {
		return conn, false, nil
	}
	if conn, err = icmp.ListenPacket(f.raw, f.any); err == nil {
		return conn, true, nil
	}
	return nil, false, unable{fmt.Errorf("no socket for echoes: %w; the sysctl net.ipv4.ping_group_range must have this process's group, or it needs CAP_NET_RAW", errors.Join(first, err))}
}

const nonceBytes = 16 // in an echo: nobody who does not see it can answer

func (p *probe) icmp(ctx context.Context) (outcome, error) {
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", p.target.Endpoint)
	if err != nil {
		return outcome{}, err
	}
	to := net.IP(ips[0].Unmap().AsSlice())
	family := pinging6
	if to.To4() != nil {
		family = pinging4
	}
	conn, raw, err := family.open()
	if err != nil {
		return outcome{}, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Now()) }) // fails only once it is closed
	defer stop()
	nonce := make([]byte, nonceBytes)
	rand.Read(nonce) // never fails
	echo := &icmp.Echo{ID: int(binary.BigEndian.Uint16(nonce)), Seq: 1, Data: nonce}
	message, err := (&icmp.Message{Type: family.ask, Body: echo}).Marshal(nil)
	if err != nil {
		return outcome{}, err
	}
	var peer net.Addr = &net.UDPAddr{IP: to}
	if raw {
		peer = &net.IPAddr{IP: to}
	}
	if _, err := conn.WriteTo(message, peer); err != nil {
		return outcome{}, err
	}
	return good(reasonEcho, 0), family.await(conn, to, echo, raw)
}

// await reads until the reply to an echo comes, or the deadline passes: a raw socket sees all ICMP of this machine.
func (f pinging) await(conn *icmp.PacketConn, from net.IP, echo *icmp.Echo, raw bool) error {
	buf := make([]byte, 1500)
	for {
		n, peer, err := conn.ReadFrom(buf)
		if err != nil {
			return err
		}
		m, err := icmp.ParseMessage(f.protocol, buf[:n])
		if err != nil || m.Type != f.tell || !ipOf(peer).Equal(from) {
			continue
		}
		// Of sockets for pings the kernel sets and checks the id.
		reply, ok := m.Body.(*icmp.Echo)
		if ok && reply.Seq == echo.Seq && bytes.Equal(reply.Data, echo.Data) && (!raw || reply.ID == echo.ID) {
			return nil
		}
	}
}

func ipOf(a net.Addr) net.IP {
	switch a := a.(type) {
	case *net.TCPAddr:
		return a.IP
	case *net.UDPAddr:
		return a.IP
	case *net.IPAddr:
		return a.IP
	}
	return nil
}
