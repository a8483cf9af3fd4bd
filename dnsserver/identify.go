package dnsserver

import (
	"github.com/miekg/dns"
)

// identify answers in class CHAOS who this is and of which version, where the operator wants that told (RFC 4892).
func (c *conversation) identify() {
	text := ""
	switch dns.CanonicalName(c.reply.Question[0].Name) {
	case "id.server.", "hostname.bind.":
		text = c.scene.Settings.chaosID
	case "version.server.", "version.bind.":
		text = c.scene.Settings.chaosVersion
	}
	if text == "" {
		c.refuse(notAuth)
		return
	}
	c.reply.Authoritative = true
	if c.v.qtype == dns.TypeTXT || c.v.qtype == dns.TypeANY {
		c.txt(dns.ClassCHAOS, text)
	}
}

// txt answers with a record of one string each, which no cache keeps.
func (c *conversation) txt(class uint16, texts ...string) {
	for _, text := range texts {
		c.reply.Answer = append(c.reply.Answer, &dns.TXT{
			Hdr: dns.RR_Header{Name: c.reply.Question[0].Name, Rrtype: dns.TypeTXT, Class: class}, Txt: []string{text},
		})
	}
}
