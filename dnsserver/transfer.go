package dnsserver

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/gaissmai/bart"
	"github.com/miekg/dns"

	"github.com/nearcast/nearcast/zones"
)

// TransferConfig is who may have all of a zone, as the configuration file states it. Services go out as what a server that
// steers nothing can answer: the addresses of all regions, so that a plain secondary is a last line.
type TransferConfig struct {
	// Allow are the networks that may transfer the zone (AXFR, RFC 5936; IXFR, RFC 1995). Optional: any that have one of the
	// keys; without keys none.
	Allow []string `mapstructure:"allow"`
	// Keys are names of dns.keys; a transfer must be signed with one of them. Optional: none is needed.
	Keys []string `mapstructure:"keys"`
	// Notify are the secondaries that are told of a new version (RFC 1996), "address" or "address:port", at most 32. What they
	// are told is signed with the first of the keys. Optional.
	Notify []string `mapstructure:"notify"`
}

// ZoneConfig is a zone's part of the configuration that concerns other servers of the zone.
type ZoneConfig struct {
	Key       string // path in the file: "zones[0]"
	Name      string // absolute, lower case
	File      string // absolute path of the copy, if there are primaries
	Transfer  TransferConfig
	Primaries []PrimaryConfig
}

// The bounds of transfers.
const (
	maxNotify      = 32              // secondaries of a zone
	maxTransfers   = 16              // at once: each holds a connection, and the time of a core
	maxTransfersOf = 2               // of one client network; what it asks for besides waits
	transferWait   = 2 * time.Second // for a slot, then it is refused: no longer than a shutdown waits
	transferBuffer = 64 << 10        // octets that the kernel takes ahead: it wakes the writer when a third of them has gone, so who is slow is not cut for writeTime
	messageRecords = 16 << 10        // octets of records, uncompressed, in a message of a transfer: larger ones compress no better
)

// transferRule is a TransferConfig in use.
type transferRule struct {
	allow  *bart.Lite // nil: any network
	keys   []*key     // nil: none is needed
	notify []string   // "address:port"
}

func compileTransfer(c ZoneConfig, keys map[string]*key, report Reporter) *transferRule {
	at := c.Key + ".transfer"
	r := &transferRule{}
	if c.Transfer.Allow != nil {
		r.allow = networks(at+".allow", c.Transfer.Allow, report)
	}
	for i, name := range c.Transfer.Keys {
		k := keys[dns.CanonicalName(name)]
		if k == nil {
			report(fmt.Sprintf("%s.keys[%d]", at, i), name, "the name of one of dns.keys")
			continue
		}
		r.keys = append(r.keys, k)
	}
	if len(c.Transfer.Notify) > maxNotify {
		report(at+".notify", len(c.Transfer.Notify), fmt.Sprintf("at most %d secondaries", maxNotify))
	}
	for i, text := range c.Transfer.Notify {
		address, err := serverAddress(text)
		if err != nil {
			report(fmt.Sprintf("%s.notify[%d]", at, i), text, acceptedServer)
			continue
		}
		r.notify = append(r.notify, address)
	}
	return r
}

// isUsed tells if anybody may have the zone.
func (r *transferRule) isUsed() bool { return r != nil && (r.allow != nil || r.keys != nil) }

// allows tells if the asker may have the zone.
func (r *transferRule) allows(c *conversation) bool {
	switch {
	case !r.isUsed():
		return false
	case r.allow != nil && !r.allow.Contains(c.source):
		return false
	}
	return r.keys == nil || c.key != nil && slices.Contains(r.keys, c.key)
}

