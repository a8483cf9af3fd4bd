package e2e

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"

	"github.com/miekg/dns"
)

// A generator makes up zones and queries for them. Its few labels make names meet.
type generator struct {
	*rand.Rand
	apexes []string
	owners [][]string // by apex
}

var (
	peerLabels = []string{"a", "b", "c", "*"}
	peerTypes  = []uint16{
		dns.TypeA, dns.TypeA, dns.TypeA, dns.TypeAAAA, dns.TypeTXT, dns.TypeMX, dns.TypeSRV, dns.TypeCAA, dns.TypePTR, dns.TypeNAPTR,
		dns.TypeTLSA, dns.TypeSSHFP, dns.TypeLOC, dns.TypeURI, dns.TypeHTTPS, dns.TypeSVCB, unknownType,
	}
)

// unknownType is one of those for private use (RFC 6895, section 3.1).
const unknownType = 65280

// one picks one of a few.
func one[T any](g *generator, of []T) T { return of[g.IntN(len(of))] }

// name is a name of 1 to depth labels below apex.
func (g *generator) name(apex string, depth int) string {
	name := apex
	for range 1 + g.IntN(depth) {
		name = one(g, peerLabels) + "." + name
	}
	return name
}

// target is a name that records lead to: mostly in the zone.
func (g *generator) target(apex string) string {
	switch g.IntN(8) {
	case 0:
		return "host.elsewhere.example."
	case 1:
		return g.name(fmt.Sprintf("z%d.test.", g.IntN(peerZones)), 2)
	}
	return strings.TrimPrefix(g.name(apex, 3), "*.")
}

// zones makes up one zone and, for every other, a zone inside that.
func (g *generator) zones(i int) map[string]string {
	apex := fmt.Sprintf("z%d.test.", i)
	made := map[string]string{}
	inner := ""
	if i%2 == 1 {
		inner = strings.TrimPrefix(g.name(apex, 2), "*.")
		if strings.Contains(inner, "*") || inner == apex {
			inner = "in." + apex
		}
		made[inner] = g.zone(inner, "")
	}
	made[apex] = g.zone(apex, inner)
	return made
}

// zone makes up a zone, with a delegation to inner if that is not "".
func (g *generator) zone(apex, inner string) string {
	var b strings.Builder
	line := func(owner, format string, args ...any) {
		ttl := 60 * (1 + len(owner)%5) // one for a name: peers read sets of several TTLs in several ways
		fmt.Fprintf(&b, "%s %d IN %s\n", owner, ttl, fmt.Sprintf(format, args...))
	}
	line(apex, "SOA ns1.%s host.%s 1 3600 600 604800 %d", apex, apex, 60+g.IntN(600))
	if inner == "" && dns.CountLabel(apex) == 2 && g.IntN(8) == 0 { // a zone that is all renamed
		line(apex, "NS ns2.elsewhere.example.")
		line(apex, "DNAME %s", g.target(fmt.Sprintf("z%d.test.", g.IntN(peerZones))))
		g.apexes, g.owners = append(g.apexes, apex), append(g.owners, []string{apex})
		return b.String()
	}
	line(apex, "NS ns1.%s", apex)
	line(apex, "NS ns2.elsewhere.example.")
	line("ns1."+apex, "A 192.0.2.53")
	line("ns1."+apex, "AAAA 2001:db8::53")
	line(apex, "MX 10 %s", g.target(apex))
	used := map[string]bool{apex: true, "ns1." + apex: true}
	renamed := map[string]bool{}
	var owners []string
	if inner != "" && g.IntN(8) > 0 {
		g.delegate(line, inner)
		used[inner] = true
		owners = append(owners, inner)
	}
	for range 8 + g.IntN(25) {
		owner := g.name(apex, 4)
		if used[owner] || inner != "" && dns.IsSubDomain(inner, owner) {
			continue
		}
		used[owner] = true
		owners = append(owners, owner)
		wild := strings.HasPrefix(owner, "*.")
		switch kind := g.IntN(10); {
		case kind == 0 && !wild:
			g.delegate(line, owner)
		case kind <= 2:
			line(owner, "CNAME %s", g.target(apex))
		case kind == 3 && inner == "":
			renamed[owner] = true
			if g.IntN(4) == 0 { // most names below become too long
				line(owner, "DNAME %s", strings.Repeat(strings.Repeat("x", 59)+".", 4)+"long.")
			} else {
				line(owner, "DNAME %s", g.target(apex))
			}
			if g.IntN(2) == 0 {
				g.data(line, owner, apex)
			}
		case kind == 4:
			g.many(line, owner, apex)
		default:
			for range 1 + g.IntN(3) {
				g.data(line, owner, apex)
			}
		}
	}
	g.apexes = append(g.apexes, apex)
	g.owners = append(g.owners, append(owners, apex, "ns1."+apex))
	return withoutRenamed(b.String(), renamed)
}

