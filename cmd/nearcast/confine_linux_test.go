package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	ll "github.com/landlock-lsm/go-landlock/landlock/syscall"
)

// A director that is confined has no rights but those that it needs: the test runs itself again as one, since there is no
// way back.
func TestConfine(t *testing.T) {
	if dir := os.Getenv("NEARCAST_CONFINED"); dir != "" {
		confined(dir, os.Getenv("NEARCAST_CONFINED_USER"))
		return
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	users := []string{""}
	if os.Geteuid() == 0 {
		users = append(users, "nobody")
	}
	for _, user := range users {
		dir, err := os.MkdirTemp("/tmp", "nearcast-confine-") // the test's own folder is not for other users
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.RemoveAll(dir) })
		if err := os.Chmod(dir, 0o711); err != nil {
			t.Fatal(err)
		}
		for name, text := range map[string]string{"config": "to be read", "state/director/view": "from before"} {
			if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Chmod(filepath.Join(dir, "state"), 0o700); err != nil { // as a director that was root left it
			t.Fatal(err)
		}
		cmd := exec.Command(self, "-test.run=^TestConfine$")
		cmd.Env = append(os.Environ(), "NEARCAST_CONFINED="+dir, "NEARCAST_CONFINED_USER="+user)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		text := string(out)
		for _, want := range []string{"read config: <nil>", "write state: <nil>", "replace state: <nil>", "write copies: <nil>", "listen: <nil>"} {
			if !strings.Contains(text, want) {
				t.Errorf("user %q: no %q in\n%s", user, want, text)
			}
		}
		rights := "0000000000000000"
		if user == "" && os.Geteuid() == 0 {
			rights = "0000000000000002" // to write to folders of others
		}
		if user != "" && !strings.Contains(text, "Uid:\t65534\t65534\t65534\t65534") || !strings.Contains(text, "CapEff:\t"+rights) || !strings.Contains(text, "CapPrm:\t"+rights) {
			t.Errorf("still with rights:\n%s", text)
		}
		if strings.Contains(text, "landlock: none") {
			t.Logf("no Landlock in this kernel")
			continue
		}
		for _, refused := range []string{"write config", "write elsewhere", "run a program"} {
			if !strings.Contains(text, refused+": ") || strings.Contains(text, refused+": <nil>") {
				t.Errorf("user %q: not refused to %s:\n%s", user, refused, text)
			}
		}
	}
}

// confined is the process that gives up its rights, and tells what it can still do.
func confined(dir, user string) {
	tell := func(what string, err error) { fmt.Printf("%s: %v\n", what, err) }
	path := func(name string) string { return filepath.Join(dir, name) }
	l, err := net.Listen("tcp", "127.0.0.1:0")
	tell("listen", err)
	defer l.Close()
	if err := confine(user, []string{path("state"), path("state/director"), path("made/copies")}); err != nil {
		tell("confine", err)
		os.Exit(1)
	}
	_, err = os.ReadFile(path("config"))
	tell("read config", err)
	tell("write state", os.WriteFile(path("state/director/new"), nil, 0o600))
	tell("replace state", os.Rename(path("state/director/new"), path("state/director/view")))
	tell("write copies", os.WriteFile(path("made/copies/zone"), nil, 0o600))
	tell("write config", os.WriteFile(path("config"), nil, 0o600))
	tell("write elsewhere", os.WriteFile("/tmp/nearcast-confine-elsewhere", nil, 0o600))
	tell("run a program", exec.Command("/bin/true").Run())
	status, err := os.ReadFile("/proc/self/status")
	tell("status", err)
	fmt.Println(string(status))
	if v, err := ll.LandlockGetABIVersion(); err != nil || v == 0 {
		fmt.Println("landlock: none")
	}
	os.Remove("/tmp/nearcast-confine-elsewhere")
}
