package healthmesh

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/hashicorp/memberlist"
)

// A transport is memberlist's, whose streams to others end when it is shut down: memberlist waits for a peer that hangs
// until streamTime, and who stops cannot wait so long.
type transport struct {
	*memberlist.NetTransport
	open     context.Context // ends at Shutdown
	shutDown context.CancelFunc
}

func newTransport(c *memberlist.NetTransportConfig) (*transport, error) {
	under, err := memberlist.NewNetTransport(c)
	if err != nil {
		return nil, err
	}
	open, shutDown := context.WithCancel(context.Background())
	return &transport{under, open, shutDown}, nil
}

var _ memberlist.NodeAwareTransport = (*transport)(nil)

func (t *transport) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	return t.DialAddressTimeout(memberlist.Address{Addr: addr}, timeout)
}

func (t *transport) DialAddressTimeout(to memberlist.Address, timeout time.Duration) (net.Conn, error) {
	dialer := net.Dialer{Timeout: timeout}
	conn, err := dialer.DialContext(t.open, "tcp", to.Addr)
	if err != nil {
		return nil, err
	}
	s := &stream{Conn: conn}
	s.release = context.AfterFunc(t.open, func() { conn.Close() })
	return s, nil
}

func (t *transport) Shutdown() error {
	t.shutDown()
	return t.NetTransport.Shutdown()
}

// A stream is a connection that its transport closes at Shutdown, unless it was closed before.
type stream struct {
	net.Conn
	release func() bool
}

func (s *stream) Close() error {
	s.release()
	if err := s.Conn.Close(); !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}