// withoutRenamed leaves out what is below a DNAME, which no zone may have (RFC 6672, section 2.4); Knot DNS and NSD
// do not load it.
func withoutRenamed(text string, renamed map[string]bool) string {
	var kept []string
	for line := range strings.Lines(text) {
		owner, _, _ := strings.Cut(line, " ")
		below := false
		for name := range renamed {
			below = below || owner != name && dns.IsSubDomain(name, owner)
		}
		if !below {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept, "")
}

// delegate makes up a delegation: servers at, below and beside the cut, with and without glue, and elsewhere.
func (g *generator) delegate(line func(string, string, ...any), owner string) {
	if g.IntN(4) == 0 { // many servers
		for i := range 4 + g.IntN(16) {
			host := fmt.Sprintf("ns%d.%s", i, owner)
			line(owner, "NS %s", host)
			line(host, "A 192.0.2.%d", i)
			line(host, "AAAA 2001:db8::%d", i)
		}
	}
	for range 1 + g.IntN(3) {
		switch g.IntN(4) {
		case 0:
			line(owner, "NS ns.elsewhere.example.")
		case 1:
			line(owner, "NS ns1.%s", owner[strings.Index(owner, "z"):])
		default:
			host := fmt.Sprintf("ns%d.%s", 2+g.IntN(2), owner)
			line(owner, "NS %s", host)
			line(host, "A 192.0.2.%d", g.IntN(250))
			line(host, "AAAA 2001:db8::%d", g.IntN(250))
		}
	}
	if g.IntN(2) == 0 {
		line(owner, "DS %d 13 2 %064d", g.IntN(60000), g.IntN(1000))
	}
}

// many makes up records of one type that may not fit a datagram together.
func (g *generator) many(line func(string, string, ...any), owner, apex string) {
	t, n := one(g, []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeTXT, dns.TypeMX}), 10+g.IntN(90)
	for i := range n {
		switch t {
		case dns.TypeA:
			line(owner, "A 192.0.2.%d", i)
		case dns.TypeAAAA:
			line(owner, "AAAA 2001:db8::%x", i)
		case dns.TypeTXT:
			line(owner, "TXT \"text of a record that is one of many: %d\"", i)
		case dns.TypeMX:
			line(owner, "MX 10 mx%d.mail.elsewhere.example.", i)
		}
	}
}

// data makes up one record.
func (g *generator) data(line func(string, string, ...any), owner, apex string) {
	switch t := one(g, peerTypes); t {
	case dns.TypeA:
		line(owner, "A 192.0.2.%d", g.IntN(250))
	case dns.TypeAAAA:
		line(owner, "AAAA 2001:db8::%d", g.IntN(250))
	case dns.TypeTXT:
		line(owner, "TXT \"text %d\"", g.IntN(250))
	case dns.TypeMX:
		line(owner, "MX %d %s", g.IntN(20), g.target(apex))
	case dns.TypeSRV:
		line(owner, "SRV 0 %d 443 %s", g.IntN(20), g.target(apex))
	case dns.TypeCAA:
		line(owner, "CAA 0 issue \"ca%d.example\"", g.IntN(9))
	case dns.TypePTR:
		line(owner, "PTR %s", g.target(apex))
	case dns.TypeNAPTR:
		line(owner, "NAPTR %d 10 \"s\" \"SIP+D2U\" \"\" %s", g.IntN(9), g.target(apex))
	case dns.TypeTLSA:
		line(owner, "TLSA 3 1 1 %064d", g.IntN(1000))
	case dns.TypeSSHFP:
		line(owner, "SSHFP 4 2 %064d", g.IntN(1000))
	case dns.TypeLOC:
		line(owner, "LOC %d 22 23.000 N 4 53 32.000 E -2.00m 0.00m 10000.00m 10.00m", g.IntN(90))
	case dns.TypeURI:
		line(owner, "URI %d 1 \"https://uri.example/\"", g.IntN(9))
	case dns.TypeHTTPS, dns.TypeSVCB:
		line(owner, "%s %d %s alpn=h2", dns.Type(t), 1+g.IntN(9), g.target(apex))
	case unknownType:
		line(owner, "TYPE65280 \\# 4 %08x", g.IntN(1000))
	}
}

// query makes up a query: of a name that there is, one below or beside it, or any.
func (g *generator) query() *dns.Msg {
	i := g.IntN(len(g.apexes))
	name := one(g, g.owners[i])
	switch g.IntN(4) {
	case 0:
		name = g.name(name, 2)
	case 1:
		name = g.name(g.apexes[i], 5)
	case 2:
		if n, end := dns.NextLabel(name, 0); !end && dns.IsSubDomain(g.apexes[i], name[n:]) {
			name = name[n:]
		}
	}
	types := []uint16{dns.TypeNS, dns.TypeDS, dns.TypeCNAME, dns.TypeDNAME, dns.TypeSOA, 65281}
	qtype := one(g, types)
	if g.IntN(3) > 0 {
		qtype = one(g, peerTypes)
	}
	q := new(dns.Msg).SetQuestion(g.mixed(name), qtype)
	q.RecursionDesired, q.AuthenticatedData, q.Zero = g.IntN(2) == 0, g.IntN(8) == 0, g.IntN(8) == 0
	if g.IntN(3) > 0 {
		q.SetEdns0(one(g, []uint16{0, 512, 1232, 4096}), g.IntN(2) == 0)
		if g.IntN(50) == 0 {
			q.IsEdns0().SetVersion(1)
		}
		if g.IntN(20) == 0 { // an option that nobody knows
			q.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_LOCAL{Code: 65001, Data: []byte("unknown")}}
		}
	}
	return q
}

// mixed turns some names into a mixture of cases, as resolvers do (draft-vixie-dnsext-dns0x20).
func (g *generator) mixed(name string) string {
	if g.IntN(4) > 0 {
		return name
	}
	b := []byte(name)
	for i := range b {
		if g.IntN(2) == 0 {
			b[i] = bytes.ToUpper(b[i : i+1])[0]
		}
	}
	return string(b)
}
