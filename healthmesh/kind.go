package healthmesh

import (
	"cmp"
	"context"
	"fmt"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"
)

// The kinds of Check.
const (
	checkHTTP  = "http"
	checkHTTPS = "https"
	checkHTTP2 = "http2"
	checkTCP   = "tcp"
	checkTLS   = "tls"
	checkDNS   = "dns"
	checkGRPC  = "grpc"
	checkICMP  = "icmp"
	checkExec  = "exec"
)

// CheckTypes are the types of Check, for people.
const CheckTypes = "http, https, http2, tcp, tls, dns, grpc, icmp or exec"

// A kind is what is particular to a type of check.
type kind struct {
	port  int    // default; 0: it must be stated
	keys  string // of a Check that it has, beside those that all have
	probe func(p *probe, ctx context.Context) (outcome, error)
}

const webKeys = "port method path host headers status body body_regexp "

var kinds = map[string]kind{
	checkHTTP:  {80, webKeys, (*probe).http},
	checkHTTPS: {443, webKeys + "verify", (*probe).http},
	checkHTTP2: {443, webKeys + "tls verify", (*probe).http},
	checkTCP:   {0, "port", (*probe).tcp},
	checkTLS:   {0, "port host verify", (*probe).tls},
	checkDNS:   {53, "port host", (*probe).dns},
	checkGRPC:  {0, "port host service tls verify", (*probe).grpc},
	checkICMP:  {0, "", (*probe).icmp},
	checkExec:  {0, "command", (*probe).exec},
}

func (k kind) has(key string) bool { return slices.Contains(strings.Fields(k.keys), key) }

