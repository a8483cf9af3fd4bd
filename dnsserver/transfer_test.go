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

// A signed query is answered and the answer is signed; what is wrong with a signature is told.
func TestTSIG(t *testing.T) {
	s := build(t, services(), nil)
	withTransfers(t, s, TransferConfig{})
	s.Now = time.Now()
	now := s.Now.Unix()
	for name, c := range map[string]struct {
		key, algorithm, secret string
		at                     int64
		query, want            string
		tsigError              uint16
		signed                 bool
	}{
		"good":              {"GOOD.", dns.HmacSHA256, goodSecret, now, "ns1 A", "NOERROR aa | ns1 300 a 192.0.2.53", 0, true},
		"another algorithm": {"other.", dns.HmacSHA512, otherSecret, now, "alias A +edns", "NOERROR aa | alias 300 cname mail, mail 300 a 192.0.2.25", 0, true},
		"an opcode":         {"good.", dns.HmacSHA256, goodSecret, now, "ns1 A +version=1", "BADVERS", 0, true},
		"not its algorithm": {"good.", dns.HmacSHA512, goodSecret, now, "ns1 A", "NOTAUTH", dns.RcodeBadKey, false},
		"an unknown key":    {"who.", dns.HmacSHA256, goodSecret, now, "ns1 A", "NOTAUTH", dns.RcodeBadKey, false},
		"another secret":    {"good.", dns.HmacSHA256, otherSecret, now, "ns1 A", "NOTAUTH", dns.RcodeBadSig, false},
		"long ago":          {"good.", dns.HmacSHA256, goodSecret, now - 1000, "ns1 A", "NOTAUTH", dns.RcodeBadTime, true},
	} {
		m := parse(t, ask(t, c.query))
		m.SetTsig(c.key, c.algorithm, tsigFudge, c.at)
		q, mac, err := dns.TsigGenerate(m, c.secret, "", false)
		if err != nil {
			t.Fatal(err)
		}
		b := Answer(nil, q, resolver, UDP, s, nil)
		r := parse(t, b)
		tsig := r.IsTsig()
		if want := uint64(now); tsig != nil && tsig.TimeSigned != want && c.at == now {
			t.Errorf("%s: signed at %d, want %d", name, tsig.TimeSigned, want)
		}
		if tsig == nil || tsig.Error != c.tsigError || (tsig.MACSize > 0) != c.signed || !strings.EqualFold(tsig.Hdr.Name, c.key) {
			t.Errorf("%s: %v", name, r)
			continue
		}
		r.Extra = r.Extra[:len(r.Extra)-1]
		if got := brief(r); got != c.want && !strings.HasPrefix(got, c.want+" | ") {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
		err = dns.TsigVerify(b, c.secret, mac, false)
		if c.signed && c.tsigError == 0 && err != nil {
			t.Errorf("%s: the reply's signature: %v", name, err)
		}
		if c.tsigError == dns.RcodeBadTime && tsig.OtherData != fmt.Sprintf("%012x", now) {
			t.Errorf("%s: server's time %s", name, tsig.OtherData)
		}
	}
	// A MAC of another length than its algorithm's (RFC 8945, section 5.2.2.1).
	for _, c := range []struct {
		octets    int
		wrong     bool
		rcode     int
		tsigError uint16
	}{
		{0, false, dns.RcodeFormatError, 0}, {9, false, dns.RcodeFormatError, 0}, {15, false, dns.RcodeFormatError, 0}, {33, false, dns.RcodeFormatError, 0},
		{16, false, dns.RcodeNotAuth, dns.RcodeBadTrunc}, {31, false, dns.RcodeNotAuth, dns.RcodeBadTrunc}, {16, true, dns.RcodeNotAuth, dns.RcodeBadSig},
		{32, true, dns.RcodeNotAuth, dns.RcodeBadSig},
	} {
		m := parse(t, ask(t, "ns1 A"))
		m.SetTsig("good.", dns.HmacSHA256, tsigFudge, now)
		q, _, err := dns.TsigGenerate(m, goodSecret, "", false)
		if err != nil {
			t.Fatal(err)
		}
		m = parse(t, q)
		tsig := m.IsTsig()
		tsig.MAC = (tsig.MAC + "00")[:2*c.octets]
		if tsig.MACSize = uint16(c.octets); c.wrong {
			tsig.MAC = strings.Repeat("0", 2*c.octets)
		}
		if q, err = m.Pack(); err != nil {
			t.Fatal(err)
		}
		r := parse(t, Answer(nil, q, resolver, UDP, s, nil))
		got := r.IsTsig()
		if r.Rcode != c.rcode || (got == nil) != (c.rcode == dns.RcodeFormatError) || got != nil && (got.Error != c.tsigError || (got.MACSize > 0) != (c.tsigError == dns.RcodeBadTrunc)) {
			t.Errorf("%d octets, wrong %v: %v", c.octets, c.wrong, r)
		}
	}
	// The largest signature fits what the asker takes.
	for size := plainUDP; size < plainUDP+200; size++ {
		m := parse(t, ask(t, fmt.Sprint("middle TXT +edns=", size)))
		m.SetTsig("other.", dns.HmacSHA512, tsigFudge, now)
		q, mac, err := dns.TsigGenerate(m, otherSecret, "", false)
		if err != nil {
			t.Fatal(err)
		}
		b := Answer(nil, q, resolver, UDP, s, nil)
		if err := dns.TsigVerify(b, otherSecret, mac, false); err != nil || len(b) > size {
			t.Fatalf("%d octets with room for %d: %v", len(b), size, err)
		}
	}
}

// A signature changes nothing of the records, those that the library unpacks in one form and packs in another among them.
func TestSignedRecordsAreAsUnsigned(t *testing.T) {
	s := build(t, services(), nil)
	withTransfers(t, s, TransferConfig{})
	s.Now = time.Now()
	m := parse(t, ask(t, "odd CAA"))
	plain := parse(t, Answer(nil, ask(t, "odd CAA"), resolver, UDP, s, nil))
	m.SetTsig("good.", dns.HmacSHA256, tsigFudge, s.Now.Unix())
	q, _, err := dns.TsigGenerate(m, goodSecret, "", false)
	if err != nil {
		t.Fatal(err)
	}
	signed := parse(t, Answer(nil, q, resolver, UDP, s, nil))
	for _, r := range []*dns.Msg{plain, signed} {
		if len(r.Answer) != 1 || r.Answer[0].(*dns.CAA).Value != `a\b` {
			t.Errorf("%v", r)
		}
	}
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

// A secondary hears of the first version and of every newer one, until it replies.
func TestNotify(t *testing.T) {
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	heard := make(chan uint32, 16)
	var queries atomic.Int32
	secondary := &dns.Server{PacketConn: pc, TsigSecret: map[string]string{"good.": goodSecret}, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		if queries.Add(1) == 1 {
			return // as if it were lost
		}
		m := new(dns.Msg).SetReply(q)
		if q.Opcode != dns.OpcodeNotify || q.IsTsig() == nil || w.TsigStatus() != nil || len(q.Answer) != 1 {
			t.Errorf("heard %v, %v", q, w.TsigStatus())
		}
		m.SetTsig("good.", dns.HmacSHA256, tsigFudge, time.Now().Unix())
		if err := w.WriteMsg(m); err != nil {
			t.Error(err)
		}
		heard <- q.Answer[0].(*dns.SOA).Serial
	}), MsgAcceptFunc: func(dns.Header) dns.MsgAcceptAction { return dns.MsgAccept }}
	go secondary.ActivateAndServe()
	t.Cleanup(func() { secondary.Shutdown() })

	set := version(t, 7, nil)
	scene := build(t, nil, nil)
	withTransfers(t, scene, TransferConfig{Keys: []string{"good"}, Notify: []string{pc.LocalAddr().String()}})
	server, use := serveVersions(t, scene, set)
	expect := func(serial uint32) {
		t.Helper()
		select {
		case got := <-heard:
			if got != serial {
				t.Errorf("heard of %d, want %d", got, serial)
			}
		case <-time.After(patience):
			t.Fatalf("not heard of %d", serial)
		}
	}
	for range 50 { // reloads that change nothing here neither hurry nor hinder
		use(set)
		time.Sleep(time.Millisecond)
	}
	if n := queries.Load(); n > 1 {
		t.Errorf("%d tries at once", n)
	}
	expect(7)
	next := version(t, 8, []int{1})
	use(next)
	expect(8)
	use(next)
	select {
	case got := <-heard:
		t.Errorf("heard of %d again", got)
	case <-time.After(100 * time.Millisecond):
	}
	// What is not served any more is forgotten.
	use(load(t, nil))
	use(&zones.Set{})
	known := func() int {
		server.notifier.mu.Lock()
		defer server.notifier.mu.Unlock()
		return len(server.notifier.notices)
	}
	if !within(func() bool { return known() == 0 }) {
		t.Errorf("%d notices of zones that are gone", known())
	}
}

// A secondary that does not verify what it hears, and so does not sign, has not heard.
func TestUnsignedReplyToNotifyIsNone(t *testing.T) {
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	secondary := &dns.Server{PacketConn: pc, MsgAcceptFunc: func(dns.Header) dns.MsgAcceptAction { return dns.MsgAccept }, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		if err := w.WriteMsg(new(dns.Msg).SetReply(q)); err != nil {
			t.Error(err)
		}
	})}
	go secondary.ActivateAndServe()
	t.Cleanup(func() { secondary.Shutdown() })
	set := version(t, 7, nil)
	scene := build(t, nil, nil)
	for _, keys := range [][]string{nil, {"good"}} {
		withTransfers(t, scene, TransferConfig{Keys: keys, Notify: []string{pc.LocalAddr().String()}})
		s, _ := serveVersions(t, scene, set)
		if err := s.notify(t.Context(), set.Zones[0], pc.LocalAddr().String()); (err == nil) != (keys == nil) {
			t.Errorf("keys %v: %v", keys, err)
		}
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
