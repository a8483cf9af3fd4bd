package healthmesh

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"
)

// A name with hundreds of addresses where nobody answers holds up no round for long, and each address has its turn.
func TestSeedWithManyAddresses(t *testing.T) {
	const many = 200
	names := resolveBy(t, func(q *dns.Msg) *dns.Msg {
		answer := new(dns.Msg).SetReply(q)
		for i := range many {
			if q.Question[0].Qtype == dns.TypeA {
				rr, _ := dns.NewRR(fmt.Sprintf("%s 60 A 192.0.2.%d", q.Question[0].Name, i+1))
				answer.Answer = append(answer.Answer, rr)
			}
		}
		return answer
	})
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		tried := make(map[string]bool)
		j := &joiner{
			seeds: []string{"many.example.com.:7946"}, members: new(members), log: slog.New(slog.DiscardHandler), known: make(map[string]bool),
			join: func(addr string) error {
				mu.Lock()
				tried[addr] = true
				mu.Unlock()
				time.Sleep(streamTime)
				return context.DeadlineExceeded
			},
		}
		j.peers.Store(new([]string))
		for range 20 {
			began := time.Now()
			if j.round(t.Context()) || time.Since(began) > lookupTime+seedTime+streamTime {
				t.Fatalf("a round took %v", time.Since(began))
			}
		}
		if len(tried) < 10 {
			t.Errorf("in 20 rounds %v were tried", tried)
		}
	})
	if !names() {
		t.Error("the name was not looked up")
	}
}

// resolveBy has names resolved by a server that answers so, for the test; the function says whether it was asked.
func resolveBy(t *testing.T, answer func(*dns.Msg) *dns.Msg) (asked func() bool) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var once sync.Once
	seen := make(chan struct{})
	server := &dns.Server{Listener: l, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		once.Do(func() { close(seen) })
		_ = w.WriteMsg(answer(q)) // who does not get it says so
	})}
	ended := make(chan error, 1)
	go func() { ended <- server.ActivateAndServe() }()
	before := net.DefaultResolver
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", l.Addr().String())
	}}
	t.Cleanup(func() {
		net.DefaultResolver = before
		l.Close()
		<-ended
	})
	return func() bool {
		select {
		case <-seen:
			return true
		default:
			return false
		}
	}
}
