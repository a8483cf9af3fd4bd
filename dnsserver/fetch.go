package dnsserver

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/nearcast/nearcast/zones"
)

// The bounds of what is asked of primaries: of all, and of one.
const (
	maxQuestions     = 64               // for a SOA at once: each holds a socket
	maxQuestionsOf   = 16               // of one primary
	maxFetches       = 8                // transfers at once: each may hold maxFed octets, and the time of a core
	maxFetchesOf     = 4                // of one primary
	questionTime     = 2 * time.Second  // for a reply over UDP, then TCP is tried
	transferTime     = 10 * time.Minute // for a whole zone
	transferIdle     = 30 * time.Second // for the next message of it
	maxFed           = 256 << 20        // octets of a zone's records, as much as a zone file may have
	maxToBeInstalled = maxFed           // octets of zones that came and wait to be put in use
)

// serial asks a primary for its version.
func (f *feeder) serial(ctx context.Context, zone string, p primary) (uint32, error) {
	give, err := f.questions.take(ctx, p.address)
	if err != nil {
		return 0, err
	}
	defer give()
	r, err := f.askSOA(ctx, zone, p, "udp", questionTime)
	if err != nil && ctx.Err() == nil || err == nil && r.Truncated {
		r, err = f.askSOA(ctx, zone, p, "tcp", exchangeTimeout)
	}
	switch {
	case err != nil:
		return 0, err
	case r.Rcode != dns.RcodeSuccess || !r.Authoritative:
		return 0, fmt.Errorf("SOA refused: %s, authoritative: %v", dns.RcodeToString[r.Rcode], r.Authoritative)
	}
	for _, rr := range r.Answer {
		if soa, ok := rr.(*dns.SOA); ok && strings.EqualFold(soa.Hdr.Name, zone) {
			return soa.Serial, nil
		}
	}
	return 0, errors.New("no SOA in its answer")
}

func (f *feeder) askSOA(ctx context.Context, zone string, p primary, transport string, timeout time.Duration) (*dns.Msg, error) {
	m := new(dns.Msg).SetQuestion(zone, dns.TypeSOA)
	m.RecursionDesired = false
	return f.s.exchange(ctx, m, transport, p.address, p.key, timeout)
}

// take transfers a zone of which a primary has a newer version than have, the one in use, nil if there is none.
func (f *feeder) take(ctx context.Context, zone string, rule *fedRule, p primary, have *zones.Zone) error {
	soa, text, err := f.fetchNewer(ctx, zone, rule, p, have)
	if err != nil {
		return err
	}
	defer f.waiting.Release(weight(text))
	if err := f.s.o.Install(ctx, zone, text); err != nil {
		return fmt.Errorf("serial %d cannot be served: %w", soa.Serial, err)
	}
	f.good.Add(1)
	f.s.o.Log.Info("zone transferred", "zone", zone, "primary", p.address, "serial", soa.Serial, "octets", len(text))
	return nil
}

// weight is what a text counts for among those that wait.
func weight(text string) int64 { return min(int64(len(text)), maxToBeInstalled) }

// fetchNewer fetches a newer version, by steps from the copy or whole. The text of it counts as one that waits.
func (f *feeder) fetchNewer(ctx context.Context, zone string, rule *fedRule, p primary, have *zones.Zone) (soa *dns.SOA, text string, err error) {
	give, err := f.fetches.take(ctx, p.address)
	if err != nil {
		return nil, "", err
	}
	defer give()
	var rrs []dns.RR
	err = errors.New("no copy")
	if have != nil {
		var copied []dns.RR
		if copied, err = readCopy(rule.file, zone); err == nil {
			rrs, err = f.fetch(ctx, zone, p, copied)
		}
	}
	if err != nil { // not every primary keeps to RFC 1995
		rrs, err = f.fetch(ctx, zone, p, nil)
	}
	if err != nil {
		return nil, "", err
	}
	soa = rrs[0].(*dns.SOA)
	if have != nil && !newer(soa.Serial, have.Serial()) {
		return nil, "", fmt.Errorf("serial %d was transferred, and is not newer than ours, %d", soa.Serial, have.Serial())
	}
	if text, err = zones.Text(rrs); err != nil {
		return nil, "", err
	}
	return soa, text, f.waiting.Acquire(ctx, weight(text))
}

// readCopy reads the records of a copy; the SOA is the first.
func readCopy(file, zone string) (rrs []dns.RR, err error) {
	rrs, err = zones.Read(file, zone)
	if err == nil && (len(rrs) == 0 || rrs[0].Header().Rrtype != dns.TypeSOA) {
		return nil, errors.New("no SOA at its beginning")
	}
	return rrs, err
}

// fetch transfers a zone: what changed since have, or all of it if that is nil. The SOA is the first record, once.
func (f *feeder) fetch(ctx context.Context, zone string, p primary, have []dns.RR) ([]dns.RR, error) {
	ctx, cancel := context.WithTimeout(ctx, transferTime)
	defer cancel()
	c, err := f.s.dialer("tcp", p.address).DialContext(ctx, "tcp", p.address)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	in := &incoming{Conn: dns.Conn{Conn: c}, zone: zone}
	m := new(dns.Msg).SetAxfr(zone)
	if have != nil {
		soa := have[0].(*dns.SOA)
		m.SetIxfr(zone, soa.Serial, soa.Ns, soa.Mbox)
		in.have = soa
	}
	if err := in.ask(m, p.key); err != nil {
		return nil, err
	}
	for !in.done {
		if err := in.read(); err != nil {
			return nil, err
		}
	}
	return assemble(have, in.got)
}

