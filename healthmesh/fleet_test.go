package healthmesh

import (
	"bytes"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// A logbook keeps log lines for a test that waits for one.
type logbook struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logbook) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *logbook) log() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// count is how often a text was logged.
func (l *logbook) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), text)
}

// wait waits until a text has been logged so many times.
func (l *logbook) wait(t *testing.T, text string, times int) {
	t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		n := l.count(text)
		if n >= times {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%q was logged %d times, want %d", text, n, times)
		}
	}
}

// backendServer accepts connections at an address until it is closed.
func backendServer(t *testing.T, addr string) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			conn.Close()
		}
	}()
	t.Cleanup(func() { l.Close() })
	return l
}

// tcpCheck is a check that is quick to see a change.
func tcpCheck() Check {
	return Check{Type: checkTCP, Interval: minInterval, Timeout: patience, Fall: 2, Rise: 1}.withDefaults()
}

// The live capacity follows a file, without an edit of the configuration, and is never more than the bound; with too little of it
// all endpoints of the region are down, those of services without a check too.
func TestLiveCapacityFollowsAFile(t *testing.T) {
	var addrs []string
	for range 4 {
		addrs = append(addrs, fmt.Sprintf("%q", backendServer(t, "127.0.0.1:0").Addr()))
	}
	list := func(n int, labels string) string {
		return fmt.Sprintf(`[{"targets": [%s], "labels": {%s}}]`, strings.Join(addrs[:n], ", "), labels)
	}
	path := filepath.Join(t.TempDir(), "backends.json")
	write(t, path, list(2, `"job": "web"`))
	var book logbook
	unchecked := Target{ID: 7, Region: "a", Name: "unchecked"}
	e := newEndpoint(t)
	checked := e.target(t, "www.geo.example.com.")
	check := tcpCheck()
	check.Port = 0
	_, published := startAgent(t, AgentOptions{
		Targets: []Target{checked, unchecked}, Region: "a", Capacity: 100, MaxCapacity: 300, Log: book.log(),
		Backends: BackendsConfig{File: path, Interval: minInterval, Capacity: 50, MinLive: 50, Check: check},
	})
	capacity := func(want float64) func(Status) bool {
		return func(s Status) bool {
			return s.Capacity == want && !s.Below && s.Endpoints[checked.ID].State == Up && s.Endpoints[7].State == Up
		}
	}
	published("two of 50", capacity(100))
	replace(t, path, list(4, ""))
	published("scaled out", capacity(200))
	replace(t, path, list(3, `"nearcast_capacity": "70"`))
	published("larger ones", capacity(210))
	replace(t, path, list(4, `"nearcast_capacity": "90"`))
	published("no more than the bound", capacity(300))
	replace(t, path, list(1, ""))
	published("scaled in", capacity(50))
	for i, bad := range []string{"", "[", `[{"targets": ["x"]}]`} {
		write(t, path, bad)
		book.wait(t, "cannot be read", i+1)
		published("what a bad file leaves as it was", capacity(50))
		write(t, path, list(1, ""))
		book.wait(t, "is read again", i+1)
	}
	write(t, path, "[]")
	published("no backends", func(s Status) bool {
		const why = "capacity below min_live: 0%"
		return s.Capacity == 0 && s.Below && s.Endpoints[checked.ID].Reason == why && s.Endpoints[checked.ID].State == Down &&
			s.Endpoints[7].Reason == why && s.Endpoints[7].State == Down && !s.Endpoints[7].At.IsZero()
	})
	write(t, path, list(2, ""))
	published("enough again, but not for long", func(s Status) bool {
		return s.Capacity == 100 && s.Below && s.Endpoints[checked.ID].Reason == "capacity below min_live: 0%"
	})
	published("and for long", capacity(100))
}

// The live capacity follows a DNS name and the health of the backends; a name that cannot be resolved changes nothing.
func TestLiveCapacityFollowsDNS(t *testing.T) {
	n := newNameserver(t)
	first := backendServer(t, "127.0.0.1:0")
	p := port(t, first.Addr())
	backendServer(t, fmt.Sprintf("127.0.0.2:%d", p))
	third := backendServer(t, fmt.Sprintf("127.0.0.3:%d", p))
	record := func(host int) string { return fmt.Sprintf("web.example.com. 0 A 127.0.0.%d", host) }
	n.set(t, nil, record(1), record(2))
	var book logbook
	check := tcpCheck()
	check.Port = 0
	_, published := startAgent(t, AgentOptions{
		Region: "a", Capacity: 120, MaxCapacity: 200, Log: book.log(),
		Backends: BackendsConfig{DNS: "web.example.com.", Port: p, Server: n.addr, Interval: minInterval, Capacity: 40, MinLive: 30, Check: check},
	})
	capacity := func(want float64) func(Status) bool {
		return func(s Status) bool { return s.Capacity == want && !s.Below }
	}
	published("two", capacity(80))
	n.set(t, nil, record(1), record(2), record(3))
	published("three", capacity(120))
	n.set(t, nil)
	book.wait(t, "cannot be read", 1)
	published("no answer: the last list", capacity(120))
	third.Close()
	published("whose backends are still checked", capacity(80))
	n.set(t, nil, record(2))
	published("one", capacity(40))
}

