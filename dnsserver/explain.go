package dnsserver

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/miekg/dns"

	"github.com/nearcast/nearcast/steer"
	"github.com/nearcast/nearcast/zones"
)

// explainLabel before a name asks why it is answered as it is, in TXT records.
const explainLabel = "\x08_explain"

// maxText is the most octets of a string of a TXT record.
const maxText = 255

func isExplain(name []byte) bool {
	return len(name) > len(explainLabel) && string(name[:len(explainLabel)]) == explainLabel
}

// explains tells if the question is for an explanation, of a name that is ours to explain: in a zone, and not delegated.
func (c *conversation) explains() bool {
	if !isExplain(c.v.name()) {
		return false
	}
	kind := c.snapshot.Set.Find(c.v.name()[len(explainLabel):]).Kind
	return kind != zones.NotAuth && kind != zones.Referral
}

// explain answers how a query for the addresses of the name behind the label is answered to this client, a text for
// each step: IPv6 addresses if the name has these alone, else IPv4. Whoever may not know is refused.
func (c *conversation) explain() *zones.Zone {
	wire := c.v.name()[len(explainLabel):]
	m := c.snapshot.Set.Find(wire)
	if !c.scene.Settings.explainTo.Contains(c.source) {
		c.refuse(notForIt)
		return m.Zone
	}
	name, _, err := dns.UnpackDomainName(wire, 0)
	if err != nil {
		panic("dnsserver: a name in wire format that does not unpack: " + err.Error())
	}
	e, err := c.snapshot.Explain(c.scene.View(), name, addressType(m), c.v.asker(c.source))
	if err != nil {
		c.reply.Rcode = dns.RcodeServerFailure
		return m.Zone
	}
	c.reply.Authoritative = true
	c.scope = e.Scope
	if c.v.qtype == dns.TypeTXT || c.v.qtype == dns.TypeANY {
		c.txt(dns.ClassINET, texts(e)...)
	}
	return m.Zone
}

// addressType is the type of addresses that a name has.
func addressType(m zones.Match) uint16 {
	if m.Node == nil {
		return dns.TypeA
	}
	types := m.Node.Types()
	if slices.Contains(types, dns.TypeAAAA) && !slices.Contains(types, dns.TypeA) {
		return dns.TypeAAAA
	}
	return dns.TypeA
}

// texts is an explanation as strings of at most maxText octets.
func texts(e *steer.Explanation) []string {
	answers := cmp.Or(strings.Join(e.Answers, ", "), "no records")
	all := []string{fmt.Sprintf("%s %s for %s: %s", e.Name, e.Type, e.Client, answers)}
	place := "place unknown"
	if e.Place.Known {
		place = fmt.Sprintf("place %.2f,%.2f %s", e.Place.Latitude, e.Place.Longitude, e.Place.Country)
	}
	all = append(all, fmt.Sprintf("%s; generation %d; holds for %s", strings.TrimSpace(place), e.Generation, e.Network))
	for _, s := range e.Stages {
		all = append(all, s.Name+": "+s.Effect)
	}
	for _, cand := range e.Candidates {
		km := ""
		if cand.DistanceKM != nil {
			km = fmt.Sprintf(" %.0f km,", *cand.DistanceKM)
		}
		all = append(all, fmt.Sprintf("%s:%s %s, share %.0f %%: %s", cand.Region, km, cand.State, 100*cand.Share, cand.Reason))
	}
	for i, text := range all {
		all[i] = strings.ReplaceAll(text[:min(len(text), maxText)], `\`, `\\`)
	}
	return all
}
