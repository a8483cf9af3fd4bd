package dnsserver

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/nearcast/nearcast/steer"
	"github.com/nearcast/nearcast/zones"
)

// The keys of these tests.
const (
	goodSecret  = "c2VjcmV0LW9mLXRoZS10ZXN0cy1nb29k"
	otherSecret = "c2VjcmV0LW9mLXRoZS10ZXN0cy1iYWQh"
)

// withTransfers is a scene whose zone geo.example.com goes to 127.0.0.0/8 with the key "good.".
func withTransfers(t testing.TB, s *Scene, rule TransferConfig) {
	t.Helper()
	dir := t.TempDir()
	for name, secret := range map[string]string{"good": goodSecret, "other": otherSecret} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(secret+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c := testConfig()
	c.Keys = []KeyConfig{{Name: "Good", SecretFile: "good"}, {Name: "other.", Algorithm: "HMAC-SHA512", SecretFile: "other"}}
	z := []ZoneConfig{{Key: "zones[0]", Name: "geo.example.com.", Transfer: rule}}
	s.Settings = c.Compile("dns", dir, z, func(key string, value any, accepted string) { t.Errorf("%s: %v: %s", key, value, accepted) })
}

// Who may have a zone, over what.
func TestWhoMayTransfer(t *testing.T) {
	sign := func(m *dns.Msg, key, secret string) []byte {
		m.SetTsig(key, dns.HmacSHA256, tsigFudge, time.Now().Unix())
		q, _, err := dns.TsigGenerate(m, secret, "", false)
		if err != nil {
			t.Fatal(err)
		}
		return q
	}
	local, far := netip.MustParseAddr("127.0.0.1"), resolver
	networks, keys := []string{"127.0.0.0/8"}, []string{"good"}
	for _, c := range []struct {
		name   string
		rule   TransferConfig
		zone   string
		source netip.Addr
		signed bool
		over   Transport
		want   string // rcode, or "all"
	}{
		{"nobody may", TransferConfig{}, "@", local, true, TCP, "REFUSED"},
		{"no zone", TransferConfig{Allow: networks}, "example.com.", local, false, TCP, "NOTAUTH"},
		{"not an apex", TransferConfig{Allow: networks}, "www", local, false, TCP, "NOTAUTH"},
		{"an empty list", TransferConfig{Allow: []string{}}, "@", local, false, TCP, "REFUSED"},
		{"a network's own", TransferConfig{Allow: networks}, "@", local, false, TCP, "all"},
		{"over TLS", TransferConfig{Allow: networks}, "@", local, false, TLS, "all"},
		{"over UDP", TransferConfig{Allow: networks}, "@", local, false, UDP, "REFUSED"},
		{"another network", TransferConfig{Allow: networks}, "@", far, true, TCP, "REFUSED"},
		{"a key, from anywhere", TransferConfig{Keys: keys}, "@", far, true, TCP, "all"},
		{"no key", TransferConfig{Keys: keys}, "@", far, false, TCP, "REFUSED"},
		{"network and key", TransferConfig{Allow: networks, Keys: keys}, "@", local, true, TCP, "all"},
		{"network without key", TransferConfig{Allow: networks, Keys: keys}, "@", local, false, TCP, "REFUSED"},
		{"key from another network", TransferConfig{Allow: networks, Keys: keys}, "@", far, true, TCP, "REFUSED"},
	} {
		s := build(t, services(), nil)
		withTransfers(t, s, c.rule)
		q := ask(t, c.zone+" AXFR")
		if c.signed {
			q = sign(parse(t, q), "good.", goodSecret)
		}
		talk := newConversation(q, c.source, c.over, s, nil)
		talk.answer(q)
		got := "all"
		if talk.parts == nil {
			got = rcodeName(talk.reply.Rcode)
		}
		if got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
		// Where there is one message, there is none of a transfer.
		if r := parse(t, Answer(nil, q, c.source, c.over, s, nil)); len(r.Answer) > 0 || r.Rcode == dns.RcodeSuccess {
			t.Errorf("%s: %s", c.name, brief(r))
		}
	}
}

// version is a zone of some of n records, and one service.
func version(t testing.TB, serial uint32, records []int) *zones.Set {
	t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "$TTL 300\n@ SOA ns hostmaster %d 3600 600 604800 60\n@ NS ns\nns A 192.0.2.1\n", serial)
	for _, r := range records {
		fmt.Fprintf(&b, "host%d TXT \"a text that fills the messages of a transfer, number %d\"\n", r%500, r)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "zone"), []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	set := zones.Load(dir, regions, []zones.ZoneConfig{{Name: "geo.example.com", File: "zone", Services: []zones.ServiceConfig{
		{Name: "www", Steer: "weighted", Regions: []zones.MemberConfig{{Region: "us", Addresses: []string{"192.0.2.1"}}, {Region: "eu", Addresses: []string{"192.0.2.2", "2001:db8::2"}}}},
	}}}, func(key string, value any, accepted string) { t.Fatalf("%s: %v: %s", key, value, accepted) })
	return set
}

