package dnsserver

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// FuzzAnswer holds the two ways together: what the fast way answers, the slow way answers alike. And each reply is a
// message to the query, within the limit, and if cut then to nothing that could be taken for the whole.
func FuzzAnswer(f *testing.F) {
	s := build(f, services(), table())
	for _, query := range []string{
		"ns1 A", "WwW AAAA +do", "gone A +edns", "x.child A +do", "x.safe DS", "safe DS", "alias3 A", "loop TXT", "x.wild MX +rd +cd",
		"both A +ecs=203.0.113.0/24", "one A +ecs=2001:db8::/56", "one A +ecs=10.0.0.0/8", "cdn ANY +edns=700", "hop TXT", "down A +edns",
		"big TXT +edns=4096", "middle TXT +edns=600", "x.wide A +edns", "x.broad A", "a.b.moved A", "a.round A", "in DS", "hosts MX +edns=700", "provided MX", "x.elsewhere A", "x.glued A", "vast MX", "@ SOA +version=1", "@ AXFR", "x.apps A", ". NS", "hops A +ecs=1.2.3.0/24",
		"dual HTTPS +do", "both HTTPS +ecs=203.0.113.0/24", "ns1 A +nsid +cookie=0102030405060708", "mail A +padding=9 +keepalive", "id.server. TXT +class=3", "_explain.both TXT",
	} {
		f.Add(ask(f, query), []byte{198, 51, 100, 7})
	}
	for _, c := range readCorpus(f, "testdata/answer.corpus", 2) {
		f.Add(c[0], c[1])
	}
	f.Fuzz(func(t *testing.T, q, from []byte) {
		source, ok := netip.AddrFromSlice(from)
		if !ok {
			source = resolver
		}
		whole := Answer(nil, q, source, TCP, s, nil)
		if len(q) < headerLen || q[2]&flagQR != 0 {
			if whole != nil {
				t.Fatalf("a reply to what is no query: %x", whole)
			}
			return
		}
		checkReply(t, q, whole, maxTCP)
		checkCut(t, q, Answer(nil, q, source, UDP, s, nil), whole)
		if b, done := fast(nil, q, source, TCP, s, nil); done {
			checkQuery(t, q)
			if got, want := all(t, b), all(t, slow(nil, q, source, TCP, s, nil)); got != want {
				t.Fatalf("the query %x:\nfast %s\nslow %s", q, got, want)
			}
			other := slow(nil, q, source, UDP, s, nil)
			checkCut(t, q, other, slow(nil, q, source, TCP, s, nil))
			if b, _ := fast(nil, q, source, UDP, s, nil); parse(t, b).Truncated != parse(t, other).Truncated {
				t.Fatalf("over UDP: fast %s\nslow %s", all(t, b), all(t, other))
			}
		}
	})
}

