package healthmesh

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/memberlist"
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

// A week after they were last seen, all lost peers but the last are given up; those never are, nor are there more than the bound.
func TestPeersAreRemembered(t *testing.T) {
	book := make(peerBook)
	began := time.Now()
	at := func(hours int) time.Time { return began.Add(time.Duration(hours) * time.Hour) }
	for hour := range 2 * keptPeers { // they go one by one
		book.update(nil, []memberlist.Node{nodeOf(fmt.Sprint("lost", hour), roleAgent, "a", byte(hour))}, "self", at(hour))
	}
	here := nodeOf("here", roleAgent, "b", 200)
	book.update(nil, []memberlist.Node{here, nodeOf("self", roleAgent, "b", 201)}, "self", at(2*keptPeers))
	if len(book) != 2*keptPeers+1 {
		t.Errorf("at once: %v", book)
	}
	for _, now := range []int{1000, 100000} {
		book.update([]memberlist.Node{here}, []memberlist.Node{here}, "self", at(now))
		all := book.list()
		if len(all) != keptPeers+1 || all[0].Name != "here" || all[1].Name != fmt.Sprint("lost", 2*keptPeers-1) || all[keptPeers].Name != fmt.Sprint("lost", keptPeers) {
			t.Errorf("after %d hours: %v", now, all)
		}
	}
	var many []memberlist.Node
	for i := range 2 * maxPeers {
		many = append(many, nodeOf(fmt.Sprint("many", i), roleAgent, "c", byte(i)))
	}
	stay := many[:len(many)-3]
	before := []memberlist.Node{here}
	for hour, members := range [][]memberlist.Node{many, stay, stay} {
		now := at(100001 + hour)
		book.update(before, members, "self", now)
		before = members
		lost := slices.DeleteFunc(book.list(), func(p peer) bool { return p.Seen.Equal(now) })
		if len(book) != maxPeers || len(lost) != keptPeers {
			t.Errorf("of many and some lost: %d peers, lost %v", len(book), lost)
		}
	}
	for _, n := range many[len(stay):] {
		if _, ok := book[n.Name]; !ok {
			t.Errorf("%s, which was lost of many, is not tried", n.Name)
		}
	}
}