// serveVersions serves a set; use makes it serve another, as a reload does.
func serveVersions(t *testing.T, scene *Scene, set *zones.Set) (s *Server, use func(*zones.Set)) {
	t.Helper()
	snapshot := func(set *zones.Set) *steer.Snapshot {
		return steer.Build(steer.Input{Generation: 1, Survey: steer.NewSurvey(set, nil), View: scene.View()})
	}
	var current atomic.Pointer[steer.Snapshot]
	current.Store(snapshot(set))
	o := serverOf(scene, "127.0.0.1:0")
	o.Snapshot = current.Load
	s = serve(t, o)
	return s, func(next *zones.Set) {
		current.Store(snapshot(next))
		s.Apply(scene.Settings, set, next)
		set = next
	}
}

// transferred has a zone by AXFR, or by IXFR from what it has: as a secondary does, without any of our code.
func transferred(t testing.TB, addr string, have []dns.RR, key string) (all []dns.RR, messages int, incremental bool) {
	t.Helper()
	m := new(dns.Msg).SetAxfr("geo.example.com.")
	if have != nil {
		soa := have[0].(*dns.SOA)
		m.SetIxfr("geo.example.com.", soa.Serial, soa.Ns, soa.Mbox)
	}
	tr := &dns.Transfer{DialTimeout: patience, ReadTimeout: patience}
	if key != "" {
		tr.TsigSecret = map[string]string{key: goodSecret}
		m.SetTsig(key, dns.HmacSHA256, tsigFudge, time.Now().Unix())
	}
	stream, err := tr.In(m, addr)
	if err != nil {
		t.Fatal(err)
	}
	var got []dns.RR
	for e := range stream {
		if e.Error != nil {
			t.Fatal(e.Error)
		}
		got = append(got, e.RR...)
		messages++
	}
	if have == nil || len(got) > 1 && got[1].Header().Rrtype != dns.TypeSOA {
		if len(got) < 2 || got[0].String() != got[len(got)-1].String() {
			t.Fatalf("a transfer of %d records", len(got))
		}
		return got[:len(got)-1], messages, false
	}
	if len(got) == 1 {
		return have, messages, true
	}
	all = slices.Clone(have)
	adding := true
	for _, rr := range got[1 : len(got)-1] {
		switch i := slices.IndexFunc(all, func(h dns.RR) bool { return h.String() == rr.String() }); {
		case rr.Header().Rrtype == dns.TypeSOA:
			if adding = !adding; adding {
				all[0] = rr
			} else if all[0].String() != rr.String() {
				t.Fatalf("a step from %v, at %v", rr, all[0])
			}
		case adding:
			all = append(all, rr)
		case i < 0:
			t.Fatalf("%v goes, and was not there", rr)
		default:
			all = slices.Delete(all, i, i+1)
		}
	}
	return all, messages, true
}

