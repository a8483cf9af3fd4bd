package healthmesh

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// An endpoint server counts its checks and answers as a test tells it.
type endpointServer struct {
	*httptest.Server
	failing atomic.Bool
	checks  atomic.Int64
	load    atomic.Int64
}

func newEndpoint(t *testing.T) *endpointServer {
	e := &endpointServer{}
	e.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/load" {
			fmt.Fprintf(w, `{"load": %d}`, e.load.Load())
			return
		}
		e.checks.Add(1)
		if e.failing.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	t.Cleanup(e.Close)
	return e
}

func (e *endpointServer) target(t *testing.T, service string) Target {
	check := Check{Type: checkHTTP, Port: port(t, e.Listener.Addr()), Interval: minInterval, Timeout: patience, Fall: 3, Rise: 2, HoldDown: minHold}
	return Target{ID: ID(service, "a", "127.0.0.1"), Name: service + " 127.0.0.1", Service: service, Endpoint: "127.0.0.1", Checks: []Check{check.withDefaults()}}
}

// startAgent runs an agent until the test ends; the result waits for a status that it published.
func startAgent(t *testing.T, o AgentOptions) (reload chan<- AgentOptions, published func(what string, met func(Status) bool)) {
	t.Helper()
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	var mu sync.Mutex
	var last Status
	reloads := make(chan AgentOptions)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		runAgent(ctx, func(s Status) { mu.Lock(); last = s; mu.Unlock() }, o, reloads, nil, nil)
	})
	t.Cleanup(func() { cancel(); running.Wait() })
	return reloads, func(what string, met func(Status) bool) {
		t.Helper()
		for end := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
			mu.Lock()
			s := last
			mu.Unlock()
			if met(s) {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("never published: %s; the last is %+v", what, s)
			}
		}
	}
}

// The first check decides; after it, fall failures in a row make an endpoint down and rise successes make it up.
func TestFallAndRise(t *testing.T) {
	e := newEndpoint(t)
	target := e.target(t, "www.geo.example.com.")
	_, published := startAgent(t, AgentOptions{Targets: []Target{target}, Capacity: 7})
	state := func(want State) func(Status) bool {
		return func(s Status) bool { return s.Endpoints[target.ID].State == want && s.Capacity == 7 }
	}
	published("up", state(Up))
	e.failing.Store(true)
	before := e.checks.Load()
	published("down", state(Down))
	if n := e.checks.Load() - before; n < 3 {
		t.Errorf("down after %d checks, want 3", n)
	}
	e.failing.Store(false)
	before = e.checks.Load()
	published("up again", state(Up))
	if n := e.checks.Load() - before; n < 2 {
		t.Errorf("up after %d checks, want 2", n)
	}
}

// Endpoints that differ in nothing are checked once; a reload keeps what is known of those that stay.
func TestReloadKeepsStates(t *testing.T) {
	e := newEndpoint(t)
	first, twin := e.target(t, "www.geo.example.com."), e.target(t, "www.geo.example.com.")
	twin.ID = 99
	reload, published := startAgent(t, AgentOptions{Targets: []Target{first, twin}})
	both := func(s Status) bool { return s.Endpoints[first.ID].State == Up && s.Endpoints[99].State == Up }
	published("both up", both)
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone := first
	gone.ID, gone.Checks = 5, slices.Clone(gone.Checks)
	gone.Checks[0].Port = port(t, dead.Addr())
	dead.Close()
	reload <- AgentOptions{Targets: []Target{first, gone}, Capacity: 3, Log: slog.New(slog.DiscardHandler)}
	published("the one that stays is up, the new one down", func(s Status) bool {
		_, twin := s.Endpoints[99]
		return s.Endpoints[first.ID].State == Up && s.Endpoints[5].State == Down && !twin && s.Capacity == 3
	})
	changed := first
	changed.Checks = slices.Clone(changed.Checks)
	changed.Checks[0].Path = "/other"
	e.failing.Store(true)
	reload <- AgentOptions{Targets: []Target{changed}, Log: slog.New(slog.DiscardHandler)}
	published("what was known stays until the new check says otherwise", func(s Status) bool { return s.Endpoints[first.ID].State == Up && len(s.Endpoints) == 1 })
	published("which it does", func(s Status) bool { return s.Endpoints[first.ID].State == Down })
}

// The addresses of an endpoint's two families are judged apart, with one check.
func TestFamiliesAreJudgedApart(t *testing.T) {
	e := newEndpoint(t) // listens on 127.0.0.1 alone
	four := e.target(t, "www.geo.example.com.")
	six := four
	six.Endpoint = "::1"
	six.ID = ID(six.Service, "a", six.Endpoint)
	_, published := startAgent(t, AgentOptions{Targets: []Target{four, six}})
	published("IPv4 up, IPv6 down", func(s Status) bool {
		return s.Endpoints[four.ID].State == Up && s.Endpoints[six.ID].State == Down && !s.Endpoints[six.ID].At.IsZero()
	})
}

// A check that can no longer be made is told once, with the reason, and makes the endpoint unknown after as many as a fall.
func TestUnableIsTold(t *testing.T) {
	var log bytes.Buffer
	a := &checker{o: AgentOptions{Log: slog.New(slog.NewTextHandler(&log, nil))}, load: new(loader), fleet: new(fleet)}
	var said Status
	a.publish = func(s Status) { said = s }
	w := newWatch(Check{Type: checkTCP}.withDefaults())
	w.users = []*subject{{Target: Target{ID: 1, Name: "www"}, watches: []*watch{w}}}
	a.subjects = map[EndpointID]*subject{1: w.users[0]}
	states := ""
	for i, c := range "?+???+++" {
		o := letters[c]
		if o.state == Unknown {
			o.text = fmt.Sprintf("too many open files, port %d", i)
		}
		a.judge(result{watch: w, outcome: o, at: time.Now()})
		states += string("?ud"[said.Endpoints[1].State])
	}
	if want := "?uu??" + "?uu"; states != want {
		t.Errorf("states %s, want %s", states, want)
	}
	if n, again := strings.Count(log.String(), "cannot be made"), strings.Count(log.String(), "made again"); n != 2 || again != 2 || !strings.Contains(log.String(), "port 2") {
		t.Errorf("told %d and %d times, want twice each:\n%s", n, again, log.String())
	}
}

// Load is read, and no longer reported once it is too old.
func TestLoadIsReportedAndAges(t *testing.T) {
	e := newEndpoint(t)
	e.load.Store(40)
	load := LoadConfig{URL: e.URL + "/load", JSON: "load", Smooth: minSmooth, Interval: minInterval, MaxAge: 300 * time.Millisecond}.withDefaults()
	_, published := startAgent(t, AgentOptions{Load: load, Capacity: 100})
	published("load 40", func(s Status) bool { return s.HasLoad && s.Load == 40 })
	e.load.Store(60)
	published("load 60", func(s Status) bool { return s.HasLoad && s.Load == 60 })
	e.Close()
	published("no load", func(s Status) bool { return !s.HasLoad })
}
