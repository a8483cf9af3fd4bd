package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

const near = "127.0.0.1:40000"

// newTestBalancer is a balancer that has looked at its servers, which are real ones of a site each.
func newTestBalancer(t *testing.T, names ...string) (*balancer, map[string]*httptest.Server) {
	t.Helper()
	servers := map[string]*httptest.Server{}
	var urls []string
	for _, name := range names {
		servers[name] = httptest.NewServer(newSite("us-east").backend(name))
		t.Cleanup(servers[name].Close)
		urls = append(urls, servers[name].URL)
	}
	b, err := newBalancer(urls, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.client.CloseIdleConnections)
	b.lookAll(t)
	return b, servers
}

func (b *balancer) lookAll(t *testing.T) {
	for _, s := range b.servers {
		b.look(t.Context(), s)
	}
}

// spread asks n times and counts the bodies.
func spread(h http.Handler, n int) map[string]int {
	count := map[string]int{}
	for range n {
		status, body := request(h, "GET", "/", near)
		count[fmt.Sprintf("%d %s", status, body)]++
		request(h, "GET", "/healthz", near) // an agent's look takes no turn away
	}
	return count
}

func TestABalancerSpreadsOverHealthyServers(t *testing.T) {
	b, servers := newTestBalancer(t, "a", "b")
	h := b.handler()
	const fromA, fromB = "200 us-east, server a\n", "200 us-east, server b\n"
	if got := spread(h, 10); got[fromA] != 5 || got[fromB] != 5 {
		t.Fatalf("two healthy servers, ten requests: %v", got)
	}
	servers["a"].Close()
	if got := spread(h, 11); got[fromB] < 10 {
		t.Fatalf("a server that went away is asked again before the next look: %v", got)
	}
	if status, _ := request(h, "GET", "/healthz", near); status != 200 {
		t.Fatalf("unhealthy with one healthy server: %d", status)
	}
	servers["b"].Close()
	b.lookAll(t)
	for _, path := range []string{"/", "/healthz"} {
		if status, _ := request(h, "GET", path, near); status != 503 {
			t.Errorf("%s without a server: %d, want 503", path, status)
		}
	}
}

func TestABalancerTellsAllServersToFailAndToHeal(t *testing.T) {
	b, servers := newTestBalancer(t, "a", "b", "c")
	h := b.handler()
	servers["a"].Close() // does not keep the others from being told
	if status, _ := request(h, "POST", "/demo/fail", "192.0.2.1:40000"); status != 403 {
		t.Fatalf("told from far: %d, want 403", status)
	}
	for _, step := range []struct {
		verb    string
		healthy int
	}{{"fail", 503}, {"heal", 200}} {
		if status, _ := request(h, "POST", "/demo/"+step.verb, near); status != 502 {
			t.Errorf("%s with a server away: %d, want 502", step.verb, status)
		}
		b.lookAll(t)
		if status, _ := request(h, "GET", "/healthz", near); status != step.healthy {
			t.Errorf("after %s: %d, want %d", step.verb, status, step.healthy)
		}
	}
}

func TestABalancersLoadIsTheSumOfItsServers(t *testing.T) {
	var urls []string
	for _, body := range []string{`{"load": 3}`, `{"load": 4.5}`, "not JSON"} {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, body) }))
		t.Cleanup(srv.Close)
		urls = append(urls, srv.URL)
	}
	b, err := newBalancer(urls, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.client.CloseIdleConnections)
	b.lookAll(t)
	if status, body := request(b.handler(), "GET", "/load", near); status != 200 || body != "{\"load\":7.5}\n" {
		t.Errorf("%d %q", status, body)
	}
}

func TestAClientThatGoesAwayLeavesTheServerHealthy(t *testing.T) {
	arrived := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/" {
			close(arrived)
			<-r.Context().Done()
		}
	}))
	t.Cleanup(srv.Close)
	b, err := newBalancer([]string{srv.URL}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.client.CloseIdleConnections)
	b.lookAll(t)
	ctx, leave := context.WithCancel(t.Context())
	go func() { <-arrived; leave() }()
	b.handler().ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil).WithContext(ctx))
	if !b.servers[0].healthy.Load() {
		t.Error("unhealthy")
	}
}

func TestABalancerWatchesUntilItsEnd(t *testing.T) {
	b, _ := newTestBalancer(t, "a")
	b.servers[0].healthy.Store(false)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); b.watch(ctx, b.servers[0]) }()
	for end := time.Now().Add(10 * balancerCheck); !b.servers[0].healthy.Load(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("a healthy server is not seen")
		}
	}
	stop()
	select {
	case <-ended:
	case <-time.After(10 * balancerCheck):
		t.Fatal("it watches on after its end")
	}
}

func TestABalancerRefusesWhatIsNoURL(t *testing.T) {
	for _, text := range []string{"", "server-1:8080", "http://", "://x", "/path"} {
		if _, err := newBalancer([]string{text}, slog.New(slog.DiscardHandler)); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
}
