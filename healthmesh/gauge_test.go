package healthmesh

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// Answers in the form that each source gives.
var loadAnswers = map[string]string{
	"/json": `{"a": {"b": [1, 2.5]}, "neg": -4, "text": "x"}`,
	"/prom": `# HELP busy Requests in work.
# TYPE busy gauge
busy{pool="a",w="1"} 3
busy{pool="a",w="2"} 4.5
busy{pool="b",w="1"} 100
# TYPE served counter
served{pool="a"} 7
# TYPE took histogram
took_bucket{le="+Inf"} 1
took_sum 1
took_count 1
# TYPE nan gauge
nan NaN
`,
	"/none":  "hello",
	"/empty": "",
	"/long":  "busy 3\n" + strings.Repeat("other 1\n", maxLoadBody/8),
	"/nginx": "Active connections: 291 \nserver accepts handled requests\n 16630948 16630948 31070465 \nReading: 6 Writing: 179 Waiting: 106 \n",
	"/haproxy;csv": `# pxname,svname,qcur,qmax,scur,smax,slim,stot,bin,bout,status,last_chk,
stats,FRONTEND,,,1,3,262121,44,3022,60318,OPEN,,
stats,BACKEND,0,0,0,0,26213,0,3022,60318,UP,,
web,FRONTEND,,,42,99,262121,100231,998,7765,OPEN,,
web,web1,0,2,21,50,,50114,499,3882,UP,"L7OK, ""fine""",
web,web2,0,2,20,50,,50117,499,3883,UP,L7OK,
web,BACKEND,3,9,41,99,26213,100231,998,7765,UP,,

`,
	"/envoy.json": `{"stats":[{"name":"cluster.web.upstream_rq_active","value":17},{"name":"http.admin.downstream_rq_active","value":1},` +
		`{"name":"http.api.downstream_rq_active","value":5},{"name":"http.ingress_http.downstream_rq_active","value":12},` +
		`{"name":"http.ingress_http.downstream_rq_total","value":900},{"name":"server.version","value":"b86c917"},` +
		`{"histograms":{"supported_quantiles":[0,25,50],"computed_quantiles":[{"name":"cluster.web.upstream_rq_time","values":[{"interval":null,"cumulative":1}]}]}}]}`,
	"/envoy.text": "cluster.web.upstream_rq_active: 17\nhttp.admin.downstream_rq_active: 1\nhttp.ingress_http.downstream_rq_active: 12\n" +
		"server.version: \"b86c917\"\ncluster.web.upstream_rq_time: P0(nan,1) P25(nan,1.025)\n",
	"/envoy.idle": `{"stats":[{"name":"http.admin.downstream_rq_active","value":1}]}`,
}

