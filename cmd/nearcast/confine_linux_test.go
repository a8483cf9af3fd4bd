package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	osuser "os/user"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	ll "github.com/landlock-lsm/go-landlock/landlock/syscall"

	"github.com/nearcast/nearcast/zones"
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
	users := map[string]string{"": ""} // and a group of each
	if os.Geteuid() == 0 {
		users["nobody"] = ""
		if member, group := someMember(); member != "" {
			users[member] = group
		}
	}
	for user, group := range users {
		dir, err := os.MkdirTemp("/tmp", "nearcast-confine-") // the test's own folder is not for other users
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.RemoveAll(dir) })
		if err := os.Chmod(dir, 0o711); err != nil {
			t.Fatal(err)
		}
		for name, text := range map[string]string{"config": "to be read"} {
			if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		cmd := exec.Command(self, "-test.run=^TestConfine$")
		cmd.Env = append(os.Environ(), "NEARCAST_CONFINED="+dir, "NEARCAST_CONFINED_USER="+user)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		text := string(out)
		for _, want := range []string{"read config: <nil>", "write state: <nil>", "replace state: <nil>", "write copies: <nil>", "confirm a copy: <nil>", "drop: <nil>"} {
			if !strings.Contains(text, want) {
				t.Errorf("user %q: no %q in\n%s", user, want, text)
			}
		}
		rights := "0000000000000000"
		if user == "" && os.Geteuid() == 0 {
			rights = "0000000000000002" // to write to folders of others
		}
		if u, err := osuser.Lookup(user); err == nil && !strings.Contains(text, "Uid:\t"+strings.Repeat(u.Uid+"\t", 3)+u.Uid) || !strings.Contains(text, "CapEff:\t"+rights) || !strings.Contains(text, "CapPrm:\t"+rights) {
			t.Errorf("still with rights:\n%s", text)
		}
		if groups := regexp.MustCompile(`Groups:\t(.*) `).FindStringSubmatch(text); group != "" && (groups == nil || !slices.Contains(strings.Fields(groups[1]), group)) {
			t.Errorf("user %s is in group %s, not in %v", user, group, groups)
		}
		if os.Geteuid() == 0 && (!strings.Contains(text, "bind: <nil>") || strings.Contains(text, "bind, once bound: <nil>") && user != "") {
			t.Errorf("user %q: a port below 1024 can be bound at first, and not later:\n%s", user, text)
		}
		if os.Geteuid() == 0 && !strings.Contains(text, "CapBnd:\t0000000000000000") {
			t.Errorf("programs could have capabilities:\n%s", text)
		}
		if strings.Contains(text, "landlock: none") {
			t.Logf("no Landlock in this kernel")
			continue
		}
		for _, refused := range []string{"write config", "write elsewhere", "run a program", "run its own program", "make a link", "make a socket", "make a pipe"} {
			if !strings.Contains(text, refused+": ") || strings.Contains(text, refused+": <nil>") {
				t.Errorf("user %q: not refused to %s:\n%s", user, refused, text)
			}
		}
	}
}

// someMember is a user that is in a group beside its own, and the group, if this machine has one.
func someMember() (member, group string) {
	text, err := os.ReadFile("/etc/group")
	if err != nil {
		return "", ""
	}
	for line := range strings.Lines(string(text)) {
		f := strings.Split(strings.TrimSpace(line), ":")
		if len(f) != 4 || f[3] == "" {
			continue
		}
		member, _, _ := strings.Cut(f[3], ",")
		if u, err := osuser.Lookup(member); err == nil && u.Uid != "0" && u.Gid != f[2] {
			return member, f[2]
		}
	}
	return "", ""
}