func sortedTexts(rrs []dns.RR) string {
	var texts []string
	for _, rr := range rrs {
		texts = append(texts, rr.String())
	}
	slices.Sort(texts)
	return strings.Join(texts, "\n")
}

// A secondary of any age has the newest version after a transfer: by steps where they are known, else whole.
func TestTransfer(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	records := make([]int, 300)
	for i := range records {
		records[i] = i
	}
	set := version(t, 100, records)
	scene := build(t, nil, nil)
	withTransfers(t, scene, TransferConfig{Keys: []string{"good"}})
	s, use := serveVersions(t, scene, set)
	addr := s.Addrs()[0]

	first, messages, _ := transferred(t, addr, nil, "good.")
	if want := set.Zones[0].Records; sortedTexts(first) != sortedTexts(want) || messages < 2 {
		t.Fatalf("%d records in %d messages, not those of the zone, %d", len(first), messages, len(want))
	}
	if text := sortedTexts(first); !strings.Contains(text, "www.geo.example.com.\t30\tIN\tA\t192.0.2.1\n") || !strings.Contains(text, "www.geo.example.com.\t30\tIN\tAAAA\t2001:db8::2") {
		t.Errorf("no addresses of the service in\n%s", text)
	}
	copies := [][]dns.RR{first}
	for step := range maxSteps + 3 {
		for range 1 + random.IntN(10) {
			records[random.IntN(len(records))] = 1000 + random.IntN(1000)
		}
		if step == 5 { // too much at once to send by steps
			for i := range records {
				records[i] = 5000 + i
			}
		}
		next := version(t, set.Zones[0].Serial()+1, records)
		use(next)
		set = next
		all, _, _ := transferred(t, addr, nil, "good.")
		copies = append(copies, all)
	}
	newest := sortedTexts(set.Zones[0].Records)
	incremental := 0
	for i, have := range copies {
		got, _, inc := transferred(t, addr, have, "good.")
		if sortedTexts(got) != newest {
			t.Errorf("from version %d another zone", i)
		}
		if inc {
			incremental++
		}
	}
	if incremental < maxSteps/2 || incremental >= len(copies)-5 {
		t.Errorf("%d of %d transfers went by steps", incremental, len(copies))
	}
	// Without a version that is known, or without a signature, it goes as it has to.
	unknown := slices.Clone(first)
	unknown[0] = dns.Copy(first[0])
	unknown[0].(*dns.SOA).Serial -= 7
	if got, _, inc := transferred(t, addr, unknown, "good."); inc || sortedTexts(got) != newest {
		t.Error("an unknown version is sent steps")
	}
}

// largeZone is a zone of some megabytes.
func largeZone(t testing.TB) *zones.Set {
	set := version(t, 1, nil)
	z := set.Zones[0]
	for i := range 20_000 {
		z.Records = append(z.Records, &dns.TXT{
			Hdr: dns.RR_Header{Name: "geo.example.com.", Rrtype: dns.TypeTXT, Class: dns.ClassINET}, Txt: []string{fmt.Sprint(i, strings.Repeat(" more", 48))},
		})
	}
	return set
}

