package healthmesh

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// What is wrong with load sources and backends is reported with its key; what is left out has its default.
func TestValidateLoadAndBackends(t *testing.T) {
	var got []string
	report := func(key string, value any, accepted string) { got = append(got, fmt.Sprintf("%s=%v", key, value)) }
	zero := 0.0
	load := func(c LoadConfig) func() { return func() { c.Validate("l", report) } }
	backends := func(c BackendsConfig) func() { return func() { c.Validate("b", "/etc", report) } }
	one := []BackendConfig{{Address: "10.0.0.1:8080", Capacity: 50}}
	web := Check{Type: checkHTTP}
	for _, c := range []struct {
		name     string
		validate func()
		want     string
	}{
		{"nginx", load(LoadConfig{Type: "nginx", URL: "http://127.0.0.1/s"}), ""},
		{"haproxy's socket", load(LoadConfig{Type: "haproxy", URL: "unix:///run/admin.sock", Proxy: "web", Row: "FRONTEND", Metric: "rate"}), ""},
		{"a relative socket", load(LoadConfig{Type: "haproxy", URL: "unix://run/admin.sock"}), "l.url=unix://run/admin.sock"},
		{"a socket of another", load(LoadConfig{Type: "nginx", URL: "unix:///run/admin.sock"}), "l.url=unix:///run/admin.sock"},
		{"the host", load(LoadConfig{Type: "cpu"}), ""},
		{"the host by URL", load(LoadConfig{Type: "memory", URL: "http://127.0.0.1/"}), "l.url=http://127.0.0.1/"},
		{"an unknown type", load(LoadConfig{Type: "varnish", URL: "http://127.0.0.1/"}), "l.type=varnish"},
		{"keys of other types", load(LoadConfig{Type: "envoy", URL: "http://127.0.0.1/", JSON: "a", Labels: []LabelConfig{{"a", "b"}}, Proxy: "p", Row: "r"}),
			"l.json=a l.labels=[{a b}] l.proxy=p l.row=r"},
		{"prometheus without a metric", load(LoadConfig{Type: "prometheus", URL: "http://127.0.0.1/", Labels: []LabelConfig{{"", "b"}}}), "l.metric= l.labels[0].name="},
		{"bounds", load(LoadConfig{Type: "cpu", Scale: &zero, Smooth: 2 * time.Hour, Interval: time.Millisecond, MaxAge: 48 * time.Hour}),
			"l.scale=0 l.smooth=2h0m0s l.interval=1ms l.max_age=48h0m0s"},

		{"no backends", backends(BackendsConfig{}), ""},
		{"a static list", backends(BackendsConfig{Static: one, Check: web}), ""},
		{"a file", backends(BackendsConfig{File: "b.json", Capacity: 50}), ""},
		{"addresses", backends(BackendsConfig{DNS: "web.example.com", Port: 80, Server: "127.0.0.1:8600", Capacity: 50}), ""},
		{"SRV records", backends(BackendsConfig{DNS: "_web._tcp.example.com", Capacity: 50}), ""},
		{"no source", backends(BackendsConfig{Capacity: 50}), "b=0 sources"},
		{"two sources", backends(BackendsConfig{Static: one, File: "x", Capacity: 50}), "b=2 sources"},
		{"no capacity", backends(BackendsConfig{File: "x"}), "b.capacity=0"},
		{"no capacity of one", backends(BackendsConfig{Static: []BackendConfig{{Address: "a:1"}}}), "b.capacity=0"},
		{"bad backends", backends(BackendsConfig{Static: []BackendConfig{{"a:1", 5}, {"a:1", 5}, {"b", 5}, {":80", 5}, {"a b:80", 5}, {"c:1", -5}}}),
			"b.static[1].address=a:1 b.static[2].address=b b.static[3].address=:80 b.static[4].address=a b:80 b.static[5].capacity=-5"},
		{"SRV and a port", backends(BackendsConfig{DNS: "_web._tcp.example.com", Port: 80, Capacity: 50}), "b.port=80"},
		{"addresses without a port", backends(BackendsConfig{DNS: "web.example.com", Capacity: 50, Server: "localhost:53"}), "b.port=0 b.server=localhost:53"},
		{"keys of dns", backends(BackendsConfig{File: "x", Capacity: 50, Port: 80, Server: "127.0.0.1:53"}), "b.port=80 b.server=127.0.0.1:53"},
		{"bounds", backends(BackendsConfig{File: "x", Capacity: -1, Interval: time.Millisecond, MinLive: 101}), "b.min_live=101 b.interval=1ms b.capacity=-1"},
		{"an interval of what never changes", backends(BackendsConfig{Static: one, Interval: time.Second}), "b.interval=1s"},
		{"a bad check", backends(BackendsConfig{Static: one, Check: Check{Type: checkHTTP, Fall: 99}}), "b.check.fall=99"},
		{"a check that asks for nothing", backends(BackendsConfig{Static: one, Check: Check{Type: checkDNS}}), "b.check.host="},
	} {
		got = nil
		if c.validate(); strings.Join(got, " ") != c.want {
			t.Errorf("%s: %q, want %q", c.name, strings.Join(got, " "), c.want)
		}
	}
	many := BackendsConfig{Capacity: 1}
	for i := range maxBackends + 1 {
		many.Static = append(many.Static, BackendConfig{Address: fmt.Sprintf("10.0.%d.%d:80", i/256, i%256)})
	}
	if got = nil; true {
		many.Validate("b", "/etc", report)
	}
	if !slices.Equal(got, []string{"b.static=1025"}) {
		t.Errorf("too many: %q", got)
	}
	c := BackendsConfig{File: "b.json", Capacity: 50, Check: web}.Validate("b", "/etc", report)
	if c.File != "/etc/b.json" || c.MinLive != 50 || c.Interval != time.Second || c.Check.Port != 0 || c.Check.Rise != 2 {
		t.Errorf("defaults: %+v", c)
	}
}

