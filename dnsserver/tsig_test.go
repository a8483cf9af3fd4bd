package dnsserver

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"net"
	"slices"
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
