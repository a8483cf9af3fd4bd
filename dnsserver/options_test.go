package dnsserver

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// The cookies of RFC 9018, appendix A.
func TestCookiesAreThoseOfTheStandard(t *testing.T) {
	for _, c := range []struct {
		name, secret, source, sent, want string
		now                              uint32
		good                             bool
	}{
		{"the first", "e5e973e5a6b2a43f48e7dc849e37bfcf", "198.51.100.100", "2464c4abcf10c957", "2464c4abcf10c957010000005cf79f111f8130c3eee29480", 1559731985, false},
		{"kept, as it is fresh", "e5e973e5a6b2a43f48e7dc849e37bfcf", "198.51.100.100", "2464c4abcf10c957010000005cf79f111f8130c3eee29480", "2464c4abcf10c957010000005cf79f111f8130c3eee29480", 1559731985 + cookieFresh, true},
		{"renewed", "e5e973e5a6b2a43f48e7dc849e37bfcf", "198.51.100.100", "2464c4abcf10c957010000005cf79f111f8130c3eee29480", "2464c4abcf10c957010000005cf7a871d4a564a1442aca77", 1559734385, true},
		{"of another client", "e5e973e5a6b2a43f48e7dc849e37bfcf", "203.0.113.203", "fc93fc62807ddb8601abcdef5cf78f71a314227b6679ebf5", "fc93fc62807ddb86010000005cf7a9acf73a7810aca2381e", 1559734700, false},
		{"with something reserved", "e5e973e5a6b2a43f48e7dc849e37bfcf", "203.0.113.203", "fc93fc62807ddb8601abcdef5cf78f71a314227b6679ebf5", "fc93fc62807ddb8601abcdef5cf78f71a314227b6679ebf5", 1559727985 + 60, true},
		{"by a new secret", "445536bcd2513298075a5d379663c962", "2001:db8:220:1:59de:d0f4:8769:82b8", "22681ab97d52c298010000005cf7c57926556bd0934c72f8", "22681ab97d52c298010000005cf7c609a6bb79d16625507a", 1559741961, true},
	} {
		keys := cookieKeys{}
		for _, secret := range []string{c.secret, "dd3bdf9344b678b185a6f5cb60fca715"} { // the one before
			k, err := parseCookieKey(secret)
			if err != nil {
				t.Fatal(err)
			}
			keys = append(keys, k)
		}
		s := build(t, nil, nil)
		settings := *s.Settings
		settings.cookies = keys
		s.Settings, s.Now = &settings, time.Unix(int64(c.now), 0)
		source := netip.MustParseAddr(c.source)
		for name, way := range ways {
			m := parse(t, way(nil, ask(t, "ns1 A +cookie="+c.sent), source, UDP, s, nil))
			if got := m.IsEdns0().Option[0].(*dns.EDNS0_COOKIE).Cookie; got != c.want {
				t.Errorf("%s, %s: cookie %s, want %s", c.name, name, got, c.want)
			}
		}
		var v query
		v.read(ask(t, "ns1 A +cookie="+c.sent))
		v.admit(s, source, UDP)
		if v.vouched != c.good {
			t.Errorf("%s: good: %v, want %v", c.name, v.vouched, c.good)
		}
	}
}

// A cookie is good for its client's address and its time alone.
func TestCookiesOfOthersAreNone(t *testing.T) {
	keys := ownCookieKeys()
	client := []byte("12345678")
	source := netip.MustParseAddr("2001:db8::1")
	good := keys[0].make(client, source, noon)
	for name, c := range map[string]struct {
		change func(c []byte) []byte
		source netip.Addr
		now    uint32
		want   bool
	}{
		"as it was made":     {nil, source, noon, true},
		"an hour later":      {nil, source, noon + cookieLife, true},
		"later still":        {nil, source, noon + cookieLife + 1, false},
		"by a slow clock":    {nil, source, noon - cookieAhead, true},
		"from the future":    {nil, source, noon - cookieAhead - 1, false},
		"another address":    {nil, source.Next(), noon, false},
		"another client":     {func(c []byte) []byte { c[0]++; return c }, source, noon, false},
		"another version":    {func(c []byte) []byte { c[8]++; return c }, source, noon, false},
		"a reserved octet":   {func(c []byte) []byte { c[9]++; return c }, source, noon, false},
		"another time":       {func(c []byte) []byte { c[15]++; return c }, source, noon + 1, false},
		"another hash":       {func(c []byte) []byte { c[23]++; return c }, source, noon, false},
		"longer":             {func(c []byte) []byte { return append(c, 0) }, source, noon, false},
		"the client's alone": {func(c []byte) []byte { return c[:8] }, source, noon, false},
	} {
		b := append([]byte(nil), good[:]...)
		if c.change != nil {
			b = c.change(b)
		}
		if got, _ := keys.check(b, c.source, c.now); got != c.want {
			t.Errorf("%s: good: %v, want %v", name, got, c.want)
		}
	}
	late := keys[0].make(client, source, 1<<32-10)
	if good, _ := keys.check(late[:], source, 20); !good {
		t.Error("a cookie from before the clock goes over is none after it")
	}
}