// confined is the process that gives up its rights, and tells what it can still do.
func confined(dir, user string) {
	tell := func(what string, err error) { fmt.Printf("%s: %v\n", what, err) }
	path := func(name string) string { return filepath.Join(dir, name) }
	bind := func(what string) {
		l, err := net.Listen("tcp", "127.0.0.1:853")
		tell(what, err)
		if err == nil {
			l.Close()
		}
	}
	if user == "" && os.Geteuid() == 0 { // root, after a start as another user
		file := zones.Confirmation(path("made/copies/zone"))
		tell("another's file", errors.Join(os.MkdirAll(filepath.Dir(file), 0o700), os.WriteFile(file, nil, 0o600), os.Chown(file, 65534, 65534)))
	}
	if err := confine(user, []string{path("state/director"), path("made/copies")}, rights{}); err != nil {
		tell("confine", err)
		os.Exit(1)
	}
	bind("bind")
	tell("drop", dropCapabilities(rights{}))
	bind("bind, once bound")
	_, err := os.ReadFile(path("config"))
	tell("read config", err)
	tell("write state", os.WriteFile(path("state/director/new"), nil, 0o600))
	tell("replace state", os.Rename(path("state/director/new"), path("state/director/view")))
	tell("write copies", os.WriteFile(path("made/copies/zone"), nil, 0o600))
	tell("confirm a copy", zones.Confirm(path("made/copies/zone"), time.Now()))
	tell("write config", os.WriteFile(path("config"), nil, 0o600))
	tell("write elsewhere", os.WriteFile("/tmp/nearcast-confine-elsewhere", nil, 0o600))
	tell("run a program", exec.Command("/bin/true").Run())
	own := path("state/director/program")
	tell("write a program", errors.Join(os.WriteFile(own, []byte("#!/bin/true\n"), 0o700), os.Chmod(own, 0o700)))
	tell("run its own program", exec.Command(own).Run())
	tell("make a link", os.Symlink("/etc", path("state/director/link")))
	tell("make a pipe", syscall.Mkfifo(path("state/director/pipe"), 0o600))
	u, err := net.Listen("unix", path("state/director/socket"))
	tell("make a socket", err)
	if err == nil {
		u.Close()
	}
	status, err := os.ReadFile("/proc/self/status")
	tell("status", err)
	fmt.Println(string(status))
	if v, err := ll.LandlockGetABIVersion(); err != nil || v == 0 {
		fmt.Println("landlock: none")
	}
	os.Remove("/tmp/nearcast-confine-elsewhere")
}

// Root makes nothing through what another user put in its way, and gives away nothing that is there.
func TestConfineFollowsNobody(t *testing.T) {
	if dir := os.Getenv("NEARCAST_CONFINED"); dir != "" {
		fmt.Println(confine("nobody", []string{filepath.Join(dir, os.Getenv("NEARCAST_CONFINED_FOLDER"))}, rights{}))
		return
	}
	if os.Geteuid() != 0 {
		t.Skip("only root becomes another user")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	const nobody = 65534
	for name, c := range map[string]struct {
		folder string // that the director is to write to
		says   string
		victim string // that must be neither given away nor made
	}{
		"a link in a folder of the user's":          {"theirs/link/state", "permission denied", "roots/state"},
		"a link to a folder of root's":              {"theirs/link", "chown -Rh nobody: ", "roots"},
		"a folder beside which anybody can put one": {"anybodys/state", "<nil>", ""},
		"a missing folder below root's":             {"roots/made/state", "<nil>", ""},
		"a file of a start as root":                 {"before", "cannot read", "before/mesh.json"},
		"a link to a file of root's":                {"linked", "<nil>", "roots/secret"},
	} {
		dir, err := os.MkdirTemp("/tmp", "nearcast-confine-")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.RemoveAll(dir) })
		path := func(name string) string { return filepath.Join(dir, name) }
		err = os.Chmod(dir, 0o755)
		for _, f := range []string{"theirs", "roots", "before", "linked", "anybodys"} {
			err = errors.Join(err, os.Mkdir(path(f), 0o755))
		}
		err = errors.Join(err, os.Chmod(path("anybodys"), 0o777),
			os.WriteFile(path("roots/secret"), nil, 0o600), os.WriteFile(path("before/mesh.json"), nil, 0o600),
			os.Symlink(path("roots"), path("theirs/link")), os.Symlink(path("roots/secret"), path("linked/mesh.json")))
		for _, f := range []string{"theirs", "before", "linked"} {
			err = errors.Join(err, os.Chown(path(f), nobody, nobody))
		}
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(self, "-test.run=^TestConfineFollowsNobody$")
		cmd.Env = append(os.Environ(), "NEARCAST_CONFINED="+dir, "NEARCAST_CONFINED_FOLDER="+c.folder)
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), c.says) {
			t.Errorf("%s: %v %s, want %s", name, err, out, c.says)
		}
		if info, err := os.Stat(path(c.victim)); c.victim != "" && err == nil && info.Sys().(*syscall.Stat_t).Uid != 0 {
			t.Errorf("%s: %s is now the user's", name, c.victim)
		}
		if info, err := os.Stat(path(c.folder)); c.says == "<nil>" && (err != nil || info.Sys().(*syscall.Stat_t).Uid != nobody) {
			t.Errorf("%s: %s is not the user's: %v", name, c.folder, err)
		}
	}
}
