package healthmesh

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
)

// Who has no key, and promises large tables over many streams, costs no more than the bounds say, and keeps out nobody else.
func Test_streams_of_garbage_are_bounded(t *testing.T) {
	key := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(key, []byte(GenerateKey()), 0o600); err != nil {
		t.Fatal(err)
	}
	o := director("a")
	o.Config.KeyFile = key
	a := begin(t, o, nil)
	const addresses, streams = 3, 3 * maxOneStreams
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	var conns []net.Conn
	for i := range 2 * streams {
		from := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(2+i%addresses))}}
		conn, err := from.Dial("tcp", a.Addr())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		conns = append(conns, conn)
	}
	ended := make(chan int, len(conns))
	for _, conn := range conns {
		go func() { ended <- garbage(conn, defaultLabel, 20<<20) }() // the most that memberlist reads
	}
	o = director("b", a)
	o.Config.KeyFile = key
	begin(t, o, nil).eventually("a", func(v *View) bool { return len(v.Members) == 2 })
	for range conns {
		select {
		case <-ended:
		case <-time.After(patience):
			t.Fatal("a stream of garbage does not end")
		}
	}
	runtime.ReadMemStats(&after)
	grown, most := int64(after.HeapSys)-int64(before.HeapSys), int64(8*maxBytes) // buffers grow twofold, and are not collected at once
	t.Logf("%d streams: the heap grew by %d MiB", len(conns), grown>>20)
	if grown > most {
		t.Errorf("the heap grew by %d MiB, at most %d are accepted", grown>>20, most>>20)
	}
}

// garbage sends a stream that promises so many bytes of a table, and says how many were taken until it ended.
func garbage(conn net.Conn, label string, size int) (sent int) {
	head := append([]byte{244, byte(len(label))}, label...) // as memberlist begins: label, encrypted message, its length
	head = binary.BigEndian.AppendUint32(append(head, 10), uint32(size))
	if _, err := conn.Write(head); err != nil {
		return 0
	}
	zeros := make([]byte, 64<<10)
	for sent < size {
		n, err := conn.Write(zeros)
		sent += n
		if err != nil {
			return sent
		}
	}
	io.Copy(io.Discard, conn) // until the other side closes
	return sent
}

// A stream has a bound for its length, and gives its place back once, when it is closed.
func Test_streams_have_bounds(t *testing.T) {
	tr, err := newTransport(&memberlist.NetTransportConfig{BindAddrs: []string{"127.0.0.1"}, Logger: log.New(io.Discard, "", 0)})
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Shutdown()
	dial := func() net.Conn {
		conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", tr.GetAutoBindPort()))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		return conn
	}
	var open []net.Conn
	for range maxOneStreams {
		dial()
		open = append(open, <-tr.StreamCh())
	}
	refused := dial()
	refused.SetReadDeadline(time.Now().Add(patience))
	if _, err := refused.Read(make([]byte, 1)); err == nil || os.IsTimeout(err) {
		t.Errorf("one more than %d is not refused: %v", maxOneStreams, err)
	}
	open[0].Close()
	open[0].Close()
	sender := dial()
	go func() { sender.Write(make([]byte, maxOne+maxRead)) }()
	last := <-tr.StreamCh()
	n, err := io.Copy(io.Discard, last)
	if n > maxOne || n < maxOne-maxRead || !errors.Is(err, errTooMuch) {
		t.Errorf("%d bytes were read, then %v; want about %d", n, err, maxOne)
	}
	if tr.all.streams != maxOneStreams || tr.all.bytes < maxOne {
		t.Errorf("%+v are held", tr.all)
	}
	for _, c := range append(open, last) {
		c.Close()
	}
	if tr.all != (share{}) || len(tr.from) != 0 {
		t.Errorf("%+v are still held, of %v", tr.all, tr.from)
	}
}
