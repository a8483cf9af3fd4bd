package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/nearcast/nearcast/healthmesh"
)

// withChecks is a good configuration but for the checks of its service.
func withChecks(checks string) string {
	return strings.Replace(testConfig, "check: {type: http, port: 8080}", checks, 1)
}

// The forms in which a service states its checks, and what an agent makes of them.
func TestChecks(t *testing.T) {
	for _, c := range []struct {
		form  string
		types []string
		need  int
	}{
		{"check: {type: http2, tls: off, verify: }", []string{"http2"}, 0},
		{"check: {type: https, verify: off, headers: [{name: X-Who, value: me}], status: [200], body_regexp: 'o+k', hold_down: 10s}", []string{"https"}, 0},
		{"check: {type: exec, command: /usr/lib/nearcast/probe}", []string{"exec"}, 0},
		{"checks: [{type: http}, {type: icmp}]", []string{"http", "icmp"}, 0},
		{"need: any\n        checks: [{type: http}, {type: icmp}]", []string{"http", "icmp"}, 1},
		{"need: all\n        checks: [{type: http}, {type: icmp}]", []string{"http", "icmp"}, 0},
		{"need: 2\n        checks: [{type: http}, {type: icmp}, {type: grpc, port: 50051}]", []string{"http", "icmp", "grpc"}, 2},
		{"ttl: 30", nil, 0},
	} {
		path := layout(t, map[string]string{"nearcast.yaml": withChecks(c.form) + "mesh: {listen: 127.0.0.1:0}\n", "geo.example.com.zone": testZone})
		from := source{path: path, agent: "eu-west"}
		l, err := from.load(nil)
		if err != nil {
			t.Errorf("%s: %v", c.form, err)
			continue
		}
		targets := l.targets("eu-west")
		if len(c.types) == 0 {
			if len(targets) != 1 || len(targets[0].Checks) > 0 || l.Set.Services[0].Checked {
				t.Errorf("%s: without a check %v is checked", c.form, targets)
			}
			continue
		}
		var types []string
		for _, check := range targets[0].Checks {
			types = append(types, check.Type)
		}
		if !slices.Equal(types, c.types) || targets[0].Need != c.need || targets[0].Region != "eu-west" || !l.Set.Services[0].Checked {
			t.Errorf("%s: %v, need %d in %s, want %v, need %d", c.form, types, targets[0].Need, targets[0].Region, c.types, c.need)
		}
		want := rights{programs: slices.Contains(c.types, "exec"), echoes: slices.Contains(c.types, "icmp")}
		if got := from.rights(&l.Config); got != want {
			t.Errorf("%s: an agent keeps %+v, want %+v", c.form, got, want)
		}
		if got := (source{path: path}).rights(&l.Config); got != (rights{}) {
			t.Errorf("%s: a director keeps %+v", c.form, got)
		}
	}
}

// Each mistake in checks is told with its key.
func TestChecksProblems(t *testing.T) {
	const here = "zones[0].services[0]."
	for form, want := range map[string]string{
		"check: {type: http}\n        checks: [{type: icmp}]": here + "checks: 1; accepted: either check or checks",
		"checks: []":                 here + "checks: 0; accepted: 1 to 8 checks",
		"checks: [{type: icmp}, {}]": here + "checks[1].type: \"\"; accepted: " + healthmesh.CheckTypes,
		"checks: [{type: icmp, fall: 3}, {type: http}, {type: icmp, fall: 3}]": here + "checks[2]: the same as one before; accepted: each check once",
		"check: {type: http}\n        need: 1":                                 here + "need: 1; accepted: all, any or a number, beside checks",
		"checks: [{type: http}]\n        need: 2":                              here + "need: 2; accepted: at most as many as there are checks, 1",
		"checks: [{type: http}]\n        need: most":                           here + "need: most; accepted: all, any, or how many checks",
		"checks: [{type: http}]\n        need: 0":                              here + "need: 0; accepted: all, any, or how many checks",
		"checks: [{type: http}]\n        need: [1]":                            here + "need: a list; accepted: all, any, or how many checks",
		"check: {type: https, verify: false}":                                  here + "check.verify: false; accepted: text",
		"check: {type: https, verify: no}":                                     here + "check.verify: no; accepted: on or off",
		"check: {type: icmp, port: 7}":                                         here + "check.port: 7; accepted: only for dns, grpc, http, http2, https, tcp, tls",
		"check: {type: http, headers: {X-Who: me}}":                            here + "check.headers: a mapping; accepted: a list",
		"checks: {type: http}":                                                 here + "checks: a mapping; accepted: a list",
		"check: {type: grpc, port: 1, command: [/bin/true]}":                   here + "check.command: [/bin/true]; accepted: only for exec",
	} {
		path := layout(t, map[string]string{"nearcast.yaml": withChecks(form) + "mesh: {listen: 127.0.0.1:0}\n", "geo.example.com.zone": testZone})
		_, err := source{path: path, agent: "eu-west"}.load(nil) // which needs no geography
		if err == nil || !strings.Contains(err.Error(), want) || strings.Count(err.Error(), "\n") > 0 {
			t.Errorf("%s:\n%v, want\n%s", form, err, want)
		}
	}
}
