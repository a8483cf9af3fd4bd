//go:build !linux || !(amd64 || arm64)

package dnsserver

import (
	"context"
	"net"
	"net/netip"
	"syscall"
	"time"
)

// socketsPerAddress: without SO_REUSEPORT's spreading, one socket has all queries.
const socketsPerAddress = 1

func socketOptions(syscall.RawConn, netip.Addr) error { return nil }

func forceReadBuffer(*net.UDPConn) bool { return false }

// A udpWorker answers on one socket, message by message. A socket on all addresses answers from
// the one that the system chooses: name the addresses where that matters.
type udpWorker struct {
	s     *Server
	conn  *net.UDPConn
	meter Meter
}

func newUDPWorker(s *Server, conn *net.UDPConn, _ netip.Addr) *udpWorker {
	return &udpWorker{s: s, conn: conn}
}

// run answers until ctx ends.
func (w *udpWorker) run(ctx context.Context) {
	stop := context.AfterFunc(ctx, func() { w.conn.SetReadDeadline(time.Now()) })
	defer stop()
	in, out := make([]byte, maxQuery+1), make([]byte, 0, maxUDP)
	for ctx.Err() == nil {
		n, from, err := w.conn.ReadFromUDPAddrPort(in)
		switch {
		case err != nil:
			continue // an earlier reply's bounce, or the end
		case from.Port() == 0:
			w.s.drop(portZero)
			continue
		case n > maxQuery:
			w.s.drop(tooLong)
			continue
		}
		scene := w.s.scene()
		query, source, ok := w.s.unwrap(in[:n], from.Addr().Unmap().WithZone(""), scene.Settings)
		if !ok {
			continue
		}
		reply := w.s.answer(out[:0], query, source, UDP, &scene, &w.meter)
		if reply == nil {
			continue
		}
		if _, err := w.conn.WriteToUDPAddrPort(reply, from); err != nil {
			w.s.drop(sendError)
		}
	}
}
