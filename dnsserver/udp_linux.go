//go:build linux && (amd64 || arm64)

package dnsserver

import (
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	socketsPerAddress = maxWorkers
	batchSize         = 32                    // messages for one system call; larger ones gain nothing and delay the first
	controlLen        = 64                    // octets: room for one packet info of IPv6, 40
	drainRounds       = 64                    // batches that are answered at shutdown at most
	readPause         = 10 * time.Millisecond // after the system refused to receive
)

// socketOptions lets the workers' sockets share an address, and those on all addresses tell which one was asked. And
// no path's MTU cuts a reply: anybody can forge the ICMP message that tells of one, and fragments can be forged too
// (RFC 9715). Replies fit the smallest path as they are.
func socketOptions(c syscall.RawConn, a netip.Addr) error {
	var err error
	control := func(fd uintptr) {
		if a.Is4() {
			err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_OMIT)
		} else {
			err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_OMIT)
		}
		if err != nil {
			return
		}
		if err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil || !a.IsUnspecified() {
			return
		}
		if a.Is4() {
			err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_PKTINFO, 1)
		} else {
			err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1)
		}
	}
	if e := c.Control(control); e != nil {
		return e
	}
	return err
}

// forceReadBuffer gives a socket more room than the system lets others have; root may.
func forceReadBuffer(conn *net.UDPConn) bool {
	raw, err := conn.SyscallConn()
	if err != nil {
		return false
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		failed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, readBuffer)
	})
	return err == nil && failed == nil
}

// A message is the kernel's struct mmsghdr.
type message struct {
	unix.Msghdr
	n uint32 // octets received or sent
	_ uint32
}

// A udpWorker answers on one socket, a batch of messages at a time, on the goroutine that reads: handing them to
// another would cost more than most answers do.
type udpWorker struct {
	s     *Server
	conn  *net.UDPConn
	raw   syscall.RawConn
	any   bool // bound to all addresses: replies must name the one that was asked
	meter Meter
	scene Scene // of the batch

	in, out     [batchSize]message
	inVec       [batchSize]unix.Iovec
	outVec      [batchSize]unix.Iovec
	peers       [batchSize]unix.RawSockaddrInet6 // or the smaller one of IPv4
	control     [batchSize][controlLen]byte
	queries     [batchSize][maxQuery]byte
	replies     [batchSize][maxUDP]byte
	used        int // of in by the last batch: these are to be made ready again
	unsent      int // replies in out
	sent        int // of these
	done        int // messages that the last system call received or sent
	errno       syscall.Errno
	tryReceive  func(fd uintptr) bool // made once: a closure for each batch would be an allocation
	trySend     func(fd uintptr) bool
	onlyReceive func(fd uintptr)
	onlySend    func(fd uintptr)
}

func newUDPWorker(s *Server, conn *net.UDPConn, a netip.Addr) *udpWorker {
	w := &udpWorker{s: s, conn: conn, any: a.IsUnspecified(), used: batchSize}
	raw, err := conn.SyscallConn()
	if err != nil {
		panic("dnsserver: an open socket without a system call interface: " + err.Error()) // only for a nil conn
	}
	w.raw = raw
	w.tryReceive = func(fd uintptr) bool { w.receive(fd); return w.errno != unix.EAGAIN }
	w.trySend = func(fd uintptr) bool { w.send(fd); return w.errno != unix.EAGAIN }
	w.onlyReceive, w.onlySend = w.receive, w.send
	for i := range w.in {
		w.inVec[i] = unix.Iovec{Base: &w.queries[i][0], Len: maxQuery}
		w.in[i].Iov, w.in[i].Iovlen = &w.inVec[i], 1
		w.in[i].Name = (*byte)(unsafe.Pointer(&w.peers[i]))
		w.in[i].Control = &w.control[i][0]
		w.out[i].Iov, w.out[i].Iovlen = &w.outVec[i], 1
	}
	return w
}

// run answers until ctx ends, and then what the socket holds.
func (w *udpWorker) run(ctx context.Context) {
	stop := context.AfterFunc(ctx, func() { w.conn.SetDeadline(time.Now()) })
	defer stop()
	for ctx.Err() == nil {
		w.ready()
		if err := w.raw.Read(w.tryReceive); err != nil || w.errno != 0 {
			pauseFor(ctx, readPause) // at the end not at all; else the system is short of memory, or the like
			continue
		}
		w.answer()
		for w.sent < w.unsent {
			if err := w.raw.Write(w.trySend); err != nil {
				break // the end: what is left goes below
			}
			w.account()
		}
	}
	for range drainRounds {
		for w.sent < w.unsent {
			if w.raw.Control(w.onlySend) != nil {
				return
			}
			w.account()
		}
		w.ready()
		if w.raw.Control(w.onlyReceive) != nil || w.errno != 0 {
			return
		}
		w.answer()
	}
}