// Backends that nobody has checked yet neither take capacity away nor bring some.
func TestUnknownBackendsChangeNothing(t *testing.T) {
	c := BackendsConfig{Capacity: 50, MinLive: 50, Check: tcpCheck()}
	m := &muster{
		fleet: &fleet{c: c, region: "a", capacity: 200, most: 300, log: slog.New(slog.DiscardHandler)},
		live:  live{capacity: 200}, health: map[EndpointID]Endpoint{},
	}
	now := time.Now()
	if m.judge(now) || m.live.capacity != 200 {
		t.Errorf("no list: %+v, want the configured capacity", m.live)
	}
	m.listed = true
	for _, c := range []struct {
		name string
		list string // addresses, each with its state behind it: + up, - down, ? unknown
		want float64
	}{
		{"all unknown", "a? b? c? d?", 200},
		{"one up", "a+ b? c? d?", 200},
		{"one down", "a+ b- c? d?", 150},
		{"all judged", "a+ b- c+ d+", 150},
		{"a new one", "a+ b- c+ d+ e?", 150},
		{"which is up", "a+ b- c+ d+ e+", 200},
		{"all replaced", "f? g? h? i?", 200},
		{"by fewer", "f? g? h?", 150},
		{"which are up", "f+ g+ h+", 150},
		{"more than the bound", "f+ g+ h+ i+ j+ k+ l+", 300},
	} {
		m.list = nil
		for part := range strings.FieldsSeq(c.list) {
			b := backend{addr: part[:1] + ":80"}
			m.list = append(m.list, b)
			m.health[m.id(b)] = Endpoint{State: map[string]State{"+": Up, "-": Down, "?": Unknown}[part[1:]]}
		}
		if m.judge(now); m.live.capacity != c.want || m.live.below {
			t.Errorf("%s: %+v, want %v", c.name, m.live, c.want)
		}
	}
}

// A region goes below min_live at once, and comes back when it has had enough for liveHold without a break.
func TestBelowHolds(t *testing.T) {
	m := &muster{fleet: &fleet{c: BackendsConfig{Capacity: 25, MinLive: 50}, capacity: 100, most: 100, log: slog.New(slog.DiscardHandler)}, listed: true}
	m.live.capacity = 100
	began := time.Now()
	for _, c := range []struct {
		at    time.Duration
		live  int // backends of 25
		below bool
	}{
		{0, 4, false}, {1, 2, false}, {2, 1, true}, {3, 2, true}, {7, 2, true}, {7, 1, true}, {9, 4, true}, {13, 2, true}, {14, 2, false},
		{15, 0, true}, {20, 2, true}, {25, 2, false}, {26, 1, true},
	} {
		m.list = nil
		for i := range c.live {
			m.list = append(m.list, backend{addr: fmt.Sprint(i)})
		}
		if m.judge(began.Add(c.at * time.Second)); m.live.below != c.below || m.live.capacity != float64(25*c.live) {
			t.Errorf("at %d s with %d backends: %+v, want below %v", c.at, c.live, m.live, c.below)
		}
	}
}

// A reload keeps what is known until it knows better; without backends, the capacity is the configured one.
func TestReloadOfBackends(t *testing.T) {
	path := filepath.Join(t.TempDir(), "backends.json")
	write(t, path, `[{"targets": ["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"]}]`)
	backends := BackendsConfig{File: path, Interval: minInterval, Capacity: 50, MinLive: 50}
	o := AgentOptions{Region: "a", Capacity: 100, MaxCapacity: 300, Backends: backends}
	var book logbook
	o.Log = book.log()
	reload, published := startAgent(t, o)
	published("three", func(s Status) bool { return s.Capacity == 150 })
	o.Backends.File = path + ".gone"
	reload <- o
	book.wait(t, "cannot be read", 1)
	published("as it was", func(s Status) bool { return s.Capacity == 150 && !s.Below })
	o.MaxCapacity = 120
	reload <- o
	published("no more than the new bound", func(s Status) bool { return s.Capacity == 120 })
	o.Backends = BackendsConfig{}
	reload <- o
	published("the configured one", func(s Status) bool { return s.Capacity == 100 })
}
