package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	ll "github.com/landlock-lsm/go-landlock/landlock/syscall"
)

// An agent with checks that need it keeps the right to run programs or to send echoes, and neither it nor its programs
// gain another one.
func TestConfineKeepsRights(t *testing.T) {
	if dir := os.Getenv("NEARCAST_CONFINED"); dir != "" {
		keep := rights{programs: os.Getenv("NEARCAST_PROGRAMS") != "", echoes: os.Getenv("NEARCAST_ECHOES") != ""}
		confinedWith(dir, os.Getenv("NEARCAST_CONFINED_USER"), keep)
		return
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	user := ""
	if os.Geteuid() == 0 {
		user = "nobody"
	}
	landlocked := false
	if v, err := ll.LandlockGetABIVersion(); err == nil && v > 0 {
		landlocked = true
	}
	for _, c := range []struct {
		env           string
		does, refused []string
		rights        string // of root as nobody
	}{
		{"NEARCAST_PROGRAMS=1", []string{"run a program", "fill /dev/null", "write state"}, []string{"write elsewhere", "a program writes elsewhere", "raw socket"}, "0000000000000000"},
		{"NEARCAST_ECHOES=1", []string{"raw socket", "write state"}, []string{"write elsewhere", "run a program"}, "0000000000002000"},
	} {
		dir, err := os.MkdirTemp("/tmp", "nearcast-confine-")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.RemoveAll(dir) })
		if err := os.Chmod(dir, 0o711); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(self, "-test.run=^TestConfineKeepsRights$")
		cmd.Env = append(os.Environ(), "NEARCAST_CONFINED="+dir, "NEARCAST_CONFINED_USER="+user, c.env)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		if os.Geteuid() != 0 || !landlocked {
			t.Skipf("without root or Landlock there is little to keep:\n%s", out)
		}
		for _, what := range c.does {
			if !strings.Contains(string(out), "\n"+what+": <nil>\n") {
				t.Errorf("%s: cannot %s:\n%s", c.env, what, out)
			}
		}
		for _, what := range c.refused {
			if !strings.Contains(string(out), "\n"+what+": ") || strings.Contains(string(out), "\n"+what+": <nil>\n") {
				t.Errorf("%s: not refused to %s:\n%s", c.env, what, out)
			}
		}
		if !strings.Contains(string(out), "CapEff:\t"+c.rights) || !strings.Contains(string(out), "CapBnd:\t0000000000000000") {
			t.Errorf("%s: other rights than %s:\n%s", c.env, c.rights, out)
		}
	}
}

// confinedWith is the process that keeps some rights, and tells what it can do.
func confinedWith(dir, user string, keep rights) {
	tell := func(what string, err error) { fmt.Printf("\n%s: %v\n", what, err) }
	state := filepath.Join(dir, "state")
	if err := errors.Join(confine(user, []string{state}, keep), dropCapabilities(keep)); err != nil {
		tell("confine", err)
		os.Exit(1)
	}
	tell("write state", os.WriteFile(filepath.Join(state, "new"), nil, 0o600))
	tell("write elsewhere", os.WriteFile("/tmp/nearcast-confine-elsewhere", nil, 0o600))
	tell("run a program", exec.Command("/bin/sh", "-c", "true").Run())
	tell("fill /dev/null", exec.Command("/bin/sh", "-c", "echo x > /dev/null").Run())
	tell("a program writes elsewhere", exec.Command("/bin/sh", "-c", "echo x > /tmp/nearcast-confine-elsewhere").Run())
	c, err := net.ListenPacket("ip4:icmp", "127.0.0.1")
	tell("raw socket", err)
	if err == nil {
		c.Close()
	}
	status, err := os.ReadFile("/proc/self/status")
	tell("status", err)
	fmt.Println(string(status))
}