func TestGauges(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer, ok := loadAnswers[r.URL.Path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		fmt.Fprint(w, answer)
	}))
	defer s.Close()
	hundredth := 0.01
	pool := func(name string) []LabelConfig { return []LabelConfig{{"pool", name}} }
	for _, c := range []struct {
		from LoadConfig
		want float64
		err  string
	}{
		{LoadConfig{URL: "/json", JSON: "a.b.1"}, 2.5, ""},
		{LoadConfig{URL: "/json", JSON: "a.b.1", Scale: &hundredth}, 0.025, ""},
		{LoadConfig{URL: "/json", JSON: "neg"}, 0, ""},
		{LoadConfig{URL: "/json", JSON: "text"}, 0, `no number at "text"`},
		{LoadConfig{URL: "/json", JSON: "a.b.7"}, 0, "no element"},
		{LoadConfig{URL: "/json", JSON: "a.b.1.c"}, 0, "nothing at"},
		{LoadConfig{URL: "/none", JSON: "a"}, 0, "not JSON"},
		{LoadConfig{URL: "/empty", JSON: "a"}, 0, "answer is empty"},
		{LoadConfig{URL: "/gone", JSON: "a"}, 0, "status 404"},
		{LoadConfig{URL: "/prom", Metric: "busy"}, 107.5, ""},
		{LoadConfig{URL: "/prom", Metric: "busy", Labels: pool("a")}, 7.5, ""},
		{LoadConfig{URL: "/prom", Metric: "busy", Labels: []LabelConfig{{"pool", "a"}, {"w", "2"}, {"zone", ""}}}, 4.5, ""},
		{LoadConfig{URL: "/prom", Metric: "busy", Labels: pool("c")}, 0, "no sample"},
		{LoadConfig{URL: "/prom", Metric: "idle"}, 0, `no metric "idle"`},
		{LoadConfig{URL: "/prom", Metric: "served"}, 0, "a counter, which only grows"},
		{LoadConfig{URL: "/prom", Metric: "took"}, 0, "histogram"},
		{LoadConfig{URL: "/prom", Metric: "nan"}, 0, "NaN"},
		{LoadConfig{URL: "/long", Metric: "busy"}, 0, "more than|deadline"}, // a slow machine does not get to the bound
		{LoadConfig{URL: "/none", Metric: "busy"}, 0, "not a Prometheus exposition"},
		{LoadConfig{URL: "/nginx", Type: loadNginx}, 291, ""},
		{LoadConfig{URL: "/none", Type: loadNginx}, 0, "not nginx's stub_status"},
		{LoadConfig{URL: "/haproxy;csv", Type: loadHAProxy, Proxy: "web"}, 41, ""},
		{LoadConfig{URL: "/haproxy;csv", Type: loadHAProxy}, 41, ""}, // and none of the proxy "stats"
		{LoadConfig{URL: "/haproxy;csv", Type: loadHAProxy, Row: "FRONTEND"}, 43, ""},
		{LoadConfig{URL: "/haproxy;csv", Type: loadHAProxy, Proxy: "web", Row: "web2"}, 20, ""},
		{LoadConfig{URL: "/haproxy;csv", Type: loadHAProxy, Proxy: "web", Metric: "qcur"}, 3, ""},
		{LoadConfig{URL: "/haproxy;csv", Type: loadHAProxy, Proxy: "web", Row: "FRONTEND", Metric: "qcur"}, 0, `column "qcur" of web/FRONTEND is ""`},
		{LoadConfig{URL: "/haproxy;csv", Type: loadHAProxy, Proxy: "api"}, 0, `no row "BACKEND" of proxy "api"`},
		{LoadConfig{URL: "/haproxy;csv", Type: loadHAProxy, Metric: "busy"}, 0, `no column "busy"`},
		{LoadConfig{URL: "/none", Type: loadHAProxy}, 0, "not HAProxy's CSV"},
		{LoadConfig{URL: "/envoy.json", Type: loadEnvoy}, 17, ""},
		{LoadConfig{URL: "/envoy.json", Type: loadEnvoy, Metric: "http.api.downstream_rq_active"}, 5, ""},
		{LoadConfig{URL: "/envoy.json", Type: loadEnvoy, Metric: "server.version"}, 0, "no counter or gauge"},
		{LoadConfig{URL: "/envoy.text", Type: loadEnvoy}, 12, ""},
		{LoadConfig{URL: "/envoy.text", Type: loadEnvoy, Metric: "cluster.web.upstream_rq_active"}, 17, ""},
		{LoadConfig{URL: "/envoy.idle", Type: loadEnvoy}, 0, "but the admin interface's"},
	} {
		c.from.URL = s.URL + c.from.URL
		read, done := newGauge(c.from.withDefaults(), 100)
		got, err := read(t.Context())
		done()
		if got != c.want || (err == nil) != (c.err == "") || err != nil && !slices.ContainsFunc(strings.Split(c.err, "|"), func(s string) bool { return strings.Contains(err.Error(), s) }) {
			t.Errorf("%+v: %v, %v; want %v, %s", c.from, got, err, c.want, c.err)
		}
	}
}

