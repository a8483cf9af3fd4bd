package healthmesh

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/miekg/dns"
)

// A reason says in four bytes why a check ended as it did: what happened, and the number that goes with it.
type reason struct {
	code   reasonCode
	detail uint16 // the status of an HTTP answer, the rcode of a DNS answer; else 0
}

type reasonCode uint8

// The codes are on the wire: new ones are added at the end.
const (
	reasonNone        reasonCode = iota // not checked yet
	reasonConnected                     // tcp: the connection was accepted
	reasonStatus                        // http: an answer came; detail is its status
	reasonRcode                         // dns: an answer came; detail is its rcode
	reasonRefused                       // nothing listens
	reasonTimeout                       // no answer in time
	reasonReset                         // the other side broke the connection off
	reasonUnreachable                   // no way there
	reasonBody                          // http: the text is not in the body
	reasonHTTP                          // http: not an HTTP answer
	reasonDNS                           // dns: not an answer to the query
	reasonResolve                       // the endpoint's host name has no address
	reasonTLS                           // the handshake failed
	reasonTLSExpired                    // the certificate is out of its time
	reasonTLSName                       // the certificate is for another name
	reasonTLSIssuer                     // the certificate's issuer is not trusted
	reasonOther                         // any other failure
	reasonCodes                         // how many there are
)

var reasonTexts = [reasonCodes]string{
	reasonNone:        "",
	reasonConnected:   "connected",
	reasonStatus:      "status ",
	reasonRcode:       "dns: ",
	reasonRefused:     "connection refused",
	reasonTimeout:     "timeout",
	reasonReset:       "connection reset",
	reasonUnreachable: "unreachable",
	reasonBody:        "body does not match",
	reasonHTTP:        "not an http answer",
	reasonDNS:         "not a dns answer",
	reasonResolve:     "name does not resolve",
	reasonTLS:         "tls: handshake failed",
	reasonTLSExpired:  "tls: certificate is not valid now",
	reasonTLSName:     "tls: certificate is for another name",
	reasonTLSIssuer:   "tls: certificate's issuer is not trusted",
	reasonOther:       "failed",
}

// The largest details: what HTTP and DNS (RFC 6895, extended rcodes have 12 bits) can say.
const (
	maxStatus = 999
	maxRcode  = 4095
)

func (r reason) valid() bool {
	switch r.code {
	case reasonStatus:
		return r.detail <= maxStatus
	case reasonRcode:
		return r.detail <= maxRcode
	}
	return r.code < reasonCodes && r.detail == 0
}

// String is the text of Endpoint.Reason: "connection refused", "status 503", "dns: SERVFAIL".
func (r reason) String() string {
	switch {
	case r.code == reasonStatus:
		return reasonTexts[r.code] + strconv.Itoa(int(r.detail))
	case r.code == reasonRcode:
		if name, ok := dns.RcodeToString[int(r.detail)]; ok {
			return reasonTexts[r.code] + name
		}
		return reasonTexts[r.code] + "rcode " + strconv.Itoa(int(r.detail))
	case r.code < reasonCodes:
		return reasonTexts[r.code]
	}
	return fmt.Sprintf("reason %d", r.code)
}

// parseReason is the inverse of String; a text of another kind becomes "failed".
func parseReason(text string) reason {
	if rest, ok := strings.CutPrefix(text, reasonTexts[reasonStatus]); ok {
		if n, err := strconv.ParseUint(rest, 10, 16); err == nil && n <= maxStatus {
			return reason{reasonStatus, uint16(n)}
		}
	}
	if rest, ok := strings.CutPrefix(text, reasonTexts[reasonRcode]); ok {
		if n, ok := dns.StringToRcode[rest]; ok {
			return reason{reasonRcode, uint16(n)}
		}
		if n, err := strconv.ParseUint(strings.TrimPrefix(rest, "rcode "), 10, 16); err == nil && n <= maxRcode {
			return reason{reasonRcode, uint16(n)}
		}
	}
	for code, t := range reasonTexts {
		if t == text && reasonCode(code) != reasonStatus && reasonCode(code) != reasonRcode {
			return reason{code: reasonCode(code)}
		}
	}
	return reason{code: reasonOther}
}