func TestCookieFile(t *testing.T) {
	key := GenerateCookieKey()
	for name, c := range map[string]struct{ text, problem string }{
		"one":       {key + "\n", ""},
		"two":       {key + "\n" + GenerateCookieKey() + "\n", ""},
		"none":      {"\n", "0 secrets"},
		"five":      {strings.Repeat(key+"\n", 5), "5 secrets"},
		"short":     {key[:30], "a secret of 15 octets"},
		"no digits": {"secret", "invalid byte"},
		"large":     {strings.Repeat(" ", cookieFileMax+1), "octets"},
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "cookies"), []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		problem := ""
		s := (&Config{CookieFile: "cookies"}).Compile("dns", dir, nil, func(key string, value any, accepted string) {
			problem += key + " " + value.(string) + ": " + accepted
		})
		if (problem == "") != (c.problem == "") || !strings.Contains(problem, c.problem) || problem != "" && !strings.HasPrefix(problem, "dns.cookie_file cookies: ") {
			t.Errorf("%s: %q, want %q", name, problem, c.problem)
		}
		if files := s.Files(); len(files) != 1 || files[0] != filepath.Join(dir, "cookies") {
			t.Errorf("%s: files %v", name, files)
		}
	}
}

// Options that belong to a transport are answered over it alone.
func TestOptionsOfTransports(t *testing.T) {
	s := build(t, nil, nil)
	for name, way := range ways {
		for _, c := range []struct {
			query string
			over  Transport
			want  string
		}{
			{"ns1 A +keepalive", UDP, "opt 1232"},
			{"ns1 A +keepalive", TCP, "opt 1232 keepalive 100"},
			{"ns1 A +keepalive", TLS, "opt 1232 keepalive 100"},
			{"ns1 A +padding", UDP, "opt 1232"},
			{"ns1 A +padding", TCP, "opt 1232"},
		} {
			if got := section(parse(t, way(nil, ask(t, c.query), resolver, c.over, s, nil)).Extra); got != c.want {
				t.Errorf("%s over %v, %s: %s, want %s", c.query, c.over, name, got, c.want)
			}
		}
		for _, q := range []string{"ns1 A", "gone A", "hosts MX", "big TXT", "ns1 A +nsid +ecs=192.0.2.0/24", "alias A"} {
			b := way(nil, ask(t, q+" +padding=7"), resolver, TLS, s, nil)
			if name == "fast" && b == nil {
				continue
			}
			if m := parse(t, b); len(b)%paddedTo != 0 || m.Truncated {
				t.Errorf("%s over TLS, %s: %d octets", q, name, len(b))
			}
		}
	}
}

// Client subnets count from the resolvers that are believed.
func TestECSFrom(t *testing.T) {
	s := buildNear(t)
	s.Settings = settings(t, Config{ECSFrom: []string{"192.0.2.0/24", "2001:db8::1"}})
	for source, want := range map[string]string{
		"192.0.2.7":   "opt 1232 ecs 203.0.113.0/26/26",
		"2001:db8::1": "opt 1232 ecs 203.0.113.0/26/26",
		"192.0.3.7":   "opt 1232",
		"2001:db8::2": "opt 1232",
	} {
		for name, way := range ways {
			m := parse(t, way(nil, ask(t, "near A +ecs=203.0.113.0/26"), netip.MustParseAddr(source), UDP, s, nil))
			if got := section(m.Extra); got != want || (want == "opt 1232") != (lastAddress(m) == "192.0.2.1") {
				t.Errorf("from %s, %s: %s, %s; want %s", source, name, lastAddress(m), got, want)
			}
		}
	}
}

