package dnsserver

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// A signer signs messages of a transfer as RFC 8945, section 5.3.1 has it, by hand.
type signer struct {
	mac     []byte // of the question, then of the last signature
	since   []byte // messages since then
	streams bool
}

// message is the next message, signed or not.
func (s *signer) message(t *testing.T, id uint16, signed bool, rrs ...dns.RR) []byte {
	t.Helper()
	m := &dns.Msg{Answer: rrs}
	m.Id, m.Response = id, true
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	if !signed {
		s.since = append(s.since, b...)
		return b
	}
	secret, err := base64.StdEncoding.DecodeString(goodSecret)
	if err != nil {
		t.Fatal(err)
	}
	now := uint64(time.Now().Unix())
	timers := binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint64(nil, now)[2:], tsigFudge)
	h := hmac.New(sha256.New, secret)
	h.Write(binary.BigEndian.AppendUint16(nil, uint16(len(s.mac))))
	h.Write(s.mac)
	h.Write(s.since)
	h.Write(b)
	if !s.streams { // the variables of TSIG, section 4.3.3
		h.Write([]byte("\x04good\x00\x00\xff\x00\x00\x00\x00\x0bhmac-sha256\x00"))
	}
	h.Write(timers)
	if !s.streams {
		h.Write(make([]byte, 4))
	}
	s.mac, s.since, s.streams = h.Sum(nil), nil, true
	m.Extra = []dns.RR{&dns.TSIG{
		Hdr: dns.RR_Header{Name: "good.", Rrtype: dns.TypeTSIG, Class: dns.ClassANY}, Algorithm: dns.HmacSHA256, TimeSigned: now, Fudge: tsigFudge,
		MACSize: uint16(len(s.mac)), MAC: hex.EncodeToString(s.mac), OrigId: id,
	}}
	if b, err = m.Pack(); err != nil {
		t.Fatal(err)
	}
	return b
}

// The messages of a transfer are signed, or stand between two that are.
func TestSignedStream(t *testing.T) {
	unsigned := func(n int) []bool { return make([]bool, n) }
	for name, c := range map[string]struct {
		signed []bool
		spoil  int // the message of which an octet is changed, counted from 1; 0: none
		drop   int // the message that is lost
		bad    int // the message at which it ends, 0: none
	}{
		"each":                      {[]bool{true, true, true}, 0, 0, 0},
		"some":                      {[]bool{true, false, false, true, false, true}, 0, 0, 0},
		"as few as may be":          {slices.Concat([]bool{true}, unsigned(99), []bool{true}, unsigned(99), []bool{true}), 0, 0, 0},
		"too few":                   {slices.Concat([]bool{true}, unsigned(100), []bool{true}), 0, 0, 101},
		"not the first":             {[]bool{false, true}, 0, 0, 1},
		"the first is spoilt":       {[]bool{true, true}, 1, 0, 1},
		"a signed one is spoilt":    {[]bool{true, false, true}, 3, 0, 3},
		"an unsigned one is spoilt": {[]bool{true, false, false, true}, 2, 0, 4},
		"an unsigned one is lost":   {[]bool{true, false, false, true}, 0, 2, 4},
		"a signed one is lost":      {[]bool{true, true, true}, 0, 2, 3},
	} {
		mac := []byte("the MAC of the question")
		v, err := newVerifier(goodKey(t), hex.EncodeToString(mac))
		if err != nil {
			t.Fatal(err)
		}
		s, bad := &signer{mac: mac}, 0
		for i, signed := range c.signed {
			b := s.message(t, 7, signed, soaOf(1))
			if c.drop == i+1 {
				continue
			}
			if c.spoil == i+1 {
				b[3] ^= flagCD
			}
			if err := v.verify(b, parse(t, b)); err != nil {
				bad = i + 1
				break
			}
		}
		if bad != c.bad {
			t.Errorf("%s: ends at message %d, want %d", name, bad, c.bad)
		}
	}
}

// A transfer is not over before its last message is signed.
func TestTheLastMessageIsSigned(t *testing.T) {
	for _, signed := range []bool{true, false} {
		mac := []byte("the MAC of the question")
		s := &signer{mac: mac}
		messages := [][]byte{s.message(t, 7, true, soaOf(5), record(t, "fed.test. TXT x")), s.message(t, 7, signed, soaOf(5))}
		v, err := newVerifier(goodKey(t), hex.EncodeToString(mac))
		if err != nil {
			t.Fatal(err)
		}
		ours, theirs := net.Pipe()
		go func() {
			defer theirs.Close()
			for _, b := range messages {
				theirs.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...))
			}
		}()
		in := &incoming{Conn: dns.Conn{Conn: ours}, id: 7, zone: "fed.test.", verifier: v}
		if err := in.read(); err != nil || in.done {
			t.Fatalf("the first message: %v", err)
		}
		if err := in.read(); (err == nil) != signed {
			t.Errorf("the last message, signed %v: %v", signed, err)
		}
		ours.Close()
	}
}

// The end of a transfer is found by its SOAs, and nothing comes after it.
func TestEndOfTransfer(t *testing.T) {
	a, have := record(t, "a.fed.test. A 192.0.2.1"), soaOf(2).(*dns.SOA)
	for name, c := range map[string]struct {
		have *dns.SOA
		rrs  []dns.RR
		ends int // records until then, -1: an error
	}{
		"a whole zone":                     {nil, []dns.RR{soaOf(5), a, a, soaOf(5)}, 4},
		"a whole zone instead of steps":    {have, []dns.RR{soaOf(5), a, a, soaOf(5)}, 4},
		"one step":                         {have, []dns.RR{soaOf(5), soaOf(2), a, soaOf(5), a, soaOf(5)}, 6},
		"two steps":                        {have, []dns.RR{soaOf(5), soaOf(2), soaOf(4), a, soaOf(4), a, soaOf(5), soaOf(5)}, 8},
		"nothing newer":                    {have, []dns.RR{soaOf(2)}, 1},
		"nothing newer, over the wrap":     {have, []dns.RR{soaOf(1<<32 - 1)}, 1},
		"newer over the wrap":              {soaOf(1<<32 - 1).(*dns.SOA), []dns.RR{soaOf(2), a, soaOf(2)}, 3},
		"what is elsewhere does not count": {nil, []dns.RR{soaOf(5), record(t, "a.test. A 192.0.2.1"), soaOf(5)}, 3},
		"no SOA":                           {nil, []dns.RR{a, soaOf(5)}, -1},
		"more after the end":               {nil, []dns.RR{soaOf(5), a, soaOf(5), a}, -1},
	} {
		in := &incoming{zone: "fed.test.", have: c.have}
		ends := 0
		for i, rr := range c.rrs {
			if err := in.add(rr); err != nil {
				ends = -1
				break
			}
			if in.done && ends == 0 {
				ends = i + 1
			}
		}
		if ends != c.ends {
			t.Errorf("%s: ends after %d, want %d", name, ends, c.ends)
		}
	}
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
