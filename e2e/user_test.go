package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

const nobody = 65534 // in Debian and most others

// What the user of a director puts in the way of its next start is never followed by root.
func TestRootFollowsNoUser(t *testing.T) {
	need(t, "root")
	dir, err := os.MkdirTemp("", "nearcast-user-") // the test's own folder is not for other users
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := func(name string) string { return filepath.Join(dir, name) }
	ports := freePorts(t, 3)
	config := fmt.Sprintf(`listen: {dns: [127.0.0.1:%d], admin: 127.0.0.1:%d}
user: nobody
mesh: {listen: 127.0.0.1:%d}
regions: [{name: us, location: [38.95, -77.45], capacity: 100}]
zones: [{name: user.test, file: zone, services: [{name: www, regions: [{region: us, addresses: [192.0.2.101]}]}]}]
`, ports[0], ports[1], ports[2])
	err = errors.Join(os.Chmod(dir, 0o755), os.WriteFile(path("nearcast.yaml"), []byte(config), 0o644),
		os.WriteFile(path("zone"), []byte(fedZone(1, "static")), 0o644), os.Mkdir(path("roots"), 0o755))
	if err != nil {
		t.Fatal(err)
	}
	bin, err := nearcast()
	if err != nil {
		t.Fatal(err)
	}
	startServer(t, "nearcast", ports[0], []string{"user.test."}, bin, "serve", "-c", path("nearcast.yaml"))() // and stopped
	state := path(fmt.Sprintf("state/director-%d", ports[2]))
	if info, err := os.Stat(filepath.Join(state, "mesh.json")); err != nil || info.Sys().(*syscall.Stat_t).Uid != nobody {
		t.Fatalf("the user's state: %+v, %v", info, err)
	}

	// As a user would, to whom the folder above belongs, too.
	if err := errors.Join(os.Chown(path("state"), nobody, nobody), os.RemoveAll(state), os.Symlink(path("roots"), state)); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(bin, "serve", "-c", path("nearcast.yaml")).CombinedOutput()
	if want := "chown -Rh nobody: " + state; err == nil || !strings.Contains(string(out), want) {
		t.Errorf("started with another's folder for its state: %v\n%s\nwant %q", err, out, want)
	}
	info, err := os.Stat(path("roots"))
	if err != nil || info.Sys().(*syscall.Stat_t).Uid != 0 {
		t.Errorf("root's folder was given away: %+v, %v", info, err)
	}
	if entries, err := os.ReadDir(path("roots")); err != nil || len(entries) > 0 {
		t.Errorf("root wrote where the user's link leads: %v, %v", entries, err)
	}
}
