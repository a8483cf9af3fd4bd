package healthmesh

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
)

// mute is a node that takes connections and never says a word.
func mute(t *testing.T) (addr string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var conns []net.Conn
	var accepting sync.WaitGroup
	accepting.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, conn)
			mu.Unlock()
		}
	})
	t.Cleanup(func() {
		ln.Close()
		accepting.Wait()
		for _, c := range conns {
			c.Close()
		}
	})
	return ln.Addr().String()
}

// A seed that hangs keeps nobody from leaving: what is under way is broken off.
func Test_a_seed_that_hangs_does_not_delay_the_end(t *testing.T) {
	o := director("d1")
	o.Config.Join = []string{mute(t)}
	d := begin(t, o, nil)
	time.Sleep(2 * testBeat) // so that the joiner is in the midst of its try
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	began := time.Now()
	if err := d.Close(ctx); err != nil {
		t.Errorf("after %v: %v", time.Since(began), err)
	}
}

// full is an address that takes no more connections: to connect there hangs, as it does where a firewall drops all.
func full(t *testing.T) (addr string) {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Close(fd) })
	if err := errors.Join(syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), syscall.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	addr = fmt.Sprintf("127.0.0.1:%d", name.(*syscall.SockaddrInet4).Port)
	for range 16 {
		conn, err := net.DialTimeout("tcp", addr, 200*time.Millisecond)
		if err != nil {
			return addr
		}
		t.Cleanup(func() { conn.Close() })
	}
	t.Skip("this system takes more connections than a listener asked for")
	return ""
}

// Who connects to a peer that drops all packets does not wait for it once the transport is shut down.
func Test_a_connection_under_way_ends_at_shutdown(t *testing.T) {
	tr, err := newTransport(&memberlist.NetTransportConfig{BindAddrs: []string{"127.0.0.1"}, Logger: log.New(io.Discard, "", 0)})
	if err != nil {
		t.Fatal(err)
	}
	to := memberlist.Address{Addr: full(t)}
	began := time.Now()
	var dialing sync.WaitGroup
	dialing.Go(func() {
		if conn, err := tr.DialAddressTimeout(to, patience); err == nil {
			conn.Close()
			t.Error("it was connected")
		}
	})
	if err := tr.Shutdown(); err != nil {
		t.Error(err)
	}
	dialing.Wait()
	if took := time.Since(began); took > patience/2 {
		t.Errorf("it waited %v", took)
	}
}