// Those who may are told why, others are refused.
func TestExplain(t *testing.T) {
	s := buildNear(t)
	local := netip.MustParseAddr("127.0.0.9")
	reply := func(query string, source netip.Addr) *dns.Msg {
		t.Helper()
		q := ask(t, query)
		if ways["fast"](nil, q, source, TCP, s, nil) != nil {
			t.Errorf("%s: the fast way answers", query)
		}
		return parse(t, Answer(nil, q, source, TCP, s, nil))
	}
	m := reply("_explain.near TXT +ecs=203.0.113.0/26", local)
	var lines []string
	for _, rr := range m.Answer {
		if rr.Header().Ttl != 0 || rr.Header().Name != "_explain.near.geo.example.com." {
			t.Errorf("%v", rr)
		}
		lines = append(lines, rr.(*dns.TXT).Txt...)
	}
	text := strings.Join(lines, "\n")
	for _, want := range []string{
		"near.geo.example.com. A for 203.0.113.0: 192.0.2.2", "generation 1; holds for 203.0.113.0/26", "rank: an override names eu: eu, us",
		"eu: 0 km, up, share 100 %: answers: ", "us:",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if got := section(m.Extra); m.Rcode != dns.RcodeSuccess || !m.Authoritative || got != "opt 1232 ecs 203.0.113.0/26/26" {
		t.Errorf("%s", brief(m))
	}
	for _, c := range []struct {
		query  string
		source netip.Addr
		want   string
	}{
		{"_explain.near TXT +edns", resolver, "REFUSED | - | - | opt 1232 ede 18 not for this client"},
		{"_explain.near A", resolver, "REFUSED"},
		{"_explain.near A", local, "NOERROR aa"},
		{"_explain.www.example.com. TXT +edns", local, "REFUSED | - | - | opt 1232 ede 20 in no zone of this server"},
		{"_explain.x.child TXT", resolver, "NOERROR | - | child 300 ns ns.child, child 300 ns ns1 | ns.child 300 a 192.0.2.4, ns1 300 a 192.0.2.53"},
		{"_explain.child TXT", local, "NOERROR | - | child 300 ns ns.child, child 300 ns ns1 | ns.child 300 a 192.0.2.4, ns1 300 a 192.0.2.53"},
		{"_explain.gone TXT", local, "NOERROR aa | _explain.gone 0 txt \"gone a for 127.0.0.9: no records\", _explain.gone 0 txt \"place 38.95,-77.45; generation 1; holds for 0.0.0.0/0\", _explain.gone 0 txt \"zone: the zone has no such name\""},
	} {
		if got := brief(reply(c.query, c.source)); got != c.want {
			t.Errorf("%s from %v:\n got %s\nwant %s", c.query, c.source, got, c.want)
		}
	}
}

// What is explained is what is answered.
func TestExplanationIsTheAnswer(t *testing.T) {
	s := buildNear(t)
	s.Settings.explainTo = s.Settings.ecsFrom
	from := netip.MustParseAddr("203.0.113.7")
	for _, query := range []string{
		"near", "here", "near +ecs=1.2.3.0/24", "here +ecs=1.2.3.0/24", "near +ecs=10.2.3.0/24", "here +ecs=10.2.3.0/24",
		"near +ecs=0.0.0.0/0", "near +ecs=64:ff9b::102:300/120", "near +ecs=fd00::/48",
	} {
		name, flags, _ := strings.Cut(query, " ")
		answer := parse(t, Answer(nil, ask(t, name+" A "+flags), from, UDP, s, nil))
		why := parse(t, Answer(nil, ask(t, "_explain."+name+" TXT "+flags), from, UDP, s, nil))
		if text := why.Answer[0].(*dns.TXT).Txt[0]; !strings.HasSuffix(text, lastAddress(answer)) || section(why.Extra) != section(answer.Extra) {
			t.Errorf("%s: %s, %s; explained: %s, %s", query, lastAddress(answer), section(answer.Extra), text, section(why.Extra))
		}
	}
}

// A director that is cut off from the regions says so beside what it steers.
func TestStaleAnswers(t *testing.T) {
	s := build(t, services(), nil)
	snapshot := *s.Snapshot
	snapshot.Stale = true
	s.Snapshot = &snapshot
	for query, want := range map[string]string{
		"www A +edns":   "opt 1232 ede 3 cut off from the regions: steered by the last view",
		"hop A +edns":   "opt 1232 ede 3 cut off from the regions: steered by the last view",
		"down A +edns":  "opt 1232 ede 0 all regions down: failing open",
		"ns1 A +edns":   "opt 1232",
		"www TXT +edns": "opt 1232",
	} {
		if got := section(parse(t, Answer(nil, ask(t, query), resolver, UDP, s, nil)).Extra); got != want {
			t.Errorf("%s: %s, want %s", query, got, want)
		}
	}
}
