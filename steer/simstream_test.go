package steer_test

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// A simconn is one end of a stream.
type simconn struct {
	at, peer *station
	in, out  *flow
	closed   chan struct{}
	once     sync.Once

	mu          sync.Mutex
	readBefore  time.Time // guarded by mu
	writeBefore time.Time // guarded by mu
}

// A flow is one direction of a stream.
type flow struct {
	link     link
	mu       sync.Mutex
	segments []segment     // guarded by mu; in order
	bytes    int           // guarded by mu; in segments
	reset    bool          // guarded by mu; the writer is gone without a word
	readable chan struct{} // has a token when the reader should look
	writable chan struct{} // has a token when the writer should look
}

// A segment comes at a time; one without bytes is the end.
type segment struct {
	b  []byte
	at time.Time
}

func newStream(a, b *station) (near, far *simconn) {
	flowOf := func(from, to *station) *flow {
		return &flow{link: link{from.addr, to.addr}, readable: make(chan struct{}, 1), writable: make(chan struct{}, 1)}
	}
	there, back := flowOf(a, b), flowOf(b, a)
	return &simconn{at: a, peer: b, in: back, out: there, closed: make(chan struct{})},
		&simconn{at: b, peer: a, in: there, out: back, closed: make(chan struct{})}
}

func (c *simconn) LocalAddr() net.Addr  { return c.at }
func (c *simconn) RemoteAddr() net.Addr { return c.peer }

func (c *simconn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

func (c *simconn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	c.readBefore = t
	c.mu.Unlock()
	token(c.in.readable)
	return nil
}

func (c *simconn) SetWriteDeadline(t time.Time) error {
	c.mu.Lock()
	c.writeBefore = t
	c.mu.Unlock()
	token(c.out.writable)
	return nil
}

func (c *simconn) Read(b []byte) (int, error) {
	for {
		c.mu.Lock()
		deadline := c.readBefore
		c.mu.Unlock()
		if err := c.usable(deadline); err != nil {
			return 0, err
		}
		n, wait, err := c.take(b)
		if n > 0 || err != nil {
			return n, err
		}
		c.wait(c.in.readable, wait, deadline)
	}
}

// take reads what has come. If nothing has, it says when to look again; 0 is when the flow changes.
func (c *simconn) take(b []byte) (n int, wait time.Duration, err error) {
	open := c.passes()
	f := c.in
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case !open:
		return 0, retransmit, nil
	case f.reset:
		return 0, 0, syscall.ECONNRESET
	case len(f.segments) == 0:
		return 0, 0, nil
	}
	head := &f.segments[0]
	if wait := time.Until(head.at); wait > 0 {
		return 0, wait, nil
	}
	if head.b == nil {
		return 0, 0, io.EOF
	}
	n = copy(b, head.b)
	f.bytes -= n
	if head.b = head.b[n:]; len(head.b) == 0 {
		f.segments = f.segments[1:]
	}
	token(f.writable)
	return n, 0, nil
}

// passes says whether the link to this end carries streams, and both machines are there.
func (c *simconn) passes() bool {
	n := c.at.net
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.cuts[c.in.link].streams == 0 && c.at.paused == nil
}

func (c *simconn) Write(b []byte) (int, error) {
	for {
		c.mu.Lock()
		deadline := c.writeBefore
		c.mu.Unlock()
		if err := c.usable(deadline); err != nil {
			return 0, err
		}
		if c.put(append(make([]byte, 0, len(b)), b...)) {
			return len(b), nil
		}
		c.wait(c.out.writable, 0, deadline)
	}
}

// put sends bytes if there is room; nil is the end.
func (c *simconn) put(b []byte) bool {
	n := c.at.net
	n.mu.Lock()
	c.at.sent.streamed += len(b)
	after, lost := n.trip(), 0
	for n.rng.Float64() < n.weather.loss && lost < 5 {
		lost++
	}
	n.mu.Unlock()
	f := c.out
	f.mu.Lock()
	defer f.mu.Unlock()
	if b != nil && f.bytes > flowBytes {
		return false
	}
	at := time.Now().Add(after + time.Duration(lost)*retransmit)
	if last := len(f.segments) - 1; last >= 0 && f.segments[last].at.After(at) {
		at = f.segments[last].at
	}
	f.segments = append(f.segments, segment{b, at})
	f.bytes += len(b)
	token(f.readable)
	return true
}

func (c *simconn) usable(deadline time.Time) error {
	select {
	case <-c.closed:
		return net.ErrClosed
	default:
	}
	if !deadline.IsZero() && !time.Now().Before(deadline) {
		return os.ErrDeadlineExceeded
	}
	return nil
}

// wait returns when the flow changed, after a time (0: none), at the deadline, or when this end is closed.
func (c *simconn) wait(changed chan struct{}, most time.Duration, deadline time.Time) {
	if !deadline.IsZero() && (most == 0 || time.Until(deadline) < most) {
		most = time.Until(deadline)
	}
	var due <-chan time.Time
	if most > 0 || !deadline.IsZero() {
		timer := time.NewTimer(most)
		defer timer.Stop()
		due = timer.C
	}
	select {
	case <-changed:
	case <-due:
	case <-c.closed:
	}
}

func (c *simconn) Close() error {
	c.end(true, false)
	return nil
}

// end closes this end. The other is told, by the end of the flow or by a reset.
func (c *simconn) end(tell, reset bool) {
	c.once.Do(func() {
		close(c.closed)
		c.at.net.mu.Lock()
		delete(c.at.conns, c)
		c.at.net.mu.Unlock()
		switch {
		case reset:
			c.out.mu.Lock()
			c.out.reset = true
			c.out.mu.Unlock()
			token(c.out.readable)
		case tell:
			c.put(nil)
		}
	})
}