// FuzzSigned sends what is signed, or asks for a transfer, or tells of a new version: whatever comes, what goes out is
// messages to the query, within the limit, and a transfer goes only to who has the key.
func FuzzSigned(f *testing.F) {
	s := build(f, services(), table())
	withTransfers(f, s, TransferConfig{Keys: []string{"good"}})
	s.Settings.fed = map[string]*fedRule{"geo.example.com.": {primaries: []primary{{host: resolver}}}}
	s.Notified = func(string, netip.Addr) {}
	for _, qtype := range []uint16{dns.TypeSOA, dns.TypeA, dns.TypeAXFR, dns.TypeIXFR} {
		q := new(dns.Msg).SetQuestion("geo.example.com.", qtype)
		if qtype == dns.TypeIXFR {
			q.SetIxfr("geo.example.com.", 1, "ns.", "h.")
		}
		if qtype == dns.TypeSOA {
			q.SetNotify("geo.example.com.")
		}
		q.Id = 1
		plain, err := q.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(plain)
		q.SetTsig("good.", dns.HmacSHA256, tsigFudge, s.Now.Unix())
		signed, _, err := dns.TsigGenerate(q, goodSecret, "", false)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(signed)
	}
	for _, c := range readCorpus(f, "testdata/signed.corpus", 1) {
		f.Add(c[0])
	}
	f.Fuzz(func(t *testing.T, q []byte) {
		if len(q) < headerLen || q[2]&flagQR != 0 {
			return
		}
		for _, transport := range []Transport{UDP, TCP} {
			checkReply(t, q, Answer(nil, q, resolver, transport, s, nil), maxTCP)
		}
		c := newConversation(q, resolver, TCP, s, nil)
		c.answer(q)
		if c.parts == nil {
			return
		}
		if c.key == nil || c.tsigError != 0 {
			t.Fatalf("a transfer to whoever sends %x", q)
		}
		err := c.stream(func(b []byte) error {
			if m := parse(t, b[2:]); len(b) != 2+int(binary.BigEndian.Uint16(b)) || m.IsTsig() == nil || m.Truncated {
				t.Fatalf("a message of %d octets: %v", len(b), m)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	})
}

// readCorpus reads what earlier fuzzing found worth trying: on each line the arguments, in hexadecimal digits.
func readCorpus(f *testing.F, file string, arguments int) (cases [][][]byte) {
	f.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		f.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		var c [][]byte
		for field := range strings.SplitSeq(strings.TrimSuffix(line, "\n"), " ") {
			b, err := hex.DecodeString(field)
			if err != nil {
				f.Fatalf("%s: %v", file, err)
			}
			c = append(c, b)
		}
		if len(c) != arguments {
			f.Fatalf("%s: %d arguments on a line, want %d", file, len(c), arguments)
		}
		cases = append(cases, c)
	}
	return cases
}

// all is all that a reply says, but for the order within sections and the case of names.
func all(t *testing.T, b []byte) string {
	m := parse(t, b)
	return fmt.Sprint(m.Id, m.Opcode, m.Zero, m.Question, brief(m))
}

// checkReply checks a reply by itself and against its query.
func checkReply(t *testing.T, q, b []byte, limit int) *dns.Msg {
	t.Helper()
	if len(b) > limit {
		t.Fatalf("%d octets, more than %d", len(b), limit)
	}
	m := parse(t, b)
	if m.Id != binary.BigEndian.Uint16(q) || !m.Response || m.Opcode != int(q[2]>>3)&15 {
		t.Fatalf("not a reply to %x: %v", q, m)
	}
	if p, err := m.Pack(); err != nil || m.Len() < len(p) {
		t.Fatalf("the reply does not pack again: %v", err)
	}
	if m.Rcode != dns.RcodeSuccess && len(m.Answer) > 0 && m.Rcode != dns.RcodeNameError && m.Rcode != dns.RcodeYXDomain {
		t.Fatalf("answers with rcode %d: %v", m.Rcode, m)
	}
	if m.Rcode != dns.RcodeFormatError && m.Rcode != dns.RcodeNotImplemented {
		asked := &dns.Msg{}
		if err := asked.Unpack(q); err == nil && (len(m.Question) != 1 || m.Question[0] != asked.Question[0]) {
			t.Fatalf("asked %v, replied to %v", asked.Question, m.Question)
		}
	}
	return m
}

// checkCut checks a reply over UDP against the same way's that has room.
func checkCut(t *testing.T, q, b, whole []byte) {
	t.Helper()
	var c conversation
	c.read(q)
	limit := c.v.limit(UDP)
	w := parse(t, whole)
	m := checkReply(t, q, b, limit)
	if m.Truncated && len(whole) <= limit {
		t.Fatalf("truncated %d octets with room for %d", len(whole), limit)
	}
	if !m.Truncated {
		// Only over TCP a connection is kept.
		if got := brief(m); len(whole) <= limit && got != strings.Replace(brief(w), " keepalive 100", "", 1) || section(m.Answer) != section(w.Answer) || section(m.Ns) != section(w.Ns) {
			t.Fatalf("over UDP %s\nover TCP %s", got, brief(w))
		}
		return
	}
	if len(m.Answer) > 0 || len(m.Ns) > 0 && section(m.Ns) != section(w.Ns) {
		t.Fatalf("half a section over UDP: %s", brief(m))
	}
	if opt := m.IsEdns0(); len(m.Extra) > 1 || len(m.Extra) == 1 && opt == nil {
		t.Fatalf("glue in a reply that is cut: %s", brief(m))
	}
}

// checkQuery checks how the fast way read a query against miekg/dns, which refuses some options that are not ours to
// judge.
func checkQuery(t *testing.T, q []byte) {
	t.Helper()
	var v query
	v.read(q)
	m := &dns.Msg{}
	if err := m.Unpack(q); err != nil {
		if !v.opt {
			t.Fatalf("the fast way takes %x: %v", q, err)
		}
		return
	}
	var low [maxName]byte
	n := wireName(low[:], m.Question[0].Name)
	if !bytes.EqualFold(low[:n], v.name()) || m.Question[0].Qtype != v.qtype || m.Question[0].Qclass != dns.ClassINET {
		t.Fatalf("read %q type %d of %v", v.name(), v.qtype, m.Question)
	}
	opt := m.IsEdns0()
	if (opt != nil) != v.opt {
		t.Fatalf("OPT read: %v, of %v", v.opt, m)
	}
	if opt == nil {
		return
	}
	if int(opt.UDPSize()) != v.size || opt.Do() != v.do || opt.Version() != v.version {
		t.Fatalf("read size %d, DO %v, version %d of %v", v.size, v.do, v.version, opt)
	}
	var ecs *dns.EDNS0_SUBNET
	for _, option := range opt.Option {
		if e, ok := option.(*dns.EDNS0_SUBNET); ok {
			ecs = e
		}
	}
	if (ecs != nil) != v.ecs.sent {
		t.Fatalf("client subnet read: %v, of %v", v.ecs.sent, opt)
	}
	if ecs == nil {
		return
	}
	a := v.ecs.addr
	if !a.IsValid() {
		a = netip.IPv4Unspecified()
	}
	if ecs.Family != v.ecs.family || ecs.SourceNetmask != v.ecs.source || !ecs.Address.Equal(a.AsSlice()) {
		t.Fatalf("read %v/%d of %v", v.ecs.addr, v.ecs.source, ecs)
	}
}