// onlyFor are the kinds that have a key, for people.
func onlyFor(key string) string {
	var names []string
	for name, k := range kinds {
		if k.has(key) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return "only for " + strings.Join(names, ", ")
}

// A field is a key of a Check that not all kinds have.
type field struct {
	key   string
	value any
	set   bool
}

func (c Check) fields() []field {
	return []field{
		{"port", c.Port, c.Port != 0},
		{"tls", c.TLS, c.TLS != ""},
		{"verify", c.Verify, c.Verify != ""},
		{"method", c.Method, c.Method != ""},
		{"path", c.Path, c.Path != ""},
		{"host", c.Host, c.Host != ""},
		{"headers", c.Headers, len(c.Headers) > 0},
		{"status", c.Status, len(c.Status) > 0},
		{"body", c.Body, c.Body != ""},
		{"body_regexp", c.BodyRegexp, c.BodyRegexp != ""},
		{"service", c.Service, c.Service != ""},
		{"command", c.Command, len(c.Command) > 0},
	}
}

// overTLS says whether the check speaks TLS.
func (c Check) overTLS() bool {
	switch c.Type {
	case checkHTTPS, checkTLS:
		return true
	case checkHTTP2, checkGRPC:
		return c.TLS != "off"
	}
	return false
}

// RunsProgram says whether the agent must be allowed to run programs.
func (c Check) RunsProgram() bool { return c.Type == checkExec }

// SendsEchoes says whether the agent must be allowed to send ICMP.
func (c Check) SendsEchoes() bool { return c.Type == checkICMP }

func (c Check) withDefaults() Check {
	k := kinds[c.Type]
	if k.has("path") {
		c.Path, c.Method = cmp.Or(c.Path, "/"), cmp.Or(c.Method, "GET")
	}
	if c.Type == checkHTTP2 && !c.overTLS() {
		k.port = 80
	}
	c.Port = cmp.Or(c.Port, k.port)
	c.Interval = cmp.Or(c.Interval, time.Second)
	c.Timeout = cmp.Or(c.Timeout, 500*time.Millisecond)
	c.Fall, c.Rise = cmp.Or(c.Fall, 2), cmp.Or(c.Rise, 2)
	c.HoldDown = cmp.Or(c.HoldDown, 5*time.Second)
	return c
}

// Validate reports what is wrong with the check at key and returns it with its defaults filled in. A check in which nothing is
// stated is none, and is returned as it is.
func (c Check) Validate(key string, report Reporter) Check {
	k, known := kinds[c.Type]
	switch {
	case c.isZero():
		return c
	case !known:
		report(key+".type", c.Type, CheckTypes)
	}
	for _, f := range c.fields() {
		if known && f.set && !k.has(f.key) {
			report(key+"."+f.key, f.value, onlyFor(f.key))
		}
	}
	c = c.withDefaults()
	if k.has("port") && (c.Port < 1 || c.Port > 65535) {
		report(key+".port", c.Port, "1 to 65535")
	}
	c.validateTLS(key, k, report)
	if !known || k.has("path") {
		c.validateWeb(key, report)
	}
	if k.has("host") && (len(c.Host) > 255 || strings.ContainsAny(c.Host, " /:@\t\r\n")) {
		report(key+".host", c.Host, "a host name of at most 255 bytes")
	}
	if len(c.Service) > maxText {
		report(key+".service", c.Service, fmt.Sprintf("at most %d bytes", maxText))
	}
	if k.has("command") {
		c.validateCommand(key, report)
	}
	within(key+".interval", c.Interval, minInterval, maxInterval, report)
	within(key+".timeout", c.Timeout, minTimeout, maxTimeout, report)
	within(key+".fall", c.Fall, 1, maxCount, report)
	within(key+".rise", c.Rise, 1, maxCount, report)
	within(key+".hold_down", c.HoldDown, minHold, maxHold, report)
	return c
}

func (c Check) isZero() bool {
	return c.Type == "" && c.Interval == 0 && c.Timeout == 0 && c.Fall == 0 && c.Rise == 0 && c.HoldDown == 0 &&
		!slices.ContainsFunc(c.fields(), func(f field) bool { return f.set })
}

func (c Check) validateTLS(key string, k kind, report Reporter) {
	for _, f := range []struct{ key, value string }{{"tls", c.TLS}, {"verify", c.Verify}} {
		if k.has(f.key) && f.value != "" && f.value != "on" && f.value != "off" {
			report(key+"."+f.key, f.value, "on or off")
		}
	}
	if c.TLS == "off" && k.has("tls") && c.Verify != "" {
		report(key+".verify", c.Verify, "only with TLS")
	}
}

// validateWeb reports what is wrong with the fields of http, https and http2.
func (c Check) validateWeb(key string, report Reporter) {
	if !slices.Contains([]string{"", "GET", "HEAD", "OPTIONS", "POST"}, c.Method) {
		report(key+".method", c.Method, "GET, HEAD, OPTIONS or POST")
	}
	if _, err := url.ParseRequestURI(c.Path); c.Path != "" && (err != nil || c.Path[0] != '/' || len(c.Path) > maxText) {
		report(key+".path", c.Path, fmt.Sprintf(`a path that begins with "/", at most %d bytes`, maxText))
	}
	if len(c.Headers) > maxHeaders {
		report(key+".headers", len(c.Headers), fmt.Sprintf("at most %d headers", maxHeaders))
	}
	for i, h := range c.Headers {
		h.validate(fmt.Sprintf("%s.headers[%d]", key, i), report)
	}
	for i, code := range c.Status {
		within(fmt.Sprintf("%s.status[%d]", key, i), code, 100, 599, report)
	}
	if len(c.Body) > maxText {
		report(key+".body", c.Body, fmt.Sprintf("at most %d bytes", maxText))
	}
	if _, err := regexp.Compile(c.BodyRegexp); err != nil || len(c.BodyRegexp) > maxText {
		report(key+".body_regexp", c.BodyRegexp, fmt.Sprintf("a regular expression of RE2, at most %d bytes", maxText))
	}
	if c.Method == "HEAD" && (c.Body != "" || c.BodyRegexp != "") {
		report(key+".method", c.Method, "a method whose answer has a body, since one is looked at")
	}
}

// reserved are headers that checks make by themselves or that no single request can have (RFC 9113, section 8.2.2).
var reserved = []string{"host", "connection", "content-length", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"}

func (h Header) validate(key string, report Reporter) {
	if !httpguts.ValidHeaderFieldName(h.Name) || len(h.Name) > maxText || slices.Contains(reserved, strings.ToLower(h.Name)) {
		report(key+".name", h.Name, "the name of a header, none of "+strings.Join(reserved, ", "))
	}
	if !httpguts.ValidHeaderFieldValue(h.Value) || len(h.Value) > maxText {
		report(key+".value", h.Value, fmt.Sprintf("the value of a header, at most %d bytes", maxText))
	}
}

func (c Check) validateCommand(key string, report Reporter) {
	if len(c.Command) == 0 || len(c.Command) > maxCommand || !filepath.IsAbs(c.Command[0]) {
		report(key+".command", strings.Join(c.Command, " "), fmt.Sprintf("the absolute path of a program and its arguments, at most %d in all", maxCommand))
	}
	for i, arg := range c.Command {
		if len(arg) > maxText || strings.ContainsRune(arg, 0) {
			report(fmt.Sprintf("%s.command[%d]", key, i), arg, fmt.Sprintf("at most %d bytes, none of them 0", maxText))
		}
	}
}

func (c Check) accepts(status int) bool {
	if len(c.Status) == 0 {
		return status >= 200 && status <= 399
	}
	return slices.Contains(c.Status, status)
}