// A file in the form of Prometheus's file_sd is a list, or an error; never a part of it.
func TestParseRoster(t *testing.T) {
	for _, c := range []struct {
		name, text string
		json       bool
		want       string // or the error
	}{
		{"JSON", `[{"targets": ["10.0.0.2:80", "10.0.0.1:80"], "labels": {"job": "web", "nearcast_capacity": "50"}}, {"targets": ["[2001:db8::1]:80"]}]`, true,
			"[{10.0.0.1:80 50} {10.0.0.2:80 50} {[2001:db8::1]:80 0}]"},
		{"YAML", "- targets: [a:1, b:2]\n  labels: {nearcast_capacity: 7.5}\n- targets: [c:3]\n", false, "[{a:1 7.5} {b:2 7.5} {c:3 0}]"},
		{"JSON is YAML", `[{"targets": ["a:1"]}]`, false, "[{a:1 0}]"},
		{"one in two groups", `[{"targets": ["a:1"]}, {"targets": ["a:1"], "labels": {"x": "y"}}]`, true, "[{a:1 0}]"},
		{"an empty list", "[]", true, "[]"},
		{"an empty list in YAML", "[]\n", false, "[]"},
		{"a group without targets", `[{"targets": []}]`, true, "[]"},
		{"nothing", "", true, "there is no list"},
		{"nothing in YAML", "", false, "there is no list"},
		{"a comment", "# to be written\n", false, "there is no list"},
		{"null", "null", true, "there is no list"},
		{"cut off", `[{"targets": ["a:1"`, true, "unexpected EOF"},
		{"cut off in YAML", "- targets: [a:1,", false, "yaml:"},
		{"cut off before the targets", "- targets:\n", false, "group 1 has no targets"},
		{"more behind", `[{"targets": ["a:1"]}] x`, true, "something behind"},
		{"a second document", "- targets: [a:1]\n---\n- targets: [b:1]\n", false, "something behind"},
		{"a mapping", `{"targets": ["a:1"]}`, true, "cannot unmarshal"},
		{"an unknown key", `[{"target": ["a:1"]}]`, true, "unknown field"},
		{"no port", `[{"targets": ["a"]}]`, true, `target "a"`},
		{"bad capacity", `[{"targets": ["a:1"], "labels": {"nearcast_capacity": "much"}}]`, true, `label nearcast_capacity is "much"`},
		{"no capacity", `[{"targets": ["a:1"], "labels": {"nearcast_capacity": "0"}}]`, true, `is "0"`},
		{"two capacities", `[{"targets": ["a:1"]}, {"targets": ["a:1"], "labels": {"nearcast_capacity": "5"}}]`, true, "two capacities, 0 and 5"},
	} {
		all, err := parseRoster([]byte(c.text), c.json)
		got := fmt.Sprint(all)
		if err != nil {
			got = err.Error()
		}
		if got != c.want && (err == nil || !strings.Contains(got, c.want)) {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
	var many strings.Builder
	for i := range maxBackends + 1 {
		fmt.Fprintf(&many, "- targets: [a:%d]\n", i+1)
	}
	if _, err := parseRoster([]byte(many.String()), false); err == nil || !strings.Contains(err.Error(), "1025 backends") {
		t.Errorf("too many: %v", err)
	}
}
