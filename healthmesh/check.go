package healthmesh

import (
	"cmp"
	"fmt"
	"time"
)

// Check is how an endpoint's health is measured, as the configuration file states it. Each check makes a connection of its
// own, so that it sees what a new client would see.
type Check struct {
	// Type: http, https, http2 (over TLS, or without it by prior knowledge), tcp, tls (the handshake alone), dns, grpc (the Check
	// of grpc.health.v1), icmp (an echo), or exec (a program). Optional: a service without a check is believed as long as its
	// region's agents are heard.
	// Redirects are not followed. A dns check asks for the SOA of Host over UDP; any answer with NOERROR is a success.
	// An icmp check needs the agent's group to be in the sysctl net.ipv4.ping_group_range, which holds for IPv6, too; else an
	// agent that is started with the capability CAP_NET_RAW and whose file has an icmp check at the start keeps it.
	Type string `mapstructure:"type"`
	// Port to connect to, 1 to 65535; not for icmp and exec. Optional: 80 for http and for http2 without TLS, 443 for https and
	// http2, 53 for dns.
	Port int `mapstructure:"port"`
	// TLS: on or off, for http2 and grpc. Optional, default on.
	TLS string `mapstructure:"tls"`
	// Verify says whether the certificate must be valid for Host, as a client of the service would ask: on or off; https, http2,
	// tls and grpc. Optional, default on. Either way a certificate that ends within 14 days is logged as a warning once a day.
	Verify string `mapstructure:"verify"`
	// Method of the request: GET, HEAD, OPTIONS or POST (with an empty body); http, https and http2. Optional, default GET.
	Method string `mapstructure:"method"`
	// Path to ask for; http, https and http2. Optional, default "/".
	Path string `mapstructure:"path"`
	// Host is the Host header and the TLS server name, or the name that a dns check asks for; not for tcp, icmp and exec.
	// Optional: the service's name, with "wildcard" for a "*".
	Host string `mapstructure:"host"`
	// Headers of the request, at most 16; http, https and http2. Optional.
	Headers []Header `mapstructure:"headers"`
	// Status are the accepted codes, 100 to 599; http, https and http2. Optional, default any from 200 to 399.
	Status []int `mapstructure:"status"`
	// Body is a text that the first 64 KiB of the body must contain; http, https and http2. Optional.
	Body string `mapstructure:"body"`
	// BodyRegexp is a regular expression (RE2) that the first 64 KiB of the body must match; http, https and http2. Optional.
	BodyRegexp string `mapstructure:"body_regexp"`
	// Service is the name that a grpc check asks about. Optional, default "": the server as a whole.
	Service string `mapstructure:"service"`
	// Command is the program of an exec check, by its absolute path, and its arguments, at most 64 in all; no shell reads it. Exit
	// status 0 is a success, and of the first 4 KiB of output the first line is logged with a change. Agents of the region alone
	// run it, with PATH, NEARCAST_ENDPOINT, NEARCAST_SERVICE and NEARCAST_REGION in the environment, as the agent's user and with
	// no rights that the agent gave up: it can write to the agent's folders and /dev/null only. At the timeout it is killed
	// with all of its process group. An agent may run programs only if its file has an exec check as it starts.
	Command []string `mapstructure:"command"`
	// Interval between checks, 100ms to 1h; each varies by a tenth, so that checks do not fall into step. Optional, default 1s.
	Interval time.Duration `mapstructure:"interval"`
	// Timeout of one check, 10ms to 1m. Optional, default 500ms.
	Timeout time.Duration `mapstructure:"timeout"`
	// Fall is how many failures in a row make an endpoint down, 1 to 10; of a service's endpoint, for agents of other regions, two at least. Optional, default 2.
	Fall int `mapstructure:"fall"`
	// Rise is how many successes in a row make it up again, 1 to 10. Optional, default 2.
	Rise int `mapstructure:"rise"`
	// HoldDown: an endpoint that fell also has no failure for so long before it is up again, 1ms to 10m. Each further fall
	// doubles it, to 5m at most; each 5m without a fall halve it. Optional, default 5s.
	HoldDown time.Duration `mapstructure:"hold_down"`
}

// Header is one header of a request.
type Header struct {
	// Name of the header. Host is a key of the check, and how the connection is used is not for headers to say.
	Name string `mapstructure:"name"`
	// Value of the header, at most 1024 bytes.
	Value string `mapstructure:"value"`
}

// The bounds of a Check.
const (
	minInterval, maxInterval = 100 * time.Millisecond, time.Hour
	minTimeout, maxTimeout   = 10 * time.Millisecond, time.Minute
	maxCount                 = 10 // of fall and rise
	minHold, maxHold         = time.Millisecond, 10 * time.Minute
	maxText                  = 1024 // bytes of a path, a header, a text of a body, or an argument
	maxHeaders               = 16   // of one request
	maxCommand               = 64   // a program and its arguments
)

func within[T cmp.Ordered](key string, value, least, most T, report Reporter) {
	if value < least || value > most {
		report(key, value, fmt.Sprintf("%v to %v", least, most))
	}
}