// ready makes the slots that the last batch used as new: a length that stays would cut the next address short, and
// one that the kernel did not fill must not hold the last client's.
func (w *udpWorker) ready() {
	for i := range w.used {
		w.in[i].Namelen, w.in[i].Flags = unix.SizeofSockaddrInet6, 0
		w.in[i].SetControllen(0)
		if w.any {
			w.in[i].SetControllen(controlLen)
		}
	}
	w.used = 0
}

func (w *udpWorker) receive(fd uintptr) {
	n, _, errno := syscall.Syscall6(unix.SYS_RECVMMSG, fd, uintptr(unsafe.Pointer(&w.in)), batchSize, unix.MSG_DONTWAIT, 0, 0)
	w.done, w.errno = int(n), errno
}

func (w *udpWorker) send(fd uintptr) {
	n, _, errno := syscall.Syscall6(unix.SYS_SENDMMSG, fd, uintptr(unsafe.Pointer(&w.out[w.sent])), uintptr(w.unsent-w.sent), unix.MSG_DONTWAIT, 0, 0)
	w.done, w.errno = int(n), errno
}

// account notes what became of replies. One that the kernel refuses stops those behind it, so it is left out.
func (w *udpWorker) account() {
	if w.errno != 0 {
		w.s.drop(sendError)
		w.sent++
		return
	}
	w.sent += w.done
}

// answer makes the replies to a batch, with one snapshot for all.
func (w *udpWorker) answer() {
	w.scene = w.s.scene()
	w.used, w.unsent, w.sent = w.done, 0, 0
	for i := range w.done {
		m := &w.in[i]
		source, port := w.peer(i)
		switch {
		case port == 0:
			w.s.drop(portZero)
			continue
		case m.Flags&unix.MSG_TRUNC != 0:
			w.s.drop(tooLong)
			continue
		}
		query, source, ok := w.s.unwrap(w.queries[i][:m.n], source, w.scene.Settings)
		if !ok {
			continue
		}
		reply := w.s.answer(w.replies[w.unsent][:0], query, source, UDP, &w.scene, &w.meter)
		if reply == nil {
			continue
		}
		o := &w.out[w.unsent]
		o.Name, o.Namelen, o.Control = m.Name, m.Namelen, nil
		o.SetControllen(0)
		if w.any && w.pointBack(i) {
			o.Control, o.Controllen = m.Control, m.Controllen
		}
		w.outVec[w.unsent] = unix.Iovec{Base: &reply[0], Len: uint64(len(reply))}
		w.unsent++
	}
}

// peer is where the i-th message came from.
func (w *udpWorker) peer(i int) (netip.Addr, uint16) {
	p := &w.peers[i]
	port := (*[2]byte)(unsafe.Pointer(&p.Port)) // in network order
	if p.Family == unix.AF_INET {
		return netip.AddrFrom4((*unix.RawSockaddrInet4)(unsafe.Pointer(p)).Addr), binary.BigEndian.Uint16(port[:])
	}
	return netip.AddrFrom16(p.Addr).Unmap(), binary.BigEndian.Uint16(port[:])
}

// pointBack turns the i-th message's packet info into the reply's: from the address that was asked, by the interface
// that the routes choose, unless the address needs one. It reports false if there is none.
func (w *udpWorker) pointBack(i int) bool {
	m := &w.in[i]
	if m.Controllen < unix.SizeofCmsghdr {
		return false
	}
	head := (*unix.Cmsghdr)(unsafe.Pointer(&w.control[i]))
	data := unsafe.Pointer(&w.control[i][unix.CmsgLen(0)])
	switch {
	case head.Level == unix.IPPROTO_IP && head.Type == unix.IP_PKTINFO:
		info := (*unix.Inet4Pktinfo)(data)
		info.Ifindex, info.Spec_dst = 0, info.Addr
	case head.Level == unix.IPPROTO_IPV6 && head.Type == unix.IPV6_PKTINFO:
		info := (*unix.Inet6Pktinfo)(data)
		if !netip.AddrFrom16(info.Addr).IsLinkLocalUnicast() {
			info.Ifindex = 0
		}
	default:
		return false
	}
	return true
}