// startTransfer asks for all of the zone from an address, and reads nothing.
func startTransfer(t testing.TB, s *Server, from string) *dns.Conn {
	t.Helper()
	d := net.Dialer{Timeout: patience, LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	c, err := d.Dial("tcp", s.Addrs()[0])
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.(*net.TCPConn).SetReadBuffer(128 << 10); err != nil {
		t.Fatal(err)
	}
	conn := &dns.Conn{Conn: c}
	conn.SetDeadline(time.Now().Add(2 * patience))
	if err := conn.WriteMsg(new(dns.Msg).SetAxfr("geo.example.com.")); err != nil {
		t.Fatal(err)
	}
	return conn
}

// A secondary may be slow, as long as it takes some of the zone all the time.
func TestSlowSecondary(t *testing.T) {
	t.Parallel()
	scene := build(t, nil, nil)
	withTransfers(t, scene, TransferConfig{Allow: []string{"127.0.0.0/8"}})
	s, _ := serveVersions(t, scene, largeZone(t))
	conn := startTransfer(t, s, "127.0.0.1")
	records := 0
	for begin := time.Now(); records < 20_000; {
		m, err := conn.ReadMsg()
		if err != nil {
			t.Fatalf("after %d records and %v: %v", records, time.Since(begin), err)
		}
		if records += len(m.Answer); time.Since(begin) < 2*writeTime {
			time.Sleep(150 * time.Millisecond) // some 100 KB a second
		}
	}
}

// One client's transfers leave room for others'.
func TestTransfersOfAClientAreBounded(t *testing.T) {
	t.Parallel()
	scene := build(t, nil, nil)
	withTransfers(t, scene, TransferConfig{Allow: []string{"127.0.0.0/8"}})
	s, _ := serveVersions(t, scene, largeZone(t))
	for range maxTransfersOf {
		if m, err := startTransfer(t, s, "127.0.0.1").ReadMsg(); err != nil || m.Rcode != dns.RcodeSuccess {
			t.Fatalf("%v, %v", m, err)
		}
	}
	if m, err := startTransfer(t, s, "127.0.0.1").ReadMsg(); err != nil || m.Rcode != dns.RcodeServerFailure {
		t.Errorf("one more of the client: %v, %v", m, err)
	}
	if m, err := startTransfer(t, s, "127.0.0.2").ReadMsg(); err != nil || m.Rcode != dns.RcodeSuccess {
		t.Errorf("another client's: %v, %v", m, err)
	}
}

// What the configuration may say of transfers and keys.
func TestTransferConfig(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"good": goodSecret, "short": "c2hvcnQ=", "odd": "no base64!"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var problems []string
	c := Config{Keys: []KeyConfig{
		{Name: "good", SecretFile: "good"}, {Name: "Good.", SecretFile: "good"}, {Name: "", SecretFile: "good"},
		{Name: "a", Algorithm: "hmac-md5", SecretFile: "good"}, {Name: "b", SecretFile: "short"}, {Name: "c", SecretFile: "odd"},
		{Name: "d", SecretFile: "none"}, {Name: "e"},
	}}
	c.Compile("dns", dir, []ZoneConfig{{Key: "zones[3]", Name: "example.", Transfer: TransferConfig{
		Allow: []string{"192.0.2.0/24", "all"}, Keys: []string{"good.", "bad"}, Notify: []string{"192.0.2.1", "[2001:db8::1]:5353", "ns.example.net", "192.0.2.1:0"},
	}}}, func(key string, value any, accepted string) {
		problems = append(problems, fmt.Sprintf("%s = %v: %s", key, value, accepted))
	})
	for _, want := range []string{
		"dns.keys[1].name = Good.: each key once", "dns.keys[2].name = : a domain name", "dns.keys[3].algorithm = hmac-md5: hmac-sha256",
		"dns.keys[4].secret_file = short: ", "dns.keys[5].secret_file = odd: ", "dns.keys[6].secret_file = none: ", "dns.keys[7].secret_file = : the secret's file",
		"zones[3].transfer.allow[1] = all: ", "zones[3].transfer.keys[1] = bad: the name of one of dns.keys",
		"zones[3].transfer.notify[2] = ns.example.net: ", "zones[3].transfer.notify[3] = 192.0.2.1:0: ",
	} {
		i := slices.IndexFunc(problems, func(p string) bool { return strings.HasPrefix(p, want) })
		if i < 0 {
			t.Errorf("not told: %s", want)
			continue
		}
		problems = slices.Delete(problems, i, i+1)
	}
	if len(problems) > 0 {
		t.Errorf("told as well: %q", problems)
	}
}
