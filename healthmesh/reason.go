package healthmesh

import (
	"fmt"
	"strconv"

	"github.com/miekg/dns"
)

// A reason says in four bytes why a check ended as it did: what happened, and the number that goes with it.
type reason struct {
	code   reasonCode
	detail uint16 // of codes that have one (details); else 0
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
	reasonHandshake                     // tls: the handshake was done
	reasonEcho                          // icmp: the echo came back
	reasonServing                       // grpc: an answer came; detail is its serving status
	reasonGRPC                          // grpc: the call failed; detail is its status
	reasonNotGRPC                       // grpc: not an answer to the call
	reasonNotHTTP2                      // http2: the other side does not speak it
	reasonExit                          // exec: detail is the exit status, 128 and more for a signal
	reasonUnable                        // the check could not be made, which says nothing of the endpoint
	reasonFlapping                      // it succeeds, and is held down since it fell too often
	reasonMinLive                       // the region's backends carry too little; detail is their live capacity in percent
	reasonCutOff                        // it failed, and none in another region was reached, which says nothing of it
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
	reasonHandshake:   "tls: handshake done",
	reasonEcho:        "echo",
	reasonServing:     "grpc: ",
	reasonGRPC:        "grpc: failed: ",
	reasonNotGRPC:     "not a grpc answer",
	reasonNotHTTP2:    "not an http/2 answer",
	reasonExit:        "exit ",
	reasonUnable:      "could not be checked",
	reasonFlapping:    "flapping: held down",
	reasonMinLive:     "capacity below min_live: ",
	reasonCutOff:      "no endpoint of other regions is reached",
}

// A detail is what the number of a reason can be.
type detail struct {
	max  uint16
	name func(uint16) string
}

// The details: what HTTP, DNS (RFC 6895, extended rcodes have 12 bits), gRPC and processes can say.
var details = map[reasonCode]detail{
	reasonStatus:  {999, number},
	reasonRcode:   {4095, rcode},
	reasonServing: {uint16(len(servings) - 1), func(n uint16) string { return servings[n] }},
	reasonGRPC:    {uint16(len(grpcStatuses) - 1), func(n uint16) string { return grpcStatuses[n] }},
	reasonExit:    {255, number},
	reasonMinLive: {100, func(n uint16) string { return number(n) + "%" }}, // min_live is at most 100
}

func number(n uint16) string { return strconv.Itoa(int(n)) }

func rcode(n uint16) string {
	if name, ok := dns.RcodeToString[int(n)]; ok {
		return name
	}
	return "rcode " + number(n)
}

func (r reason) valid() bool { return r.code < reasonCodes && r.detail <= details[r.code].max }

// String is the text of Endpoint.Reason: "connection refused", "status 503", "dns: SERVFAIL".
func (r reason) String() string {
	if !r.valid() {
		return fmt.Sprintf("reason %d", r.code)
	}
	if d, ok := details[r.code]; ok {
		return reasonTexts[r.code] + d.name(r.detail)
	}
	return reasonTexts[r.code]
}

// reasonsByText are all reasons by their texts, some 5,500.
var reasonsByText = func() map[string]reason {
	all := make(map[string]reason)
	for code := range reasonCodes {
		for n := range details[code].max + 1 {
			r := reason{code, n}
			all[r.String()] = r
		}
	}
	return all
}()

// parseReason is the inverse of String; a text of another kind becomes "failed".
func parseReason(text string) reason {
	if r, ok := reasonsByText[text]; ok {
		return r
	}
	return reason{code: reasonOther}
}