// transfer decides on a transfer: to whom it is allowed, and what goes out.
func (c *conversation) transfer() *zones.Zone {
	m := c.snapshot.Set.Find(c.v.name())
	zone := m.Zone
	switch {
	case m.Kind == zones.Unserved:
		c.reply.Rcode, c.ede = dns.RcodeServerFailure, notReady
		return zone
	case m.Kind != zones.Exact || len(zone.Wire) != c.v.nameLen:
		c.reply.Rcode, c.ede = dns.RcodeNotAuth, notAuth // RFC 5936, section 2.2.1
		return zone
	case !c.scene.Settings.transfers[zone.Name].allows(c), c.v.qtype == dns.TypeAXFR && c.transport == UDP:
		c.refuse(notForIt)
		return zone
	case c.v.qtype == dns.TypeIXFR && c.serial == nil:
		c.reply.Rcode = dns.RcodeFormatError
		return zone
	}
	c.reply.Authoritative = true
	soa := zone.Records[:1]
	current := c.v.qtype == dns.TypeIXFR && !newer(zone.Serial(), c.serial.Serial)
	switch {
	case current || c.transport == UDP: // RFC 1995, section 2; over UDP, it asks again by TCP
		c.reply.Answer = append(c.reply.Answer, soa...)
	case c.v.qtype == dns.TypeIXFR:
		if c.parts = c.scene.Journals[zone.Name].since(c.serial.Serial, zone); c.parts == nil {
			c.parts = [][]dns.RR{zone.Records, soa}
		}
	default:
		c.parts = [][]dns.RR{zone.Records, soa}
	}
	return zone
}

// stream sends a transfer, message by message, each with its length before it.
func (c *conversation) stream(send func(b []byte) error) error {
	var out []byte
	var chunk []dns.RR
	size := 0
	flush := func() error {
		c.reply.Answer = chunk
		out = c.write(append(out[:0], 0, 0), maxTCP)
		binary.BigEndian.PutUint16(out, uint16(len(out)-2))
		c.reply.Question, c.streams = nil, true
		chunk, size = chunk[:0], 0
		return send(out)
	}
	for _, part := range c.parts {
		for _, rr := range part {
			n := dns.Len(rr)
			if size > 0 && size+n > messageRecords {
				if err := flush(); err != nil {
					return err
				}
			}
			chunk = append(chunk, rr)
			size += n
		}
	}
	return flush()
}

// isTransfer tells a query for a transfer from others, without a look at more than that takes.
func isTransfer(q []byte) bool {
	var v query
	if !isQuery(q) || q[2]&maskOpcode != 0 || !v.readName(q[headerLen:]) || len(q) < headerLen+v.nameLen+2 {
		return false
	}
	t := binary.BigEndian.Uint16(q[headerLen+v.nameLen:])
	return t == dns.TypeAXFR || t == dns.TypeIXFR
}

// errDefect ends a connection on which a transfer met a defect.
var errDefect = errors.New("a defect of nearcast")

// transfer answers a query for a transfer on a connection.
func (l *tcpListener) transfer(c *tcpConn, q []byte, scene *Scene, meter *lockedMeter) (err error) {
	defer l.s.survive(q, func() { err = errDefect })
	talk := newConversation(q, c.source, l.t, scene, nil)
	zone := talk.answer(q)
	if talk.parts != nil {
		ctx, cancel := context.WithTimeout(context.Background(), transferWait)
		defer cancel()
		if give, err := l.s.transfers.take(ctx, clientNetwork(c.source).String()); err != nil {
			talk.parts, talk.reply.Rcode = nil, dns.RcodeServerFailure
		} else {
			defer give()
			_ = c.tcp.SetWriteBuffer(transferBuffer) // best effort: without it, slow secondaries are cut
		}
	}
	meter.Lock()
	meter.query(scene.Snapshot.Set, zone, talk.v.qtype, talk.reply.Rcode, l.t)
	meter.Unlock()
	send := func(b []byte) error { return l.send(c, b) }
	if talk.parts != nil {
		return talk.stream(send)
	}
	out := talk.write([]byte{0, 0}, maxTCP)
	binary.BigEndian.PutUint16(out, uint16(len(out)-2))
	return send(out)
}