// statsSocket answers each connection's one command as HAProxy does, and closes.
func statsSocket(t *testing.T, answer string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "admin.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			if line, _ := bufio.NewReader(conn).ReadString('\n'); line == "show stat\n" {
				_, _ = io.WriteString(conn, answer)
			} else {
				fmt.Fprintf(conn, "Unknown command: %q\n", line)
			}
			conn.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return path
}

func TestStatsSocket(t *testing.T) {
	for _, c := range []struct {
		name, path string
		want       float64
		err        string
	}{
		{"all rows", statsSocket(t, loadAnswers["/haproxy;csv"]), 41, ""},
		{"cut off in a row", statsSocket(t, loadAnswers["/haproxy;csv"][:150]), 0, "not HAProxy's CSV"},
		{"refused", statsSocket(t, "Permission denied\n\n"), 0, "Permission denied"},
		{"nobody there", filepath.Join(t.TempDir(), "none"), 0, "no such file"},
	} {
		read, done := newGauge(LoadConfig{Type: loadHAProxy, URL: "unix://" + c.path, Proxy: "web"}.withDefaults(), 100)
		got, err := read(t.Context())
		done()
		if got != c.want || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: %v, %v; want %v, %s", c.name, got, err, c.want, c.err)
		}
	}
}

// proc writes a file of a folder that stands for /proc.
func proc(t *testing.T, dir, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// The use of the processors is that since the reading before: neither idle nor waiting for disks; stolen time is used.
func TestCPUUse(t *testing.T) {
	dir := t.TempDir()
	use := cpuUse(dir, time.Millisecond)
	for _, c := range []struct {
		stat string // user nice system idle iowait irq softirq steal guest guest_nice
		want float64
		err  string
	}{
		{"cpu  1000 0 500 8000 500 0 0 0 0 0\n", 0, "no processor time passed"}, // the first spans two looks at the same
		{"cpu  1100 0 550 8200 550 0 50 50 100 0\n", 0.5, ""},                   // 500 passed, 200 idle, 50 waiting
		{"cpu  1600 0 550 8200 550 0 50 50 100 0\n", 1, ""},
		{"cpu  1600 0 550 8300 550 0 50 50 100 0\n", 0, ""},
	} {
		proc(t, dir, "stat", c.stat)
		got, err := use(t.Context())
		if fmt.Sprintf("%.3f", got) != fmt.Sprintf("%.3f", c.want) || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%q: %v, %v; want %v, %s", c.stat, got, err, c.want, c.err)
		}
	}
}

func TestMemoryUse(t *testing.T) {
	dir := t.TempDir()
	use := memoryUse(dir)
	proc(t, dir, "meminfo", "MemTotal:       8000 kB\nMemFree:         100 kB\nMemAvailable:   6000 kB\nBuffers:         500 kB\n")
	if got, err := use(t.Context()); got != 0.25 || err != nil {
		t.Errorf("%v, %v; want 0.25", got, err)
	}
	proc(t, dir, "meminfo", "MemTotal:       8000 kB\n")
	if _, err := use(t.Context()); err == nil || !strings.Contains(err.Error(), "MemAvailable") {
		t.Errorf("without MemAvailable: %v", err)
	}
}

// The load of a host is in the unit of its region's capacity.
func TestHostLoad(t *testing.T) {
	if _, err := os.Stat("/proc/meminfo"); err != nil {
		t.Skip(err)
	}
	for _, typ := range []string{loadCPU, loadMemory} {
		read, done := newGauge(LoadConfig{Type: typ}.withDefaults(), 1000)
		got, err := read(t.Context())
		done()
		if err != nil || got < 0 || got > 1000 || typ == loadMemory && got < 1 {
			t.Errorf("%s: %v, %v; want 0 to 1000", typ, got, err)
		}
	}
}
