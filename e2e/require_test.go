package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"
)

// present tells for each thing that a test may need why it cannot be used here, nil if it can.
var present = map[string]func() error{
	"dig": func() error { _, err := exec.LookPath("dig"); return err },
	"root": func() error {
		if uid := os.Geteuid(); uid != 0 {
			return fmt.Errorf("the user is %d", uid)
		}
		return nil
	},
	"resolvers": func() error { // Debian's unbound, pdns-recursor, bind9 and knot-resolver, and iproute2
		for _, program := range []string{"unbound", "pdns_recursor", "named", "kresd", "nsd", "ip"} {
			if _, err := exec.LookPath(program); err != nil {
				return err
			}
		}
		return nil
	},
	"checkers": func() error { // Debian's zonemaster-cli and dnsviz
		for _, program := range []string{"zonemaster-cli", "dnsviz"} {
			if _, err := exec.LookPath(program); err != nil {
				return err
			}
		}
		return nil
	},
	"cuts": func() error { // Debian's iproute2 and nftables
		for _, program := range []string{"ip", "nft"} {
			if _, err := exec.LookPath(program); err != nil {
				return err
			}
		}
		return nil
	},
	"docker": func() error { _, err := findCompose(); return err },
	"peers": func() error { // Debian's nsd, knot, bind9 and pdns-server with pdns-backend-bind
		for _, p := range peers() {
			if _, err := exec.LookPath(p.name); err != nil {
				return err
			}
		}
		return nil
	},
}

// need skips a test that cannot run without what this machine lacks, one of the keys of present. It fails it if the
// environment's NEARCAST_MUST_RUN, a list with commas, says that the thing is here.
func need(t testing.TB, what string) {
	t.Helper()
	usable, ok := present[what]
	if !ok {
		t.Fatalf("need %q: nobody knows what that is", what)
	}
	err := usable()
	if err == nil {
		return
	}
	if slices.Contains(strings.Split(os.Getenv("NEARCAST_MUST_RUN"), ","), what) {
		t.Fatalf("needs %s, which NEARCAST_MUST_RUN says is here: %v", what, err)
	}
	t.Skipf("needs %s: %v", what, err)
}

// dockerProbe bounds a question to docker whether it is there.
const dockerProbe = 10 * time.Second

// findCompose finds docker, its daemon, and the command for compose files.
func findCompose() ([]string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), dockerProbe)
	defer cancel()
	if out, err := exec.CommandContext(ctx, "docker", "info").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("docker info: %w: %s", err, tail(out, 300))
	}
	if _, err := exec.LookPath("docker-compose"); err == nil {
		return []string{"docker-compose"}, nil
	}
	if err := exec.CommandContext(ctx, "docker", "compose", "version").Run(); err != nil {
		return nil, fmt.Errorf("neither docker-compose nor docker compose: %w", err)
	}
	return []string{"docker", "compose"}, nil
}
