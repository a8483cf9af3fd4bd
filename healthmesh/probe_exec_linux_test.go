package healthmesh

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// program runs a shell script as a check of type exec does.
func program(t *testing.T, script string, timeout time.Duration) (outcome, time.Duration) {
	t.Helper()
	check := Check{Type: checkExec, Command: []string{"/bin/sh", "-c", script}, Timeout: timeout}
	check = check.Validate("check", func(key string, value any, accepted string) { t.Fatalf("%s: %v: %s", key, value, accepted) })
	began := time.Now()
	o := newProbe(Target{Service: "www.example.", Endpoint: "192.0.2.1", Region: "here"}, check).run(context.Background())
	return o, time.Since(began)
}

func TestPrograms(t *testing.T) {
	t.Setenv("NEARCAST_SECRET", "of the agent")
	for _, c := range []struct {
		name, script string
		timeout      time.Duration
		want         State
		why, text    string
	}{
		{"success", "echo all is well; echo more", patience, Up, "exit 0", "all is well"},
		{"what it failed with", "echo broken >&2; exit 3", patience, Down, "exit 3", "broken"},
		{"a signal", "kill -9 $$", patience, Down, "exit 137", ""},
		{"what it is told", "echo $NEARCAST_ENDPOINT $NEARCAST_SERVICE $NEARCAST_REGION $NEARCAST_SECRET; pwd", patience, Up, "exit 0", "192.0.2.1 www.example. here"},
		{"no input", "read x || echo none", patience, Up, "exit 0", "none"},
		{"huge output", "head -c 10000000 /dev/zero; echo done", patience, Up, "exit 0", strings.Repeat("\x00", maxLine)},
		{"output without end", "yes", 300 * time.Millisecond, Down, "timeout", "y"},
		{"too slow", "sleep 1000", 300 * time.Millisecond, Down, "timeout", ""},
		{"deaf to SIGTERM", "trap '' TERM HUP INT; while :; do sleep 1; done", 300 * time.Millisecond, Down, "timeout", ""},
		{"text that is none", `printf 'a\377b\n'`, patience, Up, "exit 0", "ab"},
	} {
		o, took := program(t, c.script, c.timeout)
		if o.state != c.want || o.why.String() != c.why || o.text != c.text {
			t.Errorf("%s: %v for %v, %q; want %v for %s, %q", c.name, o.state, o.why, o.text, c.want, c.why, c.text)
		}
		if took > c.timeout+patience/2 {
			t.Errorf("%s: took %v", c.name, took)
		}
	}
}

// Nothing that a program started in its group outlives the check, whether it ended in time or not.
func TestProgramsLeaveNothing(t *testing.T) {
	pidFile := filepath.Join(t.TempDir(), "pid")
	for name, script := range map[string]string{
		"a child behind":          "sleep 1000 & echo $! > " + pidFile,
		"a child deaf to signals": "sh -c 'trap \"\" TERM; echo $$ > " + pidFile + "; while :; do sleep 1; done' & sleep 1000",
		"children of children":    "sh -c 'sleep 1000 & echo $! > " + pidFile + "; wait' & wait",
	} {
		if err := os.WriteFile(pidFile, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		program(t, script, 500*time.Millisecond)
		text, err := os.ReadFile(pidFile)
		if err != nil {
			t.Fatal(err)
		}
		pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
		if err != nil {
			t.Fatalf("%s: the program has not said what it started: %v", name, err)
		}
		for end := time.Now().Add(patience); alive(t, pid); time.Sleep(5 * time.Millisecond) {
			if time.Now().After(end) {
				t.Errorf("%s: process %d lives on", name, pid)
				syscall.Kill(pid, syscall.SIGKILL)
				break
			}
		}
	}
}

// alive says whether a process runs; one that was killed and not yet waited for does not.
func alive(t *testing.T, pid int) bool {
	t.Helper()
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(rest, "Z") && !strings.HasPrefix(rest, "X")
}

// A process that left the group cannot keep the check from ending by holding its output.
func TestProgramsThatLeaveTheirGroup(t *testing.T) {
	pidFile := filepath.Join(t.TempDir(), "pid")
	o, took := program(t, "setsid sh -c 'echo $$ > "+pidFile+"; exec sleep 1000' & while ! [ -s "+pidFile+" ]; do sleep 0.01; done; echo gone", patience)
	if o.state != Up || o.text != "gone" || took > patience/2 {
		t.Errorf("%v for %v, %q, after %v", o.state, o.why, o.text, took)
	}
	text, err := os.ReadFile(pidFile)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Errorf("left its group, and is not there: %v", err)
	}
}

// A program that cannot be run says nothing of the endpoint.
func TestProgramsThatCannotBeRun(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	if err := os.WriteFile(data, []byte("#!/bin/sh\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/gone", data, "/"} {
		check := Check{Type: checkExec, Command: []string{path}}.withDefaults()
		o := newProbe(Target{Endpoint: "192.0.2.1"}, check).run(context.Background())
		if o.state != Unknown || o.why.String() != "could not be checked" || !strings.Contains(o.text, path) {
			t.Errorf("%s: %v for %v, %q", path, o.state, o.why, o.text)
		}
	}
}
