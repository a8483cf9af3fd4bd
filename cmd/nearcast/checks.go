package main

import (
	"fmt"
	"reflect"
	"slices"

	"github.com/nearcast/nearcast/healthmesh"
	"github.com/nearcast/nearcast/zones"
)

const maxChecks = 8 // of one service: each is a connection to each endpoint

// validChecks reports what is wrong with the checks of a service at key, and returns them with their defaults filled in.
func (s Service) validChecks(key string, report zones.Reporter) []healthmesh.Check {
	one := s.Check.Validate(key+".check", report)
	several := s.Checks != nil
	switch {
	case several && one.Type != "":
		report(key+".checks", len(s.Checks), "either check or checks")
	case several && (len(s.Checks) == 0 || len(s.Checks) > maxChecks):
		report(key+".checks", len(s.Checks), fmt.Sprintf("1 to %d checks", maxChecks))
	}
	if s.Need != 0 && !several {
		report(key+".need", int(s.Need), "all, any or a number, beside checks")
	}
	if several && int(s.Need) > len(s.Checks) {
		report(key+".need", int(s.Need), fmt.Sprintf("at most as many as there are checks, %d", len(s.Checks)))
	}
	if one.Type != "" {
		return []healthmesh.Check{one}
	}
	var all []healthmesh.Check
	for i, c := range s.Checks {
		at := keyOf(key+".checks", i)
		c = c.Validate(at, report)
		if c.Type == "" {
			report(at+".type", c.Type, healthmesh.CheckTypes)
		}
		if slices.ContainsFunc(all, func(o healthmesh.Check) bool { return reflect.DeepEqual(o, c) }) {
			report(at, "the same as one before", "each check once")
		}
		all = append(all, c)
	}
	return all
}

// rights are what an agent needs beside what every node does.
type rights struct {
	programs bool // to run them
	echoes   bool // to send and receive ICMP
}

// rights are what a node needs for its configuration. Directors check nothing.
func (s source) rights(c *Config) (r rights) {
	if s.agent == "" {
		return r
	}
	var all []healthmesh.Check
	for _, z := range c.Zones {
		for _, svc := range z.Services {
			all = append(append(all, svc.Checks...), svc.Check)
		}
	}
	for _, region := range c.Regions {
		all = append(all, region.Backends.Check)
	}
	return rights{
		programs: slices.ContainsFunc(all, healthmesh.Check.RunsProgram), echoes: slices.ContainsFunc(all, healthmesh.Check.SendsEchoes),
	}
}
