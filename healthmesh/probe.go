package healthmesh

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// A probe runs one check of one address: of an endpoint, or of a server behind one. Immutable.
type probe struct {
	target Target
	check  Check
	addr   string         // endpoint and port
	host   string         // Host header, TLS server name, or the name to ask for
	tlsc   *tls.Config    // of checks over TLS, else nil
	body   *regexp.Regexp // nil: none
	web    *http.Client   // of http, https, http2 and grpc, else nil
}

// An outcome is what one run of a check found.
type outcome struct {
	state State // Unknown: the check could not be made, which says nothing of the endpoint
	why   reason
	text  string    // more of it for the log: the first line of a program, or why the check could not be made
	ends  time.Time // of the certificate that was seen; zero: none was
}

// good and bad are the outcomes of a check that was made.
func good(code reasonCode, detail uint16) outcome {
	return outcome{state: Up, why: reason{code, detail}}
}
func bad(code reasonCode, detail uint16) outcome {
	return outcome{state: Down, why: reason{code, detail}}
}

// newProbe makes a probe of t.Endpoint by a check with its defaults filled in; for another port, the caller sets c.Port.
func newProbe(t Target, c Check) *probe {
	p := &probe{target: t, check: c, addr: net.JoinHostPort(t.Endpoint, strconv.Itoa(c.Port)), host: t.host(c)}
	if c.overTLS() {
		p.tlsc = &tls.Config{ServerName: p.host, InsecureSkipVerify: c.Verify == "off"} // the operator's word
	}
	if c.BodyRegexp != "" {
		p.body = regexp.MustCompile(c.BodyRegexp) // Validate has compiled it
	}
	p.web = p.client()
	return p
}

// host is the name by which the endpoint is asked.
func (t Target) host(c Check) string {
	if c.Host != "" {
		return c.Host
	}
	name := strings.TrimSuffix(t.Service, ".")
	if rest, ok := strings.CutPrefix(name, "*"); ok {
		name = "wildcard" + rest
	}
	return name
}

// key is equal for checks that differ in nothing, so that these are run once.
func (t Target) key(c Check) string {
	host, about := "", ""
	if kinds[c.Type].has("host") {
		host = t.host(c)
	}
	if c.Type == checkExec {
		about = t.Service + " " + t.Region // the program is told
	}
	return fmt.Sprintf("%q %q %q %+v", t.Endpoint, host, about, c)
}

// run checks once.
func (p *probe) run(ctx context.Context) outcome {
	ctx, cancel := context.WithTimeout(ctx, p.check.Timeout)
	defer cancel()
	o, err := kinds[p.check.Type].probe(p, ctx)
	if err != nil {
		return classify(err)
	}
	return o
}

func (p *probe) tcp(ctx context.Context) (outcome, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", p.addr)
	if err != nil {
		return outcome{}, err
	}
	conn.Close() // nothing was written that could be lost
	return good(reasonConnected, 0), nil
}

func (p *probe) tls(ctx context.Context) (outcome, error) {
	d := tls.Dialer{Config: p.tlsc}
	conn, err := d.DialContext(ctx, "tcp", p.addr)
	if err != nil {
		return outcome{}, err
	}
	conn.Close() // nothing was written that could be lost
	state := conn.(*tls.Conn).ConnectionState()
	return good(reasonHandshake, 0).with(&state), nil
}

// with adds when the certificate of a connection ends.
func (o outcome) with(s *tls.ConnectionState) outcome {
	if s != nil && len(s.PeerCertificates) > 0 {
		o.ends = s.PeerCertificates[0].NotAfter
	}
	return o
}

func (p *probe) dns(ctx context.Context) (outcome, error) {
	query := new(dns.Msg).SetQuestion(dns.Fqdn(p.host), dns.TypeSOA)
	query.RecursionDesired = false // the endpoint is asked for what it knows itself
	client := dns.Client{Net: "udp", Timeout: p.check.Timeout}
	conn, err := client.DialContext(ctx, p.addr)
	if err != nil {
		return outcome{}, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() {
		if ctx.Err() == context.Canceled { // which the client would not see before its timeout
			conn.Close()
		}
	})()
	answer, _, err := client.ExchangeWithConnContext(ctx, query, conn)
	var netErr net.Error
	switch {
	case err != nil && !errors.As(err, &netErr):
		return bad(reasonDNS, 0), nil
	case err != nil:
		return outcome{}, err
	case answer.Rcode != dns.RcodeSuccess:
		return bad(reasonRcode, uint16(answer.Rcode)), nil
	}
	return good(reasonRcode, dns.RcodeSuccess), nil
}
