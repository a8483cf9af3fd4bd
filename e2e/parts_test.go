package e2e

import (
	"fmt"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// majority is how many peers must agree on a part of a reply for nearcast to have to give the same.
const majority = 3

// A part of a reply is compared by itself: peers that differ in another part vote on it all the same.
type part struct {
	name string
	text func(zones []string, r, ours reply) string // equal for equal parts
	fine string                                     // a text that is as good as the peers'; "" if none is
}

var parts = []part{
	{name: "rcode", text: func(_ []string, r, _ reply) string { return dns.RcodeToString[r.whole.Rcode] }},
	{name: "flags", text: flags},
	{name: "EDNS", text: func(_ []string, r, _ reply) string {
		o := r.whole.IsEdns0()
		if o == nil {
			return "none"
		}
		return fmt.Sprintf("version %d, DO %v", o.Version(), o.Do())
	}},
	// Who makes names shorter may send whole what the peers cut. A referral without some of the glue is not whole.
	{name: "truncation", text: func(_ []string, r, ours reply) string {
		return fmt.Sprint(r.udp.Truncated || len(glueOf(r.udp)) < len(glueOf(ours.whole)))
	}, fine: "false"},
	{name: "answer", text: func(_ []string, r, _ reply) string { return sorted(r.whole.Answer) }},
	{name: "authority", text: authority},
	{name: "additional"},
}

// flags are those of the header but CD and TC: CD is copied by some and cleared by others, and TC is a part of its own.
func flags(_ []string, r, _ reply) string {
	m := r.whole
	return fmt.Sprintf("AA %v, RD %v, RA %v, Z %v, AD %v", m.Authoritative, m.RecursionDesired, m.RecursionAvailable, m.Zero, m.AuthenticatedData)
}

// authority is the authority section without the NS of an apex, which some servers add to answers.
func authority(zones []string, r, _ reply) string {
	return sorted(slices.DeleteFunc(slices.Clone(r.whole.Ns), func(rr dns.RR) bool {
		return rr.Header().Rrtype == dns.TypeNS && slices.Contains(zones, strings.ToLower(rr.Header().Name))
	}))
}

// compare holds our part against the peers'. It returns how many of them have the same, or, where enough of them agree, that
// number; and the difference from these.
func (p part) compare(zones []string, ours reply, theirs []reply) (agreed int, difference string) {
	if p.text == nil {
		return majority, compareExtra(ours.whole, theirs)
	}
	votes := map[string]int{}
	for _, r := range theirs {
		votes[p.text(zones, r, ours)]++
	}
	our := p.text(zones, ours, ours)
	for text, n := range votes {
		if n >= majority && text != our && (p.fine == "" || our != p.fine) {
			return n, fmt.Sprintf("nearcast\n%s\n%d peers\n%s", our, n, text)
		}
	}
	return votes[our], ""
}

func sorted(rrs []dns.RR) string {
	var texts []string
	for _, rr := range rrs {
		texts = append(texts, strings.ToLower(strings.Join(strings.Fields(rr.String()), " ")))
	}
	slices.Sort(texts)
	return strings.Join(texts, "\n")
}

// compareExtra compares the additional sections: ours has what three peers have of servers at or below a cut, and nothing
// that no peer has but addresses of targets of SVCB and HTTPS, which the peers add in some places only.
func compareExtra(ours *dns.Msg, theirs []reply) (difference string) {
	count := map[string]int{}
	owner := map[string]string{}
	for _, r := range theirs {
		for _, rr := range r.whole.Extra {
			if rr.Header().Rrtype != dns.TypeOPT {
				text := sorted([]dns.RR{rr})
				count[text]++
				owner[text] = strings.ToLower(rr.Header().Name)
			}
		}
	}
	have := map[string]bool{}
	for _, rr := range ours.Extra {
		if rr.Header().Rrtype == dns.TypeOPT {
			continue
		}
		text := sorted([]dns.RR{rr})
		if have[text] {
			return "nearcast has twice " + text
		}
		if have[text] = true; count[text] == 0 && !isOfSVCB(ours, rr) {
			return "only nearcast has " + text
		}
	}
	for text, n := range count {
		if n >= majority && isGlue(ours, owner[text]) && !have[text] {
			return "nearcast has not the glue " + text
		}
	}
	return ""
}

// isOfSVCB tells if a record is an address of a target in the answer.
func isOfSVCB(m *dns.Msg, address dns.RR) bool {
	return slices.ContainsFunc(m.Answer, func(rr dns.RR) bool {
		target := ""
		switch rr := rr.(type) {
		case *dns.SVCB:
			target = rr.Target
		case *dns.HTTPS:
			target = rr.Target
		}
		return strings.EqualFold(target, address.Header().Name)
	})
}

// glueOf is the addresses of servers at or below the cut in a referral.
func glueOf(m *dns.Msg) (glue []dns.RR) {
	for _, rr := range m.Extra {
		if isGlue(m, strings.ToLower(rr.Header().Name)) {
			glue = append(glue, rr)
		}
	}
	return glue
}

func isGlue(m *dns.Msg, owner string) bool {
	return slices.ContainsFunc(m.Ns, func(rr dns.RR) bool {
		return rr.Header().Rrtype == dns.TypeNS && dns.IsSubDomain(strings.ToLower(rr.Header().Name), owner)
	})
}