// An incoming is a transfer as it comes.
type incoming struct {
	dns.Conn
	id       uint16
	zone     string
	have     *dns.SOA  // of an incremental one, else nil
	verifier *verifier // nil if nothing is signed
	got      []dns.RR
	size     int // octets of them
	steps    int // SOAs of steps; 0 of a whole zone
	done     bool
}

// ask asks for the transfer.
func (in *incoming) ask(m *dns.Msg, k *key) error {
	var b []byte
	var err error
	if in.id = m.Id; k != nil {
		var mac string
		m.SetTsig(k.name, k.algorithm, tsigFudge, time.Now().Unix())
		if b, mac, err = dns.TsigGenerateWithProvider(m, k, "", false); err == nil {
			in.verifier, err = newVerifier(k, mac)
		}
	} else {
		b, err = m.Pack()
	}
	if err != nil {
		return err
	}
	in.SetWriteDeadline(time.Now().Add(exchangeTimeout))
	_, err = in.Write(b)
	return err
}

// read reads the next message.
func (in *incoming) read() error {
	in.SetReadDeadline(time.Now().Add(transferIdle))
	b, err := in.ReadMsgHeader(nil)
	if err != nil {
		return err
	}
	var m dns.Msg
	if err := m.Unpack(b); err != nil {
		return err
	}
	switch {
	case m.Id != in.id || !m.Response:
		return dns.ErrId
	case m.Rcode != dns.RcodeSuccess:
		return fmt.Errorf("transfer refused: %s", dns.RcodeToString[m.Rcode])
	case len(m.Answer) == 0:
		return errors.New("a message of a transfer without records")
	}
	if in.verifier != nil {
		if err := in.verifier.verify(b, &m); err != nil {
			return err
		}
	}
	for _, rr := range m.Answer {
		if err := in.add(rr); err != nil {
			return err
		}
	}
	if in.done && in.verifier != nil && in.verifier.unsigned > 0 {
		return errUnsigned // the last one is, always
	}
	return nil
}

// add takes the next record. The last one is the SOA that is also the first: of a whole zone the second SOA (RFC 5936, section 2.2),
// of steps the one where a further step would begin (RFC 1995, section 4).
func (in *incoming) add(rr dns.RR) error {
	zones.FromWire(rr)
	if in.done {
		return errors.New("records after the end of a transfer")
	}
	if in.size += dns.Len(rr); in.size > maxFed {
		return fmt.Errorf("more than %d octets", maxFed)
	}
	if !dns.IsSubDomain(in.zone, strings.ToLower(rr.Header().Name)) {
		return nil
	}
	in.got = append(in.got, rr)
	soa, ok := rr.(*dns.SOA)
	switch {
	case !ok:
	case len(in.got) == 1:
		in.done = in.have != nil && !newer(soa.Serial, in.have.Serial) // there is nothing newer (RFC 1995, section 2)
	case in.have != nil && (len(in.got) == 2 || in.steps > 0):
		in.done = in.steps%2 == 0 && sameSOA(soa, in.got[0])
		in.steps++
	default:
		in.done = true
	}
	if len(in.got) == 1 && !ok {
		return errors.New("a transfer that does not begin with a SOA")
	}
	return nil
}

// assemble makes the new version of what a transfer brought: a whole zone (RFC 5936, section 2.2), or the steps from have
// (RFC 1995, section 4).
func assemble(have, got []dns.RR) ([]dns.RR, error) {
	if len(got) < 2 || !sameSOA(got[0], got[len(got)-1]) {
		return nil, fmt.Errorf("a transfer of %d records that does not end with the SOA that it begins with", len(got))
	}
	got = got[:len(got)-1]
	if have == nil || len(got) < 2 || got[1].Header().Rrtype != dns.TypeSOA {
		if slices.ContainsFunc(got[1:], func(rr dns.RR) bool { return rr.Header().Rrtype == dns.TypeSOA }) {
			return nil, errors.New("a SOA within the zone")
		}
		return got, nil
	}
	at := have[0]
	records := map[string]dns.RR{}
	for _, rr := range have[1:] {
		records[rr.String()] = rr
	}
	removing := false
	for _, rr := range got[1:] {
		switch key := rr.String(); {
		case rr.Header().Rrtype == dns.TypeSOA:
			if removing = !removing; removing && !sameSOA(at, rr) {
				return nil, fmt.Errorf("a step from serial %d, at %d", rr.(*dns.SOA).Serial, at.(*dns.SOA).Serial)
			}
			at = rr
		case removing && records[key] == nil:
			return nil, fmt.Errorf("%s goes, and was not there", key)
		case removing:
			delete(records, key)
		default:
			records[key] = rr
		}
	}
	if !sameSOA(at, got[0]) {
		return nil, fmt.Errorf("the steps end at serial %d", at.(*dns.SOA).Serial)
	}
	all := []dns.RR{at}
	for _, key := range slices.Sorted(maps.Keys(records)) {
		all = append(all, records[key])
	}
	return all, nil
}

func sameSOA(a, b dns.RR) bool {
	x, ok := a.(*dns.SOA)
	y, also := b.(*dns.SOA)
	return ok && also && x.Serial == y.Serial
}
