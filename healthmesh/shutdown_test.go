package healthmesh

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"
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
